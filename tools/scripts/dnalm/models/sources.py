"""Where a model comes from: a model file, or a Hugging Face folder as the `path` of a `huggingface` data table row."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dnalm.errors import UserError, printable, shown
from dnalm.models import scgpt
from dnalm.models.json_files import LARGEST_TEXT_FILE, parse_json, read_text
from dnalm.models.model_file import StoredModel, TensorInfo, read_header, read_model_file
from dnalm.models.model_file import read_origin as read_origin_of_weights

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")
# What publishers call a config → the files beside it that say what its tokens are.
LAYOUTS = {"config.json": TOKENIZER_FILES, scgpt.CONFIG: (scgpt.VOCABULARY,)}
ORIGIN_FILE = "dnalm.json"  # written by the installer: name, licence and provenance, which a Hugging Face folder lacks
LARGEST_NOTE = 1_000_000  # bytes of it
# In these, numbers that nothing reads may be infinite: transformers writes Infinity.
MAY_BE_INFINITE = ("config.json", scgpt.CONFIG, "tokenizer_config.json")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")  # peft's


def open_model(path: Path) -> StoredModel:
    """Return the model stored at a path, weights unread.

    The path is a model file, a flat folder (config.json, safetensors, tokenizer files), or a repository of the Hugging
    Face hub's cache (`models--org--name`), of which `refs/main` names the snapshot.

    Raises:
        UserError: there is none of these, or its files are damaged.
    """
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise UserError(f"The model '{path}' cannot be read ({error.strerror}); check its name.") from error
    if is_folder:
        return _read_folder(snapshot_folder(path), name=folder_name(path))
    if not exists:
        raise UserError(f"There is no model at '{path}'; check the name, or ask the admin to repair the data table.")
    return read_model_file(path)


def snapshot_folder(path: Path) -> Path:
    """Return the folder with the files: the snapshot that a cache repository's refs/main names, or the folder."""
    snapshots = path / "snapshots"
    if not snapshots.is_dir():
        return path
    reference = path / "refs" / "main"
    if reference.is_file():
        revision = _read_text(reference).strip()
        if revision not in {entry.name for entry in snapshots.iterdir() if entry.is_dir()}:
            raise UserError(f"The model folder '{path.name}' lacks the snapshot its refs/main names; install it again.")
        return snapshots / revision
    found = sorted(entry for entry in snapshots.iterdir() if entry.is_dir())
    if len(found) != 1:
        raise UserError(
            f"The model folder '{path.name}' has {len(found)} snapshots and no refs/main to choose one; install it again."
        )
    return found[0]


def folder_name(path: Path) -> str:
    """Return what a folder's name says of the model: of a repository of the hub's cache its id."""
    return "/".join(path.resolve().name.removeprefix("models--").split("--"))


def _config_name(folder: Path) -> str:
    """Return which file of a folder is the config; config.json if there is none."""
    return next((name for name in LAYOUTS if os.path.isfile(folder / name)), "config.json")  # noqa: PTH113 (never raises)


def refuse_adapter(names: Iterable[str], what: str) -> None:
    """Raise UserError if files of these names hold an adapter: without it, and without its base, results would be wrong."""
    if found := sorted(set(ADAPTER_FILES) & set(names)):
        raise UserError(
            f"{what} holds an adapter such as LoRA's ('{found[0]}'), which is no whole model. Merge it into its base model "
            "(peft: merge_and_unload, then save_pretrained), and use that."
        )


def _read_folder(folder: Path, name: str) -> StoredModel:
    refuse_adapter((file for file in ADAPTER_FILES if (folder / file).exists()), f"The model folder '{shown(name)}'")
    config_file = _config_name(folder)
    config = read_json_object(folder / config_file)
    tensors: dict[str, TensorInfo] = {}
    exported: dict[str, Any] = {}  # what an exported model says of itself
    files = _weight_files(folder)
    for file in files:
        metadata, found = read_header(file)
        exported |= read_origin_of_weights(metadata, file)
        if repeated := tensors.keys() & found.keys():
            raise UserError(f"The model '{name}' has tensor '{min(repeated)}' in two of its files; install it again.")
        tensors |= found
    tokenizer: dict[str, Any] = {}
    for file_name in LAYOUTS[config_file]:
        file = folder / file_name
        if file.is_file():
            tokenizer[file_name] = read_json_object(file) if file.suffix == ".json" else _read_text(file)
    origin = read_origin(folder)
    licence = origin.get("licence", exported.get("licence"))
    revision = {"revision": folder.name} if folder.parent.name == "snapshots" else {}
    before = {"exported_from": exported["provenance"]} if "provenance" in exported else {}
    return StoredModel(
        name=shown(origin.get("name", name)),
        files=files,
        tensors=tensors,
        config=config,
        tokenizer=tokenizer,
        licence=None if licence is None else printable(licence),
        labels=[printable(label) for label in exported["labels"]] if "labels" in exported else None,
        provenance=origin.get("provenance", revision) | before,
    )


def read_origin(folder: Path) -> dict[str, Any]:
    """Return what the installer noted of a folder's model (name, licence, provenance), without what it did not know.

    Raises:
        UserError: the note is damaged.
    """
    file = folder / ORIGIN_FILE
    if not file.is_file():
        return {}
    origin = {key: value for key, value in read_json_object(file, LARGEST_NOTE).items() if value is not None}
    for key, kind in (("name", str), ("licence", str), ("provenance", dict)):
        if not isinstance(origin.get(key, kind()), kind):
            raise UserError(f"The file '{file}' of a model has a '{key}' that is no {kind.__name__}; install it again.")
    return origin


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """Return a folder's safetensors: the single file, or the shards its index names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return (single,)
    if not index.is_file():
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        why = "only pickled weights, which are never read in a job" if pickled else "no model.safetensors"
        raise UserError(f"The model folder '{folder}' has {why}; ask the admin to install the model as safetensors.")
    return tuple(folder / name for name in shard_names(index))


def shard_names(index: Path) -> list[str]:
    """Return the names of the files that an index of weights names, each once, sorted.

    Raises:
        UserError: it is no index, or names files outside its folder.
    """
    weight_map = read_json_object(index).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or any(not isinstance(name, str) or name != Path(name).name for name in names):
        raise UserError(f"The index '{index}' names no shards, or files outside its folder; install the model again.")
    return sorted(set(names))


def _read_text(path: Path, most: int = LARGEST_TEXT_FILE) -> str:
    try:
        return read_text(path, most)
    except (OSError, ValueError) as error:
        why = shown(error.strerror if isinstance(error, OSError) else error)
        raise UserError(f"The file '{path}' of a model cannot be read ({why}); install the model again.") from error


def read_json_object(path: Path, most: int = LARGEST_TEXT_FILE) -> dict[str, Any]:
    """Return a JSON object of a file; raise UserError if it is missing, none, or of more bytes than `most`."""
    try:
        value = parse_json(_read_text(path, most), infinite=path.name in MAY_BE_INFINITE)
    except ValueError as error:
        raise UserError(
            f"The file '{path}' of a model is no JSON ({shown(error)}); install the model again."
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"The file '{path}' of a model is no JSON object; install the model again.")
    return value
