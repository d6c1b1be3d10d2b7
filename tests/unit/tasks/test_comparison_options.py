"""Options of a comparison of scores: what contradicts, and what the script offers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dnalm_compare_scores
import pytest
from dnalm.errors import UserError
from dnalm.tasks.comparison_options import ComparisonOptions

ONE, OTHER = Path("one.tsv"), Path("other.tsv")
USUAL = ComparisonOptions([ONE, OTHER], Path("out"))


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"group_column": "kind"}, "Give several tables, each a group, or one table with a column of groups; not both"),
        ({"tables": [ONE]}, "One table alone is one group"),
        ({"names": ["a"]}, "There are 1 names for 2 tables; give one a table"),
        ({"classification": OTHER}, "AUROC and AUPRC need labels"),
        ({"curves": OTHER}, "AUROC and AUPRC need labels"),
        ({"positive_label": "case"}, "AUROC and AUPRC need labels"),
        ({"match": "column"}, "A column that matches rows goes with '--match column' alone"),
        ({"match": "order", "match_column": "id"}, "A column that matches rows goes with '--match column' alone"),
        ({"match": "order", "compare": "rest"}, "Rows of a group cannot be matched with those of all others"),
        ({"reference_group": "a"}, "A reference group goes with '--compare reference' alone"),
    ],
)
def test_options_that_contradict_each_other_are_refused(choices: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        replace(USUAL, **choices).check()


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"names": ["a", "b"]},
        {"tables": [ONE], "group_column": "kind"},
        {"tables": [ONE], "label_column": "label", "classification": OTHER, "curves": OTHER, "positive_label": "case"},
        {"match": "column", "match_column": "id", "compare": "reference", "reference_group": "a"},
        {"compare": "rest"},
    ],
)
def test_options_that_agree_are_taken(choices: dict[str, Any]) -> None:
    replace(USUAL, **choices).check()


def test_the_script_offers_these_options_with_these_defaults() -> None:
    required = ["--tables", "one.tsv", "--tables", "other.tsv", "--output", "out"]
    assert ComparisonOptions(**vars(dnalm_compare_scores.parser().parse_args(required))) == USUAL
