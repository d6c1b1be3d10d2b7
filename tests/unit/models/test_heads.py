"""Models that classify or regress: heads of ours and of transformers, written, read and damaged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import ARCHITECTURES, REPOSITORY, SIZES, VOCABULARY
from dnalm.engine.inference import Piece, pad
from dnalm.errors import UserError
from dnalm.models.head_config import HeadFacts
from dnalm.models.heads import (
    Classifier,
    NoClassifier,
    PooledClassifier,
    load_classifier,
    new_classifier,
    trainable_classifier,
    write_classifier,
)
from dnalm.models.model_file import write_model_file
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from mistral_dna import write_mistral_dna
from safetensors.torch import load_file
from torch import Tensor

ModelFolder = Callable[[str], Path]
SEQUENCES = ["ACGTTGCANNACGGATTACAGATTACACC", "ACG", "TTTTGACATTACGATCGATCGGATCTAGCTAGCTAGGCTAAA", "N"]
LABELS = ("zebra", "ant", "mouse")
OURS = {"nt_v2": "nt_v2", "dnabert2": "dnabert2"}
EVERY_ARCHITECTURE = [*ARCHITECTURES, *OURS]


@pytest.fixture
def folder_of(model_folder: ModelFolder) -> ModelFolder:
    """A folder with a model of any architecture, transformers' or ours."""
    parity = REPOSITORY / "tests" / "parity" / "data"
    return lambda architecture: parity / OURS[architecture] if architecture in OURS else model_folder(architecture)


def batch(classifier: Classifier, sequences: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Return padded ids, mask, and 1 for tokens that cover bases."""
    encodings = classifier.model.encode(sequences)
    pieces = [Piece(encoding.ids, (~encoding.special).astype(np.float32)) for encoding in encodings]
    return pad(pieces, classifier.model.pad_id)


def alone(classifier: Classifier, sequences: list[str]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([classifier.logits(*batch(classifier, [bases])) for bases in sequences])


def written(path: Path, classifier: Classifier, tmp_path: Path, **options: Any) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    write_classifier(path, classifier, folder, name="tiny", provenance={"from": "a test"}, **options)
    shutil.rmtree(folder)
    return path


def trained(classifier: Classifier) -> Classifier:
    """Change every weight a little, as training does."""
    generator = torch.Generator().manual_seed(3)
    module = trainable_classifier(classifier)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    module.eval().requires_grad_(False)
    return classifier


@pytest.mark.slow
@pytest.mark.parametrize("architecture", EVERY_ARCHITECTURE)
def test_a_trained_head_is_read_as_it_was_written(folder_of: ModelFolder, tmp_path: Path, architecture: str) -> None:
    stored = open_model(folder_of(architecture))
    facts = HeadFacts("multilabel", LABELS, temperature=1.5, thresholds=(0.2, 0.5, 0.9))
    classifier = trained(new_classifier(replace(stored, licence="CC0"), facts, seed=1))
    path = written(tmp_path / "model", classifier, tmp_path)
    assert path.read_bytes() == written(tmp_path / "again", classifier, tmp_path).read_bytes()
    again = load_classifier(open_model(path))
    assert again.facts == facts
    assert (again.model.stored.labels, again.model.stored.licence) == (list(LABELS), "CC0")
    torch.testing.assert_close(alone(again, SEQUENCES), alone(classifier, SEQUENCES), rtol=0, atol=1e-6)
    with torch.inference_mode():
        together = again.logits(*batch(again, SEQUENCES))
    torch.testing.assert_close(together, alone(again, SEQUENCES), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", EVERY_ARCHITECTURE)
def test_a_pooled_head_reads_the_mean_of_the_embeddings_of_bases(folder_of: ModelFolder, architecture: str) -> None:
    classifier = new_classifier(open_model(folder_of(architecture)), HeadFacts("classify", LABELS), seed=1)
    model = load_language_model(open_model(folder_of(architecture)))
    assert isinstance(classifier.module, PooledClassifier)
    weight, bias = classifier.module.classifier.weight, classifier.module.classifier.bias
    for bases, logits in zip(SEQUENCES, alone(classifier, SEQUENCES), strict=True):
        (encoding,) = model.encode([bases])
        with torch.inference_mode():
            (states,) = model.hidden_states(torch.from_numpy(encoding.ids)[None], None, [len(model.layers)])
        mean = states[0][torch.from_numpy(~encoding.special)].mean(dim=0)
        torch.testing.assert_close(logits, weight @ mean + bias, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(classifier.of_vectors(mean), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", EVERY_ARCHITECTURE)
def test_a_model_with_a_head_is_a_language_model_as_well(
    folder_of: ModelFolder, tmp_path: Path, architecture: str
) -> None:
    stored = open_model(folder_of(architecture))
    classifier = new_classifier(stored, HeadFacts("regress", ("height",)), seed=1)
    same = written(tmp_path / "same", classifier, tmp_path, same_backbone=True)
    other = written(tmp_path / "other", classifier, tmp_path)
    ids = torch.from_numpy(classifier.model.encode(SEQUENCES[:1])[0].ids)[None]
    with torch.inference_mode():
        expected = load_language_model(stored, head=True)
        for path in (same, other):
            model = load_language_model(open_model(path))
            last = len(model.layers)
            assert torch.equal(model.hidden_states(ids, None, [last])[0], expected.hidden_states(ids, None, [last])[0])
            assert model.stored.sha256() == open_model(path).sha256()
        # A head that was not trained with its backbone belongs to it no more.
        logits = load_language_model(open_model(same), head=True).logits(ids, None)
        assert torch.equal(logits, expected.logits(ids, None))
        with pytest.raises(UserError, match="has no language-model head"):
            load_language_model(open_model(other), head=True)


def test_a_fresh_head_depends_on_its_seed_alone_and_says_so(folder_of: ModelFolder) -> None:
    stored, facts = open_model(folder_of("bert")), HeadFacts("classify", LABELS)
    first = new_classifier(stored, facts, seed=1)
    torch.rand(5)
    again, other = new_classifier(stored, facts, seed=1), new_classifier(stored, facts, seed=2)
    assert torch.equal(alone(first, SEQUENCES), alone(again, SEQUENCES))
    assert not torch.equal(alone(first, SEQUENCES), alone(other, SEQUENCES))
    assert first.origin == "a fresh head of 3 outputs, drawn with seed 1"


def test_a_new_head_replaces_an_earlier_one(folder_of: ModelFolder, tmp_path: Path) -> None:
    first = new_classifier(open_model(folder_of("bert")), HeadFacts("classify", LABELS), seed=1)
    path = written(tmp_path / "first", first, tmp_path, same_backbone=True)
    second = new_classifier(open_model(path), HeadFacts("regress", ("height",), target_scale=(2.0,)), seed=1)
    again = load_classifier(open_model(written(tmp_path / "second", second, tmp_path, same_backbone=True)))
    assert (again.task, again.labels, again.facts.target_scale) == ("regress", ("height",), (2.0,))


def published(architecture: str, folder: Path, tokenizer_of: Path, **settings: Any) -> Path:
    """Save a random classifier as its authors would."""
    config_class = getattr(transformers, ARCHITECTURES[architecture][0]).config_class
    config = config_class(**(SIZES | ARCHITECTURES[architecture][1] | settings))
    torch.manual_seed(2)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    # Some heads start at zero.
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(tokenizer_of / name, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_published_classifier_equals_plain_transformers(
    model_folder: ModelFolder, tmp_path: Path, architecture: str
) -> None:
    folder = published(architecture, tmp_path / "m", model_folder(architecture), id2label=dict(enumerate(LABELS)))
    classifier = load_classifier(open_model(folder))
    assert (classifier.task, classifier.labels, classifier.pooled) == ("classify", LABELS, False)
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False).eval()
    input_ids, mask, weights = batch(classifier, SEQUENCES)
    with torch.inference_mode():
        expected = reference(input_ids=input_ids, attention_mask=mask).logits
        torch.testing.assert_close(classifier.logits(input_ids, mask, weights), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone(classifier, SEQUENCES), expected, rtol=1e-5, atol=1e-5)
    # What else there is to do with such a model: embed with it, or give its backbone another head.
    assert torch.equal(
        load_language_model(open_model(folder)).hidden_states(input_ids, mask, [1])[0],
        classifier.model.hidden_states(input_ids, mask, [1])[0],
    )
    other = new_classifier(open_model(folder), HeadFacts("classify", ("a", "b", "c", "d")), seed=0)
    path = written(tmp_path / "other", other, tmp_path, same_backbone=True)
    torch.testing.assert_close(
        alone(load_classifier(open_model(path)), SEQUENCES), alone(other, SEQUENCES), rtol=0, atol=1e-6
    )


def test_pads_of_a_published_classifier_need_no_id_in_its_config(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = published("llama", tmp_path / "m", model_folder("llama"), pad_token_id=None)
    classifier = load_classifier(open_model(folder))
    with torch.inference_mode():
        together = classifier.logits(*batch(classifier, SEQUENCES))
    torch.testing.assert_close(together, alone(classifier, SEQUENCES), rtol=1e-5, atol=1e-5)


def test_a_last_token_that_the_config_calls_a_pad_is_left_out_as_transformers_does(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    """Many models pad with the token that ends their sequences."""
    last = VOCABULARY.index("ACC")
    folder = published("llama", tmp_path / "m", model_folder("llama"), pad_token_id=last)
    classifier = load_classifier(open_model(folder))
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False).eval()
    input_ids, mask, _ = batch(classifier, ["TTGACC"])
    assert input_ids[0, -1] == last
    with torch.inference_mode():
        expected = reference(input_ids=input_ids, attention_mask=mask).logits
        torch.testing.assert_close(classifier.logits(input_ids, None), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "problem", "task"),
    [
        (1, None, "regress"),
        (4, None, "classify"),
        (4, "multi_label_classification", "multilabel"),
        (2, "regression", "regress"),
    ],
)
def test_the_task_of_a_published_classifier(
    model_folder: ModelFolder, tmp_path: Path, labels: int, problem: str | None, task: str
) -> None:
    folder = published("bert", tmp_path / "m", model_folder("bert"), num_labels=labels, problem_type=problem)
    classifier = load_classifier(open_model(folder))
    assert (classifier.task, len(classifier.labels)) == (task, labels)


def test_a_mistral_dna_gives_the_logits_of_plain_transformers(tmp_path: Path) -> None:
    """Its labels have no names in its config; a batch and a sequence alone agree."""
    folder = write_mistral_dna(tmp_path / "m")
    classifier = load_classifier(open_model(folder))
    assert (classifier.task, classifier.labels) == ("classify", ("LABEL_0", "LABEL_1"))
    sequences = ["ATTGTGGGTCCCCGTAGATGATAGGGGCCCCCC", "ACGTACGTAGCTGATCGAT"]
    reference = transformers.MixtralForSequenceClassification.from_pretrained(folder, trust_remote_code=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    with torch.inference_mode():
        expected = torch.cat([reference(**tokenizer(bases, return_tensors="pt")).logits for bases in sequences])
        together = classifier.logits(*batch(classifier, sequences))
    assert (expected[0] - expected[1]).abs().max() > 0.1
    for found in (together, alone(classifier, sequences)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", EVERY_ARCHITECTURE)
def test_a_language_model_is_no_classifier(folder_of: ModelFolder, architecture: str) -> None:
    with pytest.raises(NoClassifier, match="has no head that classifies or regresses; fine-tune it"):
        load_classifier(open_model(folder_of(architecture)))


@pytest.mark.parametrize("architecture", ["bert", "mixtral"])
def test_a_backbone_is_no_classifier(model_folder: ModelFolder, tmp_path: Path, architecture: str) -> None:
    folder = model_folder(architecture)
    transformers.AutoModel.from_pretrained(folder, trust_remote_code=False).save_pretrained(tmp_path)
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(NoClassifier, match="has no head that classifies or regresses"):
        load_classifier(open_model(tmp_path))


def test_a_published_classifier_without_its_pooler_is_none(model_folder: ModelFolder, tmp_path: Path) -> None:
    """BERT's head reads the pooler: a random one would be invented."""
    folder = published("bert", tmp_path / "m", model_folder("bert"))
    stored = open_model(folder)
    tensors = {name: tensor for name, tensor in stored.read_tensors().items() if "pooler" not in name}
    write_model_file(tmp_path / "model", tensors, stored.config, stored.tokenizer, name="headless")
    with pytest.raises(NoClassifier, match="has no head that classifies or regresses"):
        load_classifier(open_model(tmp_path / "model"))


Change = Callable[[dict[str, Any], dict[str, Tensor]], object]
DAMAGES: dict[str, tuple[Change, str]] = {
    "no weight": (lambda config, tensors: tensors.pop("classifier.weight"), "tensor 'classifier.weight' is missing"),
    "no bias": (lambda config, tensors: tensors.pop("classifier.bias"), "tensor 'classifier.bias' is missing"),
    "other width": (
        lambda config, tensors: tensors.update({"classifier.weight": torch.ones(3, 31)}),
        r"'classifier.weight' has the shape \(3, 31\), where \(3, 32\) is needed",
    ),
    "too few labels": (lambda config, tensors: config["id2label"].pop("2"), "does not fit its labels"),
    "gap in labels": (lambda config, tensors: config["id2label"].pop("1"), "does not name the labels 0, 1, 2"),
    "no labels": (lambda config, tensors: config.pop("id2label"), "names no labels"),
    "equal labels": (lambda config, tensors: config["id2label"].update({"1": "zebra"}), "the label 'zebra' twice"),
    "empty label": (lambda config, tensors: config["id2label"].update({"1": " "}), "has the label ' '"),
    "odd labels": (lambda config, tensors: config["id2label"].update({"1": ["a"]}), "does not name the labels"),
    "other task": (lambda config, tensors: config.update(problem_type="ranking"), "problem_type is 'ranking'"),
    "other pooling": (lambda config, tensors: config["dnalm_classifier"].update(pooling="cls"), "pooling is 'cls'"),
    "no mapping": (lambda config, tensors: config.update(dnalm_classifier=5), "cannot be read"),
    "cold": (lambda config, tensors: config["dnalm_classifier"].update(temperature=0), "temperature is 0"),
    "odd temperature": (
        lambda config, tensors: config["dnalm_classifier"].update(temperature="warm"),
        "its temperature are not 1 numbers",
    ),
    "few thresholds": (
        lambda config, tensors: config["dnalm_classifier"].update(thresholds=[0.5]),
        "its thresholds are not 3 numbers",
    ),
    "odd threshold": (
        lambda config, tensors: config["dnalm_classifier"].update(thresholds=[0.5, 0, 2]),
        "a threshold is no probability",
    ),
    "NaN": (lambda config, tensors: tensors["classifier.bias"].fill_(float("nan")), "NaN or infinite weights"),
    "whole numbers": (
        lambda config, tensors: tensors.update({"classifier.bias": torch.ones(3, dtype=torch.int32)}),
        "does not fit its labels",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_head_is_refused(folder_of: ModelFolder, tmp_path: Path, case: str) -> None:
    change, sentence = DAMAGES[case]
    classifier = new_classifier(open_model(folder_of("bert")), HeadFacts("classify", LABELS), seed=1)
    stored = open_model(written(tmp_path / "whole", classifier, tmp_path))
    config = json.loads(json.dumps(stored.config))
    tensors = {name: tensor.clone() for name, tensor in stored.read_tensors().items()}
    change(config, tensors)
    write_model_file(tmp_path / "damaged", tensors, config, stored.tokenizer, name="damaged")
    with pytest.raises(UserError, match=sentence) as error:
        load_classifier(open_model(tmp_path / "damaged"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (HeadFacts("classify", ("a",)), "one class only"),
        (HeadFacts("multilabel", ()), "has 0 labels"),
        (HeadFacts("classify", ("a", "a")), "the label 'a' twice"),
        (HeadFacts("classify", ("a", "b\tc")), "on one line"),
        (HeadFacts("classify", tuple(map(str, range(100_001)))), "has 100,001 labels"),
    ],
)
def test_labels_that_cannot_be_are_refused(folder_of: ModelFolder, facts: HeadFacts, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        new_classifier(open_model(folder_of("bert")), facts, seed=0)


def test_a_label_may_be_called_like_a_size(model_folder: ModelFolder, tmp_path: Path) -> None:
    labels = {number: f"layer_{number}" for number in range(300)}
    names = {label: number for number, label in labels.items()}
    folder = published("bert", tmp_path / "m", model_folder("bert"), id2label=labels, label2id=names)
    assert load_classifier(open_model(folder)).labels == tuple(names)


def test_gradients_reach_every_weight(folder_of: ModelFolder) -> None:
    classifier = new_classifier(open_model(folder_of("dnabert2")), HeadFacts("classify", LABELS), seed=1)
    module = trainable_classifier(classifier)
    loss = torch.nn.functional.cross_entropy(
        classifier.logits(*batch(classifier, SEQUENCES)), torch.tensor([0, 1, 2, 0])
    )
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert load_file(folder_of("dnabert2") / "model.safetensors")  # the file itself is not changed
