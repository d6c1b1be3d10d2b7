"""Train the demo model and compare it with Markov chains on the same windows.

    python tests/make_demo_model.py --sequences test-data/human.fasta.gz --output demo_model.safetensors

The model in test-data was trained so on the first million bases of human chr1 (GRCh38). A Markov chain of order k knows
the last k bases, counted in the training windows with ½ added to each count; like the model it knows nothing before the
window it is in.

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
    parser.add_argument("--log", type=Path)
    arguments, more = parser.parse_known_args()
    words = [*OPTIONS, "--sequences", str(arguments.sequences), "--output", str(arguments.output), *more]
    words += ["--log", str(arguments.log)] if arguments.log else []
    options = PretrainingOptions(**vars(dnalm_pretrain.parser().parse_args(words)))
    windows = read_windows(filled(options))
    codes = [CODES[np.frombuffer(bases, dtype=np.uint8)] for bases in windows.sequences]
    training = [code for code, validates in zip(codes, windows.validates, strict=True) if not validates]
    validation = [code for code, validates in zip(codes, windows.validates, strict=True) if validates]
    counts = [count_words(training, order) for order in ORDERS]
    for order in ORDERS:
        print(
            f"Markov chain of order {order}: {bits_per_base(counts[: order + 1], validation):.4f} bits a base",
            flush=True,
        )
    return run(dnalm_pretrain.parser(), dnalm_pretrain.pretrain, words)


CODES = np.full(256, -1, dtype=np.int64)
CODES[np.frombuffer(b"ACGT", dtype=np.uint8)] = np.arange(4)


def count_words(sequences: list[NDArray[np.int64]], order: int) -> NDArray[np.float64]:
    """Return how often each base follows each word of `order` bases; shape (4 ** order, 4), ½ added."""
    counts = np.full((4**order, 4), SMOOTHING)
    for codes in sequences:
        words, bases = contexts(codes, order)
        np.add.at(counts, (words, bases), 1)
    return counts


def contexts(codes: NDArray[np.int64], order: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the word before each base that has a whole one without N, and the base."""
    count = len(codes) - order
    words = np.zeros(max(count, 0), dtype=np.int64)
    clean = codes[order:] >= 0
    for place in range(order):
        words = 4 * words + codes[place : place + count]
        clean &= codes[place : place + count] >= 0
    return words[clean], codes[order:][clean]


def bits_per_base(counts: list[NDArray[np.float64]], sequences: list[NDArray[np.int64]]) -> float:
    """Return -log2 p a base of the chain of the highest order; at the start of a window lower ones stand in."""
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
