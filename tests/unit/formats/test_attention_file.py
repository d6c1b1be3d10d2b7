"""Attention maps of several sequences in one file."""

import json
import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dnalm.formats.attention_file import AttentionWriter

HEADS = [(1, 1), (1, 2), (12, 1)]


def test_maps_are_written_one_by_one(tmp_path: Path) -> None:
    """Never more than one is in memory."""
    made: list[weakref.ref[np.ndarray]] = []
    held: list[int] = []

    def maps() -> Iterator[np.ndarray]:
        for number in range(3):
            held.append(sum(reference() is not None for reference in made))
            values = np.full((2, 2), number, dtype=np.float32)
            made.append(weakref.ref(values))
            yield values
            del values

    with AttentionWriter(tmp_path / "o", HEADS) as writer:
        writer.append("a", np.array([0, 3]), np.array([3, 5]), maps())
        writer.finish({"tool": "a test"})
    assert held == [0, 1, 1]  # the one that was just written
    with np.load(tmp_path / "o", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["attention_0"], [np.full((2, 2), number) for number in range(3)])
    with zipfile.ZipFile(tmp_path / "o") as archive:
        assert archive.testzip() is None


def test_each_sequence_has_the_bases_of_its_tokens(tmp_path: Path) -> None:
    long, short = np.random.default_rng(0).random((3, 4, 4)), np.ones((3, 1, 1))
    with AttentionWriter(tmp_path / "o", HEADS) as writer:
        # Neither the type nor the order in memory that the file has.
        writer.append("gène", np.array([0, 0, 3, 6], dtype=np.int32), np.array([0, 3, 6, 7]), np.asfortranarray(long))
        writer.append("b", np.array([0]), np.array([2]), short)
        writer.finish({"tool": "a test", "options": {"b": 1, "a": 2}})
    with np.load(tmp_path / "o", allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == ["gène", "b"]
        assert arrays["heads"].tolist() == ["1.1", "1.2", "12.1"]
        assert arrays["layers_heads"].tolist() == [[1, 1], [1, 2], [12, 1]]
        assert (arrays["starts_0"].tolist(), arrays["ends_0"].tolist()) == ([0, 0, 3, 6], [0, 3, 6, 7])
        assert arrays["starts_0"].dtype == np.int64
        assert arrays["attention_0"].dtype == np.float32
        np.testing.assert_array_equal(arrays["attention_0"], long.astype(np.float32))
        assert (arrays["starts_1"].tolist(), arrays["attention_1"].shape) == ([0], (3, 1, 1))
        assert str(arrays["provenance"]) == '{"options": {"a": 2, "b": 1}, "tool": "a test"}'


def test_a_file_may_hold_no_sequence(tmp_path: Path) -> None:
    with AttentionWriter(tmp_path / "o", []) as writer:
        writer.finish({})
    with np.load(tmp_path / "o", allow_pickle=False) as arrays:
        assert arrays["layers_heads"].shape == (0, 2)
        assert arrays["ids"].shape == (0,)
        assert json.loads(str(arrays["provenance"])) == {}


def test_what_was_run_must_be_valid_json(tmp_path: Path) -> None:
    with AttentionWriter(tmp_path / "o", HEADS) as writer, pytest.raises(ValueError, match="not JSON compliant"):
        writer.finish({"threshold": float("nan")})
