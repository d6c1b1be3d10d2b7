"""Stored tensors into an architecture of ours: every name and shape is compared before a weight is read."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from dnalm.errors import UserError
from dnalm.models.language_model import NoLanguageModelHead
from dnalm.models.model_file import StoredModel


class _WithoutInitialValues(TorchFunctionMode):
    """Leaves initial values out where tensors have shapes only: to draw normal numbers there torch imports its compiler.

    That takes a second of processor time, more than all else that a model needs before it runs.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, or return the tensor that it would fill as it is."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def fill(
    make: Callable[[], nn.Module],
    stored: StoredModel,
    *,
    heads: tuple[str, ...],
    head: bool,
    unused: re.Pattern[str],
    renamed: Callable[[str], str] = lambda name: name,
    arranged: Callable[[str, torch.Tensor], torch.Tensor] = lambda name, tensor: tensor,
) -> nn.Module:
    """Return a model with the stored weights, in float32, memory-mapped where the file has float32.

    Args:
        make: builds the model with its head; called where tensors have shapes only.
        stored: the model at rest.
        heads: first parts of the names of modules beyond the backbone.
        head: whether they are wanted; without, they are checked all the same and left empty.
        unused: names that published files carry and no computation needs.
        renamed: from a stored name to the module's.
        arranged: from a stored name and tensor to the tensor in the module's layout; it must not change numbers.

    Raises:
        UserError: naming the first tensor that is missing, unknown, or of the wrong shape or kind.
    """
    with torch.device("meta"), _WithoutInitialValues():
        model = make()
    names = {renamed(name): name for name in stored.tensors if not unused.search(name)}
    wanted = model.state_dict()
    if len(set(names.values())) + sum(bool(unused.search(name)) for name in stored.tensors) != len(stored.tensors):
        raise UserError(f"The model '{stored.name}' holds a tensor under two names; use intact files.")
    has_head = any(name.startswith(heads) for name in names)
    if head and not has_head:
        raise NoLanguageModelHead(stored.name)
    expected = {name for name in wanted if has_head or not name.startswith(heads)}
    if problem := _problem(stored, names, wanted, expected, arranged):
        raise UserError(f"The weights of the model '{stored.name}' do not fit its config: {problem}; use intact files.")
    read = {name for name in expected if head or not name.startswith(heads)}
    tensors = stored.read_tensors(names[name] for name in names)
    weights = {name: arranged(names[name], tensors[names[name]]).contiguous().float() for name in read}
    model.load_state_dict(weights, strict=False, assign=True)
    return model.eval().requires_grad_(False)


def _problem(
    stored: StoredModel,
    names: dict[str, str],
    wanted: dict[str, torch.Tensor],
    expected: set[str],
    arranged: Callable[[str, torch.Tensor], torch.Tensor],
) -> str | None:
    if missing := sorted(expected - names.keys()):
        return f"tensor '{missing[0]}' is missing" + (f" ({len(missing)} in all)" if len(missing) > 1 else "")
    if unknown := sorted(names[name] for name in names.keys() - expected):
        return f"tensor '{unknown[0]}' is unknown" + (f" ({len(unknown)} in all)" if len(unknown) > 1 else "")
    for name in sorted(expected):
        info, asked = stored.tensors[names[name]], tuple(wanted[name].shape)
        if tuple(arranged(names[name], torch.empty(info.shape, device="meta")).shape) != asked:
            return f"tensor '{names[name]}' has the shape {info.shape}, the config asks for {asked}"
        if not info.dtype.is_floating_point:
            return f"tensor '{names[name]}' holds whole numbers"
    return None


def in_order(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> list[tuple[int, ...]]:
    """Return the shapes of the tensors whose names match, by the number in the pattern's group; KeyError if none does."""
    found = {int(match[1]): shape for name, shape in shapes.items() if (match := re.fullmatch(pattern, name))}
    if not found:
        raise KeyError(pattern)
    return [found[number] for number in sorted(found)]


INITIAL_DEVIATION = 0.02


def initialise(model: nn.Module) -> None:
    """Draw new weights as BERT does: matrices and embeddings from N(0, 0.02²), biases 0, norms 1 (Devlin et al. 2019)."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
