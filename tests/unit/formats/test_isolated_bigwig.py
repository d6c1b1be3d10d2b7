"""bigWig files of users, many in one child."""

from pathlib import Path

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.formats.bigwig import BigWigWriter, Chromosomes
from dnalm.formats.isolated_bigwig import IsolatedBigWigs
from dnalm.formats.isolated_reader import Subject


def track(path: Path, value: float) -> Path:
    with BigWigWriter(path, Chromosomes({"b": 9, "a": 4})) as writer:
        writer.append("b", 3, np.array([value], np.float32))
        writer.finish()
    return path


def test_each_file_has_its_own_values(tmp_path: Path) -> None:
    with IsolatedBigWigs() as reader:
        files = [reader.open(track(tmp_path / str(value), value), Subject("It", "is damaged")) for value in (1, 2)]
        assert files[0].lengths == {"b": 9, "a": 4}
        for value, file in enumerate(files, start=1):
            np.testing.assert_array_equal(file.values("b", 3, 5), [value, np.nan])
            assert file.values("a", 0, 4) is None


def test_a_sentence_names_the_file_or_what_is_said_of_it(tmp_path: Path) -> None:
    with IsolatedBigWigs() as reader:
        file = reader.open(track(tmp_path / "x", 1), Subject("The track 'x'", "is damaged"))
        with pytest.raises(UserError, match=r"The track 'x' is damaged\. Make or upload it again"):
            file.values("absent", 0, 5)
        with pytest.raises(UserError, match=r"The track 'x' is damaged at c:1-5\. Make or upload it again"):
            file.values("absent", 0, 5, Subject("The track 'x'", "is damaged at c:1-5"))
