"""Split sequences, variants or a genome: weigh every record, then write runs of them that cost about the same."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from dnalm.errors import UserError, shown
from dnalm.formats.contigs import LONGEST
from dnalm.formats.fasta import WIDTH, FastaReader
from dnalm.formats.outputs import whole_folder_or_nothing, whole_or_nothing
from dnalm.formats.reference import Reference
from dnalm.formats.tables import TableWriter
from dnalm.formats.text_lines import header_lines, read_lines
from dnalm.methods.shards import shard_of, tiles

VCF = "VCF file"
LEAST_COLUMNS = 5  # of a variant: up to ALT
INDEX_COLUMNS = 5  # of a FASTA index: name, bases, offset, bases a line, bytes a line
MOST_DIGITS = 18
CUTS = 10_000  # a genome is cut at multiples of so many bases of a contig


@dataclass(frozen=True)
class SplittingOptions:
    """What a user chooses; the names are those of `dnalm_split.py --help`."""

    output_directory: Path
    sequences: Path | None = None
    variants: Path | None = None
    genome: Path | None = None
    shards: int = 4
    region_length: int | None = None
    region_step: int | None = None
    whole_contigs: bool = False
    table: Path | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What is never cut: its name, its cost, and what is written of it."""

    name: str
    cost: int
    content: bytes = b""


@dataclass(frozen=True)
class Source:
    """An input whose pieces are read twice: to weigh them, and to write them.

    Attributes:
        weigh, read: pieces in their order; those that are only weighed need no content.
        records, unit: names of the pieces and of their cost.
        suffix: of a shard's name; `vcf.gz` is block-gzip-compressed, as long as tabix can index it.
        header: what every shard begins with.
    """

    weigh: Callable[[], Iterator[Piece]]
    read: Callable[[], Iterator[Piece]]
    records: str
    unit: str
    suffix: str
    header: bytes = b""


def split(options: SplittingOptions) -> None:
    """Write shards, numbered in the order of the input, into a new folder, and say on stdout what they hold.

    Raises:
        UserError: the input cannot be used, or the folder has files in it already.
    """
    if options.genome is None and (options.region_length or options.region_step or options.whole_contigs):
        raise UserError("Length and step of regions, and whole contigs, are for a genome; leave them out.")
    if options.whole_contigs and options.region_length:
        raise UserError("Contigs stay whole or become regions of a length; choose one of both.")
    if options.region_step and not options.region_length:
        raise UserError("A step of regions goes with their length; give both.")
    inputs = [path for path in (options.sequences, options.variants, options.genome) if path]
    outputs = [options.table] if options.table else []
    with (
        whole_or_nothing(outputs, inputs) as partials,
        whole_folder_or_nothing(options.output_directory, inputs, outputs) as folder,
    ):
        source = _source(options)
        count = total = 0
        for piece in source.weigh():
            count, total = count + 1, total + piece.cost
        print(f"Read {count:,} {source.records} of {total:,} {source.unit} from '{inputs[0].name}'", flush=True)
        shards = _write(source, total, options.shards, folder)
        if options.variants:
            _leave_compressed_if_indexed(folder)
        if len(shards) < options.shards:
            print(
                f"Shards left out because they would be empty: {options.shards - len(shards):,} of {options.shards:,}"
            )
        heaviest = max(shard[source.unit] for shard in shards)
        print(
            f"Shards: {len(shards):,}, the heaviest of {heaviest:,} {source.unit}; an even share is {total // len(shards):,}"
        )
        if options.table:
            with TableWriter(partials[0]) as table:
                table.append({name: [shard[name] for shard in shards] for name in shards[0]})


def _write(source: Source, total: int, wanted: int, folder: Path) -> list[dict[str, Any]]:
    """Write the pieces and return what each shard holds; a shard is opened when its first piece comes."""
    shards: list[dict[str, Any]] = []
    current, before = -1, 0
    with ExitStack() as stack:
        for piece in source.read():
            number = shard_of(before, piece.cost, total, wanted)
            before += piece.cost
            if number != current:
                current = number
                stack.close()
                name = f"shard_{len(shards) + 1:0{len(str(wanted))}}"
                file = stack.enter_context(closing(_opened(folder / f"{name}.{source.suffix}")))
                file.write(source.header)
                shards.append({"shard": name, source.records: 0, source.unit: 0, "first": shown(piece.name)})
            shards[-1][source.records] += 1
            shards[-1][source.unit] += piece.cost
            shards[-1]["last"] = shown(piece.name)
            file.write(piece.content)
    return shards


def _leave_compressed_if_indexed(folder: Path) -> None:
    """Make all shards plain text if tabix cannot index them all: Galaxy fails a job whose compressed VCF has no index."""
    from dnalm.formats.vcf import can_be_indexed, decompress

    paths = sorted(folder.glob("*.vcf.gz"))
    if all(map(can_be_indexed, paths)):
        return
    print(
        "Warning: the VCF is not sorted, or has positions that tabix does not take; its shards are plain VCF, in its order"
    )
    for path in paths:
        decompress(path)
        path.rename(path.with_suffix(""))


def _opened(path: Path) -> Any:
    if path.suffix != ".gz":
        return path.open("wb")
    from dnalm.formats.block_gzip import BlockGzipFile

    return BlockGzipFile(path)


def _source(options: SplittingOptions) -> Source:
    if options.sequences:
        return _sequences(options.sequences)
    if options.variants:
        return _variants(options.variants)
    assert options.genome is not None
    return _genome(options.genome, options)


def _sequences(path: Path) -> Source:
    """Return sequences, which cost their bases: checked when they are weighed, written with the letters they have."""

    def weigh() -> Iterator[Piece]:
        with FastaReader(path) as reader:
            for _, pieces in groupby(reader.pieces(), key=lambda piece: piece[0]):
                parts = [(part.id, len(part.bases)) for _, part in pieces]
                yield Piece(parts[0][0], sum(length for _, length in parts))

    def read() -> Iterator[Piece]:
        with FastaReader(path) as reader:
            for title, letters in reader.as_written():
                lines = [f">{title}", *(letters[start : start + WIDTH] for start in range(0, len(letters), WIDTH)), ""]
                yield Piece(title.split(maxsplit=1)[0], len(letters), "\n".join(lines).encode())

    return Source(weigh, read, "sequences", "bases", "fasta")


def _variants(path: Path) -> Source:
    """Return records of a VCF, which cost as many as they have alternative alleles; every shard has the whole header."""
    header = header_lines(path, VCF)
    if not header or not (header[0].startswith(b"##fileformat=VCF") or header[-1].startswith(b"#CHROM\t")):
        raise UserError(
            f"The file '{path.name}' has no VCF header, which starts with '##fileformat=VCF'; add it, or give a VCF file."
        )

    def read() -> Iterator[Piece]:
        found = 0
        for number, line in enumerate(read_lines(path, VCF, bounded=False), start=1):
            if number <= len(header) or not line:
                continue
            columns = line.split(b"\t", LEAST_COLUMNS)
            if len(columns) < LEAST_COLUMNS or not columns[1].isdigit():
                raise UserError(
                    f"Line {number} of '{path.name}' is no variant; a VCF has CHROM, POS, ID, REF, ALT … between tabs."
                )
            found += 1
            place = b":".join(columns[:2]).decode(errors="replace")
            yield Piece(place, columns[4].count(b",") + 1, line + b"\n")
        if not found:
            raise UserError(f"The file '{path.name}' has no variant; choose a VCF file with at least one.")

    return Source(read, read, "variants", "alleles", "vcf.gz", b"".join(line + b"\n" for line in header))


def _genome(path: Path, options: SplittingOptions) -> Source:
    """Return regions of a genome, which cost their bases: of the length asked for, or contigs cut where shards meet."""
    lengths = _lengths(path)
    size = options.region_length or CUTS
    step = options.region_step or size

    def stretches() -> Iterator[tuple[str, int, int]]:
        for contig, length in lengths.items():
            whole = length if options.whole_contigs else 0
            for start, end in tiles(length, whole or size, whole or step):
                yield contig, start, end

    def joined() -> Iterator[tuple[str, int, int]]:
        """Join the stretches of a contig that come into one shard."""
        before, total = 0, sum(lengths.values())
        held: tuple[tuple[str, int], int, int] | None = None
        for contig, start, end in stretches():
            place = (contig, shard_of(before, end - start, total, options.shards))
            before += end - start
            if held and held[0] != place:
                yield held[0][0], held[1], held[2]
                held = None
            held = (place, held[1] if held else start, end)
        assert held
        yield held[0][0], held[1], held[2]

    regions = stretches if options.region_length else joined

    def read() -> Iterator[Piece]:
        for contig, start, end in regions():
            yield Piece(f"{contig}:{start + 1}-{end}", end - start, f"{contig}\t{start}\t{end}\n".encode())

    return Source(read, read, "regions", "bases", "bed")


def _lengths(path: Path) -> dict[str, int]:
    """Return contigs and their lengths, of FASTA or of its index (samtools faidx), told apart by their first line."""
    first = next(read_lines(path), b"").split(b"\t")
    if len(first) != INDEX_COLUMNS or first[0].startswith(b">"):
        with Reference(path) as reference:
            return dict(reference.lengths)
    lengths: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.decode(errors="replace").split("\t")
        if len(columns) != INDEX_COLUMNS or not all(map(_is_number, columns[1:])) or int(columns[1]) > LONGEST:
            raise UserError(
                f"Line {number} of '{path.name}' is not of a FASTA index: name, bases, offset, bases a line, bytes a line."
            )
        if columns[0] in lengths:
            raise UserError(
                f"Line {number} of '{path.name}' repeats the contig '{shown(columns[0])}'; make the index anew."
            )
        lengths[columns[0]] = int(columns[1])
    return lengths


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS and int(text) > 0
