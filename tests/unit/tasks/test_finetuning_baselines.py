"""What a model must beat: the commonest class or the mean, the GC content, and k-mers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.methods.splits import TEST, TRAIN, VALIDATE
from dnalm.models.head_config import HeadFacts, Task
from dnalm.tasks import finetuning_baselines
from dnalm.tasks.finetuning_baselines import baselines, head_facts, judge_linear, probe, standardised
from dnalm.tasks.finetuning_data import Example
from dnalm.tasks.finetuning_options import FinetuningOptions
from dnalm.tasks.finetuning_split import Dataset
from numpy.typing import NDArray

OPTIONS = FinetuningOptions(Path("out"), [Path("in")], Path("model"))
SIDES = np.array([TRAIN] * 30 + [VALIDATE] * 15 + [TEST] * 15)


@pytest.fixture
def short_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of one letter or of three, which are quickly counted."""
    monkeypatch.setattr(finetuning_baselines, "KMERS", (1, 3))


def dataset(task: Task, labels: tuple[str, ...], targets: NDArray[Any], bases: list[str] | None = None) -> Dataset:
    bases = bases or ["ACGT"] * len(targets)
    examples = [Example(f"s{number}", letters, None) for number, letters in enumerate(bases)]
    return Dataset(task, labels, examples, targets, SIDES[: len(targets)], None)


def random_bases(generator: np.random.Generator, gc: float = 0.5, length: int = 40) -> str:
    shares = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    return "".join(generator.choice(list("ACGT"), length, p=shares))


def test_quantities_are_standardised_by_those_of_training() -> None:
    targets = np.concatenate([np.arange(30.0), np.full(30, 1e6)])[:, None]
    data = dataset("regress", ("gc",), targets)
    facts = head_facts(data)
    deviation = np.sqrt((30**2 - 1) / 12)  # of the whole numbers from 0 to 29
    assert facts.target_mean == pytest.approx((14.5,))
    assert facts.target_scale == pytest.approx((deviation,))
    found = standardised(data)
    assert found[:30].mean() == pytest.approx(0)
    assert found[:30].std() == pytest.approx(1)
    assert found[30, 0] == pytest.approx((1e6 - 14.5) / deviation)


def test_classes_stay_as_they_are() -> None:
    data = dataset("classify", ("a", "b"), np.arange(60) % 2)
    assert head_facts(data) == HeadFacts("classify", ("a", "b"))
    assert standardised(data) is data.targets


def test_a_probe_is_fitted_with_what_trains_alone() -> None:
    """Elsewhere the feature says the contrary."""
    targets = np.arange(60) % 2
    features = np.where(SIDES == TRAIN, 2 * targets - 1, 1 - 2 * targets)[:, None].astype(float)
    data = dataset("classify", ("a", "b"), targets)
    model = probe(OPTIONS, data, features)
    assert model.weights[1, 0] > model.weights[0, 0]
    judged = judge_linear("probe", data, model, features)
    assert (judged.method, judged.outcomes.shape) == ("probe", (15, 2))
    assert (judged.outcomes.argmax(axis=1) != targets[45:]).all()
    # Temperature and thresholds are chosen on what validates.
    features[45:] *= 5
    assert judge_linear("probe", data, model, features).facts == judged.facts


def test_balanced_weights_move_the_border_of_a_rare_class() -> None:
    generator = np.random.default_rng(0)
    targets = (np.arange(60) % 10 == 0).astype(np.int64)
    features = (targets + generator.normal(size=60))[:, None]
    data = dataset("classify", ("a", "b"), targets)
    models = [probe(one, data, features) for one in (OPTIONS, replace(OPTIONS, class_weights="balanced"))]
    called = [(model.logits(features).argmax(axis=1) == 1).mean() for model in models]
    assert called[0] < 0.2 < called[1]


def test_whole_groups_are_held_out_where_a_penalty_is_chosen() -> None:
    """Features that tell the group: of another group they know nothing, which the loss must show."""
    groups = np.arange(60) // 6
    generator = np.random.default_rng(0)
    targets = generator.permutation(np.arange(10) % 2)[groups].astype(np.int64)
    features = np.eye(10)[groups]
    losses = []
    for clusters in (None, groups):
        data = Dataset("classify", ("a", "b"), [Example("x", "A", None)] * 60, targets, SIDES, clusters)
        losses.append(probe(OPTIONS, data, features).held_out_loss)
    assert losses[0] < 0.3 < losses[1]


@pytest.mark.usefixtures("short_words")
def test_the_first_baseline_says_the_shares_of_training() -> None:
    """Two thirds of training are b, and every sequence that tests is said to be so with that probability."""
    targets = np.concatenate([np.arange(30) % 3 > 0, np.arange(30) % 2]).astype(np.int64)
    generator = np.random.default_rng(0)
    data = dataset("classify", ("a", "b"), targets, [random_bases(generator) for _ in targets])
    first, *others = baselines(OPTIONS, data)
    assert [judged.method for judged in (first, *others)] == ["majority", "gc", "kmer"]
    logit = np.log(2) / first.facts.temperature
    np.testing.assert_allclose(first.outcomes[:, 1], 1 / (1 + np.exp(-logit)))
    assert len(first.outcomes) == 15


@pytest.mark.usefixtures("short_words")
def test_the_first_baseline_of_quantities_is_the_mean_of_training() -> None:
    targets = np.concatenate([np.arange(30.0), np.full(30, 99.0)])[:, None]
    generator = np.random.default_rng(0)
    data = dataset("regress", ("x",), targets, [random_bases(generator) for _ in targets])
    found = baselines(OPTIONS, data)
    assert [judged.method for judged in found] == ["mean", "gc", "kmer"]
    np.testing.assert_allclose(found[0].outcomes, 14.5)


@pytest.mark.usefixtures("short_words")
def test_gc_content_is_found_by_its_baseline() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 2
    bases = [random_bases(generator, gc=0.2 + 0.6 * int(target)) for target in targets]
    judged = baselines(OPTIONS, dataset("classify", ("a", "b"), targets, bases))[1]
    assert (judged.outcomes.argmax(axis=1) == targets[45:]).all()


@pytest.mark.usefixtures("short_words")
def test_a_word_is_found_by_k_mers_of_the_better_length_and_not_by_gc_content() -> None:
    """Shares of single letters know nothing of words of the same letters."""
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 2
    words = ("TTGACA" * 3, "TGTACA" * 3)
    bases = [random_bases(generator, length=20) + words[target] for target in targets.tolist()]
    _, gc, kmer = baselines(OPTIONS, dataset("classify", ("a", "b"), targets, bases))
    assert (kmer.outcomes.argmax(axis=1) == targets[45:]).mean() > 0.9
    assert (gc.outcomes.argmax(axis=1) == targets[45:]).mean() < 0.8
