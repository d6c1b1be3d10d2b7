"""What a user chooses of a pretraining."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dnalm.errors import UserError
from dnalm.models.presets import PRESETS, Objective

# Changing one of these changes what a checkpoint would go on with.
DECISIVE = [
    "preset",
    "objective",
    "window",
    "stride",
    "split",
    "validation_fraction",
    "max_n",
    "soft_masked_weight",
    "reverse_complement",
    "batching",
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
class PretrainingOptions:
    """What a user chooses; the names are those of `dnalm_pretrain.py --help`. None stands for the preset's."""

    output: Path
    sequences: list[Path] | None = None
    genome: Path | None = None
    regions: Path | None = None
    preset: str = "demo"
    model_config: Path | None = None
    continue_from: Path | None = None
    tokenizer: list[Path] | None = None
    objective: Objective | None = None
    window: int | None = None
    stride: int | None = None
    max_n: float = 0.1
    soft_masked_weight: float = 1.0
    reverse_complement: bool = False
    split: Literal["random", "block", "record"] = "block"
    validation_fraction: float = 0.1
    batching: Literal["auto", "padded", "grouped", "packed"] = "auto"
    epochs: float | None = None
    max_steps: int | None = None
    batch_size: int | None = None
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
    log: Path | None = None
    figure: Path | None = None
    card: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None


def refuse_contradictions(options: PretrainingOptions) -> None:
    """Refuse choices that contradict each other."""
    if (options.sequences is None) == (options.genome is None) or (options.genome is None) != (options.regions is None):
        raise UserError("Give either sequences, or a genome together with regions.")
    if options.continue_from and (options.tokenizer or options.model_config):
        raise UserError("A model that is continued brings its config and tokenizer; give neither.")
    if not (PRESETS[options.preset].config or options.model_config or options.continue_from or options.resume_from):
        raise UserError(
            f"The recipe '{options.preset}' has no model of its own; give a config.json, a model to continue, or choose "
            "another recipe."
        )
    if not 0 < options.validation_fraction < 1:
        raise UserError(f"The share of validation is {options.validation_fraction}; use one between 0 and 1.")


def filled(options: PretrainingOptions) -> PretrainingOptions:
    """Return the options with the preset's where the user chose nothing."""
    preset = PRESETS[options.preset]
    window = options.window or preset.window
    return replace(
        options,
        objective=options.objective or preset.objective,
        window=window,
        stride=options.stride or window,
        epochs=options.epochs or preset.epochs,
        batch_size=options.batch_size or preset.batch_size,
        # 0 is a choice too.
        learning_rate=preset.learning_rate if options.learning_rate is None else options.learning_rate,
    )
