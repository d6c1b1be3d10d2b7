"""Score variants: lay windows around each allele, let the model read them, and say of every allele what came out."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from dnalm.engine.devices import Machine, prepare_machine
from dnalm.engine.processes import Work, crew
from dnalm.engine.scoring import COMPARED, ScoreChoices, Scored, VariantScorer
from dnalm.engine.variant_tokens import Site, changes_one_token, most_context, usual_context
from dnalm.errors import UserError
from dnalm.formats.bedgraph import BasewiseTrack
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.tables import TableWriter
from dnalm.methods.scores import SCORES
from dnalm.methods.variant_windows import MEANINGS, Status
from dnalm.models.language_model import LanguageModel, NoLanguageModelHead
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.report.progress import Progress
from dnalm.report.provenance import provenance
from dnalm.report.variant_plots import Point, VariantFigure
from dnalm.tasks.variant_inputs import (
    Entry,
    PairVariants,
    SaturationVariants,
    Variant,
    VariantInput,
    VcfVariants,
    Windowing,
)
from dnalm.tasks.variant_options import COMPRESSED, VariantOptions
from dnalm.tasks.variant_outputs import VariantVcf, rows

BUFFER_LETTERS = 32_000_000  # of records that wait to be written: those of many samples are long
MANY_MISMATCHES = 0.1  # share of REFs that are not the genome's, above which it may be another genome


@dataclass(frozen=True)
class _Part:
    """What is scored at once, and the first of all variants, on which the deviation of a lower precision is measured."""

    sites: list[Site]
    compared: list[Site]


def score_variants(options: VariantOptions) -> None:
    """Write a row for every alternative allele in the order of the input, and say on stdout what was done.

    Raises:
        UserError: variants, model or options cannot be used, or no allele could be scored.
    """
    options.check()
    machine = prepare_machine(options.device, options.threads, options.batch_tokens, processes=options.processes)
    print(f"Device: {machine.description}; {options.dtype}", flush=True)
    written = {
        name: getattr(options, name)
        for name in ("output_table", "output_vcf", "figure", "track")
        if getattr(options, name) is not None
    }
    inputs = [getattr(options, name) for name in INPUTS if getattr(options, name) is not None]
    with ExitStack() as stack:
        partials = dict(
            zip(written, stack.enter_context(whole_or_nothing(list(written.values()), inputs)), strict=True)
        )
        source = _open(options)
        stack.callback(source.close)
        model, choices = _model_and_scores(options)
        if options.batch_tokens is None:
            machine = machine.suiting(model.hidden_size, options.dtype)
        scorer = VariantScorer(model, choices, machine)
        windowing = _windowing(options, model, choices)
        print(f"Model: {scorer.description}", flush=True)
        print(f"Windows: {f'{windowing.context:,} bases' if windowing.context else 'pairs whole'}", flush=True)
        chosen = {**_decisive(options), "scores": list(choices.scores), "context": windowing.context}
        facts = provenance("dnalm_score_variants", chosen, scorer.facts(), machine.device.type, {})
        table = stack.enter_context(TableWriter(partials["output_table"]))
        vcf = None
        if "output_vcf" in partials:
            assert isinstance(source, VcfVariants)
            annotated = VariantVcf(partials["output_vcf"], source.reader, choices, scorer.taken, facts)
            vcf = stack.enter_context(annotated)
        track = BasewiseTrack(source.intervals) if isinstance(source, SaturationVariants) else None
        figure = VariantFigure(choices.scores, isinstance(source, SaturationVariants))
        progress = Progress("variants", lambda: source.fraction_read)
        counts: Counter[str] = Counter()
        make = partial(_scoring, options, choices, scorer if machine.processes == 1 else None)
        parts = _parts(source.entries(windowing), _most_at_once(scorer, machine), options.dtype != "float32")
        for buffer, (found, said) in stack.enter_context(crew(make, machine)).results(parts, progress.add):
            if said and not counts["precision"]:
                print(f"Precision: with float32, on the first variants, {said}", flush=True)
                counts["precision"] = 1
            variants = [variant for entry in buffer for variant in entry.variants]
            scored = _with_statuses(variants, found, choices)
            table.append(rows(variants, scored, choices))
            if vcf:
                vcf.append(buffer, scored)
            if track:
                _fill(track, buffer, scored, choices.scores[0])
            for variant, one in zip(variants, scored, strict=True):
                figure.add(_point(variant, one))
            _count(counts, buffer, scored)
        _refuse_nothing(counts, choices)
        if track and "track" in partials:
            assert isinstance(source, SaturationVariants)
            track.write(partials["track"], source.contigs)
        if "figure" in partials:
            figure.draw(partials["figure"], facts["model"]["name"], facts)
        _report(counts, source, facts, vcf is not None and vcf.finish(written["output_vcf"].suffix in COMPRESSED))


INPUTS = ("variants", "reference", "regions", "reference_sequences", "alternative_sequences", "saturation", "model")
SCORABLE = (Status.OK, Status.LENGTHS_DIFFER)


def _open(options: VariantOptions) -> VariantInput:
    if options.reference_sequences and options.alternative_sequences:
        return PairVariants(options.reference_sequences, options.alternative_sequences)
    assert options.reference
    if options.saturation:
        return SaturationVariants(options.saturation, options.reference)
    assert options.variants
    return VcfVariants(options.variants, options.reference, options.regions, options.on_ref_mismatch == "fail")


def _model_and_scores(options: VariantOptions) -> tuple[LanguageModel, ScoreChoices]:
    """Load the model, with its head where a score asks for it, and settle what is scored."""
    stored = open_model(options.model)
    if options.preset == "custom":
        names = tuple(dict.fromkeys(options.scores or ()))
        distances = [name for name in names if SCORES[name].needs == "vectors"]
        head = len(distances) < len(names) or options.representation == "logits"
        choices = ScoreChoices(names, options.representation, options.layer, options.pooling, options.both_strands)
        return load_language_model(stored, head=head), choices
    if options.preset == "gtn-tutorial":
        return load_language_model(stored, head=True), ScoreChoices(("l2",), "logits", -1, "max", options.both_strands)
    try:
        model = load_language_model(stored, head=True)
    except NoLanguageModelHead:
        model = load_language_model(stored)
    score, why = recommended_score(model)
    print(f"Score: {score}, since the model {why}", flush=True)
    return model, ScoreChoices((score,), both_strands=options.both_strands)


def recommended_score(model: LanguageModel) -> tuple[str, str]:
    """Return the score that suits a kind of model, and why."""
    if model.with_head is None:
        return "l2", "has no language-model head: the distance of hidden states, which says how much but not which way"
    if model.causal:
        return "llr_causal", "reads left to right"
    if changes_one_token(model):
        return "llr_masked", "fills masks, and a changed letter changes one of its tokens"
    return "pll", "fills masks, and a changed letter may change several of its tokens (byte pairs)"


def _windowing(options: VariantOptions, model: LanguageModel, choices: ScoreChoices) -> Windowing:
    """Settle the bases of a window.

    Raises:
        UserError: the model cannot read as many.
    """
    wanted = options.context
    if wanted is None and not options.reference_sequences:
        wanted = usual_context(model)
    most = most_context(model)
    if options.context is not None and most is not None and options.context > most and changes_one_token(model):
        raise UserError(
            f"A window of {options.context:,} bases has more tokens than the {model.context_length:,} that the model "
            f"'{model.stored.name}' reads; use a context of at most {most:,} bases."
        )
    return Windowing(wanted, any(SCORES[name].needs == "wild type" for name in choices.scores))


def _decisive(options: VariantOptions) -> dict[str, object]:
    """Return the options that decide over the numbers."""
    names = ("preset", "representation", "layer", "pooling", "both_strands", "on_ref_mismatch", "dtype")
    return {name: getattr(options, name) for name in names}


def _buffers(entries: Iterator[Entry], most: int) -> Iterator[list[Entry]]:
    """Yield entries until they have so many variants, or letters that wait to be written."""
    buffer: list[Entry] = []
    variants = letters = 0
    for entry in entries:
        buffer.append(entry)
        variants += len(entry.variants)
        letters += entry.size
        if variants >= most or letters >= BUFFER_LETTERS:
            yield buffer
            buffer, variants, letters = [], 0, 0
    if buffer:
        yield buffer


def _most_at_once(scorer: VariantScorer, machine: Machine) -> int:
    """Return how many variants are scored together: where there are several processes, so few that they end together."""
    most = scorer.buffer_variants
    return most if machine.processes == 1 else min(most, max(COMPARED, machine.batch_tokens // 4))


def _parts(entries: Iterator[Entry], most: int, compares: bool) -> Iterator[tuple[list[Entry], _Part]]:
    """Yield entries with about so many variants, and what of them is to be scored."""
    compared: list[Site] = []
    for buffer in _buffers(entries, most):
        variants = [variant for entry in buffer for variant in entry.variants]
        sites = [variant.site for variant in variants if variant.site and variant.status in SCORABLE]
        compared = compared or (sites[:COMPARED] if compares else [])
        yield buffer, _Part(sites, compared)


def _scoring(
    options: VariantOptions, choices: ScoreChoices, scorer: VariantScorer | None, machine: Machine
) -> tuple[Work[_Part, tuple[list[Scored], str]], Callable[[], None]]:
    """Return how variants are scored, with what a lower precision changes, by the scorer of this process or a new one."""
    if scorer is None:
        with_head = choices.representation == "logits" or any(
            SCORES[name].needs != "vectors" for name in choices.scores
        )
        scorer = VariantScorer(load_language_model(open_model(options.model), head=with_head), choices, machine)
    said = ""

    def score(part: _Part, on_done: Callable[[int], None]) -> tuple[list[Scored], str]:
        nonlocal said
        if part.compared and not said:
            said = scorer.change_precision(options.dtype, part.compared)
        return scorer.score(part.sites, on_done), said

    return score, lambda: None


def _with_statuses(variants: Sequence[Variant], found: list[Scored], choices: ScoreChoices) -> list[Scored]:
    """Return one result a variant: those that were not scored have none, those scored with a reserve say it."""
    results = iter(found)
    nothing = dict.fromkeys(choices.scores, float("nan"))
    apart = nothing if choices.both_strands else {}
    scored = []
    for variant in variants:
        if variant.site is None or variant.status not in SCORABLE:
            scored.append(Scored(nothing, apart, variant.status))
            continue
        one = next(results)
        scored.append(Scored(one.values, one.strands, variant.status if one.status == Status.OK else one.status))
    return scored


def _fill(track: BasewiseTrack, buffer: Sequence[Entry], scored: Sequence[Scored], score: str) -> None:
    """Give each base the mean of its alternatives' scores."""
    results = iter(scored)
    for entry in buffer:
        values = [next(results).values[score] for _ in entry.variants]
        given = [value for value in values if not math.isnan(value)]
        if given:
            track.set(entry.variants[0].contig, entry.variants[0].position, sum(given) / len(given))


def _point(variant: Variant, one: Scored) -> Point:
    told = (variant.contig, variant.position + 1, variant.id, variant.reference, variant.alternative)
    return Point(*told, one.values, one.strands)


def _count(counts: Counter[str], buffer: Sequence[Entry], scored: Sequence[Scored]) -> None:
    counts["entries"] += len(buffer)
    counts["alleles"] += len(scored)
    for one in scored:
        counts[one.status] += 1
        counts["scored"] += one.has_a_score


def _refuse_nothing(counts: Counter[str], choices: ScoreChoices) -> None:
    """Raise UserError if no allele has a score: an empty result is no success."""
    if counts["scored"]:
        return
    reasons = sorted((status for status in Status if counts[status]), key=lambda status: -counts[status])
    told = "; ".join(f"{counts[status]:,} {MEANINGS[status]}" for status in reasons[:3])
    raise UserError(
        f"None of the {counts['alleles']:,} alternative alleles has a score ({told}); see to the first of these."
    )


def _report(counts: Counter[str], source: VariantInput, facts: Mapping[str, Any], plain: bool) -> None:
    """Say what went in and what came out, a VCF as plain text too; the statuses add up to the alternative alleles."""
    kinds = {VcfVariants: "records", PairVariants: "pairs", SaturationVariants: "bases"}
    kind = kinds[cast(type, type(source))]
    print(
        f"Variants: {counts['entries']:,} {kind}, {counts['alleles']:,} alternative alleles, {counts['scored']:,} scored"
    )
    for status in Status:
        if counts[status]:
            print(f"  {status}: {counts[status]:,} ({MEANINGS[status]})")
    if counts[Status.REF_MISMATCH] > MANY_MISMATCHES * counts["alleles"]:
        print("Warning: many REF are not what the genome has; is it the genome that the variants were called on?")
    if isinstance(source, VcfVariants):
        if source.reader.filled:
            print(f"records that end before INFO, filled with dots: {source.reader.filled:,}")
        if source.reader.header_made:
            print("the VCF has no line of column names; one was made")
        if not source.reader.in_order:
            print("Warning: the VCF is not sorted; its order is kept, and tabix will index it only once it is sorted.")
    if isinstance(source, PairVariants):
        for kind, meaning in MENDED.items():
            if source.mended[kind]:
                print(f"{meaning}: {source.mended[kind]:,}")
    if plain:
        print("The annotated VCF is plain text: as it is, tabix cannot index it.")
    print(f"Model SHA-256: {facts['model']['sha256']}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))


MENDED = {
    "lower_case": "lower-case letters read as upper case",
    "ambiguous": "IUPAC letters read as N",
    "uracil": "letters U read as T",
}
