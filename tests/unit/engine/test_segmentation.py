"""Windows through a segmenter: in order, in batches of one length, in halves where memory ends, one ahead of a GPU."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dnalm.engine.devices import Machine, prepare_machine
from dnalm.engine.inference import DeviceMemoryError
from dnalm.engine.segmentation import Read, WindowRunner, one_ahead
from dnalm.errors import UserError
from dnalm.models.registry import load_segmenter
from dnalm.models.segmenter import Segmenter
from dnalm.models.sources import open_model
from torch import Tensor

LENGTHS = [24, 240, 36, 24, 240, 240, 36, 24]


@pytest.fixture
def segmenter(segmenter_file: Path) -> Segmenter:
    return load_segmenter(open_model(segmenter_file))


@pytest.fixture
def machine() -> Machine:
    return prepare_machine("cpu", 1, None)


@pytest.fixture
def reads() -> list[Read[int]]:
    generator = np.random.default_rng(0)
    return [Read(number, "".join(generator.choice(list("ACGT"), length))) for number, length in enumerate(LENGTHS)]


class Watched:
    """Batches that a segmenter is given; those of more windows than fit raise what torch raises."""

    def __init__(self, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, most: int = 1_000) -> None:
        self.batches: list[list[int]] = []
        given = type(segmenter).probabilities

        def probabilities(model: Segmenter, sequences: Sequence[str]) -> Tensor:
            self.batches.append([len(bases) for bases in sequences])
            if len(sequences) > most:
                raise torch.OutOfMemoryError
            return given(model, sequences)

        monkeypatch.setattr(type(segmenter), "probabilities", probabilities)


def check(found: list[tuple[int, Any]], segmenter: Segmenter, reads: list[Read[int]]) -> None:
    assert [place for place, _ in found] == [read.place for read in reads]
    for (_, probabilities), read in zip(found, reads, strict=True):
        with torch.inference_mode():
            alone = segmenter.probabilities([read.bases])[0].numpy()
        np.testing.assert_allclose(probabilities, alone, rtol=0, atol=1e-6)


def test_windows_of_one_length_share_a_batch_and_keep_their_order(
    segmenter: Segmenter, machine: Machine, reads: list[Read[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(segmenter, monkeypatch)
    found = list(WindowRunner(segmenter, range(3), False, machine).run(reads))
    assert watched.batches == [[240] * 3, [36] * 2, [24] * 3]
    check(found, segmenter, reads)


def test_a_batch_that_does_not_fit_is_halved(
    segmenter: Segmenter, machine: Machine, reads: list[Read[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(segmenter, monkeypatch, most=1)
    found = list(WindowRunner(segmenter, range(3), False, machine).run(reads))
    assert watched.batches[:5] == [[240] * 3, [240], [240] * 2, [240], [240]]
    check(found, segmenter, reads)


def test_a_window_that_does_not_fit_alone_is_told_in_a_sentence(
    segmenter: Segmenter, machine: Machine, reads: list[Read[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Watched(segmenter, monkeypatch, most=0)
    with pytest.raises(DeviceMemoryError, match="One window of 240 bases does not fit into the GPU"):
        list(WindowRunner(segmenter, range(3), False, machine).run(reads))


def test_nan_is_no_probability(
    segmenter: Segmenter, machine: Machine, reads: list[Read[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(model: Segmenter, sequences: Sequence[str]) -> Tensor:
        return torch.full((len(sequences), len(sequences[0]), 3), torch.nan)

    monkeypatch.setattr(type(segmenter), "probabilities", nothing)
    with pytest.raises(UserError, match="makes NaN or infinite numbers"):
        list(WindowRunner(segmenter, range(3), False, machine).run(reads))


def test_while_one_is_used_the_next_is_made_and_no_more() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    ahead = one_ahead(numbers())
    assert next(ahead) == 0
    assert len(made) <= 2
    assert list(ahead) == [1, 2, 3, 4]


def test_an_error_of_what_is_made_ahead_is_raised_and_one_who_leaves_early_may() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise UserError("broken")

    ahead = one_ahead(broken())
    assert next(ahead) == 1
    with pytest.raises(UserError, match="broken"):
        next(ahead)
    one_ahead(iter(range(1_000))).close()
    leaving = one_ahead(iter(range(1_000)))
    next(leaving)
    leaving.close()
