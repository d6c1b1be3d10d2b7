import numpy as np
import pytest
from dnalm.methods.windows import token_windows


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("capacity", [1, 2, 7, 10])
@pytest.mark.parametrize("tokens", [1, 2, 9, 10, 11, 20, 23, 100])
def test_each_token_is_kept_once_where_it_is_most_central(tokens: int, capacity: int, overlap: float) -> None:
    windows = token_windows(tokens, capacity, overlap)
    kept = [token for window in windows for token in range(window.kept_start, window.kept_end)]
    assert kept == list(range(tokens))
    for window in windows:
        assert window.end - window.start == min(capacity, tokens)
        assert window.start <= window.kept_start <= window.kept_end <= window.end
        for token in range(window.kept_start, window.kept_end):
            margins = [min(token - other.start, other.end - 1 - token) for other in windows]
            assert min(token - window.start, window.end - 1 - token) == max(margins)


def test_windows_of_three_contexts() -> None:
    windows = token_windows(30, 10, 0.0)
    assert [(window.start, window.end) for window in windows] == [(0, 10), (10, 20), (20, 30)]
    overlapping = token_windows(30, 10, 0.4)
    assert [window.start for window in overlapping] == [0, 6, 12, 18, 20]
    assert [window.kept_start for window in overlapping] == [0, 8, 14, 20, 24]


def test_the_overlap_is_at_least_what_was_asked_for() -> None:
    windows = token_windows(1_000, 64, 0.25)
    overlaps = np.array([window.end for window in windows[:-1]]) - np.array([window.start for window in windows[1:]])
    assert (overlaps >= 16).all()
