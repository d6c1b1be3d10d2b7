"""Masked language modelling: which tokens are hidden, and by what (Devlin et al. 2019, doi:10.18653/v1/N19-1423)."""

import numpy as np
from numpy.typing import NDArray

HIDDEN_SHARE, BY_MASK, BY_RANDOM = 0.15, 0.8, 0.1


def hide(
    ids: NDArray[np.int64],
    may_hide: NDArray[np.bool_],
    mask_id: int,
    replacements: NDArray[np.int64],
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Hide 15 % of the tokens that may be: 8 of 10 by the mask, 1 by any other word, 1 by itself.

    Args:
        ids: shape (tokens,).
        may_hide: tokens with bases to predict; shape (tokens,).
        mask_id: the mask's id.
        replacements: ids of the words that stand for bases.
        generator: of one window and epoch, so that neither depends on others.

    Returns:
        What the model sees, and which tokens it is to predict: at least one if any may be hidden; shape (tokens,) each.
    """
    chosen = may_hide & (generator.random(len(ids)) < HIDDEN_SHARE)
    candidates = np.flatnonzero(may_hide)
    if not chosen.any() and len(candidates):
        chosen[generator.choice(candidates)] = True
    seen = ids.copy()
    how = generator.random(len(ids))
    seen[chosen & (how < BY_MASK)] = mask_id
    swapped = chosen & (how >= BY_MASK) & (how < BY_MASK + BY_RANDOM)
    seen[swapped] = generator.choice(replacements, int(swapped.sum()))
    return seen, chosen
