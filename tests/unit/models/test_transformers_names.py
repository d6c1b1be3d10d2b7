"""Architectures of transformers, known without importing transformers."""

import pytest
from dnalm.models import transformers_names
from torch import nn
from transformers import CONFIG_MAPPING, BertConfig, BertModel


@pytest.mark.parametrize("name", transformers_names.ARCHITECTURES)
def test_each_name_is_a_model_type_of_transformers(name: str) -> None:
    assert name in CONFIG_MAPPING
    assert transformers_names.recognises({"model_type": name})


@pytest.mark.parametrize("config", [{}, {"model_type": None}, {"model_type": "t5"}, {"model_type": ["bert"]}])
def test_other_configs_are_not_recognised(config: dict[str, object]) -> None:
    assert not transformers_names.recognises(config)


def test_only_models_of_transformers_are_told_as_such() -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    assert transformers_names.is_pretrained_model(BertModel(BertConfig(vocab_size=10, **sizes)))
    assert not transformers_names.is_pretrained_model(nn.Linear(2, 2))
    assert not transformers_names.is_pretrained_model(None)
