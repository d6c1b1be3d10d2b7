"""How fast cells are embedded: ratios of CPU time, measured in one run, one thread, interleaved, median of the rounds.

    python tests/benchmarks/cells.py --rounds 3 --output benchmark-results/cells.json

A table of the same, with the targets, is written beside the JSON file.

The model has random weights in the shape of the published scGPT (hidden size 512, 12 layers, 8 heads) with fewer genes,
the cells have 150 to 1,000 expressed ones. The yardstick is the published algorithm as its authors' loop runs it, written
anew: the whole matrix dense, 16 cells at once in the order of the file (the authors' 64 take several GB), padded to their
longest, torch's own encoder with its quick path, and every token's output computed. Memory is that of whole jobs, of few
and of many cells, with a tiny model.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.engine.cells import CellEmbedder
from dnalm.engine.devices import prepare_machine
from dnalm.formats.cells_file import CellsReader
from dnalm.methods.expression_bins import cell_generator, cell_tokens
from dnalm.methods.gene_names import matched
from dnalm.models import scgpt
from dnalm.models.model_file import write_model_file
from dnalm.models.sources import open_model

REPOSITORY = Path(__file__).parent.parent.parent
GENES = 3_000
HIDDEN, LAYERS, HEADS = 512, 12, 8
BATCH = 16  # cells at once in the authors' loop
MOST_TOKENS = 900
FEW_CELLS, MANY_CELLS = 2_000, 40_000  # of jobs whose memory is compared
TARGETS = {"ours / the published loop": ">= 1.0", "memory of 40,000 cells / 2,000 cells": "<= 1.1"}
JOB = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
try: runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended: assert not ended.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--output", type=Path, help="JSON file of the ratios; a table is written beside it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model.safetensors")
        write_cells(folder / "cells.h5ad", arguments.cells)
        variants = make_variants(folder)
        seconds: dict[str, list[float]] = {variant: [] for variant in variants}
        for number in range(arguments.rounds):
            for variant, run in variants.items():
                start = time.process_time()
                run()
                seconds[variant].append(time.process_time() - start)
            print(f"round {number + 1} of {arguments.rounds} done", flush=True)
        few, many = (memory(folder, cells) for cells in (FEW_CELLS, MANY_CELLS))
    taken = {variant: statistics.median(found) for variant, found in seconds.items()}
    measured = {
        "ours / the published loop": taken["published loop"] / taken["ours"],
        "share of reading and binning in ours": taken["reading and binning"] / taken["ours"],
        "memory of 40,000 cells / 2,000 cells": many / few,
    }
    results = {name: {"measured": round(value, 6), "target": TARGETS.get(name)} for name, value in measured.items()}
    table = "ratio\tmeasured\ttarget\n"
    for name, result in results.items():
        table += f"{name}\t{result['measured']:.7g}\t{result['target'] or ''}\n"
    print(table.expandtabs(52))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        arguments.output.with_suffix(".tsv").write_text(table)


def write_model(path: Path) -> None:
    """Write a scGPT of random weights."""
    vocabulary = {f"GENE{number}": number for number in range(GENES)}
    vocabulary |= {token: GENES + number for number, token in enumerate(("<pad>", "<cls>", "<eoc>"))}
    config = {"embsize": HIDDEN, "nlayers": LAYERS, "nheads": HEADS, "d_hid": HIDDEN, "pad_token": "<pad>"}
    torch.manual_seed(0)
    module = scgpt.CellEncoder(scgpt.Sizes(len(vocabulary), HIDDEN, LAYERS, HEADS, HIDDEN, GENES))
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.05)
    for name, parameter in module.named_parameters():
        if name.endswith("in_proj_bias"):
            nn.init.zeros_(parameter)
    tokenizer = {"vocab.json": vocabulary}
    write_model_file(path, module.state_dict(), config | {"pad_value": -2}, tokenizer, name="random scGPT")


def write_cells(path: Path, count: int) -> None:
    """Write counts of so many cells, each with 150 to 1,000 genes."""
    random = np.random.default_rng(0)
    expressed = random.integers(150, 1_001, count)
    matrix = csr_matrix(
        (
            random.poisson(2, expressed.sum()).astype(np.float32) + 1,
            np.concatenate([np.sort(random.choice(GENES, number, replace=False)) for number in expressed]),
            np.concatenate([[0], np.cumsum(expressed)]),
        ),
        shape=(count, GENES),
    )
    obs = pd.DataFrame(index=[f"cell{number}" for number in range(count)])
    var = pd.DataFrame(index=[f"GENE{number}" for number in range(GENES)])
    anndata.AnnData(matrix, obs=obs, var=var).write_h5ad(path)


def make_variants(folder: Path) -> dict[str, Callable[[], object]]:
    """Return what is compared."""
    machine = prepare_machine("cpu", 1, None)
    model = scgpt.load(open_model(folder / "model.safetensors"))
    embedder, plain = CellEmbedder(model, machine), PublishedModel(model).eval()

    def read() -> list[object]:
        with CellsReader(folder / "cells.h5ad", None, folder) as cells:
            ids = matched(list(cells.genes.index), model.vocabulary)
            return [
                cell_tokens(
                    ids[batch.values.indices[slice(*batch.values.indptr[row : row + 2])]],
                    batch.values.data[slice(*batch.values.indptr[row : row + 2])],
                    cls_id=model.cls_id,
                    no_value=model.no_value,
                    most_tokens=MOST_TOKENS,
                    random=cell_generator(0, name),
                )
                for batch in cells
                for row, name in enumerate(batch.names)
            ]

    return {
        "published loop": lambda: published_loop(plain, model, folder / "cells.h5ad"),
        "ours": lambda: embedder.embed(read()),  # type: ignore[arg-type]
        "reading and binning": read,
    }


class PublishedModel(nn.Module):
    """The same weights in torch's own encoder."""

    def __init__(self, model: scgpt.CellModel) -> None:
        super().__init__()
        self.own = model.module
        layer = nn.TransformerEncoderLayer(HIDDEN, HEADS, HIDDEN, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS)
        self.encoder.load_state_dict(model.module.transformer_encoder.state_dict())

    def forward(self, genes: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """Return the first token's output."""
        states: Tensor = self.encoder(self.own.embed(genes, values), src_key_padding_mask=padding)
        return functional.normalize(states[:, 0], dim=1)


def published_loop(plain: PublishedModel, model: scgpt.CellModel, path: Path) -> list[Tensor]:
    """Embed all cells as the authors do: a dense matrix, bins cell by cell, many cells in order at once."""
    data = anndata.read_h5ad(path)
    matrix = data.X.toarray()
    ids = np.array([model.vocabulary[name] for name in data.var_names])
    found = []
    for first in range(0, len(matrix), BATCH):
        rows = []
        for row in matrix[first : first + BATCH]:
            genes = np.flatnonzero(row)
            values = row[genes]
            edges = np.quantile(values, np.linspace(0, 1, 50))
            left, right = np.digitize(values, edges), np.digitize(values, edges, right=True)
            binned = np.ceil(np.random.rand(len(values)) * (right - left) + left)
            kept = np.arange(len(genes))
            if len(genes) >= MOST_TOKENS:
                kept = np.random.permutation(len(genes))[: MOST_TOKENS - 1]
            rows.append((np.r_[model.cls_id, ids[genes[kept]]], np.r_[model.no_value, binned[kept]]))
        longest = max(len(genes) for genes, _ in rows)
        genes_padded = torch.full((len(rows), longest), model.pad_id)
        values_padded = torch.full((len(rows), longest), float(model.no_value))
        for number, (genes, values) in enumerate(rows):
            genes_padded[number, : len(genes)] = torch.from_numpy(genes)
            values_padded[number, : len(values)] = torch.from_numpy(values)
        with torch.no_grad():
            found.append(plain(genes_padded, values_padded, genes_padded == model.pad_id))
    return found


def memory(folder: Path, cells: int) -> int:
    """Return the most memory, in kilobytes, that a job of so many cells held."""
    source, tiny = folder / "many.h5ad", REPOSITORY / "test-data" / "scgpt.safetensors"
    names = [
        name for name in json.loads((tiny.parent / "published_scgpt" / "vocab.json").read_text()) if name[0] != "<"
    ]
    with h5py.File(source, "w") as file:  # anndata would hold it all
        rows = np.arange(cells * 40).reshape(cells, 40) % len(names)
        anndata.io.write_elem(file, "obs", pd.DataFrame(index=[f"c{number}" for number in range(cells)]))
        anndata.io.write_elem(file, "var", pd.DataFrame(index=names))
        matrix = csr_matrix(
            (np.ones(cells * 40, dtype=np.float32), np.sort(rows, axis=1).ravel(), np.arange(cells + 1) * 40),
            shape=(cells, len(names)),
        )
        anndata.io.write_elem(file, "X", matrix)
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    script = REPOSITORY / "tools" / "scripts" / "dnalm_embed_cells.py"
    arguments = ["--cells", source, "--model", tiny, "--output", folder / "out.h5ad", "--threads", "1"]
    arguments += ["--summary", folder / "out.tsv"]
    command = [sys.executable, "-c", JOB, str(script), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
