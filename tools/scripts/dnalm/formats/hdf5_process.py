"""Child process that reads users' HDF5 files: the one place that opens them (see `isolated_hdf5` for the parent's side).

Before anything is read, every object that a link reaches is looked at. What would have another file read, or nothing
end, is refused: external links, external storage, virtual datasets, unknown links, links that lead nowhere. An object
is read under the path by which that walk came to it, never by a reference.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dnalm.errors import shown
from dnalm.formats.hdf5 import FileForHDF5
from dnalm.formats.isolated_reader import Answer, Refused, serve, texts_as_arrays

MOST_OBJECTS = 100_000
MOST_DEPTH = 64  # groups
LARGEST_ATTRIBUTE = 16 << 20  # bytes
FREE_SIZE = 64 << 20  # bytes that a dataset may claim whatever it stores
MOST_COMPRESSION = 2_000  # times; gzip, twice as good as any other filter of HDF5 itself, reaches 1,032
NOT_READ = "which is never read. Write the file anew with all that it needs"


class CheckedFile:
    """An HDF5 file whose links have all been followed.

    Attributes:
        file: the file.
        objects: of each object, in the order of the walk, a mapping of names to numbers of objects (a group) or None.
        paths: of each object, a path of hard links.
        addresses: address of an object → its number.
    """

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.objects: list[dict[str, int] | None] = []
        self.paths: list[str] = []
        self.addresses: dict[int, int] = {}
        self._soft: list[tuple[dict[str, int], str, str]] = []  # members of a group, name, path
        self._add(file, "/")
        number = 0
        while number < len(self.objects):
            members = self.objects[number]
            if members is not None:
                self._look_through(members, self.paths[number])
            number += 1
        for members, name, path in self._soft:
            members[name] = self._behind(path)

    def _add(self, item: Any, path: str) -> int:
        address = h5py.h5o.get_info(item.id).addr
        if address in self.addresses:
            return self.addresses[address]
        if len(self.objects) >= MOST_OBJECTS or path.count("/") > MOST_DEPTH:
            raise Refused(
                f"has more than {MOST_OBJECTS:,} objects or {MOST_DEPTH} levels. Write the file anew without."
            )
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            raise Refused(f"has '{shown(path[1:])}' in another file, {NOT_READ}.")
        self.addresses[address] = len(self.objects)
        self.objects.append({} if isinstance(item, h5py.Group) else None)
        self.paths.append(path)
        return len(self.objects) - 1

    def _look_through(self, members: dict[str, int], path: str) -> None:
        group = self.file[path]
        for name in group:
            below = f"{path.rstrip('/')}/{name}"
            kind = group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type
            if kind == h5py.h5l.TYPE_SOFT:
                self._soft.append((members, name, below))
            elif kind == h5py.h5l.TYPE_HARD:
                members[name] = self._add(self.file[below], below)
            else:  # external, or of a program's own kind
                raise Refused(f"has '{shown(below[1:])}' in another file, {NOT_READ}.")

    def _behind(self, path: str) -> int:
        """Return the object behind a soft link; all links in the file that are not soft have been followed."""
        try:
            return self.addresses[h5py.h5o.get_info(self.file[path].id).addr]
        except (KeyError, OSError, RuntimeError) as error:
            raise Refused(
                f"has the link '{shown(path[1:])}' that leads nowhere. Write the file anew without it."
            ) from error

    def item(self, number: int) -> Any:
        """Return an object by its number."""
        return self.file[self.paths[number]]


def open_checked(path: Path | FileForHDF5, mode: str = "r") -> CheckedFile:
    """Open an HDF5 file and follow its links; without HDF5's locks, since another program may have it open."""
    locking = {} if isinstance(path, FileForHDF5) else {"locking": False}
    return CheckedFile(h5py.File(path, mode, **locking))


_files: dict[int, CheckedFile] = {}


def open_file(path: str) -> Answer:
    """Return a number for the file, and its objects."""
    checked = open_checked(Path(path))
    number = max(_files, default=0) + 1
    _files[number] = checked
    return Answer([number, checked.objects])


def close_file(file: int) -> Answer:
    """Close a file."""
    _files.pop(file).file.close()
    return Answer()


def attribute(file: int, number: int, name: str) -> Answer:
    """Return an attribute: a text, number or list of such; the number of an object, as a mapping; None if absent."""
    checked = _files[file]
    item = checked.item(number)
    if name not in item.attrs:
        return Answer()
    stored = h5py.h5a.open(item.id, name.encode())
    size = math.prod(stored.shape or ()) * stored.get_type().get_size()
    if size > LARGEST_ATTRIBUTE:
        raise Refused(f"has the attribute '{shown(name)}' of {size:,} bytes. Write the file anew without it.")
    value = item.attrs[name]
    if isinstance(value, h5py.RegionReference):
        raise TypeError("a reference to a region")
    if isinstance(value, h5py.Reference):
        target = checked.addresses.get(h5py.h5o.get_info(checked.file[value].id).addr)
        if target is None:
            raise Refused(
                f"has a reference '{shown(name)}' to what no name leads to. Write the file anew with a present anndata."
            )
        return Answer({"object": target})
    return Answer(_plain(value))


def _plain(value: Any) -> Any:
    """Return what JSON holds of an attribute's value."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "biufOSU":
            raise TypeError(f"an attribute of {value.dtype}")
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, h5py.Empty):  # no list at all
        return []
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"an attribute of {type(value)}")


def describe(file: int, number: int) -> Answer:
    """Return of a dataset shape, content (`number`, `text` or `other`), dtype, bytes of a value, rows of a chunk."""
    checked = _files[file]
    dataset, name = checked.item(number), shown(checked.paths[number][1:])
    if not isinstance(dataset, h5py.Dataset):
        raise TypeError("neither a group nor a dataset")
    try:
        dtype = dataset.dtype
    except (TypeError, ValueError) as error:  # of a kind that NumPy has not
        return Answer([[], "other", shown(error), 0, 0])
    if dataset.shape is None:  # it has no space at all
        return Answer([[], "other", "nothing", 0, 0])
    of_value = dataset.id.get_type().get_size()
    size, stored = math.prod(dataset.shape) * of_value, dataset.id.get_storage_size()
    if size > FREE_SIZE and size > MOST_COMPRESSION * stored:
        raise Refused(f"claims {size:,} bytes for '{name}' but stores {stored:,}. Make or upload it again.")
    if h5py.check_string_dtype(dtype):
        kind = "text"
    elif dtype.kind in "biuf" and dtype.itemsize <= 8 and not h5py.check_ref_dtype(dtype):
        kind = "number"
    else:
        kind = "other"
    rows = dataset.chunks[0] if dataset.chunks else 0
    name_of_type = np.dtype(dtype).str if kind == "number" else str(dtype)
    return Answer([list(map(int, dataset.shape)), kind, name_of_type, int(of_value), int(rows)])


def read(file: int, number: int, start: int | None, stop: int | None, dtype: str | None) -> Answer:
    """Return rows of a dataset, or all of one without rows; numbers as a dtype, or as they are."""
    dataset = _files[file].item(number)
    rows: Any = () if start is None else slice(start, stop)
    if h5py.check_string_dtype(dataset.dtype):
        texts = dataset.asstr("utf-8")[rows]
        return Answer(None, texts_as_arrays([texts] if isinstance(texts, str) else texts.ravel().tolist()))
    with np.errstate(all="ignore"):  # what is too large becomes infinite
        values: NDArray[Any] = np.asarray(dataset[rows])
        return Answer(None, [values.astype(dtype or values.dtype.newbyteorder("<"), copy=False)])


OPERATIONS: Mapping[str, Any] = {
    "open": open_file,
    "close": close_file,
    "attribute": attribute,
    "describe": describe,
    "read": read,
}

if __name__ == "__main__":
    serve(OPERATIONS)
