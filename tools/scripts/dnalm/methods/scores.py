"""What a change of DNA means to a language model: each score is one function with its definition and source.

A log-probability is natural. Scores of likelihood are those of ALT minus those of REF: below zero, the model holds ALT
for less likely. Distances and divergences are zero where nothing changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.floating[Any]]
Ids = NDArray[np.signedinteger[Any]]
Needs = Literal["masked site", "wild type", "every token masked", "left to right", "distributions", "vectors"]


def llr_masked(log_probabilities: Array, reference: int, alternative: int) -> float:
    """Return log p(ALT token) − log p(REF token) where the token under the variant is masked.

    The masked marginal of Meier et al. 2021 (doi:10.1101/2021.07.09.450648); on DNA Benegas et al. 2023
    (doi:10.1073/pnas.2311219120).

    Args:
        log_probabilities: of all tokens at the masked site; shape (vocabulary,).
        reference: id of the REF token.
        alternative: id of the ALT token.
    """
    return float(log_probabilities[alternative]) - float(log_probabilities[reference])


def llr_masked_base(log_probabilities: Array, reference: Ids, alternative: Ids) -> float:
    """Return log p(ALT bases) − log p(REF bases) where the token under the variant is masked, whatever its other bases.

    For tokens of one base this is `llr_masked`. Marginals over k-mers: Wu et al. 2025 (GENERator, arXiv:2502.07272).

    Args:
        log_probabilities: of all tokens at the masked site; shape (vocabulary,).
        reference: ids of the words as long as the token that have REF where the variant lies.
        alternative: ids of those that have ALT there.
    """
    return marginal(log_probabilities, alternative) - marginal(log_probabilities, reference)


def marginal(log_probabilities: Array, words: Ids) -> float:
    """Return the logarithm of the summed probability of some tokens.

    Args:
        log_probabilities: shape (vocabulary,).
        words: ids, at least one.
    """
    return float(np.logaddexp.reduce(log_probabilities[words].astype(np.float64)))


def llr_wildtype(log_probabilities: Array, reference: int, alternative: int) -> float:
    """Return log p(ALT token) − log p(REF token) where the model sees the whole REF window, nothing masked.

    The wild-type marginal of Meier et al. 2021 (doi:10.1101/2021.07.09.450648): one reading serves every variant of a
    window. Arguments are those of `llr_masked`, the distribution that of the unmasked site.
    """
    return float(log_probabilities[alternative]) - float(log_probabilities[reference])


def pll(reference: Array, alternative: Array) -> float:
    """Return the pseudo-log-likelihood of ALT minus that of REF.

    Salazar et al. 2020 (doi:10.18653/v1/2020.acl-main.240); for indels Brandes et al. 2023
    (doi:10.1038/s41588-023-01465-0).

    Args:
        reference: log-probability of each token of the REF window while it alone is masked; shape (tokens,).
        alternative: the same of the ALT window.
    """
    return float(alternative.sum(dtype=np.float64) - reference.sum(dtype=np.float64))


def llr_causal(reference: Array, alternative: Array) -> float:
    """Return the log-likelihood of ALT minus that of REF, of a model that reads left to right.

    Nguyen et al. 2024 (Evo, doi:10.1126/science.ado9336).

    Args:
        reference: log-probability of each token of the REF window given those left of it, or of those tokens alone that
            come behind what both windows begin with; shape (tokens,).
        alternative: the same of the ALT window.
    """
    return float(alternative.sum(dtype=np.float64) - reference.sum(dtype=np.float64))


def llr_causal_per_base(reference: Array, alternative: Array, bases: int) -> float:
    """Return `llr_causal` divided by the bases of a window, both being equally long."""
    return llr_causal(reference, alternative) / bases


def entropy(log_probabilities: Array, words: Sequence[Ids]) -> float:
    """Return the Shannon entropy in bits of A, C, G and T at the masked site: 0, sure of one, to 2, all alike.

    Shannon 1948 (doi:10.1002/j.1538-7305.1948.tb01338.x); it says how constrained the site is and does not look at ALT.

    Args:
        log_probabilities: of all tokens at the masked site; shape (vocabulary,).
        words: for each letter the ids of the words as long as the token that have it at the site.
    """
    of_bases = np.array([marginal(log_probabilities, ids) if len(ids) else -np.inf for ids in words])
    shares = np.exp(of_bases - np.logaddexp.reduce(of_bases))
    return float(max(0.0, -(shares * np.log2(np.maximum(shares, 1e-300))).sum()))


def jensen_shannon(reference: Tensor, alternative: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence in bits, 0 to 1, of each two distributions (Lin 1991, doi:10.1109/18.61115).

    The score `jsd` is its mean over the tokens that both windows have in common behind the variant (models that read left
    to right) or on both of its sides (masked models).

    Args:
        reference: log-probabilities; shape (tokens, vocabulary).
        alternative: the same of ALT.

    Returns:
        Shape (tokens,).
    """
    middle = torch.logaddexp(reference, alternative) - np.log(2)
    each = [(one.exp() * (one - middle)).sum(dim=-1) for one in (reference, alternative)]
    return (0.5 * (each[0] + each[1]) / np.log(2)).clamp(0, 1)


def l2(reference: Array, alternative: Array) -> Array:
    """Return the Euclidean distance of each two vectors, shape (pairs, dimensions)."""
    return np.linalg.norm(_difference(reference, alternative), axis=1)


def l1(reference: Array, alternative: Array) -> Array:
    """Return the sum of the absolute differences of each two vectors, shape (pairs, dimensions)."""
    return np.abs(_difference(reference, alternative)).sum(axis=1)


def cosine(reference: Array, alternative: Array) -> Array:
    """Return the cosine distance, 1 minus the cosine of the angle, of each two vectors, shape (pairs, dimensions).

    Taken from the unit vectors' distance, which loses no digits where they are near. A vector of zeros has distance 0
    from another and 1 from all else.
    """
    units = []
    for vectors in (reference, alternative):
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        units.append(vectors / np.where(norms > 0, norms, 1.0))
    apart = 0.5 * (_difference(*units) ** 2).sum(axis=1)
    one_is_zero = np.any(reference, axis=1) != np.any(alternative, axis=1)
    return np.where(one_is_zero, 1.0, apart)


def dot(reference: Array, alternative: Array) -> Array:
    """Return the inner product of each two vectors, shape (pairs, dimensions)."""
    return (reference.astype(np.float64) * alternative).sum(axis=1)


def _difference(reference: Array, alternative: Array) -> Array:
    return alternative.astype(np.float64) - reference


DISTANCES = {"l2": l2, "l1": l1, "cosine": cosine, "dot": dot}


@dataclass(frozen=True)
class Score:
    """What a score asks of a model.

    Attributes:
        needs: what is computed for it.
        models: those that give it.
        signed: whether it is above or below zero as ALT is above or below REF.
        least: what it cannot be below.
        meaning: what its number is, for people.
    """

    needs: Needs
    models: Literal["masked", "causal", "all"]
    signed: bool
    least: float | None
    meaning: str


SCORES = {
    "llr_masked": Score("masked site", "masked", True, None, "log p(ALT token) - log p(REF token), the token masked"),
    "llr_masked_base": Score(
        "masked site", "masked", True, None, "log p(ALT base) - log p(REF base), the token masked"
    ),
    "llr_wildtype": Score("wild type", "masked", True, None, "log p(ALT token) - log p(REF token) in REF, unmasked"),
    "pll": Score("every token masked", "masked", True, None, "pseudo-log-likelihood of ALT minus that of REF"),
    "llr_causal": Score("left to right", "causal", True, None, "log-likelihood of ALT minus that of REF"),
    "llr_causal_per_base": Score(
        "left to right", "causal", True, None, "log-likelihood of ALT minus that of REF, a base"
    ),
    "entropy": Score("masked site", "masked", False, 0.0, "entropy in bits of A, C, G and T at the masked site"),
    "jsd": Score(
        "distributions", "all", False, 0.0, "mean Jensen-Shannon divergence in bits at tokens REF and ALT share"
    ),
    "l2": Score("vectors", "all", False, 0.0, "Euclidean distance of pooled REF and ALT"),
    "l1": Score("vectors", "all", False, 0.0, "sum of absolute differences of pooled REF and ALT"),
    "cosine": Score("vectors", "all", False, 0.0, "cosine distance (1 - cosine) of pooled REF and ALT"),
    "dot": Score("vectors", "all", False, None, "inner product of pooled REF and ALT"),
}
