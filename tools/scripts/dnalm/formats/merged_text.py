"""Tables, VCF and BED of shards as one file, line by line as they stand."""

import json
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from dnalm.errors import UserError, shown
from dnalm.formats.inputs import GZIP, first_bytes
from dnalm.formats.interval_lines import is_directive
from dnalm.formats.shards import Merged, joined_provenance, named
from dnalm.formats.text_lines import header_lines, read_lines

VCF = "VCF file"
BED_COLUMNS = 3  # at least: contig, start, end
STRUCTURED = re.compile(rb"##(\w+)=<ID=([^,>]+)")  # a line of a VCF header that describes something by its name
NOTE = re.compile(rb"##(\w+)=(\{.*\})$")  # one that may say what was run


def text_kind(path: Path) -> str:
    """Return VCF, BED or table by the first lines."""
    for line in read_lines(path):
        if line.startswith((b"##fileformat=VCF", b"#CHROM\t")):
            return "VCF"
        if not is_directive(line):
            return "BED" if _is_region(line.split(b"\t")) else "table"
    return "table"


def _is_region(columns: list[bytes]) -> bool:
    return len(columns) >= BED_COLUMNS and columns[1].isdigit() and columns[2].isdigit()


def merge_tables(paths: Sequence[Path], output: Path) -> Merged:
    """Write the header that all tables share, and all their lines.

    Raises:
        UserError: a table has another header or none, or a line has too many or too few columns.
    """
    records: list[int] = []
    header: bytes | None = None
    columns: int | None = None
    with output.open("wb") as file:
        for number, path in enumerate(paths, start=1):
            records.append(0)
            for line_number, line in enumerate(read_lines(path), start=1):
                if line_number == 1:
                    if header is None:
                        header = line
                        file.write(line + b"\n")
                    elif line != header:
                        raise UserError(
                            f"{named(number, path)} starts with '{_said(line)}', the shards before it with the header "
                            f"'{_said(header)}'; merge tables with the same header."
                        )
                    continue
                columns = _checked_columns(line, columns, line_number, named(number, path))
                records[-1] += 1
                file.write(line + b"\n")
    return Merged(records, "rows")


def merge_beds(paths: Sequence[Path], output: Path) -> Merged:
    """Write the regions of all files, behind the track lines and comments of the first that has any.

    Raises:
        UserError: a line is no region, or has another number of columns.
    """
    records: list[int] = []
    notes: list[str] = []
    head: list[bytes] | None = None
    columns: int | None = None
    with output.open("wb") as file:
        for number, path in enumerate(paths, start=1):
            records.append(0)
            own: list[bytes] = []
            for line_number, line in enumerate(read_lines(path), start=1):
                if not line.strip():
                    continue
                if is_directive(line):
                    own.append(line)
                    if head is None:
                        file.write(line + b"\n")
                    continue
                if not _is_region(line.split(b"\t", BED_COLUMNS)):
                    raise UserError(
                        f"Line {line_number} of {named(number, path)} is no region: '{_said(line)}'; mend or remove it."
                    )
                columns = _checked_columns(line, columns, line_number, named(number, path))
                records[-1] += 1
                file.write(line + b"\n")
            if head is None and own:
                head = own
            elif own and own != head:
                notes.append(f"{named(number, path)} has track lines or comments of its own, left out: {len(own):,}")
    return Merged(records, "regions", notes)


def _checked_columns(line: bytes, columns: int | None, line_number: int, where: str) -> int:
    found = line.count(b"\t") + 1
    if columns is not None and found != columns:
        raise UserError(
            f"Line {line_number} of {where} has {found:,} columns, the lines before it {columns:,}; mend it."
        )
    return found


def merge_vcfs(paths: Sequence[Path], output: Path) -> Merged:
    """Write the records of all files behind one header, block-gzip-compressed if the first is compressed.

    Raises:
        UserError: a file has no header, or headers differ in their samples or describe a field in two ways.
    """
    headers = [_vcf_header(path, number) for number, path in enumerate(paths, start=1)]
    header, notes = _joined_header(headers, paths)
    columns = headers[0][-1].count(b"\t") + 1
    records: list[int] = []
    with closing(_opened(output, compressed=_is_compressed(paths[0]))) as file:
        file.write(b"".join(line + b"\n" for line in header))
        for number, path in enumerate(paths, start=1):
            records.append(0)
            for line_number, line in enumerate(read_lines(path, VCF, bounded=False), start=1):
                if line_number > len(headers[number - 1]) and line:
                    _checked_columns(line, columns, line_number, named(number, path))
                    if not line.split(b"\t", 2)[1].isdigit():
                        raise UserError(
                            f"Line {line_number} of {named(number, path)} is no variant: '{_said(line)}'; mend or remove it."
                        )
                    records[-1] += 1
                    file.write(line + b"\n")
    return Merged(records, "records", notes)


def _vcf_header(path: Path, number: int) -> list[bytes]:
    header = header_lines(path, VCF)
    if not header or not header[-1].startswith(b"#CHROM\t"):
        raise UserError(f"{named(number, path)} has no VCF header that ends with a line '#CHROM …'; add it.")
    return header


def _joined_header(headers: Sequence[list[bytes]], paths: Sequence[Path]) -> tuple[list[bytes], list[str]]:
    """Return the lines of all headers, each once and in their order; of notes on what was run one for all."""
    lines: dict[tuple[bytes, ...], bytes] = {}
    runs: dict[bytes, list[tuple[int, dict[str, Any]]]] = {}
    notes: list[str] = []
    for number, header in enumerate(headers, start=1):
        if header[-1] != headers[0][-1]:
            raise UserError(
                f"{named(number, paths[number - 1])} has the columns '{_said(header[-1])}', {named(1, paths[0])} "
                f"'{_said(headers[0][-1])}'; merge files of the same samples."
            )
        for line in header[:-1]:
            run = _run(line)
            if run:
                runs.setdefault(run[0], []).append((number, run[1]))
            described = STRUCTURED.match(line)
            key = (b"run", run[0]) if run else described.groups() if described else (line,)
            if described and lines.get(key, line) != line:
                raise UserError(
                    f"{named(number, paths[number - 1])} describes {described[1].decode()} '{_said(described[2])}' in "
                    "another way than the shards before it; merge shards of one run."
                )
            if key not in lines and number > 1:
                notes.append(f"{named(number, paths[number - 1])} adds to the header: {_said(line)}")
            lines.setdefault(key, line)
    for name, parts in runs.items():
        joined, differing = joined_provenance(
            [part for _, part in parts], [named(number, paths[number - 1]) for number, _ in parts]
        )
        if len(parts) > 1:
            lines[(b"run", name)] = b"##" + name + b"=" + json.dumps(joined, sort_keys=True).encode()
        notes += differing
    return [*lines.values(), headers[0][-1]], notes


def _run(line: bytes) -> tuple[bytes, dict[str, Any]] | None:
    """Return the name of a line that says what was run, and what it says."""
    found = NOTE.match(line)
    try:
        said = json.loads(found[2]) if found else None
    except ValueError:
        return None
    return (found[1], said) if found and isinstance(said, dict) and "tool" in said else None


def _is_compressed(path: Path) -> bool:
    return first_bytes(path, len(GZIP)) == GZIP


def _opened(path: Path, *, compressed: bool) -> Any:
    if not compressed:
        return path.open("wb")
    from dnalm.formats.block_gzip import BlockGzipFile

    return BlockGzipFile(path)


def _said(line: bytes) -> str:
    return shown(line.decode(errors="replace"))
