"""Models that transformers computes: which are read, how many tokens, and files whose parts do not fit together."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import ARCHITECTURES, SIZES, VOCABULARY
from dnalm.engine.inference import Piece, pad
from dnalm.errors import UserError
from dnalm.models import transformers_names, transformers_native
from dnalm.models.model_file import StoredModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from mistral_dna import write_mistral_dna
from safetensors.torch import load_file, save_file
from torch import Tensor

ModelFolder = Callable[[str], Path]
Change = Callable[[dict[str, Any], dict[str, Tensor]], object]
SEQUENCES = ["ACGTTGCANNACGGATTACAGATTACACC", "ACG", "TTTTGACATTACGATCGATCGGATCTAGCTAGCTAGGCTAAA", "N"]


def with_config(stored: StoredModel, **changes: Any) -> StoredModel:
    """Return a model with another config; None leaves a key out."""
    changed = {key: value for key, value in (stored.config | changes).items() if value is not None}
    return dataclasses.replace(stored, config=changed)


def test_every_architecture_that_is_read_is_tested() -> None:
    assert {name.split("-rotary")[0].split("-absolute")[0] for name in ARCHITECTURES} == set(
        transformers_names.ARCHITECTURES
    )


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "esm-absolute", "mixtral"])
def test_a_model_without_head_gives_the_same(model_folder: ModelFolder, tmp_path: Path, architecture: str) -> None:
    folder = model_folder(architecture)
    transformers.AutoModel.from_pretrained(folder, trust_remote_code=False).save_pretrained(tmp_path)
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path)
    models = [load_language_model(open_model(place)) for place in (folder, tmp_path)]
    assert len(models[1].stored.tensors) < len(models[0].stored.tensors) or architecture == "bert"
    (encoding,) = models[0].encode([SEQUENCES[0]])
    ids = torch.from_numpy(encoding.ids)[None]
    with torch.inference_mode():
        first, second = (model.hidden_states(ids, None, [3])[0] for model in models)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("architecture", "positions"),
    [("bert", 256), ("roberta", 254), ("esm-absolute", 254), ("esm-rotary", 254), ("llama", 256), ("gpt2", 256)],
)
def test_a_sequence_as_long_as_the_positions_runs(model_folder: ModelFolder, architecture: str, positions: int) -> None:
    """Without a limit of the tokenizer, the model's own positions decide; all of them can be used."""
    stored = open_model(model_folder(architecture))
    files = {"vocab.txt": stored.tokenizer["vocab.txt"]}
    model = load_language_model(dataclasses.replace(stored, tokenizer=files))
    assert model.context_length == positions
    ids = torch.full((1, positions), 5)
    with torch.inference_mode():
        assert torch.isfinite(model.hidden_states(ids, None, [3])[0]).all()


@pytest.mark.parametrize(
    ("architecture", "context", "causal"), [("esm-absolute", 200, False), ("bert", 200, False), ("llama", 200, True)]
)
def test_context_and_direction(model_folder: ModelFolder, architecture: str, context: int, causal: bool) -> None:
    model = load_language_model(open_model(model_folder(architecture)))
    assert (model.context_length, model.causal) == (context, causal)


def changed(folder: Path, tmp_path: Path, change: Change) -> Path:
    """Return a copy of a model folder with another config or other weights."""
    copy = tmp_path / "changed"
    shutil.copytree(folder, copy)
    config, tensors = json.loads((copy / "config.json").read_text()), load_file(copy / "model.safetensors")
    change(config, tensors)
    (copy / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, copy / "model.safetensors")
    return copy


EXPERT = "model.layers.1.block_sparse_moe.experts.2.w1.weight"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"
REFUSED: dict[str, tuple[str, Change, str]] = {
    "missing tensor": ("bert", lambda config, tensors: tensors.pop(QUERY), f"tensor '{QUERY}' is missing"),
    "missing expert": (
        "mixtral",
        lambda config, tensors: tensors.pop(EXPERT),
        r"the parts of tensor .*\.layers\.1\.mlp\.experts\.gate_up_proj.* are missing",
    ),
    "wrong shape": (
        "bert",
        lambda config, tensors: tensors.update({QUERY: torch.ones(32, 31)}),
        r"has the shape \(32, 31\), the config asks for \(32, 32\)",
    ),
    "unknown tensor": (
        "bert",
        lambda config, tensors: tensors.update(extra=torch.ones(2)),
        "tensor 'extra' is unknown",
    ),
    "whole numbers": (
        "bert",
        lambda config, tensors: tensors.update({QUERY: torch.ones(32, 32, dtype=torch.int32)}),
        "holds whole numbers",
    ),
    "NaN": ("bert", lambda config, tensors: tensors[QUERY].fill_(float("nan")), "NaN or infinite weights"),
    "half of a pair": (
        "bert",
        lambda config, tensors: config.update(is_decoder=True),
        "half of an encoder and decoder",
    ),
    "unsteady positions": (
        "llama",
        lambda config, tensors: config.update(
            rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
        ),
        "change with the longest sequence of a batch",
    ),
    "unsteady positions of one kind of layer": (
        "modernbert",
        lambda config, tensors: config["rope_parameters"]["full_attention"].update(rope_type="dynamic", factor=2.0),
        "change with the longest sequence of a batch",
    ),
    "endless labels": ("bert", lambda config, tensors: config.update(num_labels=10**9), "over 100,000 labels"),
    "endless list": ("gpt2", lambda config, tensors: config.update(n_layer=10**9), "n_layer = 1,000,000,000"),
    "deep": ("bert", lambda config, tensors: config.update(a={"b": {"c": {"d": {"e": {}}}}}), "nested too deep"),
    "no heads": ("bert", lambda config, tensors: config.update(num_attention_heads=0), "num_attention_heads = 0"),
    "uneven heads": ("llama", lambda config, tensors: config.update(num_attention_heads=3), "model 'changed'"),
    "negative": ("llama", lambda config, tensors: config.update(hidden_size=-32), "model 'changed'"),
    "negative heads": (
        "bert",
        lambda config, tensors: config.update(num_attention_heads=-4),
        "num_attention_heads = -4",
    ),
    "negative window": ("mixtral", lambda config, tensors: config.update(sliding_window=-1), "sliding_window = -1"),
    "negative choice": ("mixtral", lambda config, tensors: config.update(num_experts_per_tok=-1), "per_tok = -1"),
    "no layers": ("bert", lambda config, tensors: config.update(num_hidden_layers=0), "num_hidden_layers = 0"),
    "no positions": ("bert", lambda config, tensors: config.update(max_position_embeddings=1), "has the shape"),
    "odd activation": ("bert", lambda config, tensors: config.update(hidden_act="foo"), "cannot be loaded"),
    "quantised": ("bert", lambda config, tensors: config.update(quantization_config={"bits": 4}), "is quantised"),
    "huge": ("bert", lambda config, tensors: config.update(hidden_size=10**6), "has the shape"),
    "endless layers": ("bert", lambda config, tensors: config.update(num_hidden_layers=10**9), "num_hidden_layers"),
    "endless positions": (
        "llama",
        lambda config, tensors: config.update(max_position_embeddings=10**9),
        "max_position",
    ),
    "nonsense": ("llama", lambda config, tensors: config.update(hidden_size="wide"), "cannot be loaded"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_a_model_whose_parts_do_not_fit_is_refused(model_folder: ModelFolder, tmp_path: Path, case: str) -> None:
    architecture, change, sentence = REFUSED[case]
    folder = changed(model_folder(architecture), tmp_path, change)
    with pytest.raises(UserError, match=sentence) as error:
        load_language_model(open_model(folder))
    assert "\n" not in str(error.value)


def test_remote_code_and_strange_pads_of_a_config_are_ignored(model_folder: ModelFolder, tmp_path: Path) -> None:
    def change(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        config["auto_map"] = {"AutoModel": "modeling_evil.EvilModel"}
        config["_attn_implementation"] = config["attn_implementation"] = "somebody/kernel"
        config["experts_implementation"] = "somebody/kernel"
        config["return_dict"] = False
        config["architectures"] = 5
        config["transformers_weights"] = "/etc/passwd"
        config["pad_token_id"] = config["vocab_size"]

    folder = changed(model_folder("mixtral"), tmp_path, change)
    (folder / "modeling_evil.py").write_text("raise SystemExit('remote code ran')")
    model = load_language_model(open_model(folder))
    pieces = [Piece(encoding.ids, np.ones(len(encoding), dtype=np.float32)) for encoding in model.encode(SEQUENCES)]
    input_ids, attention_mask, _ = pad(pieces, model.pad_id)
    with torch.inference_mode():
        assert torch.isfinite(model.hidden_states(input_ids, attention_mask, [3])[0]).all()


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_a_bound_on_layers_may_exceed_their_number(tmp_path: Path, architecture: str) -> None:
    """Qwen's max_window_layers is 28 by default, and a model of one layer has fewer tensors."""
    model_class = getattr(transformers, ARCHITECTURES[architecture][0])
    settings = SIZES | ARCHITECTURES[architecture][1] | {"num_hidden_layers": 1}
    model_class(model_class.config_class(**settings)).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    assert len(load_language_model(open_model(tmp_path)).layers) == 1


def test_keys_that_choose_code_or_kinds_of_output_do_not_reach_the_config(model_folder: ModelFolder) -> None:
    stored = open_model(model_folder("bert"))
    strange = {"torch_dtype": "float16", "return_dict": False, "output_attentions": True, "chunk_size_feed_forward": 3}
    config = transformers_native.read_config(with_config(stored, **strange))
    assert (config.hidden_size, config.num_hidden_layers) == (32, 3)
    assert (config.return_dict, config.output_attentions, config.chunk_size_feed_forward) == (True, False, 0)
    assert config.dtype is None


@pytest.mark.parametrize(("pad", "kept"), [(68, 68), (69, None), (70, None)])
def test_a_pad_beyond_the_vocabulary_is_none(model_folder: ModelFolder, pad: int, kept: int | None) -> None:
    stored = with_config(open_model(model_folder("llama")), vocab_size=69, pad_token_id=pad)
    assert transformers_native.read_config(stored).pad_token_id == kept


def test_weights_are_checked_against_any_head_where_the_config_names_no_class(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    for folder in (model_folder("bert"), write_mistral_dna(tmp_path / "classifier")):
        stored = with_config(open_model(folder), architectures=None)
        transformers_native.check_tensors(stored, transformers_native.read_config(stored))
    stored = open_model(model_folder("bert"))
    named = with_config(stored, architectures=["BertForSequenceClassification"])
    with pytest.raises(UserError, match=r"do not fit its config: tensor '.*' is missing"):
        transformers_native.check_tensors(named, transformers_native.read_config(named))
    # A class of another architecture, or of no model, says nothing.
    for strange in (["LlamaForCausalLM", "BertTokenizer", "absent", 5], "BertModel"):
        other = with_config(stored, architectures=strange)
        transformers_native.check_tensors(other, transformers_native.read_config(other))


def test_published_classifiers_are_distinguished_from_language_models(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    classifier = open_model(write_mistral_dna(tmp_path / "classifier"))
    language_model = open_model(model_folder("mixtral"))
    assert transformers_native.is_sequence_classifier(classifier)
    assert not transformers_native.is_sequence_classifier(language_model)
    assert transformers_native.load_sequence_classifier(language_model) is None
    found = transformers_native.load_sequence_classifier(classifier)
    assert found is not None
    model, whole = found
    assert isinstance(whole, transformers.MixtralForSequenceClassification)
    assert model.backbone is whole.base_model
    assert (model.causal, model.with_head, len(model.layers)) == (True, None, 3)


@pytest.mark.parametrize(("architecture", "causal"), [("bert", False), ("llama", True)])
def test_an_untrained_model_is_in_float32_and_names_its_class(
    model_folder: ModelFolder, architecture: str, causal: bool
) -> None:
    stored = with_config(open_model(model_folder(architecture)), torch_dtype="bfloat16", architectures=None)
    model = transformers_native.create(stored, causal=causal)
    assert model.with_head is not None
    assert {parameter.dtype for parameter in model.with_head.parameters()} == {torch.float32}
    assert model.stored.config["architectures"] == [ARCHITECTURES[architecture][0]]
    assert (model.causal, model.hidden_size, model.vocabulary_size) == (causal, 32, len(VOCABULARY))
    with pytest.raises(UserError, match=f"architecture {architecture} cannot be trained with the objective"):
        transformers_native.create(stored, causal=not causal)


@pytest.mark.parametrize(("device", "chosen"), [("cpu", "eager"), ("cuda", "grouped_mm")])
def test_models_without_experts_are_left_as_they_are(model_folder: ModelFolder, device: str, chosen: str) -> None:
    for architecture, expected in (("mixtral", chosen), ("bert", None)):
        model = load_language_model(open_model(model_folder(architecture)))
        assert isinstance(model.backbone, transformers.PreTrainedModel)
        before = model.backbone.config._experts_implementation
        transformers_native.choose_experts(model.backbone, device)
        assert model.backbone.config._experts_implementation == (expected or before)


def test_published_tensors_have_the_published_names_of_experts(model_folder: ModelFolder, tmp_path: Path) -> None:
    """Transformers joins the experts of a layer into one tensor, files have them one by one."""
    folder = model_folder("mixtral")
    model = load_language_model(open_model(folder), head=True)
    assert model.with_head is not None
    assert any("gate_up_proj" in name for name in model.with_head.state_dict())
    found, wanted = (
        transformers_native.published_tensors(model.with_head, tmp_path),
        load_file(folder / "model.safetensors"),
    )
    assert EXPERT in found
    assert found.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())


# What older versions wrote beside the weights of layer 0: architecture → names.
MASK = torch.ones(1, 1, 256, 256, dtype=torch.uint8).tril()
BUFFERS: dict[str, dict[str, Tensor]] = {
    "gpt2": {"transformer.h.0.attn.bias": MASK, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)},
    "gpt_neox": {
        "gpt_neox.layers.0.attention.bias": MASK.bool(),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9).half(),  # −∞
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(4),
    },
    "phi": {
        "model.layers.0.self_attn.rotary_emb.cos_cached": torch.ones(256, 8),
        "model.layers.0.self_attn.rotary_emb.sin_cached": torch.ones(256, 8),
    },
    "deberta-v2": {"mask_predictions.dense.weight": torch.ones(2, 2)},
    "esm-rotary": {
        "esm.embeddings.position_ids": torch.arange(256)[None],
        "esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq": torch.ones(4),
        "esm.contact_head.regression.bias": torch.ones(1),
    },
    **{
        name: {
            f"{prefix}.embeddings.position_ids": torch.arange(256)[None],
            f"{prefix}.embeddings.token_type_ids": torch.zeros(1, 256, dtype=torch.long),
        }
        for name, prefix in {
            "bert": "bert",
            "roberta": "roberta",
            "electra": "electra",
            "distilbert": "distilbert",
        }.items()
    },
    **{
        name: {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
        for name in ("gemma", "gemma2", "llama", "mistral", "mixtral", "olmo", "olmo2", "qwen2", "qwen3", "starcoder2")
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", BUFFERS)
@pytest.mark.parametrize("head", [False, True])
def test_buffers_of_older_versions_change_nothing(
    model_folder: ModelFolder, tmp_path: Path, architecture: str, head: bool
) -> None:
    folder = changed(
        model_folder(architecture), tmp_path, lambda config, tensors: tensors.update(BUFFERS[architecture])
    )
    found, expected = (
        load_language_model(open_model(path), head=head) for path in (folder, model_folder(architecture))
    )
    ids = torch.arange(4, 20)[None]
    with torch.inference_mode():
        for one, other in zip(
            found.hidden_states(ids, None, range(4)), expected.hidden_states(ids, None, range(4)), strict=True
        ):
            assert torch.equal(one, other)


@pytest.mark.parametrize("architecture", ["esm-rotary", "modernbert-decoder", "mixtral"])
def test_a_model_with_a_pad_beyond_the_vocabulary_gives_the_same(
    model_folder: ModelFolder, tmp_path: Path, architecture: str
) -> None:
    folder = changed(model_folder(architecture), tmp_path, lambda config, tensors: config.update(pad_token_id=5_000))
    found, expected = (load_language_model(open_model(path)) for path in (folder, model_folder(architecture)))
    ids = torch.arange(4, 20)[None]
    with torch.inference_mode():
        assert torch.equal(found.hidden_states(ids, None, [3])[0], expected.hidden_states(ids, None, [3])[0])


@pytest.mark.parametrize("architecture", ["esm-absolute", "roberta"])
def test_a_pad_beyond_the_vocabulary_from_which_positions_are_counted_is_named(
    model_folder: ModelFolder, tmp_path: Path, architecture: str
) -> None:
    folder = changed(model_folder(architecture), tmp_path, lambda config, tensors: config.update(pad_token_id=5_000))
    with pytest.raises(UserError, match=r"pad_token_id = 5000, .* positions are counted from it\. .* tokenizer's is 1"):
        load_language_model(open_model(folder))
