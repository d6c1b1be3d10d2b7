"""The Hugging Face hub: models at a commit, and downloads that are complete and have the right hash."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from dnalm.errors import UserError
from dnalm.models.hub import DownloadError, HubFile, HubModel, download, find_model, licence_of_card
from hub import Hub, Repository, git_hash, sha256

NAME = "somebody/dna-model"
WEIGHTS, CONFIG = b"weights " * 1_000, b'{"model_type": "bert"}'


@pytest.fixture
def published(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A model on the local hub, which takes the place of the real one."""
    address = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    settings: dict[str, Any] = {"ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": address, "HF_HUB_OFFLINE": False}
    for name, value in (settings | {"DOWNLOAD_CHUNK_SIZE": 1_000}).items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    files = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    return hub.add(NAME, files, card={"license": "cc-by-nc-sa-4.0"}, branches={"v2": "x"})


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "cc-by-nc-sa-4.0"}, "CC-BY-NC-SA-4.0"),
        ({"license": "other", "license_name": "our terms"}, "our terms"),
        ({"license": "other"}, "other"),
        ({"license": ["mit", "x"]}, "mit, x"),
        ({"license": "a\tb\nc"}, "a b c"),
        ({"license": ""}, None),
        ({}, None),
    ],
)
def test_a_card_states_a_licence_in_one_line(card: dict[str, object], licence: str | None) -> None:
    assert licence_of_card(card) == licence


@pytest.mark.parametrize("revision", ["main", "v2"])
def test_a_model_is_found_at_its_commit_with_sizes_and_hashes(published: Repository, revision: str) -> None:
    assert find_model(NAME, revision, None) == HubModel(
        NAME,
        published.commit,
        "CC-BY-NC-SA-4.0",
        {
            "config.json": HubFile("config.json", len(CONFIG), None, git_hash(CONFIG)),
            "model.safetensors": HubFile("model.safetensors", 8_000, sha256(WEIGHTS), git_hash(WEIGHTS)),
        },
    )


@pytest.mark.parametrize("model_id", ["", "a/b/c", "a b", "a--b/c", "../x", "a/b..c", "a/b.git", "-a/b", "https://x/y"])
def test_malformed_ids_of_models_are_refused(model_id: str) -> None:
    with pytest.raises(UserError, match="is no id of a model; use organisation/name"):
        find_model(model_id, "main", None)


@pytest.mark.parametrize("revision", ["", "a..b", "../x", "-x", "a b", "x" * 256])
def test_malformed_revisions_are_refused(revision: str) -> None:
    with pytest.raises(UserError, match="is no revision; use a commit, a tag or a branch"):
        find_model(NAME, revision, None)


@pytest.mark.parametrize("token", ["", "hf_two words", "hf_line\n", "hf_ä"])
def test_a_strange_token_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises(UserError, match="The token for the hub holds blanks or strange letters") as error:
        find_model(NAME, "main", token)
    assert "hf_" not in str(error.value)


@pytest.mark.parametrize(
    ("model_id", "revision", "token", "sentence"),
    [
        ("somebody/absent", "main", None, "no model 'somebody/absent', unless it is private and needs a token"),
        ("somebody/absent", "main", "hf_known", "no model 'somebody/absent', unless the token may not read it"),
        (NAME, "absent", None, "has no revision 'absent'"),
        (NAME, "main", "hf_unknown", "The hub refuses the token|no model"),
    ],
)
def test_models_and_revisions_that_the_hub_lacks_are_named(
    hub: Hub, published: Repository, model_id: str, revision: str, token: str | None, sentence: str
) -> None:
    hub.tokens = {"hf_known"}
    with pytest.raises(DownloadError, match=sentence) as error:
        find_model(model_id, revision, token)
    assert "127.0.0.1" not in str(error.value)
    assert "hf_" not in str(error.value)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"id": "a/b"}', b'{"id": "a/b", "sha": "../x"}'])
def test_a_server_that_is_no_hub_is_named(hub: Hub, published: Repository, answer: bytes) -> None:
    hub.strange_answer = answer
    with pytest.raises(DownloadError, match="does not speak as a hub does; check HF_ENDPOINT"):
        find_model(NAME, "main", None)


@pytest.mark.parametrize(("name", "content"), [("model.safetensors", WEIGHTS), ("config.json", CONFIG)])
def test_a_file_comes_whole_and_once(
    hub: Hub, published: Repository, tmp_path: Path, name: str, content: bytes
) -> None:
    counts: list[int] = []
    model = find_model(NAME, "main", None)
    for _ in range(2):
        assert download(model, name, tmp_path, None, counts.append) == tmp_path / name
        assert (tmp_path / name).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sum(counts) == len(content)
    assert hub.fetched() == [(name, None)]


def test_a_download_goes_on_where_it_broke(hub: Hub, published: Repository, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.partial").write_bytes(WEIGHTS[:3_000])
    counts: list[int] = []
    download(find_model(NAME, "main", None), "model.safetensors", tmp_path, None, counts.append)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.fetched() == [("model.safetensors", 3_000)]
    assert sum(counts) == 5_000


def test_a_partial_file_larger_than_the_whole_is_removed(hub: Hub, published: Repository, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.partial").write_bytes(WEIGHTS + b"more")
    download(find_model(NAME, "main", None), "model.safetensors", tmp_path, None)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.fetched() == [("model.safetensors", None)]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_of_a_wrong_hash_is_removed(published: Repository, tmp_path: Path, name: str) -> None:
    published.wrong_bytes = {name: published.files[name][::-1]}
    with pytest.raises(DownloadError, match=f"'{name}' of '{NAME}' came with a wrong hash and was thrown away"):
        download(find_model(NAME, "main", None), name, tmp_path, None)
    assert not list(tmp_path.iterdir())


def test_a_large_file_is_known_by_its_sha256_alone(published: Repository, tmp_path: Path) -> None:
    """The git hash of a large file is that of a pointer to it."""
    model = find_model(NAME, "main", None)
    pointer = replace(
        model.files["model.safetensors"], git_hash=git_hash(b"version https://git-lfs.github.com/spec/v1")
    )
    model = replace(model, files={"model.safetensors": pointer})
    download(model, "model.safetensors", tmp_path, None)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS


def test_a_gated_file_needs_an_account_that_accepted_the_terms(hub: Hub, published: Repository, tmp_path: Path) -> None:
    published.gated, hub.tokens, hub.let_in = True, {"hf_stranger", "hf_accepted"}, {"hf_accepted"}
    model = find_model(NAME, "main", None)
    for token, sentence in ((None, "no token is given of an account"), ("hf_stranger", "account of the token has not")):
        with pytest.raises(DownloadError, match=sentence):
            download(model, "config.json", tmp_path, token)
    download(model, "config.json", tmp_path, "hf_accepted")
    assert (tmp_path / "config.json").read_bytes() == CONFIG


def test_a_file_that_is_gone_is_named(published: Repository, tmp_path: Path) -> None:
    model = find_model(NAME, "main", None)
    gone = HubModel(NAME, model.commit, None, {"gone.txt": replace(model.files["config.json"], name="gone.txt")})
    with pytest.raises(DownloadError, match=f"The hub lacks a file of '{NAME}' that it lists"):
        download(gone, "gone.txt", tmp_path, None)


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../b", "a\nb", ".hidden"])
def test_a_strange_name_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    model = HubModel(NAME, "0" * 40, None, {name: HubFile(name, 1, None, None)})
    with pytest.raises(UserError, match="a strange name; choose another model") as error:
        download(model, name, tmp_path / "downloads", None)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_before_the_download(
    hub: Hub, published: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what has come already no second copy is needed."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10_000, 5_001, 4_999))
    (tmp_path / "model.safetensors.partial").write_bytes(WEIGHTS[:3_000])
    model = find_model(NAME, "main", None)
    with pytest.raises(DownloadError, match=r"'model\.safetensors' needs 5,000 bytes and 4,999 are free"):
        download(model, "model.safetensors", tmp_path, None)
    assert hub.fetched() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10_000, 5_000, 5_000))
    download(model, "model.safetensors", tmp_path, None)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS


def test_a_licence_that_is_made_of_lists_of_lists_is_left_out() -> None:
    """Some lines of YAML name a list that is longer than any memory when it is written out."""
    names: object = "x"
    for _ in range(60):
        names = [names, names]
    assert licence_of_card({"license": names}) is None
    assert licence_of_card({"license": ["mit", names, {"a": names}]}) == "MIT"
    assert licence_of_card({"license": {"a": names}}) is None
