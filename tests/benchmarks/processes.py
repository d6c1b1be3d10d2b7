"""What `--processes` gains: ratios of wall time of whole jobs, measured in one run, interleaved, median of the rounds.

    python tests/benchmarks/processes.py --rounds 5 --output benchmark-results/processes.json

The jobs embed the same sequences with as many processes times threads as `--slots`; the time that a process takes to start
and to load the model is part of them. The model is that of the embedding benchmark: random weights, 40 M parameters.
Other work on the machine falls on all of them, most on the one with several threads: they wait for each other.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata
import numpy as np
from embedding import SCRIPTS, write_model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequences", type=int, default=1_000)
    parser.add_argument("--slots", type=int, default=2, help="processors that a job has")
    parser.add_argument("--output", type=Path, help="JSON file of the ratios; a table is written beside it")
    arguments = parser.parse_args()
    shared = {f"{arguments.slots} threads": 1, f"{arguments.slots} processes": arguments.slots}
    seconds: dict[str, list[float]] = {name: [] for name in shared}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder / "model")
        write_sequences(folder / "sequences.fasta", arguments.sequences)
        for number in range(arguments.rounds):
            for name, processes in shared.items():
                seconds[name].append(embed(folder, processes, arguments.slots))
            print(f"round {number + 1} of {arguments.rounds} done", flush=True)
        one, several = (anndata.read_h5ad(folder / f"{processes}.h5ad").X for processes in shared.values())
    threads, processes = (statistics.median(found) for found in seconds.values())
    results = {
        f"rate of {arguments.slots} processes / {arguments.slots} threads": threads / processes,
        "greatest difference / greatest number": float(np.abs(one - several).max() / np.abs(one).max()),
    }
    table = "ratio\tmeasured\n" + "".join(f"{name}\t{value:.4g}\n" for name, value in results.items())
    print(table.expandtabs(52))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        arguments.output.with_suffix(".tsv").write_text(table)


def write_sequences(path: Path, count: int) -> None:
    """Write random sequences of 60 to 600 bases."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(60, 601, count)
    records = (
        f">{number}\n{''.join(generator.choice(list('ACGT'), length))}\n" for number, length in enumerate(lengths)
    )
    path.write_text("".join(records))


def embed(folder: Path, processes: int, slots: int) -> float:
    """Return the seconds that a job takes."""
    given = ("--sequences", folder / "sequences.fasta", "--model", folder / "model", "--device", "cpu")
    outputs = ("--output", folder / f"{processes}.h5ad", "--threads", slots, "--processes", processes)
    start = time.monotonic()
    command = [sys.executable, SCRIPTS / "dnalm_embed.py", *given, *outputs]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
