"""Evaluate segments: called segments and probabilities are compared with an annotation, base by base and as segments."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError
from dnalm.formats.annotations import Annotation, contigs_in_common, lacking, read_annotation
from dnalm.formats.interval_lines import LARGEST_POSITION
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.reference import Reference
from dnalm.formats.regions import read_regions
from dnalm.formats.tables import Table, TableWriter
from dnalm.formats.track_reader import TracksReader
from dnalm.methods.segment_masks import Spans, clipped, mask, merged, spans_of
from dnalm.methods.segment_scores import METRICS, BlockCounts, SegmentCounts
from dnalm.methods.variant_windows import known_name
from dnalm.report.progress import Progress
from dnalm.report.provenance import versions
from dnalm.report.segment_plots import Evaluated, draw_evaluation

CHUNK = 1 << 20  # bases read at once
LEAST_BLOCK, MOST_BLOCKS = 1_000, 1_000  # bases of a block that is drawn, and blocks
WITH_INTERVALS = ("mcc", "f1", "auprc")
ENDING = re.compile(r"\.(bw|bigwig)$", re.IGNORECASE)
PACKAGES = ("numpy", "pandas", "scikit-learn", "pyBigWig")


@dataclass(frozen=True)
class EvaluationOptions:
    """What a user chooses; the names are those of `dnalm_evaluate_segments.py --help`."""

    annotation: Path
    output: Path
    calls: Path | None = None
    tracks: list[Path] | None = None
    track_names: list[str] | None = None
    features: str | None = None
    names: Path | None = None
    genome: Path | None = None
    regions: Path | None = None
    threshold: float = 0.5
    repeats: int = 1_000
    seed: int = 0
    figure: Path | None = None


def evaluate(options: EvaluationOptions) -> None:
    """Write one line a feature with its metrics, and a picture of them.

    Raises:
        UserError: there is nothing to evaluate, files are not what they are given for, or are of different genomes.
    """
    if options.calls is None and not options.tracks:
        raise UserError("There is nothing to evaluate; give called segments, tracks of probabilities, or both.")
    optional = [options.figure] if options.figure else []
    given = [options.annotation, options.calls, options.names, options.genome, options.regions]
    inputs = [path for path in (*given, *(options.tracks or [])) if path]
    with whole_or_nothing([options.output, *optional], inputs) as partials, TracksReader(_tracks(options)) as tracks:
        calls = read_annotation(options.calls) if options.calls else None
        features = _features(options, tracks, calls)
        renamed = _renamed(options, features)
        annotation = read_annotation(options.annotation, list(renamed.values()))
        if not annotation.lines:
            raise lacking(list(renamed.values()), annotation, options.annotation.name)
        lengths = _lengths(options, tracks)
        regions = _regions(options.regions, lengths) if options.regions else {}
        annotation = annotation.under_names(lengths or regions)
        places = _places(options, lengths, regions, annotation, calls)
        evaluation = _Evaluation(options, features, tracks, calls, annotation, renamed, places, lengths)
        evaluation.run()
        rows = evaluation.rows()
        with TableWriter(partials[0]) as table:
            table.append({name: [_cell(row[name]) for row in rows] for name in rows[0]})
        if options.figure:
            draw_evaluation(evaluation.pictures(rows), _facts(options), partials[1])
    for sentence in evaluation.account(rows):
        print(sentence, flush=True)


class _Evaluation:
    """What is counted of every feature."""

    def __init__(
        self,
        options: EvaluationOptions,
        features: list[str],
        tracks: TracksReader,
        calls: Annotation | None,
        annotation: Annotation,
        renamed: Mapping[str, str],
        places: dict[str, Spans],
        lengths: Mapping[str, int],
    ) -> None:
        self._lengths = lengths
        self._options, self._features, self._tracks = options, features, tracks
        self._calls, self._annotation, self._renamed, self._places = calls, annotation, renamed, places
        self._bases = sum(int((spans[:, 1] - spans[:, 0]).sum()) for spans in places.values())
        # Blocks follow each other along all contigs, so that few blocks do for many short ones.
        self._block = max(LEAST_BLOCK, -(-self._bases // MOST_BLOCKS))
        blocks = -(-self._bases // self._block)
        self._scored = set(_tracks(options))
        self._bases_of = {feature: BlockCounts(blocks, feature in self._scored) for feature in features}
        self._segments_of = {feature: SegmentCounts() for feature in features}

    def run(self) -> None:
        """Count contig by contig."""
        before = 0
        progress = Progress("bases", lambda: progress.done / max(self._bases, 1))
        for contig, spans in self._places.items():
            for feature in self._features:
                truth = clipped(self._annotation.of(contig, self._renamed[feature]), spans)
                called, known = self._bases_on(contig, feature, spans, truth, before)
                if known is not None:  # bases without data are evaluated neither way
                    truth = clipped(truth, known)
                self._segments_of[feature].add(truth, called)
            length = int((spans[:, 1] - spans[:, 0]).sum())
            before += length
            progress.add(length)

    def _bases_on(
        self, contig: str, feature: str, spans: Spans, truth: Spans, before: int
    ) -> tuple[Spans, Spans | None]:
        """Count the bases of a feature on a contig; return the called segments, and where a track has data."""
        called = None if self._calls is None else clipped(self._calls.of(contig, feature), spans)
        pieces: list[Spans] = []
        known: list[Spans] = []
        for start, end in _chunks(spans):
            inside = mask(truth, start, end)
            scores = self._tracks.values(feature, contig, start, end) if feature in self._scored else None
            has_data = np.ones(end - start, dtype=np.bool_) if scores is None else ~np.isnan(scores)
            if called is None:
                assert scores is not None
                with np.errstate(invalid="ignore"):
                    positive = scores >= np.float32(self._options.threshold)
                pieces.append(spans_of(positive, start))
            else:
                positive = mask(called, start, end)
            known.append(spans_of(has_data, start))
            blocks = (before + np.arange(end - start)) // self._block
            before += end - start
            self._bases_of[feature].add(
                blocks[has_data],
                inside[has_data],
                positive[has_data],
                None if scores is None else scores[has_data],
            )
        data = merged(np.concatenate([np.zeros((0, 2), dtype=np.int64), *known]))
        if called is None:
            called = merged(np.concatenate([np.zeros((0, 2), dtype=np.int64), *pieces]))
        return clipped(called, data), data

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a feature."""
        rows = []
        for feature in self._features:
            bases, segments = self._bases_of[feature], self._segments_of[feature]
            cells = bases.cells.sum(axis=0)
            row: dict[str, Any] = {"feature": feature, "status": self._status(feature, cells)}
            row |= {"bases": int(cells.sum()), "annotated_bases": int(cells[2:].sum())}
            row |= {"called_bases": int(cells[[1, 3]].sum()), "base_rate": _share(cells[2:].sum(), cells.sum())}
            for metric in METRICS:
                repeats = self._options.repeats if metric in WITH_INTERVALS else 0
                value, interval = bases.measured(metric, repeats, self._options.seed)
                row[metric] = value
                if metric in WITH_INTERVALS:
                    row |= {f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            row |= {"annotated_segments": segments.annotated, "called_segments": segments.called}
            rows.append(row | segments.scores())
        return rows

    def _status(self, feature: str, cells: NDArray[np.int64]) -> str:
        if not cells.sum():
            return "no data"
        if not cells[2:].sum():
            return "not annotated"
        return "ok" if cells[[1, 3]].sum() else "not called"

    def pictures(self, rows: list[dict[str, Any]]) -> list[Evaluated]:
        """Return what the picture shows of each feature."""
        found = []
        for row in rows:
            bases = self._bases_of[row["feature"]]
            curve = bases.curve() if row["feature"] in self._scored and row["status"] == "ok" else None
            metrics = {name: (row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in WITH_INTERVALS}
            found.append(Evaluated(row["feature"], row["base_rate"], metrics, curve))
        return found

    def account(self, rows: list[dict[str, Any]]) -> list[str]:
        """Return sentences about what was evaluated, and what was not."""
        sentences = [
            f"Features: {len(rows):,}; bases: {self._bases:,}; contigs: {len(self._places):,}; intervals are of "
            f"{-(-self._bases // self._block):,} blocks of {self._block:,} bases"
        ]
        left = [contig for contig in self._lengths if contig not in self._annotation.furthest]
        if left and self._options.regions is None:
            sentences.append(f"Contigs left out because the annotation has no line on them: {len(left):,}")
        if self._calls is not None:
            elsewhere = [contig for contig in self._calls.furthest if contig not in self._places]
            if segments := sum(len(spans) for contig in elsewhere for spans in self._calls.spans[contig].values()):
                sentences.append(f"Called segments on contigs where nothing is evaluated, left out: {segments:,}")
        known = self._lengths or self._places
        if unknown := [contig for contig in self._annotation.furthest if contig not in known]:
            sentences.append(f"Contigs of the annotation on which nothing is evaluated: {len(unknown):,}")
        if self._annotation.others:
            names = ", ".join(f"{name} ({count:,})" for name, count in self._annotation.others.most_common(5))
            sentences.append(f"Lines of the annotation that are no such feature: {names}")
        for row in rows:
            if row["status"] != "ok":
                sentences.append(f"{row['feature']}: {row['status']}")
            else:
                scored = (
                    "" if np.isnan(row["auprc"]) else f", AUPRC {row['auprc']:.3f} (base rate {row['base_rate']:.3f})"
                )
                sentences.append(f"{row['feature']}: MCC {row['mcc']:.3f}, F1 {row['f1']:.3f}{scored}")
        return sentences


def _tracks(options: EvaluationOptions) -> dict[str, Path]:
    """Return the tracks by feature: given names, or the files' own without their ending."""
    paths = options.tracks or []
    names = [ENDING.sub("", name) for name in options.track_names or [path.name for path in paths]]
    if len(names) != len(paths):
        raise UserError(f"There are {len(paths)} tracks and {len(names)} names of tracks; give one name a track.")
    if repeated := next((name for number, name in enumerate(names) if name in names[:number]), None):
        raise UserError(f"Two tracks are called '{repeated}'; give one a feature.")
    return dict(zip(names, paths, strict=True))


def _features(options: EvaluationOptions, tracks: TracksReader, calls: Annotation | None) -> list[str]:
    """Return the features to evaluate: those asked for, or all that there are tracks or calls of."""
    known = dict.fromkeys([*_tracks(options), *sorted(calls.lines if calls else {})])
    if options.features is None:
        return list(known)
    features = [name.strip() for name in options.features.split(",") if name.strip()]
    if not features or (unknown := [name for name in features if name not in known]):
        what = f"no {unknown[0]!r}" if features else "none of that name"
        raise UserError(f"Of the features there is {what}; choose among {', '.join(known)}.")
    if calls is None and (lost := [name for name in features if name not in _tracks(options)]):
        raise UserError(f"There is no track of '{lost[0]}'; leave it out.")
    return list(dict.fromkeys(features))


def _renamed(options: EvaluationOptions, features: list[str]) -> dict[str, str]:
    """Return what the annotation calls each feature: as a table says, else the same."""
    renamed = {feature: feature for feature in features}
    if options.names is None:
        return renamed
    for _, (feature, name, *_) in Table(options.names):
        if feature in renamed:
            renamed[feature] = name
    return renamed


def _lengths(options: EvaluationOptions, tracks: TracksReader) -> dict[str, int]:
    """Return the bases of each contig, as tracks or the genome tell; nothing without either."""
    lengths = tracks.lengths
    if options.genome is not None:
        with Reference(options.genome) as genome:
            lengths = lengths or genome.lengths
            if other := next((name for name in lengths if genome.lengths.get(name) != lengths[name]), None):
                raise UserError(
                    f"The tracks have the contig '{other}' of {lengths[other]:,} bases, the genome has not; give the genome "
                    "that was segmented."
                )
    return lengths


def _places(
    options: EvaluationOptions,
    lengths: Mapping[str, int],
    regions: dict[str, Spans],
    annotation: Annotation,
    calls: Annotation | None,
) -> dict[str, Spans]:
    """Return what is evaluated of each contig: regions, or all of those that the annotation has a line on."""
    if lengths and calls is not None:
        assert options.calls is not None
        _refuse_outside(calls, lengths, options.calls)
    if regions:
        contigs_in_common(annotation, lengths or dict.fromkeys(regions, LARGEST_POSITION), options.annotation.name)
        return regions
    if not lengths:
        raise UserError(
            "Called segments alone do not tell how long the contigs are; give the genome too, the regions that were "
            "segmented, or tracks."
        )
    shared = contigs_in_common(annotation, lengths, options.annotation.name)
    return {contig: np.array([[0, lengths[contig]]], dtype=np.int64) for contig in shared}


def _refuse_outside(calls: Annotation, lengths: Mapping[str, int], path: Path) -> None:
    for contig, end in calls.furthest.items():
        if end > lengths.get(contig, -1):
            raise UserError(
                f"The calls '{path.name}' have a segment that ends at {end:,} of '{contig}', which the tracks or the genome "
                "do not have; give calls of the same genome."
            )


def _regions(path: Path, lengths: Mapping[str, int]) -> dict[str, Spans]:
    spans: dict[str, list[tuple[int, int]]] = {}
    for region in read_regions(path):
        contig = known_name(region.contig, lengths) or region.contig
        if lengths and not (region.circular or region.end) <= lengths.get(contig, -1):
            raise UserError(
                f"Line {region.line} of '{path.name}' is no part of the tracks' or the genome's contigs; give regions of "
                "the same genome."
            )
        spans.setdefault(contig, []).extend(region.parts)
    return {contig: merged(found) for contig, found in spans.items()}


def _chunks(spans: Spans) -> Iterator[tuple[int, int]]:
    for first, last in spans.tolist():
        for start in range(first, last, CHUNK):
            yield start, min(start + CHUNK, last)


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return str(value)


def _facts(options: EvaluationOptions) -> dict[str, Any]:
    """Return what was run, without paths."""
    chosen = {name: value for name, value in asdict(options).items() if isinstance(value, str | int | float)}
    return {"tool": "dnalm_evaluate_segments", "options": chosen, "versions": versions(PACKAGES)}
