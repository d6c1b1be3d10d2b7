"""Weights that joblib pickled (`*.joblib`, of JAX models), read as arrays alone and written as safetensors: installer only.

joblib's own unpickler reads them, but finds no class beyond numpy's arrays, joblib's mark for them, and plain containers:
nothing of a file is run. Two-level names become one: `params/<module>/<name>` and `state/<module>/<name>`.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from numpy.typing import NDArray
from torch import Tensor

from dnalm.errors import UserError, shown
from dnalm.models.model_file import NAMES_OF_DTYPES, write_safetensors

PARAMETERS, STATE = "params", "state"
OF_STATE = {"average", "hidden", "counter"}  # what a moving average of Haiku's keeps
CLASSES: dict[tuple[str, str], Any] = {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): NumpyArrayWrapper,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
}
MOST_DIMENSIONS, LONGEST_NAME = 8, 1_000
NUMBERS = "biuf"  # kinds of dtypes
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class _Refused(Exception):  # noqa: N818 (it becomes the sentence)
    """A file holds what no weights need."""


class ArrayUnpickler(NumpyUnpickler):
    """joblib's unpickler for files of arrays in plain containers."""

    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, path: Path, file: Any) -> None:
        super().__init__(str(path), file, ensure_native_byte_order=True)
        self._left = path.stat().st_size  # bytes that arrays may still claim

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few classes that arrays need; every other is refused."""
        try:
            return CLASSES[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def load_build(self) -> None:
        """Fill an object; joblib's mark for an array is checked before the array is read in its place."""
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
        if isinstance(self.stack[-1], NumpyArrayWrapper):
            wrapper = self.stack.pop()
            self._check(wrapper)
            self.stack.append(NumpyArrayWrapper.read(wrapper, self, True))

    dispatch[pickle.BUILD[0]] = load_build

    def _check(self, wrapper: NumpyArrayWrapper) -> None:
        shape, dtype = vars(wrapper).get("shape"), vars(wrapper).get("dtype")
        if not isinstance(dtype, np.dtype) or not _is_number(dtype) or vars(wrapper).get("subclass") is not np.ndarray:
            raise _Refused("an array of objects")
        if (
            not isinstance(shape, tuple)
            or len(shape) > MOST_DIMENSIONS
            or not all(type(size) is int and size >= 0 for size in shape)
        ):
            raise _Refused("an array without a shape")
        size = dtype.itemsize
        for length in shape:
            size *= length
        self._left -= size
        if self._left < 0:
            raise _Refused("arrays that are larger than it")


def _is_number(dtype: np.dtype[Any]) -> bool:
    """Say whether a dtype is of plain numbers; `hasobject` alone says what a pickle made it say."""
    return dtype.kind in NUMBERS and dtype.fields is None and dtype.subdtype is None


def convert(sources: list[Path], target: Path) -> list[str]:
    """Write the parameters and the state of a JAX model as safetensors and return the tensors' names.

    Which file holds which is told by what is in it.

    Raises:
        UserError: a file holds more than arrays (nothing of that is run), is compressed or damaged, or two are of one kind.
    """
    tensors: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    for source in sources:
        found = _read(source)
        kind = STATE if all(set(inner) <= OF_STATE for inner in found.values()) else PARAMETERS
        if kind in kinds:
            raise UserError(
                f"The files '{kinds[kind]}' and '{source.name}' both hold {kind} of a model; give one of each."
            )
        kinds[kind] = source.name
        for module, arrays in found.items():
            for name, array in arrays.items():
                tensors[f"{kind}/{module}/{name}"] = _tensor(array, source, name)
        # A pickle may call for an array of any size without a byte of it.
        size = sum(array.nbytes for arrays in found.values() for array in arrays.values())
        if size > source.stat().st_size:
            raise UserError(
                f"The file '{source.name}' claims {size:,} bytes of arrays, more than it holds; use an intact file."
            )
    write_safetensors(target, tensors, {"format": "pt"})
    return list(tensors)


def _read(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Return module → name → array."""
    with path.open("rb") as file:
        if file.read(2) not in PICKLES:
            raise UserError(
                f"The file '{path.name}' is compressed or no joblib file of arrays; write it again with "
                "joblib.dump(…, compress=0)."
            )
        file.seek(0)
        try:
            content = ArrayUnpickler(path, file).load()
        except MemoryError:
            raise
        except _Refused as error:
            raise UserError(
                f"The file '{path.name}' holds more than arrays ({shown(error)}), which is never run; use an intact file "
                "of weights."
            ) from error
        except Exception as error:  # whatever a damaged pickle brings the unpickler to
            raise UserError(
                f"The file '{path.name}' is damaged or holds no arrays ({shown(error)}); use an intact file."
            ) from error
    whole = isinstance(content, dict) and bool(content)
    if not whole or not all(isinstance(inner, dict) and inner for inner in content.values()):
        raise UserError(f"The file '{path.name}' holds no arrays by module and name; use a file of Haiku's parameters.")
    for module, arrays in content.items():
        for name, array in arrays.items():
            if not isinstance(module, str) or not isinstance(name, str) or not isinstance(array, np.ndarray):
                raise UserError(f"The file '{path.name}' holds '{shown(name)}', which is no array; use an intact file.")
            if len(module) + len(name) > LONGEST_NAME:
                raise UserError(f"The file '{path.name}' has names of over {LONGEST_NAME} letters; use an intact file.")
    return content


def _tensor(array: NDArray[Any], source: Path, name: str) -> Tensor:
    if not _is_number(array.dtype):
        raise UserError(
            f"The file '{source.name}' holds '{shown(name)}' of the kind {array.dtype.kind!r}, which is of no numbers that "
            "models have; use an intact file."
        )
    try:
        tensor = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The file '{source.name}' holds '{shown(name)}' of numbers that models do not have ({array.dtype}); use an "
            "intact file."
        ) from error
    if tensor.dtype not in NAMES_OF_DTYPES:
        raise UserError(
            f"The file '{source.name}' holds '{shown(name)}' of the type {array.dtype}; use an intact file."
        )
    return tensor
