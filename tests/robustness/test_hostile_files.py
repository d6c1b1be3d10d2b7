"""Hostile files are refused in one sentence, or read with every record: no crash, no other file, bounded time and memory.

All files are tried with DNALM_FUZZ=full; else a part of them, the same in every run.
"""

import os
import re
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import pyarrow.parquet as pq
import pyBigWig
import pytest
from conftest import TEST_DATA, Run
from dnalm.formats import isolated_reader
from dnalm.formats.isolated_hdf5 import IsolatedHdf5
from dnalm.formats.isolated_reader import Subject
from robustness.hostile_files import FILES, SECRET, honest, mutated

FULL = os.environ.get("DNALM_FUZZ") == "full"
KINDS = ("embeddings", "cells", "npz", "parquet", "bigwig")
EACH = 1 if FULL else 12  # of the files by hand, one of so many
MUTATIONS = 300 if FULL else 3  # of each kind
SECONDS = 3  # of processor time, for one request; a job here takes less
MOST_SECONDS = 120
MEMORY = 1_200  # MB
FEATURES = TEST_DATA / "mitochondrial_features.bed"
TOOLS = {
    "embeddings": ("project", "merge"),
    "cells": ("embed_cells",),
    "npz": ("project",),
    "parquet": ("project", "merge"),
    "bigwig": ("evaluate_segments", "merge"),
}
Check = Callable[[str, Path], int]


def arguments(tool: str, path: Path, output: Path) -> tuple[object, ...]:
    if tool == "project":
        return ("--embeddings", path, "--output", output / "map", "--table", output / "table")
    if tool == "merge":
        return ("--shards", path, "--output", output / "merged")
    if tool == "embed_cells":
        return ("--cells", path, "--model", TEST_DATA / "scgpt.safetensors", "--output", output / "cells.h5ad")
    return ("--tracks", path, "--track-names", "CDS", "--annotation", FEATURES, "--output", output / "metrics")


def accounted(tool: str, said: str, output: Path) -> bool:
    """Return whether a result has as many records as the job says that it read."""

    def number(pattern: str) -> int:
        match = re.search(pattern, said)
        assert match, said
        return int(match[1].replace(",", ""))

    if tool == "project":
        left_out = re.search(r"left out: ([\d,]+)", said)
        records = number(r"Read ([\d,]+) embeddings")
        assert left_out is None or records
        return len((output / "table").read_text().splitlines()) == records + 1
    if tool == "embed_cells":
        with IsolatedHdf5() as reader:  # a copy of a hostile file is one too
            found = reader.open(output / "cells.h5ad", Subject("It", "is damaged")).root.dataset("obsm/X_scGPT").shape
        return found == (number(r"Embedded [\d,]+ of ([\d,]+) cells"), 32)
    if tool == "evaluate_segments":
        return len((output / "metrics").read_text().splitlines()) == 2
    merged, count = output / "merged", number(r"of ([\d,]+) (?:rows|values)")
    if "(h5ad)" in said:
        return anndata.read_h5ad(merged).n_obs == count
    if "(Parquet)" in said:
        return pq.read_metadata(merged).num_rows == count
    with pyBigWig.open(str(merged)) as file:
        return file.header()["nBasesCovered"] == count


@pytest.fixture
def check(run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run a tool on a file, hold it to what is promised, and return its exit code."""
    monkeypatch.setattr(isolated_reader, "SECONDS", SECONDS)
    monkeypatch.setattr(isolated_reader, "LEAST_MEMORY", 1 << 30)
    monkeypatch.setenv("GALAXY_MEMORY_MB", str(MEMORY))

    def call(tool: str, path: Path) -> int:
        output = tmp_path / "results"
        output.mkdir()
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        code, said, error = run_tool(tool, *arguments(tool, path, output))
        assert time.monotonic() - began < MOST_SECONDS
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY << 10
        shown = b"".join(file.read_bytes() for file in output.iterdir()) + said.encode() + error.encode()
        assert SECRET[:3] not in shown
        assert "Traceback" not in said + error
        if code == 0:
            with warnings.catch_warnings(action="ignore"):
                assert accounted(tool, said, output)
        else:
            assert code == 1
            assert re.fullmatch(rf"dnalm_{tool}: [^\n]+\.\n", error), error
            assert error.isascii() or error.rstrip("\n").isprintable()
            assert not list(output.iterdir())
        for file in output.iterdir():
            file.unlink()
        output.rmdir()
        return code

    return call


def by_hand() -> list[str]:
    """Return the names of the files to try; of each kind some."""
    return [name for kind in KINDS for name in [name for name in FILES if FILES[name][0] == kind][::EACH]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", by_hand())
def test_files_made_by_hand(check: Check, tmp_path: Path, name: str) -> None:
    kind, write = FILES[name]
    secret = tmp_path / "secret.txt"
    secret.write_bytes(SECRET)
    write(tmp_path / "file", secret)
    for tool in TOOLS[kind]:
        check(tool, tmp_path / "file")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(MUTATIONS))
@pytest.mark.parametrize("kind", KINDS)
def test_files_with_changed_bytes(check: Check, tmp_path: Path, kind: str, seed: int) -> None:
    (tmp_path / "file").write_bytes(mutated(kind, seed))
    for tool in TOOLS[kind]:
        check(tool, tmp_path / "file")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_honest_files_are_read(check: Check, tmp_path: Path, kind: str) -> None:
    """What the others change is nothing that is refused as it is."""
    (tmp_path / "file").write_bytes(honest(kind))
    assert [check(tool, tmp_path / "file") for tool in TOOLS[kind]] == [0] * len(TOOLS[kind])


def test_there_are_many() -> None:
    assert len(FILES) > 400
