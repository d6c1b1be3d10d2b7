"""Links of a file are followed before anything is read; what leads elsewhere is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from dnalm.formats import hdf5_process
from dnalm.formats.hdf5_process import attribute, close_file, describe, open_checked, open_file, read
from dnalm.formats.isolated_reader import Refused, texts_of_arrays


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "x", "w") as file:
        yield file


def opened(file: h5py.File) -> tuple[int, list[Any]]:
    path = file.filename
    file.close()  # HDF5 opens no file twice in two ways
    return open_file(path).value


def test_objects_are_those_that_links_reach_each_once(file: h5py.File) -> None:
    file["a/b"] = np.arange(3)
    file["same"] = file["a/b"]
    file["a/round"] = file["/"]
    file["linked"] = h5py.SoftLink("/a/b")
    number, objects = opened(file)
    root = objects[0]
    assert sorted(root) == ["a", "linked", "same"]
    assert root["linked"] == root["same"] == objects[root["a"]]["b"]
    assert objects[root["a"]]["round"] == 0
    assert len(objects) == 3
    np.testing.assert_array_equal(read(number, root["linked"], 1, 3, "<f4").arrays[0], [1, 2])
    close_file(number)


def test_an_attribute_that_refers_to_an_object_names_it(file: h5py.File) -> None:
    file["a"], file["b"] = 1, 2
    file["a"].attrs["other"] = file["b"].ref
    number, objects = opened(file)
    assert attribute(number, objects[0]["a"], "other").value == {"object": objects[0]["b"]}
    close_file(number)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (np.bytes_(b"text"), "text"),
        (7, 7),
        (np.bool_(True), True),
        (np.zeros(0), []),
        (h5py.Empty("f8"), []),
        (np.array([1.5, 2.0]), [1.5, 2.0]),
        (np.array([b"a", b"b"]), ["a", "b"]),
        (["a", "gène"], ["a", "gène"]),
    ],
)
def test_attributes_are_plain_values(file: h5py.File, value: Any, expected: Any) -> None:
    file.attrs["x"] = value
    number, _ = opened(file)
    assert attribute(number, 0, "x").value == expected
    assert attribute(number, 0, "y").value is None
    close_file(number)


def test_large_attributes_are_refused(file: h5py.File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_process, "LARGEST_ATTRIBUTE", 79)
    file.attrs["x"], file.attrs["y"] = np.zeros(10), np.zeros(9)
    number, _ = opened(file)
    assert attribute(number, 0, "y").value == [0] * 9
    with pytest.raises(Refused, match="has the attribute 'x' of 80 bytes"):
        attribute(number, 0, "x")
    close_file(number)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        *((name, "number") for name in ("f2", ">f4", "f8", "i1", "u8", "?")),
        *((name, "text") for name in ("S4", h5py.string_dtype())),
        *((name, "other") for name in ("c8", "g", "V3", h5py.ref_dtype, h5py.vlen_dtype(np.int8), [("a", "i4")])),
        (h5py.enum_dtype({"a": 1, "b": 2}), "number"),
    ],
)
def test_what_a_dataset_holds(file: h5py.File, dtype: Any, kind: str) -> None:
    file.create_dataset("x", (6,), dtype, chunks=(2,))
    number, objects = opened(file)
    shape, found, _, _, rows = describe(number, objects[0]["x"]).value
    assert (shape, found, rows) == ([6], kind, 2)
    close_file(number)


@pytest.mark.slow
def test_sizes_that_no_compression_reaches_are_refused(file: h5py.File) -> None:
    file.create_dataset("stored", data=np.zeros(1 << 24), chunks=(1 << 20,), compression="gzip")  # 1,000 times
    file.create_dataset("claimed", (1 << 24,), "f8", chunks=(1 << 20,))
    file.create_dataset("small", (1 << 20,), "f8", chunks=(1 << 20,))
    number, objects = opened(file)
    for name in ("stored", "small"):
        describe(number, objects[0][name])
    with pytest.raises(Refused, match="claims 134,217,728 bytes for 'claimed' but stores 0"):
        describe(number, objects[0]["claimed"])
    close_file(number)


def test_texts_are_read_in_utf8(file: h5py.File) -> None:
    file["x"] = np.array(["gène".encode(), b""])
    file["y"] = "a text"
    number, objects = opened(file)
    assert texts_of_arrays(read(number, objects[0]["x"], 0, 2, None).arrays, 2) == ["gène", ""]
    assert texts_of_arrays(read(number, objects[0]["y"], None, None, None).arrays, 1) == ["a text"]
    close_file(number)


@pytest.mark.parametrize("most", [3, 5])
def test_too_many_objects_are_refused(file: h5py.File, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(hdf5_process, "MOST_OBJECTS", most)
    for name in "abcd":
        file[name] = 1
    path = Path(file.filename)
    file.close()
    if most == 5:
        open_checked(path).file.close()
        return
    with pytest.raises(Refused, match="has more than 3 objects"):
        open_checked(path)
