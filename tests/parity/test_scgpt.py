"""scGPT against its reference implementation (data/scgpt/README.md says which, and how)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from conftest import Run
from dnalm.formats.cells_file import CellsReader
from dnalm.methods.expression_bins import CellTokens, bin_values, cell_generator, cell_tokens
from dnalm.methods.gene_names import matched
from dnalm.models import scgpt
from dnalm.models.pickled_weights import convert
from dnalm.models.sources import open_model
from safetensors.torch import load_file
from torch import Tensor

DATA = Path(__file__).parent / "data" / "scgpt"
EMBEDDINGS, STATES = 2e-6, 2e-5
SPELLINGS = ["plain", "flash", "flash within a wrapper", "several processes", "pickled"]
LAYERS = 3


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    """What the reference computed."""
    return load_file(DATA / "expected.safetensors")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], scgpt.CellModel]:
    """Load the model with its tensors named as one of the authors' programs names them."""

    def call(spelling: str) -> scgpt.CellModel:
        from dnalm.models.model_file import write_safetensors

        folder = tmp_path_factory.mktemp("scgpt")
        for name in ("args.json", "vocab.json"):
            shutil.copy(DATA / name, folder)
        tensors = load_file(DATA / ("model.safetensors" if spelling == "plain" else "model_flash.safetensors"))
        if spelling == "flash within a wrapper":
            tensors = {name.replace("self_attn.", "self_attn._impl."): tensor for name, tensor in tensors.items()}
        elif spelling == "several processes":
            tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
        if spelling == "pickled":
            torch.save(tensors, folder / "best_model.pt")
            convert(folder / "best_model.pt", folder / "model.safetensors")
        else:
            write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
        return scgpt.load(open_model(folder))

    return call


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_embeddings_equal_the_reference(
    load: Callable[[str], scgpt.CellModel], expected: dict[str, Tensor], spelling: str
) -> None:
    model = load(spelling)
    for group in ("main", "sampled", "cls_only"):
        genes, values = expected[f"{group}.gene"], expected[f"{group}.expr"]
        with torch.inference_mode():
            found = model.module(genes, values, genes != model.pad_id)
        assert largest(found - expected[f"{group}.embeddings"]) <= EMBEDDINGS


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_hidden_states_of_every_layer_equal_the_reference(
    load: Callable[[str], scgpt.CellModel], expected: dict[str, Tensor], spelling: str
) -> None:
    model = load(spelling)
    for group, layers in (("main", range(LAYERS + 1)), ("sampled", [LAYERS]), ("cls_only", range(LAYERS + 1))):
        genes, values = expected[f"{group}.gene"], expected[f"{group}.expr"]
        mask = genes != model.pad_id
        with torch.inference_mode():
            found = model.module.hidden_states(genes, values, mask)
        assert len(found) == LAYERS + 1
        for layer in layers:
            assert largest((found[layer] - expected[f"{group}.hidden_states.{layer}"])[mask]) <= STATES, layer


def test_a_cell_alone_equals_the_reference(load: Callable[[str], scgpt.CellModel], expected: dict[str, Tensor]) -> None:
    model = load("plain")
    for row, genes in enumerate(expected["main.gene"]):
        read = genes != model.pad_id
        with torch.inference_mode():
            found = model.module(genes[None, read], expected["main.expr"][row][None, read])
        assert largest(found[0] - expected["main.embeddings"][row]) <= EMBEDDINGS


class Given:
    """Hands out numbers that the reference drew."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.random = lambda count: numbers[:count]


def names_of_genes(cells: CellsReader) -> list[str]:
    return cells.genes["feature_name"].astype(object).fillna("").tolist()


def tokens_of(row: int, model: scgpt.CellModel, random: Any) -> CellTokens:
    """Return what is read of a cell of the fixture, from the file on."""
    with CellsReader(DATA / "counts.h5ad", None, DATA) as cells:
        (batch,) = cells
        ids = matched(names_of_genes(cells), model.vocabulary)
    span = slice(batch.values.indptr[row], batch.values.indptr[row + 1])
    known = ids[batch.values.indices[span]] >= 0
    genes, values = ids[batch.values.indices[span]][known], batch.values.data[span][known]
    return cell_tokens(genes, values, cls_id=model.cls_id, no_value=model.no_value, most_tokens=1_200, random=random)


def test_genes_of_the_file_have_the_references_ids(load: Callable[[str], scgpt.CellModel]) -> None:
    wanted = json.loads((DATA / "inputs.json").read_text())["gene_vocab_ids"]
    with CellsReader(DATA / "counts.h5ad", None, DATA) as cells:
        names = names_of_genes(cells)
    assert matched(names, load("plain").vocabulary).tolist() == wanted


def test_tokens_and_bins_of_every_cell_equal_the_reference_with_its_random_numbers(
    load: Callable[[str], scgpt.CellModel], expected: dict[str, Tensor]
) -> None:
    model = load("plain")
    for number, row in enumerate(expected["main.cells"].tolist()):
        read = expected["main.gene"][number] != model.pad_id
        uniform = expected["main.uniform"][number][read][1:].numpy()
        assert uniform.min(initial=0) >= 0
        found = tokens_of(row, model, Given(uniform))
        assert found.genes.tolist() == expected["main.gene"][number][read].tolist()
        assert found.values.tolist() == expected["main.expr"][number][read].tolist()


def test_drawn_bins_stay_where_the_references_may_be(
    load: Callable[[str], scgpt.CellModel], expected: dict[str, Tensor]
) -> None:
    model = load("plain")
    for number, row in enumerate(expected["main.cells"].tolist()):
        low, high = (expected[f"main.bin_{side}"][number].numpy() for side in ("low", "high"))
        for seed in range(5):
            bins = tokens_of(row, model, cell_generator(seed, f"cell {row}")).values[1:]
            used = slice(1, len(bins) + 1)
            assert (low[used] <= bins).all()
            assert (bins <= high[used]).all()


def test_cells_without_ties_equal_the_reference_from_file_to_file(
    run_tool: Run, expected: dict[str, Tensor], tmp_path: Path
) -> None:
    for seed in (0, 1):
        output = tmp_path / f"{seed}.h5ad"
        arguments = ("--cells", DATA / "counts.h5ad", "--model", DATA, "--seed", seed, "--output", output)
        code, _, problem = run_tool("embed_cells", *arguments)
        assert (code, problem) == (0, "")
        found = anndata.read_h5ad(output).obsm["X_scGPT"]
        rows = expected["main.cells"][expected["main.deterministic"]]
        assert len(rows) == 6
        wanted = expected["main.embeddings"][expected["main.deterministic"]].numpy()
        assert np.abs(found[rows.numpy()] - wanted).max() <= EMBEDDINGS


def test_the_logarithm_of_normalised_counts_has_the_same_bins(load: Callable[[str], scgpt.CellModel]) -> None:
    """Where no edge of bins falls on a value but for rounding, as it may if 7 divides the number of genes less one."""
    model, compared = load("plain"), 0
    with CellsReader(DATA / "counts.h5ad", None, DATA) as cells:
        ids = matched(names_of_genes(cells), model.vocabulary)
        (batch,) = cells
    for row in batch.values.toarray():
        counts = row[(ids >= 0) & (row > 0)]
        if len(counts) and (len(counts) - 1) % 7:
            normalised = np.log1p(counts / row.sum() * 1e4)
            np.testing.assert_array_equal(bin_values(counts, 0.3), bin_values(normalised, 0.3))
            compared += 1
    assert compared > 5
