"""Models that classify or regress: a backbone with a pooled linear head of ours, or a published sequence classifier.

    classifier = load_classifier(open_model(path))                      # NoClassifier if it has no such head
    classifier = new_classifier(open_model(path), HeadFacts("classify", ("enhancer", "other")), seed=0)
    logits = classifier.logits(input_ids, attention_mask, weights)      # shape (batch, labels)
    write_classifier(path, classifier, folder, name=…, provenance=…)

The first is the same for every architecture (`head_config` says what the file holds), the second is what transformers'
own `…ForSequenceClassification` was saved as. Every model file with a head of ours is a language model's file as well:
`load_language_model` leaves the head alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dnalm.errors import UserError
from dnalm.models import transformers_names
from dnalm.models.failures import loading, running
from dnalm.models.head_config import (
    BIAS,
    PROBLEM_TYPES,
    WEIGHT,
    HeadFacts,
    Task,
    check_facts,
    config_with_head,
    has_head,
    has_other_backbone,
    read_facts,
    read_labels,
    without_head,
)
from dnalm.models.language_model import LanguageModel, Logits
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.registry import (
    check_runs,
    load_language_model,
    made_trainable,
    published_config,
    published_tensors,
)
from dnalm.models.weights import INITIAL_DEVIATION

if TYPE_CHECKING:
    from transformers import PreTrainedModel

USUAL_LABELS = 2  # where a published config says nothing of them


class NoClassifier(UserError):  # noqa: N818 (a fact about a model more than an error)
    """A prediction is asked of a model that has no head for it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The model '{name}' has no head that classifies or regresses; fine-tune it on labelled sequences first, or "
            "choose a model that was."
        )


@dataclass
class Classifier:
    """A language model with a head that gives one number a label.

    Attributes:
        model: the language model, whose backbone is a part of `module`.
        module: from `input_ids`, `attention_mask` and `weights` to `logits`, shape (batch, labels).
        facts: task, labels and what its numbers mean.
        pooled: whether the head is of the mean of hidden states, so that windows can be averaged before it; a published
            head reads a sequence as a whole.
        origin: 'file', or how a fresh head was drawn.
    """

    model: LanguageModel
    module: nn.Module
    facts: HeadFacts
    pooled: bool
    origin: str = "file"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the head's outputs, in order."""
        return self.facts.labels

    @property
    def task(self) -> Task:
        """'classify', 'multilabel' or 'regress'."""
        return self.facts.task

    def logits(self, input_ids: Tensor, attention_mask: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """Return one number a sequence and label, before temperature or scale; shape (batch, labels), float32.

        Args:
            input_ids: shape (batch, tokens), padded on the right.
            attention_mask: 1 for a token, 0 for padding, same shape; None where nothing is padded.
            weights: 1 for a token that covers bases, 0 for special tokens and padding, same shape; a pooled head needs
                it, a published one does not look at it.
        """
        with running(self.model.stored.name):
            found: Tensor = self.module(input_ids=input_ids, attention_mask=attention_mask, weights=weights).logits
        return found.float()

    def of_vectors(self, vectors: Tensor) -> Tensor:
        """Return the logits of pooled vectors, shape (sequences, hidden size), as `dnalm_embed` gives them."""
        assert isinstance(self.module, PooledClassifier)
        logits: Tensor = self.module.classifier(vectors)
        return logits

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the weights; a pooled head keeps its float32."""
        for parameter in self.module.parameters():
            parameter.data = parameter.data.to(device, dtype)
        self.module.to(device)
        if isinstance(self.module, PooledClassifier):
            self.module.classifier.float()


class PooledClassifier(nn.Module):
    """A backbone, the mean of its last hidden states over the tokens that cover bases, and a linear layer."""

    def __init__(self, backbone: nn.Module, hidden_size: int, labels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(hidden_size, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, weights: Tensor | None = None) -> Logits:
        """Return logits of shape (batch, labels); ids, mask and weights have the shape (batch, tokens)."""
        assert weights is not None
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        # Masked before it is multiplied: 0 times an infinite padding value would be NaN.
        counted = states.masked_fill(weights.unsqueeze(-1) == 0, 0.0) * weights.unsqueeze(-1)
        return Logits(self.classifier(counted.sum(dim=1) / weights.sum(dim=1, keepdim=True)))


class SequenceClassifier(nn.Module):
    """A classifier of transformers, whose batches may be padded whatever its config says of pads.

    Models that read left to right classify by their last token. transformers finds it by the pad id of the config, which
    need not be there; here padding is what the attention mask says, and what transformers would leave out.
    """

    def __init__(self, whole: "PreTrainedModel", *, causal: bool) -> None:
        super().__init__()
        self.whole, self.causal = whole, causal

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, weights: Tensor | None = None) -> Logits:
        """Return logits of shape (batch, labels); ids and mask have the shape (batch, tokens)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        whole: Any = self.whole
        if not self.causal:
            return Logits(whole(input_ids=input_ids, attention_mask=mask).logits)
        states = whole.base_model(input_ids=input_ids, attention_mask=mask).last_hidden_state
        pad = whole.config.pad_token_id
        kept = mask.bool() if pad is None else mask.bool() & (input_ids != pad)
        last = (kept * torch.arange(input_ids.shape[1], device=input_ids.device)).argmax(dim=1)
        vectors = states[torch.arange(len(states), device=states.device), last]
        return Logits(whole.score(vectors) if hasattr(whole, "score") else whole.classifier(whole.head(vectors)))


def is_classifier(stored: StoredModel) -> bool:
    """Say whether a model has a head that classifies or regresses.

    Raises:
        UserError: its architecture is unknown, or its config absurd.
    """
    with loading(stored.name):
        return has_head(stored.config) or _is_published_classifier(stored)


def labels_of(stored: StoredModel) -> list[str] | None:
    """Return the labels that a classifier's config names; None if it leaves them to its library."""
    return list(read_labels(stored)) if stored.config.get("id2label") else None


def config_with_labels(stored: StoredModel, labels: Sequence[str]) -> dict[str, Any]:
    """Return a classifier's config with other names of its labels, or as it is if there are none.

    Raises:
        UserError: they are not as many as before.
    """
    if not labels:
        return stored.config
    named = labels_of(stored)
    count = len(named) if named is not None else stored.config.get("num_labels", USUAL_LABELS)
    if len(labels) != count:
        raise UserError(
            f"The model '{stored.name}' has {count} labels, and {len(labels)} are named; name each of them."
        )
    rest = {key: value for key, value in stored.config.items() if key not in ("label2id", "num_labels")}
    return rest | {"id2label": {str(number): label for number, label in enumerate(labels)}}


def load_classifier(stored: StoredModel) -> Classifier:
    """Return a model with its head, in float32 on the CPU, ready for inference.

    Raises:
        NoClassifier: it has no head that classifies or regresses.
        UserError: the model cannot be loaded, or its head does not fit it.
    """
    if has_head(stored.config):
        return _load_pooled(stored)
    if not transformers_names.recognises(stored.config):
        raise NoClassifier(stored.name)
    from dnalm.models import transformers_native

    with loading(stored.name):
        found = transformers_native.load_sequence_classifier(stored)
    if found is None:
        raise NoClassifier(stored.name)
    model, whole = found
    facts = _published_facts(stored, whole.config.num_labels)
    check_facts(facts, stored.name)
    return Classifier(model, SequenceClassifier(whole, causal=model.causal), facts, pooled=False)


def new_classifier(stored: StoredModel, facts: HeadFacts, seed: int) -> Classifier:
    """Return a model with a fresh head, drawn from N(0, 0.02²) with a seed of its own; an earlier head is left out.

    Raises:
        UserError: the model cannot be loaded, or the labels cannot be.
    """
    check_facts(facts, stored.name)
    model = load_language_model(stored)
    check_runs(model)
    module = PooledClassifier(model.backbone, model.hidden_size, len(facts.labels)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    module.classifier.weight.normal_(std=INITIAL_DEVIATION, generator=generator)
    module.classifier.bias.zero_()
    origin = f"a fresh head of {len(facts.labels):,} outputs, drawn with seed {seed}"
    return Classifier(model, module, facts, pooled=True, origin=origin)


def trainable_classifier(classifier: Classifier) -> nn.Module:
    """Return a classifier's module ready to be trained: weights of its own that no file is mapped to."""
    return made_trainable(classifier.module)


def write_classifier(
    path: Path,
    classifier: Classifier,
    folder: Path,
    *,
    name: str,
    provenance: Mapping[str, Any],
    same_backbone: bool = False,
    training: Mapping[str, Any] | None = None,
    training_tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model with a pooled head as a model file: weights, labels in their order, tokenizer, licence.

    Args:
        path: the file.
        classifier: what to write; any LoRA is merged already.
        folder: an empty folder of this job's own.
        name: what people call the model.
        provenance: what was done, and to which model.
        same_backbone: the backbone was not trained: the tensors of the model that it was loaded from are written bit by
            bit, a language-model head among them. Otherwise such a head, which belongs to the old backbone, is left out.
        training: of a checkpoint what its tensors do not hold.
        training_tensors: of a checkpoint.
    """
    assert isinstance(classifier.module, PooledClassifier)
    stored = classifier.model.stored
    language_model = same_backbone and not has_other_backbone(stored.config)
    if same_backbone and not _is_published_classifier(stored):
        bare = without_head(stored)
        tensors, config = bare.read_tensors(), bare.config
    else:
        tensors, config = published_tensors(classifier.model, folder), published_config(classifier.model)
    linear = classifier.module.classifier
    write_model_file(
        path,
        {**tensors, WEIGHT: linear.weight, BIAS: linear.bias},
        config_with_head(config, classifier.facts, language_model=language_model),
        stored.tokenizer,
        name=name,
        licence=stored.licence,
        labels=list(classifier.labels),
        provenance=provenance,
        training=training,
        training_tensors=training_tensors,
    )


def _load_pooled(stored: StoredModel) -> Classifier:
    facts = read_facts(stored)
    shapes = {name: stored.tensors[name].shape for name in (WEIGHT, BIAS) if name in stored.tensors}
    model = load_language_model(stored)
    expected = {WEIGHT: (len(facts.labels), model.hidden_size), BIAS: (len(facts.labels),)}
    for name, shape in expected.items():
        if shapes.get(name) != shape or not stored.tensors[name].dtype.is_floating_point:
            found = f"has the shape {shapes[name]}" if name in shapes else "is missing"
            raise UserError(
                f"The head of the model '{stored.name}' does not fit its labels: tensor '{name}' {found}, where {shape} "
                "is needed; use an intact model."
            )
    module = PooledClassifier(model.backbone, model.hidden_size, len(facts.labels))
    weights = stored.read_tensors((WEIGHT, BIAS))
    module.classifier.load_state_dict({"weight": weights[WEIGHT].float(), "bias": weights[BIAS].float()})
    return Classifier(model, module.eval().requires_grad_(False), facts, pooled=True)


def _published_facts(stored: StoredModel, count: int) -> HeadFacts:
    """Return task and labels of a published classifier; where it says nothing of them, what its library assumes."""
    labels = (
        read_labels(stored) if stored.config.get("id2label") else tuple(f"LABEL_{number}" for number in range(count))
    )
    tasks = {problem: task for task, problem in PROBLEM_TYPES.items()}
    assumed: Task = "regress" if count == 1 else "classify"
    return HeadFacts(tasks.get(str(stored.config.get("problem_type")), assumed), labels)


def _is_published_classifier(stored: StoredModel) -> bool:
    """Say whether a model may have a published head, whose tensors would stand in another head's way."""
    if has_head(stored.config) or not transformers_names.recognises(stored.config):
        return False
    from dnalm.models import transformers_native

    return transformers_native.is_sequence_classifier(stored)
