"""Cells and models of cells that users bring by mistake: one sentence, exit 1, nothing left behind."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from safetensors.torch import load_file, save_file
from scipy.sparse import csc_matrix, csr_matrix

SCRIPT = REPOSITORY / "scripts" / "dnalm_embed_cells.py"
CELLS, MODEL, PUBLISHED = TEST_DATA / "cells.h5ad", TEST_DATA / "scgpt.safetensors", TEST_DATA / "published_scgpt"
Refused = Callable[..., str]
Change = Callable[[Path], object]


@pytest.fixture
def refused(run_tool: Run, tmp_path: Path) -> Refused:
    """Run a job that must be refused, and return its sentence."""

    def call(cells: Path, *arguments: object, model: Path = MODEL) -> str:
        results = tmp_path / "results"
        results.mkdir()
        outputs = ("--output", results / "out.h5ad", "--summary", results / "summary")
        code, said, error = run_tool("embed_cells", "--cells", cells, "--model", model, *outputs, *arguments)
        assert code == 1
        assert error.startswith("dnalm_embed_cells: ")
        assert error.endswith(".\n")
        assert error.count("\n") == 1
        assert "Traceback" not in said
        assert list(results.iterdir()) == []
        return error

    return call


def changed(change: Callable[[anndata.AnnData], object]) -> Change:
    def write(path: Path) -> None:
        data = anndata.read_h5ad(CELLS)
        change(data)
        data.write_h5ad(path)

    return write


def in_file(change: Callable[[h5py.File], object]) -> Change:
    """Return what changes a copy of the file itself, as a broken program would."""

    def write(path: Path) -> None:
        shutil.copy(CELLS, path)
        with h5py.File(path, "r+") as file:
            change(file)

    return write


def value(number: float, dense: bool = False) -> Callable[[anndata.AnnData], None]:
    def change(data: anndata.AnnData) -> None:
        matrix = data.X.toarray()
        matrix[2, 7] = number
        data.X = matrix if dense else csr_matrix(matrix)

    return change


def named(names: Callable[[int], str]) -> Callable[[anndata.AnnData], None]:
    def change(data: anndata.AnnData) -> None:
        data.var["gene_symbol"] = [names(number) for number in range(data.n_vars)]

    return change


def mouse(data: anndata.AnnData) -> None:
    data.var["gene_symbol"] = [name.capitalize() for name in data.var["gene_symbol"]]


def nothing_known(data: anndata.AnnData) -> None:
    matrix = data.X.toarray()
    matrix[:, :123] = 0
    data.X = csr_matrix(matrix)


def without_matrix(data: anndata.AnnData) -> None:
    data.X = None


def other_shape(file: h5py.File) -> None:
    file["X"].attrs["shape"] = [61, 128]


def replaced(name: str, array: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = array
        file[name].attrs.update(attributes)

    return change


def gene_out_of_range(file: h5py.File) -> None:
    file["X/indices"][3] = 128


def overlapping_rows(file: h5py.File) -> None:
    file["X/indptr"][5] = file["X/indptr"][9]


def unknown_layout(file: h5py.File) -> None:
    file["X"].attrs["encoding-type"] = "coo_matrix"


def elsewhere(file: h5py.File) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink("/etc/other.h5ad", "X")


def outside(file: h5py.File) -> None:
    del file["X"]
    file.create_dataset("X", (60, 128), "f4", external=[("/etc/passwd", 0, 60 * 128 * 4)])


def virtual(file: h5py.File) -> None:
    del file["X"]
    layout = h5py.VirtualLayout((60, 128), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5ad", "X", (60, 128))
    file.create_virtual_dataset("X", layout)


def table_of_old(file: h5py.File) -> None:
    del file["obs"]
    file["obs"] = np.array([(b"a", 1)], dtype=[("index", "S1"), ("n", "i4")])


def claims_cells(file: h5py.File) -> None:
    """Make a file of some kilobytes that claims a thousand million cells."""
    index = file["obs"].attrs["_index"]
    del file["obs"][index], file["X"]
    file["obs"].create_dataset(index, (10**9,), h5py.string_dtype(), chunks=(1024,))
    file.create_dataset("X", (10**9, 128), "f4", chunks=(1024, 128))


ENSEMBL = "they are Ensembl ids, and the model knows gene symbols: choose a column with symbols"
BAD_CELLS: dict[str, tuple[Change, str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is damaged, or not an h5ad file"),
    "FASTA": (lambda path: shutil.copy(TEST_DATA / "two_genomes.fasta", path), "is damaged, or not an h5ad file"),
    "cut short": (lambda path: path.write_bytes(CELLS.read_bytes()[:40_000]), "is damaged, or not an h5ad file"),
    "folder": (lambda path: path.mkdir(), "in.h5ad' is not a regular file. Give the path of a file"),
    "other HDF5": (in_file(lambda file: file.pop("var")), "but no AnnData of today with obs and var"),
    "table of an old version": (in_file(table_of_old), "but no AnnData of today with obs and var"),
    "no matrix": (changed(without_matrix), "has no matrix X; choose a layer ('scaled')"),
    "matrix of text": (in_file(replaced("X/data", np.full(9, b"x"))), "X of 'in.h5ad' does not hold numbers"),
    "matrix of complex numbers": (in_file(replaced("X/data", np.ones(9, "c8"))), "does not hold numbers"),
    "matrix of another shape": (in_file(other_shape), "has the shape (61, 128), but there are 60 cells and 128 genes"),
    "matrix without its end": (in_file(replaced("X/data", np.ones(9))), "is damaged, or not an h5ad file"),
    "gene out of range": (in_file(gene_out_of_range), "is damaged, or not an h5ad file"),
    "overlapping rows": (in_file(overlapping_rows), "is damaged, or not an h5ad file"),
    "unknown layout": (in_file(unknown_layout), "is damaged, or not an h5ad file"),
    "matrix in another file": (in_file(elsewhere), "has 'X' in another file, which is never read"),
    "matrix in any file": (in_file(outside), "has 'X' in another file, which is never read"),
    "virtual matrix": (in_file(virtual), "has 'X' in another file, which is never read"),
    "link to nothing": (
        in_file(lambda file: file.__setitem__("uns/x", h5py.SoftLink("/nothing"))),
        "has the link 'uns/x' that leads nowhere",
    ),
    "claims cells": (in_file(claims_cells), "claims 512,000,000,000 bytes for 'X' but stores 0"),
    "pipe": (os.mkfifo, "in.h5ad' is not a regular file. Give the path of a file"),
    "no genes": (changed(lambda data: data._inplace_subset_var([])), "has 60 cells and 0 genes"),
    "no cells": (changed(lambda data: data._inplace_subset_obs([])), "has 0 cells and 128 genes"),
    "negative": (
        changed(value(-1)),
        "Cell 'cell_3' has the value -1 of 'gene_8' in X: negative values come of scaling",
    ),
    "negative, dense": (changed(value(-0.5, dense=True)), "Cell 'cell_3' has the value -0.5 of 'gene_8' in X"),
    "NaN": (changed(value(np.nan)), "Cell 'cell_3' has the value nan of 'gene_8' in X; every value must be a finite"),
    "infinite": (changed(value(np.inf, dense=True)), "Cell 'cell_3' has the value inf of 'gene_8' in X; every value"),
    "no gene matched": (
        changed(named(lambda number: f"contig{number}")),
        "choose a column with symbols of human genes",
    ),
    "Ensembl ids": (changed(named(lambda number: f"ENSG{number:011d}")), ENSEMBL),
    "Ensembl ids with versions": (changed(named(lambda number: f"ENSG{number:011d}.7")), ENSEMBL),
    "Ensembl ids of mouse": (changed(named(lambda number: f"ENSMUSG{number:011d}")), ENSEMBL),
    "symbols of mouse": (changed(mouse), "they look like symbols of another species, such as mouse"),
    "empty names": (changed(named(lambda number: "")), "Only 0 of the 128 genes"),
    "no cell with a known gene": (changed(nothing_known), "No cell of 'in.h5ad' expresses a gene that is known"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", BAD_CELLS)
def test_bad_cells_are_refused(refused: Refused, tmp_path: Path, case: str) -> None:
    make, sentence = BAD_CELLS[case]
    make(tmp_path / "in.h5ad")
    assert sentence in refused(tmp_path / "in.h5ad")


def test_a_missing_file_is_refused(refused: Refused, tmp_path: Path) -> None:
    assert "absent.h5ad' does not exist. Check its name" in refused(tmp_path / "absent.h5ad")


def test_a_column_that_is_not_there_is_answered_with_those_that_are(refused: Refused) -> None:
    said = refused(CELLS, "--gene-column", "feature_name")
    assert "no column 'feature_name' with names of genes" in said
    assert "it has 'gene_symbol', 'index'" in said


def test_a_layer_that_is_not_there_is_answered_with_those_that_are(refused: Refused) -> None:
    assert "has no layer 'counts'; it has 'scaled'." in refused(CELLS, "--layer", "counts")


def test_a_damaged_matrix_by_gene_is_refused(refused: Refused, tmp_path: Path) -> None:
    data = anndata.read_h5ad(CELLS)
    data.X = csc_matrix(data.X)
    data.write_h5ad(tmp_path / "in.h5ad")
    with h5py.File(tmp_path / "in.h5ad", "r+") as file:
        file["X/indices"][0] = 60
    assert "is damaged, or not an h5ad file" in refused(tmp_path / "in.h5ad")


def test_unsigned_counts_are_no_mistake(run_tool: Run, tmp_path: Path) -> None:
    """They are for the reference, which puts -2 among them."""
    data = anndata.read_h5ad(CELLS)
    found = []
    for dtype in (np.float32, np.uint8, np.uint16, np.uint64):
        data.X = csr_matrix(data.X.toarray().astype(dtype))
        data.write_h5ad(tmp_path / "in.h5ad")
        output = tmp_path / "out.h5ad"
        arguments = ("--cells", tmp_path / "in.h5ad", "--model", MODEL, "--output", output)
        assert run_tool("embed_cells", *arguments)[0] == 0
        found.append(anndata.read_h5ad(output).obsm["X_scGPT"])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_a_file_that_is_open_elsewhere_is_read(run_tool: Run, tmp_path: Path) -> None:
    shutil.copy(CELLS, tmp_path / "in.h5ad")
    backed = anndata.read_h5ad(tmp_path / "in.h5ad", backed="r+")
    try:
        arguments = ("--cells", tmp_path / "in.h5ad", "--model", MODEL, "--output", tmp_path / "out.h5ad")
        assert run_tool("embed_cells", *arguments)[0] == 0
    finally:
        backed.file.close()


def test_few_known_genes_are_warned_of(run_tool: Run, tmp_path: Path) -> None:
    data = anndata.read_h5ad(CELLS)
    data.var["gene_symbol"] = [
        name if number % 3 == 0 else f"contig{number}" for number, name in enumerate(data.var["gene_symbol"])
    ]
    data.write_h5ad(tmp_path / "in.h5ad")
    code, said, _ = run_tool(
        "embed_cells", "--cells", tmp_path / "in.h5ad", "--model", MODEL, "--output", tmp_path / "out.h5ad"
    )
    assert code == 0
    assert "Genes: 41 of 128 in 'gene_symbol' are known to the model" in said
    assert "Warning: that is 32% alone" in said


def test_a_tenth_of_the_genes_is_too_few(refused: Refused, tmp_path: Path) -> None:
    data = anndata.read_h5ad(CELLS)
    known = set(data.var["gene_symbol"][:12])
    data.var["gene_symbol"] = [name if name in known else f"x{name}" for name in data.var["gene_symbol"]]
    data.write_h5ad(tmp_path / "in.h5ad")
    assert "Only 12 of the 128 genes" in refused(tmp_path / "in.h5ad")


@pytest.mark.parametrize("missing", [np.nan, None, ""])
def test_a_gene_without_a_name_matches_nothing(run_tool: Run, tmp_path: Path, missing: Any) -> None:
    data = anndata.read_h5ad(CELLS)
    names = data.var["gene_symbol"].astype(object).tolist()
    data.var["gene_symbol"] = pd.Series([missing, *names[1:]], index=data.var_names, dtype=object)
    if missing is None:
        data.var["gene_symbol"] = data.var["gene_symbol"].astype("category")
    data.write_h5ad(tmp_path / "in.h5ad")
    code, said, _ = run_tool(
        "embed_cells", "--cells", tmp_path / "in.h5ad", "--model", MODEL, "--output", tmp_path / "out.h5ad"
    )
    assert code == 0
    assert "Genes: 122 of 128 in 'gene_symbol'" in said


# Models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the published files."""
    shutil.copytree(PUBLISHED, tmp_path / "model")
    return tmp_path / "model"


def edited(folder: Path, name: str, **settings: Any) -> None:
    content = json.loads((folder / name).read_text())
    kept = {key: value for key, value in (content | settings).items() if value is not ...}
    (folder / name).write_text(json.dumps(kept))


def with_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


TENSOR = "transformer_encoder.layers.1.self_attn.Wqkv.weight"
EMBEDDING = "encoder.embedding.weight"
BAD_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a name too many": (
        lambda folder: edited(folder, "vocab.json", another=126),
        "has 127 names, its weights are of 126; use the vocabulary that was published with the weights",
    ),
    "a name too few": (
        lambda folder: edited(folder, "vocab.json", CD14=...),
        "does not number its 125 names from 0 on",
    ),
    "a number twice": (lambda folder: edited(folder, "vocab.json", CD14=1), "each once"),
    "a negative number": (lambda folder: edited(folder, "vocab.json", CD14=-1), "from 0 on"),
    "a number that is text": (lambda folder: edited(folder, "vocab.json", CD14="1"), "has no vocab.json of genes"),
    "no vocabulary": (lambda folder: (folder / "vocab.json").unlink(), "has no vocab.json of genes"),
    "no <cls>": (
        lambda folder: edited(folder, "vocab.json", **{"<cls>": ..., "other": 124}),
        "lacks the token '<cls>'",
    ),
    "another pad token": (lambda folder: edited(folder, "args.json", pad_token="[PAD]"), "lacks the token '[PAD]'"),
    "no pad token": (lambda folder: edited(folder, "args.json", pad_token=...), "lacks the token 'None'"),
    "another width": (
        lambda folder: edited(folder, "args.json", embsize=64),
        "has the shape (126, 32), the config asks",
    ),
    "heads that do not divide": (
        lambda folder: edited(folder, "args.json", nheads=5),
        "which nheads = 5 does not divide",
    ),
    "more layers": (lambda folder: edited(folder, "args.json", nlayers=3), "is missing (12 in all)"),
    "endless layers": (lambda folder: edited(folder, "args.json", nlayers=10**12), "which its weights cannot fill"),
    "layers that are text": (lambda folder: edited(folder, "args.json", nlayers="2"), "where a size is needed"),
    "a value that is none": (lambda folder: edited(folder, "args.json", pad_value=None), "where a number is needed"),
    "values in categories": (
        lambda folder: edited(folder, "args.json", input_emb_style="category"),
        "has input_emb_style = category; only continuous is known here",
    ),
    "other bins": (lambda folder: edited(folder, "args.json", n_bins=101), "only 51 is known here"),
    "a tensor is missing": (
        lambda folder: with_tensors(folder, lambda tensors: tensors.pop(TENSOR)),
        "self_attn.in_proj_weight' is missing",
    ),
    "a tensor of another shape": (
        lambda folder: with_tensors(folder, lambda tensors: tensors.update({TENSOR: torch.zeros(96, 31)})),
        f"tensor '{TENSOR}' has the shape (96, 31)",
    ),
    "an unknown tensor": (
        lambda folder: with_tensors(folder, lambda tensors: tensors.update({"another.weight": torch.zeros(3)})),
        "tensor 'another.weight' is unknown",
    ),
    "a tensor under two names": (
        lambda folder: with_tensors(
            folder, lambda tensors: tensors.update({TENSOR.replace("Wqkv.", "in_proj_"): tensors[TENSOR].clone()})
        ),
        "holds a tensor under two names",
    ),
    "labels of batches": (
        lambda folder: with_tensors(folder, lambda tensors: tensors.update({"dsbn.bns.0.weight": torch.ones(32)})),
        "was fine-tuned with labels of batches (tensor 'dsbn.bns.0.weight')",
    ),
    "NaN": (
        lambda folder: with_tensors(folder, lambda tensors: tensors[EMBEDDING].fill_(torch.nan)),
        f"has NaN or infinite weights in '{EMBEDDING}'",
    ),
    "whole numbers": (
        lambda folder: with_tensors(folder, lambda tensors: tensors.update({TENSOR: tensors[TENSOR].int()})),
        "holds whole numbers",
    ),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "best_model.pt"),
        "only pickled weights, which are never read in a job",
    ),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_models_are_refused(refused: Refused, folder: Path, case: str) -> None:
    spoil, sentence = BAD_MODELS[case]
    spoil(folder)
    assert sentence in refused(CELLS, model=folder)


def test_a_model_of_dna_embeds_no_cells(refused: Refused) -> None:
    assert "is no model of cells" in refused(CELLS, model=TEST_DATA / "random_model.safetensors")


def test_a_model_of_cells_embeds_no_dna(run_tool: Run, tmp_path: Path) -> None:
    arguments = ("--sequences", TEST_DATA / "two_genomes.fasta", "--model", MODEL, "--output", tmp_path / "out")
    code, _, error = run_tool("embed", *arguments)
    assert code == 1
    assert "reads cells, and no DNA; choose a DNA language model" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [10_000, CELLS.stat().st_size + 100])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, room: int) -> None:
    """While the file is copied, and while embeddings are added; in a process of its own, since the limit is for all."""
    arguments = ("--cells", CELLS, "--model", MODEL, "--output", tmp_path / "out.h5ad")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "The disk is full" in done.stderr
    assert not list(tmp_path.iterdir())
