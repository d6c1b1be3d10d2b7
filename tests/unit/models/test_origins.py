"""Origins of installed models: name and license of a folder, and which of its files make the model."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dnalm.errors import UserError
from dnalm.models import origins
from dnalm.models.hub import HubFile, HubModel
from dnalm.models.origins import FolderOrigin, HubOrigin, collect
from dnalm.models.registry import load_segmenter
from dnalm.models.sources import open_model
from jax_files import as_published
from safetensors.torch import load_file, save_file

ModelFolder = Callable[[str], Path]


class Recorded(FolderOrigin):
    """A folder that notes what is fetched of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, None)
        self.fetched: list[str] = []

    def fetch(self, name: str) -> Path:
        self.fetched.append(name)
        return super().fetch(name)


@pytest.fixture
def folder(model_folder: ModelFolder, tmp_path: Path) -> Path:
    """A folder with a model and a card."""
    shutil.copytree(model_folder("bert"), tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    return tmp_path / "model"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty folder for the collected files."""
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_says_name_licence_and_sizes(folder: Path) -> None:
    origin = FolderOrigin(folder, None)
    assert (origin.name, origin.licence) == ("model", "Apache-2.0")
    assert origin.provenance == {"source": "folder", "id": "model"}
    assert origin.sizes == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert FolderOrigin(folder, "MIT").licence == "MIT"


@pytest.mark.parametrize("card", ["no front matter", "---\nlicense: [\n---\n", None])
def test_a_card_that_says_nothing_is_no_obstacle(folder: Path, card: str | None) -> None:
    (folder / "README.md").unlink() if card is None else (folder / "README.md").write_text(card)
    assert FolderOrigin(folder, None).licence is None


def test_an_installers_note_outweighs_folder_and_card(folder: Path) -> None:
    note = {"name": "somebody/dna", "licence": "MIT", "provenance": {"source": "hub", "revision": "abc"}}
    (folder / "dnalm.json").write_text(json.dumps(note))
    origin = FolderOrigin(folder, None)
    assert {"name": origin.name, "licence": origin.licence, "provenance": origin.provenance} == note
    assert FolderOrigin(folder, "CC0").licence == "CC0"


def test_a_repository_of_the_hubs_cache_is_read_through_its_links(folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--somebody--dna"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    folder.rename(repository / "blobs")
    for path in (repository / "blobs").iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    origin = FolderOrigin(repository, None)
    assert (origin.name, origin.provenance["revision"]) == ("somebody/dna", "abc")
    assert origin.fetch("config.json") == repository / "blobs" / "config.json"


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").rename(tmp_path / "elsewhere")
    (folder / "config.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"'config\.json' of 'model' is a link out of its folder"):
        FolderOrigin(folder, None).fetch("config.json")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no folder '.*absent' on this server"):
        FolderOrigin(tmp_path / "absent", None)


def test_only_files_of_the_model_are_fetched_and_the_folder_is_unchanged(folder: Path, target: Path) -> None:
    (folder / "modeling.py").write_text("raise SystemExit")
    (folder / "flax_model.msgpack").write_bytes(b"x")
    before = names(folder)
    origin = Recorded(folder)
    collect(origin, target)
    parts = {"config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"}
    assert set(origin.fetched) == parts
    assert names(target) == parts | {"dnalm.json"}
    assert names(folder) == before
    assert json.loads((target / "dnalm.json").read_text()) == {
        "name": "model",
        "licence": "Apache-2.0",
        "provenance": {"source": "folder", "id": "model"},
    }
    first, second = open_model(folder).read_tensors(), open_model(target).read_tensors()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_weights_are_fetched_of_an_architecture_that_nothing_reads(folder: Path, target: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "hyena"}')
    origin = Recorded(folder)
    with pytest.raises(UserError, match="architecture 'hyena' of the model 'model' is unknown here"):
        collect(origin, target)
    assert "model.safetensors" not in origin.fetched
    assert not names(target)


def test_pickled_weights_become_safetensors(folder: Path, target: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    collect(FolderOrigin(folder, None), target)
    assert names(target) == {"config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors", "dnalm.json"}
    found = load_file(target / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(("stem", "suffix"), [("model", ".safetensors"), ("pytorch_model", ".bin")])
def test_shards_stay_shards(folder: Path, target: Path, stem: str, suffix: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map: dict[str, str] = {}
    for number in (1, 2):
        part = {name: tensors[name] for name in sorted(tensors)[number - 1 :: 2]}
        name = f"{stem}-{number:05d}-of-00002{suffix}"
        (save_file if suffix == ".safetensors" else torch.save)(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    collect(FolderOrigin(folder, None), target)
    shards = {f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    assert {name for name in names(target) if "model" in name} == shards | {"model.safetensors.index.json"}
    found = open_model(target).read_tensors()
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("shard", ["absent.safetensors", "README.md"])
def test_an_index_may_name_weights_of_its_model_alone(folder: Path, target: Path, shard: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(UserError, match=f"'model' lacks the weights '{shard}' that its index names"):
        collect(FolderOrigin(folder, None), target)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("config.json", r"'model' has no config\.json or args\.json"),
        ("model.safetensors", r"'model' has neither model\.safetensors nor pytorch_model\.bin"),
    ],
)
def test_a_model_without_one_of_its_parts_is_refused(folder: Path, target: Path, missing: str, sentence: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=sentence):
        collect(FolderOrigin(folder, None), target)


def test_a_text_of_absurd_size_is_not_fetched(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "LARGEST_TEXT_FILE", 10)
    origin = Recorded(folder)
    with pytest.raises(UserError, match=r"'config\.json' of 'model' is over 100 MB"):
        collect(origin, target)
    assert origin.fetched == []


def test_arrays_of_jax_get_the_config_that_follows_from_them(tmp_path: Path, target: Path) -> None:
    (tmp_path / "published" / "jax").mkdir(parents=True)
    as_published(tmp_path / "published" / "jax", "segment_enformer")
    (tmp_path / "published" / "config.json").write_text('{"model_type": "something"}')
    collect(FolderOrigin(tmp_path / "published", None), target)
    assert names(target) == {"config.json", "model.safetensors", "dnalm.json"}
    assert load_segmenter(open_model(target)).architecture == "segment_enformer"


def test_arrays_of_jax_beside_a_model_that_is_known_are_left_alone(folder: Path, target: Path) -> None:
    (folder / "params.joblib").write_bytes(b"never read")
    collect(FolderOrigin(folder, None), target)
    assert "params.joblib" not in names(target)


def test_a_model_of_the_hub_is_moved_from_its_downloads(folder: Path, target: Path) -> None:
    """All of it is there already, so that nothing is asked of the hub."""
    files = {path.name: HubFile(path.name, path.stat().st_size, None, None) for path in folder.iterdir()}
    model = HubModel("somebody/dna", "0" * 40, "MIT", files)
    asked: list[tuple[str, int]] = []

    def counter(name: str, size: int) -> Callable[[int], None]:
        asked.append((name, size))
        return lambda count: None

    origin = HubOrigin(model, "CC0", folder, None, counter)
    collect(origin, target)
    assert names(folder) == {"README.md"}
    note = json.loads((target / "dnalm.json").read_text())
    provenance = {"source": "Hugging Face hub", "id": "somebody/dna", "revision": "0" * 40}
    assert note == {"name": "somebody/dna", "licence": "CC0", "provenance": provenance}
    assert dict(asked)["model.safetensors"] == files["model.safetensors"].size


@pytest.mark.parametrize("name", ["dnalm.json", "README.md"])
@pytest.mark.parametrize("target", ["/dev/zero", "../secret", "absent/../../secret"])
def test_a_note_or_card_that_is_a_link_out_of_the_folder_is_refused(folder: Path, name: str, target: str) -> None:
    (folder.parent / "secret").write_text(json.dumps({"name": "a secret"}))
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    with pytest.raises(UserError, match=rf"'{name}' of .* is a link out of its folder") as error:
        FolderOrigin(folder, None)
    assert "a secret" not in str(error.value)


def test_a_note_that_is_a_link_to_itself_is_refused(folder: Path) -> None:
    (folder / "dnalm.json").symlink_to("dnalm.json")
    with pytest.raises(UserError, match=r"'dnalm\.json' of 'model' is a link to nothing"):
        FolderOrigin(folder, None)


def test_a_note_that_is_a_link_within_the_folder_is_read(folder: Path) -> None:
    (folder / "other.json").write_text(json.dumps({"name": "somebody/x"}))
    (folder / "dnalm.json").symlink_to("other.json")
    assert FolderOrigin(folder, None).name == "somebody/x"


@pytest.mark.parametrize(("name", "size"), [("dnalm.json", 1_000_001), ("README.md", 10_000_001)])
def test_a_note_or_card_of_absurd_size_is_refused(folder: Path, name: str, size: int) -> None:
    (folder / name).write_bytes(b" " * size)
    with pytest.raises(UserError, match=f"'{name}' of 'model' is not a regular file of at most"):
        FolderOrigin(folder, None)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_note_that_is_no_file_is_refused(folder: Path, kind: str) -> None:
    (os.mkfifo if kind == "pipe" else os.mkdir)(folder / "dnalm.json")
    with pytest.raises(UserError, match=r"'dnalm\.json' of 'model' is not a regular file"):
        FolderOrigin(folder, None)


@pytest.mark.parametrize(
    "revision", ["a\tb", "a\nb", "", 5, ["a"], {"a": 1}, "a/../../x", "..", ".a", "\ud800", "x" * 5_000, True, "a b"]
)
def test_a_revision_that_is_none_is_refused(folder: Path, revision: object) -> None:
    (folder / "dnalm.json").write_text(json.dumps({"provenance": {"revision": revision}}))
    with pytest.raises(UserError, match=r"has the revision '.*', which is none") as error:
        FolderOrigin(folder, None)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "0123456789abcdef"])
def test_a_revision_of_a_note_is_kept(folder: Path, revision: str | None) -> None:
    (folder / "dnalm.json").write_text(json.dumps({"provenance": {"revision": revision}}))
    assert FolderOrigin(folder, None).provenance == {"revision": revision}


def test_a_name_of_a_note_is_short_and_on_one_line(folder: Path) -> None:
    (folder / "dnalm.json").write_text(json.dumps({"name": "x\n\t\ud800" * 5_000}))
    name = FolderOrigin(folder, None).name
    assert name.isprintable()
    assert len(name) < 2_000


def test_an_adapter_is_refused_before_anything_is_fetched(folder: Path, target: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    origin = Recorded(folder)
    with pytest.raises(UserError, match="'model' holds an adapter such as LoRA's"):
        collect(origin, target)
    assert origin.fetched == []
