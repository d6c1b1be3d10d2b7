"""Descriptions of models, and models whose trial gives no sensible numbers."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, SIZES, TEST_DATA
from dnalm.errors import UserError
from dnalm.models.description import describe, try_cell_model, try_classifier, try_model
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.segmenter import Segmenter
from dnalm.models.sources import open_model
from torch import Tensor

PARITY = REPOSITORY / "tests" / "parity" / "data"
ModelFolder = Callable[[str], Path]


def rewritten(
    stored: StoredModel, path: Path, change: Callable[[dict[str, Tensor]], object], **config: Any
) -> StoredModel:
    """Return a model with other weights or another config, in a file."""
    tensors = {name: tensor.clone() for name, tensor in stored.read_tensors().items()}
    change(tensors)
    write_model_file(path, tensors, stored.config | config, stored.tokenizer, name="m")
    return open_model(path)


@pytest.mark.slow
def test_a_masked_language_model_is_described(model_folder: ModelFolder) -> None:
    facts = describe(open_model(model_folder("bert")))
    assert facts.pop("name").startswith("bert")
    # Embeddings (73 words, 256 positions, 2 types), three layers, the head's dense layer, norm and bias.
    width, wide, words = 32, 48, SIZES["vocab_size"]
    layer = 4 * (width * width + width) + 2 * width * wide + wide + width + 4 * width
    head = width * width + width + 2 * width + words
    parameters = (words + 256 + 2) * width + 2 * width + 3 * layer + head
    assert facts == {
        "architecture": "bert",
        "parameters": f"{parameters:,}",
        "layers": "3",
        "hidden_size": "32",
        "context_tokens": "200",
        "context_bases": "about 597",  # 199 words of three bases beside the first token
        "vocabulary": "73",
        "head": "masked language model",
        "stored_as": "float32",
        "licence": "unknown",
        "provenance": "unknown",
    }


@pytest.mark.slow
def test_a_decoder_that_is_stored_twice_is_counted_once() -> None:
    stored = open_model(PARITY / "dnabert2")
    shapes = {name: int(np.prod(info.shape)) for name, info in stored.tensors.items()}
    del shapes["cls.predictions.decoder.weight"]
    assert describe(stored)["parameters"] == f"{sum(shapes.values()):,}"


@pytest.mark.slow
def test_a_decoder_of_its_own_is_counted_and_buffers_are_not(model_folder: ModelFolder, tmp_path: Path) -> None:
    stored = open_model(model_folder("llama"))
    buffers = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    with_buffers = rewritten(stored, tmp_path / "m", lambda tensors: tensors.update(buffers))
    count = sum(int(np.prod(info.shape)) for info in stored.tensors.values())
    assert describe(with_buffers)["parameters"] == f"{count:,}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head", "labels"),
    [
        ("demo_model", "causal language model", None),
        ("classifier", "masked language model, classifier", "ecoli, human"),
        ("regressor", "masked language model, regressor", "gc"),
    ],
)
def test_heads_and_labels_are_named(name: str, head: str, labels: str | None) -> None:
    facts = describe(open_model(TEST_DATA / f"{name}.safetensors"))
    assert (facts["head"], facts.get("labels")) == (head, labels)


@pytest.mark.slow
def test_a_model_without_a_head_names_its_features_and_origin() -> None:
    stored = open_model(PARITY / "nt_v2")
    bare = {name: info for name, info in stored.tensors.items() if not name.startswith("lm_head.")}
    known = {"labels": ["exon", "intron"], "provenance": {"b": 1, "a": 2}, "licence": "MIT"}
    facts = describe(dataclasses.replace(stored, tensors=bare, **known))  # type: ignore[arg-type]
    assert (facts["head"], facts["features"], facts["licence"]) == ("none", "exon, intron", "MIT")
    assert facts["provenance"] == '{"a": 2, "b": 1}'


def test_a_segmenter_is_described() -> None:
    facts = describe(open_model(PARITY / "segment_borzoi"))
    assert facts["architecture"] == "segment_borzoi"
    assert facts["window_bases"] == "524,288, of which it gives the central 1,024"
    assert facts["largest_window_bases"] == "524,288"
    assert (facts["reads_n"], facts["head"]) == ("yes", "segmentation")
    assert facts["features"].startswith("protein_coding_gene, lncRNA, exon")
    assert describe(open_model(TEST_DATA / "segmenter.safetensors"))["reads_n"] == "no: runs of N part a sequence"


def test_a_model_of_cells_is_described() -> None:
    stored = open_model(PARITY / "scgpt")
    facts = describe(stored)
    count = sum(int(np.prod(info.shape)) for info in stored.tensors.values())
    assert {key: facts[key] for key in ("architecture", "parameters", "layers", "context_tokens", "vocabulary")} == {
        "architecture": "scgpt",
        "parameters": f"{count:,}",
        "layers": "3",
        "context_tokens": "1,200",
        "vocabulary": "203",
    }


def test_a_trial_gives_the_loaded_model(random_model: Path) -> None:
    model = try_model(open_model(random_model))
    assert isinstance(model, LanguageModel)
    assert model.with_head is not None
    assert isinstance(try_model(open_model(PARITY / "segment_enformer")), Segmenter)
    assert try_classifier(open_model(random_model)) is None
    classifier = try_classifier(open_model(TEST_DATA / "classifier.safetensors"))
    assert classifier is not None
    assert classifier.labels == ("ecoli", "human")


def zeroed(tensors: dict[str, Tensor]) -> None:
    for tensor in tensors.values():
        tensor.zero_()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (zeroed, "'m' makes the same of every base: its weights are empty"),
        (lambda tensors: tensors["lm_head.decoder.weight"].fill_(3e38), "'m' makes NaN or infinity of a sequence"),
    ],
)
def test_a_language_model_without_sensible_numbers_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        try_model(rewritten(open_model(PARITY / "nt_v2"), tmp_path / "m", change))


def test_a_mask_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    """No sequence has it, so that only the tokenizer shows it."""
    stored = open_model(PARITY / "dnabert2")
    description = json.loads(json.dumps(stored.tokenizer["tokenizer.json"]))
    description["model"]["vocab"]["[MASK]"] = 9_999
    for token in description["added_tokens"]:
        token["id"] = description["model"]["vocab"][token["content"]]
    other = dataclasses.replace(stored, tokenizer={"tokenizer.json": description})
    with pytest.raises(UserError, match="makes the token id 9999, but the model has only 4096 tokens"):
        try_model(other)


def test_a_segmenter_without_sensible_numbers_is_refused(tmp_path: Path) -> None:
    def infinite(tensors: dict[str, Tensor]) -> None:
        tensors["fc.bias"].fill_(3e38)
        tensors["fc.weight"].fill_(3e38)

    with pytest.raises(UserError, match="'m' makes NaN or infinity of a sequence"):
        try_model(rewritten(open_model(PARITY / "segment_nt"), tmp_path / "m", infinite))
    with pytest.raises(UserError, match="makes the same of every base"):
        try_model(rewritten(open_model(PARITY / "segment_nt"), tmp_path / "m", zeroed))


def test_a_classifier_without_sensible_numbers_is_refused(tmp_path: Path) -> None:
    stored = open_model(TEST_DATA / "classifier.safetensors")
    broken = rewritten(stored, tmp_path / "m", lambda tensors: tensors["classifier.weight"].fill_(3e38))
    with pytest.raises(UserError, match="'m' makes NaN or infinity of a sequence"):
        try_classifier(broken)


def alike(tensors: dict[str, Tensor]) -> None:
    """Make every state 1."""
    zeroed(tensors)
    tensors["transformer_encoder.layers.2.norm2.bias"].fill_(1)


@pytest.mark.parametrize("change", [zeroed, alike])
def test_a_model_of_cells_without_sensible_numbers_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object]
) -> None:
    with pytest.raises(UserError, match="'m' makes no sensible numbers of a cell"):
        try_cell_model(rewritten(open_model(PARITY / "scgpt"), tmp_path / "m", change))
