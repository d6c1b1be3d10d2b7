"""The files of users: opened in one place, decompressed within bounds."""

import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from dnalm.errors import DISK_IS_FULL, UserError, shown

GZIP = b"\x1f\x8b"
BLOCK_GZIP = b"\x1f\x8b\x08\x04"  # gzip with an extra field
BLOCK_HEADER = 18  # bytes, up to and with the size of the block
LAST_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")  # SAM specification, 4.1.2
OTHER_COMPRESSIONS = {b"BZh": "bzip2", b"\xfd7zX": "xz", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
READ_ERRORS = (EOFError, zlib.error, OSError)  # of a file that is read, BadGzipFile among them
BUFFER = 1 << 18
# Gzip packs at most 1,032 bytes into one. DNA packs 4 to 10 into one, a genome with half of it N not 20.
MOST_EXPANSION = 250
FREE_EXPANSION = 1 << 28  # bytes that a small file may become, however it is packed


def open_input(path: Path, kind: str | None = None) -> BinaryIO:
    """Open a user's file to read.

    Only a regular file: a pipe or a device would be waited for, and cannot be read twice.

    Args:
        path: the file.
        kind: what a sentence asks for instead, such as `BED or GFF3 file`.

    Raises:
        UserError: the file does not exist, may not be read, or is a folder, pipe or device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UserError(f"The file '{path}' does not exist. Check its name.") from None
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"The file '{shown(path)}' cannot be read ({reason}). Check its name and permissions."
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"'{path}' is not a regular file. Give {f'a {kind}' if kind else 'the path of a file'}.")
    return os.fdopen(descriptor, "rb")


def first_bytes(path: Path, count: int, kind: str | None = None) -> bytes:
    """Return the first bytes of a user's file, fewer if it is shorter; errors are those of `open_input`."""
    with open_input(path, kind) as file:
        return file.read(count)


def decompressed(file: BinaryIO, name: str, *, bounded: bool = True) -> io.BufferedReader:
    """Return the content of an open file, plain or gzip-compressed, recognized by its first bytes.

    Args:
        file: at its start.
        name: of the file, for sentences.
        bounded: whether a file that expands more than `MOST_EXPANSION`-fold is refused when it is read.

    Raises:
        UserError: the file is compressed otherwise.
    """
    start = file.read(4)
    file.seek(0)
    for magic, compression in OTHER_COMPRESSIONS.items():
        if start.startswith(magic):
            raise UserError(f"The file '{name}' is compressed with {compression}. Use gzip or plain text.")
    is_block_compressed(file, name)
    if not start.startswith(GZIP):
        return io.BufferedReader(cast(io.RawIOBase, file), BUFFER)
    return io.BufferedReader(_Unpacked(file, name, bounded), BUFFER)


def is_block_compressed(file: BinaryIO, name: str) -> bool:
    """Say whether an open file consists of blocks alone that can be read apart, as bgzip writes them; seek to its start.

    A file of several parts may begin with such blocks and go on as plain gzip.

    Raises:
        UserError: the last block, which is empty, is missing: the file is cut short, which gzip would not notice.
    """
    at, size = 0, os.fstat(file.fileno()).st_size
    file.seek(0)
    while header := file.read(BLOCK_HEADER):
        block = _size_of_block(header)
        if block is None:
            break
        at = file.seek(at + block)
    if at != size or not size:
        file.seek(0)
        return False
    file.seek(-min(size, len(LAST_BLOCK)), os.SEEK_END)
    if file.read() != LAST_BLOCK:
        raise UserError(f"The compressed file '{name}' is cut short: its last block is missing. Upload it again.")
    file.seek(0)
    return True


def _size_of_block(header: bytes) -> int | None:
    """Return the bytes of a block with this header; None if it is not one of block gzip (SAM specification, 4.1)."""
    if len(header) < BLOCK_HEADER or not header.startswith(BLOCK_GZIP) or header[12:16] != b"BC\2\0":
        return None
    return int.from_bytes(header[16:18], "little") + 1


class _Unpacked(io.RawIOBase):
    """The content of a gzip file; one that expands beyond reason is refused."""

    def __init__(self, file: BinaryIO, name: str, bounded: bool) -> None:
        self._file, self._name, self._bounded = file, name, bounded
        self._unpacked = gzip.GzipFile(fileobj=file)
        self._size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Fill a buffer; errors are those of gzip."""
        # One step at a time: what is whole before a damage comes out.
        part = self._unpacked.read1(len(buffer))
        count = len(part)
        buffer[:count] = part
        self._size += count
        if self._bounded and self._size > FREE_EXPANSION and self._size > MOST_EXPANSION * self._file.tell():
            raise UserError(
                f"The compressed file '{self._name}' expands more than {MOST_EXPANSION}-fold, as no genome or "
                "table does. If it is right, give it uncompressed."
            )
        return count

    def close(self) -> None:
        """Close the file."""
        self._unpacked.close()
        self._file.close()
        super().close()


def read_error(error: Exception, name: str, where: str) -> Exception:
    """Return what to raise for one of `READ_ERRORS`: a UserError, or the error itself where another file's disk is full.

    Args:
        error: what was caught.
        name: of the file.
        where: up to where it could be read, such as `line 7`.
    """
    if not isinstance(error, OSError) or isinstance(error, gzip.BadGzipFile):
        return UserError(f"The compressed file '{name}' is damaged or cut short after {where}. Upload it again.")
    if error.errno is None or error.errno in DISK_IS_FULL:
        return error
    return UserError(f"The file '{name}' cannot be read after {where} ({error.strerror}). Upload it again.")


@contextmanager
def damage_told(name: str, where: Callable[[], str]) -> Iterator[None]:
    """Turn errors of a file that is read into a sentence; arguments are those of `read_error`.

    Raises:
        UserError: a compressed file is damaged or cut short, or the disk cannot read it.
    """
    try:
        yield
    except READ_ERRORS as error:
        if (told := read_error(error, name, where())) is error:
            raise
        raise told from error
