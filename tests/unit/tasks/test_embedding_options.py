"""The options of dnalm_embed, and what its task asks of whatever embeds."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import dnalm_embed
import pytest
from dnalm.engine.processes import in_this_process
from dnalm.tasks.embedding_options import BASELINES, Embedder, EmbeddingOptions, RepresentationInfo, Vectors


def test_defaults_are_those_of_the_command_line() -> None:
    parsed = EmbeddingOptions(**vars(dnalm_embed.parser().parse_args(["--output", "e.h5ad"])))
    assert parsed == EmbeddingOptions(Path("e.h5ad"))


def test_baselines_are_choices_of_the_command_line() -> None:
    for baseline in BASELINES:
        arguments = dnalm_embed.parser().parse_args(["--output", "e", "--representation", baseline])
        assert EmbeddingOptions(**vars(arguments)).representation == baseline


def test_options_cannot_change_while_a_job_runs() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EmbeddingOptions(Path("e.h5ad")).layer = [1]  # type: ignore[misc]


def test_an_embedder_opens_on_the_first_sequences() -> None:
    """The least that fulfils the contract: it embeds nothing, and knows what it was opened with."""
    opened: list[tuple[list[str], list[str]]] = []

    def embed_nothing(part: tuple[list[str], list[str]], on_done: Callable[[int], None]) -> Vectors:
        return [], None

    def open_it(first: tuple[list[str], list[str]]) -> object:
        opened.append(first)
        return in_this_process(embed_nothing, lambda: RepresentationInfo("nothing", {"name": "none"}))

    embedder = Embedder("CPU", "cpu", 1, 0, open_it)  # type: ignore[arg-type]
    crew = embedder.open((["a"], ["ACGT"]))
    assert opened == [(["a"], ["ACGT"])]
    assert crew.told == RepresentationInfo("nothing", {"name": "none"}, cosine=None)  # type: ignore[attr-defined]
