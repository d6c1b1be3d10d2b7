"""Training a segmenter: what it learns, and how an interrupted job is resumed."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.models.registry import load_segmenter
from dnalm.models.sources import open_model
from dnalm.tasks.segment_finetuning_data import TEST, read_data
from dnalm.tasks.segment_finetuning_options import SegmentFinetuningOptions
from PIL import Image

RANDOM = TEST_DATA / "random_model.safetensors"
LENGTH, WINDOW = 12_000, 120
QUICK = ("--model", RANDOM, "--window", WINDOW, "--threads", 1, "--batch-size", 8, "--patience", 0)


@pytest.fixture
def genome(tmp_path: Path) -> tuple[Path, Path]:
    """A genome in which stretches rich in A and T are islands, and their BED."""
    generator = np.random.default_rng(0)
    bases, lines, place = [], [], 0
    while place < LENGTH:
        island = bool(generator.random() < 0.4)
        length = int(generator.integers(40, 160))
        shares = [0.45, 0.05, 0.05, 0.45] if island else [0.1, 0.4, 0.4, 0.1]
        bases.append("".join(generator.choice(list("ACGT"), length, p=shares)))
        if island:
            lines.append(f"chr1\t{place}\t{place + length}\tisland\n")
        place += length
    (tmp_path / "g.fasta").write_text(f">chr1\n{''.join(bases)}\n>chr2\n{'ACGT' * 100}\n")
    (tmp_path / "g.bed").write_text("".join(lines))
    return tmp_path / "g.fasta", tmp_path / "g.bed"


@pytest.mark.slow
def test_what_can_be_learnt_is_learnt(run_tool: Run, genome: tuple[Path, Path], tmp_path: Path) -> None:
    outputs = [part for name in ("metrics", "log", "figure") for part in (f"--{name}", tmp_path / name)]
    options = ["--genome", genome[0], "--annotation", genome[1], "--epochs", 8, *QUICK, "--output", tmp_path / "m"]
    code, said, problem = run_tool("finetune_segments", *options, *outputs)
    assert (code, problem) == (0, "")
    rows = pd.read_csv(tmp_path / "metrics", sep="\t").set_index("split")
    for side in ("validation", "test"):
        assert rows.loc[side, "feature"] == "island"
        assert rows.loc[side, "auprc_low"] > rows.loc[side, "base_rate"] + 0.2
        assert rows.loc[side, "auprc_low"] < rows.loc[side, "auprc"] < rows.loc[side, "auprc_high"]
    assert "contigs left out because the annotation has no line on them: 1" in said
    log = pd.read_csv(tmp_path / "log", sep="\t")
    assert set(log["split"]) == {"training", "validation"}
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]
    with Image.open(tmp_path / "figure") as picture:
        assert min(picture.size) > 300
    segmenter = load_segmenter(open_model(tmp_path / "m"))
    assert (segmenter.features, segmenter.window.default) == (("island",), WINDOW)
    with torch.inference_mode():
        island, other = segmenter.probabilities(["ATTAATATTTAA" * 10, "GCCGGCGCGGCC" * 10]).mean(dim=(1, 2))
    assert island > other + 0.2
    origin = segmenter.stored.provenance
    assert origin["tool"] == "dnalm_finetune_segments"
    assert origin["model"]["sha256"] == open_model(RANDOM).sha256()


@pytest.mark.slow
def test_metrics_are_those_of_the_written_model_on_the_held_out_windows(
    run_tool: Run, genome: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ["--genome", genome[0], "--annotation", genome[1], "--max-steps", 4, *QUICK, "--output", tmp_path / "m"]
    assert run_tool("finetune_segments", *options, "--metrics", tmp_path / "metrics")[0] == 0
    from dnalm.methods import statistics

    segmenter = load_segmenter(open_model(tmp_path / "m"))
    data = read_data(SegmentFinetuningOptions(RANDOM, *genome, output=tmp_path / "m", window=WINDOW), 12, None)
    inside, scores = [], []
    for contig, start, *_ in data.places[TEST].tolist():
        bases = data.bases(contig, start, start + WINDOW)
        with torch.inference_mode():
            scores.append(segmenter.probabilities([bases])[0, :, 0].numpy())
        inside.append(data.labels(contig, start, start + WINDOW)[:, 0])
    rows = pd.read_csv(tmp_path / "metrics", sep="\t").set_index("split")
    wanted = statistics.auprc(np.concatenate(inside), np.concatenate(scores).round(3))
    assert rows.loc["test", "auprc"] == pytest.approx(wanted, rel=1e-4)
    assert rows.loc["test", "base_rate"] == pytest.approx(np.concatenate(inside).mean(), rel=1e-4)


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(run_tool: Run, genome: tuple[Path, Path], tmp_path: Path) -> None:
    names = ("output", "metrics", "checkpoint", "log", "figure")
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        options = ["--genome", genome[0], "--annotation", genome[1], "--max-steps", 3, *QUICK]
        options += [part for name in names for part in (f"--{name}", tmp_path / run / name)]
        assert run_tool("finetune_segments", *options)[0] == 0
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.mark.slow
def test_a_frozen_backbone_stays_as_it_is(run_tool: Run, genome: tuple[Path, Path], tmp_path: Path) -> None:
    before = open_model(RANDOM).read_tensors()
    for backbone in ("frozen", "trained"):
        options = ["--genome", genome[0], "--annotation", genome[1], "--max-steps", 3, *QUICK, "--backbone", backbone]
        assert run_tool("finetune_segments", *options, "--output", tmp_path / "m")[0] == 0
        after = open_model(tmp_path / "m").read_tensors()
        shared = {name.removeprefix("esm."): tensor for name, tensor in before.items() if "layer.0" in name}
        same = [torch.equal(after[name], tensor) for name, tensor in shared.items() if name in after]
        assert len(same) > 8
        assert all(same) if backbone == "frozen" else not any(same)


@pytest.mark.slow
def test_a_resumed_training_equals_one_that_was_not_interrupted(
    run_tool: Run, genome: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dnalm.engine import training

    options = ["--genome", genome[0], "--annotation", genome[1], "--max-steps", 8, "--evaluate-every", 2, *QUICK]
    assert run_tool("finetune_segments", *options, "--output", tmp_path / "whole")[0] == 0
    usual = training.ModelTrainer._save_checkpoint

    def stop_after_four(trainer: training.ModelTrainer, *given: object) -> None:
        usual(trainer, *given)  # type: ignore[arg-type]
        if trainer.state.global_step == 4:
            trainer.control.should_training_stop = True

    with monkeypatch.context() as patched:
        patched.setattr(training.ModelTrainer, "_save_checkpoint", stop_after_four)
        first = [*options, "--output", tmp_path / "half", "--checkpoint", tmp_path / "c"]
        assert run_tool("finetune_segments", *first)[0] == 0
    assert (tmp_path / "half").read_bytes() != (tmp_path / "whole").read_bytes()
    second = [*options, "--output", tmp_path / "resumed", "--resume-from", tmp_path / "c"]
    code, _, problem = run_tool("finetune_segments", *second)
    assert code == 0, problem
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()
    # A checkpoint is a segmenter as well.
    assert load_segmenter(open_model(tmp_path / "c")).features == ("island",)


@pytest.mark.slow
def test_a_training_ends_in_time_with_model_and_checkpoint(
    run_tool: Run, genome: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ["--genome", genome[0], "--annotation", genome[1], "--max-steps", 100_000, *QUICK, "--time-limit", 0.001]
    outputs = ["--output", tmp_path / "m", "--checkpoint", tmp_path / "c", "--log", tmp_path / "log"]
    began = time.monotonic()
    code, said, _ = run_tool("finetune_segments", *options, *outputs)
    assert code == 0
    assert time.monotonic() - began < 120
    assert "time limit" in said
    assert "stopped: time limit" in (tmp_path / "log").read_text()
    assert load_segmenter(open_model(tmp_path / "m")).features == ("island",)
    assert open_model(tmp_path / "c").training is not None


@pytest.mark.slow
def test_patience_ends_a_training_without_gain(run_tool: Run, genome: tuple[Path, Path], tmp_path: Path) -> None:
    options = ["--genome", genome[0], "--annotation", genome[1], "--learning-rate", 0, "--evaluate-every", 1]
    code, said, _ = run_tool(
        "finetune_segments", *options, *QUICK[:-1], 2, "--output", tmp_path / "m", "--max-steps", 50
    )
    assert code == 0
    assert "validation did not become better any more" in said


@pytest.mark.slow
def test_licences_are_carried_on(run_tool: Run, genome: tuple[Path, Path], tmp_path: Path) -> None:
    from dnalm.models.model_file import write_model_file

    stored = open_model(RANDOM)
    write_model_file(
        tmp_path / "nc", stored.read_tensors(), stored.config, stored.tokenizer, name="nc", licence="CC-BY-NC-SA-4.0"
    )
    options = ["--genome", genome[0], "--annotation", genome[1], "--max-steps", 1, *QUICK, "--output", tmp_path / "m"]
    assert run_tool("finetune_segments", *options, "--model", tmp_path / "nc", "--name", "ours")[0] == 0
    made = open_model(tmp_path / "m")
    assert (made.name, made.licence) == ("ours", "CC-BY-NC-SA-4.0")


def test_the_demo_segmenter_beats_the_base_rate_where_it_was_not_trained() -> None:
    """The table that its training wrote is kept beside the script that made it."""
    rows = pd.read_csv(REPOSITORY / "tests" / "make_segmenter.tsv", sep="\t")
    (row,) = rows[(rows["split"] == "test") & (rows["feature"] == "CDS")].to_dict("records")
    assert row["auprc_low"] > row["base_rate"]
    segmenter = load_segmenter(open_model(TEST_DATA / "segmenter.safetensors"))
    assert segmenter.stored.name == "dnalm-demo-segmenter"
    assert (TEST_DATA / "segmenter.safetensors").stat().st_size < 500_000
