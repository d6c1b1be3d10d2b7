"""Hostile and damaged h5ad, npz, Parquet and bigWig files, each made by hand; and honest ones with bytes changed."""

import ctypes
import io
import json
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from conftest import TEST_DATA
from dnalm.formats.bigwig import BigWigWriter, Chromosomes
from dnalm.formats.embeddings_file import WRITERS

ROWS, DIMENSIONS = 12, 4
SECRET = b"QZX" * 40  # so that three bytes of it are known
CELLS = TEST_DATA / "cells.h5ad"
Write = Callable[[Path, Path], object]  # the file to make, and a file whose content nothing may show
FILES: dict[
    str, tuple[str, Write]
] = {}  # by name: the kind (embeddings, cells, npz, parquet or bigwig), and how to make it


@cache
def honest(kind: str) -> bytes:
    """Return an honest file of a kind."""
    if kind == "cells":
        return CELLS.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "honest"
        if kind == "bigwig":
            random = np.random.default_rng(1)
            with BigWigWriter(path, Chromosomes({"human_mitochondrion": 16_569, "other": 5_000})) as writer:
                for start in range(0, 16_000, 4_000):
                    writer.append("human_mitochondrion", start, random.random(3_000).astype(np.float32))
                writer.finish()
        else:
            with WRITERS["h5ad" if kind == "embeddings" else kind](path) as embeddings:
                columns: dict[str, Any] = {"id": [f"record {row}" for row in range(ROWS)], "length": list(range(ROWS))}
                embeddings.append(columns, vectors())
                embeddings.finish({"tool": "dnalm_embed", "counts": {"sequences": ROWS}})
        return path.read_bytes()


def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, DIMENSIONS)).astype(np.float32)


def hostile(kind: str, name: str) -> Callable[[Write], Write]:
    def keep(write: Write) -> Write:
        assert f"{kind}: {name}" not in FILES
        FILES[f"{kind}: {name}"] = (kind, write)
        return write

    return keep


# HDF5


def in_hdf5(kind: str, name: str, change: Callable[[h5py.File, Path], object]) -> None:
    """Add an honest file with a change in it."""

    def write(path: Path, secret: Path) -> None:
        path.write_bytes(honest(kind))
        with h5py.File(path, "r+") as file:
            change(file, secret)

    hostile(kind, name)(write)


def put(file: h5py.File, place: str, make: Callable[[h5py.Group, str], object]) -> Any:
    """Replace an object, and give it the attributes that the old one had."""
    attributes = dict(file[place].attrs)
    del file[place]
    group, _, name = place.rpartition("/")
    make(file[group or "/"], name)
    item = file.get(place) if file.get(place, getlink=True).__class__ is h5py.HardLink else None
    if item is not None:
        for key, value in attributes.items():
            item.attrs[key] = value


def secret_hdf5(secret: Path) -> Path:
    other = secret.with_suffix(".h5")
    if not other.exists():
        with h5py.File(other, "w") as file:
            file["text"] = np.full(ROWS, SECRET[:16], dtype="S16")
            file["numbers"] = np.full((ROWS, DIMENSIONS), 42.0, dtype="f4")
    return other


def virtual(group: h5py.Group, name: str, secret: Path) -> None:
    layout = h5py.VirtualLayout((ROWS,), "S16")
    layout[:] = h5py.VirtualSource(str(secret_hdf5(secret)), "text", (ROWS,))
    group.create_virtual_dataset(name, layout)


def twice_deflated(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: str) -> None:
    """Make a dataset whose one chunk is deflated twice: of its zeros hardly anything is left."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((min(shape[0], 1 << 22), *shape[1:]))
    settings.set_deflate(9)
    settings.set_deflate(9)
    space = h5py.h5s.create_simple(shape)
    created = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, settings)
    h5py.Dataset(created)[: 1 << 22] = np.zeros((min(shape[0], 1 << 22), *shape[1:]), dtype=dtype)


def unknown_filter(group: h5py.Group, name: str) -> None:
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((ROWS,))
    settings.set_filter(32_999, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((ROWS,))
    created = h5py.h5d.create(group.id, name.encode(), h5py.h5t.NATIVE_INT64, space, settings)
    created.write_direct_chunk((0,), b"\1" * 40)


def of_type(dtype: Any, value: Any = None) -> Callable[[h5py.Group, str], object]:
    data = np.zeros(ROWS, dtype=dtype) if value is None else value
    return lambda group, name: group.create_dataset(name, data=data)


REPLACEMENTS: dict[str, Callable[[h5py.Group, str, Path], object]] = {
    "external link": lambda group, name, secret: group.__setitem__(
        name, h5py.ExternalLink(str(secret_hdf5(secret)), "/text")
    ),
    "external storage": lambda group, name, secret: group.create_dataset(
        name, (ROWS,), "S3", external=[(str(secret), 0, 3 * ROWS)]
    ),
    "virtual dataset": virtual,
    "link to itself": lambda group, name, secret: group.__setitem__(name, h5py.SoftLink(f"{group.name}/{name}")),
    "link to nothing": lambda group, name, secret: group.__setitem__(name, h5py.SoftLink("/nothing/at/all")),
    "link to its group": lambda group, name, secret: group.__setitem__(name, h5py.SoftLink(group.name)),
    "group in itself": lambda group, name, secret: group.__setitem__(name, group),
    "references": lambda group, name, secret: group.create_dataset(
        name, data=np.array([group.ref] * ROWS, dtype=h5py.ref_dtype), dtype=h5py.ref_dtype
    ),
    "references to regions": lambda group, name, secret: group.create_dataset(name, (ROWS,), h5py.regionref_dtype),
    "compound": lambda group, name, secret: of_type([("a", "i4"), ("b", "f8")])(group, name),
    "opaque": lambda group, name, secret: of_type("V7")(group, name),
    "lists": lambda group, name, secret: group.create_dataset(name, (ROWS,), h5py.vlen_dtype(np.int32)),
    "complex": lambda group, name, secret: of_type("c16")(group, name),
    "dates": lambda group, name, secret: group.create_dataset(
        name, data=np.zeros(ROWS, "M8[s]").astype(h5py.opaque_dtype("M8[s]"))
    ),
    "long double": lambda group, name, secret: of_type("g")(group, name),
    "arrays": lambda group, name, secret: group.create_dataset(name, (ROWS,), np.dtype(("f4", (3,)))),
    "bytes that are no text": lambda group, name, secret: group.create_dataset(
        name, data=[b"\xff\xfe"] * ROWS, dtype=h5py.string_dtype()
    ),
    "no space": lambda group, name, secret: group.create_dataset(name, data=h5py.Empty("f4")),
    "one value": lambda group, name, secret: group.create_dataset(name, data=1.0),
    "three axes": lambda group, name, secret: group.create_dataset(name, data=np.zeros((ROWS, 2, 2))),
    "too long": lambda group, name, secret: group.create_dataset(name, data=np.zeros(ROWS + 1)),
    "endless, nothing stored": lambda group, name, secret: group.create_dataset(name, (10**12,), "f8", chunks=(1024,)),
    "endless, deflated twice": lambda group, name, secret: twice_deflated(group, name, (1 << 33,), "i1"),
    "named type": lambda group, name, secret: group.__setitem__(name, np.dtype("f4")),
    "unknown filter": lambda group, name, secret: unknown_filter(group, name),
}
for what, replacement in REPLACEMENTS.items():
    for place in ("X", "obs/length", "var/_index"):
        in_hdf5(
            "embeddings",
            f"{place} is {what}",
            lambda file, secret, place=place, make=replacement: put(  # type: ignore[misc]
                file, place, lambda group, name: make(group, name, secret)
            ),
        )
    for place in ("X/data", "obs/index", "var"):
        in_hdf5(
            "cells",
            f"{place} is {what}",
            lambda file, secret, place=place, make=replacement: put(  # type: ignore[misc]
                file,
                f"obs/{file['obs'].attrs['_index']}" if place == "obs/index" else place,
                lambda group, name: make(group, name, secret),
            ),
        )


def hidden_by_reference(file: h5py.File, secret: Path) -> None:
    """Make an old categorical whose texts are in a dataset without a name, which lies in another file."""
    library = ctypes.CDLL(next(str(path) for path in Path(h5py.__file__).parent.parent.glob("h5py.libs/libhdf5-*")))
    library.H5Oincr_refcount.argtypes = [ctypes.c_int64]
    hidden = file.create_dataset("hidden", (2,), "S16", external=[(str(secret), 0, 32)])
    assert library.H5Oincr_refcount(hidden.id.id) >= 0
    old_categorical(file, hidden.ref)
    del file["hidden"]


def old_categorical(file: h5py.File, reference: Any) -> None:
    obs = file["obs"]
    codes = obs.create_dataset("leak", data=(np.arange(ROWS) % 2).astype("i1"))
    codes.attrs["categories"] = reference
    columns(file, [*obs.attrs["column-order"], "leak"])


def columns(file: h5py.File, names: Any, dtype: Any = None) -> None:
    file["obs"].attrs.create("column-order", names, dtype=dtype or h5py.string_dtype())


def categorical(file: h5py.File, **parts: Any) -> None:
    put(file, "obs/length", lambda group, name: group.create_group(name))
    group = file["obs/length"]
    group.attrs["encoding-type"] = "categorical"
    group.attrs["encoding-version"] = "0.2.0"
    group.attrs["ordered"] = False
    given: dict[str, Any] = {"codes": np.zeros(ROWS, "i1"), "categories": np.array([b"a", b"b"])} | parts
    for name, values in given.items():
        if values is not None:
            group[name] = values


def kind_of_column(file: h5py.File, kind: Any, **parts: Any) -> None:
    put(file, "obs/length", lambda group, name: group.create_group(name))
    file["obs/length"].attrs["encoding-type"] = kind
    file["obs/length"].attrs["encoding-version"] = "0.1.0"
    for name, values in parts.items():
        file["obs/length"][name] = values


def note(file: h5py.File, text: str) -> None:
    del file["uns/dnalm"]
    file["uns"].create_dataset("dnalm", data=text, dtype=h5py.string_dtype())


def nested(file: h5py.File, levels: int) -> None:
    group = file["uns"]
    for _ in range(levels):
        group = group.create_group("a")


def shared_text(file: h5py.File, rows: int, length: int) -> None:
    """Let all rows of a column have one long text, which is stored once."""
    for place in ("X", "obs/id", "obs/length"):
        put(
            file,
            place,
            lambda group, name: group.create_dataset(name, (rows,) if name != "X" else (rows, DIMENSIONS), "f4"),
        )
    del file["obs/id"]
    ids = file["obs"].create_dataset("id", (rows,), h5py.string_dtype(), chunks=(rows,), fillvalue=b"x" * length)
    assert ids.fillvalue


CHANGES: dict[str, Callable[[h5py.File, Path], object]] = {
    "text in another file, by reference": hidden_by_reference,
    "reference to a group": lambda file, secret: old_categorical(file, file["uns"].ref),
    "reference to its own table": lambda file, secret: old_categorical(file, file["obs"].ref),
    "reference to nothing": lambda file, secret: old_categorical(file, h5py.h5r.Reference()),
    "reference to a matrix": lambda file, secret: old_categorical(file, file["X"].ref),
    "reference to a region": lambda file, secret: old_categorical(file, file["obs/length"].regionref[:2]),
    "link through another file": lambda file, secret: (
        file["uns"].__setitem__("elsewhere", h5py.ExternalLink(str(secret_hdf5(secret)), "/")),
        file["uns"].__setitem__("linked", h5py.SoftLink("/uns/elsewhere/text")),
    ),
    "column order of numbers": lambda file, secret: columns(file, [1, 2], "i8"),
    "column order of references": lambda file, secret: columns(file, [file["X"].ref], h5py.ref_dtype),
    "column order is a text": lambda file, secret: columns(file, "length"),
    "column order repeats": lambda file, secret: columns(file, ["length", "length"]),
    "column order of what is absent": lambda file, secret: columns(file, ["length", "absent"]),
    "column order leads out": lambda file, secret: columns(file, ["../X", "/X", "."]),
    "column order of the index": lambda file, secret: columns(file, ["id", "id"]),
    "column order without end": lambda file, secret: (
        file["obs"].attrs.__delitem__("column-order"),
        file["obs"].create_dataset("many", data=np.zeros(1)),
    ),
    "index is a number": lambda file, secret: file["obs"].attrs.__setitem__("_index", 7),
    "index is absent": lambda file, secret: file["obs"].attrs.__setitem__("_index", "absent"),
    "index is the matrix": lambda file, secret: file["obs"].attrs.__setitem__("_index", "/X"),
    "index is a reference": lambda file, secret: file["obs"].attrs.__setitem__("_index", file["X"].ref),
    "kind is a number": lambda file, secret: file["obs"].attrs.__setitem__("encoding-type", 3),
    "kind is a list": lambda file, secret: file["obs"].attrs.__setitem__("encoding-type", ["dataframe", "x"]),
    "kind of bytes": lambda file, secret: file["obs"].attrs.__setitem__("encoding-type", np.void(b"abc")),
    "codes out of range": lambda file, secret: categorical(file, codes=np.full(ROWS, 2, "i1")),
    "negative codes": lambda file, secret: categorical(file, codes=np.full(ROWS, -2, "i1")),
    "codes that are no whole numbers": lambda file, secret: categorical(file, codes=np.full(ROWS, 0.5)),
    "codes in two axes": lambda file, secret: categorical(file, codes=np.zeros((ROWS, 2), "i1")),
    "no codes": lambda file, secret: categorical(file, codes=None),
    "categories repeat": lambda file, secret: categorical(file, categories=np.array([b"a", b"a"])),
    "categories are complex": lambda file, secret: categorical(file, categories=np.zeros(2, "c8")),
    "no categories": lambda file, secret: categorical(file, categories=None),
    "mask too short": lambda file, secret: kind_of_column(
        file, "nullable-integer", values=np.arange(ROWS), mask=np.zeros(3, "?")
    ),
    "mask of numbers": lambda file, secret: kind_of_column(
        file, "nullable-boolean", values=np.zeros(ROWS, "?"), mask=np.zeros(ROWS)
    ),
    "nullable integers that are none": lambda file, secret: kind_of_column(
        file, "nullable-integer", values=np.zeros(ROWS), mask=np.zeros(ROWS, "?")
    ),
    "column of an unknown kind": lambda file, secret: kind_of_column(file, "awkward-array", values=np.zeros(3)),
    "note of deep lists": lambda file, secret: note(file, '{"a":' + "[" * 50_000 + "]" * 50_000 + "}"),
    "note is a list": lambda file, secret: note(file, "[1, 2]"),
    "note with NaN": lambda file, secret: note(file, '{"counts": {"sequences": NaN}}'),
    "note with counts of text": lambda file, secret: note(file, '{"counts": {"sequences": "many"}}'),
    "note with a model of text": lambda file, secret: note(file, '{"model": "x", "counts": []}'),
    "note with a long number": lambda file, secret: note(file, '{"counts": {"sequences": ' + "9" * 5_000 + "}}"),
    "text without end": lambda file, secret: shared_text(file, 1_000_000, 60_000),
    "no record and dimensions without end": lambda file, secret: nothing_of_width(file, 2**62),
    "deep groups": lambda file, secret: nested(file, 200),
    "names that end the line": lambda file, secret: file["obs"].move("length", "a\nb\x1b[2J"),
    "a name of 60,000 letters": lambda file, secret: file["uns"].create_group("x" * 60_000),
}
for what, change in CHANGES.items():
    in_hdf5("embeddings", what, change)


def nothing_of_width(file: h5py.File, width: int) -> None:
    """Make a matrix without a record that claims dimensions without end."""
    for name in ("id", "length"):
        put(file, f"obs/{name}", lambda group, name: group.create_dataset(name, (0,), h5py.string_dtype()))
    put(file, "X", lambda group, name: group.create_dataset(name, (0, width), "f4"))


def sparse(file: h5py.File, by_row: bool = True, **changes: Any) -> None:
    lines, width = (ROWS, DIMENSIONS) if by_row else (DIMENSIONS, ROWS)
    parts: dict[str, Any] = {
        "data": np.ones(lines * width, dtype="f4"),
        "indices": np.tile(np.arange(width), lines),
        "indptr": np.arange(lines + 1) * width,
    }
    shape = changes.pop("shape", [ROWS, DIMENSIONS])
    for name, change in changes.items():
        parts[name] = change(parts[name]) if callable(change) else change
    del file["X"]
    group = file.create_group("X")
    group.attrs["encoding-type"] = "csr_matrix" if by_row else "csc_matrix"
    group.attrs["encoding-version"] = "0.1.0"
    group.attrs["shape"] = shape
    for name, values in parts.items():
        if values is not None:
            group[name] = values


def at(place: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[place] = value
        return values

    return change


SPARSE: dict[str, dict[str, Any]] = {
    "index too large": {"indices": at(5, 2**31 - 5)},
    "index negative": {"indices": at(5, -(2**30))},
    "index just too large": {"indices": at(5, max(ROWS, DIMENSIONS))},
    "indices of fractions": {"indices": lambda values: values + 0.5},
    "indices of bits": {"indices": lambda values: values.astype("?")},
    "indices too few": {"indices": lambda values: values[:-1]},
    "indices in two axes": {"indices": lambda values: values.reshape(-1, 2)},
    "indices of 64 bits": {"indices": lambda values: values.astype("u8") + np.uint64(2**63)},
    "ends too large": {"indptr": at(3, 2**31 - 9)},
    "ends decrease": {"indptr": at(3, 0)},
    "ends negative": {"indptr": at(1, -8)},
    "ends that begin late": {"indptr": at(0, 2)},
    "last end too large": {"indptr": at(-1, 10**6)},
    "ends too few": {"indptr": lambda values: values[:-1]},
    "ends too many": {"indptr": lambda values: np.append(values, values[-1])},
    "data of text": {"data": lambda values: values.astype("S3")},
    "data complex": {"data": lambda values: values.astype("c8")},
    "data too few": {"data": lambda values: values[:3]},
    "no data": {"data": None},
    "shape negative": {"shape": [-ROWS, DIMENSIONS]},
    "shape without end": {"shape": [ROWS, 2**62]},
    "shape of nothing and no end": {"shape": [0, 2**62]},
    "shape of one": {"shape": [ROWS]},
    "shape of text": {"shape": ["12", "4"]},
    "shape of fractions": {"shape": [12.0, 4.5]},
}
for what, changes in SPARSE.items():
    for by_row in (True, False):
        in_hdf5(
            "embeddings",
            f"{'csr' if by_row else 'csc'}: {what}",
            lambda file, secret, by_row=by_row, changes=changes: sparse(file, by_row, **changes),  # type: ignore[misc]
        )

CELL_CHANGES: dict[str, Callable[[h5py.File, Path], object]] = {
    "index too large": lambda file, secret: file["X/indices"].__setitem__(3, 2**31 - 1),
    "index negative": lambda file, secret: file["X/indices"].__setitem__(3, -7),
    "ends decrease": lambda file, secret: file["X/indptr"].__setitem__(5, 0),
    "ends negative": lambda file, secret: file["X/indptr"].__setitem__(0, -3),
    "matrix by gene, ends decrease": lambda file, secret: (
        file["X"].attrs.__setitem__("encoding-type", "csc_matrix"),
        put(file, "X/indptr", of_type("i4", np.append(np.arange(128)[::-1], 128).astype("i4"))),
    ),
    "a thousand million cells": lambda file, secret: (
        put(
            file,
            f"obs/{file['obs'].attrs['_index']}",
            lambda group, name: group.create_dataset(name, (10**9,), h5py.string_dtype(), chunks=(1024,)),
        ),
        put(file, "X", lambda group, name: group.create_dataset(name, (10**9, 128), "f4", chunks=(1024, 128))),
    ),
    "a million genes of a million cells": lambda file, secret: put(
        file, "X", lambda group, name: group.create_dataset(name, (10**6, 10**6), "f4", chunks=(1024, 128))
    ),
    "a giant chunk": lambda file, secret: put(
        file,
        "X",
        lambda group, name: group.create_dataset(
            name, (60, 128), "f4", maxshape=(None, 128), chunks=(8_000_000, 128), compression="gzip"
        ),
    ),
    "obsm is a dataset": lambda file, secret: put(file, "obsm", of_type("f4")) if "obsm" in file else None,
    "uns is a link to obs": lambda file, secret: put(
        file, "uns", lambda group, name: group.__setitem__(name, h5py.SoftLink("/obs"))
    ),
    "columns that repeat": lambda file, secret: columns(file, ["kind", "kind"]),
    "columns of numbers": lambda file, secret: columns(file, [4, 5], "i8"),
    "columns of references": lambda file, secret: columns(file, [file["X"].ref], h5py.ref_dtype),
}
for what, change in CELL_CHANGES.items():
    in_hdf5("cells", what, change)

# npz


def zipped(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **({"ids": np.arange(ROWS), "embeddings": vectors()} | arrays))
    return content.getvalue()


def with_header(header: bytes, version: bytes = b"\1\0", length: int | None = None) -> Write:
    """Make an npz whose embeddings have a header of their own."""

    def write(path: Path, secret: Path) -> None:
        size = struct.pack("<H", len(header) if length is None else length)
        with zipfile.ZipFile(path, "w") as archive:
            entries = zipfile.ZipFile(io.BytesIO(zipped()))
            archive.writestr("ids.npy", entries.read("ids.npy"))
            archive.writestr("embeddings.npy", b"\x93NUMPY" + version + size + header + vectors().tobytes())

    return write


def header(descr: str = "'<f4'", order: str = "False", shape: str = f"({ROWS}, {DIMENSIONS})", more: str = "") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}\n".encode()


def patched(content: Callable[[], bytes], old: bytes, new: bytes) -> Write:
    def write(path: Path, secret: Path) -> None:
        assert old in content()
        path.write_bytes(content().replace(old, new))

    return write


def entry(method: int, flags: int = 0) -> Write:
    """Make an npz that says of its arrays that they are compressed or encrypted in some way."""

    def write(path: Path, secret: Path) -> None:
        content = bytearray(zipped())
        for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            place = content.find(magic)
            while place >= 0:
                content[place + offset : place + offset + 4] = struct.pack("<HH", flags, method)
                place = content.find(magic, place + 4)
        path.write_bytes(content)

    return write


def claimed(size: int) -> Write:
    def write(path: Path, secret: Path) -> None:
        content = bytearray(zipped())
        place = content.find(b"PK\1\2")
        while place >= 0:
            content[place + 24 : place + 28] = struct.pack("<I", size)
            place = content.find(b"PK\1\2", place + 4)
        path.write_bytes(content)

    return write


def nothing_and_no_end(path: Path, secret: Path) -> None:
    """Make an npz without a record that claims dimensions without end."""
    with_header(header(shape=f"(0, {2**62})"))(path, secret)
    with zipfile.ZipFile(path) as archive:
        embeddings = archive.read("embeddings.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("embeddings.npy", embeddings)
        with archive.open("ids.npy", "w") as entry:
            np.save(entry, np.zeros(0, "U1"))


def raw_npz(**arrays: Any) -> Write:
    return lambda path, secret: path.write_bytes(zipped(**arrays))


def repeated_array(path: Path, secret: Path) -> None:
    path.write_bytes(zipped())
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("embeddings.npy", zipfile.ZipFile(io.BytesIO(zipped())).read("embeddings.npy"))


def zeros(path: Path, secret: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ids.npy", b"\0" * (100 << 20))
        archive.writestr("embeddings.npy", b"\0" * 100)


NPZ: dict[str, Write] = {
    "complex": raw_npz(embeddings=vectors().astype("c16")),
    "dates": raw_npz(embeddings=vectors().astype("M8[s]")),
    "durations": raw_npz(embeddings=vectors().astype("m8[s]")),
    "structures": raw_npz(embeddings=np.zeros((ROWS, DIMENSIONS), [("a", "f4")])),
    "truth": raw_npz(embeddings=vectors() > 0),
    "text": raw_npz(embeddings=vectors().astype("U5")),
    "objects": raw_npz(embeddings=vectors().astype(object)),
    "long double": raw_npz(embeddings=vectors().astype("g")),
    "ids of dates": raw_npz(ids=np.arange(ROWS).astype("M8[s]")),
    "ids of complex numbers": raw_npz(ids=np.arange(ROWS).astype("c8")),
    "ids of objects": raw_npz(ids=np.arange(ROWS).astype(object)),
    "ids of bytes that are no text": raw_npz(ids=np.full(ROWS, b"\xff\xfe")),
    "ids of letters that there are not": raw_npz(ids=np.full(ROWS, 2**31 - 1, "<u4").view("<U1")),
    "ids in two axes": raw_npz(ids=np.zeros((ROWS, 1))),
    "one axis": raw_npz(embeddings=np.zeros(ROWS)),
    "no axis": raw_npz(embeddings=np.float32(1)),
    "no records": raw_npz(ids=np.zeros(0, "U1"), embeddings=np.zeros((0, 3))),
    "encrypted": entry(0, 1),
    "method 99": entry(99),
    "said to be bzip2": entry(12),
    "said to be LZMA": entry(14),
    "said to be deflated": entry(8),
    "claims a gigabyte": claimed(1 << 30),
    "claims four gigabytes": claimed((1 << 32) - 2),
    "zeros without end": zeros,
    "two arrays of one name": repeated_array,
    "another checksum": patched(zipped, vectors().tobytes()[:8], b"\0" * 8),
    "negative shape": with_header(header(shape="(12, -4)")),
    "shape without end": with_header(header(shape=f"(12, {2**62})")),
    "shape of zero and endless": with_header(header(shape=f"(0, {2**70})")),
    "no record and dimensions without end": nothing_and_no_end,
    "shape of fractions": with_header(header(shape="(12.0, 4.0)")),
    "shape of text": with_header(header(shape="'12'")),
    "code in the header": with_header(header(shape="__import__('os').system('true')")),
    "deep header": with_header(header(shape="(" * 3_000 + ")" * 3_000)),
    "long header": with_header(header(more=f"'x': '{'y' * 30_000}'")),
    "header of blanks": with_header(b" " * 500),
    "header that ends beyond the file": with_header(header(), length=60_000),
    "unknown type": with_header(header(descr="'<f7'")),
    "type of objects": with_header(header(descr="'|O'")),
    "type without size": with_header(header(descr="'|V0'")),
    "type of a gigabyte": with_header(header(descr="'|S1073741824'")),
    "order of text": with_header(header(order="'x'")),
    "version 3": with_header(header(), b"\3\0"),
    "version 9": with_header(header(), b"\x09\0"),
    "not an array": lambda path, secret: path.write_bytes(zipped().replace(b"\x93NUMPY", b"\x93NUMPI")),
    "cut short": lambda path, secret: path.write_bytes(zipped()[:-60]),
    "begins alone": lambda path, secret: path.write_bytes(b"PK\3\4" + b"\0" * 200),
    "no arrays": lambda path, secret: path.write_bytes(b"PK\3\4" + b"\0" * 26 + b"PK\5\6" + b"\0" * 18),
}
for what, write in NPZ.items():
    hostile("npz", what)(write)

# Parquet


def frame(**columns: Any) -> pa.Table:
    numbers = {f"dimension_{number}": column for number, column in enumerate(vectors().T)}
    return pa.table({"id": [f"r{row}" for row in range(ROWS)]} | numbers | columns)


def parquet(table: Callable[[], pa.Table], **options: Any) -> Write:
    return lambda path, secret: pq.write_table(table(), path, **options)


def with_metadata(**metadata: Any) -> Write:
    return parquet(lambda: frame().replace_schema_metadata(metadata))


def invalid_text() -> pa.Array:
    offsets = pa.py_buffer(np.arange(0, 2 * ROWS + 1, 2, dtype=np.int32).tobytes())
    return pa.StringArray.from_buffers(ROWS, offsets, pa.py_buffer(b"\xff\xfe" * ROWS))


def runs(path: Path, secret: Path) -> None:
    """Write twenty million equal rows, which a few kilobytes hold."""
    table = pa.table({"id": ["a"] * 1_000_000} | {f"dimension_{n}": np.ones(1_000_000, "f4") for n in range(2)})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(table)


def long_texts(path: Path, secret: Path) -> None:
    """Write a text of 200 kB that 20,000 rows share."""
    column = pa.DictionaryArray.from_arrays(np.zeros(20_000, "i4"), ["x" * 200_000])
    pq.write_table(pa.table({"id": column, "dimension_0": np.ones(20_000, "f4")}), path, store_schema=False)


def footer(change: Callable[[bytes], bytes]) -> Write:
    return lambda path, secret: path.write_bytes(change(honest("parquet")))


PANDAS: dict[str, Any] = {
    "pandas is a list": "[1]",
    "pandas without columns": "{}",
    "pandas with other columns": json.dumps({"index_columns": ["absent"], "columns": [{"name": "absent"}]}),
    "pandas with an index of numbers": json.dumps({"index_columns": [1, None], "columns": [], "column_indexes": [3]}),
    "pandas with a range without end": json.dumps(
        {"index_columns": [{"kind": "range", "name": None, "start": 0, "stop": 10**12, "step": 1}], "columns": []}
    ),
    "pandas with a type of code": json.dumps(
        {
            "index_columns": [],
            "columns": [{"name": "length", "field_name": "length", "pandas_type": "object", "numpy_type": "os.system"}],
        }
    ),
    "pandas is no text": b"\xff\xfe",
}
LISTS: dict[str, Callable[[], pa.Array]] = {
    "lists of text": lambda: pa.array([["a", "b"]] * ROWS),
    "lists of lists": lambda: pa.array([[[1.0], [2.0]]] * ROWS),
    "lists of nothing": lambda: pa.array([[None, None]] * ROWS, pa.list_(pa.float32())),
    "lists that are missing": lambda: pa.array([None] * ROWS, pa.list_(pa.float32())),
    "uneven lists": lambda: pa.array([[1.0] * (row % 3) for row in range(ROWS)]),
    "empty lists": lambda: pa.array([[]] * ROWS, pa.list_(pa.float32())),
    "structures": lambda: pa.array([{"a": 1.0}] * ROWS),
    "lists of dates": lambda: pa.array([[1, 2]] * ROWS, pa.list_(pa.timestamp("s"))),
    "maps": lambda: pa.array([[("a", 1.0)]] * ROWS, pa.map_(pa.string(), pa.float64())),
}
DIMENSION: dict[str, Callable[[], pa.Array]] = {
    "decimals": lambda: pa.array(range(ROWS), pa.decimal128(20, 3)),
    "times": lambda: pa.array(range(ROWS), pa.timestamp("ns")),
    "durations": lambda: pa.array(range(ROWS), pa.duration("s")),
    "truth": lambda: pa.array([True] * ROWS),
    "text": lambda: pa.array(["1"] * ROWS),
    "nothing": lambda: pa.nulls(ROWS),
    "bytes": lambda: pa.array([b"\xff"] * ROWS),
    "lists": lambda: pa.array([[1.0]] * ROWS),
    "categories": lambda: pa.array(["a"] * ROWS).dictionary_encode(),
}
OTHER: dict[str, Callable[[], pa.Array]] = {
    "text that is none": invalid_text,
    "times of nanoseconds": lambda: pa.array([2**62] * ROWS, pa.timestamp("ns", "Nowhere/At_All")),
    "large decimals": lambda: pa.array([10**70] * ROWS, pa.decimal256(76, 3)),
    "dates far away": lambda: pa.array([2**31 - 1] * ROWS, pa.date32()),
    "half numbers": lambda: pa.array(np.ones(ROWS, np.float16)),
}
PARQUET: dict[str, Write] = {
    **{what: with_metadata(pandas=text) for what, text in PANDAS.items()},
    **{
        f"embedding of {what}": parquet(lambda make=make: pa.table({"id": ["a"] * ROWS, "embedding": make()}))  # type: ignore[misc]
        for what, make in LISTS.items()
    },
    **{
        f"a dimension of {what}": parquet(lambda make=make: frame(dimension_1=make()))  # type: ignore[misc]
        for what, make in DIMENSION.items()
    },
    **{f"a column of {what}": parquet(lambda make=make: frame(more=make())) for what, make in OTHER.items()},  # type: ignore[misc]
    "two columns of one name": parquet(
        lambda: pa.Table.from_arrays([pa.array(["a"] * ROWS)] * 2 + [pa.array(range(ROWS))], names=["id", "id", "n"])
    ),
    "two dimensions of one name": parquet(
        lambda: pa.Table.from_arrays(
            [pa.array(["a"] * ROWS), *[pa.array(range(ROWS))] * 2], names=["id", "dimension_0", "dimension_0"]
        )
    ),
    "ids of structures": parquet(lambda: frame(id=pa.array([{"a": 1}] * ROWS))),
    "ids of lists": parquet(lambda: frame(id=pa.array([[1]] * ROWS))),
    "names that end the line": parquet(lambda: frame(**{"a\n\x1b[2J\tb": range(ROWS)})),
    "no columns": parquet(lambda: pa.table({})),
    "no rows": parquet(lambda: frame().slice(0, 0)),
    "runs without end": runs,
    "texts without end": long_texts,
    "schema of Arrow that is none": with_metadata(**{"ARROW:schema": "AAAA////"}),
    "note of deep lists": with_metadata(dnalm='{"a":' + "[" * 50_000 + "]" * 50_000 + "}"),
    "note that is no text": with_metadata(dnalm=b"\xff\xfe"),
    "note is a list": with_metadata(dnalm="[]"),
    "footer too long": footer(lambda whole: whole[:-8] + struct.pack("<I", 2**31) + b"PAR1"),
    "footer without length": footer(lambda whole: whole[:-8] + struct.pack("<I", 0) + b"PAR1"),
    "footer of ones": footer(lambda whole: whole[:-200] + b"\xff" * 192 + whole[-8:]),
    "footer of zeros": footer(lambda whole: whole[:-200] + bytes(192) + whole[-8:]),
    "pages of ones": footer(lambda whole: whole[:8] + b"\xff" * 300 + whole[308:]),
    "encrypted": footer(lambda whole: whole[:-4] + b"PARE"),
    "begins and ends alone": footer(lambda whole: b"PAR1PAR1"),
}
for what, write in PARQUET.items():
    hostile("parquet", what)(write)

# bigWig

HEADER: dict[str, tuple[int, str]] = {  # of the format: where, and what
    "version": (4, "H"),
    "zoom levels": (6, "H"),
    "list of contigs": (8, "Q"),
    "data": (16, "Q"),
    "index": (24, "Q"),
    "fields": (32, "H"),
    "SQL": (36, "Q"),
    "summary": (44, "Q"),
    "unpacked size": (52, "I"),
}


def bigwig(change: Callable[[bytearray], object]) -> Write:
    def write(path: Path, secret: Path) -> None:
        content = bytearray(honest("bigwig"))
        change(content)
        path.write_bytes(content)

    return write


def set_at(content: bytearray, place: int, form: str, value: int) -> Any:
    struct.pack_into(f"<{form}", content, place, value)


def pointer(content: bytearray, name: str) -> int:
    return struct.unpack_from("<Q", content, HEADER[name][0])[0]


for name, (offset, form) in HEADER.items():
    for value in (0, 1, 2 ** (8 * struct.calcsize(form)) - 1, 2 ** (8 * struct.calcsize(form) - 1)):
        hostile("bigwig", f"{name} {value}")(
            bigwig(lambda content, place=offset, form=form, value=value: set_at(content, place, form, value))  # type: ignore[misc]
        )
    if form == "Q":
        hostile("bigwig", f"{name} points to the header")(
            bigwig(lambda content, place=offset: set_at(content, place, "Q", 64))  # type: ignore[misc]
        )

BIGWIG: dict[str, Callable[[bytearray], object]] = {
    "key size without end": lambda content: set_at(content, pointer(content, "list of contigs") + 8, "I", 2**32 - 1),
    "no key": lambda content: set_at(content, pointer(content, "list of contigs") + 8, "I", 0),
    "contigs without end": lambda content: set_at(content, pointer(content, "list of contigs") + 16, "Q", 2**40),
    "children without end": lambda content: set_at(content, pointer(content, "list of contigs") + 34, "H", 2**16 - 1),
    "list that is its own child": lambda content: (
        set_at(content, pointer(content, "list of contigs") + 32, "B", 0),
        content.__setitem__(
            slice(pointer(content, "list of contigs") + 36, pointer(content, "list of contigs") + 90),
            struct.pack("<Q", pointer(content, "list of contigs") + 32) * 6 + bytes(6),
        ),
    ),
    "names that are no text": lambda content: content.__setitem__(
        slice(pointer(content, "list of contigs") + 36, pointer(content, "list of contigs") + 40), b"\xff\xfe\n\x1b"
    ),
    "contigs as long as can be": lambda content: content.__setitem__(
        slice(0, len(content)),
        content.replace(struct.pack("<I", 16_569), b"\xff" * 4).replace(struct.pack("<I", 5_000), b"\xff" * 4),
    ),
    "index of another kind": lambda content: set_at(content, pointer(content, "index"), "I", 0),
    "index items without end": lambda content: set_at(content, pointer(content, "index") + 8, "Q", 2**60),
    "index block without end": lambda content: set_at(content, pointer(content, "index") + 4, "I", 2**32 - 1),
    "index children without end": lambda content: set_at(content, pointer(content, "index") + 50, "H", 2**16 - 1),
    "index that is its own child": lambda content: (
        set_at(content, pointer(content, "index") + 48, "B", 0),
        set_at(content, pointer(content, "index") + 52 + 16, "Q", pointer(content, "index") + 48),
    ),
    "data of ones": lambda content: content.__setitem__(
        slice(pointer(content, "data") + 8, pointer(content, "data") + 400), b"\xff" * 392
    ),
    "data of zeros": lambda content: content.__setitem__(
        slice(pointer(content, "data") + 8, pointer(content, "data") + 400), bytes(392)
    ),
    "first bytes alone": lambda content: content.__delitem__(slice(4, None)),
    "header alone": lambda content: content.__delitem__(slice(64, None)),
    "without its end": lambda content: content.__delitem__(slice(len(content) // 2, None)),
    "other order of bytes": lambda content: content.__setitem__(slice(0, 4), content[3::-1]),
}
for what, spoil in BIGWIG.items():
    hostile("bigwig", what)(bigwig(spoil))


def mutated(kind: str, seed: int) -> bytes:
    """Return an honest file with some bytes changed: single bits, runs of one byte, numbers at the edge, or cut out."""
    random = np.random.default_rng([seed, len(kind)])
    content = bytearray(honest(kind))
    for _ in range(int(random.integers(1, 9))):
        size = int(random.choice([1, 1, 2, 4, 8, 30]))
        # Structures stand in the first and last kilobytes; most of the rest is numbers.
        span = len(content) if random.random() < 0.5 else min(len(content), 3_000)
        place = int(random.integers(span)) if random.random() < 0.7 else len(content) - 1 - int(random.integers(span))
        how = random.integers(4)
        if how == 0:
            content[place] ^= 1 << int(random.integers(8))
        elif how == 1:
            content[place : place + size] = bytes([int(random.choice([0, 1, 127, 128, 255]))]) * size
        elif how == 2:
            content[place : place + size] = random.bytes(size)
        elif random.random() < 0.3:
            del content[place : place + size]
        else:
            other = int(random.integers(len(content)))
            content[place : place + size] = content[other : other + size]
    magics = {"npz": b"PK\3\4", "parquet": b"PAR1", "bigwig": b"\x26\xfc\x8f\x88"}
    magic = magics.get(kind, b"\x89HDF\r\n\x1a\n")
    content[: len(magic)] = magic  # else it is read as a table
    return bytes(content)
