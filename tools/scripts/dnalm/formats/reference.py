"""A genome: FASTA with indexed access by contig and position."""

import gzip
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import pysam

from dnalm.errors import UserError
from dnalm.formats.fasta import SequenceRecord, normalised
from dnalm.methods.variant_windows import known_name

BGZF_MAGIC = b"\x1f\x8b\x08\x04"  # gzip with an extra field: blocks that can be read apart (SAM specification, 4.1)


class Reference:
    """An open genome, plain, gzip- or block-gzip-compressed; close it, or use it in a `with`.

    Its index is made in a temporary folder: the genome's own folder may be read-only, and is not ours.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        if path.exists() and not path.is_file():
            raise UserError(f"The genome '{path}' is no plain file; give a FASTA file.")
        self._folder = tempfile.TemporaryDirectory(prefix="dnalm-")
        try:
            self._fasta = self._open(path)
        except (OSError, ValueError, EOFError, pysam.SamtoolsError) as error:
            self._folder.cleanup()
            raise UserError(
                f"The genome '{path.name}' cannot be indexed; use FASTA with one sequence a contig and lines of one length."
            ) from error
        self.lengths = dict(zip(self._fasta.references, self._fasta.lengths, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the genome and remove its index."""
        self._fasta.close()
        self._folder.cleanup()

    def contig(self, name: str) -> str | None:
        """Return what the genome calls a contig, which may be another usual name of it; None if it has no such."""
        return known_name(name, self.lengths)

    def fetch(self, contig: str, start: int, end: int, name: str, keep_case: bool = False) -> SequenceRecord:
        """Return bases [start, end), 0-based, of the forward strand, as a record with a name."""
        letters = self._fasta.fetch(contig, start, end)
        return normalised(name, letters, f"Region {contig}:{start + 1}-{end} of '{self.name}'", keep_case)

    def _open(self, path: Path) -> pysam.FastaFile:
        """Open with the index of a server's genome where there is an up-to-date one, else with our own."""
        plain = self._seekable(path)
        index, blocks = Path(f"{path}.fai"), Path(f"{path}.gzi")
        compressed = plain == path and _magic(path) == BGZF_MAGIC
        needed = [index, blocks] if compressed else [index]
        if not all(file.is_file() and file.stat().st_mtime >= path.stat().st_mtime for file in needed):
            index, blocks = (Path(self._folder.name) / f"genome.{suffix}" for suffix in ("fai", "gzi"))
            pysam.faidx("--fai-idx", str(index), "--gzi-idx", str(blocks), str(plain))
        return pysam.FastaFile(str(plain), str(index), str(blocks) if compressed else None)

    def _seekable(self, path: Path) -> Path:
        """Return a file that can be read anywhere: plain gzip is unpacked beside the index."""
        magic = _magic(path)
        if not magic.startswith(b"\x1f\x8b") or magic == BGZF_MAGIC:
            return path
        unpacked = Path(self._folder.name) / "genome.fa"
        with gzip.open(path, "rb") as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return unpacked


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
