"""Stored tensors into a module: what is read, what is refused before a weight is read, and fresh weights."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dnalm.errors import UserError
from dnalm.models.language_model import NoLanguageModelHead
from dnalm.models.model_file import StoredModel, read_model_file, write_model_file
from dnalm.models.weights import fill, in_order, initialise
from torch import Tensor, nn

Tensors = dict[str, Tensor]


class Tiny(nn.Module):
    """A backbone of two layers and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
        self.head = nn.Linear(3, 1, bias=False)


def tensors(**changes: Tensor | None) -> Tensors:
    """Return a tiny model's tensors with some changed, added, or (None) left out; `__` in a name stands for a dot."""
    generator = torch.Generator().manual_seed(0)
    whole = {name: torch.randn(value.shape, generator=generator) for name, value in Tiny().state_dict().items()}
    changed = whole | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[Tensors], StoredModel]:
    """Return a function that gives a model at rest with some tensors."""

    def make(weights: Tensors) -> StoredModel:
        write_model_file(tmp_path / "m", weights, {}, {}, name="tiny")
        return read_model_file(tmp_path / "m")

    return make


def filled(stored: StoredModel, **changes: Any) -> nn.Module:
    options: dict[str, Any] = {"heads": ("head.",), "head": True, "unused": re.compile(r"^unused")}
    return fill(Tiny, stored, **(options | changes))


def test_every_tensor_is_read_in_float32_ready_for_inference(stored: Callable[[Tensors], StoredModel]) -> None:
    weights = {name: tensor.half() for name, tensor in tensors().items()}
    model = filled(stored(weights | {"unused.more": torch.ones(1)}))
    found = model.state_dict()
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], tensor.float())
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_head_that_is_not_wanted_takes_no_memory(stored: Callable[[Tensors], StoredModel]) -> None:
    model = filled(stored(tensors()), head=False)
    assert isinstance(model, Tiny)
    assert model.head.weight.is_meta
    assert not any(parameter.is_meta for parameter in model.body.parameters())


def test_a_model_without_its_head_is_read_only_without(stored: Callable[[Tensors], StoredModel]) -> None:
    bare = stored(tensors(head__weight=None))
    assert not filled(bare, head=False).training
    with pytest.raises(NoLanguageModelHead, match="'tiny' has no language-model head"):
        filled(bare)


def test_names_and_layouts_of_others_are_translated(stored: Callable[[Tensors], StoredModel]) -> None:
    theirs = {f"old/{name}": tensor.T if tensor.ndim == 2 else tensor for name, tensor in tensors().items()}
    model = filled(
        stored(theirs),
        renamed=lambda name: name.removeprefix("old/"),
        arranged=lambda name, tensor: tensor.T if tensor.ndim == 2 else tensor,
    )
    assert all(torch.equal(value, tensors()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"body__0__bias": None}, r"tensor 'body\.0\.bias' is missing; use intact files"),
        ({"body__0__bias": None, "body__1__bias": None}, r"'body\.0\.bias' is missing \(2 in all\)"),
        ({"more": torch.ones(1)}, "tensor 'more' is unknown; use"),
        ({"more": torch.ones(1), "another": torch.ones(1)}, r"tensor 'another' is unknown \(2 in all\)"),
        ({"body__0__weight": torch.ones(3, 3)}, r"has the shape \(3, 3\), the config asks for \(3, 2\)"),
        ({"head__weight": torch.ones(2, 3)}, r"'head\.weight' has the shape \(2, 3\)"),
        ({"body__0__bias": torch.ones(3, dtype=torch.int64)}, r"tensor 'body\.0\.bias' holds whole numbers"),
    ],
)
@pytest.mark.parametrize("head", [True, False])
def test_tensors_that_do_not_fit_are_named(
    stored: Callable[[Tensors], StoredModel], changes: dict[str, Tensor | None], sentence: str, head: bool
) -> None:
    with pytest.raises(UserError, match=sentence):
        filled(stored(tensors(**changes)), head=head)


def test_one_tensor_under_two_names_is_refused(stored: Callable[[Tensors], StoredModel]) -> None:
    twice = tensors(copy_body__0__bias=torch.ones(3))
    with pytest.raises(UserError, match="'tiny' holds a tensor under two names"):
        filled(stored(twice), renamed=lambda name: name.removeprefix("copy_"))


def test_shapes_are_ordered_by_number_not_by_text() -> None:
    shapes = {f"layer.{number}.weight": (number,) for number in (10, 2, 9, 0)} | {"layer.1.bias": (7,)}
    assert in_order(shapes, r"layer\.(\d+)\.weight") == [(0,), (2,), (9,), (10,)]
    with pytest.raises(KeyError, match="tower"):
        in_order(shapes, r"tower\.(\d+)")


def test_fresh_weights_are_drawn_as_bert_does() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"embedding": nn.Embedding(200, 50), "linear": nn.Linear(200, 50), "norm": nn.LayerNorm(9)})
    for parameter in model.parameters():
        parameter.data.fill_(3.0)
    initialise(model)
    values = model.state_dict()
    for name in ("embedding.weight", "linear.weight"):
        assert values[name].std().item() == pytest.approx(0.02, rel=0.03)
        assert abs(values[name].mean().item()) < 0.001
    assert values["linear.bias"].unique().tolist() == [0]
    assert (values["norm.weight"].unique().tolist(), values["norm.bias"].unique().tolist()) == ([1], [0])
