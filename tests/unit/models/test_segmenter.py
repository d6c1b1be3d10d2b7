"""Loaded segmenters: their windows, and probabilities that do not depend on the batch."""

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA
from dnalm.models.registry import load_segmenter
from dnalm.models.segmenter import Segmenter, Window
from dnalm.models.sources import open_model

PARITY = REPOSITORY / "tests" / "parity" / "data"


@pytest.fixture
def segmenter() -> Segmenter:
    return load_segmenter(open_model(TEST_DATA / "segmenter.safetensors"))


def random_bases(count: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), count))


def test_a_segmenter_has_features_and_a_window(segmenter: Segmenter) -> None:
    assert segmenter.features == ("CDS", "rRNA", "tRNA")
    assert segmenter.window == Window(default=1_200, least=12, most=1_992, multiple=12, granularity=12)
    assert segmenter.window.output(1_200) == (0, 1_200)
    assert not segmenter.takes_n


def test_a_window_with_a_center_gives_its_middle_alone() -> None:
    window = Window(default=524_288, least=196_608, most=524_288, multiple=128, granularity=32, central=196_608)
    assert window.output(524_288) == (163_840, 360_448)
    assert window.output(196_608) == (0, 196_608)


def test_probabilities_do_not_depend_on_the_batch(segmenter: Segmenter) -> None:
    sequences = [random_bases(240, seed) for seed in range(3)]
    with torch.inference_mode():
        together = segmenter.probabilities(sequences)
        alone = torch.cat([segmenter.probabilities([bases]) for bases in sequences])
    assert together.shape == (3, 240, 3)
    assert ((together > 0) & (together < 1)).all()
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", ["segment_enformer", "segment_borzoi"])
def test_segmenters_of_bases_read_n_and_do_not_depend_on_the_batch(case: str) -> None:
    segmenter = load_segmenter(open_model(PARITY / case))
    bases = 3 * 1_024
    sequences = [random_bases(bases), "N" * 1_000 + random_bases(bases - 1_000, 1)]
    with torch.inference_mode():
        together = segmenter.probabilities(sequences)
        alone = torch.cat([segmenter.probabilities([sequence]) for sequence in sequences])
    assert segmenter.takes_n
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    first, end = segmenter.window.output(bases)
    assert together.shape == (2, end - first, 14)


def test_probabilities_are_those_of_the_second_class(segmenter: Segmenter) -> None:
    logits = torch.tensor([[[[0.0, 0.0], [1.0, 3.0]]]], dtype=torch.bfloat16)
    segmenter.network.forward = lambda encoded: logits
    (found,) = segmenter.probabilities(["ACG"])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.8807971]]))  # 1 / (1 + e⁻²)


def test_bfloat16_stays_near_float32() -> None:
    sequences = [random_bases(480)]
    segmenter = load_segmenter(open_model(PARITY / "segment_nt"))
    with torch.inference_mode():
        exact = segmenter.probabilities(sequences)
        segmenter.to(torch.device("cpu"), torch.bfloat16)
        near = segmenter.probabilities(sequences)
    assert near.dtype == torch.float32
    assert (near - exact).abs().max() < 0.03


def test_buffers_keep_their_float32() -> None:
    """Statistics of batch norms would lose too much in bfloat16."""
    segmenter = load_segmenter(open_model(PARITY / "segment_enformer"))
    before = {name: buffer.clone() for name, buffer in segmenter.network.named_buffers()}
    segmenter.to(torch.device("cpu"), torch.bfloat16)
    assert {parameter.dtype for parameter in segmenter.network.parameters()} == {torch.bfloat16}
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in segmenter.network.named_buffers())
