"""How segments are called, read from a table: what it says, what it leaves, and what it must not say."""

from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.formats.call_settings import checked, read_call_settings
from dnalm.methods.segments import Calling

USUAL = Calling(threshold=0.5, low_threshold=0.3, min_length=5, merge_gap=2)
KNOWN = ("exon", "intron", "5UTR")


def settings(folder: Path, table: str, *wanted: str) -> dict[str, Calling]:
    path = folder / "calls.tsv"
    path.write_text(table)
    return read_call_settings(path, dict.fromkeys(wanted or KNOWN, USUAL), KNOWN)


def test_the_table_replaces_what_it_says_and_no_more(tmp_path: Path) -> None:
    table = "feature\tmin_length\tthreshold\tmerge_gap\nintron\t50\t \t\n 5UTR \t\t0.7\t0\n"
    assert settings(tmp_path, table) == {
        "exon": USUAL,
        "intron": Calling(0.5, 0.3, 50, 2),
        "5UTR": Calling(0.7, 0.3, 5, 0),
    }


def test_a_low_threshold_is_never_above_a_threshold_that_is_set_alone(tmp_path: Path) -> None:
    found = settings(tmp_path, "feature\tthreshold\tlow_threshold\nexon\t0.2\t\nintron\t0.9\t0.8\n5UTR\t0.2\t0.1\n")
    assert found["exon"] == Calling(0.2, 0.2, 5, 2)
    assert found["intron"] == Calling(0.9, 0.8, 5, 2)
    assert found["5UTR"] == Calling(0.2, 0.1, 5, 2)


def test_features_that_are_not_wanted_are_left_out(tmp_path: Path) -> None:
    found = settings(tmp_path, "feature\tmin_length\nexon\t7\nintron\t8\n", "exon")
    assert found == {"exon": Calling(0.5, 0.3, 7, 2)}


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("name\tmin_length\nexon\t7\n", "'calls.tsv' lacks the column 'feature'; its columns are feature and any of"),
        ("feature\tlength\nexon\t7\n", "'calls.tsv' has the column 'length'; .* threshold, low_threshold, min_length"),
        (
            "feature\tmin_length\nexon\t7\nenhancer\t7\n",
            "Line 3 of 'calls.tsv' names the feature 'enhancer', which the",
        ),
        ("feature\tmin_length\nexon\t7\nexon\t7\n", "Line 3 of 'calls.tsv' names the feature 'exon' again"),
        ("feature\tmin_length\nexon\t7.5\n", "Line 2 of 'calls.tsv' has '7.5' as min_length, which is no whole number"),
        ("feature\tthreshold\nexon\thigh\n", "Line 2 of 'calls.tsv' has 'high' as threshold, which is no number"),
        ("feature\tmin_length\nexon\t0\n", "Line 2 of 'calls.tsv': the shortest length is 0"),
        ("feature\tlow_threshold\nexon\t0.6\n", "Line 2 of 'calls.tsv': the low threshold is 0.6, the threshold 0.5"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path: Path, table: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        settings(tmp_path, table)


@pytest.mark.parametrize("calling", [Calling(1, 1, 1, 0), Calling(0.5, 0.001, 1, 10**9)])
def test_settings_at_the_bounds_are_taken(calling: Calling) -> None:
    assert checked(calling, "The calls") is calling


@pytest.mark.parametrize(
    ("calling", "sentence"),
    [
        (Calling(0.5, 0.0), "The calls: the low threshold is 0, the threshold 0.5; use two probabilities above 0"),
        (Calling(1.01, 0.5), "the threshold 1.01"),
        (Calling(0.4, 0.5), "the low threshold is 0.5, the threshold 0.4"),
        (Calling(float("nan"), 0.5), "the threshold nan"),
        (Calling(min_length=0), "the shortest length is 0, the gap 0; use a length of at least 1"),
        (Calling(merge_gap=-1), "the shortest length is 1, the gap -1"),
    ],
)
def test_settings_beyond_the_bounds_are_refused(calling: Calling, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        checked(calling, "The calls")
