"""Merge shards: tell their kind, check that they belong together, join them record by record in their order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnalm.errors import UserError
from dnalm.formats.inputs import first_bytes
from dnalm.formats.merged_embeddings import merge_h5ad, merge_parquet
from dnalm.formats.merged_text import merge_beds, merge_tables, merge_vcfs, text_kind
from dnalm.formats.merged_tracks import merge_bigwigs
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.shards import Merged, named
from dnalm.formats.tables import TableWriter

MAGICS = {
    b"\x89HDF\r\n\x1a\n": "h5ad",
    b"PAR1": "Parquet",
    b"\x26\xfc\x8f\x88": "bigWig",
    b"\x88\x8f\xfc\x26": "bigWig",
    b"PK\x03\x04": "npz",
}
MAY_BE_EMPTY = ("BED", "table")  # a file without a byte: a shard in which nothing was found
MERGERS: dict[str, Callable[[Sequence[Path], Path], Merged]] = {
    "h5ad": merge_h5ad,
    "Parquet": merge_parquet,
    "bigWig": merge_bigwigs,
    "table": merge_tables,
    "VCF": merge_vcfs,
    "BED": merge_beds,
}


@dataclass(frozen=True)
class MergingOptions:
    """What a user chooses; the names are those of `dnalm_merge.py --help`."""

    shards: list[Path]
    output: Path
    table: Path | None = None


def merge(options: MergingOptions) -> None:
    """Write one file of all records, shard after shard, and say on stdout what was merged.

    A merged file is a shard again: merging it alone, or the shards in steps, gives the same bytes.

    Raises:
        UserError: shards cannot be read, or are of different kinds, columns or models.
    """
    outputs = [options.output, *([options.table] if options.table else [])]
    with whole_or_nothing(outputs, options.shards) as partials:
        kind = _kind(options.shards)
        merged = MERGERS[kind](options.shards, partials[0])
        total = sum(merged.records)
        if not total:
            raise UserError(f"No shard has a {merged.unit.removesuffix('s')}; there is nothing to merge.")
        print(f"Merged {len(options.shards):,} shards ({kind}) of {total:,} {merged.unit}")
        if without := merged.records.count(0):
            print(f"Shards without {merged.unit}: {without:,}")
        for note in merged.notes:
            print(note)
        if options.table:
            numbers = range(1, len(merged.records) + 1)
            with TableWriter(partials[1]) as table:
                table.append({"shard": list(numbers), merged.unit: merged.records})


def _kind(shards: Sequence[Path]) -> str:
    """Return the one kind of all shards."""
    kinds = [_kind_of(path, number) for number, path in enumerate(shards, start=1)]
    first = next((number for number, kind in enumerate(kinds) if kind), None)
    if first is None:
        raise UserError("All shards are empty files; run the step that makes them again.")
    for number, (path, kind) in enumerate(zip(shards, kinds, strict=True), start=1):
        if kind and kind != kinds[first]:
            raise UserError(
                f"{named(number, path)} is {kind}, {named(first + 1, shards[first])} is {kinds[first]}; merge shards of "
                "one kind."
            )
        if not kind and kinds[first] not in MAY_BE_EMPTY:
            raise UserError(f"{named(number, path)} is empty; run the step that makes it again.")
    return kinds[first]


def _kind_of(path: Path, number: int) -> str:
    """Return a shard's kind by its content; nothing if it has none."""
    start = first_bytes(path, 8)
    if not start:
        return ""
    kind = next((kind for magic, kind in MAGICS.items() if start.startswith(magic)), None) or text_kind(path)
    if kind == "npz":
        raise UserError(f"{named(number, path)} is npz, which is not merged; make shards as h5ad or Parquet.")
    return kind
