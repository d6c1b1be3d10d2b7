#!/usr/bin/env python3
"""Pretrain a DNA language model from sequences or a genome's regions."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run

# Of dnalm/models/presets.py, which is imported only when a job runs; a test holds both equal.
PRESETS = (
    *("demo", "mistral-dna-1m", "mistral-dna-17m", "tutorial-105m", "llama", "modernbert", "nt-v2-50m", "dnabert2"),
    "custom",
)
MOST = 2**31 - 1


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser("dnalm_pretrain", "Pretrain a DNA language model from sequences or a genome's regions.")
    data = options.add_argument_group("data")
    data.add_argument(
        "--sequences", type=Path, action="append", help="FASTA, or a table with a column sequence, text, seq or dna"
    )
    data.add_argument("--genome", type=Path, help="FASTA with the contigs that the regions name")
    data.add_argument("--regions", type=Path, help="BED or GFF3")
    data.add_argument("--window", type=number_between(int, 20, MOST), help="bases a window; the preset's if not given")
    data.add_argument(
        "--stride", type=number_between(int, 1, MOST), help="bases from one to the next; by default a window"
    )
    data.add_argument("--max-n", type=number_between(float, 0, 1), default=0.1, help="largest share of N in a window")
    data.add_argument(
        "--soft-masked-weight", type=number_between(float, 0, 1), default=1.0, help="of lower-case bases in the loss"
    )
    data.add_argument(
        "--reverse-complement", action="store_true", help="train on either strand of each window, by chance"
    )
    data.add_argument(
        "--split",
        choices=["random", "block", "record"],
        default="block",
        help="windows by chance, a run of neighbours, or whole records",
    )
    data.add_argument(
        "--validation-fraction", type=number_between(float, 0.0001, 0.9), default=0.1, help="share of windows"
    )
    model = options.add_argument_group("model")
    model.add_argument(
        "--preset",
        choices=PRESETS,
        default="demo",
        help="model, objective, tokenizer and batch together; custom: your own",
    )
    model.add_argument("--model-config", type=Path, help="config.json of the model to make, instead of the preset's")
    model.add_argument("--continue-from", type=Path, help="model to train further, instead of a new one")
    model.add_argument(
        "--tokenizer",
        type=Path,
        action="append",
        help="tokenizer.json, or vocab.txt and its settings; the preset's if not given",
    )
    model.add_argument("--objective", choices=["causal", "masked"], help="the preset's if not given")
    model.add_argument("--name", help="what people call the new model")
    training = options.add_argument_group("training")
    training.add_argument("--epochs", type=number_between(float, 0.001, 100_000), help="passes over the data")
    training.add_argument("--max-steps", type=number_between(int, 1, MOST), help="steps at most")
    training.add_argument("--batch-size", type=number_between(int, 1, 100_000), help="windows a step and process")
    training.add_argument(
        "--gradient-accumulation", type=number_between(int, 1, 10_000), default=1, help="batches a step"
    )
    training.add_argument("--learning-rate", type=number_between(float, 0, 1), help="its highest")
    training.add_argument("--weight-decay", type=number_between(float, 0, 1), default=0.01, help="of AdamW")
    training.add_argument("--warmup", type=number_between(float, 0, 1), default=0.05, help="share of the steps")
    training.add_argument(
        "--patience",
        type=number_between(int, 0, 10_000),
        default=3,
        help="evaluations without gain that end it; 0: none do",
    )
    training.add_argument(
        "--evaluate-every", type=number_between(int, 1, MOST), help="steps between evaluations; by default an epoch"
    )
    training.add_argument(
        "--batching",
        choices=["auto", "padded", "grouped", "packed"],
        default="auto",
        help="how windows of many lengths share a batch; auto takes what was measured to be fastest",
    )
    training.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="bfloat16: autocast")
    training.add_argument("--seed", type=number_between(int, 0, MOST), default=0, help="of everything random")
    training.add_argument(
        "--time-limit", type=number_between(float, 0.0001, 10_000), help="hours after which it ends by itself"
    )
    training.add_argument(
        "--resume-from", type=Path, help="checkpoint of an earlier run with the same data and options"
    )
    outputs = options.add_argument_group("outputs")
    outputs.add_argument("--output", type=Path, required=True, help="the best model")
    outputs.add_argument("--checkpoint", type=Path, help="model and state of training, to go on from")
    outputs.add_argument("--log", type=Path, help="table of losses")
    outputs.add_argument("--figure", type=Path, help="picture of the losses, PNG")
    outputs.add_argument("--card", type=Path, help="model card, markdown")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.pretraining import pretrain as run_task
    from dnalm.tasks.pretraining_options import PretrainingOptions

    run_task(PretrainingOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
