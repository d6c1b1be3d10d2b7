"""What dnalm_finetune_segments refuses: one sentence, exit code 1, and no output."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.models.registry import load_segmenter
from dnalm.models.sources import open_model

PARITY = REPOSITORY / "tests" / "parity" / "data"
GENOME, FEATURES = TEST_DATA / "human_mitochondrion.fasta", TEST_DATA / "mitochondrial_features.bed"
RANDOM = TEST_DATA / "random_model.safetensors"
Refuses = Callable[..., None]


@pytest.fixture
def refuses(run_tool: Run, tmp_path: Path) -> Refuses:
    def run(sentence: str, *options: object) -> None:
        usual = {"--model": RANDOM, "--genome": GENOME, "--annotation": FEATURES, "--max-steps": 2, "--threads": 1}
        given = [part for name, value in usual.items() if name not in options for part in (name, value)]
        outputs = ["--output", tmp_path / "out_m", "--log", tmp_path / "out_log", "--metrics", tmp_path / "out_metrics"]
        code, _, problem = run_tool("finetune_segments", *given, *options, *outputs)
        assert code == 1
        assert sentence in problem
        assert problem.count("\n") == 1
        assert not list(tmp_path.glob("*out_*"))

    return run


def test_models_that_cannot_segment(refuses: Refuses) -> None:
    refuses("cover different numbers of bases", "--model", PARITY / "dnabert2")
    refuses("stands on no language model", "--model", PARITY / "segment_borzoi")
    refuses("is damaged or no model file", "--model", GENOME)


def test_windows_that_the_model_cannot_read(refuses: Refuses) -> None:
    refuses("cannot read windows of 100 bases; use a multiple of 12, at most 3,060", "--window", 100)
    refuses("cannot read windows of 4,800 bases", "--window", 4_800)


def test_sequence_that_is_too_short_or_all_n(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_text("c\t0\t5\tx\n")
    given = ("--genome", tmp_path / "g.fasta", "--annotation", tmp_path / "a.bed")
    for bases in ("ACGTACG", "N" * 5_000, ("ACGTACG" + "N") * 500):
        (tmp_path / "g.fasta").write_text(f">c\n{bases}\n")
        refuses("No stretch without N is as long as a window", *given)
    (tmp_path / "g.fasta").write_text(f">c\n{'ACGT' * 20}\n")
    refuses("windows are too few to be split", *given, "--window", 24)


def test_an_annotation_of_another_genome(refuses: Refuses, tmp_path: Path) -> None:
    refuses("shares no contig", "--genome", TEST_DATA / "ecoli.fasta.gz")
    (tmp_path / "a.bed").write_text("human_mitochondrion\t0\t90000\tx\n")
    refuses("ends at 90,000", "--annotation", tmp_path / "a.bed")


def test_annotations_that_are_none(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_text("human_mitochondrion\t0\t900\n")
    refuses("Line 1 of 'a.bed' has no name", "--annotation", tmp_path / "a.bed")
    (tmp_path / "a.bed").write_text("")
    refuses("has no feature", "--annotation", tmp_path / "a.bed")
    refuses("not a regular file", "--annotation", tmp_path)


def test_features_that_the_annotation_lacks(refuses: Refuses) -> None:
    refuses("has no 'exon' (it has 'tRNA', 'CDS', 'rRNA')", "--features", "exon")
    refuses("has no 'exon'", "--features", "CDS,exon")
    refuses("The features are empty", "--features", ",")


def test_regions_of_another_genome(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "r.bed").write_text("human_mitochondrion\t0\t90000\n")
    refuses("Line 1 of 'r.bed' is no part of a contig", "--regions", tmp_path / "r.bed")


def test_a_split_that_leaves_nothing(refuses: Refuses) -> None:
    refuses("leave more to train on", "--validation-fraction", 0.5, "--test-fraction", 0.5)


def test_several_processes(refuses: Refuses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuses("is trained by one process; start it without torchrun")


def test_what_is_no_checkpoint_or_one_of_another_training(refuses: Refuses, run_tool: Run, tmp_path: Path) -> None:
    refuses("is no checkpoint", "--resume-from", TEST_DATA / "segmenter.safetensors")
    usual = ["--model", RANDOM, "--genome", GENOME, "--annotation", FEATURES, "--threads", 1, "--max-steps", 2]
    assert run_tool("finetune_segments", *usual, "--output", tmp_path / "m", "--checkpoint", tmp_path / "c")[0] == 0
    refuses("was trained with --seed 0, now it is 3", "--resume-from", tmp_path / "c", "--seed", 3)
    refuses("of another model or of other features", "--resume-from", tmp_path / "c", "--features", "CDS")
    other = TEST_DATA / "segmenter.safetensors"
    refuses("of another model or of other features", "--resume-from", tmp_path / "c", "--model", other)
    (tmp_path / "a.bed").write_text(FEATURES.read_text().replace("3306", "3309"))
    refuses("was trained on other windows", "--resume-from", tmp_path / "c", "--annotation", tmp_path / "a.bed")


def test_a_training_that_diverges_keeps_no_model_but_its_log(
    run_tool: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dnalm.engine.segment_training.GAMMA", float("nan"))
    usual = ["--model", RANDOM, "--genome", GENOME, "--annotation", FEATURES, "--max-steps", 6, "--threads", 1]
    outputs = {name: tmp_path / name for name in ("output", "checkpoint", "metrics", "figure", "log")}
    options = [part for name, path in outputs.items() for part in (f"--{name}", path)]
    code, _, problem = run_tool("finetune_segments", *usual, *options)
    assert code == 1
    assert "its loss is no number any more; no model is kept" in problem
    assert problem.count("\n") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "log"]
    assert "diverged" in (tmp_path / "log").read_text().splitlines()[-1]


def test_a_job_that_is_told_to_end_keeps_its_model(tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "dnalm_finetune_segments.py"
    generator = np.random.default_rng(0)
    (tmp_path / "g.fasta").write_text(f">c\n{''.join(generator.choice(list('ACGT'), 20_000))}\n")
    (tmp_path / "a.bed").write_text("".join(f"c\t{start}\t{start + 50}\tx\n" for start in range(0, 19_000, 150)))
    options = ["--model", RANDOM, "--genome", tmp_path / "g.fasta", "--annotation", tmp_path / "a.bed", "--threads", 1]
    options += ["--window", 120, "--max-steps", 100_000, "--output", tmp_path / "m", "--checkpoint", tmp_path / "c"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, script, *map(str, options)], stdout=subprocess.PIPE, text=True, env=environment
    ) as job:
        assert job.stdout is not None
        for line in job.stdout:
            if line.startswith("Step "):
                break
        time.sleep(0.5)
        job.send_signal(signal.SIGTERM)
        said = job.stdout.read()
        assert job.wait(timeout=300) == 0
    assert "the job was asked to end" in said
    assert load_segmenter(open_model(tmp_path / "m")).features == ("x",)
    assert open_model(tmp_path / "c").training is not None
