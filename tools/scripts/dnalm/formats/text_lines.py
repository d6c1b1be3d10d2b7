"""Lines of text files, plain or gzip-compressed, byte by byte as they stand."""

import sys
from collections.abc import Iterator
from pathlib import Path

from dnalm.errors import UserError
from dnalm.formats.inputs import BYTE_ORDER_MARK, UTF_16, damage_told, decompressed, open_input

LARGEST_HEADER = 1 << 28  # bytes, with what Python needs for each line
LONGEST_LINE = 1 << 28  # bytes; lines of half a million samples have a tenth of that


def read_lines(path: Path, kind: str = "text file", *, bounded: bool = True) -> Iterator[bytes]:
    """Yield the lines without their ends, empty ones too; a byte order mark at the start is dropped.

    Args:
        path: the file.
        kind: what a sentence asks for instead of what it is, such as `BED or GFF3 file`.
        bounded: see `dnalm.formats.inputs.decompressed`.

    Raises:
        UserError: the file cannot be read, is damaged or no text, or a line is longer than `LONGEST_LINE`.
    """
    name, number = path.name, 0
    with open_input(path, kind) as file, damage_told(name, lambda: f"line {number}"):
        lines = decompressed(file, name, bounded=bounded)
        start = lines.peek(len(BYTE_ORDER_MARK))
        if start.startswith(UTF_16):
            raise UserError(f"The file '{name}' is UTF-16 text. Save it as UTF-8 (plain text).")
        if start.startswith(BYTE_ORDER_MARK):
            lines.read(len(BYTE_ORDER_MARK))
        while line := lines.readline(LONGEST_LINE):
            number += 1
            if b"\0" in line:
                raise UserError(
                    f"Line {number} of '{name}' has a NUL byte: the file is binary or damaged. Give a {kind}."
                )
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                raise UserError(f"Line {number} of '{name}' is longer than {LONGEST_LINE:,} bytes. Give a {kind}.")
            line = line.rstrip(b"\r\n")
            if b"\r" in line:
                raise UserError(
                    f"Line {number} of '{name}' has a carriage return within it. Save the file with Unix line ends."
                )
            yield line


def header_lines(path: Path, kind: str) -> list[bytes]:
    """Return the lines at the start that begin with '#'; arguments and errors are those of `read_lines`.

    Raises:
        UserError: there are more of them than any header needs.
    """
    lines: list[bytes] = []
    size = 0
    for line in read_lines(path, kind, bounded=False):
        if not line.startswith(b"#"):
            break
        size += sys.getsizeof(line)
        refuse_endless_header(size, path.name, kind)
        lines.append(line)
    return lines


def refuse_endless_header(size: int, name: str, kind: str) -> None:
    """Raise UserError if the lines of a header, of so many bytes in memory, cannot be those of a file of this kind."""
    if size > LARGEST_HEADER:
        raise UserError(
            f"The header of '{name}' (lines that begin with '#') is larger than {LARGEST_HEADER >> 20} MiB. Give a {kind}."
        )
