"""What no model may do to the machine of who uses it: run code, ask a person, reach other files, leave traces."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.models.model_file import write_model_file
from dnalm.models.sources import open_model
from dnalm.models.vocabularies import all_kmers, learn_byte_pairs

SEQUENCES = TEST_DATA / "two_genomes.fasta"
ModelFolder = Callable[[str], Path]


@pytest.fixture
def hostile(model_folder: ModelFolder, tmp_path: Path) -> Path:
    """An installed model with code of its own, which every file that can name code names, and paths into the machine."""
    folder = tmp_path / "hostile"
    shutil.copytree(model_folder("bert"), folder)
    trap = f"import os; os.mkdir({str(tmp_path / 'trapped')!r})\n"
    for name in ("modeling.py", "configuration.py", "tokenization.py", "__init__.py"):
        (folder / name).write_text(trap)
    code = {
        "AutoConfig": "configuration.Config",
        "AutoModel": "modeling.Model",
        "AutoModelForMaskedLM": "modeling.Model",
        "AutoTokenizer": ["tokenization.Tokenizer", None],
    }
    paths = {"name_or_path": "/etc", "_name_or_path": "/etc/passwd", "transformers_weights": "/etc/passwd"}
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"auto_map": code, "trust_remote_code": True} | paths))
    return folder


def run_script(name: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start a script whose stdin stays open and has an answer for whoever asks."""
    command = [sys.executable, REPOSITORY / "scripts" / f"{name}.py", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([str(word) for word in command], text=True, env=environment, **pipes)


def test_code_that_a_model_names_is_not_run_and_nobody_is_asked(hostile: Path, tmp_path: Path) -> None:
    """A library that asks on stdin whether it may run a model's code would have a job wait for ever, or get a yes."""
    steps = {
        "dnalm_embed": ("--sequences", SEQUENCES, "--model", hostile, "--output", tmp_path / "x.h5ad"),
        "dnalm_export_model": ("--model", hostile, "--output-directory", tmp_path / "exported"),
    }
    for name, arguments in steps.items():
        with run_script(name, *arguments) as job:
            assert job.stdin is not None
            job.stdin.write("y\n" * 10)
            job.stdin.flush()
            assert job.wait(timeout=300) == 0
            assert job.stderr is not None
            assert job.stderr.read() == ""
    assert not (tmp_path / "trapped").exists()
    assert "auto_map" not in (tmp_path / "exported" / "config.json").read_text()
    assert not list((tmp_path / "exported").glob("*.py"))


def test_nothing_is_written_next_to_a_model(hostile: Path, run_tool: Run, tmp_path: Path) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(hostile.rglob("*"))}

    before, folder_changed = state(), hostile.stat().st_mtime_ns
    for dtype in ("float32", "bfloat16", "int8"):
        given = ("--sequences", SEQUENCES, "--model", hostile, "--dtype", dtype)
        assert run_tool("embed", *given, "--output", tmp_path / dtype)[0] == 0
    assert run_tool("export_model", "--model", hostile, "--output-directory", tmp_path / "exported")[0] == 0
    assert state() == before
    assert hostile.stat().st_mtime_ns == folder_changed


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(50_000_000))


def pickled(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize("write", [zip_bomb, pickled])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_what_is_called_safetensors_and_is_none_is_refused_unread(
    run_tool: Run, model_folder: ModelFolder, tmp_path: Path, write: Callable[[Path], None], place: str
) -> None:
    model = weights = tmp_path / "model.safetensors"
    if place == "folder":
        model = tmp_path / "folder"
        shutil.copytree(model_folder("bert"), model)
        weights = model / "model.safetensors"
    write(weights)
    code, _, error = run_tool("embed", "--sequences", SEQUENCES, "--model", model, "--output", tmp_path / "x")
    assert code == 1
    assert "'model.safetensors' is damaged or no model file" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_paths_within_a_model_file_reach_nothing(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    """Names of files and folders in config and tokenizer change no number and open no file."""
    stored = open_model(random_model)
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    paths = dict.fromkeys(("name_or_path", "_name_or_path", "transformers_weights", "vocab_file"), str(secret))
    config = stored.config | paths | {"tokenizer_file": str(secret), "base_model_name_or_path": str(secret)}
    tokenizer = dict(stored.tokenizer) | {"../../etc/passwd": "x", str(secret): "overwritten"}
    tokenizer["tokenizer_config.json"] = dict(tokenizer.get("tokenizer_config.json", {})) | paths
    write_model_file(tmp_path / "model", stored.read_tensors(), config, tokenizer, name="../../../etc/passwd")
    found = []
    for model in (tmp_path / "model", random_model):
        given = ("--sequences", SEQUENCES, "--model", model, "--output-format", "tabular")
        assert run_tool("embed", *given, "--output", tmp_path / "x")[0] == 0
        found.append((tmp_path / "x").read_bytes())
    assert found[0] == found[1]
    assert secret.read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "secret.json", "x"]


def test_a_tokenizer_that_writes_gigabytes_or_never_ends_is_refused_at_once(
    run_tool: Run, random_model: Path, tmp_path: Path
) -> None:
    stored = open_model(random_model)
    description = json.loads(all_kmers(1).to_str())
    rules = {
        "grows": [{"type": "Replace", "pattern": {"String": "A"}, "content": "A" * 1_000}] * 3,
        "doubles": [{"type": "Replace", "pattern": {"String": "A"}, "content": "AA"}] * 30,
    }
    for name, normalizers in rules.items():
        tokenizer = {"tokenizer.json": description | {"normalizer": {"type": "Sequence", "normalizers": normalizers}}}
        write_model_file(tmp_path / name, stored.read_tensors(), stored.config, tokenizer, name=name)
        started = time.process_time()
        given = ("--sequences", SEQUENCES, "--model", tmp_path / name, "--output", tmp_path / "x")
        code, _, error = run_tool("embed", *given)
        assert time.process_time() - started < 10
        assert code == 1
        assert "its normalizer makes a text over 16 times as long" in error
        assert error.count("\n") == 1


def test_two_runs_with_a_tokenizer_that_leaves_merges_out_at_random_give_the_same(
    run_tool: Run, random_model: Path, tmp_path: Path
) -> None:
    stored = open_model(random_model)
    bases = "".join(random.Random(1).choices("ACGT", k=5_000))
    description = json.loads(learn_byte_pairs([bases], 60).to_str())
    description["model"]["dropout"] = 0.5
    write_model_file(
        tmp_path / "model", stored.read_tensors(), stored.config, {"tokenizer.json": description}, name="x"
    )
    given = ("--sequences", SEQUENCES, "--model", tmp_path / "model", "--output-format", "tabular")
    for name in ("first", "second"):
        assert run_tool("embed", *given, "--output", tmp_path / name)[0] == 0
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
