"""Block-gzip files (BGZF; SAM specification, 4.1), written by htslib, whose failed writes are those of a full disk."""

import contextlib
import errno
from pathlib import Path
from types import TracebackType
from typing import Self

import pysam


class BlockGzipFile:
    """A new block-gzip file for binary data; close it, or use it in a `with`.

    Raises:
        OSError: with the number and the file's name, which pysam's own error of a failed write lacks; htslib prints nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pysam.BGZFile(str(path), "wb", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, content: bytes) -> int:
        """Write bytes; return how many."""
        verbosity = pysam.set_verbosity(0)
        try:
            return int(self._file.write(content))
        except OSError as error:
            raise self._told(error) from error
        finally:
            pysam.set_verbosity(verbosity)

    def close(self) -> None:
        """Write what is left and close the file."""
        verbosity = pysam.set_verbosity(0)
        try:
            self._file.close()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.close()  # the first call failed before it closed the file: Python would try it again later
            raise self._told(error) from error
        finally:
            pysam.set_verbosity(verbosity)

    def _told(self, error: OSError) -> OSError:
        """Return an error with a number: an open file of ours cannot be written when its disk, or its quota, is full."""
        number = error.errno or errno.ENOSPC
        return OSError(number, str(error), str(self._path))
