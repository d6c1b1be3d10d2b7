"""What a biologist gets who embeds cells, and that it belongs to the cell alone."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.formats import cells_file
from dnalm.methods.expression_bins import cell_generator
from dnalm.models import scgpt
from dnalm.models.sources import open_model
from scipy.sparse import csr_matrix

CELLS, MODEL = TEST_DATA / "cells.h5ad", TEST_DATA / "scgpt.safetensors"
Embedded = Callable[..., anndata.AnnData]
NEAR = 1e-5


@pytest.fixture
def embedded(run_tool: Run, tmp_path: Path) -> Embedded:
    """Embed cells with the tiny model and return the file."""

    def call(cells: Path | anndata.AnnData, *options: object) -> anndata.AnnData:
        if isinstance(cells, anndata.AnnData):
            cells.write_h5ad(tmp_path / "in.h5ad")
            cells = tmp_path / "in.h5ad"
        output = tmp_path / "out.h5ad"
        code, _, problem = run_tool("embed_cells", "--cells", cells, "--model", MODEL, "--output", output, *options)
        assert (code, problem) == (0, "")
        return anndata.read_h5ad(output)

    return call


def vectors(data: anndata.AnnData) -> np.ndarray:
    return data.obsm["X_scGPT"]


def slow_bin(value: float, values: list[float], uniform: float) -> int:
    """Bin a value by the definition, edge by edge."""
    ranked, edges = sorted(values), []
    for number in range(50):
        place = number / 49 * (len(ranked) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ranked) - 1)
        edges.append(ranked[low] + (ranked[high] - ranked[low]) * (place - low))
    highest = sum(edge <= value for edge in edges)
    lowest = sum(edge < value for edge in edges)
    return math.ceil(uniform * (lowest - highest) + highest)


@pytest.mark.slow
def test_equals_a_slow_loop_over_cells_and_genes(embedded: Embedded) -> None:
    """One cell a forward, bins by the definition, attention written out."""
    found = embedded(CELLS)
    model = scgpt.load(open_model(MODEL))
    matrix, names = found.X.toarray(), found.var["gene_symbol"].astype(str).tolist()
    for row in (0, 1, 2, 31):
        expressed = [(names[gene], float(matrix[row, gene])) for gene in np.flatnonzero(matrix[row])]
        known = [(model.vocabulary[name], value) for name, value in expressed if name in model.vocabulary]
        random = cell_generator(0, found.obs_names[row]).random(len(known))
        values = [value for _, value in known]
        if (len(values) - 1) % 7 == 0:  # an edge on a value, where rounding decides
            continue
        bins = [slow_bin(value, values, float(u)) for value, u in zip(values, random, strict=True)]
        genes = torch.tensor([[model.cls_id, *(number for number, _ in known)]])
        with torch.inference_mode():
            states = model.module.hidden_states(genes, torch.tensor([[model.no_value, *map(float, bins)]]))
        cell = states[-1][0, 0].numpy()
        np.testing.assert_allclose(vectors(found)[row], cell / np.linalg.norm(cell), rtol=0, atol=NEAR)


@pytest.mark.slow
def test_a_cells_embedding_depends_on_neither_company_nor_order(embedded: Embedded) -> None:
    data = anndata.read_h5ad(CELLS)
    together = vectors(embedded(CELLS))
    backwards = vectors(embedded(data[::-1].copy(), "--batch-tokens", 300, "--threads", 2))
    np.testing.assert_allclose(backwards[::-1], together, rtol=0, atol=NEAR, equal_nan=True)
    for row in (0, 17, 58):
        alone = vectors(embedded(data[[row]].copy()))
        np.testing.assert_allclose(alone[0], together[row], rtol=0, atol=NEAR)


@pytest.mark.slow
def test_so_does_that_of_a_cell_of_which_not_all_is_read(embedded: Embedded) -> None:
    data = anndata.read_h5ad(CELLS)
    together = embedded(CELLS, "--max-length", 20)
    assert (together.obs["scgpt_status"][:59] == "sampled").all()
    backwards = vectors(embedded(data[::-1].copy(), "--max-length", 20, "--batch-tokens", 50))
    np.testing.assert_allclose(backwards[::-1], vectors(together), rtol=0, atol=NEAR, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize(("cells", "values"), [(1, 10**6), (7, 10**6), (2_048, 300)])
def test_batches_of_the_file_do_not_change_the_result(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch, cells: int, values: int
) -> None:
    whole = vectors(embedded(CELLS))
    monkeypatch.setattr(cells_file, "MOST_CELLS", cells)
    monkeypatch.setattr(cells_file, "MOST_VALUES", values)
    np.testing.assert_allclose(vectors(embedded(CELLS)), whole, rtol=0, atol=NEAR, equal_nan=True)


@pytest.mark.slow
def test_the_seed_decides_and_the_middle_needs_none(embedded: Embedded) -> None:
    first, again, other = (vectors(embedded(CELLS, "--seed", seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.nanmax(np.abs(first - other)) > 0.01
    one, two = (vectors(embedded(CELLS, "--ties", "middle", "--seed", seed)) for seed in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_every_embedding_has_length_one(embedded: Embedded) -> None:
    found = vectors(embedded(CELLS))
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found[:59], axis=1), 1, atol=1e-6)


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(run_tool: Run, tmp_path: Path) -> None:
    for name in ("first", "second"):
        outputs = ("--output", tmp_path / f"{name}.h5ad", "--summary", tmp_path / f"{name}.tsv")
        assert run_tool("embed_cells", "--cells", CELLS, "--model", MODEL, *outputs)[0] == 0
    for suffix in ("h5ad", "tsv"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()


@pytest.mark.slow
def test_counts_and_their_normalised_logarithm_have_nearly_the_same_embeddings(embedded: Embedded) -> None:
    """The same but where an edge of bins falls on a value."""
    data = anndata.read_h5ad(CELLS)
    raw = vectors(embedded(data.copy()))
    counts = data.X.toarray()
    data.X = csr_matrix(np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4))
    normalised = embedded(data)
    known = normalised.obs["scgpt_genes"].to_numpy()
    exact = (known - 1) % 7 != 0
    np.testing.assert_allclose(vectors(normalised)[exact], raw[exact], rtol=0, atol=NEAR, equal_nan=True)
    assert (vectors(normalised)[:59] * raw[:59]).sum(axis=1).min() > 0.99


@pytest.mark.slow
def test_what_was_found_and_left_out_is_told(run_tool: Run, tmp_path: Path) -> None:
    data = anndata.read_h5ad(CELLS)
    data.var["twice"] = ["CD14" if symbol == "VCAN" else symbol for symbol in data.var["gene_symbol"]]
    data.write_h5ad(tmp_path / "in.h5ad")
    output, summary = tmp_path / "out.h5ad", tmp_path / "out.tsv"
    arguments = ("--cells", tmp_path / "in.h5ad", "--model", MODEL, "--output", output, "--summary", summary)
    code, said, _ = run_tool("embed_cells", *arguments, "--max-length", 90, "--gene-column", "twice")
    assert code == 0
    table = pd.read_csv(summary, sep="\t")
    found = anndata.read_h5ad(output)
    assert table["id"].tolist() == found.obs_names.tolist()
    assert table["status"].tolist() == found.obs["scgpt_status"].tolist()
    assert table["genes_in_vocabulary"].tolist() == found.obs["scgpt_genes"].tolist()
    assert table["genes"].tolist() == (data.X.toarray() > 0).sum(axis=1).tolist()
    assert table["genes_read"].tolist() == np.minimum(table["genes_in_vocabulary"], 89).tolist()
    assert np.isnan(vectors(found)[-1]).all()
    assert not np.isnan(vectors(found)[:-1]).any()
    sampled = int((table["status"] == "sampled").sum())
    for line in (
        "Genes: 123 of 128 in 'twice' are known to the model",
        "Values: X of 60 cells, raw counts (whole numbers)",
        "Embedded 59 of 60 cells",
        "genes with a name that another has too, each read by itself: 1",
        f"of which a random choice was read: {sampled}",
        "whose embedding is NaN: 1",
    ):
        assert line in said
    facts = json.loads(found.uns["dnalm_cells"])
    assert facts["counts"]["matched_genes"] == 123
    assert facts["counts"]["no_gene_cells"] == 1
    assert facts["options"] == {
        "seed": 0,
        "ties": "random",
        "max_length": 90,
        "dtype": "float32",
        "matrix": "X",
        "gene_column": "twice",
    }
    assert facts["model"]["sha256"] == open_model(MODEL).sha256()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (np.log1p, "X of 60 cells, normalised values (not whole numbers)"),
        (lambda counts: counts + 0.5, "Warning: no value is zero"),
    ],
)
def test_what_the_values_are_is_told(
    run_tool: Run, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], sentence: str
) -> None:
    data = anndata.read_h5ad(CELLS)
    data.X = csr_matrix(change(data.X.toarray()))
    data.write_h5ad(tmp_path / "in.h5ad")
    arguments = ("--cells", tmp_path / "in.h5ad", "--model", MODEL, "--output", tmp_path / "out.h5ad")
    code, said, _ = run_tool("embed_cells", *arguments)
    assert code == 0
    assert sentence in said


@pytest.mark.slow
def test_bfloat16_is_close_and_says_how_close(run_tool: Run, tmp_path: Path) -> None:
    found = {}
    for dtype in ("float32", "bfloat16"):
        arguments = ("--cells", CELLS, "--model", MODEL, "--dtype", dtype, "--output", tmp_path / dtype)
        code, said, _ = run_tool("embed_cells", *arguments)
        assert code == 0
        found[dtype] = vectors(anndata.read_h5ad(tmp_path / dtype))
    cosines = (found["float32"] * found["bfloat16"]).sum(axis=1)[:59]
    assert 0.99 < cosines.min() < 1
    measured = float(said.split("cosine with float32 at least ")[1].split()[0])
    assert measured == pytest.approx(cosines[:16].min(), abs=2e-6)


@pytest.mark.slow
def test_scanpy_finds_neighbours(embedded: Embedded) -> None:
    import scanpy

    data = embedded(CELLS)
    data = data[data.obs["scgpt_status"] != "no_gene"].copy()
    # Its other method compiles for ten seconds; test_embedding.py has it on an h5ad of this suite.
    scanpy.pp.neighbors(data, n_neighbors=5, use_rep="X_scGPT", method="gauss", transformer="sklearn")
    assert data.obsp["connectivities"].shape == (59, 59)


@pytest.mark.slow
def test_the_map_takes_the_embeddings_and_leaves_out_what_has_none(
    embedded: Embedded, run_tool: Run, tmp_path: Path
) -> None:
    embedded(CELLS)
    arguments = ("--embeddings", tmp_path / "out.h5ad", "--color-by", "kind", "--output", tmp_path / "map.png")
    code, said, _ = run_tool("project", *arguments, "--table", tmp_path / "map.tsv")
    assert code == 0
    assert "Read 59 embeddings of 32 dimensions: h5ad, matrix obsm/X_scGPT" in said
    assert "Records without an embedding, left out: 1" in said
    table = pd.read_csv(tmp_path / "map.tsv", sep="\t")
    assert table["id"].tolist() == [f"cell_{number}" for number in range(1, 60)]
    code, said, _ = run_tool("project", *arguments, "--matrix", "X")
    assert code == 0
    assert "Read 60 embeddings of 128 dimensions: h5ad, matrix X" in said


@pytest.mark.slow
def test_it_needs_no_more_than_its_requirements(tmp_path: Path) -> None:
    """As in an environment made of `requirements_cells`: without what other tools need."""
    others = "transformers huggingface_hub Bio pysam sklearn matplotlib pyarrow umap onnx onnxruntime"
    script = REPOSITORY / "scripts" / "dnalm_embed_cells.py"
    program = f"import runpy, sys; sys.modules.update(dict.fromkeys({others!r}.split())); sys.argv = sys.argv[1:]\n"
    program += "sys.path.insert(0, sys.argv[0].rpartition('/')[0]); runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = ["--cells", str(CELLS), "--model", str(MODEL), "--output", str(tmp_path / "out.h5ad")]
    done = subprocess.run([sys.executable, "-c", program, script, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
