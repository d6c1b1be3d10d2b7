"""Segmenters against their reference implementations (each data/<case>/README.md says which, and how)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from dnalm.models.model_file import write_model_file
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


@pytest.mark.parametrize("case", ["segment_enformer", "segment_borzoi"])
def test_segmenters_of_bases_equal_the_reference(case: str) -> None:
    model, wanted = load_segmenter(open_model(DATA / case)), load_file(DATA / case / "expected.safetensors")
    bases = [sequence for _, sequence in sequences(case)]
    with torch.inference_mode():
        encoded = model.encode(bases)
        trunk = model.network.get_submodule("trunk")
        embedding = trunk(encoded)
        logits, probabilities = model.network(encoded), model.probabilities(bases)
    reference = wanted.get("embedding_transformer_tower", wanted["embedding"])
    assert scaled_difference(embedding, reference) <= TOLERANCE
    assert scaled_difference(logits, wanted["logits"]) <= TOLERANCE
    assert (probabilities - wanted["probabilities"]).abs().max() <= PROBABILITY_TOLERANCE
    first, end = model.window.output(len(bases[0]))
    assert probabilities.shape == (len(bases), end - first, len(model.features))


def test_the_trunk_of_enformer_pytorch_is_the_same(tmp_path: Path) -> None:
    """Its file has the trunk alone: the head is added under SegmentNT's names, which have no layout of their own."""
    reference = load_segmenter(open_model(DATA / "segment_enformer"))
    head = {name: tensor for name, tensor in reference.network.state_dict().items() if not name.startswith("trunk.")}
    trunk = load_file(DATA / "segment_enformer" / "enformer_pytorch_trunk.safetensors")
    config = json.loads((DATA / "segment_enformer" / "config.json").read_text())
    bases = [sequence for _, sequence in sequences("segment_enformer")]
    wanted = load_file(DATA / "segment_enformer" / "expected.safetensors")["probabilities"]
    aliases = {"_trunk.1.": "stem.", "_trunk.2.": "conv_tower.", "_trunk.4.": "transformer."}
    second = {
        alias + name.removeprefix(part): trunk[name]
        for name in trunk
        for part, alias in aliases.items()
        if name.startswith(part)
    }
    only_aliases = {name: tensor for name, tensor in trunk.items() if not name.startswith(tuple(aliases))} | second
    for number, tensors in enumerate((trunk, trunk | second, only_aliases)):
        path = tmp_path / f"{number}.safetensors"
        write_model_file(path, tensors | head, config, {}, name="trunk of a library")
        with torch.inference_mode():
            found = load_segmenter(open_model(path)).probabilities(bases)
        assert (found - wanted).abs().max() <= PROBABILITY_TOLERANCE
