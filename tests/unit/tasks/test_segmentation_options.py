"""Options of a segmentation: what contradicts, and what they mean for contigs, features, calls and windows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TEST_DATA
from dnalm.errors import UserError
from dnalm.formats.contigs import Contigs
from dnalm.methods.segments import Calling
from dnalm.models.segmenter import Segmenter, Window
from dnalm.models.sources import open_model
from dnalm.tasks import segmentation_options
from dnalm.tasks.segmentation_options import (
    SegmentationOptions,
    callings_of,
    choices,
    features_of,
    genome_of,
    grid_of,
    named_region,
    refuse_contradictions,
    targets_of,
)
from torch import Tensor, nn

FILE = Path("file")
USUAL = SegmentationOptions(Path("model"), sequences=FILE, summary=FILE)


@pytest.fixture
def contigs(tmp_path: Path) -> Contigs:
    """Contigs of 20, 6 and 4 bases."""
    (tmp_path / "genome.fasta").write_text(">chr1\nACGTACGTACGTACGTACGT\n>features\nACGTAC\n>2\nACGT\n")
    return Contigs(tmp_path / "genome.fasta")


def segmenter(window: Window, takes_n: bool = False) -> Segmenter:
    """Return a segmenter of three features that reads such windows; it computes nothing."""

    def encode(sequences: Any) -> Tensor:
        raise NotImplementedError

    stored = replace(open_model(TEST_DATA / "segmenter.safetensors"), name="tiny")
    return Segmenter(stored, "tiny", nn.Identity(), ("CDS", "rRNA", "tRNA"), window, takes_n, encode)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sequences": None}, "Give either sequences, or a genome together with regions"),
        ({"genome": FILE}, "Give either sequences, or a genome together with regions"),
        ({"sequences": None, "genome": FILE}, "Give either sequences, or a genome together with regions"),
        ({"regions": FILE}, "Give either sequences, or a genome together with regions"),
        ({"summary": None}, "No output is asked for"),
        ({"figure_region": "chr1:1-2"}, "A region for a figure is given, but no figure is asked for"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        refuse_contradictions(replace(USUAL, **changes))


@pytest.mark.parametrize("output", ["tracks", "calls", "summary", "figure", "probabilities"])
def test_one_output_is_enough(output: str) -> None:
    outputs: dict[str, Any] = {"summary": None} | {output: FILE}
    refuse_contradictions(replace(USUAL, **outputs))


def test_contigs_are_those_of_the_sequences_or_of_the_genome() -> None:
    assert genome_of(USUAL) == FILE
    assert genome_of(replace(USUAL, sequences=None, genome=Path("genome"))) == Path("genome")


def test_whole_contigs_are_wanted_where_no_region_is_given(contigs: Contigs) -> None:
    found = targets_of(USUAL, contigs)
    assert {name: [(one.name, one.start, one.end) for one in targets] for name, targets in found.items()} == {
        "chr1": [("chr1", 0, 20)],
        "features": [("features", 0, 6)],
        "2": [("2", 0, 4)],
    }
    assert all(target.is_whole for targets in found.values() for target in targets)


def test_regions_are_joined_and_sorted_under_the_genomes_names(contigs: Contigs, tmp_path: Path) -> None:
    """The second and the fourth touch, the fifth lies in them; 1 and chr2 are other names of contigs."""
    lines = ["chr2 1 3", "chr1 5 8", "1 12 14", "1 8 10", "chr1 6 7"]
    (tmp_path / "x.bed").write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    found = targets_of(replace(USUAL, regions=tmp_path / "x.bed"), contigs)
    assert {name: [(one.name, one.start, one.end) for one in targets] for name, targets in found.items()} == {
        "chr1": [("chr1:5-10", 5, 10), ("chr1:12-14", 12, 14)],
        "2": [("2:1-3", 1, 3)],
    }
    assert list(found) == ["chr1", "2"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("chr7\t0\t5\n", "Line 1 of 'x.bed' is on the contig 'chr7', which the genome 'genome.fasta' lacks"),
        ("1\t0\t21\n", "Line 1 of 'x.bed' ends at 21, the contig '1' of 'genome.fasta' at 20"),
    ],
)
def test_regions_that_the_genome_lacks_are_refused(contigs: Contigs, tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "x.bed").write_text(line)
    with pytest.raises(UserError, match=sentence):
        targets_of(replace(USUAL, regions=tmp_path / "x.bed"), contigs)


def test_a_contig_may_not_have_the_name_of_an_array_of_the_probabilities(contigs: Contigs) -> None:
    with pytest.raises(UserError, match="A contig is called 'features', which is what an array of the probabilities"):
        targets_of(replace(USUAL, probabilities=FILE), contigs)


def test_features_are_in_the_models_order() -> None:
    model = segmenter(Window(24, 12, 48, 12, 3))
    assert features_of(USUAL, model) == ["CDS", "rRNA", "tRNA"]
    assert features_of(replace(USUAL, features=" tRNA,CDS,, tRNA"), model) == ["CDS", "tRNA"]


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        (" , ", "No feature is named"),
        ("CDS,exon", "The model 'tiny' predicts no feature 'exon'; it has CDS, rRNA, tRNA"),
    ],
)
def test_features_that_the_model_lacks_are_refused(features: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        features_of(replace(USUAL, features=features), segmenter(Window(24, 12, 48, 12, 3)))


def test_the_low_threshold_is_the_threshold_where_nobody_chose() -> None:
    options = replace(USUAL, threshold=0.7, min_length=3, merge_gap=2)
    model = segmenter(Window(24, 12, 48, 12, 3))
    assert callings_of(options, model, ["CDS", "tRNA"]) == dict.fromkeys(("CDS", "tRNA"), Calling(0.7, 0.7, 3, 2))
    assert callings_of(replace(options, low_threshold=0.4), model, ["CDS"]) == {"CDS": Calling(0.7, 0.4, 3, 2)}


def test_a_table_changes_the_calls_of_single_features(tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("feature\tmin_length\ntRNA\t9\n")
    options = replace(USUAL, call_settings=tmp_path / "settings")
    found = callings_of(options, segmenter(Window(24, 12, 48, 12, 3)), ["CDS", "tRNA"])
    assert found == {"CDS": Calling(0.5, 0.5, 1, 0), "tRNA": Calling(0.5, 0.5, 9, 0)}


def test_a_low_threshold_above_the_threshold_is_refused() -> None:
    with pytest.raises(UserError, match=r"The calls: the low threshold is 0\.6, the threshold 0\.5"):
        callings_of(replace(USUAL, low_threshold=0.6), segmenter(Window(24, 12, 48, 12, 3)), ["CDS"])


def test_windows_are_whole_steps_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    model = segmenter(Window(36, 12, 60, 12, 3))
    grid = grid_of(replace(USUAL, window_overlap=0.25), model)
    assert (grid.window, grid.step, grid.output) == (36, 27, (0, 36))
    assert (grid.multiple, grid.least, grid.granularity, grid.takes_n) == (12, 12, 3, False)
    assert capsys.readouterr().out == ""
    # Of 58 bases 48 are left, and a half of these, 24, is a multiple of the model's step of 3 bases.
    grid = grid_of(replace(USUAL, window=58, window_overlap=0.5), model)
    assert (grid.window, grid.step) == (48, 24)
    assert capsys.readouterr().out == "Windows of 48 bases: the model reads multiples of 12\n"


def test_windows_of_a_central_model_overlap_by_their_output() -> None:
    grid = grid_of(replace(USUAL, window_overlap=0.25), segmenter(Window(64, 64, 64, 64, 8, central=32), takes_n=True))
    assert (grid.window, grid.step, grid.output, grid.takes_n) == (64, 24, (16, 48), True)


@pytest.mark.parametrize(
    ("window", "asked", "bounds"),
    [
        (Window(36, 12, 6_000, 12, 3), 6_012, "12 to 6,000"),
        (Window(36, 12, 6_000, 12, 3), 11, "12 to 6,000"),
        (Window(64, 64, 64, 64, 8), 128, "64"),
    ],
)
def test_windows_that_the_model_does_not_read_are_refused(window: Window, asked: int, bounds: str) -> None:
    with pytest.raises(UserError, match=f"The model 'tiny' reads {bounds} bases at once, not {asked:,}; choose"):
        grid_of(replace(USUAL, window=asked), segmenter(window))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chr1:1-20", ("chr1", 0, 20)),
        (" chr1:3-3 ", ("chr1", 2, 3)),
        ("1:2-1,000", ("chr1", 1, 20)),
        ("chr2", ("2", 0, 4)),
    ],
)
def test_a_region_of_the_figure_counts_from_1_and_ends_with_its_contig(
    contigs: Contigs, text: str, expected: tuple[str, int, int]
) -> None:
    assert named_region(text, targets_of(USUAL, contigs)) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("chr9:1-5", r"lies on no contig of the input that is read; name one .* for example chr1:1-1,000"),
        ("chr1:5", "lies on no contig of the input that is read"),
        ("chr1:0-5", "has no base of the contig; its first base is 1"),
        ("chr1:9-8", "has no base of the contig; its first base is 1"),
        ("chr1:21-30", "has no base of the contig; its first base is 1"),
        ("chr1:1-12", "has 12 bases; use at most 11"),
    ],
)
def test_a_region_of_the_figure_that_cannot_be_drawn_is_refused(
    contigs: Contigs, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    monkeypatch.setattr(segmentation_options, "LONGEST_FIGURE", 11)
    with pytest.raises(UserError, match=f"The region '{text}' of the figure {sentence}"):
        named_region(text, targets_of(USUAL, contigs))


def test_a_region_of_the_figure_may_be_as_long_as_the_longest(
    contigs: Contigs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmentation_options, "LONGEST_FIGURE", 11)
    assert named_region("chr1:5-15", targets_of(USUAL, contigs)) == ("chr1", 4, 15)


def test_choices_that_decide_over_the_numbers_are_told_without_paths() -> None:
    grid = grid_of(replace(USUAL, window=50), segmenter(Window(36, 12, 60, 12, 3)))
    found = choices(replace(USUAL, window=50, features="CDS", low_threshold=0.4), grid)
    assert found == {
        "features": "CDS",
        "window": 48,
        "window_overlap": 0.1,
        "stitch": "center",
        "both_strands": False,
        "dtype": "float32",
        "threshold": 0.5,
        "low_threshold": 0.4,
        "min_length": 1,
        "merge_gap": 0,
        "decimals": 2,
    }
