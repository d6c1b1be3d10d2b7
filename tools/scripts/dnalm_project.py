#!/usr/bin/env python3
"""Map embeddings to two dimensions: a picture and a table."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_project", "Map embeddings to two dimensions: a picture and a table.", runs_a_model=False
    )
    options.add_argument(
        "--embeddings", type=Path, required=True, help="h5ad, parquet, tabular or npz, told apart by content"
    )
    options.add_argument(
        "--matrix", default="auto", help="of an h5ad, X or a key of obsm; auto: X_scGPT where there is one, or else X"
    )
    options.add_argument("--method", choices=["pca", "umap", "tsne"], default="pca", help="how the map is made")
    options.add_argument(
        "--color-by", metavar="COLUMN", help="column of the embeddings file, or name or number of one of the metadata"
    )
    options.add_argument("--metadata", type=Path, help="tab-separated table with a header line, joined by id")
    options.add_argument(
        "--metadata-id", metavar="COLUMN", default="1", help="name or number of the metadata's column with the ids"
    )
    options.add_argument(
        "--color-as",
        choices=["auto", "categories", "numbers"],
        default="auto",
        help="auto: text, and whole numbers of few values, are categories",
    )
    options.add_argument("--seed", type=number_between(int, 0, 2**31 - 1), default=0, help="of everything random")
    options.add_argument(
        "--scaling",
        choices=["none", "unit-length", "unit-variance"],
        default="none",
        help="of each vector to length 1, or of each dimension to variance 1",
    )
    options.add_argument(
        "--components",
        type=number_between(int, 2, 1_000),
        default=50,
        help="principal components from which UMAP and t-SNE are made",
    )
    options.add_argument(
        "--neighbors",
        type=number_between(int, 2, 1_000),
        default=15,
        help="UMAP: neighbours of a record, itself included",
    )
    options.add_argument(
        "--min-dist", type=number_between(float, 0, 0.99), default=0.1, help="UMAP: least distance of two points"
    )
    options.add_argument(
        "--perplexity", type=number_between(float, 1, 1_000), default=30, help="t-SNE: neighbours that count, roughly"
    )
    options.add_argument("--output", type=Path, required=True, help="picture of the map")
    options.add_argument("--figure-format", choices=["png", "pdf", "svg"], default="png", help="kind of the picture")
    options.add_argument("--title", help="of the picture, instead of method and number of records")
    options.add_argument(
        "--point-size",
        type=number_between(float, 0.1, 50),
        help="diameter in points (1/72 inch); by default it follows from the number of records",
    )
    options.add_argument("--table", type=Path, help="table with id, x, y and all other columns, one line a record")
    options.add_argument("--statistics", type=Path, help="table of explained variance and silhouette")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.projection import ProjectionOptions
    from dnalm.tasks.projection import project as run_task

    run_task(ProjectionOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
