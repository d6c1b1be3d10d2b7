"""What a user chooses of a segmentation, and what it means for sequences and model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnalm.errors import UserError
from dnalm.formats.call_settings import checked, read_call_settings
from dnalm.formats.contigs import Contigs
from dnalm.formats.probabilities_file import OWN_NAMES
from dnalm.formats.regions import check_region, read_regions
from dnalm.formats.segment_files import SegmentFormat
from dnalm.methods.segment_windows import Grid, merged, step_of
from dnalm.methods.segments import Calling
from dnalm.methods.stitching import Stitch
from dnalm.methods.variant_windows import known_name
from dnalm.models.segmenter import Segmenter
from dnalm.tasks.segmentation_results import Target

LONGEST_FIGURE = 10_000_000  # bases


@dataclass(frozen=True)
class SegmentationOptions:
    """What a user chooses; the names are those of `dnalm_segment.py --help`."""

    model: Path
    sequences: Path | None = None
    genome: Path | None = None
    regions: Path | None = None
    features: str | None = None
    window: int | None = None
    window_overlap: float = 0.1
    stitch: Stitch = "center"
    both_strands: bool = False
    dtype: str = "float32"
    threshold: float = 0.5
    low_threshold: float | None = None
    min_length: int = 1
    merge_gap: int = 0
    call_settings: Path | None = None
    tracks: Path | None = None
    decimals: int = 2
    calls: Path | None = None
    calls_format: SegmentFormat = "bed"
    summary: Path | None = None
    figure: Path | None = None
    figure_region: str | None = None
    figure_format: str = "png"
    probabilities: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None
    processes: int | None = None


def refuse_contradictions(options: SegmentationOptions) -> None:
    """Refuse choices that contradict each other."""
    if (options.sequences is None) == (options.genome is None) or (options.genome is None) != (options.regions is None):
        raise UserError("Give either sequences, or a genome together with regions.")
    if not any((options.tracks, options.calls, options.summary, options.figure, options.probabilities)):
        raise UserError("No output is asked for; choose tracks, calls, a summary, a figure or probabilities.")
    if options.figure_region and not options.figure:
        raise UserError("A region for a figure is given, but no figure is asked for; choose a file for the figure.")


def genome_of(options: SegmentationOptions) -> Path:
    """Return the file that holds the contigs."""
    path = options.sequences or options.genome
    assert path is not None
    return path


def targets_of(options: SegmentationOptions, contigs: Contigs) -> dict[str, list[Target]]:
    """Return what is wanted of each contig, in their order: all of it, or the regions, those that meet as one."""
    if options.regions is None:
        targets = {name: [Target(name, contig, 0, contig.length)] for name, contig in contigs.items()}
    else:
        regions: dict[str, list[tuple[int, int]]] = {}
        for region in read_regions(options.regions):
            name = known_name(region.contig, contigs)
            check_region(region, contigs[name].length if name else None, options.regions, contigs.path.name, contigs)
            regions.setdefault(name or region.contig, []).extend(region.parts)
        targets = {
            name: [
                Target(f"{name}:{start}-{end}", contigs[name], start, end)
                for start, end in merged(regions[name]).tolist()
            ]
            for name in contigs
            if name in regions
        }
    if options.probabilities and (taken := [name for name in OWN_NAMES if name in targets]):
        raise UserError(
            f"A contig is called '{taken[0]}', which is what an array of the probabilities is called; rename the contig."
        )
    return targets


def features_of(options: SegmentationOptions, segmenter: Segmenter) -> list[str]:
    """Return the features wanted, in the model's order."""
    if options.features is None:
        return list(segmenter.features)
    chosen = [name.strip() for name in options.features.split(",") if name.strip()]
    if not chosen:
        raise UserError("No feature is named; name some, separated by commas, or leave the choice out for all.")
    for name in chosen:
        if name not in segmenter.features:
            raise UserError(
                f"The model '{segmenter.stored.name}' predicts no feature '{name}'; it has {', '.join(segmenter.features)}."
            )
    return [name for name in segmenter.features if name in chosen]


def callings_of(options: SegmentationOptions, segmenter: Segmenter, features: Sequence[str]) -> dict[str, Calling]:
    """Return how the segments of each feature are called."""
    low = options.threshold if options.low_threshold is None else options.low_threshold
    usual = checked(Calling(options.threshold, low, options.min_length, options.merge_gap), "The calls")
    callings = dict.fromkeys(features, usual)
    if options.call_settings:
        return read_call_settings(options.call_settings, callings, segmenter.features)
    return callings


def grid_of(options: SegmentationOptions, segmenter: Segmenter) -> Grid:
    """Return the rules of the grid; a window is whole steps of the model.

    Raises:
        UserError: the model cannot read such windows.
    """
    rules = segmenter.window
    asked = rules.default if options.window is None else options.window
    window = asked // rules.multiple * rules.multiple
    if not rules.least <= window <= rules.most:
        bounds = f"{rules.least:,}" if rules.least == rules.most else f"{rules.least:,} to {rules.most:,}"
        raise UserError(
            f"The model '{segmenter.stored.name}' reads {bounds} bases at once, not {asked:,}; choose another window."
        )
    if window < asked:
        print(f"Windows of {window:,} bases: the model reads multiples of {rules.multiple}", flush=True)
    first, past = rules.output(window)
    step = step_of(past - first, options.window_overlap, rules.granularity)
    return Grid(window, step, (first, past), rules.multiple, rules.least, rules.granularity, segmenter.takes_n)


def named_region(text: str, targets: dict[str, list[Target]]) -> tuple[str, int, int]:
    """Return the contig, the first base (0-based) and the past-the-end base of a region such as chr1:1,001-2,000."""
    found = re.fullmatch(r"(.+):([0-9,]+)-([0-9,]+)", text.strip())
    said, first, last = found.groups() if found else (text.strip(), "", "")
    contig = known_name(said, targets)
    if contig is None:
        raise UserError(
            f"The region '{text}' of the figure lies on no contig of the input that is read; name one as contig:first-last, "
            f"for example {next(iter(targets))}:1-1,000."
        )
    end = targets[contig][0].contig.length
    start = 0
    if found:
        start, end = int(first.replace(",", "") or 0) - 1, min(end, int(last.replace(",", "") or 0))
    if not 0 <= start < end:
        raise UserError(f"The region '{text}' of the figure has no base of the contig; its first base is 1.")
    if end - start > LONGEST_FIGURE:
        raise UserError(f"The region '{text}' of the figure has {end - start:,} bases; use at most {LONGEST_FIGURE:,}.")
    return contig, start, end


def choices(options: SegmentationOptions, grid: Grid) -> dict[str, Any]:
    """Return the options that decide over the numbers; paths and the machine's are none of these."""
    decisive = ("features", "window_overlap", "stitch", "both_strands", "dtype", "threshold", "low_threshold")
    chosen = {name: getattr(options, name) for name in (*decisive, "min_length", "merge_gap", "decimals")}
    return chosen | {"window": grid.window}
