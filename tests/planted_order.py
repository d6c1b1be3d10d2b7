"""A task that counting cannot solve: two motifs in random DNA, of which the order decides.

    for name, bases, label in planted_order(1_000, seed=1): …

Every sequence has each motif once, on the same strand, at any place; the label is `first` where motif A comes before
motif B. All k-mers but the few at the motifs' borders are as frequent in one class as in the other.
"""

from collections.abc import Iterator

import numpy as np

MOTIFS = ("TTGACATA", "GCAGCTTC")
LABELS = ("first", "second")
LENGTH = 60


def planted_order(count: int, seed: int, length: int = LENGTH) -> Iterator[tuple[str, str, str]]:
    """Yield name, bases and label of so many sequences, the classes by turns."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        label = number % 2
        motifs = MOTIFS if label == 0 else MOTIFS[::-1]
        space = length - sum(map(len, motifs))
        while True:
            first, second = np.sort(generator.integers(0, space + 1, 2))
            background = "".join(generator.choice(list("ACGT"), space))
            bases = background[:first] + motifs[0] + background[first:second] + motifs[1] + background[second:]
            if all(bases.count(motif) == 1 for motif in MOTIFS):  # none arises by chance
                break
        yield f"planted_{number}", bases, LABELS[label]
