"""Losses, measures and batches of a classifier's training, compared with their definitions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dnalm.engine.devices import prepare_machine
from dnalm.engine.representations import ModelChoices, ModelRepresentation
from dnalm.engine.supervision import Labelled, LabelledBatches, Supervision, WindowedClassifier
from dnalm.models.head_config import HeadFacts, Task
from dnalm.models.heads import Classifier, PooledClassifier, new_classifier
from dnalm.models.sources import open_model

LENGTHS = [30, 700, 45, 200, 210, 33, 90]
SEQUENCES = ["".join(np.random.default_rng(length).choice(list("ACGT"), length)) for length in LENGTHS]


@pytest.fixture(scope="module")
def classifier(model_folder: Callable[[str], Path]) -> Classifier:
    """A model of 200 tokens, so that 700 bases of 3-mers take several windows."""
    made = new_classifier(open_model(model_folder("llama")), HeadFacts("classify", ("a", "b", "c")), seed=0)
    assert isinstance(made.module, PooledClassifier)
    made.module.classifier.weight.data *= 50
    return made


def labelled(classifier: Classifier, targets: Any, weights: list[float] | None = None) -> Labelled:
    reader = ModelRepresentation(classifier.model, ModelChoices(), prepare_machine("cpu", 1, None))
    pieces = reader.pieces([str(length) for length in LENGTHS], SEQUENCES)
    return Labelled(pieces, np.array(targets), np.array(weights or [1.0] * len(LENGTHS), dtype=np.float32))


def expected_logits(classifier: Classifier) -> torch.Tensor:
    """Of the embeddings, as prediction has them."""
    reader = ModelRepresentation(classifier.model, ModelChoices(), prepare_machine("cpu", 1, None))
    vectors = np.stack([found.vectors for found in reader.embed(SEQUENCES, SEQUENCES)])
    return classifier.of_vectors(torch.from_numpy(vectors))


@pytest.mark.parametrize("size", [1, 3, 7])
def test_what_is_trained_is_what_predicts(classifier: Classifier, size: int) -> None:
    data = labelled(classifier, range(len(LENGTHS)))
    assert isinstance(classifier.module, PooledClassifier)
    assert max(map(len, data.pieces)) > 1
    module, expected = WindowedClassifier(classifier.module), expected_logits(classifier)
    batches = LabelledBatches(data, size, classifier.model.pad_id, seed=0)
    seen = []
    for number in range(len(batches)):
        batch = batches[number]
        given = {name: batch[name] for name in ("input_ids", "weights", "owners", "attention_mask") if name in batch}
        found = module(**given).logits
        seen += batch["targets"].tolist()
        assert torch.allclose(found, expected[batch["targets"]], atol=1e-5)
    assert sorted(seen) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("task", ["classify", "multilabel", "regress"])
def test_losses_and_measures_are_those_of_the_definition(classifier: Classifier, task: Task) -> None:
    generator = np.random.default_rng(1)
    weights = generator.random(len(LENGTHS)).astype(np.float32).tolist()
    targets: Any = generator.integers(0, 3, len(LENGTHS))
    if task == "multilabel":
        targets = generator.integers(0, 2, (len(LENGTHS), 3)).astype(np.float32)
    elif task == "regress":
        targets = generator.normal(size=(len(LENGTHS), 3)).astype(np.float32)
    data = labelled(classifier, targets, weights)
    assert isinstance(classifier.module, PooledClassifier)
    objective, module = Supervision(task), WindowedClassifier(classifier.module)
    batches = LabelledBatches(data, 2, classifier.model.pad_id, seed=None)
    found = [objective.losses(module, batches[number]) for number in range(len(batches))]
    sums = torch.stack([losses.sums for losses in found]).sum(dim=0)
    assert sums.dtype == torch.float64
    assert len(sums) == objective.quantities
    assert sum(float(losses.total) for losses in found) == pytest.approx(float(sums[0]), rel=1e-5)
    measures = objective.measures(sums.tolist())
    logits, counts = expected_logits(classifier).detach().double(), torch.tensor(weights).double()
    true = torch.from_numpy(np.array(targets))
    if task == "classify":
        each = -logits.log_softmax(-1)[torch.arange(len(true)), true]
        assert measures["accuracy"] == pytest.approx((logits.argmax(1) == true).double().mean().item())
    elif task == "multilabel":
        said = logits.sigmoid()
        each = -(true * said.log() + (1 - true) * (1 - said).log()).mean(dim=1)
        assert measures["accuracy"] == pytest.approx(((said > 0.5) == (true > 0)).double().mean().item())
    else:
        each = (logits - true).square().mean(dim=1)
        spread = (true - true.mean()).square().sum()
        assert measures["r2"] == pytest.approx(1 - ((logits - true).square().sum() / spread).item(), abs=1e-5)
    assert measures["loss"] == pytest.approx(((each * counts).sum() / counts.sum()).item(), abs=1e-5)
    assert float(sum(objective.weight(batches[number]) for number in range(len(batches)))) == pytest.approx(
        sum(weights)
    )


def test_an_epoch_has_every_sequence_once_in_an_order_of_its_own(classifier: Classifier) -> None:
    def order(seed: int | None, epoch: int) -> list[list[int]]:
        batches = LabelledBatches(labelled(classifier, range(len(LENGTHS))), 2, classifier.model.pad_id, seed)
        batches.set_epoch(epoch)
        return [batches[number]["targets"].tolist() for number in range(len(batches))]

    assert sorted(number for batch in order(0, 0) for number in batch) == list(range(len(LENGTHS)))
    assert order(0, 0) == order(0, 0)
    assert len({str(order(0, epoch)) for epoch in range(5)}) > 1
    assert order(None, 0) == order(None, 1)


def test_sequences_of_one_length_have_no_mask(classifier: Classifier) -> None:
    reader = ModelRepresentation(classifier.model, ModelChoices(), prepare_machine("cpu", 1, None))
    same = Labelled(reader.pieces(["a"], SEQUENCES[:1]) * 4, np.zeros(4, dtype=np.int64), np.ones(4, dtype=np.float32))
    assert "attention_mask" not in LabelledBatches(same, 4, 1, seed=0)[0]
