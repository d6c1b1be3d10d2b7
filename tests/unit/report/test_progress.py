"""Lines of progress with rate and time left."""

import time

import pytest
from dnalm.report.progress import Progress


def test_says_count_rate_and_time_left_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 10.0, 12.0, 3_600.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    progress = Progress("sequences", lambda: 0.25)
    for count in (500, 500, 500, 98_500):
        progress.add(count)
    assert capsys.readouterr().out.splitlines() == [
        "1,000 sequences, 100.0 a second, about 30 s left",
        "100,000 sequences, 27.8 a second, about 3.0 h left",
    ]
