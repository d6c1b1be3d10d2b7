"""bigWig: one number a base, compressed, indexed, with zoom levels; written as it comes.

The format is that of Kent et al. 2010, doi:10.1093/bioinformatics/btq351, and its supplement. Why it is written here and
not by pyBigWig: its library holds a whole contig, 14 bytes a base, when it makes the zoom levels
(https://github.com/dpryan79/libBigWig/issues/44), gigabytes for a chromosome; all that can be chosen there is to leave out
the zoom levels, which genome browsers need. Here one section of the file is held at a time. Tests read values and zoom
levels again with pyBigWig.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

MAGIC, TREE_MAGIC, INDEX_MAGIC = 0x888FFC26, 0x78CA8C91, 0x2468ACE0
VERSION = 4
FIXED_STEP = 3  # type of a section
HEADER = struct.Struct("<IHHQQQHHQQIQ")
ZOOM_HEADER = struct.Struct("<IIQQ")
SUMMARY = struct.Struct("<Qdddd")
TREE_HEADER = struct.Struct("<IIIIQQ")
INDEX_HEADER = struct.Struct("<IIQIIIIQII")
NODE_HEADER = struct.Struct("<BBH")
SECTION_HEADER = struct.Struct("<IIIIIBBH")
BOUNDS = [(name, "<u4") for name in ("contig", "start", "last_contig", "end")]
LEAF = np.dtype([*BOUNDS, ("offset", "<u8"), ("size", "<u8")])
LEAF_STRUCT = struct.Struct("<IIIIQQ")
BRANCH = np.dtype([*BOUNDS, ("offset", "<u8")])
ZOOM = np.dtype(
    [(x, "<u4") for x in ("contig", "start", "end", "count")]
    + [(x, "<f4") for x in ("min", "max", "sum", "sum_squares")]
)
NODE = 256  # children of a node of a tree
SECTION = 8_192  # values that are compressed together
ZOOMS_A_SECTION = 1_024
FIRST_ZOOM, ZOOM_FACTOR, MOST_ZOOMS = 64, 4, 10  # bases of a number, on the first level and from level to level
FEWEST_SUMMARIES = 16  # of the longest contig, on a level that is worth its place
COMPRESSION = 6  # of zlib


class Chromosomes:
    """The names and lengths that a file's header lists, the same for several files.

    Args:
        lengths: name → bases, in the order in which values will come.
    """

    def __init__(self, lengths: Mapping[str, int]) -> None:
        self.numbers = {name: number for number, name in enumerate(lengths)}
        self.longest = max(lengths.values())
        keys = [name.encode() for name in lengths]
        size = max(map(len, keys))
        key = np.dtype([("key", f"S{size}"), ("number", "<u4"), ("length", "<u4")])
        leaves = np.zeros(len(keys), dtype=key)
        leaves["key"], leaves["number"] = keys, np.arange(len(keys))
        leaves["length"] = np.fromiter(lengths.values(), dtype=np.uint32, count=len(keys))
        self._leaves = leaves[np.argsort(leaves["key"], kind="stable")]
        self._branch = np.dtype([("key", f"S{size}"), ("child", "<u8")])

    def tree(self, offset: int) -> bytes:
        """Return the tree from names to numbers and lengths, as it stands at an offset of a file."""
        size = self._branch["key"].itemsize
        header = TREE_HEADER.pack(TREE_MAGIC, min(NODE, len(self._leaves)), size, 8, len(self._leaves), 0)
        above = [np.zeros(count, dtype=self._branch) for count in _nodes_above(len(self._leaves))]
        for number, level in enumerate(above):
            below = above[number - 1] if number else self._leaves
            level["key"] = below["key"][::NODE]
        return header + _tree(self._leaves, above, "child", offset + len(header))


class BigWigWriter:
    """Append values; `finish` completes the file. Use it in a `with`."""

    def __init__(self, path: Path, chromosomes: Chromosomes) -> None:
        self._chromosomes = chromosomes
        zooms = [FIRST_ZOOM * ZOOM_FACTOR**level for level in range(MOST_ZOOMS)]
        self._zooms = [bases for bases in zooms if bases * FEWEST_SUMMARIES < chromosomes.longest]
        self._file = path.open("w+b")
        self._tree_at = HEADER.size + len(self._zooms) * ZOOM_HEADER.size + SUMMARY.size
        self._file.write(bytes(self._tree_at) + chromosomes.tree(self._tree_at))
        self._data_at = self._file.tell()
        self._file.write(struct.pack("<Q", 0))
        self._sections = _Sections(self._file)
        self._held = np.empty(SECTION, dtype="<f4")
        self._contig, self._start, self._count = 0, 0, 0
        self._covered, self._least, self._most, self._sum, self._sum_squares = 0, np.inf, -np.inf, 0.0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sections.close()
        try:
            self._file.close()
        except OSError:
            if error is None:
                raise

    def append(self, contig: str, start: int, values: NDArray[np.float32]) -> None:
        """Add the values of bases from `start` (0-based) on; contigs come in the header's order, bases in theirs."""
        number = self._chromosomes.numbers[contig]
        if (number, start) != (self._contig, self._start + self._count):
            self._write()
            self._contig, self._start = number, start
        while len(values):
            taken = values[: SECTION - self._count]
            self._held[self._count : self._count + len(taken)] = taken
            self._count += len(taken)
            values = values[len(taken) :]
            if self._count == SECTION:
                self._write()

    def finish(self) -> None:
        """Write the index, the zoom levels, each made of the one below, and the header."""
        self._write()
        data_index, leaves = self._sections.finish(1)
        zoom_headers = []
        below = _zooms_of_values(self._file, leaves, self._zooms[0]) if self._zooms else iter(())
        for bases in self._zooms:
            data_at = self._file.tell()
            self._file.write(struct.pack("<I", 0))
            sections, records = _Sections(self._file), 0
            for part in _coarser(below, bases):
                records += len(part)
                sections.add(part["contig"][[0, -1]].tolist(), part["start"][0], part["end"][-1], part.tobytes())
            index, leaves = sections.finish(ZOOMS_A_SECTION)
            sections.close()
            _rewrite(self._file, data_at, struct.pack("<I", records))
            zoom_headers.append(ZOOM_HEADER.pack(bases, 0, data_at, index))
            below = _stored_zooms(self._file, leaves)
        self._file.write(struct.pack("<I", MAGIC))
        summary_at = self._tree_at - SUMMARY.size
        header = HEADER.pack(
            *(MAGIC, VERSION, len(self._zooms), self._tree_at, self._data_at, data_index, 0, 0, 0, summary_at),
            *(max(SECTION_HEADER.size + 4 * SECTION, ZOOM.itemsize * ZOOMS_A_SECTION), 0),
        )
        least, most = (self._least, self._most) if self._covered else (0.0, 0.0)
        summary = SUMMARY.pack(self._covered, least, most, self._sum, self._sum_squares)
        _rewrite(self._file, 0, header + b"".join(zoom_headers) + summary)
        _rewrite(self._file, self._data_at, struct.pack("<Q", self._sections.count))

    def _write(self) -> None:
        """Write what is held as one section."""
        if not self._count:
            return
        values, end = self._held[: self._count], self._start + self._count
        header = SECTION_HEADER.pack(self._contig, self._start, end, 1, 1, FIXED_STEP, 0, self._count)
        self._sections.add((self._contig, self._contig), self._start, end, header + values.tobytes())
        exact = values.astype(np.float64)
        self._covered += self._count
        self._least, self._most = min(self._least, float(exact.min())), max(self._most, float(exact.max()))
        self._sum += float(exact.sum())
        self._sum_squares += float(exact @ exact)
        self._start, self._count = end, 0


class _Sections:
    """Compressed sections of a file, one after the other, and where each stands; that waits on disk for the index."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.count = file, 0
        self._leaves = TemporaryFile()  # noqa: SIM115 (closed with the sections)

    def add(self, contigs: Sequence[int], start: int, end: int, content: bytes) -> None:
        """Write a section that begins in the first and ends in the last of two contigs."""
        compressed = zlib.compress(content, COMPRESSION)
        self._leaves.write(LEAF_STRUCT.pack(contigs[0], start, contigs[1], end, self._file.tell(), len(compressed)))
        self._file.write(compressed)
        self.count += 1

    def finish(self, items: int) -> tuple[int, NDArray[np.void]]:
        """Write the index; return where it stands, and where the sections do."""
        self._leaves.seek(0)
        leaves = np.frombuffer(self._leaves.read(), dtype=LEAF)
        place = self._file.tell()
        bounds = [0, 0, 0, 0]
        if len(leaves):
            bounds = [leaves["contig"][0], leaves["start"][0], leaves["last_contig"][-1], leaves["end"][-1]]
        self._file.write(INDEX_HEADER.pack(INDEX_MAGIC, NODE, len(leaves), *bounds, place, items, 0))
        above = [np.zeros(count, dtype=BRANCH) for count in _nodes_above(len(leaves))]
        for number, level in enumerate(above):
            below = above[number - 1] if number else leaves
            level["contig"], level["start"] = below["contig"][::NODE], below["start"][::NODE]
            lasts = below[np.append(np.arange(NODE, len(below), NODE), len(below)) - 1]
            level["last_contig"], level["end"] = lasts["last_contig"], lasts["end"]
        self._file.write(_tree(leaves, above, "offset", place + INDEX_HEADER.size))
        return place, leaves

    def close(self) -> None:
        self._leaves.close()


def _nodes_above(items: int) -> list[int]:
    """Return how many entries the levels of a tree have above so many items, the lowest first."""
    counts = []
    while items > NODE:
        items = -(-items // NODE)
        counts.append(items)
    return counts


def _tree(items: NDArray[np.void], above: list[NDArray[np.void]], child: str, offset: int) -> bytes:
    """Return the nodes of a tree from the root to the leaves; entries above the leaves learn where their children stand."""
    levels = [items, *above][::-1]
    starts = [offset]
    for level in levels[:-1]:
        starts.append(starts[-1] + _level_size(level))
    for level, below, start in zip(levels[:-1], levels[1:], starts[1:], strict=True):
        whole = NODE_HEADER.size + NODE * below.dtype.itemsize
        level[child] = start + np.arange(len(level), dtype=np.uint64) * np.uint64(whole)
    return b"".join(_level(level, is_leaf=number == len(levels) - 1) for number, level in enumerate(levels))


def _level_size(level: NDArray[np.void]) -> int:
    return -(-len(level) // NODE) * NODE_HEADER.size + level.nbytes


def _level(level: NDArray[np.void], is_leaf: bool) -> bytes:
    """Return the nodes of a level; an empty tree has one without entries."""
    parts = []
    for first in range(0, max(len(level), 1), NODE):
        entries = level[first : first + NODE]
        parts += [NODE_HEADER.pack(is_leaf, 0, len(entries)), entries.tobytes()]
    return b"".join(parts)


def _rewrite(file: IO[bytes], place: int, content: bytes) -> None:
    end = file.tell()
    file.seek(place)
    file.write(content)
    file.seek(end)


def _contents(file: IO[bytes], leaves: NDArray[np.void]) -> Iterator[bytes]:
    """Yield what sections hold; the file stands at its end again whenever one is out."""
    for offset, size in zip(leaves["offset"].tolist(), leaves["size"].tolist(), strict=True):
        end = file.tell()
        file.seek(offset)
        compressed = file.read(size)
        file.seek(end)
        yield zlib.decompress(compressed)


def _zooms_of_values(file: IO[bytes], leaves: NDArray[np.void], bases: int) -> Iterator[NDArray[np.void]]:
    """Yield summaries of at most so many bases, of several sections at once."""
    held: list[bytes] = []
    count = 0
    for content in _contents(file, leaves):
        held.append(content)
        count += len(content)
        if count >= 4 * SECTION:
            yield _summaries(held, bases)
            held, count = [], 0
    if held:
        yield _summaries(held, bases)


def _summaries(sections: list[bytes], bases: int) -> NDArray[np.void]:
    """Return summaries of the values that sections hold."""
    headers = np.array([SECTION_HEADER.unpack_from(content)[:3] for content in sections], dtype=np.int64)
    values = np.concatenate([np.frombuffer(x, dtype="<f4", offset=SECTION_HEADER.size) for x in sections])
    contigs, starts, ends = headers.T
    lengths = ends - starts
    positions = np.arange(len(values)) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    bins = positions // bases
    changes = np.diff(bins, prepend=-1) != 0
    changes[np.cumsum(lengths)[:-1]] = True
    firsts = np.flatnonzero(changes)
    lasts = np.append(firsts[1:], len(values)) - 1
    records = np.zeros(len(firsts), dtype=ZOOM)
    records["contig"] = np.repeat(contigs, lengths)[firsts]
    records["start"], records["end"] = positions[firsts], positions[lasts] + 1
    records["count"] = lasts - firsts + 1
    exact = values.astype(np.float64)
    records["min"], records["max"] = np.minimum.reduceat(values, firsts), np.maximum.reduceat(values, firsts)
    records["sum"], records["sum_squares"] = np.add.reduceat(exact, firsts), np.add.reduceat(exact**2, firsts)
    return records


def _stored_zooms(file: IO[bytes], leaves: NDArray[np.void]) -> Iterator[NDArray[np.void]]:
    for content in _contents(file, leaves):
        yield np.frombuffer(content, dtype=ZOOM)


def _coarser(parts: Iterable[NDArray[np.void]], bases: int) -> Iterator[NDArray[np.void]]:
    """Join summaries that lie within the same so many bases of a contig; yield as many as a section holds."""
    held = np.zeros(0, dtype=ZOOM)
    for part in parts:
        held = _joined(np.concatenate([held, part]), bases)
        # The next summary may belong to the last.
        while len(held) > ZOOMS_A_SECTION:
            yield held[:ZOOMS_A_SECTION]
            held = held[ZOOMS_A_SECTION:]
    if len(held):
        yield held


def _joined(records: NDArray[np.void], bases: int) -> NDArray[np.void]:
    changes = np.diff(records["start"] // np.uint32(bases), prepend=0) != 0
    changes |= np.diff(records["contig"], prepend=0) != 0
    changes[0] = True
    if changes.all():
        return records
    firsts = np.flatnonzero(changes)
    joined = records[firsts].copy()
    joined["end"] = records["end"][np.append(firsts[1:], len(records)) - 1]
    joined["count"] = np.add.reduceat(records["count"], firsts)
    for name, way in {"min": np.minimum, "max": np.maximum, "sum": np.add, "sum_squares": np.add}.items():
        joined[name] = way.reduceat(records[name].astype(np.float64), firsts)
    return joined
