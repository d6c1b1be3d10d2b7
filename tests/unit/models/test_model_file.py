"""The model file: canonical bytes, what is read again, and damaged files."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dnalm.errors import UserError
from dnalm.models.model_file import StoredModel, is_finite, read_header, read_model_file, write_model_file
from safetensors.torch import load_file

TENSORS = {
    "b": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a": torch.ones(3, dtype=torch.bfloat16),
    "scalar": torch.tensor(2.5),
    "flags": torch.tensor([True, False, True]),
    "strided": torch.arange(6, dtype=torch.int64).reshape(2, 3).t(),
    "empty": torch.empty(0, 4),
}
CONFIG = {"model_type": "esm", "hidden_size": 3}
TOKENIZER = {"vocab.txt": "A\nC\nG\nT\nN", "tokenizer_config.json": {"eos_token": None}}


def write(path: Path, tensors: dict[str, torch.Tensor] | None = None, **extra: Any) -> Path:
    write_model_file(path, tensors or TENSORS, CONFIG, TOKENIZER, name=extra.pop("name", "tiny"), **extra)
    return path


def header_of(content: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def with_header(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def test_a_written_model_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", licence="MIT", labels=["no", "yes"], provenance={"seed": 1})
    stored = read_model_file(path)
    assert (stored.name, stored.licence, stored.labels, stored.provenance) == (
        "tiny",
        "MIT",
        ["no", "yes"],
        {"seed": 1},
    )
    assert (stored.config, stored.tokenizer) == (CONFIG, TOKENIZER)
    tensors = stored.read_tensors()
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_the_official_library_reads_it(tmp_path: Path) -> None:
    tensors = load_file(write(tmp_path / "m.safetensors"))
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_the_same_model_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    first = write(tmp_path / "a", provenance={"x": 1, "y": 2}).read_bytes()
    second = write(tmp_path / "b", dict(reversed(TENSORS.items())), provenance={"y": 2, "x": 1}).read_bytes()
    assert first == second


@pytest.mark.parametrize("name", ["x" * length for length in range(1, 18)])
def test_the_header_ends_on_8_bytes_with_a_brace(tmp_path: Path, name: str) -> None:
    content = write(tmp_path / "m", name=name).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert content[8 + length - 1 : 8 + length] == b"}"


def test_training_tensors_of_a_checkpoint_are_not_the_models(tmp_path: Path) -> None:
    stored = read_model_file(write(tmp_path / "m", TENSORS | {"training.optimizer.step": torch.ones(2)}))
    assert stored.tensors.keys() == TENSORS.keys()
    assert stored.read_tensors().keys() == TENSORS.keys()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    bad = torch.ones(5, 7, dtype=dtype)
    bad[3, 2] = value
    assert not is_finite(bad)
    with pytest.raises(UserError, match="NaN or infinite weights in 'bad'"):
        read_model_file(write(tmp_path / "m", {"good": torch.ones(2), "bad": bad})).read_tensors()


def entry(start: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "too short"),
    "no safetensors": (b">a\nACGTACGTACGTACGT\n", "does not start with the header"),
    "a pickle": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.", "does not start with the header"),
    "1-GB header": (struct.pack("<Q", 10**9) + b"{}", "does not start with the header"),
    "header cut": (struct.pack("<Q", 500) + b"{}", "cut short within its header"),
    "no JSON": (with_header(b"{nonsense"), "its header is no JSON"),
    "deep JSON": (with_header(b"[" * 100_000), "its header is no JSON"),
    "a list": (with_header([]), "its header is no JSON"),
    "no tensors": (with_header({"__metadata__": {}}), "it holds 0 tensors"),
    "metadata of numbers": (with_header({"__metadata__": {"a": 1}}), "not all text"),
    "duplicate keys": (with_header(b'{"a":1,"a":2}'), "the key 'a' twice"),
    "data cut": (with_header({"a": entry(0, 16)}, b"\0" * 12), "it is cut short"),
    "data left": (with_header({"a": entry(0, 16)}, b"\0" * 20), "bytes follow"),
    "overlap": (with_header({"a": entry(0, 16), "b": entry(8, 24)}, b"\0" * 24), "overlaps"),
    "gap": (with_header({"a": entry(0, 16), "b": entry(20, 24)}, b"\0" * 24), "leaves a gap"),
    "outside": (with_header({"a": entry(10**12, 10**12 + 4)}, b"\0" * 4), "leaves a gap"),
    "far outside": (with_header({"a": entry(10**15, 10**15 + 4)}, b"\0" * 4), "no whole number"),
    "thousands of dimensions": (with_header({"a": entry(0, 4, [10**9] * 3_000)}, b"\0" * 4), "no whole number"),
    "UTF-16": (struct.pack("<Q", 44) + json.dumps({"a": entry(0, 4)}).encode("utf-16")[:44] + b"\0" * 44, "no JSON"),
    "wrong shape": (with_header({"a": entry(0, 16, [5])}, b"\0" * 16), "disagrees with its shape"),
    "huge shape": (with_header({"a": entry(0, 16, [2**40, 2**40])}, b"\0" * 16), "disagrees with its shape"),
    "negative shape": (with_header({"a": entry(0, 16, [-4])}, b"\0" * 16), "no whole number"),
    "boolean shape": (with_header({"a": entry(0, 4, [True])}, b"\0" * 4), "no whole number"),
    "unknown type": (with_header({"a": entry(0, 16, dtype="F8_E4M3")}, b"\0" * 16), "unknown type"),
    "strange entry": (with_header({"a": {"dtype": "F32"}}), "not described as safetensors"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_with_one_sentence(tmp_path: Path, case: str) -> None:
    content, sentence = DAMAGED[case]
    path = tmp_path / "dataset_1.dat"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_header(path)
    assert sentence in str(error.value)
    assert "dataset_1.dat" in str(error.value)
    assert "\n" not in str(error.value)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], StoredModel]:
    def make(path: Path) -> StoredModel:
        content = write(path).read_bytes()
        header = header_of(content)
        (length,) = struct.unpack("<Q", content[:8])
        change(header["__metadata__"])
        path.write_bytes(with_header(header, content[8 + length :]))
        return read_model_file(path)

    return make


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (changed(lambda metadata: metadata.pop("config")), "holds weights but no config"),
        (changed(lambda metadata: metadata.pop("tokenizer")), "holds weights but no tokenizer"),
        (changed(lambda metadata: metadata.update(config="{")), "'config' is no JSON"),
        (changed(lambda metadata: metadata.update(config="[]")), "'config' is no dict"),
        (changed(lambda metadata: metadata.update(labels="[1]")), "its labels are not all text"),
        (changed(lambda metadata: metadata.update(dnalm="2")), "layout version '2'"),
    ],
)
def test_a_file_that_is_no_model_file_is_refused(
    tmp_path: Path, make: Callable[[Path], StoredModel], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        make(tmp_path / "m")


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    content = write(tmp_path / "m").read_bytes()
    for length in {*range(0, len(content), 37), len(content) - 1}:
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(UserError, match=r"'cut' is damaged or no model file: it is (too short|cut short)"):
            read_model_file(tmp_path / "cut")


@pytest.mark.parametrize(
    "name", ["h.0.attn.masked_bias", "h.0.attn.bias", "layers.1.attention.masked_bias", "inv_freq"]
)
def test_a_buffer_that_is_recomputed_may_be_infinite(tmp_path: Path, name: str) -> None:
    """The causal mask of GPT-NeoX, −10⁹, is −∞ in half precision."""
    stored = read_model_file(write(tmp_path / "m", {"a": torch.ones(1), name: torch.tensor([-torch.inf]).half()}))
    assert stored.read_tensors().keys() == {"a", name}


@pytest.mark.parametrize("name", ["h.0.attn.c_attn.bias", "attn.bias.x", "biases", "position_ids_embedding"])
def test_a_parameter_with_a_like_name_may_not(tmp_path: Path, name: str) -> None:
    stored = read_model_file(write(tmp_path / "m", {name: torch.tensor([-torch.inf])}))
    with pytest.raises(UserError, match="has NaN or infinite weights"):
        stored.read_tensors()


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight",
        "model.layers.0.self_attn.q_proj.lora_B.default.weight",
        "bert.encoder.layer.0.attention.self.query.base_layer.weight",
        "embed.lora_embedding_A",
        "x.lora_magnitude_vector.default.weight",
    ],
)
def test_an_adapter_that_is_not_merged_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "m", {"a": torch.ones(1), name: torch.ones(1)})
    with pytest.raises(
        UserError, match=r"hold an adapter that is not merged \(tensor '.*'\)\. Merge it into its base model"
    ):
        read_header(path)


def test_training_tensors_may_be_an_adapters(tmp_path: Path) -> None:
    write(tmp_path / "m", {"a": torch.ones(1)}, training={}, training_tensors={"q.lora_A.weight": torch.ones(1)})
    assert read_model_file(tmp_path / "m").tensors.keys() == {"a"}


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_json_lacks_outlives_a_model_file_in_config_and_tokenizer(tmp_path: Path, number: float) -> None:
    config, settings = {"limits": [0.0, number]}, {"tokenizer_config.json": {"x": number}}
    write_model_file(tmp_path / "m", TENSORS, config, settings, name="x")
    stored = read_model_file(tmp_path / "m")
    assert repr((stored.config, stored.tokenizer)) == repr((config, settings))
    assert StoredModel("x", (), {}, config, settings).sha256() != StoredModel("x", (), {}, {}, settings).sha256()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_model_file(tmp_path / "m", TENSORS, {}, {}, name="x", provenance={"x": number})


@pytest.mark.parametrize("key", ["provenance", "training", "labels"])
def test_other_metadata_hold_finite_numbers(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "m", {"a": torch.ones(1)})
    header = header_of(path.read_bytes())
    header["__metadata__"][key] = '{"a": NaN}'
    path.write_bytes(with_header(header, bytes(4)))
    with pytest.raises(UserError, match=f"its metadata '{key}' is no JSON"):
        read_model_file(path)
