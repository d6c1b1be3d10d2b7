"""Tracks of probabilities, one bigWig a feature, read a stretch at a time."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.formats.isolated_bigwig import IsolatedBigWig, IsolatedBigWigs
from dnalm.formats.isolated_reader import Subject


class TracksReader:
    """The bigWig files of several features, all of the same contigs; use it in a `with`.

    Raises:
        UserError: a file is no bigWig, is empty, or has other contigs than the first.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._files: dict[str, IsolatedBigWig] = {}
        self._reader = IsolatedBigWigs() if paths else None
        try:
            for feature, path in paths.items():
                self._files[feature] = self._opened(path)
            self.lengths: dict[str, int] = next((file.lengths for file in self._files.values()), {})
            for feature, file in self._files.items():
                if file.lengths != self.lengths:
                    raise UserError(
                        f"The track '{paths[feature].name}' has other contigs, or of other lengths, than the first; give "
                        "tracks of one genome."
                    )
        except BaseException:
            self.close()
            raise

    def _opened(self, path: Path) -> IsolatedBigWig:
        assert self._reader is not None
        opened = self._reader.open(path, Subject(f"The track '{path.name}'", "is damaged, or not a bigWig"))
        if not opened.lengths:
            raise UserError(f"The track '{path.name}' has no contig. Give the tracks of a segmenter.")
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        if self._reader is not None:
            self._reader.close()

    def values(self, feature: str, contig: str, start: int, end: int) -> NDArray[np.float32]:
        """Return the values of bases [start, end), 0-based; NaN where there are none.

        Raises:
            UserError: the file is damaged, or a value is no probability.
        """
        path = self._paths[feature]
        where = Subject(f"The track '{path.name}'", f"is damaged at {shown(contig)}:{start + 1}-{end}")
        found = self._files[feature].values(contig, start, end, where)
        if found is None:
            return np.full(end - start, np.nan, dtype=np.float32)
        with np.errstate(invalid="ignore"):
            strange = (found < 0) | (found > 1)
        if strange.any():
            place = start + int(strange.argmax()) + 1
            raise UserError(
                f"The track '{path.name}' has the value {found[strange][0]:g} at {contig}:{place}, which is no probability; "
                "give tracks of a segmenter."
            )
        return found
