"""scGPT as its authors publish it becomes a model file, an installed folder, and files again."""

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.models import scgpt
from dnalm.models.sources import open_model
from hub import Hub
from safetensors.torch import load_file

PUBLISHED = TEST_DATA / "published_scgpt"
PARITY = REPOSITORY / "tests" / "parity" / "data" / "scgpt"
NAME = "somebody/scgpt-mirror"


def imported(run: Run, folder: Path, weights: str, output: Path, *others: object) -> tuple[int, str, str]:
    return run(
        "import_model",
        *("--config", folder / "args.json", "--weights", folder / weights),
        *("--tokenizer-files", folder / "vocab.json", "--output", output, *others),
    )


@pytest.mark.parametrize("weights", ["model.safetensors", "model_flash.safetensors"])
def test_published_files_without_names_become_a_model_file(run_tool: Run, tmp_path: Path, weights: str) -> None:
    for number, name in enumerate(("args.json", "vocab.json", weights)):
        shutil.copy(PARITY / name, tmp_path / f"dataset_{number}.dat")
    config, vocabulary, given = (tmp_path / f"dataset_{number}.dat" for number in range(3))
    arguments = (
        "--config",
        config,
        "--weights",
        given,
        "--tokenizer-files",
        vocabulary,
        "--output",
        tmp_path / "model",
    )
    code, said, problem = run_tool("import_model", *arguments, "--licence", "MIT", "--summary", tmp_path / "summary")
    assert (code, problem) == (0, "")
    facts = dict(line.split("\t") for line in (tmp_path / "summary").read_text().splitlines())
    assert facts["architecture"] == "scgpt"
    assert (facts["layers"], facts["hidden_size"], facts["vocabulary"]) == ("3", "32", "203")
    assert "architecture: scgpt" in said
    stored, wanted = open_model(tmp_path / "model"), load_file(given)
    tensors = stored.read_tensors()
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)
    expected = load_file(PARITY / "expected.safetensors")
    model = scgpt.load(stored)
    genes = expected["main.gene"]
    with torch.inference_mode():
        found = model.module(genes, expected["main.expr"], genes != model.pad_id)
    assert float((found - expected["main.embeddings"]).abs().max()) <= 2e-6


def test_the_vocabulary_and_weights_must_be_of_one_model(run_tool: Run, tmp_path: Path) -> None:
    shutil.copytree(PUBLISHED, tmp_path / "files")
    shutil.copy(PARITY / "vocab.json", tmp_path / "files" / "vocab.json")
    code, _, problem = imported(run_tool, tmp_path / "files", "model.safetensors", tmp_path / "model")
    assert code == 1
    assert "has 203 names, its weights are of 126" in problem
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("tokenizer", "sentence"),
    [
        (TEST_DATA / "published_model" / "vocab.txt", "is a vocab.txt, where a vocab.json is needed"),
        (PUBLISHED / "args.json", "is the config of a model, where a vocab.json is needed"),
    ],
)
def test_other_tokenizers_are_refused(run_tool: Run, tmp_path: Path, tokenizer: Path, sentence: str) -> None:
    arguments = ("--config", PUBLISHED / "args.json", "--weights", PUBLISHED / "model.safetensors")
    code, _, problem = run_tool(
        "import_model", *arguments, "--tokenizer-files", tokenizer, "--output", tmp_path / "model"
    )
    assert code == 1
    assert sentence in problem


def test_a_vocabulary_of_genes_is_no_tokenizer_of_dna(run_tool: Run, tmp_path: Path) -> None:
    folder = TEST_DATA / "published_model"
    arguments = ("--config", folder / "config.json", "--weights", folder / "model.safetensors")
    code, _, problem = run_tool(
        "import_model", *arguments, "--tokenizer-files", PUBLISHED / "vocab.json", "--output", tmp_path / "model"
    )
    assert code == 1
    assert "is a vocab.json, of which no tokens follow without more files" in problem


def test_what_is_exported_is_imported_again(run_tool: Run, tmp_path: Path) -> None:
    model, folder = TEST_DATA / "scgpt.safetensors", tmp_path / "exported"
    assert run_tool("export_model", "--model", model, "--output-directory", folder)[0] == 0
    assert {path.name for path in folder.iterdir()} == {"args.json", "vocab.json", "model.safetensors", "README.md"}
    assert imported(run_tool, folder, "model.safetensors", tmp_path / "again")[0] == 0
    first, second = open_model(model), open_model(tmp_path / "again")
    assert (first.config, first.tokenizer) == (second.config, second.tokenizer)
    one, other = first.read_tensors(), second.read_tensors()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def as_the_authors(folder: Path) -> dict[str, bytes]:
    """Return the files of the authors' folder: weights pickled, as best_model.pt."""
    torch.save(load_file(PARITY / "model_flash.safetensors"), folder / "best_model.pt")
    names = ("args.json", "vocab.json")
    return {name: (PARITY / name).read_bytes() for name in names} | {
        "best_model.pt": (folder / "best_model.pt").read_bytes()
    }


@pytest.mark.slow
@pytest.mark.parametrize("source", ["folder", "hub"])
def test_an_admin_installs_the_authors_files(
    run_install: Run, run_tool: Run, hub: Hub, tmp_path: Path, source: str
) -> None:
    files = as_the_authors(tmp_path)
    if source == "hub":
        hub.add(NAME, files | {"run.log": b"", "train.py": b"raise SystemExit"})
        code, said, problem = run_install("--source", "hub", "--model-id", NAME)
    else:
        folder = tmp_path / "whole-human"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        code, said, problem = run_install("--source", "folder", "--folder", folder, "--licence", "MIT")
    assert (code, problem) == (0, "")
    assert "Tried on a cell: 3 layers, 32 dimensions" in said
    (row,) = json.loads((tmp_path / "row.json").read_text())["data_tables"]["huggingface"]
    assert (row["domain"], row["pipeline_tag"]) == ("single-cell", "feature-extraction")
    installed = tmp_path / "models" / row["path"]
    assert {path.name for path in installed.iterdir()} == {"args.json", "vocab.json", "model.safetensors", "dnalm.json"}
    cells, expected = PARITY / "counts.h5ad", load_file(PARITY / "expected.safetensors")
    arguments = ("--cells", cells, "--model", installed, "--output", tmp_path / "out.h5ad")
    assert run_tool("embed_cells", *arguments)[0] == 0
    exact = expected["main.deterministic"]
    found = anndata.read_h5ad(tmp_path / "out.h5ad").obsm["X_scGPT"][expected["main.cells"][exact].numpy()]
    assert np.abs(found - expected["main.embeddings"][exact].numpy()).max() <= 2e-6


def test_a_pickle_that_holds_more_than_weights_is_not_installed(run_install: Run, hub: Hub, tmp_path: Path) -> None:
    files = as_the_authors(tmp_path)
    torch.save({"weights": Path("/")}, tmp_path / "best_model.pt")
    hub.add(NAME, files | {"best_model.pt": (tmp_path / "best_model.pt").read_bytes()})
    code, _, problem = run_install("--source", "hub", "--model-id", NAME)
    assert code == 1
    assert "holds more than weights, which is never run" in problem
    assert not (tmp_path / "row.json").exists()


def test_an_installed_vocabulary_must_fit_its_weights(run_install: Run, hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, as_the_authors(tmp_path) | {"vocab.json": (PUBLISHED / "vocab.json").read_bytes()})
    code, _, problem = run_install("--source", "hub", "--model-id", NAME)
    assert code == 1
    assert "has 126 names, its weights are of 203" in problem
