#!/usr/bin/env python3
"""Train a segmenter: a language model learns from an annotated genome which features each base lies in."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run

MOST = 2**31 - 1


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_finetune_segments",
        "Train a segmenter: a language model learns from an annotated genome which features each base lies in.",
    )
    data = options.add_argument_group("data")
    data.add_argument(
        "--model", type=Path, required=True, help="language model of k-mers or single letters, or a segmenter"
    )
    data.add_argument("--genome", type=Path, required=True, help="FASTA with the contigs that the annotation names")
    data.add_argument("--annotation", type=Path, required=True, help="GTF, GFF3, or BED with names of features")
    data.add_argument("--features", help="what to learn, separated by commas (default: every name of the annotation)")
    data.add_argument("--regions", type=Path, help="BED or GFF3 of where the annotation is complete (default: all)")
    data.add_argument(
        "--window",
        type=number_between(int, 1, 10_000_000),
        help="bases that the model reads at once (default: up to 3,000, fewer where there is little sequence)",
    )
    data.add_argument(
        "--strands",
        choices=["both", "forward"],
        default="both",
        help="turn windows to their reverse complement by chance",
    )
    for name in ("validation", "test"):
        data.add_argument(
            f"--{name}-fraction",
            type=number_between(float, 0.0001 if name == "validation" else 0, 0.8),
            default=0.1,
            help="share of the windows, a block of neighbours",
        )
    training = options.add_argument_group("training")
    training.add_argument(
        "--loss",
        choices=["focal", "weighted", "plain"],
        default="focal",
        help="focal: what is known well counts little; weighted: bases of rare features count more",
    )
    training.add_argument(
        "--backbone", choices=["trained", "frozen"], default="trained", help="whether the language model learns too"
    )
    training.add_argument(
        "--epochs", type=number_between(float, 0.001, 100_000), default=20.0, help="passes over the data"
    )
    training.add_argument("--max-steps", type=number_between(int, 1, MOST), help="steps at most")
    training.add_argument("--batch-size", type=number_between(int, 1, 100_000), default=8, help="windows a batch")
    training.add_argument(
        "--gradient-accumulation", type=number_between(int, 1, 10_000), default=1, help="batches a step"
    )
    training.add_argument("--learning-rate", type=number_between(float, 0, 1), default=5e-4, help="its highest")
    training.add_argument("--weight-decay", type=number_between(float, 0, 1), default=0.01, help="of AdamW")
    training.add_argument("--warmup", type=number_between(float, 0, 1), default=0.05, help="share of the steps")
    training.add_argument(
        "--patience",
        type=number_between(int, 0, 10_000),
        default=5,
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
    outputs.add_argument("--output", type=Path, required=True, help="the best segmenter")
    outputs.add_argument("--metrics", type=Path, help="table of how well features are found in held-out blocks")
    outputs.add_argument("--checkpoint", type=Path, help="model and state of training, to go on from")
    outputs.add_argument("--log", type=Path, help="table of losses")
    outputs.add_argument("--figure", type=Path, help="picture of the losses, PNG")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.segment_finetuning import finetune as run_task
    from dnalm.tasks.segment_finetuning_options import SegmentFinetuningOptions

    run_task(SegmentFinetuningOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
