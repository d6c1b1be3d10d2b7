"""Which heads are chosen, and their attention maps, compared with plain transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from dnalm.engine import attention
from dnalm.engine.attention import Head, attention_maps, chosen_heads, read_tokens
from dnalm.engine.devices import prepare_machine
from dnalm.engine.inference import DeviceMemoryError
from dnalm.errors import UserError
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model

BASES = "ACGTTGCANNACGGATTACAGATTACACC"


@pytest.fixture
def bert_folder(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("bert")


@pytest.fixture
def model(bert_folder: Path) -> LanguageModel:
    """A tiny model of 3 layers with 4 heads each."""
    return load_language_model(open_model(bert_folder))


def maps_of(model: LanguageModel, *heads: Head) -> list[np.ndarray]:
    return list(attention_maps(model, read_tokens(model, "x", BASES), heads, prepare_machine("cpu", 1, None)))


def test_heads_are_read_from_a_text(random_model: Path) -> None:
    model = load_language_model(open_model(random_model))
    assert chosen_heads("1.4, 2.1,1.4", model) == [Head(1, 4), Head(2, 1)]
    assert chosen_heads("last.3", model) == [Head(2, 3)]
    assert chosen_heads("1.*,1.2", model) == [Head(1, number) for number in (1, 2, 3, 4)]
    assert str(Head(2, 3)) == "2.3"


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "1", "1.1;2.1", "1.1,", "-1.1", "*.1", "last", "1.1.1"])
def test_a_text_that_is_no_list_of_heads_is_refused(model: LanguageModel, text: str) -> None:
    with pytest.raises(UserError, match=r"are no list of layer\.head such as 1\.4,7\.10"):
        chosen_heads(text, model)


@pytest.mark.parametrize("text", ["4.1", "0.1", "1.0", "3.5", "1.1,4.*"])
def test_heads_that_the_model_lacks_are_refused(model: LanguageModel, text: str) -> None:
    lacking = text.rpartition(",")[2].replace("*", r"\*")
    with pytest.raises(UserError, match=rf"has 3 layers of 4 heads, and no {lacking}; choose from 1\.1 to 3\.4"):
        chosen_heads(text, model)


def test_more_tokens_than_the_model_reads_are_refused(model: LanguageModel) -> None:
    assert len(read_tokens(model, "x", "ACG" * 199)) == 200
    with pytest.raises(UserError, match="Sequence 'x' has 201 tokens, the model reads 200; cut it"):
        read_tokens(model, "x", "ACG" * 200)


def test_a_model_without_a_limit_still_has_one_for_maps(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model.context_length = None
    monkeypatch.setattr(attention, "MOST_TOKENS", 50)
    assert len(read_tokens(model, "x", "ACG" * 49)) == 50
    with pytest.raises(UserError, match="Sequence 'x' has 51 tokens, a map may have 50; cut it"):
        read_tokens(model, "x", "ACG" * 50)


def test_maps_come_in_the_order_of_the_heads(model: LanguageModel, bert_folder: Path) -> None:
    heads = [Head(3, 2), Head(1, 4), Head(3, 1), Head(1, 1)]
    reference = transformers.AutoModel.from_pretrained(
        bert_folder, attn_implementation="eager", trust_remote_code=False
    ).eval()
    ids = torch.from_numpy(read_tokens(model, "x", BASES).ids)[None]
    with torch.inference_mode():
        expected = reference(ids, output_attentions=True).attentions
    found = maps_of(model, *heads)
    assert len(found) == len(heads)
    for head, of_head in zip(heads, found, strict=True):
        np.testing.assert_allclose(of_head, expected[head.layer - 1][0, head.head - 1].numpy(), rtol=0, atol=1e-6)


def test_a_map_that_is_nan_is_refused(model: LanguageModel) -> None:
    first = next(model.layers[0].parameters())
    first.data = torch.full_like(first, torch.nan)
    with pytest.raises(UserError, match="makes NaN or infinite numbers of a sequence"):
        maps_of(model, Head(1, 1))


def test_maps_too_large_for_the_gpu_are_refused(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(model, "attention_maps", full)
    with pytest.raises(DeviceMemoryError, match="attention of 14 tokens does not fit into the GPU"):
        maps_of(model, Head(1, 1))
