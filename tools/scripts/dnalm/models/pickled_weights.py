"""Pickled weights (`pytorch_model.bin`), read as weights alone and written as safetensors: for the installer only."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnalm.errors import UserError, shown
from dnalm.models.model_file import NAMES_OF_DTYPES, write_safetensors

# Tied tensors are written once each; more than a few times the file's size is no tie but a trap.
LARGEST_GROWTH = 4


def convert(source: Path, target: Path) -> list[str]:
    """Write a pickled state dict as safetensors under the same keys, and return these.

    Tied and transposed tensors are written out, each on its own.

    Raises:
        UserError: the file holds more than weights (nothing of that is run), is compressed or damaged.
    """
    tensors = _read(source)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > LARGEST_GROWTH * source.stat().st_size:
        raise UserError(
            f"The file '{source.name}' claims {size:,} bytes of weights, more than it holds; use an intact file."
        )
    write_safetensors(target, tensors, {"format": "pt"})
    return list(tensors)


def _read(path: Path) -> dict[str, Tensor]:
    is_zip = zipfile.is_zipfile(path)
    try:
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise UserError(f"The file '{path.name}' is compressed, as weights never are; use an intact file.")
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip or None)
    except (UserError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise UserError(
            f"The file '{path.name}' holds more than weights, which is never run; use a model with safetensors."
        ) from error
    except Exception as error:  # torch has no one kind of error for a damaged file
        raise UserError(f"The file '{path.name}' is damaged or holds no weights; use an intact file.") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"The file '{path.name}' holds no weights by name; use an intact file.")
    for name, tensor in content.items():
        if (
            not isinstance(name, str)
            or not isinstance(tensor, Tensor)
            or tensor.layout is not torch.strided
            or tensor.dtype not in NAMES_OF_DTYPES
        ):
            raise UserError(
                f"The file '{path.name}' holds '{shown(name)}', which is no plain tensor; use an intact file."
            )
    return content
