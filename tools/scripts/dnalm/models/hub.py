"""The Hugging Face hub: what a revision of a model holds, and its files, whole and of the hash that the hub names.

Files are fetched with huggingface_hub's own `http_get` rather than `hf_hub_download`, which throws an unfinished file
away when its process ends: here the next run goes on where a broken one stopped. Neither of them compares hashes.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import build_hf_headers, logging

from dnalm.errors import UserError, shown
from dnalm.models.catalogue import spelled

ANSWER_WITHIN = 30.0  # seconds
WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
MODEL_ID = re.compile(rf"(?:{WORD}/)?{WORD}")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
COMMIT = re.compile(r"[0-9a-f]{40}")
TOKEN = re.compile(r"[!-~]{1,1000}")


class DownloadError(UserError):
    """A download that did not come to its end; what has come of it is kept for the next run."""


logging.set_verbosity_error()  # its warnings quote addresses that are signed


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a revision: size in bytes, and the SHA-256 of a large one or the git hash of another."""

    name: str
    size: int
    sha256: str | None
    git_hash: str | None


@dataclass(frozen=True)
class HubModel:
    """A model at one commit of the hub."""

    id: str
    commit: str
    licence: str | None
    files: Mapping[str, HubFile]


def find_model(model_id: str, revision: str, token: str | None) -> HubModel:
    """Return what the hub holds of a model at a commit, tag or branch.

    Raises:
        UserError: id, revision or token are malformed or unknown to the hub, or it cannot be reached.
    """
    if not MODEL_ID.fullmatch(model_id) or "--" in model_id or ".." in model_id or model_id.endswith(".git"):
        raise UserError(f"'{shown(model_id)}' is no id of a model; use organisation/name, as its page on the hub says.")
    if not REVISION.fullmatch(revision) or ".." in revision:
        raise UserError(f"'{shown(revision)}' is no revision; use a commit, a tag or a branch of the model.")
    if token is not None and not TOKEN.fullmatch(token):
        raise UserError("The token for the hub holds blanks or strange letters; give it again.")
    with _told(model_id, revision, token):
        try:
            info = HfApi(token=token or False).model_info(
                model_id, revision=revision, files_metadata=True, timeout=ANSWER_WITHIN
            )
            files = [_file(sibling) for sibling in info.siblings or []]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError from error
        if not COMMIT.fullmatch(info.sha or ""):
            raise ValueError
    return HubModel(model_id, str(info.sha), _licence(info), {file.name: file for file in files})


def _file(sibling: RepoSibling) -> HubFile:
    lfs = sibling.lfs
    return HubFile(sibling.rfilename, int(sibling.size or 0), lfs.sha256 if lfs else None, sibling.blob_id)


def _licence(info: ModelInfo) -> str | None:
    card: dict[str, Any] = info.card_data.to_dict() if info.card_data else {}
    return licence_of_card(card)


def licence_of_card(card: Mapping[str, Any]) -> str | None:
    """Return the licence that a model card's metadata state, one line, or None."""
    said = card.get("license")
    if said == "other":
        said = card.get("license_name") or said
    # A card of a few lines can name lists of lists without an end.
    names = [name for name in (said if isinstance(said, list) else [said]) if isinstance(name, str | int | float)]
    text = ", ".join(map(str, names))
    return spelled(shown(" ".join(text.split()))) or None


def download(
    model: HubModel, name: str, folder: Path, token: str | None, on_bytes: Callable[[int], None] = lambda count: None
) -> Path:
    """Return a file of a model in a folder, fetched if it is not there, continued if it is there in part.

    Args:
        model: where the file is of.
        name: one of its files.
        folder: the file's place, and that of `<name>.partial` until it is whole.
        token: of an account that may read the model.
        on_bytes: is told how many bytes came, again and again.

    Raises:
        DownloadError: it breaks (what has come stays for the next run), or the file has not the hash that the hub names
            (it is removed).
    """
    file = model.files[name]
    if not all(re.fullmatch(WORD, part) for part in name.split("/")):
        raise UserError(
            f"The hub's model '{model.id}' has the file '{shown(name)}', a strange name; choose another model."
        )
    target, partial = folder / name, folder / f"{name}.partial"
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file():  # it has its name since its hash was right
        return target
    have = partial.stat().st_size if partial.exists() else 0
    if have > file.size:
        partial.unlink()
        have = 0
    free = shutil.disk_usage(folder).free
    if free < file.size - have:
        raise DownloadError(
            f"The disk is full: '{name}' needs {file.size - have:,} bytes and {free:,} are free; free some."
        )
    with _told(model.id, model.commit, token), partial.open("ab") as unfinished:
        http_get(
            hf_hub_url(model.id, name, revision=model.commit),
            unfinished,
            resume_size=have,
            # A compressed answer could not be continued.
            headers=build_hf_headers(token=token or False) | {"Accept-Encoding": "identity"},
            expected_size=file.size,
            tqdm_class=_reporter(on_bytes),
        )
    if not _has_its_hash(partial, file):
        partial.unlink()
        raise DownloadError(
            f"The file '{name}' of '{model.id}' came with a wrong hash and was thrown away; try again, and if it comes "
            "again tell the model's authors."
        )
    partial.rename(target)
    return target


def _has_its_hash(path: Path, file: HubFile) -> bool:
    with path.open("rb") as content:
        if file.sha256 is not None:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
        # A small file is known by its git hash: of its length and its content.
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while part := content.read(1 << 20):
            digest.update(part)
        return digest.hexdigest() == file.git_hash


def _reporter(on_bytes: Callable[[int], None]) -> Any:
    """Return a class in the place of a progress bar, as `http_get` wants it."""

    class Reporter:
        def __init__(self, **_: Any) -> None: ...
        def __enter__(self) -> "Reporter":
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, count: int) -> None:
            on_bytes(count)

    return Reporter


@contextmanager
def _told(model_id: str, revision: str, token: str | None) -> Iterator[None]:
    """Turn what huggingface_hub raises into a sentence; none quotes an address or a header."""
    again = "try again later; what has come of a download is kept, and the next run goes on from there"
    try:
        yield
    except GatedRepoError as error:
        who = "the account of the token has not" if token else "no token is given of an account that has"
        raise DownloadError(
            f"The model '{model_id}' is gated, and {who} accepted its terms on its page; see to it."
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"The model '{model_id}' has no revision '{revision}'; use a commit, tag or branch of it."
        ) from error
    except RepositoryNotFoundError as error:
        unless = "the token may not read it" if token else "it is private and needs a token"
        raise DownloadError(f"The hub has no model '{model_id}', unless {unless}; check the id.") from error
    except EntryNotFoundError as error:
        raise DownloadError(f"The hub lacks a file of '{model_id}' that it lists; {again}.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise DownloadError("The hub refuses the token, or what it may read; give another one.") from error
        raise DownloadError(f"The hub answers with the error {status}; {again}.") from error
    except HTTPError as error:
        raise DownloadError(f"The hub cannot be reached or broke off ({type(error).__name__}); {again}.") from error
    except ValueError as error:
        raise DownloadError(
            f"What answers for '{model_id}' does not speak as a hub does; check HF_ENDPOINT."
        ) from error
    except OSError as error:
        if error.errno is not None and not isinstance(error, ConnectionError):
            raise  # of this machine, such as a full disk
        raise DownloadError(f"A download of '{model_id}' came incomplete; {again}.") from error
