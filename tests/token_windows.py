"""Random windows of tokens, and batches of them, for tests of training."""

from typing import Any

import numpy as np
from dnalm.engine.training_data import Batching, BatchPlan, Masking, TokenizedWindows, TrainingBatches

MASK, PAD = 4, 3
LENGTHS = np.random.default_rng(9).integers(10, 60, 45).tolist()


def windows_of(lengths: list[int], seed: int = 0, weighted: bool = False) -> TokenizedWindows:
    """Tokens of letters behind a start, some of which are N and so no base."""
    generator = np.random.default_rng(seed)
    ids, bases = [], []
    for length in lengths:
        letters = generator.integers(5, 9, length)
        unknown = generator.random(length) < 0.05
        ids.append(np.concatenate([[1], np.where(unknown, 0, letters)]))
        bases.append(np.concatenate([[0], np.where(unknown, 0, 1)]))
    count = sum(lengths) + len(lengths)
    weights = generator.choice([0.1, 1.0], count) if weighted else np.ones(count)
    return TokenizedWindows(
        np.concatenate(ids).astype(np.int32),
        np.concatenate(bases).astype(np.uint16),
        weights.astype(np.float32),
        np.cumsum([0, *(length + 1 for length in lengths)]),
    )


def batches_of(
    windows: TokenizedWindows, batching: Batching, size: int = 4, masked: bool = False, **options: Any
) -> TrainingBatches:
    masking = Masking(MASK, np.arange(5, 9)) if masked else None
    plan = BatchPlan(batching, size, int(windows.lengths.max()), seed=1)
    return TrainingBatches(windows, plan, PAD, masking, **options)
