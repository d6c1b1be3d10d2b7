from collections.abc import Callable

import numpy as np
import pytest
from dnalm.methods import training_windows as grid
from dnalm.methods.strands import reverse_complement

SPLITS = [grid.random_split, grid.block_split, grid.record_split]


def bases(length: int, generator: np.random.Generator) -> str:
    return "".join(generator.choice(list("ACGT"), length))


@pytest.mark.parametrize("least", [1, 5])
@pytest.mark.parametrize("stride", [3, 10, 14])
@pytest.mark.parametrize("window", [10])
def test_the_grid_has_every_whole_window_and_one_shorter_end(window: int, stride: int, least: int) -> None:
    for length in range(1, 60):
        found = grid.window_grid(length, window, stride, least)
        whole = [(start, start + window) for start in range(0, length, stride) if start + window <= length]
        assert [cut for cut in found if cut[1] - cut[0] == window] == whole
        rest = found[len(whole) :]
        covered = whole[-1][1] if whole else 0
        behind = len(whole) * stride
        if covered < length and length - behind >= least:
            assert rest == [(behind, length)]
        else:
            assert rest == []


def test_a_grid_without_gaps_covers_every_base() -> None:
    for stride in (3, 10):
        covered = np.zeros(57, dtype=int)
        for start, end in grid.window_grid(57, 10, stride, 1):
            covered[start:end] += 1
        assert (covered > 0).all()


def overlapping_windows(seed: int) -> grid.Intervals:
    """Windows of regions that overlap one another, in no order, on three contigs."""
    generator = np.random.default_rng(seed)
    rows = []
    for record in range(12):
        contig, first = int(generator.integers(3)), int(generator.integers(300))
        for start, end in grid.window_grid(int(generator.integers(10, 150)), 40, 15, 5):
            rows.append((contig, first + start, first + end, record))
    return grid.Intervals(*(np.array(column) for column in zip(*rows, strict=True)))


def bases_of(windows: grid.Intervals, chosen: np.ndarray) -> set[tuple[int, int]]:
    return {
        (int(windows.contigs[number]), place)
        for number in np.flatnonzero(chosen)
        for place in range(windows.starts[number], windows.ends[number])
    }


@pytest.mark.parametrize("gap", [0, 7, 40])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", range(5))
def test_no_base_of_validation_nor_of_its_gap_is_trained_on(
    seed: int, split: Callable[..., np.ndarray], gap: int
) -> None:
    windows = overlapping_windows(seed)
    validates = split(windows, 0.2, np.random.default_rng(seed))
    near = grid.near_validation(windows, validates, gap)
    assert not (near & validates).any()
    around = {
        (contig, place + shift) for contig, place in bases_of(windows, validates) for shift in range(-gap, gap + 1)
    }
    assert not bases_of(windows, ~validates & ~near) & around
    for number in np.flatnonzero(near):
        one = np.arange(len(windows)) == number
        assert bases_of(windows, one) & around, "a window was left out for nothing"


@pytest.mark.parametrize("split", [grid.random_split, grid.block_split])
@pytest.mark.parametrize("fraction", [0.0001, 0.1, 0.25, 0.9])
def test_validation_has_its_share_and_training_something(split: Callable[..., np.ndarray], fraction: float) -> None:
    windows = overlapping_windows(1)
    for count in (2, 3, 10, len(windows)):
        some = windows[np.arange(len(windows)) < count]
        validates = split(some, fraction, np.random.default_rng(3))
        assert validates.sum() == min(max(1, round(fraction * count)), count - 1)


def test_a_random_split_takes_every_window_as_often() -> None:
    windows = overlapping_windows(1)
    chosen = np.sum([grid.random_split(windows, 0.3, np.random.default_rng(seed)) for seed in range(500)], axis=0)
    assert abs(chosen.mean() / 500 - 0.3) < 0.02
    assert chosen.min() > 90


@pytest.mark.parametrize("seed", range(5))
def test_a_block_is_a_run_of_neighbours_on_the_genome_whatever_the_order_of_regions(seed: int) -> None:
    windows = overlapping_windows(seed)
    validates = grid.block_split(windows, 0.3, np.random.default_rng(seed))
    on_genome = sorted(range(len(windows)), key=lambda number: (windows.contigs[number], windows.starts[number]))
    places = [place for place, number in enumerate(on_genome) if validates[number]]
    assert places == list(range(places[0], places[0] + len(places)))


@pytest.mark.parametrize("seed", range(5))
def test_a_record_is_on_one_side(seed: int) -> None:
    windows = overlapping_windows(seed)
    validates = grid.record_split(windows, 0.3, np.random.default_rng(seed))
    assert 0 < validates.sum() < len(windows)
    assert not set(windows.records[validates]) & set(windows.records[~validates])


def test_the_first_of_duplicates_and_reverse_complements_stays() -> None:
    generator = np.random.default_rng(2)
    some = [bases(int(generator.integers(1, 4)), generator) + "N" * int(generator.integers(2)) for _ in range(300)]
    expected = [
        not any(other in (one, reverse_complement(one)) for other in some[:number]) for number, one in enumerate(some)
    ]
    assert grid.first_of_each([one.encode() for one in some]).tolist() == expected


def words(sequence: str) -> set[str]:
    found = {sequence[start : start + 12] for start in range(len(sequence) - 11)}
    return {min(word, reverse_complement(word)) for word in found if "N" not in word}


def jaccard(one: str, other: str) -> float:
    return len(words(one) & words(other)) / max(1, len(words(one) | words(other)))


def mutated(sequence: str, changes: int, generator: np.random.Generator) -> str:
    letters = list(sequence)
    for place in generator.choice(len(letters), changes, replace=False):
        letters[place] = generator.choice([base for base in "ACGT" if base != letters[place]])
    return "".join(letters)


@pytest.mark.slow
def test_near_duplicates_of_short_windows_are_those_of_the_whole_sets() -> None:
    """Two windows of up to 43 bases have no more than 64 words of 12 bases, which a sketch holds."""
    generator = np.random.default_rng(4)
    training = [bases(43, generator) for _ in range(40)]
    validation = [mutated(training[number], number // 8, generator) for number in range(40)]
    validation = [reverse_complement(one) if number % 2 else one for number, one in enumerate(validation)]
    validation += [one[:12] + "N" + one[13:] for one in validation[:5]]
    for threshold in (0.3, 0.5, 0.9):
        expected = sum(any(jaccard(one, other) >= threshold for other in training) for one in validation)
        assert 0 < expected < len(validation)
        found = grid.near_duplicates(
            [one.encode() for one in validation], [one.encode() for one in training], threshold
        )
        assert found == expected


def test_near_duplicates_of_long_windows_are_told_from_others() -> None:
    generator = np.random.default_rng(5)
    training = [bases(600, generator) for _ in range(30)]
    near = [mutated(one, 3, generator) for one in training[:10]]
    far = [mutated(one, 60, generator) for one in training[10:20]]
    assert min(jaccard(one, other) for one, other in zip(near, training, strict=False)) > 0.75
    assert max(jaccard(one, other) for one, other in zip(far, training[10:], strict=False)) < 0.3
    asked = [one.encode() for one in near + far]
    assert grid.near_duplicates(asked, [one.encode() for one in training], 0.5) == 10


def test_windows_without_words_are_near_nothing() -> None:
    assert grid.near_duplicates([b"ACGT", b"N" * 40], [b"ACGT", b"N" * 40], 0.5) == 0
    assert grid.near_duplicates([b"ACGT" * 10], [], 0.5) == 0


def test_a_sketch_is_of_both_strands() -> None:
    sequence = bases(200, np.random.default_rng(6))
    assert grid.sketch(sequence.encode()).tolist() == grid.sketch(reverse_complement(sequence).encode()).tolist()
    assert len(grid.sketch(sequence.encode())) == 64
