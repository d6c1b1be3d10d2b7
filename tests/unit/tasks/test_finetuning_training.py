"""The training of a fine-tuning: what is trained, kept and written, and which checkpoints it goes on from."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TEST_DATA
from dnalm.engine.devices import prepare_machine
from dnalm.engine.supervision import Labelled, LabelledBatches
from dnalm.errors import UserError
from dnalm.methods.splits import TEST, TRAIN, VALIDATE
from dnalm.models.head_config import HeadFacts
from dnalm.models.heads import Classifier, load_classifier, new_classifier
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks import finetuning_training
from dnalm.tasks.finetuning_data import Example
from dnalm.tasks.finetuning_options import DECISIVE, FinetuningOptions
from dnalm.tasks.finetuning_split import Dataset
from dnalm.tasks.finetuning_training import FinetuningJob, Origin, open_checkpoint

TINY = TEST_DATA / "checkpoint.safetensors"  # one layer of 16 dimensions, of single letters
FULL = FinetuningOptions(
    *(Path("out"), [Path("in")], TINY),
    method="full",
    max_steps=2,
    batch_size=4,
    learning_rate=0.01,
    rank=2,
    patience=0,
)
LORA = replace(FULL, method="lora")
ORIGIN = Origin("ours", {"tool": "test"}, "the data", "the model")


@pytest.fixture
def dataset() -> Dataset:
    """Sixteen sequences of 20 bases: eight train, of which two are of the second class, four validate and four test."""
    generator = np.random.default_rng(0)
    examples = [Example(f"s{number}", "".join(generator.choice(list("ACGT"), 20)), None) for number in range(16)]
    targets = np.array([0, 0, 0, 1] * 4)
    return Dataset("classify", ("a", "b"), examples, targets, np.repeat([TRAIN, VALIDATE, TEST], [8, 4, 4]), None)


def classifier_of(dataset: Dataset) -> Classifier:
    return new_classifier(open_model(TINY), HeadFacts(dataset.task, dataset.labels), seed=0)


@pytest.fixture
def job_of(dataset: Dataset, tmp_path: Path) -> Callable[..., FinetuningJob]:
    """Return a function that begins a training of the dataset in a folder of its own."""

    def make(
        options: FinetuningOptions,
        classifier: Classifier | None = None,
        checkpoint: tuple[Path, Path] | None = None,
        resumed: StoredModel | None = None,
    ) -> FinetuningJob:
        machine = prepare_machine("cpu", 1, None)
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        own = classifier or classifier_of(dataset)
        return FinetuningJob(options, own, dataset, ORIGIN, machine, scratch, checkpoint, resumed)

    return make


def never() -> bool:
    return False


def trained(job: FinetuningJob) -> Any:
    return job.train(time.monotonic(), 0.0, never)


# Parameters: 10 words of 16 numbers; queries, keys, values and output of 16 x 16; three matrices of 16 x 32; three norms of
# 16; and a head of 2 x 16 weights and 2 biases. LoRA of rank 2 has 2 x (rows + columns) beside each of the seven matrices.
BACKBONE, HEAD = 10 * 16 + 4 * 16 * 16 + 3 * 16 * 32 + 3 * 16, 2 * 16 + 2
ADAPTERS = 2 * (4 * (16 + 16) + 3 * (16 + 32))


@pytest.mark.parametrize(
    ("options", "trains", "parameters"),
    [(FULL, BACKBONE + HEAD, BACKBONE + HEAD), (LORA, ADAPTERS + HEAD, ADAPTERS + BACKBONE + HEAD)],
)
def test_all_weights_are_trained_or_loras_and_the_head(
    job_of: Callable[..., FinetuningJob], options: FinetuningOptions, trains: int, parameters: int
) -> None:
    (encoding,) = load_language_model(open_model(TINY)).encode(["A" * 20])
    tokens = 8 * len(encoding)
    assert job_of(options).description == (
        f"Training {trains:,} of {parameters:,} parameters ({options.method}); {tokens:,} tokens in 2 batches an epoch"
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", [FULL, LORA], ids=["full", "lora"])
def test_what_is_written_is_what_was_trained(
    job_of: Callable[..., FinetuningJob], dataset: Dataset, tmp_path: Path, options: FinetuningOptions
) -> None:
    classifier = classifier_of(dataset)
    before = {name.removeprefix("model."): tensor for name, tensor in open_model(TINY).read_tensors().items()}
    job = job_of(options, classifier)
    assert not job.has_best
    run = trained(job)
    assert job.has_best
    assert run.steps == 2
    assert not any(parameter.requires_grad for parameter in classifier.module.parameters())
    assert not classifier.module.training
    job.write(tmp_path / "written")
    stored = open_model(tmp_path / "written")
    assert (stored.name, stored.provenance, stored.training) == ("ours", {"tool": "test"}, None)
    after = stored.read_tensors()
    assert after.keys() == before.keys() | {"classifier.weight", "classifier.bias"}
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert "layers.0.self_attn.q_proj.weight" in changed
    # Adapters leave embeddings and norms alone; with all weights these learn too.
    assert ("norm.weight" in changed) == (options.method == "full")
    with job.deployed(), torch.inference_mode():
        (encoding,) = classifier.model.encode(["ACGTTGCA"])
        given = torch.from_numpy(encoding.ids)[None], None, torch.from_numpy(~encoding.special)[None].float()
        torch.testing.assert_close(load_classifier(stored).logits(*given), classifier.logits(*given))


@pytest.mark.slow
def test_the_best_weights_are_kept_and_not_the_last(
    job_of: Callable[..., FinetuningJob], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three evaluations the first is made the best."""
    kept: list[dict[str, torch.Tensor]] = []
    usual = FinetuningJob._keep_best

    def first_alone(job: FinetuningJob, scheduled: bool) -> None:
        if not kept:
            kept.append({name: value.detach().clone() for name, value in classifier.module.named_parameters()})
            usual(job, scheduled)

    monkeypatch.setattr(FinetuningJob, "_keep_best", first_alone)
    classifier = classifier_of(dataset)
    trained(job_of(replace(FULL, max_steps=3, evaluate_every=1), classifier))
    assert all(torch.equal(kept[0][name], value) for name, value in classifier.module.named_parameters())


def test_classes_may_weigh_alike(job_of: Callable[..., FinetuningJob], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight that train six are of the first class: they weigh 8 / (2 × 6) each, the others 8 / (2 × 2)."""
    given: list[Labelled] = []

    class Watched(LabelledBatches):
        def __init__(self, sequences: Labelled, *more: Any) -> None:
            given.append(sequences)
            super().__init__(sequences, *more)

    monkeypatch.setattr(finetuning_training, "LabelledBatches", Watched)
    job_of(FULL)
    job_of(replace(FULL, class_weights="balanced"))
    plain, plain_validation, balanced, balanced_validation = given
    assert plain.targets.tolist() == [0, 0, 0, 1] * 2
    assert plain.weights.tolist() == [1] * 8
    assert plain_validation.weights.tolist() == [1] * 4
    assert balanced.weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2] * 2)
    assert balanced_validation.weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


@pytest.mark.slow
def test_time_that_is_reserved_is_not_trained_in(job_of: Callable[..., FinetuningJob]) -> None:
    job = job_of(replace(FULL, max_steps=50, time_limit=1.0))
    run = job.train(time.monotonic(), 3_600.0, never)
    assert (run.steps, run.stopped) == (1, "time limit")
    assert job.has_best


@pytest.mark.slow
def test_a_training_ends_when_it_is_asked_to(job_of: Callable[..., FinetuningJob]) -> None:
    run = job_of(replace(FULL, max_steps=50)).train(time.monotonic(), 0.0, lambda: True)
    assert (run.steps, run.stopped) == (1, "signal")


@pytest.mark.slow
def test_a_checkpoint_says_what_it_is_of_and_is_gone_on_with(
    job_of: Callable[..., FinetuningJob], dataset: Dataset, tmp_path: Path
) -> None:
    partial, checkpoint = tmp_path / "partial", tmp_path / "checkpoint"
    classifier = classifier_of(dataset)
    run = job_of(LORA, classifier, checkpoint=(partial, checkpoint)).train(time.monotonic(), 0.0, lambda: True)
    assert (run.steps, run.stopped) == (1, "signal")
    assert not partial.exists()
    stored = open_model(checkpoint)
    assert stored.training is not None
    assert {name: stored.training[name] for name in ("kind", "data", "model")} == {
        **{"kind": "finetuning", "data": "the data", "model": "the model"}
    }
    assert stored.training["options"] == {name: getattr(LORA, name) for name in DECISIVE}
    kept = {name.removeprefix("adapter.") for name in stored.read_training_tensors() if name.startswith("adapter.")}
    names = dict(classifier.module.named_parameters()).keys()
    assert kept == {name for name in names if "lora" in name or name.startswith("classifier.")}
    run = trained(job_of(LORA, resumed=stored))
    assert (run.steps, run.stopped) == (2, "")


@pytest.fixture
def checkpoint_of(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a model with a state of training."""

    def write(training: dict[str, Any] | None, tensors: dict[str, torch.Tensor] | None = None) -> Path:
        stored = open_model(TINY)
        path = tmp_path / "checkpoint"
        write_model_file(
            *(path, stored.read_tensors(), stored.config, stored.tokenizer),
            name="half",
            training=training,
            training_tensors=tensors,
        )
        return path

    return write


def state(dataset: Dataset, **changes: Any) -> dict[str, Any]:
    facts = {"kind": "finetuning", "data": dataset.fingerprint(), "model": "abc", "run": {}}
    return facts | {"options": {name: getattr(LORA, name) for name in DECISIVE}} | changes


def test_a_checkpoint_of_the_same_training_is_opened(dataset: Dataset, checkpoint_of: Callable[..., Path]) -> None:
    assert open_checkpoint(LORA, dataset, "abc") is None
    found = open_checkpoint(replace(LORA, resume_from=checkpoint_of(state(dataset))), dataset, "abc")
    assert found is not None
    assert found.name == "half"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"kind": "pretraining"},
            "The model 'checkpoint' is no checkpoint of a fine-tuning; give the checkpoint of one",
        ),
        ({"options": None}, "The model 'checkpoint' is no checkpoint of a fine-tuning"),
        ({"data": "other"}, "The checkpoint 'half' is of another sequences, labels and split; give the same"),
        ({"model": "other"}, "The checkpoint 'half' is of another model; give the same"),
        ({"options": {}}, "The checkpoint 'half' was trained with --task None, now it is classify; use the same"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    dataset: Dataset, checkpoint_of: Callable[..., Path], changes: dict[str, Any], sentence: str
) -> None:
    path = checkpoint_of(state(dataset, **changes))
    with pytest.raises(UserError, match=sentence):
        open_checkpoint(replace(LORA, resume_from=path), dataset, "abc")


def test_another_option_is_named_as_it_is_written(dataset: Dataset, checkpoint_of: Callable[..., Path]) -> None:
    path = checkpoint_of(state(dataset))
    with pytest.raises(UserError, match=r"was trained with --learning-rate 0\.01, now it is 0\.5; use the same"):
        open_checkpoint(replace(LORA, learning_rate=0.5, resume_from=path), dataset, "abc")


@pytest.mark.parametrize("lacking", ["everything", "run"])
def test_a_model_without_a_state_of_training_is_no_checkpoint(
    dataset: Dataset, checkpoint_of: Callable[..., Path], lacking: str
) -> None:
    training = {name: value for name, value in state(dataset).items() if name != lacking}
    path = checkpoint_of(None if lacking == "everything" else training)
    with pytest.raises(UserError, match="The model 'checkpoint' is no checkpoint of a fine-tuning"):
        open_checkpoint(replace(LORA, resume_from=path), dataset, "abc")


def test_a_checkpoint_that_lacks_one_of_its_adapters_is_damaged(
    job_of: Callable[..., FinetuningJob], checkpoint_of: Callable[..., Path]
) -> None:
    intact = open_model(TEST_DATA / "finetuning_checkpoint.safetensors")
    tensors = intact.read_training_tensors()
    del tensors[next(name for name in tensors if name.startswith("adapter."))]
    resumed = open_model(checkpoint_of(intact.training, tensors))
    with pytest.raises(UserError, match="The checkpoint's state of training is damaged"):
        trained(job_of(replace(LORA, rank=8), resumed=resumed))
