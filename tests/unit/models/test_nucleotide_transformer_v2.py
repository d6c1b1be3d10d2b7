"""The Nucleotide Transformer v2: rotary positions, gated layers, attention, and configs that are refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from dnalm.errors import UserError
from dnalm.models import nucleotide_transformer_v2
from dnalm.models.model_file import StoredModel
from dnalm.models.nucleotide_transformer_v2 import (
    Layer,
    SelfAttention,
    Sizes,
    read_sizes,
    recognises,
    rotary,
    rotary_base,
    rotated,
)
from dnalm.models.sources import open_model
from torch.nn import functional

TINY = Sizes(vocabulary=10, hidden=8, layers=1, heads=2, feed_forward=3, layer_norm_epsilon=1e-3)
PUBLISHED = REPOSITORY / "tests" / "parity" / "data" / "nt_v2"


def config(**changes: Any) -> StoredModel:
    """Return the tiny published model with another config; None leaves a key out."""
    stored = open_model(PUBLISHED)
    changed = {key: value for key, value in (stored.config | changes).items() if value is not None}
    return StoredModel("m", stored.files, stored.tensors, changed, stored.tokenizer)


def random_states(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("tokens", "rescaling", "scale"),
    [
        (2_000, 1.0, 1.0),
        (5_001, 2.4419, 2.4419),
        (5_001, 1.0, 1.0),
        (5_002, 2.4419, 5_002 / 2_048),
        (6_669, 1.0, 3.25635),
    ],
)
def test_rotations_are_slowed_by_the_factor_or_the_length(tokens: int, rescaling: float, scale: float) -> None:
    found = rotary_base(tokens, Sizes(4107, 1024, 29, 16, 4096, 1e-12, rescaling, 5_001))
    assert found == pytest.approx(10_000 * math.exp(math.log(scale) * 64 / 62), rel=1e-5)


def test_fifty_thousand_bases_have_the_base_that_the_reference_computes() -> None:
    sizes = Sizes(4107, 1024, 29, 16, 4096, 1e-12, 2.4419, 5_001)
    assert rotary_base(8_333, sizes) == pytest.approx(42_573, abs=1)


def test_a_plain_language_model_is_never_slowed() -> None:
    sizes = Sizes(4107, 1024, 29, 16, 4096, 1e-12)
    assert rotary_base(8_333, sizes) == 10_000


def test_a_head_of_two_has_one_frequency_whatever_the_factor() -> None:
    assert rotary_base(10, Sizes(10, 4, 1, 2, 8, 1e-12, rescaling=3.0)) == 10_000


def test_pairs_of_a_head_are_turned_by_position_times_frequency() -> None:
    """Of a head of four, dimensions 0 and 2 turn by p, and 1 and 3 by p / 100."""
    turned = rotated(torch.tensor([[[[1.0, 1.0, 0.0, 0.0]] * 3]]), rotary(3, 4, torch.zeros(1)))
    for position, vector in enumerate(turned[0, 0].tolist()):
        quick, slow = position, position / 100
        assert vector == pytest.approx([math.cos(quick), math.cos(slow), math.sin(quick), math.sin(slow)], abs=1e-6)


def test_scores_of_rotated_vectors_depend_on_their_distance_alone() -> None:
    query, key = random_states(2, 8)
    turned_query, turned_key = (
        rotated(vector.expand(1, 1, 20, 8), rotary(20, 8, vector))[0, 0] for vector in (query, key)
    )
    scores = turned_query @ turned_key.T
    for distance in (0, 3, 7):
        along = torch.diagonal(scores, distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores[0, 0], query @ key)
    assert (scores[0, 7] - scores[0, 0]).abs() > 0.1


@pytest.mark.parametrize("masked", [False, True])
def test_attention_gathers_values_by_its_weights(masked: bool) -> None:
    torch.manual_seed(0)
    attention, states = SelfAttention(TINY), random_states(1, 5, 8)
    rotation = rotary(5, 4, states)
    mask = torch.tensor([True, True, False, True, True])[None, None, None] if masked else None
    weights = attention.attention_weights(states, rotation, mask)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 2, 5))
    assert bool((weights[..., 2] == 0).all()) is masked
    values = attention.value(states)[0]
    by_head = [weights[0, head] @ values[:, 4 * head : 4 * head + 4] for head in range(2)]
    torch.testing.assert_close(attention(states, rotation, mask)[0], torch.cat(by_head, dim=1), rtol=1e-5, atol=1e-6)


def test_a_layer_is_attention_and_gated_feed_forward_behind_norms() -> None:
    torch.manual_seed(0)
    layer, states = Layer(TINY), random_states(1, 5, 8)
    rotation = rotary(5, 4, states)
    normed = functional.layer_norm(states, (8,), eps=1e-3)
    between = states + layer.attention.output.dense(layer.attention.self(normed, rotation, None))
    wide = functional.layer_norm(between, (8,), eps=1e-3) @ layer.intermediate.dense.weight.T
    gate, value = wide[..., :3], wide[..., 3:]
    expected = between + (gate * torch.sigmoid(gate) * value) @ layer.output.dense.weight.T
    torch.testing.assert_close(layer(states, rotation, None), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "is_one"),
    [
        ({"add_bias_fnn": False}, True),
        ({"add_bias_fnn": False, "model_type": "esm"}, True),
        ({"add_bias_fnn": True, "model_type": "esm"}, False),
        ({"model_type": "esm"}, False),
        ({"add_bias_fnn": False, "model_type": "bert"}, False),
    ],
)
def test_layers_without_biases_distinguish_it_from_other_esm_models(config: dict[str, Any], is_one: bool) -> None:
    assert recognises(config) is is_one


def test_sizes_are_those_of_the_config_and_segmenters_are_slowed_beyond_their_training() -> None:
    assert read_sizes(config()) == Sizes(4107, 32, 3, 4, 48, 1e-5)
    with_features = read_sizes(config(features=["exon"], rescaling_factor=2))
    assert with_features == Sizes(4107, 32, 3, 4, 48, 1e-5, rescaling=2.0, rescaled_beyond=5_001)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"position_embedding_type": "absolute"}, "position_embedding_type = absolute; only rotary is known"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings = True; only False is known"),
        ({"num_attention_heads": 3}, "hidden_size = 32, which num_attention_heads = 3 does not divide"),
        ({"intermediate_size": None}, "intermediate_size = None, where a size is needed"),
        ({"layer_norm_eps": 0}, "layer_norm_eps = 0, where a number between 0 and 1 is needed"),
        ({"rescaling_factor": 0.5}, "rescaling_factor = 0.5, where a number from 1 to 1,000 is needed"),
    ],
)
def test_configs_of_no_published_variant_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_sizes(config(**changes))


def test_the_context_is_the_shorter_of_positions_and_tokenizer() -> None:
    stored = config()
    files = {"vocab.txt": stored.tokenizer["vocab.txt"]}
    for longest, expected in ((None, 256), (100, 100), (1_000, 256)):
        settings = {} if longest is None else {"tokenizer_config.json": {"model_max_length": longest}}
        model = nucleotide_transformer_v2.load(
            StoredModel("m", stored.files, stored.tensors, stored.config, files | settings)
        )
        assert model.context_length == expected  # of 258 positions two are behind the padding


def test_a_backbone_alone_is_published_under_the_names_it_has_with_its_head(tmp_path: Path) -> None:
    model = nucleotide_transformer_v2.load(config(), head=True)
    assert model.with_head is not None
    whole = nucleotide_transformer_v2.published_tensors(model.with_head, tmp_path)
    bare = nucleotide_transformer_v2.published_tensors(model.backbone, tmp_path)
    assert whole.keys() - bare.keys() == {name for name in whole if name.startswith("lm_head.")}
    assert all(torch.equal(tensor, whole[name]) for name, tensor in bare.items())


def test_an_untrained_model_predicts_masked_tokens_alone() -> None:
    torch.manual_seed(0)
    model = nucleotide_transformer_v2.create(config(), causal=False)
    assert model.with_head is not None
    (encoding,) = model.encode(["ACGTTGCAACGT"])
    assert model.logits(torch.from_numpy(encoding.ids)[None], None).shape == (1, 3, 4107)
    words = model.backbone.get_parameter("embeddings.word_embeddings.weight")
    assert words.std().item() == pytest.approx(0.02, rel=0.01)
    with pytest.raises(UserError, match="sees both sides of a token; train it with the objective masked"):
        nucleotide_transformer_v2.create(config(), causal=True)


def test_a_sequence_longer_than_its_window_of_training_still_runs() -> None:
    model = nucleotide_transformer_v2.load(config())
    with torch.inference_mode():
        (states,) = model.hidden_states(torch.full((1, 400), 10), None, [3])
    assert np.isfinite(states.numpy()).all()
