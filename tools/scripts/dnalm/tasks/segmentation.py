"""Segment sequences: lay the grid of windows, run the model, stitch, call segments, write as it comes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnalm.engine.devices import DTYPES, Machine, prepare_machine
from dnalm.engine.processes import Work, crew
from dnalm.engine.segmentation import Probabilities, Read, WindowRunner, run_buffers
from dnalm.errors import UserError
from dnalm.formats.contigs import Contigs
from dnalm.formats.outputs import whole_folder_or_nothing, whole_or_nothing
from dnalm.formats.probabilities_file import ProbabilitiesWriter
from dnalm.formats.segment_files import SegmentWriter
from dnalm.formats.tables import TableWriter
from dnalm.formats.tracks import TracksWriter
from dnalm.methods.segment_windows import Grid, Intervals, SegmentWindow, common, inside
from dnalm.methods.segments import Calling
from dnalm.methods.stitching import STITCHES, Stitch, reach
from dnalm.models.registry import load_segmenter
from dnalm.models.segmenter import Segmenter
from dnalm.models.sources import open_model
from dnalm.report.progress import Progress
from dnalm.report.provenance import provenance
from dnalm.report.segment_plot import RegionPicture, feature_colors
from dnalm.tasks.segmentation_options import (
    SegmentationOptions,
    callings_of,
    choices,
    features_of,
    genome_of,
    grid_of,
    named_region,
    refuse_contradictions,
    targets_of,
)
from dnalm.tasks.segmentation_results import Results, Target

USUAL_FIGURE = 50_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window's probabilities belong."""

    contig: str
    window: SegmentWindow


def segment(options: SegmentationOptions) -> None:
    """Write what a segmenter says of every base, and say on stdout what was done.

    Raises:
        UserError: sequences, regions, model or options cannot be used, or no base gets a probability.
    """
    refuse_contradictions(options)
    machine = prepare_machine(options.device, options.threads, options.batch_tokens, processes=options.processes)
    print(f"Device: {machine.description}; {options.dtype}", flush=True)
    files = [path for path in (options.calls, options.summary, options.figure, options.probabilities) if path]
    given = (options.sequences, options.genome, options.regions, options.model, options.call_settings)
    inputs = [path for path in given if path]
    with ExitStack() as stack:
        partials: dict[Path, Path] = {}
        if options.tracks:
            partials[options.tracks] = stack.enter_context(whole_folder_or_nothing(options.tracks, inputs, files))
        partials |= zip(files, stack.enter_context(whole_or_nothing(files, inputs)), strict=True)
        contigs = Contigs(genome_of(options))
        targets = targets_of(options, contigs)
        segmenter = load_segmenter(open_model(options.model))
        features = features_of(options, segmenter)
        callings = callings_of(options, segmenter, features)
        grid = grid_of(options, segmenter)
        print(_described(segmenter, features, grid), flush=True)
        wanted = {name: _wanted(grid, own) for name, own in targets.items()}
        first = next(_reads(contigs, wanted, grid, options.stitch), None) if options.dtype != "float32" else None
        columns = [segmenter.features.index(feature) for feature in features]
        make = partial(_reading, options, columns, first, segmenter if machine.processes == 1 else None)
        readers = stack.enter_context(crew(make, machine))
        if first:
            print(f"Precision: probabilities differ from float32's by at most {readers.told:.4f} in the first window")
        picture = _picture(options, targets, wanted, callings)
        results = stack.enter_context(_results(options, partials, contigs, callings, picture, machine))
        progress = Progress("bases", _fraction(results, wanted))
        read = run_buffers(_reads(contigs, wanted, grid, options.stitch), machine, readers.results)
        _stitch(read, targets, wanted, options.stitch, results, progress)
        _refuse_nothing(results, grid)
        facts = provenance(
            "dnalm_segment", choices(options, grid), _facts(segmenter), machine.device.type, dict(results.counts)
        )
        results.finish(facts)
        if options.figure and picture:
            picture.draw(partials[options.figure], segmenter.stored.name, options.figure_format, facts)
        _report(results, callings, contigs, grid, facts)


def _wanted(grid: Grid, targets: list[Target]) -> Intervals:
    """Return the stretches of a contig in which probabilities are wanted and can be had."""
    contig = targets[0].contig
    stretches = grid.stretches(contig.length, contig.n_runs.astype(np.int64))
    asked = np.array([(target.start, target.end) for target in targets], dtype=np.int64)
    return stretches if targets[0].is_whole else common(stretches, asked)


def _reads(contigs: Contigs, wanted: dict[str, Intervals], grid: Grid, stitch: Stitch) -> Iterator[Read[Place]]:
    """Yield the windows of the grid that add to what is wanted, with their bases."""
    for contig, letters in contigs.letters():
        parts = wanted.get(contig.name)
        if parts is None or not len(parts):
            continue
        for window in grid.windows(contig.length, contig.n_runs.astype(np.int64)):
            if next(inside(*reach(window, stitch), parts), None):
                yield Read(Place(contig.name, window), letters.fetch(window.start, window.end))


def _stitch(
    read: Iterator[tuple[Place, Probabilities]],
    targets: dict[str, list[Target]],
    wanted: dict[str, Intervals],
    stitch: Stitch,
    results: Results,
    progress: Progress,
) -> None:
    """Hand the probabilities of every base that is wanted to the results, target by target."""
    by_contig = groupby(read, key=lambda item: item[0].contig)
    name, windows = next(by_contig, (None, None))
    for contig, own in targets.items():
        counts = [0] * len(own)
        pieces: Iterator[tuple[int, Probabilities]] = iter(())
        if name == contig and windows is not None:
            counted = _counted(windows, own, counts, stitch)
            pieces = _cut(STITCHES[stitch](counted), wanted[contig])
        piece = next(pieces, None)
        for number, target in enumerate(own):
            results.begin(target)
            while piece is not None and piece[0] < target.end:
                results.add(*piece)
                progress.add(len(piece[1]))
                piece = next(pieces, None)
            results.end(counts[number])
        if name == contig:
            name, windows = next(by_contig, (None, None))


def _counted(
    windows: Iterator[tuple[Place, Probabilities]], targets: list[Target], counts: list[int], stitch: Stitch
) -> Iterator[tuple[SegmentWindow, Probabilities]]:
    """Yield windows with what they say of their contig, and count those of each target."""
    ends = np.array([target.end for target in targets])
    for place, probabilities in windows:
        start, end = reach(place.window, stitch)
        for number in range(int(np.searchsorted(ends, start, side="right")), len(targets)):
            if targets[number].start >= end:
                break
            counts[number] += 1
        yield place.window, probabilities[: place.window.last - place.window.first]


def _cut(stretches: Iterator[tuple[int, Probabilities]], wanted: Intervals) -> Iterator[tuple[int, Probabilities]]:
    """Yield what is wanted of stretches."""
    for start, probabilities in stretches:
        for first, last in inside(start, start + len(probabilities), wanted):
            yield first, probabilities[first - start : last - start]


def _reading(
    options: SegmentationOptions,
    features: list[int],
    first: Read[Place] | None,
    segmenter: Segmenter | None,
    machine: Machine,
) -> tuple[Work[list[str], list[Probabilities]], Callable[[], float]]:
    """Return how windows are read, and by how much a lower precision changes the first.

    Args:
        options: name the model.
        features: numbers of the features wanted.
        first: the first window, where the precision is lower.
        segmenter: that of this process; another process loads its own.
        machine: of the process.
    """
    segmenter = segmenter or load_segmenter(open_model(options.model))
    segmenter.to(machine.device, torch.float32)
    runner = WindowRunner(segmenter, features, options.both_strands, machine)
    deviation = _lower_precision(segmenter, runner, options, first) if first else 0.0
    return lambda windows, on_done: runner.read(windows), lambda: deviation


def _lower_precision(
    segmenter: Segmenter, runner: WindowRunner, options: SegmentationOptions, first: Read[Place]
) -> float:
    """Change the model's numbers; return by how much probabilities of the first window change at most."""
    (exact,) = runner.read([first.bases])
    segmenter.to(segmenter.device, DTYPES[options.dtype])
    (near,) = runner.read([first.bases])
    return float(np.abs(exact - near).max())


def _results(
    options: SegmentationOptions,
    partials: dict[Path, Path],
    contigs: Contigs,
    callings: dict[str, Calling],
    picture: RegionPicture | None,
    machine: Machine,
) -> Results:
    """Open what is asked for."""
    features = list(callings)
    lengths = {contig.name: contig.length for contig in contigs.values()}
    tracks = calls = summary = probabilities = None
    if options.tracks:
        tracks = TracksWriter(partials[options.tracks], features, lengths, options.decimals, machine.threads)
    if options.calls:
        colors = feature_colors(len(features))
        calls = SegmentWriter(partials[options.calls], features, colors, options.calls_format)
    if options.summary:
        summary = TableWriter(partials[options.summary])
    if options.probabilities:
        probabilities = ProbabilitiesWriter(partials[options.probabilities], features)
    return Results(callings, tracks, calls, summary, picture, probabilities)


def _picture(
    options: SegmentationOptions,
    targets: dict[str, list[Target]],
    wanted: dict[str, Intervals],
    callings: dict[str, Calling],
) -> RegionPicture | None:
    """Return the empty picture of the region asked for, or of the first bases that have probabilities."""
    if not options.figure:
        return None
    thresholds = [calling.threshold for calling in callings.values()]
    if options.figure_region:
        contig, start, end = named_region(options.figure_region, targets)
        return RegionPicture(contig, start, end, list(callings), thresholds)
    for contig, parts in wanted.items():
        for start, _ in parts.tolist():
            target = next(target for target in targets[contig] if target.end > start)
            end = min(start + USUAL_FIGURE, target.end)
            return RegionPicture(contig, start, end, list(callings), thresholds)
    return None


def _fraction(results: Results, wanted: dict[str, Intervals]) -> Callable[[], float]:
    bases = max(1, sum(int((parts[:, 1] - parts[:, 0]).sum()) for parts in wanted.values()))
    return lambda: results.counts["bases_with_data"] / bases


def _refuse_nothing(results: Results, grid: Grid) -> None:
    """Refuse results without a single probability."""
    if not results.counts["bases_with_data"]:
        if grid.takes_n:
            raise UserError("No base gets a probability: the sequences are N alone; use sequences with bases.")
        raise UserError(
            f"No base gets a probability: the model reads at least {grid.least:,} bases without N, and none of the "
            f"{results.counts['targets']:,} sequences has so many in a row; use longer sequences."
        )


def _described(segmenter: Segmenter, features: Sequence[str], grid: Grid) -> str:
    parameters = sum(parameter.numel() for parameter in segmenter.network.parameters())
    of = "" if len(features) == len(segmenter.features) else f" of {len(segmenter.features)}"
    return (
        f"Model: {segmenter.stored.name} ({segmenter.architecture}, {parameters / 1e6:.1f} million parameters), "
        f"{len(features)}{of} features; windows of {grid.window:,} bases every {grid.step:,}"
    )


def _facts(segmenter: Segmenter) -> dict[str, Any]:
    """Return what identifies the model."""
    stored = segmenter.stored
    facts = {"name": stored.name, "sha256": stored.sha256(), "licence": stored.licence}
    return facts | ({"revision": stored.provenance["revision"]} if "revision" in stored.provenance else {})


MEANINGS = {
    "gaps_targets": "sequences with bases that have no probability (N, or too few between N)",
    "all_n_targets": "sequences of N alone, without data",
    "too_short_targets": "sequences too short for the model, without data",
}


def _report(
    results: Results, callings: dict[str, Calling], contigs: Contigs, grid: Grid, facts: dict[str, Any]
) -> None:
    """Say what went in, what came out, and what was run."""
    counts = results.counts
    print(f"Segmented {counts['targets']:,} sequences of {counts['bases']:,} bases in all", end="")
    print(f", {counts['bases_with_data']:,} of them with probabilities, in {counts['windows']:,} windows")
    for kind, meaning in MEANINGS.items():
        if counts[kind]:
            print(f"{meaning}: {counts[kind]:,}")
    for kind, meaning in (
        ("lower_case", "lower-case letters read as upper case"),
        ("ambiguous", "IUPAC letters read as N"),
        ("uracil", "letters U read as T"),
    ):
        if found := sum(getattr(contig, kind) for contig in contigs.values()):
            print(f"{meaning}: {found:,}")
    for feature, number, bases in zip(callings, results.segments, results.segment_bases, strict=True):
        share = bases / counts["bases_with_data"]
        print(f"{feature}: {number:,} segments of {bases:,} bases in all, {share:.2%} of the bases")
    print(f"Model SHA-256: {facts['model']['sha256']}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
