"""Which code reads which model: language models, segmenters, untrained models, and unknown architectures."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import REPOSITORY, TEST_DATA
from dnalm.errors import UserError
from dnalm.models import transformers_native
from dnalm.models.head_config import HeadFacts
from dnalm.models.heads import new_classifier
from dnalm.models.model_file import StoredModel
from dnalm.models.registry import (
    is_known,
    is_segmenter,
    load_language_model,
    load_segmenter,
    made_trainable,
    new_language_model,
    published_config,
    published_tensors,
    refuse_unknown_architecture,
    trainable,
    with_config_of_tensors,
)
from dnalm.models.sources import open_model
from dnalm.models.vocabularies import all_kmers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

PARITY = REPOSITORY / "tests" / "parity" / "data"
ModelFolder = Callable[[str], Path]
LETTERS = {"tokenizer.json": json.loads(all_kmers(1).to_str())}  # 10 tokens: five special ones, A, C, G, T, N
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
LLAMA = SIZES | {"model_type": "llama"}


@pytest.mark.parametrize("architecture", ["nt_v2", "dnabert2", "bert", "llama"])
def test_a_config_decides_which_code_reads_a_model(model_folder: ModelFolder, architecture: str) -> None:
    ours = architecture in ("nt_v2", "dnabert2")
    stored = open_model(PARITY / architecture if ours else model_folder(architecture))
    model = load_language_model(stored)
    names = {"nt_v2": "nucleotide-transformer-v2", "dnabert2": "dnabert-2"}
    assert model.architecture == names.get(architecture, architecture)
    assert isinstance(model.backbone, transformers.PreTrainedModel) is not ours
    assert model.stored is stored
    assert is_known(stored.config)


def test_the_language_model_of_a_classifier_is_stored_with_its_head() -> None:
    stored = open_model(TEST_DATA / "classifier.safetensors")
    assert load_language_model(stored).stored is stored


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "hyena"}, "'hyena' .* is unknown"),
        ({"model_type": "vit"}, "'vit' .* is unknown"),
        ({"model_type": [5]}, "is unknown here"),
        ({}, "architecture 'None' .* is unknown"),
    ],
)
def test_an_architecture_that_nothing_reads_is_named_with_those_that_are_read(
    random_model: Path, config: dict[str, Any], said: str
) -> None:
    stored = dataclasses.replace(open_model(random_model), config=config)
    with pytest.raises(UserError, match=said) as error:
        load_language_model(stored)
    assert "\n" not in str(error.value)
    for name in ("nucleotide-transformer-v2", "dnabert-2", "segment_enformer", "llama", "scgpt"):
        assert name in str(error.value)
    assert not is_known(config)
    with pytest.raises(UserError, match=said):
        refuse_unknown_architecture(config, "m")


def test_a_model_of_cells_is_no_language_model() -> None:
    stored = open_model(TEST_DATA / "scgpt.safetensors")
    assert is_known(stored.config)
    with pytest.raises(UserError, match="reads cells, and no DNA; choose a DNA language model"):
        load_language_model(stored)


@pytest.mark.parametrize("case", ["segment_enformer", "segment_borzoi"])
def test_a_segmenter_of_bases_is_no_language_model(case: str) -> None:
    with pytest.raises(UserError, match="stands on no language model"):
        load_language_model(open_model(PARITY / case))


@pytest.mark.parametrize(
    ("case", "architecture"),
    [
        ("segment_nt", "segment-nt"),
        ("segment_enformer", "segment_enformer"),
        ("segment_borzoi", "segment_borzoi"),
        ("nt_v2", None),
        ("scgpt", None),
    ],
)
def test_segmenters_are_distinguished_from_other_models(case: str, architecture: str | None) -> None:
    stored = open_model(PARITY / case)
    assert is_segmenter(stored) is (architecture is not None)
    if architecture is not None:
        assert load_segmenter(stored).architecture == architecture


def test_a_model_without_a_head_is_no_segmenter(random_model: Path) -> None:
    with pytest.raises(UserError, match="'dnalm-random' is no segmenter"):
        load_segmenter(open_model(random_model))


@pytest.mark.parametrize("case", ["segment_enformer", "segment_borzoi"])
def test_sizes_follow_from_tensors_where_the_config_has_none(case: str) -> None:
    stored = open_model(PARITY / case)
    found = with_config_of_tensors(dataclasses.replace(stored, config={"architectures": ["Unknown"]})).config
    published = {"target_length": 6_144} if case == "segment_borzoi" else {}
    wanted = {key: value for key, value in stored.config.items() if key in found}
    assert found == wanted | published | {"dim_divisible_by": found["dim_divisible_by"]}
    assert found["features"] == stored.config["features"]  # the paper's, since there are as many


def test_features_without_names_are_refused() -> None:
    stored = open_model(PARITY / "segment_enformer")
    shape = stored.tensors["params/u_net_head/~/fc/w"]
    fewer = dataclasses.replace(shape, shape=(36, 2 * 128 * 3))
    tensors = {**stored.tensors, "params/u_net_head/~/fc/w": fewer}
    with pytest.raises(UserError, match="predicts 3 features and names none"):
        with_config_of_tensors(dataclasses.replace(stored, config={}, tensors=tensors))
    named = with_config_of_tensors(dataclasses.replace(stored, config={"features": ["a", "b", "c"]}, tensors=tensors))
    assert named.config["features"] == ["a", "b", "c"]


def test_a_config_that_is_known_or_cannot_be_completed_is_kept(random_model: Path) -> None:
    unknown = dataclasses.replace(open_model(random_model), config={"a": 1})
    for stored in (open_model(random_model), open_model(PARITY / "segment_enformer"), unknown):
        assert with_config_of_tensors(stored) is stored


def test_a_new_model_has_the_words_and_special_tokens_of_its_tokenizer() -> None:
    model = new_language_model(LLAMA, LETTERS, "new", causal=True)
    config = model.stored.config
    assert (config["vocab_size"], config["pad_token_id"], config["bos_token_id"], config["eos_token_id"]) == (
        10,
        3,
        1,
        None,
    )
    assert (model.vocabulary_size, model.causal, model.stored.name) == (10, True, "new")
    (encoding,) = model.encode(["ACGT"])
    assert model.logits(torch.from_numpy(encoding.ids).long()[None], None).shape == (1, 5, 10)


def test_torchs_seed_decides_over_new_weights() -> None:
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = new_language_model(LLAMA, LETTERS, "new", causal=True)
        made.append(torch.cat([parameter.flatten() for parameter in model.backbone.parameters()]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize(
    ("config", "causal", "sentence"),
    [
        (LLAMA | {"vocab_size": 4_096}, True, "has vocab_size 4,096, the tokenizer 10 words; leave vocab_size out"),
        (LLAMA, False, "architecture llama cannot be trained with the objective masked"),
        (SIZES | {"model_type": "bert"}, True, "architecture bert cannot be trained with the objective causal"),
        (LLAMA | {"num_attention_heads": 0}, True, "No model can be made of this config"),
        (LLAMA | {"num_hidden_layers": 5_000}, True, "num_hidden_layers = 5,000"),
        (SIZES | {"model_type": "hyena"}, True, "'hyena' of the model 'new' is unknown here"),
    ],
)
def test_a_new_model_that_cannot_be_is_refused(config: dict[str, Any], causal: bool, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        new_language_model(config, LETTERS, "new", causal=causal)


def test_a_vocabulary_of_the_tokenizers_size_may_be_named() -> None:
    assert new_language_model(LLAMA | {"vocab_size": 10}, LETTERS, "new", causal=True).vocabulary_size == 10


def test_experts_multiply_as_suits_the_device() -> None:
    model = new_language_model(
        SIZES | {"model_type": "mixtral", "num_key_value_heads": 2}, LETTERS, "test", causal=True
    )
    for device, chosen in (("cpu", "eager"), ("cuda", "grouped_mm")):
        assert trainable(model, device).config._experts_implementation == chosen  # type: ignore[union-attr]


def test_weights_to_be_trained_are_copies_with_gradients() -> None:
    linear = nn.Linear(2, 3)
    module = nn.Sequential(linear, nn.Dropout()).eval().requires_grad_(False)
    mapped = torch.arange(6.0).reshape(2, 3)
    linear.weight.data = mapped.T  # no module may write into the tensors of a file
    ready = made_trainable(module)
    assert ready is module
    assert ready.training
    for parameter in module.parameters():
        assert parameter.requires_grad
        assert parameter.is_contiguous()
    with torch.no_grad():
        linear.weight.zero_()
    assert mapped.flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("architecture", ["nt_v2", "dnabert2", "mixtral"])
def test_published_tensors_are_those_of_the_published_file(
    model_folder: ModelFolder, tmp_path: Path, architecture: str
) -> None:
    folder = model_folder(architecture) if architecture == "mixtral" else PARITY / architecture
    wanted = load_file(folder / "model.safetensors")
    model = load_language_model(open_model(folder), head=True)
    found = published_tensors(model, tmp_path)
    unused = {"cls.predictions.decoder.weight"}  # DNABERT-2's once more: it is tied to the embeddings
    unused |= {name for name in wanted if "contact_head" in name or "position_embeddings" in name or "inv_freq" in name}
    assert found.keys() == wanted.keys() - unused
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())


def test_a_full_disk_is_an_error_of_the_system(
    model_folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Safetensors says so in words alone."""

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    model = load_language_model(open_model(model_folder("bert")))
    monkeypatch.setattr(transformers_native, "published_tensors", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        published_tensors(model, tmp_path)
    assert (error.value.errno, error.value.filename) == (28, str(tmp_path))


def test_the_config_of_a_backbone_names_its_class(model_folder: ModelFolder) -> None:
    stored = open_model(model_folder("bert"))
    assert published_config(load_language_model(stored, head=True))["architectures"] == ["BertForMaskedLM"]
    assert published_config(load_language_model(stored)) == stored.config | {"architectures": ["BertModel"]}


def test_the_config_of_a_segmenters_backbone_has_the_factor_of_its_frequencies(
    changed_segmenter: Callable[..., StoredModel],
) -> None:
    def slow(tensors: dict[str, Tensor]) -> None:
        base = 10_000 * 2 ** (8 / 6)  # heads of 8
        for name in tensors:
            if name.endswith("inv_freq"):
                tensors[name] = base ** (-torch.arange(0, 8, 2) / 8)

    plain, slowed = (published_config(load_language_model(changed_segmenter(*how))) for how in ((), (slow,)))
    assert plain["rescaling_factor"] is None
    assert slowed["rescaling_factor"] == pytest.approx(2, abs=1e-3)


def test_a_new_model_that_would_fail_in_its_training_is_refused() -> None:
    config = LLAMA | {
        "model_type": "mixtral",
        "num_key_value_heads": 2,
        "num_local_experts": 2,
        "num_experts_per_tok": 3,
    }
    with pytest.raises(UserError, match=r"'new' cannot run a sequence \(.+\); fix its config"):
        new_language_model(config, LETTERS, "new", causal=True)


def test_a_model_that_fails_is_refused_before_it_is_trained(model_folder: ModelFolder) -> None:
    stored = open_model(model_folder("mixtral"))
    model = load_language_model(
        dataclasses.replace(stored, config=stored.config | {"num_experts_per_tok": 9}), head=True
    )
    with pytest.raises(UserError, match="cannot run a sequence"):
        trainable(model)
    with pytest.raises(UserError, match="cannot run a sequence"):
        new_classifier(model.stored, HeadFacts("classify", ("a", "b")), seed=0)
