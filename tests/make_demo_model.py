"""Train the demo model and compare it with Markov chains on the same windows.

    python tests/make_demo_model.py --sequences test-data/human.fasta.gz --output demo_model.safetensors

The model in test-data was trained so on the first million bases of human chr1 (GRCh38). A Markov chain of order k knows
the last k bases, counted on both strands of the training windows with ½ added to each count; like the model it knows
nothing before the window it is in, and predicts every base but N. The log is written beside the model.

The seed chooses the block that validates. Most of that megabase is segmental duplications, of which other blocks have
copies in training, which long chains know by heart; this block has none (the tool counts them).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "tools" / "scripts"))

import dnalm_pretrain
from dnalm.entry_point import run
from dnalm.tasks.pretraining_options import PretrainingOptions, filled
from dnalm.tasks.pretraining_windows import read_windows

ORDERS = range(7)
SMOOTHING = 0.5
OPTIONS = (
    *("--preset", "demo", "--window", "512", "--stride", "512", "--split", "block", "--validation-fraction", "0.1"),
    *("--reverse-complement", "--epochs", "8", "--batch-size", "8", "--learning-rate", "0.004", "--patience", "0"),
    *("--seed", "3", "--name", "dnalm-demo"),
)


def main() -> int:
    """Train, and print bits per base of every chain and of the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments, more = parser.parse_known_args()
    log = arguments.output.with_suffix(".tsv")
    words = [
        *OPTIONS,
        "--sequences",
        str(arguments.sequences),
        "--output",
        str(arguments.output),
        "--log",
        str(log),
        *more,
    ]
    options = PretrainingOptions(**vars(dnalm_pretrain.parser().parse_args(words)))
    windows = read_windows(filled(options))
    sides: dict[bool, list[NDArray[np.int64]]] = {False: [], True: []}
    for bases, validates in zip(windows.sequences, windows.validates.tolist(), strict=True):
        sides[validates] += between_n(CODES[np.frombuffer(bases, dtype=np.uint8)])
    both_strands = sides[False] + [3 - stretch[::-1] for stretch in sides[False]]
    counts = [count_words(both_strands, order) for order in ORDERS]
    chains = [bits_per_base(counts[: order + 1], sides[True]) for order in ORDERS]
    for order, bits in zip(ORDERS, chains, strict=True):
        print(f"Markov chain of order {order}: {bits:.4f} bits a base", flush=True)
    code = run(dnalm_pretrain.parser(), dnalm_pretrain.main, words)
    if code == 0:
        rows = [line.split("\t") for line in log.read_text().splitlines()]
        column = rows[0].index("bits_per_base")
        model = min(float(row[column]) for row in rows if row[2] == "validation")
        print(
            f"Of {sum(map(len, sides[True])):,} bases held out the model needs {model:.4f} bits a base, the best Markov "
            f"chain (order {int(np.argmin(chains))}) {min(chains):.4f}"
        )
    return code


CODES = np.full(256, -1, dtype=np.int64)
CODES[np.frombuffer(b"ACGT", dtype=np.uint8)] = np.arange(4)


def between_n(codes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the stretches of a window that have no N."""
    stretches = (piece[piece >= 0] for piece in np.split(codes, np.flatnonzero(codes < 0)))
    return [stretch for stretch in stretches if len(stretch)]


def count_words(sequences: list[NDArray[np.int64]], order: int) -> NDArray[np.float64]:
    """Return how often each base follows each word of `order` bases; shape (4 ** order, 4), ½ added."""
    counts = np.full((4**order, 4), SMOOTHING)
    for codes in sequences:
        words, bases = contexts(codes, order)
        np.add.at(counts, (words, bases), 1)
    return counts


def contexts(codes: NDArray[np.int64], order: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the word before each base that has a whole one, and the base."""
    count = max(len(codes) - order, 0)
    words = np.zeros(count, dtype=np.int64)
    for place in range(order):
        words = 4 * words + codes[place : place + count]
    return words, codes[order:]


def bits_per_base(counts: list[NDArray[np.float64]], sequences: list[NDArray[np.int64]]) -> float:
    """Return -log2 p a base of the chain of the highest order; at the start of a stretch lower ones stand in."""
    highest = len(counts) - 1
    bits = total = 0.0
    for codes in sequences:
        for place in range(min(highest, len(codes))):
            words, bases = contexts(codes[: place + 1], place)
            bits -= float(np.log2(counts[place][words, bases] / counts[place][words].sum(axis=1)).sum())
            total += len(bases)
        words, bases = contexts(codes, highest)
        bits -= float(np.log2(counts[highest][words, bases] / counts[highest][words].sum(axis=1)).sum())
        total += len(bases)
    return bits / total


if __name__ == "__main__":
    sys.exit(main())
