"""Segmenters against their reference implementations (each data/<case>/README.md says which, and how)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from dnalm.models.registry import load_language_model, load_segmenter
from dnalm.models.sources import open_model
from safetensors.torch import load_file
from torch import Tensor

DATA = Path(__file__).parent / "data"
SEGMENT_NT = ["segment_nt", "segment_nt_rescaled", "segment_nt_multi_species"]
TOLERANCE = 2e-5  # of the largest value; a wrong epsilon of the norms differs by more
PROBABILITY_TOLERANCE = 1e-5


def scaled_difference(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


def sequences(case: str) -> Iterator[tuple[str, str]]:
    """Yield id and bases of each input."""
    for item in json.loads((DATA / case / "inputs.json").read_text()):
        yield item["id"], item["sequence"]


@pytest.mark.parametrize("case", SEGMENT_NT)
def test_hidden_states_of_every_layer_equal_the_reference(case: str) -> None:
    model, wanted = load_language_model(open_model(DATA / case)), load_file(DATA / case / "expected.safetensors")
    for name, bases in sequences(case):
        (encoding,) = model.encode([bases])
        assert encoding.ids.tolist() == wanted[f"{name}.input_ids"].tolist()
        layers = range(len(model.layers) + 1)
        with torch.inference_mode():
            for layer, found in enumerate(model.hidden_states(torch.from_numpy(encoding.ids)[None], None, layers)):
                assert scaled_difference(found[0], wanted[f"{name}.hidden_states.{layer}"]) <= TOLERANCE


@pytest.mark.parametrize("case", SEGMENT_NT)
def test_segment_nt_equals_the_reference(case: str) -> None:
    model, wanted = load_segmenter(open_model(DATA / case)), load_file(DATA / case / "expected.safetensors")
    for name, bases in sequences(case):
        with torch.inference_mode():
            logits = model.network(model.encode([bases]))[0]
            probabilities = model.probabilities([bases])[0]
        assert scaled_difference(logits, wanted[f"{name}.logits"]) <= TOLERANCE
        assert (probabilities - wanted[f"{name}.probabilities"]).abs().max() <= PROBABILITY_TOLERANCE
        assert probabilities.shape == (len(bases), len(model.features))
