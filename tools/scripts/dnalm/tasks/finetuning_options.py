"""What a user chooses of a fine-tuning, and what contradicts."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dnalm.errors import UserError
from dnalm.models.head_config import Task

Method = Literal["probe", "lora", "full"]
Split = Literal["random", "group", "record", "given"]

# Measured on small models to learn quickly without diverging; adapters start at nothing and take larger steps.
LEARNING_RATES: dict[Method, float] = {"probe": 0.0, "lora": 1e-3, "full": 1e-4}
# Changing one of these changes what a checkpoint would go on with.
DECISIVE = [
    "task",
    "method",
    "split",
    "validation_fraction",
    "test_fraction",
    "class_weights",
    "rank",
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
class FinetuningOptions:
    """What a user chooses; the names are those of `dnalm_finetune.py --help`."""

    output: Path
    sequences: list[Path]
    model: Path
    labels: Path | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str = "split"
    class_names: str | None = None
    unmatched: Literal["drop", "fail"] = "drop"
    task: Task = "classify"
    method: Method = "probe"
    split: Split = "random"
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    class_weights: Literal["none", "balanced"] = "none"
    baselines: Literal["all", "none"] = "all"
    rank: int = 8
    epochs: float = 10.0
    max_steps: int | None = None
    batch_size: int = 16
    gradient_accumulation: int = 1
    learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.05
    patience: int = 3
    evaluate_every: int | None = None
    dtype: str = "float32"
    seed: int = 0
    time_limit: float | None = None
    resume_from: Path | None = None
    name: str | None = None
    checkpoint: Path | None = None
    metrics: Path | None = None
    predictions: Path | None = None
    records: Path | None = None
    log: Path | None = None
    figure: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None


def refuse_contradictions(options: FinetuningOptions) -> None:
    """Refuse choices that contradict each other."""
    if options.split == "group" and not options.group_column:
        raise UserError("The split 'group' needs the column of the groups; name it, or choose another split.")
    if options.group_column and options.split in {"random", "record"}:
        raise UserError(f"A column of groups is for the splits group and given; leave it out of '{options.split}'.")
    if options.validation_fraction + options.test_fraction > 0.9:
        raise UserError(
            f"Validation and test together take {options.validation_fraction + options.test_fraction:g} of the sequences; "
            "leave at least 0.1 to train on."
        )
    if options.method == "probe" and options.resume_from:
        raise UserError("A probe has no checkpoint to go on from; choose the method that the checkpoint is of.")
    if options.task != "classify" and options.class_weights != "none":
        raise UserError("Weights of classes are for the task classify; leave them out.")


def filled(options: FinetuningOptions) -> FinetuningOptions:
    """Return the options with the method's own learning rate where the user chose none."""
    if options.learning_rate is not None:
        return options
    return replace(options, learning_rate=LEARNING_RATES[options.method])
