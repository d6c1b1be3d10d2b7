"""HDF5 of users as plain arrays, piece by piece."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.formats import isolated_hdf5
from dnalm.formats.isolated_hdf5 import Hdf5Dataset, Hdf5Group, IsolatedHdf5
from dnalm.formats.isolated_reader import Subject

SUBJECT = Subject("The file 'x'", "is damaged")
NUMBERS = np.arange(70.0).reshape(35, 2)


def make(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("a/numbers", data=NUMBERS, chunks=(4, 2), compression="gzip")
        file["texts"] = [f"gène {number}" for number in range(35)]
        file["one"] = "text"
        file["a"].attrs["names"] = ["b", "c"]
        file["a"].attrs["list"] = np.array(["d"], dtype=h5py.string_dtype())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
def test_rows_are_those_of_the_file_whatever_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(isolated_hdf5, "PIECE", piece)
    with IsolatedHdf5() as reader:
        root = reader.open(make(tmp_path / "x"), SUBJECT).root
        numbers, texts = root.dataset("a/numbers"), root.dataset("texts")
        np.testing.assert_array_equal(numbers[:], NUMBERS)
        np.testing.assert_array_equal(numbers[3:17], NUMBERS[3:17])
        assert numbers.numbers(0, 35, np.float32).dtype == np.float32
        assert numbers[40:50].shape == (0, 2)
        assert texts.texts(5, 9) == [f"gène {number}" for number in range(5, 9)]
        assert len(texts.texts()) == 35


def test_pieces_are_whole_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_hdf5, "PIECE", 150)  # of rows of 16 bytes: 9, two chunks
    with IsolatedHdf5() as reader:
        numbers = reader.open(make(tmp_path / "x"), SUBJECT).root.dataset("a/numbers")
        assert list(numbers.pieces(3, 30)) == [(3, 8), (8, 16), (16, 24), (24, 30)]


def test_members_and_attributes(tmp_path: Path) -> None:
    with IsolatedHdf5() as reader:
        root = reader.open(make(tmp_path / "x"), SUBJECT).root
        group = root.group("a")
        assert (isinstance(root.get("a/numbers"), Hdf5Dataset), isinstance(root.get("a"), Hdf5Group)) == (True, True)
        assert root.get("a/absent") is root.get("texts/0") is root.get("") is None
        assert group.list_attribute("names") == ["b", "c"]
        assert group.text_attribute("list") == "d"
        assert root.dataset("one").text() == "text"


@pytest.mark.slow
@pytest.mark.parametrize(
    "ask",
    [
        lambda root: root.group("texts"),
        lambda root: root.dataset("a"),
        lambda root: root.dataset("absent"),
        lambda root: root.text_attribute("absent"),
        lambda root: root.group("a").text_attribute("names"),
        lambda root: root.list_attribute("absent"),
        lambda root: root.dataset("texts")[:],
        lambda root: root.dataset("a/numbers").texts(),
        lambda root: root.dataset("texts").text(),
        lambda root: len(root.dataset("one")),
    ],
)
def test_what_is_not_as_it_must_be_is_damage(tmp_path: Path, ask: Callable[[Hdf5Group], object]) -> None:
    with IsolatedHdf5() as reader:
        root = reader.open(make(tmp_path / "x"), SUBJECT).root
        with pytest.raises(UserError, match=r"The file 'x' is damaged\. Make or upload it again\."):
            ask(root)


def test_texts_that_a_file_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_hdf5, "FREE_TEXT", 100)
    monkeypatch.setattr(isolated_hdf5, "MOST_TEXT", 0)
    with IsolatedHdf5() as reader:
        texts = reader.open(make(tmp_path / "x"), SUBJECT).root.dataset("texts")
        texts.texts(0, 10)
        with pytest.raises(UserError, match="has more text than it can hold"):
            texts.texts(10, 30)


def test_several_files_have_one_child(tmp_path: Path) -> None:
    with IsolatedHdf5() as reader:
        files = [reader.open(make(tmp_path / name), SUBJECT) for name in "ab"]
        files[0].close()
        np.testing.assert_array_equal(files[1].root.dataset("a/numbers")[:], NUMBERS)
        with pytest.raises(UserError, match="is damaged"):
            files[0].root.dataset("a/numbers")
