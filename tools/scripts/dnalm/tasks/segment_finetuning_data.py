"""From a genome and its annotation to windows of bases with features: free of N, split in blocks with gaps between."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.segment_training import Sources
from dnalm.errors import UserError
from dnalm.formats.annotations import Annotation, contigs_in_common, lacking, read_annotation
from dnalm.formats.reference import Reference
from dnalm.formats.regions import read_regions
from dnalm.methods import training_windows as grid
from dnalm.methods.segment_masks import Spans, covered, mask, merged, spans_of
from dnalm.models.segmenter import Encode
from dnalm.tasks.segment_finetuning_options import SegmentFinetuningOptions

CHUNK = 1 << 20  # bases read at once
USUAL_WINDOW, FEWEST_WINDOWS = 3_000, 30  # bases where the user says nothing; as many windows are wanted
MOST_FEATURES = 1_000
DRAWS = 200  # places of held-out blocks that are tried
TRAINING, VALIDATION, TEST = range(3)
SIDES = ("training", "validation", "test")


@dataclass
class SegmentData:
    """What a segmenter is trained with.

    Attributes:
        features: their names.
        window: bases.
        places: of each side, contig and first base of each window, and how far its start may move in both directions.
        frequencies: the share of the training bases that lies in each feature.
        counts: what became of the bases.
    """

    reference: Reference
    annotation: Annotation
    contigs: list[str]
    features: list[str]
    window: int
    places: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    frequencies: list[float]
    counts: Counter[str]

    def bases(self, contig: int, start: int, end: int) -> str:
        """Return the letters of a contig."""
        return self.reference.fetch(self.contigs[contig], start, end, "").bases

    def labels(self, contig: int, start: int, end: int) -> NDArray[np.bool_]:
        """Return which features the bases of a contig lie in; shape (bases, features)."""
        name = self.contigs[contig]
        return np.stack([mask(self.annotation.of(name, feature), start, end) for feature in self.features], axis=1)

    def sources(self, encode: Encode) -> Sources:
        """Return where a training's windows come from."""
        return Sources(self.bases, self.labels, encode)

    def fingerprint(self) -> str:
        """Return what identifies the windows, their features and their split."""
        digest = hashlib.sha256(repr((self.features, self.window)).encode())
        for places in self.places:
            digest.update(places.tobytes())
            for contig, start, *_ in places.tolist():
                digest.update(self.bases(contig, start, start + self.window).encode())
                digest.update(np.packbits(self.labels(contig, start, start + self.window)).tobytes())
        return digest.hexdigest()

    def account(self) -> list[str]:
        """Return sentences about what became of the genome."""
        counts = self.counts
        sizes = ", ".join(f"{len(places):,} for {side}" for side, places in zip(SIDES, self.places, strict=True))
        shares = ", ".join(f"{name} {share:.4f}" for name, share in zip(self.features, self.frequencies, strict=True))
        sentences = [
            f"Windows of {self.window:,} bases: {sizes}; left out between them: {counts['windows_between']:,}",
            f"Share of the training bases in each feature: {shares}",
        ]
        meanings = {
            "n": "bases left out that are N",
            "short": "bases left out because their stretch without N is shorter than a window",
            "contigs_without_annotation": "contigs left out because the annotation has no line on them",
            "contigs_not_in_genome": "contigs of the annotation that the genome lacks, left out",
            "other_lines": "lines of the annotation that are none of the features",
        }
        return sentences + [f"{meaning}: {counts[name]:,}" for name, meaning in meanings.items() if counts[name]]


def read_data(options: SegmentFinetuningOptions, multiple: int, most: int | None) -> SegmentData:
    """Return the windows of a genome with their features.

    Args:
        options: genome, annotation and split.
        multiple: what the bases of a window are a multiple of.
        most: of them; None without a limit.

    Raises:
        UserError: genome and annotation do not fit, features are missing, or too little is left.
    """
    features = _features(options.features)
    annotation = read_annotation(options.annotation, features)
    counts = Counter(other_lines=annotation.others.total())
    features = features or sorted(annotation.lines)
    if lost := [name for name in features if not annotation.lines[name]]:
        raise lacking(lost, annotation, options.annotation.name)
    if len(features) > MOST_FEATURES:
        raise UserError(f"The annotation has {len(features):,} features; name those that are to be learnt.")
    reference = Reference(options.genome)
    try:
        annotation = annotation.under_names(reference.lengths)
        contigs, spans = _spans(options, reference, annotation, counts)
        free = [_without_n(reference, contig, where, counts) for contig, where in zip(contigs, spans, strict=True)]
        bases = sum(int((where[:, 1] - where[:, 0]).sum()) for where in free)
        window = options.window or _usual_window(bases, multiple, most)
        intervals = _windows(free, window, counts)
        inside = np.stack([_covered(annotation, contigs, intervals, feature) for feature in features], axis=1)
        sides = _split(options, intervals, inside, window)
    except BaseException:
        reference.close()
        raise
    counts["windows_between"] = int((sides < 0).sum())
    training = _with_room(intervals[sides == TRAINING], window)
    held_out = [_fixed(intervals[sides == side]) for side in (VALIDATION, TEST)]
    frequencies = inside[sides == TRAINING].sum(axis=0) / max(1, int((sides == TRAINING).sum()) * window)
    places = (training, held_out[0], held_out[1])
    return SegmentData(reference, annotation, contigs, features, window, places, frequencies.tolist(), counts)


def _features(said: str | None) -> list[str] | None:
    if said is None:
        return None
    names = list(dict.fromkeys(name.strip() for name in said.split(",") if name.strip()))
    if not names:
        raise UserError("The features are empty; name them as the annotation does, separated by commas.")
    return names


def _spans(
    options: SegmentFinetuningOptions, reference: Reference, annotation: Annotation, counts: Counter[str]
) -> tuple[list[str], list[Spans]]:
    """Return the contigs and what is taken of each: regions, or all of those that the annotation has a line on."""
    lengths = reference.lengths
    contigs = contigs_in_common(annotation, lengths, options.annotation.name)
    counts["contigs_not_in_genome"] = len(annotation.furthest) - len(contigs)
    if options.regions is None:
        counts["contigs_without_annotation"] = len(lengths) - len(contigs)
        return contigs, [np.array([[0, lengths[contig]]], dtype=np.int64) for contig in contigs]
    found = _regions(options.regions, reference)
    return list(found), list(found.values())


def _regions(path: Path, reference: Reference) -> dict[str, Spans]:
    spans: dict[str, list[tuple[int, int]]] = {}
    for region in read_regions(path):
        contig = reference.contig(region.contig)
        if contig is None or (region.circular or region.end) > reference.lengths[contig]:
            raise UserError(
                f"Line {region.line} of '{path.name}' is no part of a contig of '{reference.name}'; give regions of the "
                "same genome."
            )
        spans.setdefault(contig, []).extend(region.parts)
    return {contig: merged(found) for contig, found in spans.items()}


def _without_n(reference: Reference, contig: str, spans: Spans, counts: Counter[str]) -> Spans:
    """Return the parts of a contig's spans that hold no N."""
    parts = [np.zeros((0, 2), dtype=np.int64)]
    for first, last in spans.tolist():
        within = [np.zeros((0, 2), dtype=np.int64)]
        for start in range(first, last, CHUNK):
            letters = reference.fetch(contig, start, min(start + CHUNK, last), "").bases
            known = np.frombuffer(letters.encode("ascii"), dtype=np.uint8) != ord("N")
            counts["n"] += int((~known).sum())
            within.append(spans_of(known, start))
        parts.append(merged(np.concatenate(within)))
    return np.concatenate(parts)


def _usual_window(bases: int, multiple: int, most: int | None) -> int:
    wanted = min(USUAL_WINDOW, bases // FEWEST_WINDOWS, most or USUAL_WINDOW)
    return max(multiple, wanted // multiple * multiple)


def _windows(free: list[Spans], window: int, counts: Counter[str]) -> grid.Intervals:
    """Cut stretches into windows; the last of a stretch ends with it, and shares bases with the one before."""
    rows: list[tuple[int, int]] = []
    for contig, spans in enumerate(free):
        for first, last in spans.tolist():
            if last - first < window:
                counts["short"] += last - first
                continue
            starts = [*range(first, last - window, window), last - window]
            rows += [(contig, start) for start in starts]
    if not rows:
        raise UserError(
            f"No stretch without N is as long as a window of {window:,} bases; use smaller windows or longer sequences."
        )
    contigs, starts = np.array(rows, dtype=np.int64).T
    return grid.Intervals(contigs, starts, starts + window, contigs)


def _covered(annotation: Annotation, contigs: list[str], intervals: grid.Intervals, feature: str) -> NDArray[np.int64]:
    """Return how many bases of each window lie in a feature."""
    found = np.zeros(len(intervals), dtype=np.int64)
    for number, contig in enumerate(contigs):
        here = intervals.contigs == number
        found[here] = covered(annotation.of(contig, feature), intervals.starts[here], intervals.ends[here])
    return found


def _split(
    options: SegmentFinetuningOptions, intervals: grid.Intervals, inside: NDArray[np.int64], gap: int
) -> NDArray[np.int64]:
    """Return the side of each window, −1 for those between blocks.

    Test and validation are a block of neighbours each, with a gap around it. Of many places that are tried the first is
    taken where each side has every feature, or else as many as can be.
    """
    best, most = None, -1
    for draw in _draws(options, intervals, gap):
        present = [np.count_nonzero(inside[draw == side].any(axis=0)) for side in range(len(SIDES))]
        wanted = inside.shape[1] * (len(SIDES) if options.test_fraction else len(SIDES) - 1)
        # Training comes first: what it lacks cannot be learnt.
        score = present[TRAINING] * (wanted + 1) + sum(present)
        if score > most:
            best, most = draw, score
        if sum(present) == wanted:
            break
    if best is None:
        raise UserError(
            f"{len(intervals):,} windows are too few to be split in blocks with gaps between them; use smaller windows, "
            "smaller shares of validation and test, or more sequence."
        )
    return best


def _draws(options: SegmentFinetuningOptions, intervals: grid.Intervals, gap: int) -> Iterator[NDArray[np.int64]]:
    for draw in range(DRAWS):
        generator = np.random.default_rng((options.seed, 1, draw))
        sides = np.zeros(len(intervals), dtype=np.int64)
        for side, fraction in ((TEST, options.test_fraction), (VALIDATION, options.validation_fraction)):
            left = sides == TRAINING
            if not fraction or left.sum() < 2:
                continue
            chosen = np.zeros(len(intervals), dtype=np.bool_)
            share = fraction * len(intervals) / int(left.sum())
            chosen[left] = grid.block_split(intervals[left], min(share, 1.0), generator)
            sides[grid.near_validation(intervals, chosen, gap) & left] = -1
            sides[chosen] = side
        needed = (TRAINING, VALIDATION, TEST) if options.test_fraction else (TRAINING, VALIDATION)
        if all((sides == side).any() for side in needed):
            yield sides


def _with_room(windows: grid.Intervals, window: int) -> NDArray[np.int64]:
    """Return the places of training windows, which may move by half a window within what all of them cover."""
    places = np.zeros((len(windows), 4), dtype=np.int64)
    places[:, 0], places[:, 1] = windows.contigs, windows.starts
    for contig in np.unique(windows.contigs):
        here = np.flatnonzero(windows.contigs == contig)
        starts = windows.starts[here]
        areas = merged(np.column_stack([starts, windows.ends[here]]))
        area = areas[np.searchsorted(areas[:, 0], starts, "right") - 1]
        places[here, 2] = np.minimum(starts - area[:, 0], window // 2)
        places[here, 3] = np.minimum(area[:, 1] - windows.ends[here], window // 2)
    return places


def _fixed(windows: grid.Intervals) -> NDArray[np.int64]:
    places = np.zeros((len(windows), 4), dtype=np.int64)
    places[:, 0], places[:, 1] = windows.contigs, windows.starts
    return places
