"""Tokenizers of DNA: k-mers by their rule, tokenizer.json, and vocabularies that are refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import VOCABULARY
from dnalm.errors import UserError
from dnalm.models import tokenizers
from dnalm.models.tokenizers import Encoding, JsonTokenizer, KmerTokenizer, tokenizer_from_files
from dnalm.models.vocabularies import all_kmers
from tokenizers import Tokenizer, models, pre_tokenizers, processors


def by_the_rule(sequence: str, vocabulary: list[str], k: int) -> list[int]:
    """Return the ids of the published rule, word by word."""
    words = ["<cls>"]
    for piece in re.findall("N|[^N]+", sequence):
        whole = len(piece) - len(piece) % k if piece != "N" else 0
        words += [piece[start : start + k] for start in range(0, whole, k)]
        words += list(piece[whole:])
    return [vocabulary.index(word) for word in words]


def sequences(count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 60, count)
    return ["".join(generator.choice(list("ACGTN"), length, p=[0.23] * 4 + [0.08])) for length in lengths]


@pytest.mark.parametrize(("k", "vocabulary"), [(3, VOCABULARY), (1, ["<cls>", "<pad>", *"GATCN"])])
def test_kmers_follow_the_rule(k: int, vocabulary: list[str]) -> None:
    tokenizer = KmerTokenizer(vocabulary, {})
    for sequence in [*sequences(300, seed=k), "N", "NNNN", "A", "ACG", "ACGT", "NACGTN"]:
        (encoding,) = tokenizer.encode([sequence])
        assert encoding.ids.tolist() == by_the_rule(sequence, vocabulary, k)
        assert encoding.special.tolist() == [True] + [False] * (len(encoding) - 1)
        covered = [sequence[start:end] for start, end in zip(encoding.starts, encoding.ends, strict=True)]
        assert "".join(covered) == sequence
        assert [vocabulary[token] for token in encoding.ids[1:]] == covered[1:]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"eos_token": "<unk>"}])
@pytest.mark.parametrize("vocabulary", [VOCABULARY, [word for word in VOCABULARY if word != "<cls>"]])
@pytest.mark.parametrize("at_once", [3, 7, 8, 20, 100])
def test_many_at_a_time_and_in_parts_are_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch, vocabulary: list[str], settings: dict[str, Any], at_once: int
) -> None:
    tokenizer = KmerTokenizer(vocabulary, settings)
    given = [*sequences(100, seed=5), "N" * 21, "A", "ACG" * 7, "ACGTTGCATC" * 4]
    alone = [tokenizer.encode([sequence])[0] for sequence in given]
    monkeypatch.setattr(tokenizers, "BASES_AT_ONCE", at_once)
    for found, expected in zip(tokenizer.encode(given), alone, strict=True):
        for name in ("ids", "starts", "ends", "special"):
            assert getattr(found, name).tolist() == getattr(expected, name).tolist()


def test_an_end_token_is_added_only_where_the_settings_name_one() -> None:
    vocabulary = ["<cls>", "<pad>", "<eos>", *"ACGTN"]
    (without,) = KmerTokenizer(vocabulary, {"eos_token": None}).encode(["AC"])
    (with_end,) = KmerTokenizer(vocabulary, {"eos_token": {"content": "<eos>"}}).encode(["AC"])
    assert without.ids.tolist() == [0, 3, 4]
    assert with_end.ids.tolist() == [0, 3, 4, 2]
    assert with_end.special.tolist() == [True, False, False, True]
    assert with_end.ends.max() == 2
    assert with_end.truncated(3).ends.max() == 1


@pytest.mark.parametrize(
    ("vocabulary", "sentence"),
    [
        (["<cls>", "L", "K"], "no words of 1 to 8 bases"),
        (["A" * 9], "no words of 1 to 8 bases"),
        (["<cls>", *"ACG", "N"], "lacks the word 'T'"),
        ([token for token in VOCABULARY if len(token) != 1], "all words of 3 bases and no single bases: they overlap"),
        ([token for token in VOCABULARY if token not in ("A", "C")], "lacks the word 'A'"),
        ([token for token in VOCABULARY if token != "GCT"], "lacks the word 'GCT'"),
        (["<cls>", *"ACGT"], "neither 'N' nor an unknown token"),
    ],
)
def test_vocabularies_that_are_not_dna_are_refused(vocabulary: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        KmerTokenizer(vocabulary, {})


def bpe() -> dict[str, Any]:
    """A small BPE tokenizer laid out as DNABERT-2's, with the truncation and padding of its last use."""
    tokenizer = Tokenizer(
        models.BPE(
            {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, **dict(zip("ACGT", range(4, 8), strict=True)), "AC": 8},
            [("A", "C")],
            unk_token="[UNK]",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    return json.loads(tokenizer.to_str())


def test_a_tokenizer_json_keeps_every_base_whatever_its_file_says_of_truncation() -> None:
    tokenizer = JsonTokenizer(bpe(), {"pad_token": "[PAD]"})
    first, second = tokenizer.encode(["ACGTAC", "ANT"])
    assert first.ids.tolist() == [1, 8, 6, 7, 8, 2]
    assert list(zip(first.starts, first.ends, strict=True))[1:-1] == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert first.special.tolist() == [True, False, False, False, False, True]
    assert second.ids.tolist() == [1, 4, 0, 7, 2]
    assert (tokenizer.pad_id, tokenizer.cls_id) == (3, 1)


@pytest.mark.parametrize(
    "tokenizer", [KmerTokenizer(VOCABULARY, {}), JsonTokenizer(bpe(), {})], ids=["k-mers", "tokenizer.json"]
)
def test_words_are_the_tokens_of_bases_alone(tokenizer: KmerTokenizer | JsonTokenizer) -> None:
    words = tokenizer.words()
    assert list(words) == sorted(words)
    assert set("ACGT") < set(words.values())
    assert set("".join(words.values())) == set("ACGT")
    sequence = "".join(np.random.default_rng(4).choice(list("ACGT"), 500))
    (encoding,) = tokenizer.encode([sequence])
    assert "".join(words[token] for token in encoding.ids[~encoding.special]) == sequence
    (of_n,) = tokenizer.encode(["N"])
    assert not set(of_n.ids) & set(words)


def test_a_truncated_encoding_keeps_its_last_special_token() -> None:
    (encoding,) = JsonTokenizer(bpe(), {}).encode(["ACGTAC"])
    assert encoding.truncated(6) is encoding
    assert encoding.truncated(4).ids.tolist() == [1, 8, 6, 2]
    assert encoding.truncated(4).ends.max() == 3
    plain = Encoding(np.arange(5), np.arange(5), np.arange(1, 6))
    assert plain.truncated(3).ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "no tokenizer.json and no vocab.txt"),
        ({"vocab.txt": 5}, "vocab.txt is not what a tokenizer needs"),
        ({"vocab.txt": "A", "tokenizer_config.json": []}, "tokenizer_config.json is not what"),
        ({"vocab.txt": "A", "special_tokens_map.json": None}, "special_tokens_map.json is not what"),
        ({"tokenizer.json": "text"}, "tokenizer.json is not what"),
        ({"tokenizer.json": {"model": "nonsense"}}, "tokenizer.json cannot be used"),
    ],
)
def test_a_model_without_a_tokenizer_is_refused(files: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tokenizer_from_files(files)


def test_the_longest_input_is_read_from_the_settings(tmp_path: Path) -> None:
    assert KmerTokenizer(VOCABULARY, {"model_max_length": 2048}).largest_input == 2048
    assert KmerTokenizer(VOCABULARY, {"model_max_length": 1e30}).largest_input is None
    assert KmerTokenizer(VOCABULARY, {}).largest_input is None


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"eos_token": "[SEP]", "pad_token": "[PAD]", "model_max_length": 512}])
def test_a_tokenizer_json_of_all_kmers_is_read_quickly_and_alike(k: int, settings: dict[str, Any]) -> None:
    description = json.loads(all_kmers(k).to_str())
    quick = tokenizer_from_files({"tokenizer.json": description, "tokenizer_config.json": settings})
    library = JsonTokenizer(description, settings)
    assert isinstance(quick, KmerTokenizer)
    assert (quick.pad_id, quick.cls_id, quick.largest_input) == (library.pad_id, library.cls_id, library.largest_input)
    for sequence in sequences(100, seed=k):
        assert quick.encode([sequence])[0].ids.tolist() == library.encode([sequence])[0].ids.tolist()


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"pre_tokenizer": None}, {}),
        ({"normalizer": {"type": "Lowercase"}}, {}),
        ({"post_processor": None}, {}),
        ({"added_tokens": []}, {}),
        ({}, {"pad_token": "[SEP]"}),
    ],
)
def test_a_tokenizer_json_with_any_other_rule_is_left_to_the_library(
    changes: dict[str, Any], settings: dict[str, Any]
) -> None:
    description = json.loads(all_kmers(1).to_str()) | changes
    found = tokenizer_from_files({"tokenizer.json": description, "tokenizer_config.json": settings})
    assert isinstance(found, JsonTokenizer)


def test_the_order_in_which_a_tokenizer_json_lists_its_words_does_not_matter() -> None:
    """A model file sorts the keys of its JSON."""
    description = json.loads(all_kmers(2).to_str())
    in_order = tokenizer_from_files({"tokenizer.json": json.loads(json.dumps(description, sort_keys=True))})
    assert isinstance(in_order, KmerTokenizer)
    ids = tokenizer_from_files({"tokenizer.json": description}).encode(["ACGTTN"])[0].ids
    assert in_order.encode(["ACGTTN"])[0].ids.tolist() == ids.tolist()


def test_a_tokenizer_of_overlapping_kmers_is_named_by_its_class() -> None:
    files = {"vocab.txt": "\n".join(VOCABULARY), "tokenizer_config.json": {"tokenizer_class": "DNATokenizer"}}
    with pytest.raises(UserError, match="DNATokenizer, reads overlapping k-mers, which is not supported"):
        tokenizer_from_files(files)
