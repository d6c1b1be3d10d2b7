"""What a user chooses of the training of a segmenter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnalm.engine.segment_training import LossKind

# Changing one of these changes what a checkpoint would go on with.
DECISIVE = [
    "window",
    "loss",
    "backbone",
    "strands",
    "validation_fraction",
    "test_fraction",
    "batch_size",
    "gradient_accumulation",
    "learning_rate",
    "weight_decay",
    "warmup",
    "epochs",
    "max_steps",
    "evaluate_every",
    "dtype",
    "seed",
]


@dataclass(frozen=True)
class SegmentFinetuningOptions:
    """What a user chooses; the names are those of `dnalm_finetune_segments.py --help`."""

    model: Path
    genome: Path
    annotation: Path
    output: Path
    features: str | None = None
    regions: Path | None = None
    window: int | None = None
    strands: Literal["both", "forward"] = "both"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    loss: LossKind = "focal"
    backbone: Literal["trained", "frozen"] = "trained"
    epochs: float = 20.0
    max_steps: int | None = None
    batch_size: int = 8
    gradient_accumulation: int = 1
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warmup: float = 0.05
    patience: int = 5
    evaluate_every: int | None = None
    dtype: str = "float32"
    seed: int = 0
    time_limit: float | None = None
    resume_from: Path | None = None
    name: str | None = None
    checkpoint: Path | None = None
    log: Path | None = None
    figure: Path | None = None
    metrics: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None
