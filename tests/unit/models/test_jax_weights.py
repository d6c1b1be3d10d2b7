"""Arrays that joblib pickled, and files that pretend to be such: nothing of them is run."""

import io
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from dnalm.errors import UserError
from dnalm.models.jax_weights import convert
from jax_files import Hostile, as_published
from joblib.numpy_pickle import NumpyArrayWrapper
from safetensors.torch import load_file

PARITY = REPOSITORY / "tests" / "parity" / "data"


@pytest.mark.parametrize("case", ["segment_enformer", "segment_borzoi"])
def test_every_array_keeps_path_kind_shape_and_values(tmp_path: Path, case: str) -> None:
    files = as_published(tmp_path, case)
    convert(list(reversed(files)), tmp_path / "model.safetensors")
    wanted, found = load_file(PARITY / case / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_orders_scalars_and_other_containers_are_read(tmp_path: Path) -> None:
    arrays = {"a": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "b": np.array(3, dtype=np.int32)}
    joblib.dump(OrderedDict({"module": OrderedDict(arrays)}), tmp_path / "p.joblib")
    convert([tmp_path / "p.joblib"], tmp_path / "model.safetensors")
    found = load_file(tmp_path / "model.safetensors")
    assert found["params/module/a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["params/module/b"].item() == 3


class HostileState(dict):
    """Is built by a function of another library."""

    def __reduce__(self) -> Any:
        return (joblib.load, ("/etc/passwd",))


def wrapped(**state: Any) -> bytes:
    """Return a pickle in which joblib's mark for an array has another state; no bytes of an array follow."""
    usual: dict[str, Any] = {
        "subclass": np.ndarray,
        "shape": (2,),
        "order": "C",
        "dtype": np.dtype("f4"),
        "allow_mmap": False,
        "numpy_array_alignment_bytes": 16,
    }
    wrapper = NumpyArrayWrapper.__new__(NumpyArrayWrapper)
    vars(wrapper).update(usual | state)
    return pickle.dumps({"module": {"w": wrapper}}, protocol=4)


def test_the_hostile_pickle_would_have_run(tmp_path: Path) -> None:
    joblib.dump({"module": {"w": Hostile(tmp_path / "ran")}}, tmp_path / "p.joblib")
    joblib.load(tmp_path / "p.joblib")
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["value", "inner", "outer", "key", "array"])
def test_nothing_of_a_file_is_run(tmp_path: Path, place: str) -> None:
    hostile: Any = Hostile(tmp_path / "ran")
    content = {
        "value": {"module": {"w": np.zeros(2), "x": hostile}},
        "inner": {"module": hostile},
        "outer": hostile,
        "key": {"module": {"w": (hostile,)}},
        "array": {"module": {"w": np.array([hostile, None], dtype=object)}},
    }[place]
    joblib.dump(content, tmp_path / "p.joblib")
    with pytest.raises(UserError, match=r"holds more than arrays .*never run"):
        convert([tmp_path / "p.joblib"], tmp_path / "model.safetensors")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (pickle.dumps({"module": HostileState()}), "joblib.numpy_pickle.load"),
        (b"\x80\x04cposix\nsystem\n\x8c\x04true\x85R.", "posix.system"),
        (b"\x80\x04(\x8c\x04trueiposix\nsystem\n.", "posix.system"),
        (b"\x80\x04c__builtin__\neval\n\x8c\x011\x85R.", "__builtin__.eval"),
        (b"\x80\x04cnumpy\nload\n\x8c\x01x\x85R.", "numpy.load"),
        (b"\x80\x04cjoblib.numpy_pickle\nNDArrayWrapper\n)\x81.", "NDArrayWrapper"),
        (b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper.read\n)\x81.", "NumpyArrayWrapper.read"),
        (wrapped(dtype=np.dtype("O")), "an array of objects"),
        (wrapped(subclass=np.dtype), "an array of objects"),
        (wrapped(dtype="f4"), "an array of objects"),
        (wrapped(shape=(10**12,)), "arrays that are larger than it"),
        (wrapped(shape=(-1,)), "an array without a shape"),
        (wrapped(shape=(1,) * 9), "an array without a shape"),
        (wrapped(shape="x"), "an array without a shape"),
        (wrapped(), "damaged"),
        (wrapped(read=OrderedDict), "damaged"),
        (b"\x80\x04", "damaged"),
        (b"\x80\x04" + b"(" * 200_000, "damaged"),
        (b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged"),
        (b"x\x9c" + b"compressed", "compressed or no joblib file"),
        (b"", "compressed or no joblib file"),
        (pickle.dumps({}), "holds no arrays by module and name"),
        (pickle.dumps([1, 2]), "holds no arrays by module and name"),
        (pickle.dumps({"module": {}}), "holds no arrays by module and name"),
        (pickle.dumps({"module": {"w": 3.0}}), "holds 'w', which is no array"),
        (pickle.dumps({3: {"w": [3.0]}}), "which is no array"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "p.joblib").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        convert([tmp_path / "p.joblib"], tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


def test_arrays_that_are_made_by_a_call_are_seen(tmp_path: Path) -> None:
    """A pickle may call numpy's class itself for an array that no byte of the file stands behind."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=4)
    pickler.dump({"module": {"w": Called()}})
    pickletools.dis(stream.getvalue(), out=io.StringIO())
    (tmp_path / "p.joblib").write_bytes(stream.getvalue())
    with pytest.raises(UserError, match="more than it holds"):
        convert([tmp_path / "p.joblib"], tmp_path / "model.safetensors")


class Called:
    """An array of many bytes in a pickle of few."""

    def __reduce__(self) -> Any:
        return (np.ndarray, ((1_000_000,), np.dtype("f4")))


def test_two_files_of_one_kind_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        joblib.dump({"module": {"w": np.zeros(2)}}, tmp_path / f"{name}.joblib")
    with pytest.raises(UserError, match=r"'a\.joblib' and 'b\.joblib' both hold params"):
        convert([tmp_path / "a.joblib", tmp_path / "b.joblib"], tmp_path / "model.safetensors")


@pytest.mark.parametrize("array", [np.array(["a"]), np.zeros(2, dtype=np.complex64), np.zeros(2, dtype="f4,f4")])
def test_arrays_of_anything_but_plain_numbers_are_refused(tmp_path: Path, array: Any) -> None:
    joblib.dump({"module": {"w": array}}, tmp_path / "p.joblib")
    with pytest.raises(UserError, match=r"holds more than arrays \(an array of objects\)"):
        convert([tmp_path / "p.joblib"], tmp_path / "model.safetensors")


def test_numbers_that_no_model_has_are_refused(tmp_path: Path) -> None:
    joblib.dump({"module": {"w": np.zeros(2, dtype=np.longdouble)}}, tmp_path / "p.joblib")
    with pytest.raises(UserError, match="holds 'w' of"):
        convert([tmp_path / "p.joblib"], tmp_path / "model.safetensors")


class Forged:
    """A dtype of objects, or with a field of them, whose flags say that it has none."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = np.dtype(dtype)

    def __reduce__(self) -> Any:
        (*state, _) = self._dtype.__reduce__()[2]
        kind = "O" if self._dtype.names is None else f"V{self._dtype.itemsize}"
        return (np.dtype, (kind, False, True), (*state, 0))


class Claimed:
    """An array of such a kind, made by a call and filled with addresses."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = Forged(dtype)

    def __reduce__(self) -> Any:
        return (np.ndarray, ((2,), self._dtype), (1, (2,), self._dtype, True, b"\x01" * 16))


@pytest.mark.parametrize("dtype", ["O", [("x", "O")]])
def test_objects_that_deny_being_objects_are_refused(tmp_path: Path, dtype: Any) -> None:
    """Eight bytes of the file would be taken for the address of an object."""
    forged = pickle.loads(pickle.dumps(Forged(dtype)))
    assert not forged.hasobject
    files = {
        "wrapped": wrapped(dtype=Forged(dtype), order="F"),
        "made": pickle.dumps({"module": {"w": Claimed(dtype)}}),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content + b"\x01" * 64)
        with pytest.raises(UserError, match=r"an array of objects|of no numbers"):
            convert([tmp_path / name], tmp_path / "model.safetensors")
