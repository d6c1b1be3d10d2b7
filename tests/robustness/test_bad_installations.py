"""Whatever a hub, a network or a folder brings: one sentence, and nothing installed."""

import fcntl
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY, Run
from hub import Hub, Repository
from safetensors.torch import load_file, save_file

ModelFolder = Callable[[str], Path]
NAME = "somebody/dna-model"
HUB = ("--source", "hub", "--model-id", NAME)
LARGE = "model.safetensors"


@pytest.fixture
def published(hub: Hub, model_folder: ModelFolder) -> Repository:
    return hub.add(NAME, model_folder("bert"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(run: Run, tmp_path: Path, *arguments: object) -> str:
    """Run an installation that must fail; return its sentence."""
    code, said, problem = run(*arguments)
    assert code == 1
    assert problem.startswith("data_manager_dnalm: ")
    assert problem.count("\n") == 1
    assert "Traceback" not in said + problem
    assert not (tmp_path / "row.json").exists()
    installed = tmp_path / "models"
    assert not installed.exists() or not [path for path in installed.iterdir() if path.name != ".downloads"]
    return problem


def test_a_download_that_breaks_goes_on_in_the_same_run(run_install: Run, hub: Hub, published: Repository) -> None:
    published.breaks_after = {LARGE: 20_000}
    published.mends_itself = True
    assert run_install(*HUB)[0] == 0
    starts = [first for name, first in hub.fetched() if name == LARGE]
    assert starts[0] is None
    assert starts[1:] == [20_000 // 1024 * 1024]


def test_a_download_that_broke_goes_on_in_the_next_run(
    run_install: Run, hub: Hub, published: Repository, tmp_path: Path
) -> None:
    published.breaks_after = {LARGE: 20_000}
    assert "what has come of a download is kept" in refused(run_install, tmp_path, *HUB)
    kept = {path.name for path in (tmp_path / "downloads").glob("*/*")}
    assert {"config.json", "vocab.txt", "model.safetensors.partial"} <= kept
    published.mend()
    hub.requests.clear()
    assert run_install(*HUB)[0] == 0
    assert hub.fetched() == [(LARGE, 20_000 // 1024 * 1024)]
    assert not list((tmp_path / "downloads").iterdir())


@pytest.mark.parametrize("name", [LARGE, "vocab.txt"])
def test_wrong_bytes_of_the_right_length_are_thrown_away(
    run_install: Run, published: Repository, tmp_path: Path, name: str
) -> None:
    right = published.files[name]
    published.wrong_bytes = {name: right[:-1] + bytes([right[-1] ^ 1])}
    problem = refused(run_install, tmp_path, *HUB)
    assert f"'{name}'" in problem
    assert "wrong hash" in problem
    published.wrong_bytes.clear()
    assert run_install(*HUB)[0] == 0


def test_a_file_of_another_length_is_refused(run_install: Run, published: Repository, tmp_path: Path) -> None:
    published.wrong_bytes = {"vocab.txt": published.files["vocab.txt"] + b"x"}
    assert "came incomplete" in refused(run_install, tmp_path, *HUB)


def test_a_gated_model_needs_the_token_of_who_accepted_its_terms(
    run_install: Run, hub: Hub, published: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.gated = True
    hub.tokens, hub.let_in = {"hf_right", "hf_other"}, {"hf_right"}
    assert "is gated, and no token is given" in refused(run_install, tmp_path, *HUB)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "is gated, and the account of the token has not accepted" in refused(run_install, tmp_path, *HUB)
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    assert "refuses the token" in refused(run_install, tmp_path, *HUB)
    monkeypatch.setenv("HF_TOKEN", "hf_two words")
    assert "holds blanks" in refused(run_install, tmp_path, *HUB)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert run_install(*HUB)[0] == 0


def test_the_token_goes_to_the_hub_alone(
    run_install: Run, hub: Hub, published: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens = {"hf_secret"}
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    code, said, problem = run_install(*HUB)
    assert code == 0
    assert {request.token for request in hub.requests if not request.path.startswith("/storage/")} == {"hf_secret"}
    assert {request.token for request in hub.requests if request.path.startswith("/storage/")} == {None}
    assert "hf_secret" not in said + problem
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()]


def test_a_saved_token_of_the_machine_is_not_used(
    run_install: Run, hub: Hub, published: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    (tmp_path / "token").write_text("hf_of_somebody_else")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert run_install(*HUB)[0] == 0
    assert {request.token for request in hub.requests} == {None}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--source", "hub", "--model-id", "somebody/absent"], "The hub has no model 'somebody/absent'"),
        (["--source", "hub", "--model-id", "../../etc"], "is no id of a model"),
        (["--source", "hub", "--model-id", "a/b/c"], "is no id of a model"),
        (["--source", "hub", "--model-id", "a--b/c"], "is no id of a model"),
        (["--source", "hub", "--model-id", "a b/c?d=e"], "is no id of a model"),
        (["--source", "hub", "--model-id", "a/β\n"], "is no id of a model"),
        (["--source", "hub"], "Give the id"),
        (["--source", "folder"], "Give the folder"),
        ([*HUB, "--revision", "absent"], "has no revision 'absent'"),
        ([*HUB, "--revision", "../main"], "is no revision"),
        ([*HUB, "--revision", "tags/../main"], "is no revision"),
        ([*HUB, "--revision=-main"], "is no revision"),
        ([*HUB, "--display-name", "two\nlines"], "The display name has tabs"),
        ([*HUB, "--display-name", "x" * 201], "The display name has tabs"),
        (["--source", "folder", "--folder", "/absent"], "There is no folder '/absent'"),
        (["--source", "folder", "--folder", "/" + "x" * 300], "cannot be read (File name too long)"),
    ],
)
def test_what_is_not_there_or_misspelled_is_named(
    run_install: Run, published: Repository, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    assert sentence in refused(run_install, tmp_path, *arguments)


def test_without_a_network_a_sentence_says_so(
    run_install: Run, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in refused(run_install, tmp_path, *HUB)


@pytest.mark.parametrize(
    "answer", [b"<html>Log in to this network</html>", b"[]", b'{"id": "a/b"}', b'{"id": "a/b", "sha": "../x"}']
)
def test_what_is_no_hub_is_named(run_install: Run, hub: Hub, tmp_path: Path, answer: bytes) -> None:
    hub.strange_answer = answer
    assert "does not speak as a hub does" in refused(run_install, tmp_path, *HUB)


def test_a_full_disk_is_told_before_the_download(
    run_install: Run, published: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10_000, 10_000))
    assert "The disk is full: 'model.safetensors' needs" in refused(run_install, tmp_path, *HUB)


def test_two_jobs_do_not_write_into_the_same_download(run_install: Run, published: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "downloads" / f"somebody--dna-model--{published.commit[:12]}"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Another job is downloading" in refused(run_install, tmp_path, *HUB)
    assert run_install(*HUB)[0] == 0


def test_downloads_go_to_the_jobs_folder_where_theirs_cannot_be_written(
    run_install: Run, published: Repository, tmp_path: Path
) -> None:
    (tmp_path / "downloads").write_text("a file in the way")
    code, said, _ = run_install(*HUB)
    assert code == 0
    assert "after a break the download starts again" in said


class Trap:
    """What a pickle can do to who reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "legacy torch", "bare"])
def test_a_pickle_that_would_run_something_is_refused_and_does_not_run(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path, how: str
) -> None:
    trap, file = tmp_path / "trapped", tmp_path / "pickle"
    content = {"weight": torch.zeros(2), "trap": Trap(trap)}
    if how == "bare":
        file.write_bytes(pickle.dumps(content["trap"]))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "torch")
    files = files_of(model_folder("bert"))
    del files[LARGE]
    hub.add(NAME, files | {"pytorch_model.bin": file.read_bytes()})
    assert "which is never run" in refused(run_install, tmp_path, *HUB)
    assert not trap.exists()
    assert not list((tmp_path / "downloads").iterdir())


def changed_config(files: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    return files | {"config.json": json.dumps(json.loads(files["config.json"]) | changes).encode()}


def test_remote_code_is_neither_fetched_nor_run(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    trap = tmp_path / "trapped"
    files = changed_config(files_of(model_folder("bert")), auto_map={"AutoModel": "modeling.Model"})
    hub.add(NAME, files | {"modeling.py": f"import os; os.mkdir({str(trap)!r})".encode()})
    assert run_install(*HUB)[0] == 0
    assert not trap.exists()
    assert "modeling.py" not in {name for name, _ in hub.fetched()}


def test_an_architecture_that_is_unknown_here_is_named(
    run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    hub.add(NAME, changed_config(files_of(model_folder("bert")), model_type="strange"))
    assert "The architecture 'strange'" in refused(run_install, tmp_path, *HUB)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("config.json", "has no config.json"),
        (LARGE, "has neither model.safetensors nor pytorch_model.bin"),
        ("vocab.txt", "has no tokenizer.json and no vocab.txt"),
    ],
)
def test_a_model_without_one_of_its_parts_is_refused(
    run_install: Run, published: Repository, tmp_path: Path, missing: str, sentence: str
) -> None:
    del published.files[missing]
    assert sentence in refused(run_install, tmp_path, *HUB)


@pytest.mark.parametrize(("factor", "sentence"), [(0.0, "its weights are empty"), (float("nan"), "NaN or infinite")])
def test_weights_of_nothing_are_refused(
    run_install: Run, published: Repository, tmp_path: Path, factor: float, sentence: str
) -> None:
    (tmp_path / "good").write_bytes(published.files[LARGE])
    tensors = {name: tensor * factor for name, tensor in load_file(tmp_path / "good").items()}
    save_file(tensors, tmp_path / "bad", metadata={"format": "pt"})
    published.files[LARGE] = (tmp_path / "bad").read_bytes()
    assert sentence in refused(run_install, tmp_path, *HUB)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "modeling.py", "absent.safetensors"])
def test_an_index_may_name_weights_of_its_model_alone(
    run_install: Run, published: Repository, tmp_path: Path, shard: str
) -> None:
    del published.files[LARGE]
    published.files |= {"modeling.py": b"", f"{LARGE}.index.json": json.dumps({"weight_map": {"a": shard}}).encode()}
    assert "index" in refused(run_install, tmp_path, *HUB)


def test_a_text_file_of_absurd_size_is_not_fetched(
    run_install: Run, hub: Hub, published: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnalm.models.origins.LARGEST_TEXT_FILE", 100)
    assert "over 100 MB" in refused(run_install, tmp_path, *HUB)
    assert hub.fetched() == []


def test_a_link_out_of_a_folder_is_refused(run_install: Run, model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(model_folder("bert"), folder)
    (tmp_path / "elsewhere").write_bytes((folder / LARGE).read_bytes())
    (folder / LARGE).unlink()
    (folder / LARGE).symlink_to("../elsewhere")
    assert "is a link out of its folder" in refused(run_install, tmp_path, "--source", "folder", "--folder", folder)


@pytest.mark.parametrize("name", ["dnalm.json", "README.md"])
@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd"])
def test_a_note_or_card_that_leads_out_of_a_folder_is_refused(
    run_install: Run, model_folder: ModelFolder, tmp_path: Path, name: str, target: str
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(model_folder("bert"), folder)
    (folder / name).symlink_to(target)
    problem = refused(run_install, tmp_path, "--source", "folder", "--folder", folder)
    assert f"'{name}' of 'folder' is a link out of its folder" in problem


@pytest.mark.parametrize(
    "revision", ["abc\tdef\nevil\tEvil model\t/etc", 5, {"a": 1}, "a/../../x", "\ud800", "x" * 5_000]
)
def test_a_revision_that_is_none_reaches_no_row_and_no_path(
    run_install: Run, model_folder: ModelFolder, tmp_path: Path, revision: object
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(model_folder("bert"), folder)
    (folder / "dnalm.json").write_text(json.dumps({"name": "x/y", "provenance": {"revision": revision}}))
    assert "which is none" in refused(run_install, tmp_path, "--source", "folder", "--folder", folder)


def test_a_name_of_5000_letters_is_cut(run_install: Run, model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(model_folder("bert"), folder)
    (folder / "dnalm.json").write_text(json.dumps({"name": "x" * 5_000, "provenance": {"revision": "abc"}}))
    assert run_install("--source", "folder", "--folder", folder)[0] == 0
    (row,) = json.loads((tmp_path / "row.json").read_text())["data_tables"]["huggingface"]
    assert row["value"] == row["path"] == f"{'x' * 200}--abc"
    assert (tmp_path / "models" / row["path"] / "model.safetensors").is_file()


def test_an_adapter_on_the_hub_is_named_before_it_is_fetched(
    run_install: Run, hub: Hub, published: Repository, tmp_path: Path
) -> None:
    published.files |= {"adapter_config.json": b'{"peft_type": "LORA"}', "adapter_model.safetensors": b"x"}
    assert "holds an adapter such as LoRA's" in refused(run_install, tmp_path, *HUB)
    assert hub.fetched() == []


def test_a_file_that_may_not_be_read_is_named(
    run_install: Run, model_folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:  # whoever runs the tests may be allowed everything
        raise PermissionError

    monkeypatch.setattr(shutil, "copyfile", forbidden)
    problem = refused(run_install, tmp_path, "--source", "folder", "--folder", model_folder("bert"))
    assert "'config.json'" in problem
    assert "may not be read" in problem


def script(hub: Hub, tmp_path: Path) -> tuple[list[str | Path], dict[str, str]]:
    """Return command and environment of the script as Galaxy runs it: a process, with HF_ENDPOINT from the admin."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command: list[str | Path] = [sys.executable, REPOSITORY / "scripts" / "data_manager_dnalm.py", *HUB]
    command += ["--output", tmp_path / "row.json", "--output-directory", tmp_path / "models"]
    return [*command, "--downloads", tmp_path / "downloads"], environment


def test_the_script_alone_needs_nothing_but_its_environment(hub: Hub, published: Repository, tmp_path: Path) -> None:
    """It also overrules settings that forbid other tools the network, and asks the hub for nothing else."""
    command, environment = script(hub, tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "models").iterdir()] == [f"somebody--dna-model--{published.commit[:12]}"]
    asked = {request.path for request in hub.requests if "/resolve/" not in request.path}
    assert asked == {f"/api/models/{NAME}/revision/main", f"/storage/{NAME}/{LARGE}"}


def test_a_job_that_is_ended_installs_nothing_and_keeps_what_it_verified(
    hub: Hub, published: Repository, tmp_path: Path
) -> None:
    published.stalls = {LARGE}
    command, environment = script(hub, tmp_path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert hub.stalled.wait(60)
        job.terminate()
        _, problem = job.communicate(timeout=60)
    assert job.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in problem
    assert not (tmp_path / "row.json").exists()
    assert not list((tmp_path / "models").iterdir())
    assert {"config.json", "vocab.txt"} <= {path.name for path in (tmp_path / "downloads").glob("*/*")}


def compressed(path: Path) -> bytes:
    with (
        zipfile.ZipFile(path) as archive,
        zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for entry in archive.infolist():
            other.writestr(entry.filename, archive.read(entry))
    return path.with_suffix(".zip").read_bytes()


def test_compressed_weights_are_refused(run_install: Run, hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1_000)}, tmp_path / "weights.bin")
    files = files_of(model_folder("bert"))
    del files[LARGE]
    hub.add(NAME, files | {"pytorch_model.bin": compressed(tmp_path / "weights.bin")})
    assert "is compressed" in refused(run_install, tmp_path, *HUB)
