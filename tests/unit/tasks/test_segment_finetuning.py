"""Training a segmenter: what it learns, how the genome is split, and how a job goes on."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.formats.reference import Reference
from dnalm.models.registry import load_segmenter
from dnalm.models.sources import open_model
from dnalm.tasks.segment_finetuning_data import TEST, TRAINING, VALIDATION, SegmentData, read_data
from dnalm.tasks.segment_finetuning_options import SegmentFinetuningOptions
from PIL import Image

MITOCHONDRION, FEATURES = TEST_DATA / "human_mitochondrion.fasta", TEST_DATA / "mitochondrial_features.bed"
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


@pytest.fixture
def data_of(genome: tuple[Path, Path], tmp_path: Path) -> Callable[..., SegmentData]:
    options = SegmentFinetuningOptions(RANDOM, *genome, output=tmp_path / "m", window=WINDOW)
    return lambda **changes: read_data(replace(options, **changes), 12, None)


def spans(places: np.ndarray) -> list[tuple[int, int]]:
    return [(start - left, start + WINDOW + right) for _, start, left, right in places.tolist()]


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


def test_metrics_are_those_of_the_written_model_on_the_held_out_windows(
    run_tool: Run, genome: tuple[Path, Path], tmp_path: Path, data_of: Callable[..., SegmentData]
) -> None:
    options = ["--genome", genome[0], "--annotation", genome[1], "--max-steps", 4, *QUICK, "--output", tmp_path / "m"]
    assert run_tool("finetune_segments", *options, "--metrics", tmp_path / "metrics")[0] == 0
    from dnalm.methods import statistics

    segmenter, data = load_segmenter(open_model(tmp_path / "m")), data_of()
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


def test_equal_runs_give_equal_bytes(run_tool: Run, genome: tuple[Path, Path], tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        options = ["--genome", genome[0], "--annotation", genome[1], "--max-steps", 3, *QUICK]
        options += ["--output", tmp_path / name, "--metrics", tmp_path / f"{name}.tsv"]
        assert run_tool("finetune_segments", *options)[0] == 0
        found.append((tmp_path / name).read_bytes() + (tmp_path / f"{name}.tsv").read_bytes())
    assert found[0] == found[1]


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


def test_no_base_is_on_two_sides_and_gaps_lie_between(data_of: Callable[..., SegmentData]) -> None:
    for seed in range(5):
        data = data_of(seed=seed)
        sides = [spans(data.places[side]) for side in (TRAINING, VALIDATION, TEST)]
        for number, own in enumerate(sides):
            for other in sides[number + 1 :]:
                nearest = min(max(start - end2, start2 - end) for start, end in own for start2, end2 in other)
                assert nearest >= WINDOW
        for side in (VALIDATION, TEST):
            starts = sorted(data.places[side][:, 1])
            assert max(np.diff(starts)) == WINDOW  # one block
        assert len(data.places[TRAINING]) > 5 * len(data.places[TEST])


def test_training_windows_move_within_what_they_cover_together(data_of: Callable[..., SegmentData]) -> None:
    data = data_of()
    covered = np.zeros(LENGTH + 1_000, dtype=bool)
    for start in data.places[TRAINING][:, 1]:
        covered[start : start + WINDOW] = True
    for start, end in spans(data.places[TRAINING]):
        assert covered[start:end].all()
    assert data.places[TRAINING][:, 2:].max() == WINDOW // 2


def test_windows_hold_no_n_and_reach_the_ends_of_stretches(tmp_path: Path, data_of: Callable[..., SegmentData]) -> None:
    bases = "N" * 77 + "ACGT" * 500 + "NRN" + "AC" * 30 + "N" + "CAGT" * 600
    (tmp_path / "n.fasta").write_text(f">chr1\n{bases}\n")
    (tmp_path / "n.bed").write_text("".join(f"chr1\t{start}\t{start + 20}\tx\n" for start in range(0, 4_400, 97)))
    data = data_of(genome=tmp_path / "n.fasta", annotation=tmp_path / "n.bed", test_fraction=0.0)
    places = np.concatenate(data.places)
    for contig, start, *_ in places.tolist():
        assert "N" not in data.bases(contig, start, start + WINDOW)
    assert data.counts["n"] == 77 + 3 + 1
    assert data.counts["short"] == 60
    windows = len(places) + data.counts["windows_between"]
    assert windows == -(-2_000 // WINDOW) + -(-2_400 // WINDOW)


def test_regions_bound_what_is_learnt(tmp_path: Path, data_of: Callable[..., SegmentData]) -> None:
    (tmp_path / "r.bed").write_text("chr1\t1000\t5000\nchr1\t3000\t9000\n")
    data = data_of(regions=tmp_path / "r.bed")
    starts = np.concatenate(data.places)[:, 1]
    assert (starts.min(), starts.max()) == (1_000, 9_000 - WINDOW)


def test_contigs_may_have_other_usual_names(
    tmp_path: Path, genome: tuple[Path, Path], data_of: Callable[..., SegmentData]
) -> None:
    usual = data_of()
    (tmp_path / "other.bed").write_text(genome[1].read_text().replace("chr1", "1"))
    (tmp_path / "r.bed").write_text(f"1\t0\t{usual.reference.lengths['chr1']}\n")
    found = data_of(annotation=tmp_path / "other.bed", regions=tmp_path / "r.bed")
    assert found.fingerprint() == usual.fingerprint()


def test_every_side_has_every_feature_where_that_can_be(tmp_path: Path, data_of: Callable[..., SegmentData]) -> None:
    """A rare feature lies at three places alone: blocks are put so that each side has one of them."""
    (tmp_path / "f.bed").write_text(
        "".join(f"chr1\t{start}\t{start + 30}\tcommon\n" for start in range(0, 11_000, 200))
        + "".join(f"chr1\t{start}\t{start + 30}\trare\n" for start in (1_500, 6_000, 10_500))
    )
    for seed in range(3):
        data = data_of(annotation=tmp_path / "f.bed", seed=seed)
        for places in data.places:
            labels = [data.labels(contig, start, start + WINDOW).any(axis=0) for contig, start, *_ in places.tolist()]
            assert np.any(labels, axis=0).tolist() == [True, True]


def test_frequencies_are_those_of_the_training_windows(data_of: Callable[..., SegmentData]) -> None:
    data = data_of()
    labels = [data.labels(contig, start, start + WINDOW) for contig, start, *_ in data.places[TRAINING].tolist()]
    assert data.frequencies == pytest.approx(np.concatenate(labels).mean(axis=0))


def test_a_small_genome_has_small_windows(data_of: Callable[..., SegmentData]) -> None:
    assert data_of(window=None).window == 396  # a thirtieth of it, a multiple of 12
    whole = data_of(window=None, genome=MITOCHONDRION, annotation=FEATURES)
    assert (whole.window, whole.features) == (552, ["CDS", "rRNA", "tRNA"])


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


def test_patience_ends_a_training_without_gain(run_tool: Run, genome: tuple[Path, Path], tmp_path: Path) -> None:
    options = ["--genome", genome[0], "--annotation", genome[1], "--learning-rate", 0, "--evaluate-every", 1]
    code, said, _ = run_tool(
        "finetune_segments", *options, *QUICK[:-1], 2, "--output", tmp_path / "m", "--max-steps", 50
    )
    assert code == 0
    assert "validation did not become better any more" in said


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


def test_contigs_of_the_annotation_that_the_genome_lacks_are_counted(
    tmp_path: Path, genome: tuple[Path, Path], data_of: Callable[..., SegmentData]
) -> None:
    (tmp_path / "more.bed").write_text(genome[1].read_text() + "chr7\t0\t10\tisland\n")
    assert (
        "contigs of the annotation that the genome lacks, left out: 1"
        in data_of(annotation=tmp_path / "more.bed").account()
    )


def test_labels_follow_the_annotation() -> None:
    options = SegmentFinetuningOptions(
        RANDOM, MITOCHONDRION, FEATURES, output=Path("m"), window=600, features="tRNA,CDS"
    )
    data = read_data(options, 12, None)
    found = data.labels(0, 3_200, 3_400)
    assert data.features == ["tRNA", "CDS"]
    assert np.flatnonzero(found[:, 0]).tolist() == list(range(29, 104))
    assert np.flatnonzero(found[:, 1]).tolist() == list(range(106, 200))
    with Reference(MITOCHONDRION) as reference:
        assert data.bases(0, 10, 40) == reference.fetch("human_mitochondrion", 10, 40, "").bases
