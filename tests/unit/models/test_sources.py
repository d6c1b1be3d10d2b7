"""Models of a path: files, flat folders, repositories of the hub's cache, shards, and notes of the installer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dnalm.errors import UserError
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from safetensors.torch import load_file, save_file

ModelFolder = Callable[[str], Path]


@pytest.fixture
def hub_repository(model_folder: ModelFolder, tmp_path: Path) -> Path:
    """Lay a model out as the hub's cache does, beside an older snapshot."""
    repository = tmp_path / "models--somebody--dna-model"
    for revision in ("aaaa", "bbbb"):
        shutil.copytree(model_folder("bert"), repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("aaaa")
    return repository


def test_a_flat_folder_is_a_model(model_folder: ModelFolder) -> None:
    stored = open_model(model_folder("bert"))
    assert stored.config["model_type"] == "bert"
    assert stored.tokenizer.keys() == {"vocab.txt", "tokenizer_config.json"}
    assert stored.read_tensors().keys() == stored.tensors.keys()


def test_a_hub_repository_is_read_through_its_main_reference(hub_repository: Path) -> None:
    stored = open_model(hub_repository)
    assert stored.name == "somebody/dna-model"
    assert stored.files[0].parent.name == "aaaa"
    assert stored.provenance == {"revision": "aaaa"}


@pytest.mark.parametrize("revision", ["cccc", "../snapshots/aaaa", "..", ""])
def test_a_reference_to_no_snapshot_is_refused(hub_repository: Path, revision: str) -> None:
    (hub_repository / "refs" / "main").write_text(revision)
    with pytest.raises(UserError, match="lacks the snapshot"):
        open_model(hub_repository)


def test_of_several_snapshots_none_is_guessed(hub_repository: Path) -> None:
    (hub_repository / "refs" / "main").unlink()
    with pytest.raises(UserError, match="2 snapshots and no refs/main"):
        open_model(hub_repository)
    shutil.rmtree(hub_repository / "snapshots" / "aaaa")
    assert open_model(hub_repository).provenance == {"revision": "bbbb"}


def sharded(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for shard, part in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in part}, target / f"shard-{shard}.safetensors")
        weight_map |= dict.fromkeys(part, f"shard-{shard}.safetensors")
    (target / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return target


def test_shards_are_read_as_one(model_folder: ModelFolder, tmp_path: Path) -> None:
    whole = open_model(model_folder("bert")).read_tensors()
    parts = open_model(sharded(model_folder("bert"), tmp_path / "shards")).read_tensors()
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_an_index_may_not_leave_its_folder(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = sharded(model_folder("bert"), tmp_path / "shards")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(UserError, match="outside its folder"):
        open_model(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"config.json": "{}"}, "has no model.safetensors"),
        ({"config.json": "{}", "pytorch_model.bin": "pickle"}, "only pickled weights"),
        ({"config.json": "[]"}, "is no JSON object"),
        ({"config.json": "{"}, "is no JSON"),
        ({}, r"config.json' of a model cannot be read \(No such file or directory\)"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, content: dict[str, str], sentence: str) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=sentence):
        open_model(tmp_path)


def test_an_absent_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent"):
        open_model(tmp_path / "absent")


def noted(model_folder: ModelFolder, tmp_path: Path, note: object) -> Path:
    folder = tmp_path / "installed"
    shutil.copytree(model_folder("bert"), folder)
    (folder / "dnalm.json").write_text(json.dumps(note))
    return folder


def test_the_installers_note_has_name_licence_and_origin(model_folder: ModelFolder, tmp_path: Path) -> None:
    note = {"name": "somebody/dna-model", "licence": "MIT", "provenance": {"revision": "aaaa"}}
    stored = open_model(noted(model_folder, tmp_path, note))
    assert (stored.name, stored.licence, stored.provenance) == ("somebody/dna-model", "MIT", {"revision": "aaaa"})
    assert stored.sha256() == open_model(model_folder("bert")).sha256()


def test_unknown_facts_of_the_installers_note_stay_unknown(model_folder: ModelFolder, tmp_path: Path) -> None:
    stored = open_model(noted(model_folder, tmp_path, {"name": None, "licence": None}))
    assert (stored.name, stored.licence, stored.provenance) == ("installed", None, {})


@pytest.mark.parametrize("note", [{"licence": 1}, {"name": []}, {"provenance": "x"}, []])
def test_a_damaged_note_is_refused(model_folder: ModelFolder, tmp_path: Path, note: object) -> None:
    with pytest.raises(UserError, match=r"dnalm\.json"):
        open_model(noted(model_folder, tmp_path, note))


def changed(model_folder: ModelFolder, tmp_path: Path, **files: object) -> Path:
    """Return a copy of a model's folder with other files: name with `__` for a dot → text or JSON."""
    folder = tmp_path / "changed"
    shutil.copytree(model_folder("bert"), folder)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["adapter_config__json", "adapter_model__safetensors", "adapter_model__bin"])
@pytest.mark.parametrize("with_model", [True, False])
def test_a_folder_with_an_adapter_is_refused_with_and_without_its_base(
    model_folder: ModelFolder, tmp_path: Path, name: str, with_model: bool
) -> None:
    """Without the adapter, a model gives other numbers than its publisher's."""
    folder = changed(model_folder, tmp_path, **{name: {"peft_type": "LORA"}})
    if not with_model:
        (folder / "config.json").unlink()
        (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"'changed' holds an adapter such as LoRA's .* Merge it into its base model"):
        open_model(folder)


def test_a_number_that_no_code_reads_may_be_infinite(model_folder: ModelFolder, tmp_path: Path) -> None:
    config = json.loads((model_folder("bert") / "config.json").read_text()) | {"time_step_limit": [0.0, float("inf")]}
    stored = open_model(changed(model_folder, tmp_path, config__json=config))
    assert stored.config["time_step_limit"] == [0.0, float("inf")]
    assert stored.sha256() != open_model(model_folder("bert")).sha256()
    load_language_model(stored)


def test_a_number_that_code_reads_may_not(model_folder: ModelFolder, tmp_path: Path) -> None:
    config = json.loads((model_folder("bert") / "config.json").read_text()) | {"layer_norm_eps": float("inf")}
    stored = open_model(changed(model_folder, tmp_path, config__json=config))
    with pytest.raises(UserError, match="layer_norm_eps = inf, where a positive number is needed"):
        load_language_model(stored)


@pytest.mark.parametrize(
    ("name", "text"), [("special_tokens_map", '{"a": NaN}'), ("dnalm", '{"provenance": {"a": 1e999}}')]
)
def test_other_files_have_finite_numbers(model_folder: ModelFolder, tmp_path: Path, name: str, text: str) -> None:
    folder = changed(model_folder, tmp_path, **{f"{name}__json": text})
    with pytest.raises(UserError, match=rf"{name}\.json' of a model is no JSON \(it has the number"):
        open_model(folder)


def test_byte_order_marks_are_left_out(model_folder: ModelFolder, tmp_path: Path) -> None:
    plain = open_model(model_folder("bert"))
    marked = {"config__json": plain.config, "vocab__txt": plain.tokenizer["vocab.txt"]}
    texts = {key: "\ufeff" + (x if isinstance(x, str) else json.dumps(x)) for key, x in marked.items()}
    stored = open_model(changed(model_folder, tmp_path, **texts))
    assert (stored.config, stored.tokenizer) == (plain.config, plain.tokenizer)


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "dnalm.json"])
def test_a_file_without_an_end_is_not_read(model_folder: ModelFolder, tmp_path: Path, name: str) -> None:
    folder = changed(model_folder, tmp_path)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/zero")
    if name == "config.json":
        with pytest.raises(UserError, match=r"cannot be read \(Not a regular file\)"):
            open_model(folder)
    else:  # as if it were not there
        assert name not in open_model(folder).tokenizer


def test_a_note_is_short_and_on_one_line(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = changed(model_folder, tmp_path, dnalm__json={"name": "x\n" * 500})
    assert "\n" not in open_model(folder).name
    assert len(open_model(folder).name) < 200
    (folder / "dnalm.json").write_text(json.dumps({"name": "x" * 1_000_001}))
    with pytest.raises(UserError, match="it has over 1 MB"):
        open_model(folder)
