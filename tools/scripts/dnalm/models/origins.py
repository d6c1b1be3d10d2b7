"""Where a model is installed from, the hub or a folder on the server, and which of its files make the model."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub.repocard import metadata_load

from dnalm.errors import UserError, shown
from dnalm.models.hub import HubModel, download, licence_of_card
from dnalm.models.json_files import LARGEST_TEXT_FILE
from dnalm.models.model_file import StoredModel, read_header
from dnalm.models.pickled_weights import convert
from dnalm.models.registry import is_known, refuse_unknown_architecture, with_config_of_tensors
from dnalm.models.sources import (
    LARGEST_NOTE,
    LAYOUTS,
    ORIGIN_FILE,
    folder_name,
    read_json_object,
    read_origin,
    refuse_adapter,
    shard_names,
    snapshot_folder,
)

CONFIG, CARD = "config.json", "README.md"
WEIGHTS, JAX_WEIGHTS = "model.safetensors", ".joblib"
PICKLED_WEIGHTS = ("pytorch_model.bin", "best_model.pt")  # the second is scGPT's
INDEX = ".index.json"
LARGEST_CARD = 10_000_000  # bytes
LONGEST_NAME = 200  # letters
# Of a note or of a snapshot's folder: it becomes a part of a path and of a row of the data table.
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Origin(Protocol):
    """Where a model is installed from: what is known of it, the sizes of its files in bytes, and the files."""

    name: str
    licence: str | None
    provenance: dict[str, Any]
    sizes: dict[str, int]

    def fetch(self, name: str) -> Path:
        """Return a file of it on this machine."""
        ...

    def place(self, path: Path, target: Path) -> None:
        """Put a fetched file where it is to stay."""
        ...


class HubOrigin:
    """A model of the hub at one commit, fetched into a folder of downloads."""

    def __init__(
        self,
        model: HubModel,
        licence: str | None,
        downloads: Path,
        token: str | None,
        counter: Callable[[str, int], Callable[[int], None]],
    ) -> None:
        self.name = model.id
        self.licence = licence
        self.provenance: dict[str, Any] = {"source": "Hugging Face hub", "id": model.id, "revision": model.commit}
        self.sizes = {name: file.size for name, file in model.files.items()}
        self._model, self._downloads, self._token, self._counter = model, downloads, token, counter

    def fetch(self, name: str) -> Path:
        """Download a file, or go on where a break left it."""
        return download(self._model, name, self._downloads, self._token, self._counter(name, self.sizes[name]))

    def place(self, path: Path, target: Path) -> None:
        """Move it: a download is needed once."""
        shutil.move(path, target)


class FolderOrigin:
    """A folder on the server: flat, or of the hub's cache with its links into `blobs`."""

    def __init__(self, path: Path, licence: str | None) -> None:
        try:
            if not path.is_dir():
                raise UserError(
                    f"There is no folder '{shown(path, 300)}' on this server; give a model folder's full path."
                )
            self._folder = snapshot_folder(path)
            self.sizes = {entry.name: entry.stat().st_size for entry in self._folder.iterdir() if entry.is_file()}
            for entry in self._folder.glob(f"*/*{JAX_WEIGHTS}"):
                self.sizes[f"{entry.parent.name}/{entry.name}"] = entry.stat().st_size
        except OSError as error:
            raise UserError(f"The folder '{shown(path, 300)}' cannot be read ({error.strerror}); check it.") from error
        in_cache = self._folder.parent.name == "snapshots"
        self._root = self._folder.parents[1].resolve() if in_cache else self._folder.resolve()
        self.name = shown(folder_name(self._root), LONGEST_NAME)
        known = read_origin(self._folder) if self._own_file(ORIGIN_FILE, LARGEST_NOTE) else {}
        self.name = shown(known.get("name", self.name), LONGEST_NAME)
        self.licence = licence or known.get("licence") or self._licence_of_card()
        revision = {"revision": self._folder.name} if in_cache else {}
        self.provenance: dict[str, Any] = known.get("provenance", {"source": "folder", "id": self.name} | revision)
        stated = self.provenance.get("revision")
        if stated is not None and not (isinstance(stated, str) and REVISION.fullmatch(stated)):
            raise UserError(
                f"The model in the folder '{shown(path, 300)}' has the revision '{shown(stated)}', which is none. "
                f"Correct or remove its {ORIGIN_FILE}, or name the snapshot's folder with letters and digits."
            )

    def _licence_of_card(self) -> str | None:
        if not self._own_file(CARD, LARGEST_CARD):
            return None
        try:
            return licence_of_card(metadata_load(self._folder / CARD) or {})
        except Exception:  # no card, or none that can be read: its YAML library has errors of its own
            return None

    def _own_file(self, name: str, most: int) -> bool:
        """Say whether there is a file of this name.

        Raises:
            UserError: it is a link out of the folder, is not a regular file, or has more bytes than `most`.
        """
        if not os.path.lexists(self._folder / name):
            return False
        self._own_path(name)
        if self.sizes.get(name, most + 1) > most:
            raise UserError(
                f"The file '{name}' of '{self.name}' is not a regular file of at most {most / 1e6:g} MB; fix or remove it."
            )
        return True

    def fetch(self, name: str) -> Path:
        """Return a file, which may be a link within the folder or its repository."""
        return self._own_path(name)

    def _own_path(self, name: str) -> Path:
        try:
            path = (self._folder / name).resolve()
        except (OSError, RuntimeError) as error:  # links that lead to each other
            raise UserError(f"The file '{name}' of '{self.name}' is a link to nothing; put the file there.") from error
        if not path.is_relative_to(self._root):
            raise UserError(
                f"The file '{name}' of '{self.name}' is a link out of its folder; put the file itself there."
            )
        return path

    def place(self, path: Path, target: Path) -> None:
        """Copy it: whose folder it is may remove it."""
        try:
            shutil.copyfile(path, target)
        except PermissionError as error:
            raise UserError(
                f"The file '{path.name}' of '{self.name}' may not be read; let Galaxy's user read it."
            ) from error


def collect(origin: Origin, folder: Path) -> None:
    """Put the files that make a model into a folder, weights as safetensors, with a note of where they are from.

    Nothing else of the origin is fetched, and no code of it ever.

    Raises:
        UserError: the config or the weights are missing or absurd, or a file cannot be fetched.
    """
    refuse_adapter(origin.sizes, f"'{origin.name}'")
    config = next((name for name in LAYOUTS if name in origin.sizes), None)
    pickled_arrays = sorted(name for name in origin.sizes if name.endswith(JAX_WEIGHTS))
    if pickled_arrays and not _is_known(origin):
        _collect_jax(origin, pickled_arrays, folder)
        return
    if config is None:
        raise UserError(f"'{origin.name}' has no {' or '.join(LAYOUTS)}; choose a model of the hub or its folder.")
    texts = [name for name in (config, *LAYOUTS[config]) if name in origin.sizes]
    fetched = {name: _fetch_text(origin, name) for name in texts}
    # Before gigabytes of weights are fetched that nothing here can read.
    refuse_unknown_architecture(read_json_object(fetched[config]), origin.name)
    pickled, index, weights = _find_weights(origin)
    fetched |= {name: origin.fetch(name) for name in weights}
    if index and not pickled:
        texts.append(index.name)
        fetched[index.name] = index
    for name in texts if pickled else [*texts, *weights]:
        origin.place(fetched[name], folder / name)
    if pickled:
        _convert([fetched[name] for name in weights], folder, sharded=index is not None)
    _write_note(origin, folder)


def _is_known(origin: Origin) -> bool:
    """Say whether a model's config is of an architecture that is read as it is published."""
    return CONFIG in origin.sizes and is_known(read_json_object(_fetch_text(origin, CONFIG)))


def _collect_jax(origin: Origin, names: list[str], folder: Path) -> None:
    """Put a segmenter that is published as JAX arrays into a folder, with the config that follows from their shapes."""
    # joblib is the installer's alone.
    from dnalm.models.jax_weights import convert

    config = read_json_object(_fetch_text(origin, CONFIG)) if CONFIG in origin.sizes else {}
    convert([origin.fetch(name) for name in names], folder / WEIGHTS)
    tensors = read_header(folder / WEIGHTS)[1]
    stored = with_config_of_tensors(StoredModel(origin.name, (folder / WEIGHTS,), tensors, config, {}))
    refuse_unknown_architecture(stored.config, origin.name)
    (folder / CONFIG).write_text(json.dumps(stored.config, indent=2) + "\n", encoding="utf-8")
    _write_note(origin, folder)


def _write_note(origin: Origin, folder: Path) -> None:
    note = {"name": origin.name, "licence": origin.licence, "provenance": origin.provenance}
    (folder / ORIGIN_FILE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _fetch_text(origin: Origin, name: str) -> Path:
    if origin.sizes[name] > LARGEST_TEXT_FILE:
        raise UserError(f"The file '{name}' of '{origin.name}' is over 100 MB, too large for a model's text file.")
    return origin.fetch(name)


def _find_weights(origin: Origin) -> tuple[bool, Path | None, list[str]]:
    """Return whether the weights are pickled, their index if they are in shards, and their files."""
    for single in (WEIGHTS, *PICKLED_WEIGHTS):
        pickled = single != WEIGHTS
        if single in origin.sizes:
            return pickled, None, [single]
        if single + INDEX in origin.sizes:
            index = _fetch_text(origin, single + INDEX)
            names = shard_names(index)
            for name in names:
                if name not in origin.sizes or not name.endswith(Path(single).suffix):
                    raise UserError(f"'{origin.name}' lacks the weights '{shown(name)}' that its index names.")
            return pickled, index, names
    raise UserError(
        f"'{origin.name}' has neither {WEIGHTS} nor {PICKLED_WEIGHTS[0]}, whole or in shards; choose another model."
    )


def _convert(files: list[Path], folder: Path, *, sharded: bool) -> None:
    """Write pickled weights as safetensors, shards as shards with a new index."""
    weight_map: dict[str, str] = {}
    for file in files:
        target = f"{file.name.removeprefix('pytorch_').removesuffix('.bin')}.safetensors" if sharded else WEIGHTS
        weight_map |= dict.fromkeys(convert(file, folder / target), target)
    if sharded:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / (WEIGHTS + INDEX)).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
