"""From hidden states of tokens to one vector a sequence.

Each pooling takes hidden states, shape (batch, tokens, hidden size), and a mask of the tokens that cover bases, shape
(batch, tokens), with at least one True a row; it returns float32 vectors, shape (batch, hidden size). Padding and special
tokens are outside the mask and never counted.
"""

import torch
from torch import Tensor


def mean(hidden_states: Tensor, covers_bases: Tensor) -> Tensor:
    """Average over the tokens that cover bases."""
    weights = covers_bases.unsqueeze(-1).float()
    # Only what the mask keeps is added up: a product with 0 would let an infinite padding value through as NaN.
    kept = hidden_states.float().masked_fill(~covers_bases.unsqueeze(-1), 0.0)
    return kept.sum(dim=1) / weights.sum(dim=1)


def maximum(hidden_states: Tensor, covers_bases: Tensor) -> Tensor:
    """Take each dimension's largest value over the tokens that cover bases."""
    kept = hidden_states.float().masked_fill(~covers_bases.unsqueeze(-1), -torch.inf)
    return kept.amax(dim=1)


def cls(hidden_states: Tensor, covers_bases: Tensor) -> Tensor:
    """Take the first token, the summary token of BERT-like models (Devlin et al. 2019, doi:10.18653/v1/N19-1423)."""
    return hidden_states[:, 0].float()


POOLINGS = {"mean": mean, "max": maximum, "cls": cls}
