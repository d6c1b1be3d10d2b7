"""From records to the windows of a pretraining: cut, freed of repeats, split without leaks, and counted."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError
from dnalm.formats.fasta import FastaReader, SequenceRecord
from dnalm.formats.regions import RegionReader
from dnalm.formats.sequence_tables import is_table, read_sequence_table
from dnalm.methods import training_windows as grid
from dnalm.methods.leakage import place_of
from dnalm.tasks.pretraining_options import PretrainingOptions

LEAST_BASES = 20  # a shorter window teaches nothing
NEAR = 0.5  # Jaccard index of 12-mers from which two windows count as near duplicates
MOST_COMPARED = 200_000  # training windows that validation is compared with for near duplicates


@dataclass(frozen=True)
class Windows:
    """What is trained on: bases of each window, weights of them where asked for, which validate, and counts."""

    sequences: list[bytes]
    weights: list[NDArray[np.float32]] | None
    validates: NDArray[np.bool_]
    counts: Counter[str]


def read_windows(options: PretrainingOptions) -> Windows:
    """Cut the records into windows, leave out what cannot be learnt from, and split them."""
    assert options.window is not None
    assert options.stride is not None
    counts: Counter[str] = Counter()
    sequences: list[bytes] = []
    weights: list[NDArray[np.float32]] = []
    places: list[tuple[int, int, int, int]] = []
    for number, (origin, record) in enumerate(_records(options)):
        counts["records"] += 1
        counts["bases"] += len(record.bases)
        whole_grid = grid.window_grid(len(record.bases), options.window, options.stride, 1)
        cut = [(start, end) for start, end in whole_grid if end - start >= LEAST_BASES]
        counts["records_too_short" if not cut else "ends_too_short"] += len(whole_grid) - len(cut)
        for start, end in cut:
            bases = record.bases[start:end]
            if bases.count("N") > options.max_n * len(bases):
                counts["windows_with_too_many_n"] += 1
                continue
            sequences.append(bases.encode())
            before = origin.first + (len(record.bases) - end if origin.backwards else start)
            places.append((origin.contig, before, before + end - start, number))
            if options.soft_masked_weight != 1:
                weights.append(_soft_mask(record, start, end, options.soft_masked_weight))
    if not sequences:
        raise UserError(
            f"No window is left of {counts['records']:,} records ({counts['windows_with_too_many_n']:,} had too many N, "
            f"{counts['records_too_short']:,} records under {LEAST_BASES} bases); give more sequences."
        )
    counts["windows"] = len(sequences)
    intervals = grid.Intervals(*(np.array(column, dtype=np.int64) for column in zip(*places, strict=True)))
    first_of_each = grid.first_of_each(sequences)
    counts["duplicate_windows"] = int((~first_of_each).sum())
    validates, kept = _split(options, intervals, first_of_each, counts)
    numbers = np.flatnonzero(kept).tolist()
    sequences = [sequences[number] for number in numbers]
    weights = [weights[number] for number in numbers] if weights else []
    validates = validates[kept]
    counts["training_windows_not_compared"] = max(0, int((~validates).sum()) - MOST_COMPARED)
    counts["near_duplicates_in_validation"] = grid.near_duplicates(
        [sequences[number] for number in np.flatnonzero(validates)],
        [sequences[number] for number in np.flatnonzero(~validates)[:MOST_COMPARED]],
        NEAR,
    )
    counts["training_windows"], counts["validation_windows"] = int((~validates).sum()), int(validates.sum())
    return Windows(sequences, weights or None, validates, counts)


class _Origin(NamedTuple):
    """Where a record lies: number of its contig, first base there, and whether it is of the backward strand."""

    contig: int
    first: int
    backwards: bool


def _records(options: PretrainingOptions) -> Iterator[tuple[_Origin, SequenceRecord]]:
    """Yield each record with its origin; a sequence whose name tells no place is a contig of its own."""
    contigs: dict[str, int] = {}
    if options.genome is not None:
        assert options.regions is not None
        with RegionReader(options.genome, options.regions, options.soft_masked_weight != 1) as reader:
            for record in reader:
                region = record.region
                assert region is not None
                contig = contigs.setdefault(reader.contig(region), len(contigs))
                yield _Origin(contig, region.start, region.strand == "-"), record
        return
    number = 0
    for path in options.sequences or []:
        read: Any = read_sequence_table if is_table(path) else FastaReader
        records: Iterable[SequenceRecord] = read(path, keep_case=options.soft_masked_weight != 1)
        for sequence in records:
            place = place_of(sequence.id)
            if place is None or (first := place.first_of(len(sequence.bases))) is None:
                yield _Origin(number, 0, False), sequence
            else:
                # Below those of the others.
                contig = contigs.setdefault(place.contig, -1 - len(contigs))
                yield _Origin(contig, first, sequence.id.endswith("(-)")), sequence
            number += 1


def _split(
    options: PretrainingOptions, intervals: grid.Intervals, kept: NDArray[np.bool_], counts: Counter[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which windows validate, and which are left when none shares a base with both sides."""
    assert options.window is not None
    if kept.sum() < 2:
        raise UserError(
            "Only one window is left, which cannot be both trained on and validated with; give more sequences."
        )
    generator = np.random.default_rng((options.seed, 1))
    split = {"random": grid.random_split, "block": grid.block_split, "record": grid.record_split}[options.split]
    validates = np.zeros(len(intervals), dtype=np.bool_)
    validates[kept] = split(intervals[kept], options.validation_fraction, generator)
    near = grid.near_validation(intervals, validates, options.window if options.split == "block" else 0)
    counts["windows_left_out_beside_validation"] = int((near & kept).sum())
    kept = kept & ~near
    for side, chosen in (("validation", validates & kept), ("training", ~validates & kept)):
        if not chosen.any():
            raise UserError(
                f"The split '{options.split}' leaves no window for {side} ({int(kept.sum()):,} windows in all); give more "
                "sequences, smaller windows, or another split."
            )
    return validates, kept


def _soft_mask(record: SequenceRecord, start: int, end: int, weight: float) -> NDArray[np.float32]:
    if record.soft_masked is None:
        return np.ones(end - start, dtype=np.float32)
    return np.where(record.soft_masked[start:end], np.float32(weight), np.float32(1))


def account(windows: Windows) -> list[str]:
    """Return sentences about what became of the records."""
    counts = windows.counts
    sentences = [
        f"Read {counts['records']:,} records of {counts['bases']:,} bases: {counts['windows']:,} windows, "
        f"{counts['training_windows']:,} to train on and {counts['validation_windows']:,} to validate with"
    ]
    meanings = {
        "windows_with_too_many_n": "windows left out for their N",
        "records_too_short": f"records left out that have under {LEAST_BASES} bases",
        "ends_too_short": f"ends of records left out that have under {LEAST_BASES} bases",
        "duplicate_windows": "windows left out that repeat another or its reverse complement",
        "windows_left_out_beside_validation": "windows left out because validation has some of their bases, or neighbours",
        "near_duplicates_in_validation": "validation windows much like one of training, kept",
        "training_windows_not_compared": "training windows, the last ones, that validation was not compared with",
    }
    return sentences + [f"{meaning}: {counts[name]:,}" for name, meaning in meanings.items() if counts[name]]


def fingerprint(windows: Windows) -> str:
    """Return what identifies the windows and their split."""
    digest = hashlib.sha256(np.packbits(windows.validates).tobytes())
    for bases in windows.sequences:
        digest.update(bases + b"\n")
    for weights in windows.weights or ():
        digest.update(weights.tobytes())
    return digest.hexdigest()
