"""The definitions of the variant scores, one forward after the other, nothing shared: what the fast ones must equal."""

import itertools
import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from dnalm.engine.variant_tokens import Site
from dnalm.methods.variant_windows import Allele, VariantWindows
from dnalm.models.language_model import LanguageModel


class Token(NamedTuple):
    """A token's id, its letters, its first and past-the-end base."""

    id: int
    word: str
    start: int
    end: int


class SlowScores:
    """The scores of single variants by a model with its head."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._words = model.tokenizer.words()
        self._mask = model.tokenizer.mask_id
        self._distributions = cache(self._forward)

    def score(self, name: str, site: Site) -> float:
        """Return a score by its name; NaN where it is not defined."""
        windows = site.shared if name == "llr_wildtype" else site.windows
        assert windows is not None
        return float(getattr(self, f"_{name}")(windows))

    def _llr_masked(self, windows: VariantWindows) -> float:
        return self._ratio(windows, masked=True)

    def _llr_wildtype(self, windows: VariantWindows) -> float:
        return self._ratio(windows, masked=False)

    def _ratio(self, windows: VariantWindows, *, masked: bool) -> float:
        number = self._substituted(windows)
        if number is None:
            return math.nan
        reference, alternative = self._tokens(windows.reference), self._tokens(windows.alternative)
        row = self._masked(reference, number) if masked else self._distributions(_ids(reference))[number]
        return row[alternative[number].id] - row[reference[number].id]

    def _llr_masked_base(self, windows: VariantWindows) -> float:
        number = self._substituted(windows)
        if number is None:
            return math.nan
        sums = [self._share(windows.reference, number, _changed(x)) for x in (windows.reference, windows.alternative)]
        return math.log(sums[1]) - math.log(sums[0])

    def _entropy(self, windows: VariantWindows) -> float:
        allele = windows.reference
        base = min(allele.site, len(allele.bases) - 1)
        (number,) = [n for n, token in enumerate(self._tokens(allele)) if token.start <= base < token.end]
        shares = np.array([self._share(allele, number, letter) for letter in "ACGT"])
        shares = shares[shares > 0] / shares.sum()
        return -(shares * np.log2(shares)).sum()

    def _pll(self, windows: VariantWindows) -> float:
        sums = []
        for allele in (windows.reference, windows.alternative):
            tokens = self._tokens(allele)
            counted = [n for n, token in enumerate(tokens) if token.word and "N" not in token.word]
            sums.append(sum(self._masked(tokens, n)[tokens[n].id] for n in counted))
        return sums[1] - sums[0]

    def _llr_causal(self, windows: VariantWindows) -> float:
        sums = []
        for allele in (windows.reference, windows.alternative):
            tokens = self._tokens(allele)
            rows = self._distributions(_ids(tokens))
            counted = [n for n, token in enumerate(tokens) if token.word and "N" not in token.word]
            of_tokens = [rows[n - 1][tokens[n].id] if n else -len(tokens[n].word) * math.log(4) for n in counted]
            sums.append(sum(of_tokens))
        return sums[1] - sums[0]

    def _llr_causal_per_base(self, windows: VariantWindows) -> float:
        return self._llr_causal(windows) / len(windows.reference.bases)

    def _jsd(self, windows: VariantWindows) -> float:
        reference, alternative = windows.reference, windows.alternative
        both = [self._tokens(allele) for allele in (reference, alternative)]
        rows = [np.exp(self._distributions(_ids(tokens))) for tokens in both]
        shift = 1 if self._model.causal else 0
        found = []
        for (n, one), (m, other) in itertools.product(enumerate(both[0]), enumerate(both[1])):
            behind = one.start - reference.site - reference.length, other.start - alternative.site - alternative.length
            before = reference.site - one.end, alternative.site - other.end
            right = min(behind) >= 0 and behind[0] == behind[1]
            left = min(before) >= 0 and before[0] == before[1] and not self._model.causal
            if one.id == other.id and one.word == other.word and one.word and "N" not in one.word and (left or right):
                p, q = rows[0][n - shift], rows[1][m - shift]
                middle = (p + q) / 2
                found.append(0.5 * (p * np.log2(p / middle)).sum() + 0.5 * (q * np.log2(q / middle)).sum())
        return float(np.mean(found)) if found else math.nan

    def _substituted(self, windows: VariantWindows) -> int | None:
        """Return the token that a substitution changes, if it is one."""
        reference, alternative = self._tokens(windows.reference), self._tokens(windows.alternative)
        if windows.reference.length != windows.alternative.length:
            return None
        if [token[2:] for token in reference] != [token[2:] for token in alternative]:
            return None
        differing = [n for n, (one, other) in enumerate(zip(reference, alternative, strict=True)) if one != other]
        return differing[0] if len(differing) == 1 else None

    def _share(self, allele: Allele, number: int, bases: str) -> float:
        """Return the probability of all words as long as a masked token that have some bases at the variant."""
        tokens = self._tokens(allele)
        start, length = tokens[number].start, len(tokens[number].word)
        offset = min(allele.site, len(allele.bases) - 1) - start
        row = np.exp(self._masked(tokens, number))
        words = self._words.items()
        return sum(row[n] for n, word in words if len(word) == length and word[offset:].startswith(bases))

    def _tokens(self, allele: Allele) -> list[Token]:
        (encoding,) = self._model.encode([allele.bases])
        rows = zip(encoding.ids.tolist(), encoding.starts.tolist(), encoding.ends.tolist(), strict=True)
        return [Token(number, allele.bases[start:end], start, end) for number, start, end in rows]

    def _masked(self, tokens: list[Token], number: int) -> np.ndarray:
        ids = list(_ids(tokens))
        assert self._mask is not None
        ids[number] = self._mask
        return self._distributions(tuple(ids))[number]

    def _forward(self, ids: tuple[int, ...]) -> np.ndarray:
        assert self._model.with_head is not None
        with torch.inference_mode():
            logits = self._model.with_head(input_ids=torch.tensor([ids])).logits[0]
        return logits.double().log_softmax(-1).numpy()


def _ids(tokens: list[Token]) -> tuple[int, ...]:
    return tuple(token.id for token in tokens)


def _changed(allele: Allele) -> str:
    return allele.bases[allele.site : allele.site + allele.length]
