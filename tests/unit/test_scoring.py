"""Every score against a slow, obvious re-computation of its definition, for every kind of tokenizer."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import SIZES
from dnalm.engine.devices import Machine
from dnalm.engine.scoring import ScoreChoices, Scored, VariantScorer
from dnalm.engine.variant_tokens import Site, changes_one_token, most_context, usual_context
from dnalm.errors import UserError
from dnalm.methods.scores import SCORES
from dnalm.methods.strands import reverse_complement
from dnalm.methods.variant_windows import Status, shared_windows, trimmed, variant_windows
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.models.vocabularies import all_kmers, learn_byte_pairs

GENERATOR = np.random.default_rng(5)
GENOME = "".join(GENERATOR.choice(list("ACGT"), 400))
CONTEXT = 31
MACHINE = Machine(torch.device("cpu"), 1, 1_024)
MASKED = ("llr_masked", "llr_masked_base", "llr_wildtype", "pll", "entropy", "jsd")
CAUSAL = ("llr_causal", "llr_causal_per_base", "jsd")
DISTANCES = ("l2", "l1", "cosine", "dot")
KINDS = ["letters", "3-mers", "6-mers", "byte pairs"]
CLASSES = {"masked": "EsmForMaskedLM", "causal": "LlamaForCausalLM", "window": "Gemma2ForCausalLM"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LanguageModel]:
    """Return a function that makes a tiny random model with a kind of tokenizer."""
    made: dict[tuple[str, str], LanguageModel] = {}

    def make(reads: str, kind: str) -> LanguageModel:
        if (reads, kind) not in made:
            words = (
                learn_byte_pairs([GENOME], 48) if kind == "byte pairs" else all_kmers({"l": 1, "3": 3, "6": 6}[kind[0]])
            )
            special = {"pad_token_id": words.token_to_id("[PAD]"), "mask_token_id": words.token_to_id("[MASK]")}
            sizes = SIZES | special | {"vocab_size": words.get_vocab_size(), "num_hidden_layers": 2}
            if reads == "masked":
                sizes |= {"position_embedding_type": "rotary"}
            if reads == "window":
                sizes |= {"head_dim": 8, "sliding_window": 8, "num_key_value_heads": 2}
            model_class = getattr(transformers, CLASSES[reads])
            torch.manual_seed(2)
            folder = tmp_path_factory.mktemp("model")
            model_class(model_class.config_class(**sizes)).save_pretrained(folder)
            words.save(str(folder / "tokenizer.json"))
            (folder / "tokenizer_config.json").write_text(json.dumps({"mask_token": "[MASK]", "pad_token": "[PAD]"}))
            made[reads, kind] = load_language_model(open_model(Path(folder)), head=True)
        return made[reads, kind]

    return make


def site(position: int, reference: str, alternative: str, context: int | None = CONTEXT, genome: str = GENOME) -> Site:
    offset, reference, alternative = trimmed(reference, alternative)
    where = (lambda start, end: genome[start:end]), len(genome), position + offset, reference, alternative, context
    return Site(variant_windows(*where), shared_windows(*where))


def snv(position: int, shift: int = 1) -> Site:
    letter = GENOME[position]
    return site(position, letter, "ACGT"[("ACGT".index(letter) + shift) % 4])


# All six offsets of a 6-mer, both ends of the contig, other letters at one site, a substitution of two, indels.
VARIANTS = {
    **{f"SNV at {position}": snv(position) for position in range(100, 106)},
    "another letter": snv(100, 2),
    "first base": snv(0),
    "last base": snv(399),
    "two bases": site(150, GENOME[150:152], "".join("ACGT"[3 - "ACGT".index(x)] for x in GENOME[150:152])),
    "deletion": site(200, GENOME[200:204], GENOME[200]),
    "insertion": site(210, GENOME[210], GENOME[210] + "ACCTGA"),
    "insertion at the end": site(399, GENOME[399], GENOME[399] + "ACG"),
    "deletion at the start": site(0, GENOME[:3], GENOME[2]),
}


def scored(
    model: LanguageModel, sites: list[Site], *scores: str, machine: Machine = MACHINE, **choices: object
) -> list[Scored]:
    return VariantScorer(model, ScoreChoices(scores, **choices), machine).score(sites)  # type: ignore[arg-type]


def log_probabilities(model: LanguageModel, ids: list[int]) -> np.ndarray:
    with torch.inference_mode():
        logits = model.with_head(input_ids=torch.tensor([ids])).logits[0]  # type: ignore[misc]
    return logits.double().log_softmax(-1).numpy()


def tokens(model: LanguageModel, bases: str) -> list[tuple[int, str, int, int]]:
    """Each token's id, letters, first and past-the-end base."""
    (encoding,) = model.encode([bases])
    rows = zip(encoding.ids.tolist(), encoding.starts.tolist(), encoding.ends.tolist(), strict=True)
    return [(number, bases[start:end], start, end) for number, start, end in rows]


def slow(model: LanguageModel, score: str, both: Site) -> float:
    """Return a score of one variant by its definition, one forward after the other."""
    pair = both.shared if score == "llr_wildtype" else both.windows
    assert pair is not None
    of_reference, of_alternative = tokens(model, pair.reference.bases), tokens(model, pair.alternative.bases)
    ids, other_ids = [token[0] for token in of_reference], [token[0] for token in of_alternative]
    mask = model.tokenizer.mask_id
    assert mask is not None
    words = {number: word for word, number in vocabulary(model).items()}
    differing = [n for n, (a, b) in enumerate(zip(of_reference, of_alternative, strict=False)) if a != b]
    one = (
        len(differing) == 1
        and pair.reference.length == pair.alternative.length
        and [t[2:] for t in of_reference] == [t[2:] for t in of_alternative]
    )
    if score in ("llr_masked", "llr_wildtype"):
        if not one:
            return math.nan
        (token,) = differing
        seen = [*ids[:token], mask, *ids[token + 1 :]] if score == "llr_masked" else ids
        row = log_probabilities(model, seen)[token]
        return row[other_ids[token]] - row[ids[token]]
    if score in ("llr_masked_base", "entropy"):
        base = min(pair.reference.site, len(pair.reference.bases) - 1)
        (token,) = [n for n, (_, _, start, end) in enumerate(of_reference) if start <= base < end]
        _, word, start, _ = of_reference[token]
        row = np.exp(log_probabilities(model, [*ids[:token], mask, *ids[token + 1 :]])[token])
        like = [
            (number, other) for number, other in words.items() if len(other) == len(word) and set(other) <= set("ACGT")
        ]
        if score == "entropy":
            shares = np.array([sum(row[n] for n, other in like if other[base - start] == letter) for letter in "ACGT"])
            shares = shares[shares > 0] / shares.sum()
            return float(-(shares * np.log2(shares)).sum())
        if not one:
            return math.nan
        sums = []
        for allele in (pair.reference, pair.alternative):
            changed = allele.bases[base : base + allele.length]
            sums.append(sum(row[n] for n, other in like if other[base - start :].startswith(changed)))
        return math.log(sums[1]) - math.log(sums[0])
    if score == "pll":
        total = 0.0
        for sign, found in ((-1, of_reference), (1, of_alternative)):
            for number, (token, word, _, _) in enumerate(found):
                if word and "N" not in word:
                    seen = [t[0] for t in found]
                    seen[number] = mask
                    total += sign * log_probabilities(model, seen)[number, token]
        return total
    if score.startswith("llr_causal"):
        total = 0.0
        for sign, found in ((-1, of_reference), (1, of_alternative)):
            rows = log_probabilities(model, [t[0] for t in found])
            for number, (token, word, _, _) in enumerate(found):
                if word and "N" not in word:
                    total += sign * (rows[number - 1, token] if number else -len(word) * math.log(4))
        return total / len(pair.reference.bases) if score.endswith("per_base") else total
    assert score == "jsd"
    rows, other_rows = log_probabilities(model, ids), log_probabilities(model, other_ids)
    found_divergences = []
    for n, m in itertools.product(range(len(ids)), range(len(other_ids))):
        (a, word, start, end), (b, other, first, last) = of_reference[n], of_alternative[m]
        behind = pair.reference.site + pair.reference.length, pair.alternative.site + pair.alternative.length
        right = start >= behind[0] and first >= behind[1] and start - behind[0] == first - behind[1]
        left = end <= pair.reference.site and last <= pair.alternative.site
        left = left and start - pair.reference.site == first - pair.alternative.site and not model.causal
        if a == b and word == other and word and "N" not in word and (right or left):
            shift = 1 if model.causal else 0
            p, q = np.exp(rows[n - shift]), np.exp(other_rows[m - shift])
            middle = (p + q) / 2
            found_divergences.append(0.5 * (p * np.log2(p / middle)).sum() + 0.5 * (q * np.log2(q / middle)).sum())
    return float(np.mean(found_divergences)) if found_divergences else math.nan


def vocabulary(model: LanguageModel) -> dict[str, int]:
    return {word: number for number, word in model.tokenizer.words().items()}


def check(found: list[Scored], expected: list[float], score: str) -> None:
    values = [one.values[score] for one in found]
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 * max(1.0, np.nanmax(np.abs(expected))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reads", ["masked", "causal", "window"])
def test_every_score_is_its_definition(model: Callable[..., LanguageModel], reads: str, kind: str) -> None:
    tiny = model(reads, kind)
    sites = list(VARIANTS.values())
    chosen = MASKED if reads == "masked" else CAUSAL
    found = scored(tiny, sites, *chosen)
    for score in chosen:
        check(found, [slow(tiny, score, one) for one in sites], score)
    complaints = {one.status for one in found}
    assert complaints <= {Status.OK, Status.TOKENIZATION_DIFFERS, Status.NO_ALIGNED_TOKENS}
    for one in found:
        assert (one.status == Status.OK) == (not any(map(math.isnan, one.values.values())))
