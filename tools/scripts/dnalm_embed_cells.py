#!/usr/bin/env python3
"""Embed cells by the genes that they express, with scGPT: one vector a cell."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_embed_cells", "Embed cells by the genes that they express, with scGPT: one vector a cell."
    )
    options.add_argument("--cells", type=Path, required=True, help="AnnData file (h5ad), raw counts or normalised")
    options.add_argument("--model", type=Path, required=True, help="scGPT as model file (.safetensors) or folder")
    options.add_argument(
        "--gene-column",
        default="auto",
        help="column of var with gene symbols; index: the row names; auto: what has most symbols of the model",
    )
    options.add_argument("--layer", help="read this layer, or raw, instead of X")
    options.add_argument("--seed", type=number_between(int, 0, 2**31 - 1), default=0, help="of everything random")
    options.add_argument(
        "--ties",
        choices=["random", "middle"],
        default="random",
        help="the bin of a value that several would take: drawn, as in training, or the middle one",
    )
    options.add_argument(
        "--max-length",
        type=number_between(int, 2, 100_000),
        default=1_200,
        help="tokens read of a cell; of more genes a random choice",
    )
    options.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="numbers of the model")
    options.add_argument("--output", type=Path, required=True, help="copy of the cells' file with obsm['X_scGPT']")
    options.add_argument("--summary", type=Path, help="table with one line a cell")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.cell_embedding import CellEmbeddingOptions
    from dnalm.tasks.cell_embedding import embed_cells as run_task

    run_task(CellEmbeddingOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
