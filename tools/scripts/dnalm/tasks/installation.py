"""Install a model: find it, fetch its files, try it on a sequence, and only then describe its row of the data table."""

import fcntl
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dnalm.engine.devices import prepare_machine
from dnalm.errors import DISK_IS_FULL, UserError, shown
from dnalm.formats.outputs import whole_or_nothing
from dnalm.models import scgpt
from dnalm.models.catalogue import CATALOGUE, licence_label
from dnalm.models.description import try_cell_model, try_classifier, try_model
from dnalm.models.heads import is_classifier
from dnalm.models.hub import DownloadError, find_model
from dnalm.models.language_model import LanguageModel
from dnalm.models.origins import FolderOrigin, HubOrigin, Origin, collect
from dnalm.models.scgpt import CellModel
from dnalm.models.segmenter import Segmenter
from dnalm.models.sources import open_model
from dnalm.report.progress import Progress

TABLE = "huggingface"
DOMAIN, DOMAIN_OF_CELLS = "sequence", "single-cell"
LONGEST_LABEL = 200
LETTERS_OF_A_VERSION = 12  # of a commit or a digest, in a row's value


@dataclass(frozen=True)
class InstallationOptions:
    """What an admin chooses; the names are those of `data_manager_dnalm.py --help`, and the hub's token."""

    output: Path
    output_directory: Path
    source: str
    curated: str
    model_id: str | None = None
    revision: str = "main"
    folder: Path | None = None
    licence: str | None = None
    display_name: str | None = None
    installed: Path | None = None
    downloads: Path | None = None
    token: str | None = None


def install(options: InstallationOptions) -> None:
    """Put a model's folder into the output directory, write its row, and say on stdout what was installed.

    Nothing of a model is left in the output directory unless all went well.

    Raises:
        UserError: the model cannot be found, fetched, read or run, or is installed already.
    """
    prepare_machine("cpu", None, None)
    display_name = _one_line(options.display_name, "display name")
    installed = set(options.installed.read_text(encoding="utf-8").splitlines()) if options.installed else set()
    options.output_directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        (partial,) = stack.enter_context(whole_or_nothing([options.output]))
        origin = _folder_origin(options) if options.source == "folder" else _hub_origin(options, installed, stack)
        folder = stack.enter_context(_unfinished(options.output_directory))
        collect(origin, folder)
        stored = open_model(folder)
        model = try_cell_model(stored) if scgpt.recognises(stored.config) else try_model(stored)
        try_classifier(model.stored)
        version = origin.provenance.get("revision") or model.stored.sha256()
        value = row_value(origin.name, version)
        _refuse_installed(value, installed)
        name = display_name or (CATALOGUE[origin.name].name if origin.name in CATALOGUE else origin.name)
        row = {
            "value": value,
            "name": f"{shown(name, LONGEST_LABEL)} ({shown(licence_label(stored.licence), LONGEST_LABEL)})",
            "pipeline_tag": pipeline_tag(model),
            "domain": DOMAIN_OF_CELLS if isinstance(model, CellModel) else DOMAIN,
            "free_tag": "",
            "version": version,
            "path": value,
        }
        target = options.output_directory / value
        if target.exists():
            raise UserError(f"There is something at '{target}' already; choose an empty output directory.")
        folder.rename(target)
        partial.write_text(
            json.dumps({"data_tables": {TABLE: [row]}}, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
    _report(row, model)


def _folder_origin(options: InstallationOptions) -> Origin:
    if options.folder is None:
        raise UserError("Give the folder of the model.")
    return FolderOrigin(options.folder, _one_line(options.licence, "licence"))


def _hub_origin(options: InstallationOptions, installed: set[str], stack: ExitStack) -> Origin:
    """Ask the hub for the model and take the folder of its downloads until the stack is closed."""
    model_id = options.curated if options.source == "curated" else options.model_id
    if not model_id:
        raise UserError("Give the id of a model of the hub.")
    found = find_model(model_id, options.revision, options.token)
    print(f"Found {model_id} at commit {found.commit}", flush=True)
    value = row_value(model_id, found.commit)
    _refuse_installed(value, installed)
    licence = found.licence or (CATALOGUE[model_id].licence if model_id in CATALOGUE else None)
    return HubOrigin(found, licence, stack.enter_context(_downloads(options, value)), options.token, _counter)


def _counter(name: str, size: int) -> Callable[[int], None]:
    """Announce a file and return what counts its bytes."""
    print(f"Fetching {name}, {size:,} bytes", flush=True)
    progress = Progress("bytes", lambda: progress.done / max(size, 1))
    return progress.add


def _one_line(text: str | None, what: str) -> str | None:
    """Return a text that can stand in a data table; None for an empty one."""
    text = (text or "").strip()
    if not text.isprintable() or len(text) > LONGEST_LABEL:
        raise UserError(f"The {what} has tabs, line ends or over {LONGEST_LABEL} letters; give a short line.")
    return text or None


def row_value(name: str, version: str) -> str:
    """Return what identifies a model in the table and names its folder: ASCII letters, digits, `.`, `_` and `-`."""
    safe, of_version = (
        re.sub(r"[^A-Za-z0-9._-]", "-", text) for text in (name.replace("/", "--"), version[:LETTERS_OF_A_VERSION])
    )
    return f"{safe.lstrip('.-')[:LONGEST_LABEL] or 'model'}--{of_version}"


def _refuse_installed(value: str, installed: set[str]) -> None:
    if value in installed:
        raise UserError(f"This model is installed already, as '{value}'; to install it again remove its row first.")


@contextmanager
def _unfinished(output_directory: Path) -> Iterator[Path]:
    """Yield a folder to build a model in; unless it was renamed in the end, it is removed."""
    folder = output_directory / ".unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _downloads(options: InstallationOptions, value: str) -> Iterator[Path]:
    """Yield the folder of a model's downloads, for this job alone.

    It survives whatever breaks; once the model is installed, or refused for what it is, the folder is removed.
    """
    in_the_job = options.output_directory / ".downloads" / value
    folder = options.downloads / value if options.downloads else in_the_job
    try:
        lock = _lock(folder)
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise
        print("The folder of downloads cannot be written: after a break the download starts again", flush=True)
        folder = in_the_job
        lock = _lock(folder)
    with lock:
        try:
            yield folder
        except DownloadError:
            raise
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> IO[str]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UserError(
            f"Another job is downloading '{folder.name}'; wait for it, then see whether it is installed."
        ) from error
    return lock


def pipeline_tag(model: LanguageModel | Segmenter | CellModel) -> str:
    """Return what the model is for, as the hub calls it."""
    if is_classifier(model.stored):
        return "text-classification"
    if isinstance(model, Segmenter):
        return "token-classification"
    if isinstance(model, CellModel) or model.with_head is None:
        return "feature-extraction"
    return "text-generation" if model.causal else "fill-mask"


def _report(row: dict[str, str], model: LanguageModel | Segmenter | CellModel) -> None:
    stored = model.stored
    count = sum(info.end - info.start for info in stored.tensors.values())
    if isinstance(model, Segmenter):
        print(f"Tried on a sequence: {len(model.features)} features, reads {model.window.default:,} bases")
    elif isinstance(model, CellModel):
        print(f"Tried on a cell: {len(model.layers)} layers, {model.hidden_size:,} dimensions")
    else:
        context = "any length" if model.context_length is None else f"{model.context_length:,} tokens"
        print(f"Tried on a sequence: {len(model.layers)} layers, {model.hidden_size:,} dimensions, reads {context}")
    print(f"Weights: {len(stored.tensors):,} tensors, {count:,} bytes, safetensors")
    print(f"Licence: {licence_label(stored.licence)}")
    print(f"Row: {row['value']}, {row['name']}, {row['pipeline_tag']}, revision {row['version']}")
