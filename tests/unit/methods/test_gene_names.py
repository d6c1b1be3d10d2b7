"""Genes of a file that a model knows, and advice where it knows few."""

import pytest
from dnalm.methods.gene_names import matched, why_few_match

VOCABULARY = {"CD14": 3, "LYZ": 0, "C1orf112": 7}


def test_names_match_to_the_letter() -> None:
    found = matched(["LYZ", "Lyz", "C1orf112", "", "CD14", "LYZ"], VOCABULARY)
    assert found.tolist() == [0, -1, 7, -1, 3, 0]
    assert matched([], VOCABULARY).dtype == found.dtype == "int64"


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["ENSG00000170458", "ENSMUSG00000051439.7", "LYZ"], "Ensembl ids, and the model knows gene symbols"),
        (["ENSG00000170458", "ENSG17", "LYZ"], "choose a column with symbols of human genes"),  # one id is too short
        (["Cd14", "Lyz", "x"], "look like symbols of another species, such as mouse"),
        (["Cd14", "Lyz", "x", "y"], "choose a column with symbols of human genes"),  # half is not most
        (["c1ORF112", "cd14"], "most would match in capitals"),
        (["0", "1", "2"], "choose a column with symbols of human genes"),
    ],
)
def test_names_that_few_match_are_told_apart(names: list[str], advice: str) -> None:
    assert advice in why_few_match(names, VOCABULARY)
