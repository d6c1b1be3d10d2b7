#!/usr/bin/env python3
"""Fine-tune a DNA language model on labelled sequences."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run

MOST = 2**31 - 1


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser("dnalm_finetune", "Fine-tune a DNA language model on labelled sequences.")
    options.add_argument(
        "--sequences",
        type=Path,
        action="append",
        required=True,
        help="FASTA; several files are one class each if nothing else labels them; or a table with sequences and labels",
    )
    options.add_argument("--labels", type=Path, help="table with a header line: ids of the sequences and their labels")
    options.add_argument("--model", type=Path, required=True, help="model file (.safetensors) or Hugging Face folder")
    options.add_argument(
        "--method",
        choices=["probe", "lora", "full"],
        default="probe",
        help="a linear model on frozen hidden states, small matrices beside the weights, or all weights",
    )
    options.add_argument(
        "--task",
        choices=["classify", "multilabel", "regress"],
        default="classify",
        help="one class a sequence, any number of labels, or a quantity",
    )
    data = options.add_argument_group("labels and split")
    data.add_argument("--label-column", help="of the labels; several, of 0 and 1, between commas")
    data.add_argument("--class-names", help="between commas, where each file is a class; by default the files' names")
    data.add_argument(
        "--unmatched",
        choices=["drop", "fail"],
        default="drop",
        help="what is done about sequences without a label and labels without a sequence",
    )
    data.add_argument(
        "--split",
        choices=["random", "group", "record", "given"],
        default="random",
        help="by chance, whole groups, whole contigs (of names like chr1:100-200) or ids, or as a column says",
    )
    data.add_argument("--group-column", help="whose groups stay together")
    data.add_argument("--split-column", default="split", help="with train, validation and test")
    data.add_argument("--validation-fraction", type=number_between(float, 0.01, 0.8), default=0.1, help="of all")
    data.add_argument("--test-fraction", type=number_between(float, 0.01, 0.8), default=0.2, help="of all")
    data.add_argument("--baselines", choices=["all", "none"], default="all", help="measured beside the model")
    training = options.add_argument_group("training")
    training.add_argument(
        "--class-weights", choices=["none", "balanced"], default="none", help="whether all classes count alike"
    )
    training.add_argument("--rank", type=number_between(int, 1, 1_024), default=8, help="of LoRA's matrices")
    training.add_argument("--epochs", type=number_between(float, 0.001, 1e5), default=10.0, help="passes over the data")
    training.add_argument("--max-steps", type=number_between(int, 1, MOST), help="whatever the epochs say")
    training.add_argument("--batch-size", type=number_between(int, 1, 100_000), default=16, help="sequences a step")
    training.add_argument(
        "--gradient-accumulation",
        type=number_between(int, 1, 10_000),
        default=1,
        help="batches whose gradients make one step",
    )
    training.add_argument(
        "--learning-rate", type=number_between(float, 0, 1), help="its highest; by default the method's own"
    )
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
    training.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="bfloat16: autocast")
    training.add_argument("--seed", type=number_between(int, 0, MOST), default=0, help="of everything random")
    training.add_argument(
        "--time-limit", type=number_between(float, 0.0001, 10_000), help="hours after which it ends by itself"
    )
    training.add_argument(
        "--resume-from", type=Path, help="checkpoint of an earlier run with the same data and options"
    )
    outputs = options.add_argument_group("outputs")
    outputs.add_argument("--name", help="what people call the new model")
    outputs.add_argument("--output", type=Path, required=True, help="the model with its head")
    outputs.add_argument("--checkpoint", type=Path, help="model and state of training, to go on from")
    outputs.add_argument("--metrics", type=Path, help="table: each metric of each method with its interval")
    outputs.add_argument("--predictions", type=Path, help="table of the sequences that test")
    outputs.add_argument(
        "--records", type=Path, help="table of all records: label, split, and what was left out and why"
    )
    outputs.add_argument("--log", type=Path, help="table of losses")
    outputs.add_argument("--figure", type=Path, help="picture of the evaluation, PNG")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.finetuning import finetune as run_task
    from dnalm.tasks.finetuning_options import FinetuningOptions

    run_task(FinetuningOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
