"""DNABERT-2: linear position biases, gated layers, tied embeddings, and configs that are refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from dnalm.errors import UserError
from dnalm.models import dnabert2
from dnalm.models.dnabert2 import (
    GatedFeedForward,
    SelfAttention,
    Sizes,
    alibi,
    alibi_slopes,
    read_sizes,
    recognises,
)
from dnalm.models.model_file import StoredModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from safetensors.torch import load_file, save_file
from torch.nn import functional

PUBLISHED = REPOSITORY / "tests" / "parity" / "data" / "dnabert2"
TINY = Sizes(vocabulary=10, token_types=2, hidden=8, layers=1, heads=2, feed_forward=3, layer_norm_epsilon=1e-3)


def config(**changes: Any) -> StoredModel:
    """Return the tiny published model with another config; None leaves a key out."""
    stored = open_model(PUBLISHED)
    changed = {key: value for key, value in (stored.config | changes).items() if value is not None}
    return StoredModel("m", stored.files, stored.tensors, changed, stored.tokenizer)


def published_files(folder: Path) -> dict[str, torch.Tensor]:
    """Copy the tiny published model's text files into a folder, and return its tensors."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(PUBLISHED / name, folder)
    return load_file(PUBLISHED / "model.safetensors")


@pytest.mark.parametrize(
    ("heads", "exponents"),
    [
        (1, [8]),
        (4, [2, 4, 6, 8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (6, [2, 4, 6, 8, 1, 3]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_slopes_are_those_of_press_et_al(heads: int, exponents: list[float]) -> None:
    assert alibi_slopes(heads) == pytest.approx([2**-exponent for exponent in exponents])


def test_biases_fall_linearly_with_the_distance() -> None:
    found = alibi(3, 4, torch.zeros(1))
    assert found.shape == (1, 4, 3, 3)
    assert found[0, 0].tolist() == [[0, -0.25, -0.5], [-0.25, 0, -0.25], [-0.5, -0.25, 0]]
    assert found[0, 3, 0].tolist() == [0, -1 / 256, -2 / 256]
    assert alibi(3, 4, torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_attention_gathers_values_by_its_weights() -> None:
    torch.manual_seed(0)
    attention, states = SelfAttention(TINY), torch.randn(1, 5, 8)
    bias = alibi(5, 2, states)
    query, key, value = attention.Wqkv(states)[0].chunk(3, dim=1)
    weights = attention.attention_weights(states, bias)
    gathered = []
    for head in range(2):
        of_head = slice(4 * head, 4 * head + 4)
        scores = query[:, of_head] @ key[:, of_head].T / 2 + bias[0, head]  # √4
        torch.testing.assert_close(weights[0, head], scores.softmax(dim=1), rtol=1e-5, atol=1e-6)
        gathered.append(scores.softmax(dim=1) @ value[:, of_head])
    torch.testing.assert_close(attention(states, bias)[0], torch.cat(gathered, dim=1), rtol=1e-5, atol=1e-6)


def test_the_first_half_of_a_gated_layer_is_the_gate() -> None:
    torch.manual_seed(0)
    layer, states = GatedFeedForward(TINY), torch.randn(1, 5, 8)
    wide = states @ layer.gated_layers.weight.T
    gate, value = wide[..., :3], wide[..., 3:]
    gelu = gate * (1 + torch.erf(gate / 2**0.5)) / 2
    narrow = (gelu * value) @ layer.wo.weight.T + layer.wo.bias
    expected = functional.layer_norm(narrow + states, (8,), eps=1e-3)
    torch.testing.assert_close(layer(states), expected, rtol=1e-5, atol=1e-5)


def test_padding_is_never_attended_to() -> None:
    model = dnabert2.load(config())
    (encoding,) = model.encode(["ACGTTGCAACGTTTAGC"])
    ids = torch.from_numpy(encoding.ids)[None]
    padded = torch.cat([ids, torch.full((1, 3), model.pad_id)], dim=1)
    mask = torch.cat([torch.ones_like(ids), torch.zeros(1, 3, dtype=ids.dtype)], dim=1)
    with torch.inference_mode():
        alone, together = model.hidden_states(ids, None, [3])[0], model.hidden_states(padded, mask, [3])[0]
    torch.testing.assert_close(together[:, : ids.shape[1]], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "is_one"),
    [
        ({"alibi_starting_size": 512}, True),
        ({"alibi_starting_size": 512, "model_type": "bert"}, True),
        ({"model_type": "bert"}, False),
        ({"alibi_starting_size": 512, "model_type": "roberta"}, False),
    ],
)
def test_position_biases_distinguish_it_from_other_bert_models(config: dict[str, Any], is_one: bool) -> None:
    assert recognises(config) is is_one


def test_sizes_are_those_of_the_config() -> None:
    assert read_sizes(config()) == Sizes(4096, 2, 30, 3, 6, 64, 1e-12)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_act": "relu"}, "hidden_act = relu; only gelu is known"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings = False; only True is known"),
        ({"num_attention_heads": 4}, "hidden_size = 30, which num_attention_heads = 4 does not divide"),
        ({"type_vocab_size": None}, "type_vocab_size = None, where a size is needed"),
        ({"layer_norm_eps": 1.0}, "layer_norm_eps = 1.0, where a number between 0 and 1 is needed"),
    ],
)
def test_configs_of_no_published_variant_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_sizes(config(**changes))


def test_its_context_is_bounded_by_memory_or_the_tokenizer() -> None:
    stored = config()
    assert dnabert2.load(stored).context_length == 4_096
    short = stored.tokenizer | {"tokenizer_config.json": {"model_max_length": 512}}
    model = dnabert2.load(StoredModel("m", stored.files, stored.tensors, stored.config, short))
    assert model.context_length == 512


def test_a_decoder_that_is_not_tied_is_refused(tmp_path: Path) -> None:
    tensors = published_files(tmp_path)
    tensors["cls.predictions.decoder.weight"] = tensors["cls.predictions.decoder.weight"] + 1
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="differs from its word embeddings"):
        load_language_model(open_model(tmp_path), head=True)


def test_a_decoder_that_is_not_stored_is_the_word_embeddings(tmp_path: Path) -> None:
    tensors = published_files(tmp_path)
    del tensors["cls.predictions.decoder.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    whole, found = (dnabert2.load(open_model(folder), head=True) for folder in (PUBLISHED, tmp_path))
    ids = torch.from_numpy(whole.encode(["ACGTTGCAACG"])[0].ids)[None]
    with torch.inference_mode():
        assert torch.equal(whole.logits(ids, None), found.logits(ids, None))


def test_a_bare_model_with_a_pooler_is_read_as_its_backbone(tmp_path: Path) -> None:
    """DNABERT-S is published without the language model around it."""
    tensors = published_files(tmp_path)
    bare = {name.removeprefix("bert."): tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    save_file(bare | {"pooler.dense.weight": torch.zeros(30, 30)}, tmp_path / "model.safetensors")
    whole, found = load_language_model(open_model(PUBLISHED)), load_language_model(open_model(tmp_path))
    ids = torch.from_numpy(whole.encode(["ACGTTGCAACG"])[0].ids)[None]
    assert torch.equal(whole.hidden_states(ids, None, [3])[0], found.hidden_states(ids, None, [3])[0])


def test_a_backbone_alone_is_published_under_the_names_it_has_with_its_head(tmp_path: Path) -> None:
    model = dnabert2.load(config(), head=True)
    assert model.with_head is not None
    whole = dnabert2.published_tensors(model.with_head, tmp_path)
    bare = dnabert2.published_tensors(model.backbone, tmp_path)
    assert whole.keys() - bare.keys() == {name for name in whole if name.startswith("cls.")}
    assert all(torch.equal(tensor, whole[name]) for name, tensor in bare.items())


def test_an_untrained_model_predicts_masked_tokens_alone() -> None:
    torch.manual_seed(0)
    model = dnabert2.create(config(), causal=False)
    assert model.with_head is not None
    (encoding,) = model.encode(["ACGTTGCAACGT"])
    assert model.logits(torch.from_numpy(encoding.ids)[None], None).shape == (1, len(encoding), 4_096)
    with pytest.raises(UserError, match="sees both sides of a token; train it with the objective masked"):
        dnabert2.create(config(), causal=True)
