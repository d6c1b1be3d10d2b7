"""Heads, ids and sequences that dnalm_attention must refuse: one sentence, exit 1, nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TEST_DATA, Run
from dnalm.engine import attention as engine
from dnalm.tasks import attention

WINDOWS, RANDOM = TEST_DATA / "two_genomes.fasta", TEST_DATA / "random_model.safetensors"


@pytest.fixture
def refused(run_tool: Run, tmp_path: Path) -> Callable[..., str]:
    """Run a job that must be refused, and return its sentence."""

    def call(*arguments: object) -> str:
        results = tmp_path / "results"
        results.mkdir()
        code, _, error = run_tool("attention", *arguments, "--output", results / "maps", "--figure", results / "png")
        assert code == 1
        assert error.startswith("dnalm_attention: ")
        assert error.endswith(".\n")
        assert error.count("\n") == 1
        assert list(results.iterdir()) == []
        return error

    return call


LACKS = "has 2 layers of 4 heads, and no {}; choose from 1.1 to 2.4"
NO_LIST = "are no list of layer.head such as 1.4,7.10"
HEADS = {
    "1.4,7.10": LACKS.format("7.10"),
    "2.5": LACKS.format("2.5"),
    "0.1": LACKS.format("0.1"),
    "1.0": LACKS.format("1.0"),
    "3.*": LACKS.format("3.*"),
    "99999.99999": LACKS.format("99999.99999"),
    "": NO_LIST,
    "1": NO_LIST,
    "1.1;2.1": NO_LIST,
    "1.1,": NO_LIST,
    "1,4": NO_LIST,
    "-1.1": NO_LIST,
    "one.two": NO_LIST,
    "1.1.1": NO_LIST,
    "last": NO_LIST,
    "*.1": NO_LIST,
    "\u0661.\u0661": NO_LIST,  # digits, but Arabic ones
    "1.1\n2.1": NO_LIST,
    "1." + "9" * 5_000: NO_LIST,
}


@pytest.mark.parametrize("heads", HEADS, ids=lambda text: ascii(text)[:20])
def test_heads_that_are_not_there_are_refused(refused: Callable[..., str], heads: str) -> None:
    error = refused("--sequences", WINDOWS, "--model", RANDOM, f"--layers-heads={heads}")
    assert HEADS[heads] in error
    assert len(error) < 400


REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "a missing id": (("--sequences", WINDOWS, "--ids", "ecoli_100001 x"), "'two_genomes.fasta' has no sequence 'x';"),
    "missing ids": (("--sequences", WINDOWS, "--ids", "x y z"), "has no sequence 'x' and 2 other ids"),
    "no ids": (("--sequences", WINDOWS, "--ids", "  "), "No id is given"),
    "too long": (
        ("--sequences", TEST_DATA / "ecoli.fasta.gz"),
        "Sequence 'ecoli' has 40,001 tokens, the model reads 1,024; cut it",
    ),
    "protein": (("--sequences", TEST_DATA / "protein.fasta"), "it looks like protein"),
    "no FASTA": (("--sequences", TEST_DATA / "sequences.csv"), "has text before the first '>'"),
    "no file": (("--sequences", TEST_DATA / "nothing.fa"), "does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_maps_is_refused(refused: Callable[..., str], case: str) -> None:
    arguments, sentence = REFUSED[case]
    assert sentence in refused(*arguments, "--model", RANDOM)


def test_what_is_no_model_is_refused(refused: Callable[..., str]) -> None:
    assert "no model file" in refused("--sequences", WINDOWS, "--model", WINDOWS)


def test_too_many_maps_are_refused_before_they_are_made(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MOST_BYTES", 3 * 4 * 201**2 * 4)
    error = refused("--sequences", WINDOWS, "--model", RANDOM)
    assert "The maps up to sequence 'ecoli_109001' (number 4)" in error
    assert "choose fewer sequences by their ids, or fewer heads" in error


def test_more_tokens_than_a_map_may_have_are_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST_TOKENS", 200)
    assert "has 201 tokens, a map may have 200; cut it" in refused("--sequences", WINDOWS, "--model", RANDOM)
