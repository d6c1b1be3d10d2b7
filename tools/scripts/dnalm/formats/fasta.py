"""FASTA: read, plain or gzip-compressed, as a stream of DNA sequences, and written."""

import io
import os
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from Bio.SeqIO.FastaIO import SimpleFastaParser
from numpy.typing import NDArray

from dnalm.errors import UserError
from dnalm.formats.inputs import damage_told, decompressed, open_input

AMBIGUOUS = b"RYSWKMBDHV"  # IUPAC nucleotide codes for more than one base, N apart (NC-IUB 1984)
LONGEST_ID = 1_000  # letters; a longer one is a sequence without its line break
LOWER_CASE = string.ascii_lowercase.encode()
NORMALISED = bytes.maketrans(b"U" + AMBIGUOUS, b"T" + b"N" * len(AMBIGUOUS))
PROTEIN_ONLY = set("EFILPQ")  # letters of amino acids that are no nucleotide code
GAPS = set("-.*~")
WIDTH = 80  # bases a line that is written
PIECE = 1 << 20  # letters of a record that are read at once where it need not be whole


@dataclass(frozen=True, slots=True)
class SequenceRecord:
    """A FASTA record whose letters are A, C, G, T and N alone, with counts of what was mended.

    Attributes:
        id: the header up to the first blank.
        bases: the sequence, upper case.
        lower_case: letters that were lower case.
        ambiguous: IUPAC letters other than N that became N.
        uracil: letters U that became T.
        soft_masked: which letters were lower case, if that was asked for; shape (bases,).
    """

    id: str
    bases: str
    lower_case: int = 0
    ambiguous: int = 0
    uracil: int = 0
    soft_masked: NDArray[np.bool_] | None = None


class FastaReader:
    """Iterate over the records of a FASTA file in their order; close it, or use it in a `with`.

    Args:
        path: the file.
        keep_case: whether records are to tell which of their letters were lower case.
    """

    def __init__(self, path: Path, keep_case: bool = False) -> None:
        self.path, self._keep_case = path, keep_case
        self._file: BinaryIO = open_input(path, "FASTA file")
        self._size = max(os.fstat(self._file.fileno()).st_size, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def fraction_read(self) -> float:
        """The share of the file, as stored, that has been read: 0 to 1."""
        # The text layer closes the file when its last line has been read.
        return 1.0 if self._file.closed else min(self._file.tell() / self._size, 1.0)

    def __iter__(self) -> Iterator[SequenceRecord]:
        with self._told():
            parser = SimpleFastaParser(self._open_text())
            # No name keeps the letters while the record is out: they may be a chromosome.
            while record := _next_record(parser, self._number + 1, self.path.name, self._keep_case):
                self._number += 1
                yield record

    def as_written(self) -> Iterator[tuple[str, str]]:
        """Yield each record's whole header, without '>', and its letters as they stand, unchecked."""
        with self._told():
            for title, letters in SimpleFastaParser(self._open_text()):
                self._number += 1
                yield title, letters

    def pieces(self, letters: int = PIECE) -> Iterator[tuple[int, SequenceRecord]]:
        """Yield the records in pieces of at most so many letters: the number of the record, from 1, and the piece."""
        with self._told():
            text = self._open_text()
            where, name, length = "", "", 0
            for is_title, piece in _titles_and_letters(text, letters):
                if is_title:
                    _refuse_no_sequence(where, length)
                    where, name = _place(piece, self._number + 1, self.path.name)
                    self._number += 1
                    length = 0
                elif piece:
                    yield self._number, normalised(name, piece, where, self._keep_case, length)
                    length += len(piece)
            _refuse_no_sequence(where, length)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Count the records read from here on, and say in a sentence where the file is damaged."""
        self._number = 0
        try:
            with damage_told(self.path.name, lambda: f"record {self._number}"):
                yield
        except UnicodeDecodeError as error:
            raise UserError(
                f"The file '{self.path.name}' is not UTF-8 text after record {self._number}; save it as plain text FASTA."
            ) from error

    def _open_text(self) -> io.TextIOBase:
        """Return the decompressed text after looking at its start."""
        buffered = decompressed(self._file, self.path.name)
        blank_lines = blanks = 0
        while (start := buffered.peek(1 << 16)) and not start.strip():
            blanks += len(start)
            blank_lines += start.count(b"\n")
            buffered.read(len(start))
        if not start:
            kind = "holds only blank lines" if blanks else "is empty"
            raise UserError(f"The file '{self.path.name}' {kind}; choose a FASTA file with at least one sequence.")
        _refuse_other_formats(start, self.path.name, blank_lines)
        return io.TextIOWrapper(buffered, encoding="utf-8-sig")


def _refuse_other_formats(start: bytes, name: str, lines_before: int) -> None:
    """Raise UserError unless the first bytes, behind so many blank lines, look like FASTA."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start[:2]:
        raise UserError(f"The file '{name}' is UTF-16 text; save it as plain (UTF-8 or ASCII) text.")
    if start.startswith(b"@"):
        raise UserError(f"The file '{name}' starts with '@': it looks like FASTQ; convert it to FASTA first.")
    text = start.removeprefix(b"\xef\xbb\xbf")
    before, header, _ = text.partition(b">")
    if header and not before.strip() and not before.rpartition(b"\n")[2].strip(b"\r"):
        return
    if any(byte < 32 and byte not in b"\t\n\v\f\r" for byte in before):
        raise UserError(f"The file '{name}' is binary; choose a FASTA file.")
    line = lines_before + before[: len(before) - len(before.lstrip())].count(b"\n") + 1
    raise UserError(
        f"The file '{name}' has text before the first '>' (line {line}); a FASTA record starts with '>' and its name."
    )


def _next_record(parser: Iterator[tuple[str, str]], number: int, name: str, keep_case: bool) -> SequenceRecord | None:
    """Return the next record, None at the end."""
    found = next(parser, None)
    return None if found is None else _record(*found, number, name, keep_case)


def _record(title: str, letters: str, number: int, name: str, keep_case: bool) -> SequenceRecord:
    """Return the record with its letters normalised, or raise UserError naming record and position."""
    where, own_name = _place(title, number, name)
    _refuse_no_sequence(where, len(letters))
    return normalised(own_name, letters, where, keep_case)


def _place(title: str, number: int, file: str) -> tuple[str, str]:
    """Return what begins a sentence about a record, and its name: what stands before the first blank."""
    words = title.split(maxsplit=1)
    if not words:
        raise UserError(f"Record {number} of '{file}' has no name after '>'; give it one.")
    where = f"Record {number} ('{words[0][:80]}') of '{file}'"
    if "\0" in title:
        raise UserError(f"{where} has a NUL byte in its name; the file is damaged.")
    if not words[0].isprintable():
        raise UserError(f"{where} has a control character in its name; remove it.")
    if len(words[0]) > LONGEST_ID:
        raise UserError(f"{where} has a name of {len(words[0]):,} letters; use at most {LONGEST_ID:,}.")
    return where, words[0]


def _refuse_no_sequence(where: str, length: int) -> None:
    if where and not length:
        raise UserError(f"{where} has no sequence; add one or remove the record.")


def _titles_and_letters(text: io.TextIOBase, most: int) -> Iterator[tuple[bool, str]]:
    """Yield the titles (True) of a FASTA text and between them its letters, without blanks, in pieces."""
    line_ended, title = True, ""
    while block := text.read(most):
        start = 0
        while start < len(block):
            if title or (line_ended and block[start] == ">"):
                end = block.find("\n", start)
                title += block[start : end if end >= 0 else len(block)]
                if end >= 0:
                    yield True, title[1:]
                    title = ""
            else:
                found = block.find("\n>", start)
                end = found if found >= 0 else len(block)
                yield False, "".join(block[start:end].split())
            line_ended = end >= 0
            start = end + 1 if end >= 0 else len(block)
        line_ended = block.endswith("\n")
    if title:
        yield True, title[1:]


def normalised(name: str, letters: str, where: str, keep_case: bool = False, before: int = 0) -> SequenceRecord:
    """Return a record of A, C, G, T and N from the letters of a file; `where` begins the sentence if one is foreign.

    With `keep_case` the record tells which letters were lower case; so many letters of the record stood `before`.

    Raises:
        UserError: a letter is no nucleotide code.
    """
    try:
        raw = letters.encode("ascii")
    except UnicodeEncodeError:
        raise _foreign_letter(where, letters, before) from None
    lower_case = len(raw) - len(raw.translate(None, LOWER_CASE))
    raw = raw.upper()
    if raw.translate(None, b"ACGTNU" + AMBIGUOUS):
        raise _foreign_letter(where, letters, before)
    return SequenceRecord(
        id=name,
        bases=raw.translate(NORMALISED).decode("ascii"),
        lower_case=lower_case,
        ambiguous=len(raw) - len(raw.translate(None, AMBIGUOUS)),
        uracil=raw.count(b"U"),
        soft_masked=_lower_case(letters) if keep_case else None,
    )


def _lower_case(letters: str) -> NDArray[np.bool_]:
    return np.frombuffer(letters.encode("ascii"), dtype=np.uint8) >= ord("a")


def _foreign_letter(where: str, letters: str, before: int) -> UserError:
    """Say which letter of a record is no nucleotide, and at which position (1-based)."""
    known = "ACGTNU" + AMBIGUOUS.decode()
    position, letter = next(
        (i, x) for i, x in enumerate(letters, start=before + 1) if x.upper() not in known or not x.isascii()
    )
    at = f"at position {position}"
    if letter == "\0":
        return UserError(f"{where} has a NUL byte {at}; the file is damaged.")
    if letter in GAPS:
        return UserError(f"{where} has the gap or stop sign '{letter}' {at}; remove such signs from the sequences.")
    if letter.isdigit():
        return UserError(f"{where} has the digit '{letter}' {at}; remove digits from the sequences.")
    if letter.upper() in PROTEIN_ONLY:
        return UserError(f"{where} has the letter '{letter}' {at}: it looks like protein; use DNA sequences.")
    shown = letter if letter.isprintable() else f"\\x{ord(letter):02x}"
    return UserError(f"{where} has '{shown}' {at}, which is no letter of DNA; use A, C, G, T, N or IUPAC codes.")


class FastaWriter:
    """Append records; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def append(self, name: str, description: str, bases: str) -> None:
        """Write a record: its name, a description behind a blank, and lines of 80 bases."""
        lines = (bases[start : start + WIDTH] for start in range(0, len(bases), WIDTH))
        self._file.write("\n".join([f">{name} {description}", *lines]) + "\n")
