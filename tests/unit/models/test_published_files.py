"""Files of published models without their names: recognised by their content, or refused."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from dnalm.errors import UserError
from dnalm.models import published_files
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.published_files import mend, read_config, read_published_model, read_tokenizer
from safetensors.torch import load_file, save_file

PARITY = REPOSITORY / "tests" / "parity" / "data"
Written = Callable[..., Path]
TOKENIZER = {"model": {"type": "BPE"}, "added_tokens": []}


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Return a function that writes text, bytes, JSON or tensors into a file without a telling name."""
    count = 0

    def write(content: Any) -> Path:
        nonlocal count
        count += 1
        path = tmp_path / f"dataset_{count}.dat"
        if isinstance(content, dict) and all(isinstance(value, torch.Tensor) for value in content.values()):
            save_file(content, path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bert"},
        {"hidden_size": 3},
        {"embsize": 3},
        {"architectures": ["x"], "vocab_size": 7},
        {"model_type": "bert", "truncation": True, "model": "x"},
    ],
)
def test_a_config_is_recognised_by_its_keys(written: Written, config: dict[str, Any]) -> None:
    assert read_config(written(config)) == config


def test_a_byte_order_mark_and_blanks_before_a_config_do_not_matter(written: Written) -> None:
    assert read_config(written('\ufeff \n{"model_type": "bert"}')) == {"model_type": "bert"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (TOKENIZER, "'dataset_1.dat' is a tokenizer.json, where a config.json is needed; give that"),
        ({"pad_token": "<pad>"}, "is a special_tokens_map.json, where"),
        ({"model_max_length": 3}, "is a tokenizer_config.json, where"),
        ({"weight_map": {}}, "is the index of shards, where"),
        ({"A": 0, "C": 1}, "is a vocab.json, of which no tokens follow without more files; give the tokenizer.json"),
        ("A\nC\nG\nT\n", "is a vocab.txt, where"),
        ("#version: 0.2 - Trained by a library\nA C\nG T\nAC GT\n", "is a merges.txt, of which no tokens follow"),
        ("A text of several words\nin two lines\n", "is a text that is no file of a model, where"),
        ({"a": torch.ones(1)}, "is weights, where"),
        (b"PK\x03\x04", "is pickled weights, which are never read in a job, where"),
        (b"\x80\x04\x95", "is pickled weights, which are never read in a job, where"),
        ({"colour": "blue"}, "JSON file 'dataset_1.dat' is no file of a model"),
        ("{}", "JSON file 'dataset_1.dat' is no file of a model"),
        ([1], "is a JSON list, and no file of a model"),
        ('{"model": {"type": "BPE"}, "truncation": NaN}', "has NaN or an infinite number"),
        ('{"weight_map": {"a": -Infinity}}', "has NaN or an infinite number"),
        ('{"pad_token": 1e400}', "has NaN or an infinite number"),
        ('{"peft_type": "LORA"}', "is the config of an adapter such as LoRA's; merge it into its base model"),
        ("{" * 10, "is no JSON"),
        ('{"a":' * 100_000, "is no JSON"),
        ("", "is empty or binary"),
        ("A\0B", "is empty or binary"),
        (bytes(range(128, 256)), "is neither safetensors nor text"),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_other_files_than_configs_are_named(written: Written, content: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        read_config(written(content))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'absent' cannot be read \(No such file or directory\)"):
        read_config(tmp_path / "absent")


def test_a_large_text_is_not_read(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_files, "LARGEST_TEXT_FILE", 10)
    with pytest.raises(UserError, match=r"neither safetensors nor a text file of a model \(over 100 MB\)"):
        read_config(written({"model_type": "bert"}))


def test_files_of_a_tokenizer_are_distinguished(written: Written) -> None:
    contents = {
        "vocab.txt": "<cls>\nA\nC\n",
        "tokenizer_config.json": {"model_max_length": 100},
        "special_tokens_map.json": {"pad_token": "<pad>", "additional_special_tokens": []},
        "tokenizer.json": TOKENIZER,
    }
    paths = [written(content) for content in contents.values()]
    assert read_tokenizer(paths) == read_tokenizer(paths[::-1]) == contents


def test_settings_with_a_whole_number_alone_are_no_vocabulary(written: Written) -> None:
    assert read_tokenizer([written({"model_max_length": 100})]) == {"tokenizer_config.json": {"model_max_length": 100}}


def test_two_files_of_one_kind_are_refused(written: Written) -> None:
    with pytest.raises(
        UserError, match=r"Two of the tokenizer's files are a vocab\.txt, the second is 'dataset_2\.dat'"
    ):
        read_tokenizer([written("A\nC\n"), written("G\nT\n")])


def test_a_repeated_key_is_reported_or_in_a_tokenizer_refused(written: Written) -> None:
    mended: list[str] = []
    twice = written('{"model_max_length": 1, "model_max_length": 2}')
    assert read_tokenizer([twice], mended) == {"tokenizer_config.json": {"model_max_length": 2}}
    assert mended == ["tokenizer_config.json has the key 'model_max_length' twice: the last value is taken"]
    with pytest.raises(UserError, match=r"tokenizer\.json 'dataset_2\.dat' has the key 'A' twice"):
        read_tokenizer([written('{"model": {"A": 1, "A": 2}, "added_tokens": []}')])


CONFIG = {"model_type": "bert", "vocab_size": 10, "pad_token_id": 3}


def test_shards_and_their_index_make_one_model(written: Written) -> None:
    first, second = {"b": torch.ones(2)}, {"a": torch.zeros(3)}
    index = {"weight_map": {"a": "x", "b": "y"}}
    weights = [written(index), written(first), written(second)]
    stored, mended = read_published_model(written(CONFIG), weights, [written("A\nC\n")], "tiny")
    assert (stored.name, stored.config, stored.tokenizer, mended) == ("tiny", CONFIG, {"vocab.txt": "A\nC\n"}, [])
    found = stored.read_tensors()
    assert found.keys() == {"a", "b"}
    assert (found["a"].tolist(), found["b"].tolist()) == ([0, 0, 0], [1, 1])


def test_weights_that_do_not_make_one_model_are_refused(written: Written) -> None:
    config, shard = written(CONFIG), written({"a": torch.ones(1)})
    lacking, empty = written({"weight_map": {"a": "x", "b": "y"}}), written({"weight_map": []})
    for weights, sentence in (
        ([shard, shard], "tensor 'a' is in two files, the second is 'dataset_2.dat'; give each shard once"),
        ([shard, lacking], "index names the tensor 'b', which no file has; give all shards"),
        ([lacking], "index of shards has no weights in it"),
        ([empty], "names no shards"),
        ([config], "is the config of a model, where a model.safetensors or model.safetensors.index.json is needed"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_published_model(config, weights, [], "tiny")


def test_a_model_file_of_ours_is_used_as_it_is(written: Written, tmp_path: Path) -> None:
    write_model_file(tmp_path / "ours", {"a": torch.ones(1)}, CONFIG, {}, name="ours")
    with pytest.raises(UserError, match="'ours' is a DNA-LM model file already; use it as it is"):
        read_published_model(written(CONFIG), [tmp_path / "ours"], [], "tiny")


def test_a_header_of_a_strange_length_is_no_text(written: Written) -> None:
    """Weights are recognised by their ninth byte, which begins the JSON of the header."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    weights = written(struct.pack("<Q", len(header)) + header + bytes(4))
    stored, _ = read_published_model(written(CONFIG), [weights], [], "tiny")
    assert stored.tensors.keys() == {"a"}


def test_scgpt_has_a_vocabulary_of_genes(written: Written) -> None:
    folder = PARITY / "scgpt"
    contents = [json.loads((folder / name).read_text()) for name in ("args.json", "vocab.json")]
    weights = load_file(folder / "model.safetensors")
    config, vocabulary = (written(content) for content in contents)
    stored, _ = read_published_model(config, [written(weights)], [vocabulary], "cells")
    assert stored.tokenizer == {"vocab.json": contents[1]}
    with pytest.raises(UserError, match=r"is a vocab\.txt, where a vocab\.json is needed"):
        read_published_model(config, [written(weights)], [written("A\nC\n")], "cells")


@pytest.mark.parametrize(("pad", "vocabulary_size", "kept"), [(3, 10, 3), (10, 10, None), (11, 10, None), (3, None, 3)])
def test_a_pad_token_beyond_the_vocabulary_is_left_out(pad: int, vocabulary_size: int | None, kept: int | None) -> None:
    mended: list[str] = []
    config = {"pad_token_id": pad, "vocab_size": vocabulary_size}
    stored = mend(StoredModel("m", (), {}, config, {}), mended)
    assert stored.config["pad_token_id"] == kept
    report = [f"config.json pads with the token {pad}, but there are only 10: it names none now"]
    assert mended == (report if kept is None else [])
    assert config["pad_token_id"] == pad  # what was given is not changed


def test_code_that_a_config_or_tokenizer_names_is_left_out() -> None:
    mended: list[str] = []
    settings = {"auto_map": {"AutoTokenizer": "x"}, "model_max_length": 3}
    given = StoredModel("m", (), {}, {"auto_map": {"AutoModel": "x"}, "a": 1}, {"tokenizer_config.json": settings})
    stored = mend(given, mended)
    assert stored.config == {"a": 1}
    assert stored.tokenizer == {"tokenizer_config.json": {"model_max_length": 3}}
    assert [line.split(" (auto_map)")[0] for line in mended] == [
        "config.json names code to load",
        "tokenizer_config.json names code to load",
    ]
    assert "auto_map" in settings


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("first", ["[PAD]", "[unused0]", "[UNK] "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_vocabulary_may_begin_with_a_token_in_brackets(written: Written, first: str, end: str, mark: str) -> None:
    words = end.join([first, "[UNK]", *"ACGTN"])
    assert read_tokenizer([written((mark + words).encode())]) == {"vocab.txt": words}


@pytest.mark.parametrize("text", ["[1,\n2]", "[\n1]", '["PAD"]', "[[PAD]]"])
def test_a_list_is_no_vocabulary(written: Written, text: str) -> None:
    with pytest.raises(UserError, match=r"is a JSON list|is no JSON"):
        read_tokenizer([written(text)])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400"])
def test_a_number_that_json_lacks_is_read_as_in_a_folder(written: Written, number: str) -> None:
    config = read_config(written(f'{{"model_type": "bert", "limits": [0, {number}]}}'))
    assert repr(config["limits"]) == repr([0, float(number.replace("Infinity", "inf"))])
    assert read_tokenizer([written(f'{{"model_max_length": {number}}}')]).keys() == {"tokenizer_config.json"}


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_file_without_an_end_is_not_opened(tmp_path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "x")
    else:
        (tmp_path / "x").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="'x' is not a regular file"):
        read_config(tmp_path / "x")


def test_a_pad_token_that_a_model_cannot_do_without_becomes_the_tokenizers() -> None:
    mended: list[str] = []
    config = {"model_type": "esm", "vocab_size": 7, "pad_token_id": 9, "position_embedding_type": "rotary"}
    given = StoredModel("m", (), {}, config, {"vocab.txt": "<unk>\n<pad>\nA\nC\nG\nT\nN"})
    assert mend(given, mended).config["pad_token_id"] == 1
    assert mended == [
        "config.json pads with the token 9, but there are only 7: it names the tokenizer's pad token, 1, now"
    ]
