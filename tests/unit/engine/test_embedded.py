"""The result of one embedded sequence."""

import numpy as np
from dnalm.engine.embedded import Embedded


def test_by_default_a_sequence_was_read_whole_in_one_window() -> None:
    found = Embedded(np.zeros(3, dtype=np.float32), n_tokens=7)
    assert (found.n_windows, found.truncated, found.status) == (1, 0, "ok")
    assert found.starts is None
    assert found.ends is None
