"""Windows over sequences longer than a model's context."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """A slice of a sequence's tokens, and the part of it whose results are kept: 0-based half-open token numbers."""

    start: int
    end: int
    kept_start: int
    kept_end: int


def token_windows(tokens: int, capacity: int, overlap: float) -> list[TokenWindow]:
    """Cut tokens into windows of one size, each token kept once, from the window where it lies most central.

    Args:
        tokens: how many tokens the sequence has, special tokens apart.
        capacity: how many the model takes at once, special tokens apart; at least 1.
        overlap: the share of a window, 0 to below 1, that it has in common with the next.

    Returns:
        Windows in order; one window if the sequence fits. All have `capacity` tokens: the last ends with the sequence
        and overlaps more. Between two windows the border of what is kept is the middle of their overlap, a token in the
        very middle going to the first.
    """
    if tokens <= capacity:
        return [TokenWindow(0, tokens, 0, tokens)]
    step = max(1, capacity - round(overlap * capacity))
    starts = [*range(0, tokens - capacity, step), tokens - capacity]
    ends = [start + capacity for start in starts]
    borders = [(start + end + 1) // 2 for start, end in zip(starts[1:], ends[:-1], strict=True)]
    kept = zip([0, *borders], [*borders, tokens], strict=True)
    return [TokenWindow(start, end, *part) for start, end, part in zip(starts, ends, kept, strict=True)]
