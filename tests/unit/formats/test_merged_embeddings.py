"""Embeddings of shards merged row by row."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dnalm.errors import UserError
from dnalm.formats import merged_embeddings
from dnalm.formats.embeddings_file import WRITERS
from dnalm.formats.merged_embeddings import merge_h5ad, merge_parquet
from dnalm.formats.shards import Merged

VECTORS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
IDS = ["a", "b", "a", "gène", "e", "b", "g"]
MERGE: dict[str, Callable[[Sequence[Path], Path], Merged]] = {"h5ad": merge_h5ad, "parquet": merge_parquet}
KINDS = tuple(MERGE)


def provenance(first: int, last: int) -> dict[str, Any]:
    own = IDS[first:last]
    return {"tool": "dnalm_embed", "counts": {"sequences": len(own), "duplicate_ids": len(own) - len(set(own))}}


def write(path: Path, kind: str, first: int = 0, last: int = 7, **changes: Any) -> Path:
    """Write rows of an embeddings file; `changes` replaces columns, dimensions or what was run."""
    with WRITERS[kind](path) as writer:
        writer.dimensions = changes.get("dimensions")
        columns = {"id": IDS[first:last], "length": list(range(first, last))}
        writer.append(changes.get("columns", columns), changes.get("vectors", VECTORS[first:last]))
        writer.finish(changes.get("provenance", provenance(first, last)))
    return path


def rows(path: Path, kind: str) -> tuple[list[str], list[int], np.ndarray, dict[str, Any]]:
    if kind == "h5ad":
        with h5py.File(path) as file:
            said = json.loads(file["uns/dnalm"].asstr()[()])
            return file["obs/id"].asstr()[:].tolist(), file["obs/length"][:].tolist(), file["X"][:], said
    table, said = pq.read_table(path), json.loads(pq.read_metadata(path).metadata[b"dnalm"])
    vectors = np.stack([table[f"dimension_{number}"].to_numpy() for number in range(3)], axis=1)
    return table["id"].to_pylist(), table["length"].to_pylist(), vectors, said


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most_rows", [1, 3, 8_192])
@pytest.mark.parametrize("cuts", [[], [3], [1, 5, 6]])
def test_rows_are_those_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, most_rows: int, cuts: list[int]
) -> None:
    monkeypatch.setattr(merged_embeddings, "MOST_ROWS", most_rows)
    bounds = list(zip([0, *cuts], [*cuts, 7], strict=True))
    shards = [write(tmp_path / str(first), kind, first, last) for first, last in bounds]
    merged = MERGE[kind](shards, tmp_path / "m")
    assert (merged.records, merged.unit, merged.notes) == ([last - first for first, last in bounds], "rows", [])
    ids, lengths, vectors, said = rows(tmp_path / "m", kind)
    assert (ids, lengths) == (IDS, list(range(7)))
    np.testing.assert_array_equal(vectors, VECTORS)
    # Two ids are repeated, though within no shard of the last case.
    assert said == {"tool": "dnalm_embed", "counts": {"sequences": 7, "duplicate_ids": 2}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_do_not_show_where_shards_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(merged_embeddings, "MOST_ROWS", 3)
    found = []
    for cuts in ([0, 7], [0, 2, 7], [0, 1, 4, 5, 7]):
        bounds = pairwise(cuts)
        MERGE[kind]([write(tmp_path / str(first), kind, first, last) for first, last in bounds], tmp_path / "m")
        found.append((tmp_path / "m").read_bytes())
        if kind == "parquet":
            groups = pq.read_metadata(tmp_path / "m")
            assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == [3, 3, 1]
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_dimensions_keep_their_names(tmp_path: Path, kind: str) -> None:
    names = ["AA", "AC", "AG"]
    MERGE[kind]([write(tmp_path / name, kind, dimensions=names) for name in ("x", "y")], tmp_path / "m")
    if kind == "h5ad":
        with h5py.File(tmp_path / "m") as file:
            assert file["var/_index"].asstr()[:].tolist() == names
    else:
        assert pq.read_schema(tmp_path / "m").names == ["id", "length", *names]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_repeated_ids_of_tokens_are_those_of_records(tmp_path: Path, kind: str) -> None:
    columns = {"id": ["a", "a", "b"], "token": [0, 1, 0], "start": [0, 3, 0], "end": [3, 6, 3]}
    said = {"tool": "dnalm_embed", "counts": {"duplicate_ids": 0}}
    shards = [
        write(tmp_path / name, kind, columns=columns, vectors=VECTORS[:3], provenance=said) for name in ("x", "y")
    ]
    MERGE[kind](shards, tmp_path / "m")
    if kind == "h5ad":
        with h5py.File(tmp_path / "m") as file:
            counts = json.loads(file["uns/dnalm"].asstr()[()])["counts"]
    else:
        counts = json.loads(pq.read_metadata(tmp_path / "m").metadata[b"dnalm"])["counts"]
    assert counts == {"duplicate_ids": 2}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"columns": {"id": ["a"], "bases": [3]}},
            r"has other columns than Shard 1 \('a'\): it has \('bases', 'int64'\)",
        ),
        ({"columns": {"id": ["a"]}}, r"has other columns than Shard 1 \('a'\): it lacks \('length', 'int64'\); merge"),
        ({"columns": {"id": ["a"], "length": [0.5]}}, r"has other columns .*: it has \('length', '(float64|double)'\)"),
        ({"dimensions": ["x", "y", "z"]}, r"has other (dimensions|columns) than Shard 1 \('a'\): it has .*x"),
        ({"provenance": {"tool": "dnalm_other"}}, r"was made with tool dnalm_other, Shard 1 \('a'\) with dnalm_embed"),
        ({"provenance": {}}, r"does not say what was run, as others do; merge shards of one run"),
    ],
)
def test_shards_of_other_runs_are_refused(tmp_path: Path, kind: str, changes: dict[str, Any], sentence: str) -> None:
    usual: dict[str, Any] = {"vectors": VECTORS[:1], "columns": {"id": ["a"], "length": [3]}}
    shards = [write(tmp_path / "a", kind), write(tmp_path / "b", kind, **(usual | changes))]
    with pytest.raises(UserError, match=rf"^Shard 2 \('b'\) {sentence}"):
        MERGE[kind](shards, tmp_path / "m")


@pytest.mark.parametrize("kind", KINDS)
def test_dimensions_in_another_order_are_refused(tmp_path: Path, kind: str) -> None:
    shards = [
        write(tmp_path / name, kind, dimensions=dimensions)
        for name, dimensions in (("a", ["x", "y", "z"]), ("b", ["y", "x", "z"]))
    ]
    with pytest.raises(UserError, match=r"Shard 2 \('b'\) has other .*: it has them in another order"):
        MERGE[kind](shards, tmp_path / "m")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_shards_that_say_nothing_of_their_run_are_merged_with_a_note(tmp_path: Path, kind: str) -> None:
    shards = [write(tmp_path / "a", kind, 0, 3, provenance={}), write(tmp_path / "b", kind, 3, 7, provenance={})]
    merged = MERGE[kind](shards, tmp_path / "m")
    assert merged.notes == ["No shard says what was run."]
    assert merged.records == [3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"id\tlength\n", b"\x89HDF\r\n\x1a\n", b"PAR1 and no more"])
def test_damaged_files_are_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(UserError, match=r"Shard 2 \('b'\) is a damaged (HDF5|Parquet) file\. Make or upload it again"):
        MERGE[kind]([write(tmp_path / "a", kind), tmp_path / "b"], tmp_path / "m")


def test_a_shard_that_is_damaged_in_its_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "parquet")
    content = bytearray(path.read_bytes())
    content[10:40] = b"\xff" * 30  # pages of the first column; the list of columns is at the end
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"Shard 1 \('a'\) is a damaged Parquet file"):
        merge_parquet([path], tmp_path / "m")


def change_category(file: h5py.File) -> None:
    del file["obs/length"]
    file.create_group("obs/length")["codes"] = np.zeros(7, dtype=np.int8)


def change_matrix(file: h5py.File) -> None:
    del file["X"]
    file["X"] = VECTORS.astype(np.float64)


def elsewhere(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = h5py.ExternalLink("/etc/other.h5ad", "X")

    return change


def stored_elsewhere(file: h5py.File) -> None:
    del file["obs/length"]
    file.create_dataset("obs/length", (7,), "u1", external=[("/etc/passwd", 0, 7)])


def virtual(file: h5py.File) -> None:
    del file["X"]
    layout = h5py.VirtualLayout((7, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5ad", "X", (7, 3))
    file.create_virtual_dataset("X", layout)


NOTES = (
    "{",
    "[1]",
    "7",
    '{"counts": {"sequences": NaN}}',
    '{"counts": {"sequences": "7"}}',
    '{"counts": [7]}',
    '{"model": "x"}',
    '{"model": {"lowest_cosine_with_float32": "x"}}',
    '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}",
)


def said(text: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file["uns/dnalm"]
        file["uns/dnalm"] = text

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda file: file.create_dataset("obsm/X_umap", data=VECTORS), "has 'obsm'; merge embeddings as DNA-LM embed"),
        (change_category, "has the categories of 'length'; merge embeddings as DNA-LM embed wrote them"),
        (change_matrix, "has a matrix X that is no float32; merge embeddings as DNA-LM embed wrote them"),
        (lambda file: file.__delitem__("var"), "is HDF5, but no AnnData as DNA-LM embed writes it"),
        (lambda file: file["obs"].attrs.__delitem__("column-order"), "is HDF5, but no AnnData"),
        *((said(text), "says of its run what DNA-LM does not write") for text in NOTES),
        (elsewhere("X"), "has 'X' in another file, which is never read"),
        (elsewhere("obs/length"), "has 'obs/length' in another file, which is never read"),
        (stored_elsewhere, "has 'obs/length' in another file, which is never read"),
        (virtual, "has 'X' in another file, which is never read"),
    ],
)
def test_other_anndata_files_are_refused(tmp_path: Path, change: Callable[[h5py.File], object], sentence: str) -> None:
    with h5py.File(write(tmp_path / "a", "h5ad"), "r+") as file:
        change(file)
    with pytest.raises(UserError, match=rf"Shard 1 \('a'\) {sentence}"):
        merge_h5ad([tmp_path / "a"], tmp_path / "m")


@pytest.mark.parametrize("kind", KINDS)
def test_notes_of_two_forms_are_refused(tmp_path: Path, kind: str) -> None:
    """One says its versions as a mapping, the other as a text: only a hand that is not ours writes so."""
    shards = [
        write(tmp_path / name, kind, provenance={"tool": "dnalm_embed", "versions": versions})
        for name, versions in (("a", {"numpy": "2"}), ("b", "2"))
    ]
    with pytest.raises(UserError, match="The shards say of their runs what DNA-LM does not write"):
        MERGE[kind](shards, tmp_path / "m")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array([0], pa.timestamp("ms")), r"timestamp\[ms\]"),
        (pa.array([[1.0]]), "list<element: double>"),
        (pa.array(["a"]).dictionary_encode(), "dictionary<"),
        (pa.array([1], pa.decimal128(5, 2)), r"decimal128\(5, 2\)"),
    ],
)
def test_columns_that_the_tool_does_not_write_are_refused(tmp_path: Path, column: pa.Array, what: str) -> None:
    pq.write_table(pa.table({"id": ["a"], "x": column}), tmp_path / "a")
    with pytest.raises(UserError, match=rf"Shard 1 \('a'\) has the column 'x' of {what}.*; merge embeddings as DNA-LM"):
        merge_parquet([tmp_path / "a"], tmp_path / "m")


@pytest.mark.slow
def test_columns_of_every_kind_are_merged(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["a", None, "gène"],
            "large": pa.array(["x", "", None], pa.large_string()),
            "whole": pa.array([1, None, 3], pa.uint8()),
            "truth": [True, None, False],
            "half": pa.array(np.array([1, 2, 3], np.float16)),
            "double": [0.5, None, float("nan")],
        }
    )
    pq.write_table(table, tmp_path / "a")
    assert merge_parquet([tmp_path / "a"] * 2, tmp_path / "m").records == [3, 3]
    merged = pq.read_table(tmp_path / "m")
    assert merged.schema.equals(table.schema)
    assert str(merged.to_pylist()) == str(table.to_pylist() * 2)


@pytest.mark.slow
def test_metadata_of_other_tools_do_not_make_parquet_columns_differ(tmp_path: Path) -> None:
    one = pq.read_table(write(tmp_path / "a", "parquet", provenance={}))
    pq.write_table(one.replace_schema_metadata({"pandas": "{}"}), tmp_path / "b")
    assert merge_parquet([tmp_path / "b", tmp_path / "a"], tmp_path / "m").records == [7, 7]
    merged = pq.read_table(tmp_path / "m")
    assert merged.equals(pa.concat_tables([one] * 2))
    assert not merged.schema.metadata
