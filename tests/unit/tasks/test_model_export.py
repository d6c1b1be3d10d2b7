"""Export: a model file becomes a folder for Hugging Face's libraries, with the same weights and a model card."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TEST_DATA, Run
from dnalm.errors import UserError
from dnalm.models.model_file import write_model_file
from dnalm.models.sources import open_model
from dnalm.tasks.model_export import ExportOptions, export_model
from safetensors import safe_open
from safetensors.torch import load_file

ModelFolder = Callable[[str], Path]


@pytest.mark.slow
def test_weights_config_and_tokenizer_are_those_of_the_model(random_model: Path, tmp_path: Path) -> None:
    export_model(ExportOptions(random_model, tmp_path / "exported"))
    stored, folder = open_model(random_model), tmp_path / "exported"
    names = ["README.md", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    before, after = stored.read_tensors(), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert json.loads((folder / "config.json").read_text()) == stored.config
    assert (folder / "vocab.txt").read_text() == stored.tokenizer["vocab.txt"]


@pytest.mark.slow
def test_weights_carry_licence_labels_and_provenance(tmp_path: Path) -> None:
    export_model(ExportOptions(TEST_DATA / "classifier.safetensors", tmp_path / "exported"))
    with safe_open(tmp_path / "exported" / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["dnalm_origin"]) == {
        "licence": "MIT",
        "labels": ["ecoli", "human"],
        "provenance": {"made by": "tests/make_test_data.py"},
    }


@pytest.mark.slow
def test_the_model_card_has_licence_facts_and_origin(random_model: Path, tmp_path: Path) -> None:
    export_model(ExportOptions(random_model, tmp_path / "exported"))
    lines = (tmp_path / "exported" / "README.md").read_text().splitlines()
    assert lines[:8] == [
        "---",
        "library_name: transformers",
        'license: "mit"',
        "---",
        "",
        "# dnalm-random",
        "",
        "Exported by DNA-LM from a model file.",
    ]
    assert "- architecture: esm" in lines
    assert "- hidden size: 64" in lines
    assert "- reads it: transformers' from_pretrained" in lines
    assert not any(line.startswith(("- name", "- provenance", "- head is read by")) for line in lines)
    origin = lines[lines.index("## Origin") :]
    assert origin[:3] == ["## Origin", "", "```json"]
    assert json.loads("\n".join(origin[3:-1])) == open_model(random_model).provenance


@pytest.mark.slow
def test_a_model_without_a_licence_has_none_on_its_card(demo_model: Path, tmp_path: Path) -> None:
    export_model(ExportOptions(demo_model, tmp_path / "exported"))
    lines = (tmp_path / "exported" / "README.md").read_text().splitlines()
    assert lines[:3] == ["---", "library_name: transformers", "---"]
    assert "- licence: unknown" in lines


@pytest.mark.slow
def test_the_class_of_the_tokenizer_is_named(random_model: Path, demo_model: Path, tmp_path: Path) -> None:
    """A vocab.txt is read by EsmTokenizer; a tokenizer.json by any fast one, which needs the special tokens' names."""
    found = {}
    for model in (random_model, demo_model):
        export_model(ExportOptions(model, tmp_path / model.stem))
        found[model] = json.loads((tmp_path / model.stem / "tokenizer_config.json").read_text())
    kept = open_model(random_model).tokenizer["tokenizer_config.json"]
    assert found[random_model] == {"tokenizer_class": "EsmTokenizer"} | kept
    tokens = {"mask_token": "[MASK]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    assert found[demo_model] == {"tokenizer_class": "PreTrainedTokenizerFast"} | tokens


@pytest.mark.slow
def test_settings_of_the_tokenizer_that_the_model_has_are_kept(random_model: Path, tmp_path: Path) -> None:
    stored = open_model(random_model)
    settings = {"tokenizer_class": "TheirTokenizer", "model_max_length": 7}
    tokenizer = stored.tokenizer | {"tokenizer_config.json": settings}
    write_model_file(tmp_path / "model", stored.read_tensors(), stored.config, tokenizer, name="theirs")
    export_model(ExportOptions(tmp_path / "model", tmp_path / "exported"))
    assert json.loads((tmp_path / "exported" / "tokenizer_config.json").read_text()) == settings


@pytest.mark.slow
def test_code_and_a_pad_token_that_does_not_exist_are_left_out(
    demo_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = open_model(demo_model)
    config = stored.config | {"auto_map": {"AutoModel": "run.Model"}, "pad_token_id": 5_000}
    write_model_file(tmp_path / "model", stored.read_tensors(), config, stored.tokenizer, name="theirs")
    export_model(ExportOptions(tmp_path / "model", tmp_path / "exported"))
    said = capsys.readouterr().out
    assert "Mended: config.json names code to load (auto_map), which is left out" in said
    assert "Mended: config.json pads with the token 5000, but there are only" in said
    assert json.loads((tmp_path / "exported" / "config.json").read_text()) == stored.config | {"pad_token_id": None}


@pytest.mark.slow
def test_a_head_of_dna_lm_is_said_to_be_read_by_dna_lm_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_model(ExportOptions(TEST_DATA / "classifier.safetensors", tmp_path / "exported", tmp_path / "summary"))
    said = capsys.readouterr().out
    assert "head is read by: DNA-LM alone: classifier.weight and classifier.bias belong to the mean of" in said
    rows = dict(line.split("\t") for line in (tmp_path / "summary").read_text().splitlines())
    assert rows["property"] == "value"
    assert rows["name"] == "dnalm-classifier"
    assert rows["reads_it"] == "transformers' from_pretrained"
    assert rows["head_is_read_by"].startswith("DNA-LM alone: ")


def test_a_segmenter_is_read_by_transformers_only_with_its_authors_code(segmenter_file: Path, tmp_path: Path) -> None:
    export_model(ExportOptions(segmenter_file, tmp_path / "exported"))
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "- reads it: DNA-LM; transformers only with its authors' code\n" in card


@pytest.mark.slow
def test_nothing_is_left_of_an_export_that_fails(random_model: Path, tmp_path: Path) -> None:
    stored = open_model(random_model)
    tokenizer = stored.tokenizer | {"run.py": "mine"}
    write_model_file(tmp_path / "model", stored.read_tensors(), stored.config, tokenizer, name="hostile")
    with pytest.raises(UserError, match=r"The tokenizer of the model 'hostile' has the file 'run\.py', which none has"):
        export_model(ExportOptions(tmp_path / "model", tmp_path / "exported", tmp_path / "summary"))
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../stolen.json", "/", "model.safetensors", "config.json", "run.py"])
def test_a_model_file_names_no_files_but_a_tokenizers(
    run_tool: Run, random_model: Path, tmp_path: Path, name: str
) -> None:
    stored = open_model(random_model)
    strange = str(tmp_path / "stolen.txt") if name == "/" else name
    tokenizer = stored.tokenizer | {strange: "mine"}
    write_model_file(tmp_path / "model", stored.read_tensors(), stored.config, tokenizer, name="hostile")
    before = sorted(tmp_path.rglob("*"))
    code, _, error = run_tool(
        "export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported"
    )
    assert code == 1
    assert f"has the file '{strange[:80]}" in error
    assert "which none has; use an intact model." in error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_folder_with_files_in_it_is_left_alone(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    code, _, error = run_tool("export_model", "--model", random_model, "--output-directory", tmp_path)
    assert code == 1
    assert "has files in it already; choose a new or an empty one." in error
    assert (tmp_path / "kept").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["link", "file", "nowhere/folder", "model/inside", "x" * 300, "."])
def test_a_folder_that_may_not_be_made_is_refused_in_a_sentence(
    run_tool: Run, model_folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    shutil.copytree(model_folder("bert"), tmp_path / "model")
    (tmp_path / "link").symlink_to(tmp_path / "no" / "where")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here" if place == "." else tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, _, error = run_tool("export_model", "--model", tmp_path / "model", "--output-directory", place)
    assert code == 1
    assert error.count("\n") == 1
    assert error.startswith("dnalm_export_model: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exported", "exported/summary"])
def test_a_summary_in_the_place_of_the_export_is_refused(
    run_tool: Run, model_folder: ModelFolder, tmp_path: Path, name: str
) -> None:
    (tmp_path / "exported").mkdir()
    arguments = ["--model", model_folder("bert"), "--output-directory", tmp_path / "exported"]
    code, _, error = run_tool("export_model", *arguments, "--summary", tmp_path / name)
    assert code == 1
    assert "which is to be made; choose another" in error
    assert not list((tmp_path / "exported").iterdir())
