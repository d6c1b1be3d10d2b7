"""Drawing the next token: from logits, through temperature and filters, to one token.

Everything is float64, of shape (sequences, tokens). A filter returns logits with minus infinity where it removed a
token; of equally likely tokens the first stay.
"""

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float64]


def log_softmax(logits: Logits) -> Logits:
    """Return the natural logarithm of each token's probability."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normalised: Logits = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def temper(logits: Logits, temperature: float) -> Logits:
    """Divide by a temperature (Ackley, Hinton and Sejnowski 1985, doi:10.1207/s15516709cog0901_7).

    1 changes nothing, less sharpens, more flattens the distribution; 0, the limit, keeps the most likely token alone.
    """
    if temperature == 0:
        return keep_top_k(logits, 1)
    # The largest becomes 0 first, so that no temperature makes infinities that cancel.
    tempered: Logits = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    return tempered


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Keep the k most likely tokens; 0 keeps all.

    Fan, Lewis and Dauphin 2018, doi:10.18653/v1/P18-1082, "Generation".
    """
    if not 0 < k < logits.shape[-1]:
        return logits
    removed = _by_likelihood(logits)[:, k:]
    kept = logits.copy()
    np.put_along_axis(kept, removed, -np.inf, axis=-1)
    return kept


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Keep the nucleus: the fewest most likely tokens whose probabilities add up to at least p; 1 keeps all.

    Holtzman et al. 2020, doi:10.48550/arXiv.1904.09751, "Nucleus sampling".
    """
    if p >= 1:
        return logits
    order = _by_likelihood(logits)
    probabilities = np.exp(log_softmax(np.take_along_axis(logits, order, axis=-1)))
    more_likely = np.cumsum(probabilities, axis=-1) - probabilities
    more_likely[:, 0] = 0
    kept = np.full_like(logits, -np.inf)
    sorted_kept = np.where(more_likely < p, np.take_along_axis(logits, order, axis=-1), -np.inf)
    np.put_along_axis(kept, order, sorted_kept, axis=-1)
    return kept


def draw(logits: Logits, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return one token a sequence by inverting the cumulative distribution; shape (sequences,).

    Args:
        logits: shape (sequences, tokens); minus infinity for what cannot be drawn.
        uniforms: one number from 0 to below 1 a sequence. A change of the logits by some small amount changes the token
            only for numbers as near to a border between two tokens.
    """
    cumulated = np.cumsum(np.exp(logits - logits.max(axis=-1, keepdims=True)), axis=-1)
    thresholds = uniforms * cumulated[:, -1]
    return (cumulated <= thresholds[:, None]).sum(axis=-1)


def _by_likelihood(logits: Logits) -> NDArray[np.int64]:
    return np.argsort(-logits, axis=-1, kind="stable")
