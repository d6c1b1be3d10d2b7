"""What a job costs before it works: processor seconds (one thread) of every tool's start, medians of several processes.

    python tests/benchmarks/startup.py --rounds 5 --output benchmark-results/startup.json

A tool with a model has started when the first forward pass begins, a tool without one when it first opens its input.
The third column is a whole job on a tiny input, from the start of Python to its end.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS, DATA = REPOSITORY / "tools" / "scripts", REPOSITORY / "test-data"
PROBE = REPOSITORY / "tests" / "startup_probe.py"
HELP, WITHOUT_MODEL, OURS, OF_TRANSFORMERS, UMAP = 0.1, 1.0, 2.5, 3.5, 4.0  # most seconds that an issue allows


@dataclass(frozen=True)
class Case:
    """A job: what it is called, its limit, whether a forward pass ends its start, and its command line."""

    name: str
    most: float
    forward: bool
    command: str
    whole: bool = False  # whether the limit is of the whole job


FEATURES = f"--annotation {DATA}/mitochondrial_features.bed"
SEGMENTER, DEMO, RANDOM = (f"--model {DATA}/{name}.safetensors" for name in ("segmenter", "demo_model", "random_model"))
WINDOWS, MITOCHONDRION = f"--sequences {DATA}/two_genomes.fasta", f"{DATA}/human_mitochondrion.fasta"
TRAINING = "--max-steps 1 --output m.safetensors"
CASES = [
    Case("embed --help", HELP, False, "dnalm_embed --help", whole=True),
    Case("split", WITHOUT_MODEL, False, f"dnalm_split {WINDOWS} --shards 2 --output-directory s"),
    Case("merge", WITHOUT_MODEL, False, f"dnalm_merge --shards {DATA}/shards/embeddings_1.h5ad --output m.h5ad"),
    Case(
        "compare_scores",
        WITHOUT_MODEL,
        False,
        f"dnalm_compare_scores --tables {DATA}/scores_groups.tsv --group-column consequence --output g.png",
    ),
    Case("embed, 4-mers", WITHOUT_MODEL, False, f"dnalm_embed {WINDOWS} --representation kmer --output e.h5ad"),
    Case(
        "embed, one-hot",
        WITHOUT_MODEL,
        False,
        f"dnalm_embed {WINDOWS} --representation onehot --pooling none --output e.h5ad",
    ),
    Case(
        "train_tokenizer",
        WITHOUT_MODEL,
        False,
        f"dnalm_train_tokenizer {WINDOWS} --kind kmer --k 3 --output t.json",
    ),
    Case(
        "evaluate_segments",
        WITHOUT_MODEL,
        False,
        f"dnalm_evaluate_segments --tracks {DATA}/tracks/CDS.bw {FEATURES} --output e.tsv",
    ),
    Case("project, PCA", UMAP, False, f"dnalm_project --embeddings {DATA}/two_genomes_embeddings.h5ad --output m.png"),
    Case(
        "project, UMAP",
        UMAP,
        False,
        f"dnalm_project --embeddings {DATA}/two_genomes_embeddings.h5ad --method umap --output m.png",
        whole=True,
    ),
    Case("embed, NT v2", OURS, True, f"dnalm_embed {WINDOWS} {SEGMENTER} --output e.h5ad"),
    Case("segment, SegmentNT", OURS, True, f"dnalm_segment --sequences {MITOCHONDRION} {SEGMENTER} --calls c.bed"),
    Case(
        "embed_cells, scGPT",
        OURS,
        True,
        f"dnalm_embed_cells --cells {DATA}/cells.h5ad --model {DATA}/scgpt.safetensors --output e.h5ad",
    ),
    Case("embed, transformers", OF_TRANSFORMERS, True, f"dnalm_embed {WINDOWS} {DEMO} --output e.h5ad"),
    Case(
        "score_variants, transformers",
        OF_TRANSFORMERS,
        True,
        f"dnalm_score_variants --variants {DATA}/mitochondrial_variants.vcf --reference {MITOCHONDRION} {DEMO} "
        "--output-table t.tsv",
    ),
    Case(
        "predict, transformers",
        OF_TRANSFORMERS,
        True,
        f"dnalm_predict {WINDOWS} --model {DATA}/classifier.safetensors --output p.tsv",
    ),
    Case("generate, transformers", OF_TRANSFORMERS, True, f"dnalm_generate {DEMO} --number 2 --output g.fasta"),
    Case(
        "attention, transformers",
        OF_TRANSFORMERS,
        True,
        f"dnalm_attention {WINDOWS} --ids human_600001 {DEMO} --layers-heads 1.4 --output a.npz",
    ),
    Case(
        "finetune, transformers",
        OF_TRANSFORMERS,
        True,
        f"dnalm_finetune {WINDOWS} --labels {DATA}/two_genomes_labels.tsv {DEMO} {TRAINING}",
    ),
    Case(
        "finetune_segments, transformers",
        OF_TRANSFORMERS,
        True,
        f"dnalm_finetune_segments --genome {MITOCHONDRION} {FEATURES} {RANDOM} {TRAINING}",
    ),
    Case(
        "pretrain, transformers",
        OF_TRANSFORMERS,
        True,
        f"dnalm_pretrain --sequences {MITOCHONDRION} --preset demo {TRAINING}",
    ),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--output", type=Path, help="JSON file of the seconds; a table is written beside it")
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.only in case.name]
    found: dict[str, dict[str, list[float]]] = {case.name: {"start": [], "whole job": []} for case in cases}
    for _ in range(arguments.rounds):  # in turn, so that what else the machine does meets all of them
        for case in cases:
            if not case.whole:
                found[case.name]["start"].append(start_of(case))
            found[case.name]["whole job"].append(whole(case))
    lines = [f"{'processor seconds':34s} {'start':>7s} {'limit':>7s} {'whole job':>10s}"]
    for case in cases:
        start, job = (statistics.median(found[case.name][kind] or [0]) for kind in ("start", "whole job"))
        reached = job if case.whole else start
        verdict = "" if reached <= case.most else "  missed"
        lines.append(f"{case.name:34s} {reached:7.2f} {case.most:7.1f} {job:10.2f}{verdict}")
    print("\n".join(lines))
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n")
        arguments.output.with_suffix(".txt").write_text("\n".join(lines) + "\n")


def start_of(case: Case) -> float:
    """Return the seconds until the first forward pass, or until the input is first opened."""
    script, *options = case.command.split()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, PROBE, "forward" if case.forward else "input", script, *options]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    *_, last = done.stderr.splitlines() or [""]
    if not last.startswith("started after "):
        raise SystemExit(f"{case.name} did not get so far:\n{done.stdout}{done.stderr}")
    return float(last.split()[2])


def whole(case: Case) -> float:
    """Return the seconds of the whole job."""
    script, *options = case.command.split()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, SCRIPTS / f"{script}.py", *options],
            cwd=folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def environment() -> dict[str, str]:
    """Return what a job of one core finds in its environment."""
    return os.environ | {"OMP_NUM_THREADS": "1", "GALAXY_SLOTS": "1"}


if __name__ == "__main__":
    main()
