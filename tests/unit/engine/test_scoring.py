"""Variant scores, compared with their definitions computed one forward pass after the other."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from dnalm.engine import scoring
from dnalm.engine.devices import Machine
from dnalm.engine.likelihoods import TokenLikelihoods
from dnalm.engine.scoring import ScoreChoices, Scored, VariantScorer
from dnalm.engine.variant_tokens import Site
from dnalm.errors import UserError
from dnalm.methods.strands import reverse_complement
from dnalm.methods.variant_windows import Status
from dnalm.models.language_model import LanguageModel
from slow_scores import SlowScores
from tiny_variants import CLASSES, GENOME, KINDS, other_letters, site, snv

MACHINE = Machine(torch.device("cpu"), 1, 1_024)
MASKED = ("llr_masked", "llr_masked_base", "llr_wildtype", "pll", "entropy", "jsd")
CAUSAL = ("llr_causal", "llr_causal_per_base", "jsd")
DISTANCES = ("l2", "l1", "cosine", "dot")
EVERY_MODEL = [(reads, kind) for reads in CLASSES for kind in KINDS]
TOLERANCE = 1e-5

Make = Callable[[str, str], LanguageModel]


# Place, REF, ALT: all six offsets of a 6-mer, both ends of the contig, two letters at one base, indels.
OFFSETS = range(6, 12)  # near the start, where the window does not move with the variant: each is at another offset
CHANGES = {
    **{f"SNV at {at}": (at, GENOME[at], other_letters(GENOME[at])) for at in (*OFFSETS, 100)},
    "another letter": (100, GENOME[100], other_letters(GENOME[100], 2)),
    "first base": (0, GENOME[0], other_letters(GENOME[0])),
    "last base": (399, GENOME[399], other_letters(GENOME[399])),
    "two bases": (150, GENOME[150:152], other_letters(GENOME[150:152])),
    "deletion": (200, GENOME[200:204], GENOME[200]),
    "insertion": (210, GENOME[210], GENOME[210] + "ACCTGA"),
    "insertion at the end": (399, GENOME[399], GENOME[399] + "ACG"),
    "deletion at the start": (0, GENOME[:3], GENOME[2]),
}
VARIANTS = {name: site(*change) for name, change in CHANGES.items()}
# N beside a variant and in a stretch; a repeat of which letters go, once so that the last letter of the window alone
# is another.
GAPS = GENOME[:90] + "N" * 12 + GENOME[102:150] + "N" + GENOME[151:200] + "T" * 20 + "G" + GENOME[221:]
WITH_N = [site(at, GAPS[at], other_letters(GAPS[at]), GAPS) for at in (84, 102, 149, 160)]
WITH_N += [site(203, "TTT", "T", GAPS), site(203, "TT", "T", GAPS), site(145, GAPS[145:148], GAPS[145], GAPS)]


def score(
    model: LanguageModel, sites: list[Site], *scores: str, machine: Machine = MACHINE, **choices: Any
) -> list[Scored]:
    return VariantScorer(model, ScoreChoices(scores, **choices), machine).score(sites)


def column(found: list[Scored], name: str) -> np.ndarray:
    return np.array([one.values[name] for one in found])


def assert_close(found: np.ndarray, expected: np.ndarray | list[float]) -> None:
    scale = max(1.0, float(np.nanmax(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale)  # NaN equals NaN


def test_variants_lie_at_every_offset_of_a_6mer(tiny_model: Make) -> None:
    found = set()
    for at in OFFSETS:
        reference = VARIANTS[f"SNV at {at}"].windows.reference
        (encoding,) = tiny_model("masked", "6-mers").encode([reference.bases])
        (token,) = np.flatnonzero((encoding.starts <= reference.site) & (reference.site < encoding.ends))
        assert encoding.ends[token] - encoding.starts[token] == 6
        found.add(reference.site - int(encoding.starts[token]))
    assert found == set(range(6))


@pytest.mark.slow
@pytest.mark.parametrize(("reads", "kind"), EVERY_MODEL)
def test_every_score_is_its_definition(tiny_model: Make, reads: str, kind: str) -> None:
    tiny = tiny_model(reads, kind)
    slow = SlowScores(tiny)
    sites = [*VARIANTS.values(), *WITH_N]
    chosen = MASKED if reads == "masked" else CAUSAL
    found = score(tiny, sites, *chosen)
    for name in chosen:
        assert_close(column(found, name), [slow.score(name, one) for one in sites])
    assert {one.status for one in found} <= {Status.OK, Status.TOKENIZATION_DIFFERS, Status.NO_ALIGNED_TOKENS}
    for one in found:
        assert (one.status == Status.OK) == (not any(map(math.isnan, one.values.values())))


@pytest.mark.slow
def test_kmers_give_every_snv_a_masked_score_and_byte_pairs_do_not(tiny_model: Make) -> None:
    sites = [snv(position) for position in range(100, 160)]
    for kind in KINDS[:3]:
        assert not np.isnan(column(score(tiny_model("masked", kind), sites, "llr_masked"), "llr_masked")).any()
    found = score(tiny_model("masked", "byte pairs"), sites, "llr_masked", "pll")
    lacking = np.isnan(column(found, "llr_masked"))
    assert 0 < lacking.sum() < len(sites)
    assert [one.status == Status.TOKENIZATION_DIFFERS for one in found] == lacking.tolist()
    assert not np.isnan(column(found, "pll")).any()


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["max", "mean", "center"])
@pytest.mark.parametrize(("representation", "layer"), [("hidden", -1), ("hidden", 1), ("logits", -1)])
@pytest.mark.parametrize(("reads", "kind"), EVERY_MODEL)
def test_distances_are_those_of_tokens_pooled_by_hand(
    tiny_model: Make, reads: str, kind: str, representation: str, layer: int, pooling: str
) -> None:
    tiny = tiny_model(reads, kind)
    sites = list(VARIANTS.values())
    vectors = []
    for allele in (allele for one in sites for allele in (one.windows.reference, one.windows.alternative)):
        (encoding,) = tiny.encode([allele.bases])
        ids = torch.from_numpy(encoding.ids)[None]
        with torch.inference_mode():
            output = tiny.with_head(input_ids=ids, output_hidden_states=True)  # type: ignore[misc]
        states = (output.logits if representation == "logits" else output.hidden_states[layer])[0]
        covering = ~encoding.special
        if pooling == "center":
            base = min(allele.site, len(allele.bases) - 1)
            covering = (encoding.starts <= base) & (base < encoding.ends)
        states = states[torch.from_numpy(covering)].double()
        vectors.append((states.max(0).values if pooling == "max" else states.mean(0)).numpy())
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    expected = {
        "l2": [math.dist(a, b) for a, b in pairs],
        "l1": [np.abs(a - b).sum() for a, b in pairs],
        "dot": [a @ b for a, b in pairs],
        "cosine": [1 - a @ b / math.sqrt(a @ a) / math.sqrt(b @ b) for a, b in pairs],
    }
    found = score(tiny, sites, *DISTANCES, representation=representation, layer=layer, pooling=pooling)
    for name in DISTANCES:
        assert_close(column(found, name), expected[name])


@pytest.mark.slow
@pytest.mark.parametrize(("reads", "kind"), EVERY_MODEL)
def test_a_score_does_not_depend_on_batch_order_or_neighbours(tiny_model: Make, reads: str, kind: str) -> None:
    tiny = tiny_model(reads, kind)
    chosen = (*(MASKED if reads == "masked" else CAUSAL), "l2")
    sites = [*VARIANTS.values(), *WITH_N]
    together = score(tiny, sites, *chosen)
    one_batch = score(tiny, sites[::-1], *chosen, machine=replace(MACHINE, batch_tokens=10**6))[::-1]
    alone = [score(tiny, [one], *chosen, machine=replace(MACHINE, batch_tokens=1))[0] for one in sites]
    for name in chosen:
        assert_close(column(one_batch, name), column(together, name))
        assert_close(column(alone, name), column(together, name))
    assert [one.status for one in together] == [one.status for one in alone]


@pytest.mark.slow
@pytest.mark.parametrize(("reads", "kind"), EVERY_MODEL)
def test_swapping_the_alleles_and_the_genome_turns_the_sign(tiny_model: Make, reads: str, kind: str) -> None:
    swapped = []
    for position, reference, alternative in CHANGES.values():
        genome = GENOME[:position] + alternative + GENOME[position + len(reference) :]
        swapped.append(site(position, alternative, reference, genome))
    for name in ("llr_masked", "pll") if reads == "masked" else ("llr_causal",):
        forward, backward = (score(tiny_model(reads, kind), sites, name) for sites in ([*VARIANTS.values()], swapped))
        assert_close(column(backward, name), -column(forward, name))


@pytest.mark.slow
@pytest.mark.parametrize(("reads", "kind"), EVERY_MODEL)
def test_both_strands_are_the_same_from_either_side(tiny_model: Make, reads: str, kind: str) -> None:
    """For SNVs in the middle of odd windows, at all offsets of a 6-mer, with the genome's other strand as the genome."""
    turned = reverse_complement(GENOME)
    places = [(at, context) for at in (100, 101) for context in range(25, 37, 2)]
    sites = [site(at, GENOME[at], other_letters(GENOME[at]), context=context) for at, context in places]
    others = [
        site(399 - at, turned[399 - at], reverse_complement(other_letters(GENOME[at])), turned, context)
        for at, context in places
    ]
    chosen = [
        name for name in (MASKED if reads == "masked" else CAUSAL) if name != "llr_wildtype"
    ]  # the grid is another
    forward, backward = (
        score(tiny_model(reads, kind), one, *chosen, "l2", both_strands=True) for one in (sites, others)
    )
    for name in (*chosen, "l2"):
        assert_close(column(backward, name), column(forward, name))
        apart = [np.array([one.strands[name] for one in found]) for found in (forward, backward)]
        assert_close(apart[1], apart[0])


def test_both_strands_are_mean_and_difference_of_each(tiny_model: Make) -> None:
    tiny, sites = tiny_model("masked", "3-mers"), [snv(position) for position in range(100, 106)]
    both = score(tiny, sites, "llr_masked", both_strands=True)
    forward, reverse = (
        column(score(tiny, strand, "llr_masked"), "llr_masked")
        for strand in (sites, [one.reverse_complement() for one in sites])
    )
    assert_close(column(both, "llr_masked"), (forward + reverse) / 2)
    assert_close(np.array([one.strands["llr_masked"] for one in both]), np.abs(forward - reverse))


def test_what_variants_share_is_read_once(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """All changes of 31 bases: a masked site a base; of the wild type windows of the grid; a causal group a base."""
    rows: list[int] = []
    usual = TokenLikelihoods.distributions

    def counting(self: TokenLikelihoods, ids: list[Any], *others: Any) -> Any:
        rows.append(len(ids))
        return usual(self, ids, *others)

    monkeypatch.setattr(TokenLikelihoods, "distributions", counting)
    sites = [snv(position, shift) for position in range(100, 131) for shift in (1, 2, 3)]
    score(tiny_model("masked", "letters"), sites, "llr_masked", "entropy", "llr_wildtype")
    assert rows == [31, 3]
    pieces: list[int] = []
    usual_run = scoring.run_pieces

    def counting_pieces(lengths: list[int], *others: Any) -> Any:
        pieces.append(len(lengths))
        return usual_run(lengths, *others)

    monkeypatch.setattr(scoring, "run_pieces", counting_pieces)
    score(tiny_model("masked", "letters"), [*sites, *sites], "l2")
    assert pieces == [31 + 93]


def test_a_window_of_too_many_tokens_is_told_apart(tiny_model: Make) -> None:
    long = site(200, GENOME[200], other_letters(GENOME[200]), context=100)
    short = snv(100)
    found = score(tiny_model("masked", "letters"), [short, long, short], "llr_masked")
    assert [one.status for one in found] == [Status.OK, Status.TOO_MANY_TOKENS, Status.OK]
    assert math.isnan(found[1].values["llr_masked"])


@pytest.mark.parametrize(
    ("reads", "name", "sentence"),
    [
        ("causal", "llr_masked", "The score llr_masked is for models that fill masks"),
        ("causal", "entropy", "choose llr_causal, or a distance such as l2."),
        ("masked", "llr_causal", "The score llr_causal is for models that read left to right"),
    ],
)
def test_a_score_of_another_kind_of_model_is_refused(tiny_model: Make, reads: str, name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        score(tiny_model(reads, "letters"), [snv(100)], name)


def test_bfloat16_is_near_and_says_how_near(tiny_model: Make) -> None:
    sites = [snv(position) for position in range(100, 140)]
    scorer = VariantScorer(tiny_model("masked", "6-mers"), ScoreChoices(("llr_masked", "l2")), MACHINE)
    exact = scorer.score(sites)
    try:
        said = scorer.change_precision("bfloat16", sites)
        lower = scorer.score(sites)
    finally:
        tiny_model("masked", "6-mers").to(torch.device("cpu"), torch.float32)
    for name in ("llr_masked", "l2"):
        r = np.corrcoef(column(exact, name), column(lower, name))[0, 1]
        assert 0.9 < r < 1
        assert f"{name} r = {r:.4f}" in said


@pytest.mark.slow
def test_progress_counts_each_variant_once(tiny_model: Make) -> None:
    told: list[int] = []
    scorer = VariantScorer(tiny_model("masked", "letters"), ScoreChoices(MASKED), replace(MACHINE, batch_tokens=64))
    scorer.score(list(VARIANTS.values()), told.append)
    assert sum(told) == len(VARIANTS)
    assert sum(count > 0 for count in told) > 5
    assert min(told) >= 0
