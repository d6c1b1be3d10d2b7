"""LoRA adapters: which layers have them, what is trained, and that merging leaves no trace."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ARCHITECTURES, REPOSITORY
from dnalm.models import dnabert2, nucleotide_transformer_v2, transformers_names
from dnalm.models.adapters import TARGETS, add_adapters, merged, target_names
from dnalm.models.head_config import HeadFacts
from dnalm.models.heads import Classifier, load_classifier, new_classifier, trainable_classifier, write_classifier
from dnalm.models.sources import open_model
from torch import nn
from transformers.pytorch_utils import Conv1D

# Of what is linear in a layer, what has no adapter: Mixtral's router has a class of its own.
NOT_ADAPTED = {"deberta-v2": {"attention.self.pos_key_proj", "attention.self.pos_query_proj"}}
ALL = [*ARCHITECTURES, "published"]


def classifier_of(model_folder: Callable[[str], Path], architecture: str) -> Classifier:
    own = REPOSITORY / "test-data" / "published_model"
    stored = open_model(own if architecture == "published" else model_folder(architecture))
    classifier = new_classifier(stored, HeadFacts("classify", ("a", "b")), seed=0)
    trainable_classifier(classifier)
    return classifier


def moved(classifier: Classifier) -> None:
    """Give B numbers, as training would."""
    torch.manual_seed(7)
    for name, parameter in classifier.module.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn_like(parameter)


def numbers(classifier: Classifier) -> torch.Tensor:
    (encoding,) = classifier.model.encode(["ACGTTGCAACGATTACCGATAGGATCCATG"])
    weights = torch.from_numpy((~encoding.special).astype("float32"))[None]
    classifier.module.eval()
    with torch.no_grad():
        return classifier.logits(torch.from_numpy(encoding.ids).long()[None], None, weights)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ALL)
def test_every_linear_layer_of_a_layer_is_adapted(model_folder: Callable[[str], Path], architecture: str) -> None:
    model = classifier_of(model_folder, architecture).model
    names = target_names(model)
    modules = dict(model.backbone.named_modules())
    assert len(set(names)) == len(names)
    for layer in model.layers:
        linear = {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear | Conv1D)}
        adapted = {name for name, module in linear.items() if any(module is modules[target] for target in names)}
        assert adapted
        assert linear.keys() - adapted <= NOT_ADAPTED.get(model.architecture, set())


def test_every_architecture_has_targets() -> None:
    ours = {nucleotide_transformer_v2.NAME, dnabert2.NAME}
    assert TARGETS.keys() == ours | set(transformers_names.ARCHITECTURES)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ALL)
def test_merged_weights_give_the_adapted_models_numbers_and_leave_no_trace(
    model_folder: Callable[[str], Path], architecture: str, tmp_path: Path
) -> None:
    classifier = classifier_of(model_folder, architecture)
    before = numbers(classifier)
    weights = {name: tensor.clone() for name, tensor in classifier.module.state_dict().items()}
    add_adapters(classifier.model, rank=3, seed=1)
    assert torch.equal(numbers(classifier), before)
    moved(classifier)
    adapted = numbers(classifier)
    assert not torch.allclose(adapted, before, atol=1e-4)
    with merged(classifier.model.backbone):
        assert torch.allclose(numbers(classifier), adapted, atol=2e-5)
        assert classifier.module.state_dict().keys() == weights.keys()
        (tmp_path / "folder").mkdir()
        write_classifier(tmp_path / "m", classifier, tmp_path / "folder", name="m", provenance={})
    assert torch.equal(numbers(classifier), adapted)
    assert torch.allclose(numbers(load_classifier(open_model(tmp_path / "m"))), adapted, atol=2e-5)
    kept = {name.replace(".base_layer", ""): tensor for name, tensor in classifier.module.state_dict().items()}
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights.items())


def test_adapters_and_head_alone_are_trained(model_folder: Callable[[str], Path]) -> None:
    classifier = classifier_of(model_folder, "llama")
    add_adapters(classifier.model, rank=3, seed=1)
    trained = {name for name, parameter in classifier.module.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or name.startswith("classifier.") for name in trained)
    assert {"classifier.weight", "classifier.bias"} < trained


def test_the_seed_decides_over_the_adapters(model_folder: Callable[[str], Path]) -> None:
    def first(seed: int) -> torch.Tensor:
        classifier = classifier_of(model_folder, "bert")
        add_adapters(classifier.model, rank=3, seed=seed)
        return next(value for name, value in classifier.module.named_parameters() if "lora_A" in name)

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
