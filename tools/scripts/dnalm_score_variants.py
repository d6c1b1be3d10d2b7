#!/usr/bin/env python3
"""Score variants with a DNA language model, from a VCF, from pairs of sequences, or every change of regions."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run

SCORES = ["llr_masked", "llr_masked_base", "llr_wildtype", "pll", "llr_causal", "llr_causal_per_base", "entropy", "jsd"]
DISTANCES = ["l2", "l1", "cosine", "dot"]


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_score_variants", "Score variants with a DNA language model, without training.", shares_out=True
    )
    options.add_argument("--variants", type=Path, help="VCF file, plain, gzip- or block-gzip-compressed")
    options.add_argument("--reference", type=Path, help="FASTA file of the genome of --variants or --saturation")
    options.add_argument("--regions", type=Path, help="BED or GFF3 file; variants outside are not scored")
    options.add_argument("--reference-sequences", type=Path, help="FASTA file; pairs are matched by their order")
    options.add_argument("--alternative-sequences", type=Path, help="FASTA file with as many sequences")
    options.add_argument("--saturation", type=Path, help="BED or GFF3 file of which every single-base change is scored")
    options.add_argument("--model", type=Path, required=True, help="model file (.safetensors) or Hugging Face folder")
    options.add_argument(
        "--preset",
        choices=["snv-effect", "gtn-tutorial", "custom"],
        default="snv-effect",
        help="the score that suits the model; the distance of the Galaxy training; or --scores",
    )
    options.add_argument(
        "--scores", nargs="+", action="extend", choices=[*SCORES, *DISTANCES], help="for preset custom"
    )
    options.add_argument(
        "--representation",
        choices=["hidden", "logits"],
        default="hidden",
        help="what l2, l1, cosine and dot compare: hidden states or logits",
    )
    options.add_argument(
        "--layer", type=int, default=-1, help="of hidden states; 0: embeddings, k: after layer k, -1: the last"
    )
    options.add_argument(
        "--pooling",
        choices=["max", "mean", "center"],
        default="max",
        help="from tokens to one vector a window; center takes the token over the variant",
    )
    options.add_argument(
        "--context",
        type=number_between(int, 10, 1_000_000),
        help="bases of a window, the variant in its middle (default: 200, or what the model takes; pairs whole)",
    )
    options.add_argument("--both-strands", action="store_true", help="average with the reverse complement")
    options.add_argument(
        "--on-ref-mismatch",
        choices=["skip", "fail"],
        default="skip",
        help="what is done with a REF that is not the genome's",
    )
    options.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="numbers of the model")
    options.add_argument(
        "--output-table", type=Path, required=True, help="table with a row for each alternative allele"
    )
    options.add_argument(
        "--output-vcf",
        type=Path,
        help="the VCF with the scores in INFO, block-gzip-compressed (without .gz in its name only if it is sorted)",
    )
    options.add_argument("--figure", type=Path, help="PNG: distribution of the scores, of --saturation a heat map")
    options.add_argument("--track", type=Path, help="bedGraph of --saturation: a base's mean over its three changes")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.variant_options import VariantOptions
    from dnalm.tasks.variants import score_variants as run_task

    run_task(VariantOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
