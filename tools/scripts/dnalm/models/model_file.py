"""The model file: one self-contained, canonical `.safetensors` with config, tokenizer and origin in its header.

Layout (https://github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header length, a JSON header, the
tensors' bytes. `__metadata__` holds `format`, `dnalm` (the version of this layout) and, each as a JSON string, `config`,
`tokenizer` (file name → content), `name`, `licence`, `labels`, `provenance`. Tensors named `training.*` belong to a
checkpoint and are ignored by whoever only reads the model.

Canonical: metadata and tensors are sorted and a blank-filled `pad` value ends the JSON on an 8-byte boundary with `}`.
The official writer pads behind the JSON instead, which Galaxy's sniffer refuses, and orders metadata at random.
"""

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from dnalm.errors import UserError, printable, shown
from dnalm.models.json_files import parse_json

LAYOUT_VERSION = "1"
LARGEST_HEADER = 100_000_000  # bytes; the official reader's own limit
MOST_TENSORS = 200_000
MOST_DIMENSIONS, LARGEST_COUNT = 8, 2**48
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES_OF_DTYPES = {dtype: name for name, dtype in DTYPES.items()}
TRAINING_PREFIX = "training."
# Stored by some versions of transformers, recomputed by all: positions, token types, rotary frequencies, and the causal
# masks of GPT-2 and GPT-NeoX, which in half precision hold infinity.
BUFFERS = re.compile(
    r"(position_ids|token_type_ids|inv_freq|cos_cached|sin_cached)$|"
    r"(^|\.)(attn|attention|crossattention)\.(bias|masked_bias)$"
)
# What peft calls the tensors of an adapter, and the weights of the layer around which it lies.
ADAPTER = re.compile(
    r"(^|\.)(lora_(A|B|E|embedding_A|embedding_B|magnitude_vector)|ia3_l|hada_w\d_[ab]|base_layer)(\.|$)"
)
KINDS_OF_METADATA = {
    "config": dict,
    "tokenizer": dict,
    "name": str,
    "licence": str,
    "labels": list,
    "provenance": dict,
    "training": dict,
}
# As in published files, where a number that nothing reads may be infinite.
MAY_BE_INFINITE = ("config", "tokenizer")
ORIGIN = "dnalm_origin"
KINDS_OF_ORIGIN = {"licence": str, "labels": list, "provenance": dict}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: its file, dtype, shape, and its first and past-the-end byte in the file's data."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class StoredModel:
    """A model at rest: everything about it but its weights, which `read_tensors` maps into memory.

    Attributes:
        name: what people call it.
        files: the files that hold the weights.
        tensors: name → where it lies; `training.*` left out.
        config: the architecture's config.json.
        tokenizer: tokenizer file name → content (parsed JSON, or text).
        licence, labels, provenance: what the model says of itself, where known.
        is_one_file: whether it is a model file, config and tokenizer included.
        training: of a checkpoint what its tensors do not hold of the state of training.
    """

    name: str
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorInfo]
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    licence: str | None = None
    labels: list[str] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    is_one_file: bool = False
    training: dict[str, Any] | None = None

    def read_tensors(self, names: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
        """Return the weights, or those named, memory-mapped; raise UserError if one holds NaN or infinity."""
        wanted = self.tensors.keys() if names is None else set(names)
        weights: dict[str, torch.Tensor] = {}
        for path in self.files:
            with safe_open(path, framework="pt", device="cpu") as file:
                for name in file.keys():  # noqa: SIM118 (a safe_open is no dict)
                    if name in wanted:
                        weights[name] = file.get_tensor(name)
        for name, tensor in weights.items():
            if not BUFFERS.search(name) and not is_finite(tensor):
                raise UserError(
                    f"The model '{self.name}' has NaN or infinite weights in '{name}'; use an intact model."
                )
        return weights

    def read_training_tensors(self) -> dict[str, torch.Tensor]:
        """Return a checkpoint's tensors beside its weights, without their prefix, memory-mapped."""
        with safe_open(self.files[0], framework="pt", device="cpu") as file:
            names = [name for name in file.keys() if name.startswith(TRAINING_PREFIX)]  # noqa: SIM118
            return {name.removeprefix(TRAINING_PREFIX): file.get_tensor(name) for name in names}

    def sha256(self) -> str:
        """Return what identifies the model, in hexadecimal.

        Of a model file its SHA-256; of a folder that of its weights' digests, its config and its tokenizer, since each of
        them changes results.
        """
        digests = []
        for path in self.files:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        if self.is_one_file:
            return digests[0]
        whole = _canonical_json([digests, self.config, self.tokenizer], infinite=True)
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def is_finite(tensor: torch.Tensor) -> bool:
    """Say whether a tensor holds no NaN and no infinity, without a copy of it (extremes carry both)."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


def write_model_file(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    *,
    name: str,
    licence: str | None = None,
    labels: list[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    training_tensors: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a model file, or with a state of training a checkpoint; the same model always gives the same bytes."""
    metadata = {
        "format": "pt",
        "dnalm": LAYOUT_VERSION,
        "config": _canonical_json(config, infinite=True),
        "tokenizer": _canonical_json(tokenizer, infinite=True),
        "name": _canonical_json(name),
        "provenance": _canonical_json(provenance or {}),
    }
    if licence is not None:
        metadata["licence"] = _canonical_json(licence)
    if labels is not None:
        metadata["labels"] = _canonical_json(labels)
    if training is not None:
        metadata["training"] = _canonical_json(training)
        of_training = {f"{TRAINING_PREFIX}{key}": tensor for key, tensor in (training_tensors or {}).items()}
        tensors = {**tensors, **of_training}
    write_safetensors(path, tensors, metadata)


def origin_of(stored: StoredModel) -> dict[str, str]:
    """Return what a model says of itself, as metadata of weights that leave their model file."""
    return {ORIGIN: _canonical_json({key: getattr(stored, key) for key in KINDS_OF_ORIGIN if getattr(stored, key)})}


def read_origin(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Return what `origin_of` wrote of a model; nothing of weights that never were in a model file.

    Raises:
        UserError: it is damaged.
    """
    if ORIGIN not in metadata:
        return {}
    try:
        said = parse_json(metadata[ORIGIN])
    except ValueError as error:
        raise _damaged(path, f"its metadata '{ORIGIN}' is no JSON") from error
    if not isinstance(said, dict) or not all(
        isinstance(value, KINDS_OF_ORIGIN.get(key, ())) for key, value in said.items()
    ):
        raise _damaged(path, f"its metadata '{ORIGIN}' is not what an export writes")
    if not all(isinstance(label, str) for label in said.get("labels", [])):
        raise _damaged(path, "its labels are not all text")
    return said


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as canonical safetensors, one after the other, so that memory holds one copy at most."""
    # Wide types first keeps every tensor aligned to its own size, as the official writer does.
    names = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))
    header: dict[str, Any] = {}
    position = 0
    for key in names:
        tensor = tensors[key]
        end = position + tensor.numel() * tensor.element_size()
        header[key] = {
            "dtype": NAMES_OF_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    encoded = _padded_header(metadata, header)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for key in names:
            flat = tensors[key].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def read_model_file(path: Path) -> StoredModel:
    """Read and validate a model file's header; no weight is read.

    Raises:
        UserError: the file is not safetensors, is damaged, or says nothing of its config and tokenizer.
    """
    metadata, tensors = read_header(path)
    for key in ("config", "tokenizer"):
        if key not in metadata:
            raise UserError(
                f"The file '{path.name}' holds weights but no {key}: it is not a DNA-LM model file; "
                "use a model that a DNA-LM tool made or the admin installed."
            )
    said = {key: _metadata_json(metadata, key, path) for key in KINDS_OF_METADATA if key in metadata}
    if metadata.get("dnalm") != LAYOUT_VERSION:
        raise UserError(
            f"The model file '{path.name}' has layout version '{shown(metadata.get('dnalm'))}', this tool reads "
            f"'{LAYOUT_VERSION}'; use a newer version of the tool."
        )
    if not all(isinstance(label, str) for label in said.get("labels", [])):
        raise _damaged(path, "its labels are not all text")
    return StoredModel(
        name=shown(said.get("name", path.stem)),
        files=(path,),
        tensors={key: info for key, info in tensors.items() if not key.startswith(TRAINING_PREFIX)},
        config=said["config"],
        tokenizer=said["tokenizer"],
        licence=printable(said["licence"]) if "licence" in said else None,
        labels=[printable(label) for label in said["labels"]] if "labels" in said else None,
        provenance=said.get("provenance", {}),
        is_one_file=True,
        training=said.get("training"),
    )


def read_header(path: Path) -> tuple[dict[str, str], dict[str, TensorInfo]]:
    """Return metadata and tensors of any safetensors file after checking every number in its header.

    Raises:
        UserError: too short, a header over 100 MB or no JSON object, duplicate keys, unknown dtypes, sizes that disagree
            with shapes, tensors that overlap, leave gaps or lie outside the file.
    """
    try:
        if not path.is_file():
            raise UserError(f"The model '{path}' is not a regular file. Check its name.")
        size = path.stat().st_size
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"The model '{path}' cannot be read ({error.strerror}); check its name.") from error
    with file:
        start = file.read(8)
        if len(start) < 8:
            raise _damaged(path, "it is too short to be safetensors")
        length = struct.unpack("<Q", start)[0]
        if length > LARGEST_HEADER:
            raise _damaged(path, "it does not start with the header of a safetensors file, or one of over 100 MB")
        if length > size - 8:
            raise _damaged(path, "it is cut short within its header")
        raw = file.read(length)
    header = _json_object(raw, path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata are not all text")
    tensors = {name: _tensor_info(path, name, entry) for name, entry in header.items()}
    if adapted := next(
        (name for name in tensors if not name.startswith(TRAINING_PREFIX) and ADAPTER.search(name)), None
    ):
        raise UserError(
            f"The weights '{path.name}' hold an adapter that is not merged (tensor '{shown(adapted)}'). Merge it into its "
            "base model (peft: merge_and_unload, then save_pretrained), and use that."
        )
    if not 0 < len(tensors) <= MOST_TENSORS:
        raise _damaged(path, f"it holds {len(tensors):,} tensors")
    position = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position:
            raise _damaged(path, f"tensor '{name}' overlaps another or leaves a gap")
        position = info.end
    if position != size - 8 - length:
        kind = "it is cut short" if position > size - 8 - length else "bytes follow its last tensor"
        raise _damaged(path, f"{kind} (its header asks for {position:,} bytes, it has {size - 8 - length:,})")
    return metadata, tensors


def _tensor_info(path: Path, name: str, entry: object) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"tensor '{name}' is not described as safetensors asks")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _damaged(path, f"tensor '{name}' has the unknown type '{shown(dtype)}'")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise _damaged(path, f"tensor '{name}' has a shape or place that is no whole number")
    start, end = offsets
    if end - start != prod(shape) * DTYPES[dtype].itemsize:
        raise _damaged(path, f"tensor '{name}' has a size that disagrees with its shape")
    return TensorInfo(path, DTYPES[dtype], tuple(shape), start, end)


def _are_counts(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= MOST_DIMENSIONS
        and all(type(value) is int and 0 <= value < LARGEST_COUNT for value in values)
    )


def _json_object(raw: bytes, path: Path) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise _damaged(path, f"its header has the key '{key[:80]}' twice")
            found[key] = value
        return found

    try:
        if not raw.startswith(b"{"):
            raise ValueError
        header = parse_json(raw.decode("utf-8"), pairs=without_duplicates)
    except ValueError as error:
        raise _damaged(path, "its header is no JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    return header


def _metadata_json(metadata: Mapping[str, str], key: str, path: Path) -> Any:
    try:
        value = parse_json(metadata[key], infinite=key in MAY_BE_INFINITE)
    except ValueError as error:
        raise _damaged(path, f"its metadata '{key}' is no JSON") from error
    if not isinstance(value, KINDS_OF_METADATA[key]):
        raise _damaged(path, f"its metadata '{key}' is no {KINDS_OF_METADATA[key].__name__}")
    return value


def _damaged(path: Path, how: str) -> UserError:
    return UserError(f"The model file '{path.name}' is damaged or no model file: {how}; use an intact model file.")


def _canonical_json(value: object, *, infinite: bool = False) -> str:
    def encode(ensure_ascii: bool) -> str:
        return json.dumps(value, sort_keys=True, ensure_ascii=ensure_ascii, separators=(",", ":"), allow_nan=infinite)

    text = encode(ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates, which JSON can name and no file can hold
        return encode(ensure_ascii=True)
    return text


def _padded_header(metadata: Mapping[str, str], tensors: Mapping[str, Any]) -> bytes:
    """Return the JSON header, `__metadata__` first, lengthened by its pad key to a multiple of 8 bytes."""

    def encode(pad: int) -> bytes:
        whole = {"__metadata__": dict(sorted({**metadata, "pad": " " * pad}.items())), **tensors}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()

    return encode(-len(encode(0)) % 8)
