#!/usr/bin/env python3
"""Embed DNA sequences with a model that a server runs: they are sent there."""

import argparse
import os
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run

# With the hub's library, feature extraction.
PROVIDERS = ["hf-inference", "deepinfra", "scaleway", "together"]
# The library would send a token that it finds, and print what is sent.
FORGOTTEN = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_DEBUG")


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool; the token is read from the environment's HF_TOKEN alone."""
    options = argument_parser(
        "dnalm_remote_embed", "Embed DNA sequences with a model that a server runs: they are sent there."
    )
    options.add_argument("--sequences", type=Path, required=True, help="FASTA file, plain or gzip-compressed")
    options.add_argument("--endpoint", metavar="URL", help="address of a served model; https, or this machine")
    options.add_argument(
        "--model-id", help="instead of an endpoint: a model of the Hugging Face hub, organisation/name"
    )
    options.add_argument("--provider", choices=PROVIDERS, default=PROVIDERS[0], help="who runs the model of the hub")
    options.add_argument(
        "--pooling",
        choices=["mean", "max", "min", "cls", "last"],
        default="mean",
        help="from tokens to one vector, where the server sends one a token",
    )
    options.add_argument("--consent", action="store_true", help="the sequences may leave this machine")
    options.add_argument(
        "--max-requests", type=number_between(int, 1, 1_000_000), default=1_000, help="sent at most; each may cost"
    )
    options.add_argument(
        "--resume-from",
        type=Path,
        help="embeddings (h5ad) or journal of an earlier job: what they hold is not asked again",
    )
    options.add_argument(
        "--journal", type=Path, help="answers as they come, for a job that is killed; beside the output"
    )
    options.add_argument("--output", type=Path, required=True, help="embeddings (h5ad)")
    options.add_argument("--summary", type=Path, help="table with one line a sequence")
    options.add_argument("--failed", type=Path, help="table of the sequences without an embedding, and why")
    options.add_argument("--timing", type=Path, help="table of seconds a sequence, remote and, with --model, local")
    options.add_argument("--model", type=Path, help="local model for the comparison of times")
    said = options.add_argument_group("endpoint", "what the admin's list says of it")
    said.add_argument("--endpoint-name", help="what people call it")
    said.add_argument("--authorization", choices=["token", "none"], default="token", help="whether it gets the token")
    said.add_argument("--max-bases", type=number_between(int, 1, 10**9), help="of a sequence that is sent")
    for side in ("first", "last"):
        said.add_argument(
            f"--special-{side}",
            type=number_between(int, 0, 100),
            default=0,
            help=f"special tokens that come {side} in an answer of one vector a token; they do not count in the mean",
        )
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here, and the environment forgets the token before them."""
    token = os.environ.get("HF_TOKEN", "").strip() or None
    for name in FORGOTTEN:
        os.environ.pop(name, None)
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"  # noqa: S105
    from dnalm.tasks.remote_embedding import RemoteEmbeddingOptions
    from dnalm.tasks.remote_embedding import remote_embed as run_task

    run_task(RemoteEmbeddingOptions(**vars(arguments), token=token))


if __name__ == "__main__":
    sys.exit(run(parser(), main, network=True))
