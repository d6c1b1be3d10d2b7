"""Lines of text files, plain or gzip-compressed, byte by byte as they stand."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from dnalm.errors import UserError

GZIP = b"\x1f\x8b"


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines without their ends; a line that is empty too.

    Raises:
        UserError: the file cannot be read, is damaged, or is no text.
    """
    number = 0
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == GZIP
        with gzip.open(path, "rb") if compressed else path.open("rb") as lines:
            for line in lines:
                number += 1
                if b"\0" in line:
                    raise UserError(f"The file '{path.name}' is binary; give plain or gzip-compressed text.")
                yield line.rstrip(b"\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"The compressed file '{path.name}' is damaged or cut short after line {number}; upload it again."
        ) from error
    except OSError as error:
        raise UserError(f"The file '{path}' cannot be read ({error.strerror}); check its name.") from error
