"""From sequences to logits and outcomes, compared with one forward pass per sequence."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import SIZES, TEST_DATA, VOCABULARY
from dnalm.engine import prediction as engine
from dnalm.engine.devices import prepare_machine
from dnalm.engine.inference import DeviceMemoryError
from dnalm.engine.prediction import PredictionChoices, Predictor, refuse_unpredictable
from dnalm.errors import UserError
from dnalm.methods.strands import reverse_complement
from dnalm.models.head_config import HeadFacts, Task
from dnalm.models.heads import Classifier, PooledClassifier, load_classifier, new_classifier
from dnalm.models.sources import open_model

MACHINE = prepare_machine("cpu", 1, None)
CONTEXT = 40
LENGTHS = [1, 9, 30, 61, 100]
NAMES = [f"s{length}" for length in LENGTHS]


@pytest.fixture
def sequences() -> list[str]:
    generator = np.random.default_rng(0)
    return ["".join(generator.choice(list("ACGT"), length)) for length in LENGTHS]


@pytest.fixture
def pooled() -> Callable[..., Classifier]:
    """Return a function that gives a model with a pooled head whose outputs differ."""

    def make(task: Task = "classify", labels: tuple[str, ...] = ("a", "b", "c"), **facts: Any) -> Classifier:
        made = new_classifier(open_model(TEST_DATA / "random_model.safetensors"), HeadFacts(task, labels, **facts), 5)
        assert isinstance(made.module, PooledClassifier)
        made.module.classifier.weight.mul_(50)
        return made

    return make


@pytest.fixture(scope="module")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that reads left to right, as its authors saved it; its context is 40 tokens."""
    folder = tmp_path_factory.mktemp("published")
    sizes = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": CONTEXT}
    config = transformers.LlamaConfig(**sizes, id2label={0: "no", 1: "yes", 2: "maybe"})
    torch.manual_seed(4)
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    return folder


@pytest.fixture
def published(published_folder: Path) -> Classifier:
    return load_classifier(open_model(published_folder))


def logits_one_by_one(classifier: Classifier, sequences: list[str]) -> np.ndarray:
    found = []
    with torch.inference_mode():
        for bases in sequences:
            (encoding,) = classifier.model.encode([bases])
            ids, weights = torch.from_numpy(encoding.ids)[None], torch.from_numpy(~encoding.special)[None].float()
            found.append(classifier.logits(ids, None, weights)[0].numpy())
    return np.array(found)


def predicted(classifier: Classifier, sequences: list[str], **choices: Any) -> np.ndarray:
    predictor = Predictor(classifier, PredictionChoices(**choices), MACHINE)
    return np.array([found.logits for found in predictor.predict(NAMES, sequences)])


@pytest.mark.parametrize("kind", ["pooled", "published"])
def test_logits_are_those_of_one_forward_pass_per_sequence(
    pooled: Callable[..., Classifier], published: Classifier, sequences: list[str], kind: str
) -> None:
    classifier = pooled() if kind == "pooled" else published
    expected = logits_one_by_one(classifier, sequences)
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(predicted(classifier, sequences), expected, rtol=0, atol=1e-5)
    turned = logits_one_by_one(classifier, [reverse_complement(bases) for bases in sequences])
    both = predicted(classifier, sequences, both_strands=True)
    np.testing.assert_allclose(both, (expected + turned) / 2, rtol=0, atol=1e-5)


def test_a_pooled_head_counts_tokens_and_windows(pooled: Callable[..., Classifier]) -> None:
    classifier = pooled()
    classifier.model.context_length = CONTEXT
    done: list[int] = []
    predictor = Predictor(classifier, PredictionChoices(window_overlap=0.0), MACHINE)
    long, short, unknown = predictor.predict(["a", "b", "c"], ["ACG" * 78, "ACG", "NNN"], done.append)
    assert (long.n_tokens, long.n_windows, long.truncated, long.status) == (79, 2, 0, "ok")
    assert (short.n_tokens, short.n_windows, short.truncated, short.status) == (2, 1, 0, "ok")
    assert unknown.status == "all_n"
    assert sum(done) == 3


def test_a_published_head_reads_a_sequence_to_its_context(published: Classifier) -> None:
    bases = "ACGTTGCAACGG" * 50
    predictor = Predictor(published, PredictionChoices(), MACHINE)
    whole, cut, unknown = predictor.predict(["whole", "cut", "n"], [bases, bases[:117], "NN"])
    assert (whole.n_tokens, whole.n_windows, whole.truncated, whole.status) == (CONTEXT, 1, 600 - 117, "ok")
    assert (cut.n_tokens, cut.n_windows, cut.truncated) == (CONTEXT, 1, 0)
    np.testing.assert_allclose(whole.logits, cut.logits, rtol=0, atol=1e-6)
    assert unknown.status == "all_n"


def test_a_published_head_may_not_cut_where_that_is_not_wanted(published: Classifier) -> None:
    predictor = Predictor(published, PredictionChoices(long_sequences="fail"), MACHINE)
    with pytest.raises(UserError, match=r"Sequence 'b' has 41 tokens, the model 'published.*' reads 40; cut it"):
        predictor.predict(["a", "b"], ["ACG", "ACG" * 40])


def test_equal_sequences_and_strands_are_computed_once(published: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = engine.run_pieces

    def counting(lengths: list[int], *others: Any) -> list[np.ndarray]:
        read.append(len(lengths))
        return whole(lengths, *others)

    monkeypatch.setattr(engine, "run_pieces", counting)
    done: list[int] = []
    given = ["ACGTACGG", "TTTT", "ACGTACGG", "AAAA"]
    for both_strands in (False, True):
        Predictor(published, PredictionChoices(both_strands=both_strands), MACHINE).predict(given, given, done.append)
    assert read == [3, 4]  # AAAA is the other strand of TTTT
    assert sum(done) == 2 * len(given)


def test_outcomes_are_probabilities_or_values(pooled: Callable[..., Classifier]) -> None:
    def outcomes(logits: list[float], task: Task, **facts: Any) -> list[float]:
        labels = tuple("abc"[: len(logits)])
        return (
            Predictor(pooled(task, labels, **facts), PredictionChoices(), MACHINE)
            .outcomes(np.array([logits]))[0]
            .tolist()
        )

    assert outcomes([math.log(4), 0], "classify") == pytest.approx([0.8, 0.2])
    assert outcomes([math.log(4), 0], "classify", temperature=2.0) == pytest.approx([2 / 3, 1 / 3])
    assert outcomes([math.log(4), 0], "multilabel") == pytest.approx([0.8, 0.5])
    assert outcomes([2.0, -1.0], "regress") == [2.0, -1.0]
    assert outcomes([2.0, -1.0], "regress", target_mean=(10.0, 1.0), target_scale=(3.0, 0.5)) == [16.0, 0.5]


def test_the_description_lists_the_first_ten_labels(pooled: Callable[..., Classifier]) -> None:
    def description(task: Task, count: int) -> str:
        labels = tuple(f"l{number}" for number in range(count))
        return Predictor(pooled(task, labels), PredictionChoices(), MACHINE).description

    assert description("classify", 2).endswith("it predicts one of l0, l1")
    assert description("regress", 1).endswith("it predicts the values of l0")
    assert description("multilabel", 13).endswith(
        "it predicts any of l0, l1, l2, l3, l4, l5, l6, l7, l8, l9 and 3 more"
    )


@pytest.mark.parametrize("kind", ["pooled", "published"])
def test_the_deviation_of_bfloat16_is_the_largest_of_the_outcomes(
    pooled: Callable[..., Classifier], published: Classifier, sequences: list[str], kind: str
) -> None:
    classifier = pooled() if kind == "pooled" else published
    predictor = Predictor(classifier, PredictionChoices(), MACHINE)

    def outcomes() -> np.ndarray:
        return predictor.outcomes(np.stack([found.logits for found in predictor.predict(NAMES, sequences)]))

    exact = outcomes()
    assert "largest_difference_from_float32" not in predictor.facts()
    deviation = predictor.change_precision("bfloat16", NAMES, sequences)
    assert 0 < deviation < 0.2
    assert deviation == pytest.approx(np.abs(outcomes() - exact).max(), rel=0.01)
    assert predictor.facts()["largest_difference_from_float32"] == deviation


def test_a_published_model_too_large_for_the_gpu_is_refused(
    published: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(device: torch.device, dtype: torch.dtype) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(published, "to", full)
    with pytest.raises(DeviceMemoryError, match="does not fit into the GPU; use bfloat16, a smaller model"):
        Predictor(published, PredictionChoices(), MACHINE).predict(["a"], ["ACGT"])


def test_int8_is_for_pooled_heads_of_encoders(pooled: Callable[..., Classifier], published: Classifier) -> None:
    for dtype in ("float32", "bfloat16"):
        refuse_unpredictable(published, dtype)
    refuse_unpredictable(pooled(), "int8")
    with pytest.raises(UserError, match="has no int8, which is for encoders without experts"):
        refuse_unpredictable(published, "int8")  # reads left to right
    unpooled = replace(pooled(), pooled=False)
    with pytest.raises(UserError, match="reads more than hidden states, and has no int8; choose bfloat16"):
        refuse_unpredictable(unpooled, "int8")
