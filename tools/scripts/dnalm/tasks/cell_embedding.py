"""Embed cells: look through the matrix, find its genes in the vocabulary, bin each cell's values, run the model."""

import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.cells import CellEmbedder
from dnalm.engine.devices import prepare_machine
from dnalm.errors import UserError, shown
from dnalm.formats.cells_file import INDEX, CellBatch, CellsReader, CellsWriter, listed
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.tables import TableWriter
from dnalm.methods.expression_bins import CellTokens, cell_generator, cell_tokens
from dnalm.methods.gene_names import matched, why_few_match
from dnalm.models import scgpt
from dnalm.models.sources import open_model
from dnalm.report.progress import Progress
from dnalm.report.provenance import versions

KEY = "X_scGPT"  # in obsm
STATUS, GENES = "scgpt_status", "scgpt_genes"  # columns of obs
NOTE = "dnalm_cells"  # in uns
STATUSES = ["ok", "sampled", "no_gene"]
FEW, TOO_FEW = 0.5, 0.1  # of the genes that match: below the first it is said, below the second refused
MANY_GENES = 100  # of a file; a matrix of so many without a zero is no matrix of counts
PACKAGES = ("torch", "safetensors", "numpy", "scipy", "h5py")


@dataclass(frozen=True)
class CellEmbeddingOptions:
    """What a user chooses; the names are those of `dnalm_embed_cells.py --help`."""

    cells: Path
    model: Path
    output: Path
    gene_column: str = "auto"
    layer: str | None = None
    seed: int = 0
    ties: str = "random"
    max_length: int = scgpt.CONTEXT_LENGTH
    dtype: str = "float32"
    summary: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None


def embed_cells(options: CellEmbeddingOptions) -> None:
    """Write a copy of the cells' file with `obsm['X_scGPT']`, and say on stdout what was done.

    Raises:
        UserError: cells, model or options cannot be used, or no gene of a cell is known to the model.
    """
    machine = prepare_machine(options.device, options.threads, options.batch_tokens, options.seed)
    print(f"Device: {machine.description}; {options.dtype}", flush=True)
    outputs = [options.output, *([options.summary] if options.summary else [])]
    with ExitStack() as stack:
        partials = stack.enter_context(whole_or_nothing(outputs, [options.cells, options.model]))
        cells = stack.enter_context(CellsReader(options.cells, options.layer, options.output.resolve().parent))
        model = scgpt.load(open_model(options.model))
        print(
            f"Model: {model.stored.name}, {scgpt.NAME}, {len(model.layers)} layers, hidden size {model.hidden_size}, "
            f"{len(model.vocabulary):,} genes and special tokens",
            flush=True,
        )
        column, gene_ids = _match_genes(cells, model, options.gene_column)
        counts: Counter[str] = Counter(genes=len(gene_ids), matched_genes=int((gene_ids >= 0).sum()))
        counts["repeated_genes"] = counts["matched_genes"] - len(np.unique(gene_ids[gene_ids >= 0]))
        _survey(cells, gene_ids)
        embedder = CellEmbedder(model, machine)
        progress = Progress("cells", lambda: cells.read / cells.cells)
        writer = stack.enter_context(CellsWriter(options.cells, partials[0], KEY, {STATUS: STATUSES}))
        summary = stack.enter_context(TableWriter(partials[1])) if options.summary else None
        deviation: float | None = None
        for batch in cells:
            tokens = _tokens(batch, gene_ids, model, options)
            known = [number for number, cell in enumerate(tokens) if cell.expressed]
            if known and deviation is None and options.dtype != "float32":
                deviation = embedder.change_precision(options.dtype, [tokens[number] for number in known])
                print(f"Precision: cosine with float32 at least {deviation:.6f} on the first cells", flush=True)
            vectors = np.full((len(tokens), model.hidden_size), np.nan, dtype=np.float32)
            if known:
                vectors[known] = embedder.embed([tokens[number] for number in known], progress.add)
            status = np.array([_status(cell) for cell in tokens], dtype=np.int64)
            of_vocabulary = np.array([cell.expressed for cell in tokens], dtype=np.int64)
            writer.append(vectors, {STATUS: status, GENES: of_vocabulary})
            if summary:
                summary.append(_columns(batch, tokens, status))
            counts["cells"] += len(tokens)
            for number, name in enumerate(STATUSES):
                counts[f"{name}_cells"] += int((status == number).sum())
        about_model = {
            "name": model.stored.name,
            "sha256": model.stored.sha256(),
            "licence": model.stored.licence,
            **({} if deviation is None else {"lowest_cosine_with_float32": deviation}),
        }
        facts = {
            "tool": "dnalm_embed_cells",
            "options": _choices(options, cells.matrix_name, column),
            "model": about_model,
            "device": machine.device.type,
            "counts": dict(counts),
            "versions": versions(PACKAGES),
        }
        writer.finish(NOTE, json.dumps(facts, sort_keys=True, allow_nan=False))
        _report(counts, facts)


def _match_genes(cells: CellsReader, model: scgpt.CellModel, wanted: str) -> tuple[str, NDArray[np.int64]]:
    """Return the column with the genes' names, and each gene's id in the model's vocabulary (-1: not in it).

    `auto` takes the column, or the row names, with the most names of the vocabulary, and says which.
    """
    known = {name: number for name, number in model.vocabulary.items() if number not in (model.pad_id, model.cls_id)}
    columns = _columns_of_names(cells)
    if wanted != "auto" and wanted not in columns:
        raise UserError(
            f"There is no column '{shown(wanted)}' with names of genes in '{cells.path.name}'; it has "
            f"{listed(list(columns))}."
        )
    ids = {name: matched(names, known) for name, names in columns.items() if wanted in ("auto", name)}
    column = max(ids, key=lambda name: int((ids[name] >= 0).sum()))
    found, total = int((ids[column] >= 0).sum()), len(ids[column])
    print(f"Genes: {found:,} of {total:,} in '{column}' are known to the model", flush=True)
    if found < TOO_FEW * total or not found:
        raise UserError(
            f"Only {found:,} of the {total:,} genes of '{cells.path.name}', called '{shown(columns[column][0])}' and so on "
            f"in '{column}', are known to the model: {why_few_match(columns[column], known)}."
        )
    if found < FEW * total:
        print(f"Warning: that is {found / total:.0%} alone; what is not known is not read")
    return column, ids[column]


def _columns_of_names(cells: CellsReader) -> dict[str, list[str]]:
    """Return what may be names of genes: the columns of texts and the row names; an empty text where none is given."""
    import pandas as pd

    genes = cells.genes
    columns = {
        str(name): values
        for name, values in genes.items()
        if not pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    }
    columns[INDEX] = genes.index.to_series()
    return {
        name: ["" if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)]
        for name, values in columns.items()
    }


def _survey(cells: CellsReader, gene_ids: NDArray[np.int64]) -> None:
    """Look through all cells before a model runs for hours, and say what the values are.

    Raises:
        UserError: a value is negative or no finite number, or no cell expresses a gene that is known.
    """
    whole, known, zeros = True, 0, 0
    of_vocabulary = (gene_ids >= 0).astype(np.float64)
    for batch in cells:
        values = batch.values
        wrong = ~np.isfinite(values.data) | (values.data < 0)
        if wrong.any():
            _refuse_value(cells, batch, int(np.argmax(wrong)))
        whole = whole and bool((values.data == np.floor(values.data)).all())
        zeros += values.shape[0] * values.shape[1] - values.nnz
        known += int((values @ of_vocabulary > 0).sum())
    kind = "raw counts (whole numbers)" if whole else "normalised values (not whole numbers)"
    print(f"Values: {cells.matrix_name} of {cells.cells:,} cells, {kind}", flush=True)
    if not zeros and len(gene_ids) >= MANY_GENES:
        print("Warning: no value is zero; where values are imputed every gene counts as expressed, unlike in training")
    if not known:
        raise UserError(
            f"No cell of '{cells.path.name}' expresses a gene that is known to the model; check the matrix."
        )


def _refuse_value(cells: CellsReader, batch: CellBatch, place: int) -> None:
    value = batch.values.data[place]
    row = int(np.searchsorted(batch.values.indptr, place, side="right")) - 1
    gene = cells.genes.index[batch.values.indices[place]]
    where = f"Cell '{shown(batch.names[row])}' has the value {value:g} of '{shown(gene)}' in {cells.matrix_name}"
    if np.isfinite(value):
        raise UserError(
            f"{where}: negative values come of scaling, which scGPT must not see; choose a layer with counts or their "
            "normalised logarithms."
        )
    raise UserError(f"{where}; every value must be a finite number: mend the matrix or choose another layer.")


def _tokens(
    batch: CellBatch, gene_ids: NDArray[np.int64], model: scgpt.CellModel, options: CellEmbeddingOptions
) -> list[CellTokens]:
    """Return what the model reads of each cell."""
    values, found = batch.values, []
    for row, name in enumerate(batch.names):
        span = slice(values.indptr[row], values.indptr[row + 1])
        ids = gene_ids[values.indices[span]]
        known = ids >= 0
        found.append(
            cell_tokens(
                ids[known],
                values.data[span][known],
                cls_id=model.cls_id,
                no_value=model.no_value,
                most_tokens=options.max_length,
                random=cell_generator(options.seed, name),
                middle=options.ties == "middle",
            )
        )
    return found


def _status(cell: CellTokens) -> int:
    """Return the place of a cell's status among all."""
    if not cell.expressed:
        return STATUSES.index("no_gene")
    return STATUSES.index("sampled" if cell.expressed > len(cell) - 1 else "ok")


def _columns(batch: CellBatch, tokens: list[CellTokens], status: NDArray[np.int64]) -> dict[str, list[Any]]:
    """Return the summary of some cells; a name of a cell may hold what no table can."""
    return {
        "id": [" ".join(name.split()) for name in batch.names],
        "status": [STATUSES[number] for number in status],
        "genes": np.diff(batch.values.indptr).tolist(),
        "genes_in_vocabulary": [cell.expressed for cell in tokens],
        "genes_read": [len(cell) - 1 for cell in tokens],
    }


def _choices(options: CellEmbeddingOptions, matrix: str, column: str) -> dict[str, Any]:
    """Return what decides over the numbers; paths and the machine's are none of it."""
    chosen = {name: getattr(options, name) for name in ("seed", "ties", "max_length", "dtype")}
    return chosen | {"matrix": matrix, "gene_column": column}


MEANINGS = {
    "repeated_genes": "genes with a name that another has too, each read by itself",
    "sampled_cells": "cells with more genes than the model takes, of which a random choice was read",
    "no_gene_cells": "cells without a gene that is known to the model, whose embedding is NaN",
}


def _report(counts: Counter[str], facts: dict[str, Any]) -> None:
    """Say what went in, what was left out, and what was run."""
    print(f"Embedded {counts['cells'] - counts['no_gene_cells']:,} of {counts['cells']:,} cells")
    for kind, meaning in MEANINGS.items():
        if counts[kind]:
            print(f"{meaning}: {counts[kind]:,}")
    print(f"Model SHA-256: {facts['model']['sha256']}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
