"""Make test-data/remote_embeddings.h5ad: what a job of dnalm_remote_embed left that a provider of the hub had answered.

The vectors are those of the tests' own server (tests/endpoint.py), which counts letters. Beside it a file of two sequences,
of which one is too long for that server.

    python tests/make_remote_embeddings.py --output test-data
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tools" / "scripts"))

from dnalm.formats.answer_journal import KEY
from dnalm.formats.embeddings_file import H5adWriter
from dnalm.formats.fasta import FastaReader
from dnalm.models.served import Endpoint
from dnalm.tasks.remote_embedding import Keys
from endpoint import pooled_vector

ENDPOINT = Endpoint("somebody/dna", model_id="somebody/dna", provider="hf-inference")


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    folder = parser.parse_args().output
    with FastaReader(folder / "two_genomes.fasta") as reader:
        records = list(reader)
    keys = Keys(ENDPOINT, "mean")
    columns: dict[str, list[Any]] = {
        "id": [record.id for record in records],
        "n_tokens": [0] * len(records),
        KEY: [keys.of(record.bases) for record in records],
    }
    with H5adWriter(folder / "remote_embeddings.h5ad") as writer:
        writer.append(columns, np.array([pooled_vector(record.bases) for record in records], dtype=np.float32))
        writer.finish({"tool": "dnalm_remote_embed", "made by": "tests/make_remote_embeddings.py"})
    mitochondrion = (folder / "human_mitochondrion.fasta").read_text()
    (folder / "human_mitochondrion_and_window.fasta").write_text(f"{mitochondrion}>window\n{records[0].bases}\n")


if __name__ == "__main__":
    main()
