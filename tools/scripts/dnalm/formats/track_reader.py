"""Tracks of probabilities, one bigWig a feature, read a stretch at a time."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyBigWig
from numpy.typing import NDArray

from dnalm.errors import UserError

BIGWIG = (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26")  # either order of bytes


class TracksReader:
    """The bigWig files of several features, all of the same contigs; use it in a `with`.

    Raises:
        UserError: a file is no bigWig, is empty, or has other contigs than the first.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._files = {}
        try:
            for feature, path in paths.items():
                self._files[feature] = _open(path)
            self.lengths: dict[str, int] = next((dict(file.chroms()) for file in self._files.values()), {})
            for feature, file in self._files.items():
                if dict(file.chroms()) != self.lengths:
                    raise UserError(
                        f"The track '{paths[feature].name}' has other contigs, or of other lengths, than the first; give "
                        "tracks of one genome."
                    )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def values(self, feature: str, contig: str, start: int, end: int) -> NDArray[np.float32]:
        """Return the values of bases [start, end), 0-based; NaN where there are none.

        Raises:
            UserError: the file is damaged, or a value is no probability.
        """
        path = self._paths[feature]
        try:
            found = np.asarray(self._files[feature].values(contig, start, end, numpy=True), dtype=np.float32)
        except (RuntimeError, OverflowError) as error:
            raise UserError(
                f"The track '{path.name}' is damaged at {contig}:{start + 1}-{end}; make it again."
            ) from error
        with np.errstate(invalid="ignore"):
            strange = (found < 0) | (found > 1)
        if strange.any():
            place = start + int(strange.argmax()) + 1
            raise UserError(
                f"The track '{path.name}' has the value {found[strange][0]:g} at {contig}:{place}, which is no probability; "
                "give tracks of a segmenter."
            )
        return found


def _open(path: Path) -> "pyBigWig.pyBigWig":
    try:
        with path.open("rb") as file:
            start = file.read(4)
        opened = pyBigWig.open(str(path)) if start in BIGWIG else None
    except (OSError, RuntimeError) as error:
        raise UserError(f"The track '{path.name}' cannot be read; give a bigWig.") from error
    if opened is None or not opened.isBigWig() or not opened.chroms():
        raise UserError(f"The track '{path.name}' is no bigWig, or an empty one; give the tracks of a segmenter.")
    return opened
