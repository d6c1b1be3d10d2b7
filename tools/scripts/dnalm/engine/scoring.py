"""Score variants with a language model: what several variants have in common is computed once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.devices import DTYPES, Machine
from dnalm.engine.generation import dna_words
from dnalm.engine.inference import Piece, move, run_pieces
from dnalm.engine.likelihoods import TokenLikelihoods
from dnalm.engine.variant_tokens import (
    Site,
    TokenizedSites,
    aligned_tokens,
    substituted_token,
    token_over,
)
from dnalm.errors import UserError
from dnalm.methods import scores
from dnalm.methods.pooling import Pooling, reduce_states
from dnalm.methods.scores import SCORES
from dnalm.methods.variant_windows import Allele, Status, VariantWindows
from dnalm.models.language_model import LanguageModel
from dnalm.models.tokenizers import LETTERS, Ids

COMPARED = 64  # variants on which the deviation of a lower precision is measured
# What is held for a buffer of variants: distributions of sites, or vectors of windows.
BUFFER_VARIANTS, BUFFER_NUMBERS = 2_048, 1 << 22
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class ScoreChoices:
    """What is scored, and how; the names are those of `dnalm_score_variants.py --help`."""

    scores: tuple[str, ...]
    representation: Literal["hidden", "logits"] = "hidden"
    layer: int = -1
    pooling: Pooling = "max"
    both_strands: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a variant: score → value, NaN where it has none.

    `strands` is the absolute difference of both strands' values where both were read, else empty.
    """

    values: dict[str, float]
    strands: dict[str, float]
    status: Status

    @property
    def has_a_score(self) -> bool:
        """Whether there is any value."""
        return not all(map(math.isnan, self.values.values()))


class VariantScorer:
    """A language model with the scores that are asked of it."""

    def __init__(self, model: LanguageModel, choices: ScoreChoices, machine: Machine) -> None:
        self._model, self._choices, self._machine = model, choices, machine
        self._layer = model.layer_number(choices.layer)
        self._needs = list(dict.fromkeys(SCORES[score].needs for score in choices.scores))
        self._check()
        self._likelihoods = TokenLikelihoods(model, machine)
        needs_words = {"llr_masked_base", "entropy"} & set(choices.scores)
        self._words = dna_words(model) if needs_words else {}
        self._with_bases: dict[tuple[int, int, str], NDArray[np.int64]] = {}
        self._dtype: torch.dtype | None = None

    def _check(self) -> None:
        """Refuse scores that the kind of model does not give."""
        name = self._model.stored.name
        reads = "reads left to right" if self._model.causal else "fills masks"
        for score in self._choices.scores:
            models = SCORES[score].models
            if models != "all" and (models == "causal") != self._model.causal:
                others = "llr_causal" if self._model.causal else "llr_masked or pll"
                raise UserError(
                    f"The score {score} is for models that {'read left to right' if models == 'causal' else 'fill masks'}, "
                    f"and the model '{name}' {reads}; choose {others}, or a distance such as l2."
                )
        if {"masked site", "every token masked"} & set(self._needs):
            mask = self._model.tokenizer.mask_id
            if mask is None or mask >= self._model.vocabulary_size:
                raise UserError(f"The tokenizer of the model '{name}' has no mask; choose a distance such as l2.")

    @property
    def description(self) -> str:
        """Architecture, sizes, and what is taken of it."""
        model, context, choices = self._model, self._model.context_length, self._choices
        said = (
            f"{model.stored.name}, {model.architecture}, {len(model.layers)} layers, "
            f"context {f'{context:,}' if context else 'unlimited'} tokens; {', '.join(choices.scores)}"
        )
        return f"{said}; {self.taken}" if "vectors" in self._needs else said

    @property
    def taken(self) -> str:
        """What distances are measured between."""
        choices = self._choices
        kind = "logits" if choices.representation == "logits" else f"hidden states after layer {self._layer}"
        return f"{choices.pooling} of {kind}"

    @property
    def buffer_variants(self) -> int:
        """How many variants are best given at once: many share what they need, and memory is bounded."""
        return max(64, min(BUFFER_VARIANTS, BUFFER_NUMBERS // max(self._model.vocabulary_size, 1)))

    def facts(self) -> dict[str, Any]:
        """Return what identifies the model."""
        stored = self._model.stored
        facts: dict[str, Any] = {"name": stored.name, "sha256": stored.sha256(), "licence": stored.licence}
        if "vectors" in self._needs and self._choices.representation == "hidden":
            facts["layer"] = self._layer
        return facts | {key: stored.provenance[key] for key in ("revision",) if key in stored.provenance}

    def change_precision(self, dtype: str, sites: Sequence[Site]) -> str:
        """Change to a lower precision; return what it changes in the scores of the first variants, in words."""
        sites = sites[:COMPARED]
        exact = self.score(sites)
        self._dtype = None
        self._move(DTYPES[dtype])
        lower = self.score(sites)
        said = []
        for score in self._choices.scores:
            both = np.array([[one.values[score] for one in found] for found in (exact, lower)])
            both = both[:, ~np.isnan(both).any(axis=0)]
            spread = both.std(axis=1) if both.shape[1] else np.zeros(2)
            if both.shape[1] > 2 and spread.min() > 0:
                said.append(f"{score} r = {np.corrcoef(both)[0, 1]:.4f}")
        return ", ".join(said) or "too few to compare"

    def _move(self, dtype: torch.dtype) -> None:
        """Bring the model to the device, unless it is there."""
        if self._dtype is None:
            move(self._model, self._machine, dtype)
            self._dtype = dtype

    def score(self, sites: Sequence[Site], on_done: Callable[[int], None] = lambda count: None) -> list[Scored]:
        """Return the scores of each variant, in order; equal windows and equal masked sites are computed once.

        Args:
            sites: variants with windows that can be scored.
            on_done: told how many variants are, by the share of the work that is done.
        """
        if not sites:
            return []
        self._move(torch.float32)
        strands = [*sites, *(site.reverse_complement() for site in sites)] if self._choices.both_strands else sites
        buffer = TokenizedSites(self._model, strands)
        work = _Work(len(sites), len(self._needs), on_done)
        values: Values = {score: np.full(len(strands), np.nan) for score in self._choices.scores}
        steps: dict[str, Callable[[TokenizedSites, Values, _Work], None]] = {
            "masked site": self._masked_sites,
            "wild type": self._wild_types,
            "every token masked": self._every_token_masked,
            "left to right": self._left_to_right,
            "distributions": self._distributions,
            "vectors": self._vectors,
        }
        for need in self._needs:
            steps[need](buffer, values, work)
            work.next_step()
        statuses = [self._status(buffer, values, number) for number in range(len(strands))]
        return [self._joined(values, statuses, number, len(sites)) for number in range(len(sites))]

    def _joined(self, values: Values, statuses: list[Status], number: int, count: int) -> Scored:
        """Return a variant's scores: of both strands the mean, and how far apart they are."""
        forward = {score: float(found[number]) for score, found in values.items()}
        if not self._choices.both_strands:
            return Scored(forward, {}, statuses[number])
        reverse = {score: float(found[number + count]) for score, found in values.items()}
        mean = {score: 0.5 * (forward[score] + reverse[score]) for score in values}
        apart = {score: abs(forward[score] - reverse[score]) for score in values}
        complaint = max(statuses[number], statuses[number + count], key=lambda status: status != Status.OK)
        return Scored(mean, apart, complaint)

    def _status(self, buffer: TokenizedSites, values: Values, number: int) -> Status:
        """Say why a variant lacks a score."""
        if not buffer.readable[number]:
            return Status.TOO_MANY_TOKENS
        lacking = {SCORES[score].needs for score, found in values.items() if np.isnan(found[number])}
        if lacking & {"masked site", "wild type"}:
            return Status.TOKENIZATION_DIFFERS
        return Status.NO_ALIGNED_TOKENS if lacking else Status.OK

    def _masked_sites(self, buffer: TokenizedSites, values: Values, work: "_Work") -> None:
        """Mask the token under each variant; alleles of one site see the same."""
        rows: dict[bytes, int] = {}
        ids: list[Ids] = []
        sites: list[NDArray[np.int64]] = []
        asked: list[tuple[int, int, int, bool]] = []
        for number in buffer.scorable():
            windows = buffer.sites[number].windows
            reference = buffer.encoding(windows.reference)
            substituted = substituted_token(windows, reference, buffer.encoding(windows.alternative))
            token = token_over(reference, windows.reference) if substituted is None else substituted
            masked = reference.ids.copy()
            masked[token] = self._model.tokenizer.mask_id or 0
            row = rows.setdefault(masked.tobytes(), len(rows))
            if row == len(ids):
                ids.append(masked)
                sites.append(np.array([token]))
            asked.append((number, row, token, substituted is not None))
        found = self._likelihoods.distributions(ids, sites, work.of(len(ids)))
        for number, row, token, substituted_alone in asked:
            windows, distribution = buffer.sites[number].windows, found[row][0]
            if "llr_masked" in values and substituted_alone:
                tokens = [int(buffer.encoding(x).ids[token]) for x in (windows.reference, windows.alternative)]
                values["llr_masked"][number] = scores.llr_masked(distribution, *tokens)
            encoding = buffer.encoding(windows.reference)
            start, end = int(encoding.starts[token]), int(encoding.ends[token])
            site = min(windows.reference.site, len(windows.reference.bases) - 1)
            if "entropy" in values:
                letters = [self._words_with(end - start, site - start, letter) for letter in LETTERS]
                values["entropy"][number] = scores.entropy(distribution, letters)
            if "llr_masked_base" in values and substituted_alone:
                changed = slice(site, site + windows.reference.length)
                alleles = windows.reference.bases[changed], windows.alternative.bases[changed]
                words = [self._words_with(end - start, site - start, bases) for bases in alleles]
                values["llr_masked_base"][number] = scores.llr_masked_base(distribution, *words)

    def _words_with(self, length: int, offset: int, bases: str) -> NDArray[np.int64]:
        """Return the ids of the words of a length that have some bases at an offset."""
        key = (length, offset, bases)
        if key not in self._with_bases:
            alike = [
                token
                for token, word in self._words.items()
                if len(word) == length and word[offset : offset + len(bases)] == bases
            ]
            self._with_bases[key] = np.array(alike, dtype=np.int64)
        return self._with_bases[key]

    def _wild_types(self, buffer: TokenizedSites, values: Values, work: "_Work") -> None:
        """Read each window of the grid once, for all variants in it."""
        asked: dict[str, list[tuple[int, int, int]]] = {}
        for number in buffer.scorable():
            windows = buffer.sites[number].shared
            assert windows is not None
            alternative = buffer.encoding(windows.alternative)
            token = substituted_token(windows, buffer.encoding(windows.reference), alternative)
            if token is not None:
                asked.setdefault(windows.reference.bases, []).append((number, token, int(alternative.ids[token])))
        rows = [buffer.encodings[bases].ids for bases in asked]
        sites = [np.unique([token for _, token, _ in found]) for found in asked.values()]
        distributions = self._likelihoods.distributions(rows, sites, work.of(len(rows)))
        for ids, found, tokens, of_window in zip(rows, asked.values(), sites, distributions, strict=True):
            for number, token, alternative_id in found:
                distribution = of_window[int(np.searchsorted(tokens, token))]
                values["llr_wildtype"][number] = scores.llr_wildtype(distribution, int(ids[token]), alternative_id)

    def _every_token_masked(self, buffer: TokenizedSites, values: Values, work: "_Work") -> None:
        """Mask every token of every window once."""
        windows = buffer.windows()
        found = dict(zip(windows, self._likelihoods.pseudo(list(windows.values()), work.of(len(windows))), strict=True))
        for number in buffer.scorable():
            both = buffer.sites[number].windows
            values["pll"][number] = scores.pll(found[both.reference.bases], found[both.alternative.bases])

    def _left_to_right(self, buffer: TokenizedSites, values: Values, work: "_Work") -> None:
        """Read the windows of a site together: what they begin with is read once, and cancels in the difference."""
        windows, groups = buffer.windows(), buffer.groups(buffer.scorable())
        rows = [
            [windows[bases], *(windows[both.alternative.bases] for both in pairs)] for bases, pairs in groups.items()
        ]
        found = self._likelihoods.left_to_right(rows, work.of(len(rows)))
        for of_group, (bases, pairs) in zip(found, groups.items(), strict=True):
            for of_alternative, numbers in zip(of_group[1:], pairs.values(), strict=True):
                both = of_group[0], of_alternative
                if "llr_causal" in values:
                    values["llr_causal"][numbers] = scores.llr_causal(*both)
                if "llr_causal_per_base" in values:
                    values["llr_causal_per_base"][numbers] = scores.llr_causal_per_base(*both, len(bases))

    def _distributions(self, buffer: TokenizedSites, values: Values, work: "_Work") -> None:
        """Compare the distributions that the windows of a site have at the tokens that they share."""
        aligned: dict[VariantWindows, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        numbers_of: list[int] = []
        for number in buffer.scorable():
            both = buffer.sites[number].windows
            encodings = buffer.encoding(both.reference), buffer.encoding(both.alternative)
            tokens = aligned_tokens(both, *encodings, left=not self._model.causal)
            if len(tokens[0]):
                aligned[both] = tokens
                numbers_of.append(number)
        windows, groups = buffer.windows(), buffer.groups(numbers_of)
        rows = [
            [windows[bases], *(windows[both.alternative.bases] for both in pairs)] for bases, pairs in groups.items()
        ]
        of_groups = [[aligned[both] for both in pairs] for pairs in groups.values()]
        found = self._likelihoods.divergences(rows, of_groups, work.of(len(rows)))
        for of_group, pairs in zip(found, groups.values(), strict=True):
            for value, numbers in zip(of_group[:, 0], pairs.values(), strict=True):
                values["jsd"][numbers] = value

    def _vectors(self, buffer: TokenizedSites, values: Values, work: "_Work") -> None:
        """Pool the tokens of every window that cover bases, and measure distances."""
        pooling = self._choices.pooling
        keys: dict[tuple[str, int], int] = {}
        ends = []
        for number in buffer.scorable():
            both = buffer.sites[number].windows
            ends.append([number, *(self._key(allele, keys) for allele in (both.reference, both.alternative))])
        if not ends:
            return
        asked = list(keys)

        def piece(index: int) -> Piece:
            bases, token = asked[index]
            encoding = buffer.encodings[bases]
            weights = (~encoding.special).astype(np.float32)
            if pooling == "center":
                weights[:] = 0
                weights[token_over(encoding, Allele(bases, token, 0))] = 1
            return Piece(encoding.ids, weights / weights.sum() if pooling == "mean" else weights)

        def reduce(states: Tensor, weights: Tensor) -> list[Tensor]:
            return reduce_states(pooling, states, weights)

        lengths = [len(buffer.encodings[bases]) for bases, _ in asked]
        count = work.of(len(asked))
        found = run_pieces(
            lengths, piece, self._states, reduce, self._model.pad_id, self._machine, lambda done: count(len(done))
        )
        vectors = np.stack(found)
        numbers, of_reference, of_alternative = np.array(ends).T
        for score, function in scores.DISTANCES.items():
            if score in values:
                values[score][numbers] = function(vectors[of_reference], vectors[of_alternative])

    def _key(self, allele: Allele, keys: dict[tuple[str, int], int]) -> int:
        """Return the number of a window; the site matters where its token alone is taken."""
        key = allele.bases, allele.site if self._choices.pooling == "center" else 0
        return keys.setdefault(key, len(keys))

    def _states(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        if self._choices.representation == "logits":
            return self._model.logits(input_ids, attention_mask)
        return self._model.hidden_states(input_ids, attention_mask, [self._layer])[0]


class _Work:
    """Tells how many variants are done by the share of the work that is, whatever its kind."""

    def __init__(self, variants: int, steps: int, on_done: Callable[[int], None]) -> None:
        self._variants, self._steps, self._on_done = variants, steps, on_done
        self._step = self._told = 0

    def of(self, pieces: int) -> Callable[[int], None]:
        """Return what counts the pieces of a step."""
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            self._tell((self._step + done / pieces) / self._steps)

        return count

    def next_step(self) -> None:
        """Say that a step is over."""
        self._step += 1
        self._tell(self._step / self._steps)

    def _tell(self, share: float) -> None:
        finished = min(int(share * self._variants + 1e-9), self._variants)
        self._on_done(finished - self._told)
        self._told = finished
