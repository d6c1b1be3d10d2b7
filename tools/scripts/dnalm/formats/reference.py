"""A genome: FASTA with indexed access by contig and position."""

import shutil
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Self

import pysam

from dnalm.errors import DISK_IS_FULL, UserError
from dnalm.formats.fasta import SequenceRecord, normalised
from dnalm.formats.inputs import GZIP, damage_told, decompressed, is_block_compressed, open_input
from dnalm.methods.variant_windows import known_name
from dnalm.temporary_files import filling, temporary_folder


class Reference:
    """An open genome, plain, gzip- or block-gzip-compressed; close it, or use it in a `with`.

    Its index is made in a temporary folder: the genome's own folder may be read-only, and is not ours.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        with open_input(path, "FASTA file") as file:
            self._in_blocks = is_block_compressed(file, path.name)
            self._packed = not self._in_blocks and file.read(len(GZIP)) == GZIP
        with ExitStack() as stack:
            self._folder = stack.enter_context(temporary_folder())
            self._fasta = stack.enter_context(closing(self._open(path)))
            self.lengths = dict(zip(self._fasta.references, self._fasta.lengths, strict=True))
            self._open_files = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the genome and remove its index."""
        self._open_files.close()

    def contig(self, name: str) -> str | None:
        """Return what the genome calls a contig, which may be another usual name of it; None if it has no such."""
        return known_name(name, self.lengths)

    def fetch(self, contig: str, start: int, end: int, name: str, keep_case: bool = False) -> SequenceRecord:
        """Return bases [start, end), 0-based, of the forward strand, as a record with a name."""
        letters = self.letters(contig, start, end)
        return normalised(name, letters, f"Region {contig}:{start + 1}-{end} of '{self.name}'", keep_case)

    def letters(self, contig: str, start: int, end: int) -> str:
        """Return the letters [start, end), 0-based, as the file has them; raise UserError if it is damaged there."""
        try:
            return str(self._fasta.fetch(contig, start, end))
        except UnicodeDecodeError as error:
            raise UserError(
                f"The contig '{contig}' of '{self.name}' has, between {start + 1:,} and {end:,}, a byte that is no letter. "
                "Use A, C, G, T, N or IUPAC codes."
            ) from error
        except (OSError, ValueError) as error:
            raise UserError(
                f"The contig '{contig}' of '{self.name}' cannot be read between {start + 1:,} and {end:,}: the file is "
                "damaged, or not as its index says. Upload it again, or make its index anew."
            ) from error

    def _open(self, path: Path) -> pysam.FastaFile:
        """Open with the index of a server's genome where there is an up-to-date one, else with our own."""
        plain = self._unpacked(path) if self._packed else path
        index, blocks = Path(f"{path}.fai"), Path(f"{path}.gzi")
        needed = [index, blocks] if self._in_blocks else [index]
        try:
            if not all(file.is_file() and file.stat().st_mtime >= path.stat().st_mtime for file in needed):
                index, blocks = (self._folder / f"genome.{suffix}" for suffix in ("fai", "gzi"))
                with filling(self._folder):
                    pysam.faidx("--fai-idx", str(index), "--gzi-idx", str(blocks), str(plain))
            return pysam.FastaFile(str(plain), str(index), str(blocks) if self._in_blocks else None)
        except UnicodeDecodeError as error:
            raise UserError(
                f"The genome '{path.name}' has a contig whose name is not UTF-8 text. Rename it."
            ) from error
        except (OSError, ValueError, pysam.SamtoolsError) as error:
            if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
                raise
            raise UserError(
                f"The genome '{path.name}' cannot be indexed; use FASTA with one sequence a contig and lines of one length."
            ) from error

    def _unpacked(self, path: Path) -> Path:
        """Return a copy that can be read anywhere, beside the index."""
        unpacked = self._folder / "genome.fa"
        with (
            filling(self._folder),
            open_input(path) as file,
            damage_told(path.name, lambda: "its start"),
            decompressed(file, path.name) as source,
            unpacked.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)
        return unpacked
