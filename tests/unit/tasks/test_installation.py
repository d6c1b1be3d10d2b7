"""What an admin gets who installs a model: its folder, its row, and what the row says."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.models.catalogue import CATALOGUE
from dnalm.models.model_file import write_model_file
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks.installation import pipeline_tag, row_value
from hub import Hub
from safetensors.torch import load_file, save_file

ModelFolder = Callable[[str], Path]
NAME = "somebody/dna-model"
COLUMNS = ["domain", "free_tag", "name", "path", "pipeline_tag", "value", "version"]


def row_of(folder: Path) -> dict[str, str]:
    (row,) = json.loads((folder / "row.json").read_text())["data_tables"]["huggingface"]
    return row


def pickled(folder: Path) -> dict[str, bytes]:
    """Return the files of a model with pickled weights in place of safetensors."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    torch.save(load_file(folder / "model.safetensors"), folder.parent / "weights.bin")
    del files["model.safetensors"]
    return files | {"pytorch_model.bin": (folder.parent / "weights.bin").read_bytes()}


def in_shards(folder: Path, tmp_path: Path, stem: str, suffix: str) -> dict[str, bytes]:
    """Return the files of a model with its weights in two files and an index."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.safetensors"}
    tensors = load_file(folder / "model.safetensors")
    weight_map: dict[str, str] = {}
    for number in (0, 1):
        part = {name: tensors[name] for name in sorted(tensors)[number::2]}
        name = f"{stem}-{number + 1:05d}-of-00002{suffix}"
        (save_file if suffix == ".safetensors" else torch.save)(part, tmp_path / name)
        files[name] = (tmp_path / name).read_bytes()
        weight_map |= dict.fromkeys(part, name)
    return files | {f"{stem}{suffix}.index.json": json.dumps({"weight_map": weight_map}).encode()}


def same_weights(one: Path, other: Path) -> bool:
    first, second = open_model(one).read_tensors(), open_model(other).read_tensors()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_of_the_hub_becomes_a_folder_and_a_row(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    published = hub.add(NAME, model_folder("bert"), card={"license": "apache-2.0"})
    code, said, problem = run_install("--source", "hub", "--model-id", NAME)
    assert code == 0, problem
    row = row_of(tmp_path)
    assert row == {
        "value": f"somebody--dna-model--{published.commit[:12]}",
        "name": "somebody/dna-model (Apache-2.0)",
        "pipeline_tag": "fill-mask",
        "domain": "sequence",
        "free_tag": "",
        "version": published.commit,
        "path": row["value"],
    }
    assert same_weights(tmp_path / "models" / row["path"], model_folder("bert"))
    assert [path.name for path in (tmp_path / "models").iterdir()] == [row["path"]]
    assert published.commit in said


def test_only_what_makes_the_model_is_fetched(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in model_folder("bert").iterdir()}
    code = b"raise SystemExit"
    hub.add(
        NAME, files | {"modeling.py": code, "pytorch_model.bin": b"pickle", "flax_model.msgpack": b"", "x/a.json": b""}
    )
    assert run_install("--source", "hub", "--model-id", NAME)[0] == 0
    wanted = {"config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"}
    assert {name for name, _ in hub.fetched()} == wanted
    folder = tmp_path / "models" / row_of(tmp_path)["path"]
    assert {path.name for path in folder.iterdir()} == wanted | {"dnalm.json"}
    assert not list((tmp_path / "downloads").iterdir())


def test_licence_and_origin_are_in_the_folder_and_reach_who_reads_the_model(
    run_install: Run, run_tool: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    import anndata

    published = hub.add(NAME, model_folder("bert"), card={"license": "cc-by-nc-sa-4.0"})
    assert run_install("--source", "hub", "--model-id", NAME)[0] == 0
    row = row_of(tmp_path)
    assert row["name"] == "somebody/dna-model (CC-BY-NC-SA-4.0: non-commercial)"
    stored = open_model(tmp_path / "models" / row["path"])
    assert (stored.name, stored.licence) == (NAME, "CC-BY-NC-SA-4.0")
    assert stored.provenance == {"source": "Hugging Face hub", "id": NAME, "revision": published.commit}
    fasta = tmp_path / "a.fasta"
    fasta.write_text(">a\nACGTACGT\n")
    arguments = ["--sequences", fasta, "--model", tmp_path / "models" / row["path"], "--output", tmp_path / "a.h5ad"]
    assert run_tool("embed", *arguments)[0] == 0
    told = json.dumps(anndata.read_h5ad(tmp_path / "a.h5ad").uns, default=str)
    assert "CC-BY-NC-SA-4.0" in told
    assert published.commit in told


def test_a_curated_model_is_named_as_people_call_it_and_keeps_its_licence_if_the_card_lacks_it(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    entry = CATALOGUE["InstaDeepAI/nucleotide-transformer-500m-human-ref"]
    hub.add(entry.id, model_folder("esm-absolute"))
    assert run_install("--curated", entry.id)[0] == 0
    row = row_of(tmp_path)
    assert row["name"] == "Nucleotide Transformer v1 500M human reference (CC-BY-NC-SA-4.0: non-commercial)"
    assert row["value"].startswith("InstaDeepAI--nucleotide-transformer-500m-human-ref--")


def test_a_branch_or_tag_is_resolved_to_its_commit(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    published = hub.add(NAME, model_folder("bert"), branches={"release/1.0": "a tag"})
    assert run_install("--source", "hub", "--model-id", NAME, "--revision", "release/1.0")[0] == 0
    assert row_of(tmp_path)["version"] == published.commit
    assert all(
        f"/resolve/{published.commit}/" in request.path for request in hub.requests if "/resolve/" in request.path
    )


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "tag"), [("esm-rotary", "fill-mask"), ("mixtral", "text-generation")])
def test_the_pipeline_tag_follows_the_head(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path, architecture: str, tag: str
) -> None:
    hub.add(NAME, model_folder(architecture))
    assert run_install("--source", "hub", "--model-id", NAME)[0] == 0
    assert row_of(tmp_path)["pipeline_tag"] == tag


def test_a_model_without_a_head_is_for_features(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in model_folder("bert").iterdir()}
    tensors = load_file(model_folder("bert") / "model.safetensors")
    kept = {name.removeprefix("bert."): tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    save_file(kept, tmp_path / "headless", metadata={"format": "pt"})
    config = json.loads(files["config.json"]) | {"architectures": ["BertModel"]}
    changed = {"config.json": json.dumps(config).encode(), "model.safetensors": (tmp_path / "headless").read_bytes()}
    hub.add(NAME, files | changed)
    assert run_install("--source", "hub", "--model-id", NAME)[0] == 0
    assert row_of(tmp_path)["pipeline_tag"] == "feature-extraction"


def test_pickled_weights_are_converted(run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    hub.add(NAME, pickled(model_folder("bert")))
    assert run_install("--source", "hub", "--model-id", NAME)[0] == 0
    folder = tmp_path / "models" / row_of(tmp_path)["path"]
    assert "pytorch_model.bin" not in {path.name for path in folder.iterdir()}
    assert same_weights(folder, model_folder("bert"))


@pytest.mark.slow
@pytest.mark.parametrize(("stem", "suffix"), [("model", ".safetensors"), ("pytorch_model", ".bin")])
def test_shards_stay_shards(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path, stem: str, suffix: str
) -> None:
    hub.add(NAME, in_shards(model_folder("bert"), tmp_path, stem, suffix))
    assert run_install("--source", "hub", "--model-id", NAME)[0] == 0
    folder = tmp_path / "models" / row_of(tmp_path)["path"]
    shards = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    assert sorted(path.name for path in folder.glob("model*")) == [*shards, "model.safetensors.index.json"]
    assert same_weights(folder, model_folder("bert"))


def test_what_is_installed_is_not_installed_again(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    published = hub.add(NAME, model_folder("bert"))
    rows = tmp_path / "rows"
    rows.write_text(f"another\nsomebody--dna-model--{published.commit[:12]}\n")
    code, _, problem = run_install(
        "--source", "hub", "--model-id", NAME, "--installed", rows, "--display-name", "other"
    )
    assert code == 1
    assert "is installed already" in problem
    assert hub.fetched() == []


def test_a_folder_of_the_server_is_copied_and_checked(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "my model"
    shutil.copytree(model_folder("bert"), folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\nA model.\n")
    (folder / "modeling.py").write_text("raise SystemExit")
    assert run_install("--source", "folder", "--folder", folder)[0] == 0
    row = row_of(tmp_path)
    assert row["name"] == "my model (MIT)"
    assert row["value"] == f"my-model--{open_model(folder).sha256()[:12]}"
    assert same_weights(tmp_path / "models" / row["path"], folder)
    assert not (tmp_path / "models" / row["path"] / "modeling.py").exists()
    assert hub.requests == []
    assert str(tmp_path) not in (tmp_path / "models" / row["path"] / "dnalm.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("card", ["license: [mit", "!!python/object/apply:os.system ['false']", "- mit", ""])
def test_a_card_that_says_nothing_is_no_obstacle(
    run_install: Run, model_folder: ModelFolder, tmp_path: Path, card: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("bert"), folder)
    (folder / "README.md").write_text(f"---\n{card}\n---\n")
    assert run_install("--source", "folder", "--folder", folder)[0] == 0
    assert row_of(tmp_path)["name"] == "model (licence not stated)"


@pytest.mark.slow
def test_the_licence_of_an_exported_model_is_that_of_its_weights(
    run_install: Run, run_tool: Run, hub: Hub, tmp_path: Path
) -> None:
    """Whoever puts an export on the hub may leave its card out; no model made of it may lose the licence."""
    stored = open_model(TEST_DATA / "random_model.safetensors")
    tensors, nc = stored.read_tensors(), "CC-BY-NC-4.0"
    write_model_file(tmp_path / "model", tensors, stored.config, stored.tokenizer, name="ours", licence=nc)
    assert run_tool("export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported")[0] == 0
    (tmp_path / "exported" / "README.md").unlink()
    hub.add(NAME, tmp_path / "exported")
    for source in (("hub", "--model-id", NAME), ("folder", "--folder", tmp_path / "exported")):
        assert run_install("--source", *source)[0] == 0
        row = row_of(tmp_path)
        assert row["name"].endswith(" (CC-BY-NC-4.0: non-commercial)")
        assert open_model(tmp_path / "models" / row["path"]).licence == nc


def test_a_row_is_one_line_whatever_a_folder_notes(run_install: Run, model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("bert"), folder)
    (folder / "dnalm.json").write_text(json.dumps({"name": "a\tb\nc", "licence": "MIT\n\tvalue"}))
    assert run_install("--source", "folder", "--folder", folder)[0] == 0
    assert row_of(tmp_path)["name"] == r"a\tb\nc (MIT\n\tvalue)"
    assert all(value.isprintable() for value in row_of(tmp_path).values())


def test_a_licence_and_a_name_may_be_given(run_install: Run, model_folder: ModelFolder, tmp_path: Path) -> None:
    given = ["--licence", "CC-BY-NC-4.0", "--display-name", "Our model, β version"]
    assert run_install("--source", "folder", "--folder", model_folder("bert"), *given)[0] == 0
    row = row_of(tmp_path)
    assert row["name"] == "Our model, β version (CC-BY-NC-4.0: non-commercial)"
    assert open_model(tmp_path / "models" / row["path"]).licence == "CC-BY-NC-4.0"


def test_a_repository_of_the_hubs_cache_is_read_through_its_links(
    run_install: Run, model_folder: ModelFolder, tmp_path: Path
) -> None:
    repository = tmp_path / "cache" / "models--somebody--dna-model"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    for number, path in enumerate(model_folder("bert").iterdir()):
        shutil.copyfile(path, repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    for place in (repository, snapshot):
        shutil.rmtree(tmp_path / "models", ignore_errors=True)
        assert run_install("--source", "folder", "--folder", place)[0] == 0
        row = row_of(tmp_path)
        assert row["value"] == f"somebody--dna-model--{'a' * 12}"
        assert row["version"] == "a" * 40
        folder = tmp_path / "models" / row["path"]
        assert not any(path.is_symlink() for path in folder.iterdir())
        assert same_weights(folder, model_folder("bert"))


@pytest.mark.slow
def test_the_row_and_the_folder_do_not_depend_on_when_and_where(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    hub.add(NAME, pickled(model_folder("bert")))
    found: list[Any] = []
    for _ in range(2):
        assert run_install("--source", "hub", "--model-id", NAME)[0] == 0
        folder = tmp_path / "models" / row_of(tmp_path)["path"]
        found.append([(path.name, path.read_bytes()) for path in sorted(folder.iterdir())])
        found[-1].append((tmp_path / "row.json").read_bytes())
        shutil.rmtree(folder)
    assert found[0] == found[1]


def test_a_row_has_the_columns_of_the_shared_table(run_install: Run, model_folder: ModelFolder, tmp_path: Path) -> None:
    assert run_install("--source", "folder", "--folder", model_folder("bert"))[0] == 0
    assert sorted(row_of(tmp_path)) == COLUMNS
    table = (REPOSITORY / "tool_data_table_conf.xml.sample").read_text()
    assert "<columns>value, name, pipeline_tag, domain, free_tag, version, path</columns>" in table


@pytest.mark.parametrize(
    ("name", "value"),
    [("a/b", "a--b--0123456789ab"), ("mine $(x) é", "mine---x-----0123456789ab"), ("../..", "model--0123456789ab")],
)
def test_a_value_is_a_safe_name_of_a_folder(name: str, value: str) -> None:
    found = row_value(name, "0123456789abcdef")
    assert found == value


@pytest.mark.parametrize("version", ["../../../etc", "a\tb\nc", "\ud800" * 20])
def test_a_value_is_safe_whatever_name_and_version_are(version: str) -> None:
    found = row_value("x/" * 5_000, version)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", found)
    assert len(found) < 255  # of a folder's name


def test_no_weights_are_fetched_of_an_architecture_that_nothing_reads(
    run_install: Run, hub: Hub, model_folder: ModelFolder
) -> None:
    files = {path.name: path.read_bytes() for path in model_folder("bert").iterdir()}
    hub.add(NAME, files | {"config.json": b'{"model_type": "hyena"}'})
    code, _, error = run_install("--source", "hub", "--model-id", NAME)
    assert code == 1
    assert "The architecture 'hyena' of the model 'somebody/dna-model' is unknown here" in error
    assert "model.safetensors" not in {name for name, _ in hub.fetched()}


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_a_model_with_a_head_that_classifies_is_offered_for_prediction(name: str) -> None:
    model = load_language_model(open_model(TEST_DATA / f"{name}.safetensors"), head=True)
    assert pipeline_tag(model) == "text-classification"
