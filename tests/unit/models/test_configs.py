"""Numbers of a config: which are read, and which are refused before memory or time is spent on them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from dnalm.errors import UserError
from dnalm.models.configs import (
    epsilon,
    feature_names,
    fitting_pad,
    refuse_absurd_sizes,
    refuse_other_settings,
    refuse_unfit_numbers,
    segment_window,
    size,
    steps_bases,
)
from dnalm.models.model_file import StoredModel, TensorInfo


def stored(tensors: int = 3, **config: Any) -> StoredModel:
    """Return a model named m of a few tensors with a config."""
    info = TensorInfo(Path("m"), torch.float32, (1,), 0, 4)
    return StoredModel("m", (), {str(number): info for number in range(tensors)}, config, {})


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 3},
        {"max_window_layers": 28},  # a bound, whatever the number of layers
        {"max_position_embeddings": 10_000_000},
        {"hidden_size": 2**40},
        {"pad_token_id": -1},  # stands for none
        {"num_labels": 100_000},
        {"id2label": {str(number): f"layer_{number}" for number in range(300)}},
        {"label2id": {f"layer_{number}": number for number in range(300)}},
        {"a": {"b": {"c": {"d": 1}}}},
        {"tensors": 0, "use_layers": True},
        {"layer_norm_eps": 1e20},
    ],
)
def test_numbers_that_can_be_are_left_alone(config: dict[str, Any]) -> None:
    refuse_absurd_sizes(stored(**config))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"num_hidden_layers": 4}, "asks for num_hidden_layers = 4, which its weights cannot fill"),
        ({"num_local_experts": 10**9}, "num_local_experts = 1,000,000,000, which"),
        ({"global_attention_groups": 4}, "global_attention_groups = 4"),
        ({"max_position_embeddings": 10_000_001}, "max_position_embeddings = 10,000,001, which"),
        ({"hidden_size": 2**40 + 1}, "hidden_size = 1,099,511,627,777, which"),
        ({"vision": {"sizes": [{"n_layer": 10**9}]}}, "n_layer = 1,000,000,000"),
        ({"hidden_size": -32}, "has the negative hidden_size = -32"),
        ({"sliding_window": -1}, "has the negative sliding_window = -1"),
        ({"num_experts_per_tok": -1}, "has the negative num_experts_per_tok = -1"),
        ({"n_embd": -1}, "has the negative n_embd = -1"),
        ({"a": {"b": {"c": {"d": {"e": 1}}}}}, "is nested too deep"),
        ({"num_labels": 100_001}, "has over 100,000 labels"),
        ({"id2label": dict.fromkeys(map(str, range(100_001)), "x")}, "has over 100,000 labels"),
    ],
)
def test_numbers_that_cannot_be_are_refused(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        refuse_absurd_sizes(stored(**config))


def test_a_size_is_a_whole_number_that_may_have_to_divide_another() -> None:
    model = stored(hidden_size=12, num_attention_heads=4)
    assert size(model, "hidden_size") == 12
    assert size(model, "num_attention_heads", divides="hidden_size") == 4
    assert size(model, "hidden_size", most=12) == 12


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "has heads = None, where a size is needed"),
        (0, "has heads = 0, where"),
        (-4, "has heads = -4, where"),
        (4.0, "has heads = 4.0, where"),
        (True, "has heads = True, where"),
        ("4", "has heads = 4, where"),
        (13, "has heads = 13, where"),
        (5, "has hidden_size = 12, which heads = 5 does not divide"),
    ],
)
def test_other_values_than_sizes_are_refused(value: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        size(stored(hidden_size=12, heads=value), "heads", divides="hidden_size", most=12)


def test_features_are_listed_in_their_order() -> None:
    assert feature_names(stored(features=["exon", "5UTR", "intron"])) == ("exon", "5UTR", "intron")


@pytest.mark.parametrize(
    "features",
    [None, [], "exon", {"exon": 1}, ["exon", "exon"], ["exon", 3], ["exon", " "], ["ex\non"], ["x"] * 100_001],
    ids=lambda value: str(value)[:20],
)
def test_strange_features_are_refused(features: object) -> None:
    with pytest.raises(UserError, match="segmenter 'm' lists no features, or strange ones"):
        feature_names(stored(features=features))


def test_bases_of_a_step_are_a_power_of_the_halvings() -> None:
    assert steps_bases(stored(nucl_per_token=128), 7) == 128
    with pytest.raises(UserError, match="has nucl_per_token = 128, but the positions are halved 6 times"):
        steps_bases(stored(nucl_per_token=128), 6)


def test_a_window_is_that_of_the_config_or_the_published_one_cut_to_whole_steps() -> None:
    assert segment_window(stored(segment_window=240), 30_000, 24) == 240
    assert segment_window(stored(), 30_000, 24) == 30_000
    assert segment_window(stored(), 30_000, 32) == 29_984


@pytest.mark.parametrize(
    ("config", "published", "sentence"),
    [
        ({"segment_window": 100}, 30_000, "segment_window = 100, which its model cannot read"),
        ({"segment_window": 24 * 10**6}, 30_000, "segment_window = 24,000,000, which"),
        ({"segment_window": -24}, 30_000, "segment_window = -24, where a size is needed"),
        ({}, 20, "segment_window = 0, which"),
    ],
)
def test_windows_that_no_step_divides_are_refused(config: dict[str, Any], published: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        segment_window(stored(**config), published, 24)


def test_an_epsilon_is_a_small_fraction() -> None:
    assert epsilon(stored(layer_norm_eps=1e-12), "layer_norm_eps") == 1e-12
    for value in (None, 0.0, 1.0, -1e-5, 1, "1e-5", float("nan")):
        with pytest.raises(UserError, match=r"has layer_norm_eps = .*, where a number between 0 and 1 is needed"):
            epsilon(stored(layer_norm_eps=value), "layer_norm_eps")


def test_a_setting_may_be_absent_or_the_known_one() -> None:
    known = {"hidden_act": "gelu", "is_decoder": False}
    refuse_other_settings(stored(), known)
    refuse_other_settings(stored(hidden_act="gelu", other=3), known)
    with pytest.raises(UserError, match="model 'm' has hidden_act = relu; only gelu is known here"):
        refuse_other_settings(stored(hidden_act="relu"), known)


USUAL = {
    "hidden_size": 8,
    "sliding_window": 4096,
    "num_key_value_heads": None,
    "type_vocab_size": 0,
    "max_relative_positions": -1,
    "layer_norm_eps": 1e-12,
    "norm_epsilon": 1e-5,
    "max_window_layers": 28,
    "initializer_range": 0.02,
    "attention_dropout": 0.0,
    "rope_parameters": {"rope_theta": 1e4},
    "use_cache": True,
}


@pytest.mark.parametrize(
    "config",
    [
        USUAL,
        {"hidden_size": 1, "num_key_value_heads": 1, "sliding_window": 1},
        {"num_key_value_heads": None, "type_vocab_size": 0, "max_relative_positions": -1},  # as usual
        {"max_window_layers": 0},
        {"initializer_range": float("nan")},  # of new weights alone
        {"time_step_limit": [0.0, float("inf")], "other_size": 0, "other_eps": None},  # no code reads them
        {"layer_norm_eps": 1, "use_cache": None},
    ],
)
def test_numbers_that_an_architecture_can_use_are_left_alone(config: dict[str, Any]) -> None:
    refuse_unfit_numbers("m", config, USUAL)


@pytest.mark.parametrize("key", ["hidden_size", "sliding_window", "num_key_value_heads"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "8"])
def test_a_size_that_is_none_is_refused(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"'m' has {key} = .*, where a size of 1 or more is needed"):
        refuse_unfit_numbers("m", {key: value}, USUAL)


@pytest.mark.parametrize("key", ["layer_norm_eps", "norm_epsilon"])
@pytest.mark.parametrize("value", [0, 0.0, -1e-5, None, float("nan"), float("inf"), True, "1e-5"])
def test_an_epsilon_is_a_positive_number(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"'m' has {key} = .*, where a positive number is needed"):
        refuse_unfit_numbers("m", {key: value}, USUAL)


@pytest.mark.parametrize("value", [float("inf"), {"rope_theta": float("nan")}, [[1, float("-inf")]]])
def test_an_infinite_number_that_code_reads_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"'m' has rope_parameters = .*, where a finite number is needed"):
        refuse_unfit_numbers("m", {"rope_parameters": value}, USUAL)


def test_a_size_that_may_not_be_null_is_refused_as_null() -> None:
    with pytest.raises(UserError, match="hidden_size = None"):
        refuse_unfit_numbers("m", {"hidden_size": None}, USUAL)


WORDS = {"vocab.txt": "<unk>\n<pad>\nA\nC\nG\nT\nN"}


@pytest.mark.parametrize(
    ("config", "pad"),
    [
        ({"model_type": "bert", "vocab_size": 7, "pad_token_id": 6}, 6),
        ({"model_type": "bert", "vocab_size": 7, "pad_token_id": 7}, None),
        ({"model_type": "bert", "pad_token_id": None}, None),
        ({"model_type": "esm", "vocab_size": 7, "pad_token_id": 3}, 3),
        ({"model_type": "esm", "vocab_size": 7, "pad_token_id": 7, "position_embedding_type": "rotary"}, 1),
        ({"model_type": "esm", "vocab_size": 7, "pad_token_id": None, "position_embedding_type": "rotary"}, 1),
        ({"model_type": "esm", "vocab_size": 7, "position_embedding_type": "rotary"}, 1),
        ({"model_type": "esm", "vocab_size": 1, "pad_token_id": 7, "position_embedding_type": "rotary"}, 0),
        ({"model_type": "modernbert-decoder", "vocab_size": 7, "pad_token_id": 50_283}, 1),
        ({"model_type": "roberta", "vocab_size": 7}, None),  # the architecture's own
        ({"pad_token_id": 9}, 9),
    ],
)
def test_a_pad_token_is_one_that_there_is(config: dict[str, Any], pad: int | None) -> None:
    assert fitting_pad(StoredModel("m", (), {}, config, WORDS)) == pad


@pytest.mark.parametrize("pad", [7, None])
@pytest.mark.parametrize("config", [{"model_type": "roberta"}, {"model_type": "esm"}])
def test_a_missing_pad_token_from_which_positions_are_counted_is_named(config: dict[str, Any], pad: int | None) -> None:
    stored = StoredModel("m", (), {}, config | {"vocab_size": 7, "pad_token_id": pad}, WORDS)
    with pytest.raises(UserError, match=rf"'m' has pad_token_id = {pad}, .* its tokenizer's is 1"):
        fitting_pad(stored)
