"""Rules of a tokenizer.json: those that make a text many times as long are refused before they run."""

import base64
import json
import struct
import time
from typing import Any

import pytest
from dnalm.errors import UserError
from dnalm.models.tokenizer_limits import bounded
from dnalm.models.tokenizers import JsonTokenizer
from dnalm.models.vocabularies import all_kmers, learn_byte_pairs
from tokenizers import Tokenizer

BASES = "ACGTTGCAAGGCTTACCGATATCGGCTAAGCTTACGGATCCAGTCA" * 20
WORKING: dict[str, Any] = json.loads(learn_byte_pairs([BASES], 20).to_str())
LOWERCASE = {"type": "Lowercase"}


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(*rules: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(rules)}


def charsmap(text: bytes) -> dict[str, Any]:
    content = struct.pack("<I", 4) + bytes(4) + b"x\0" + text + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


def template(pieces: list[Any], ids: list[int]) -> dict[str, Any]:
    token = {"id": "[X]", "ids": ids, "tokens": ["[CLS]"] * len(ids)}
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": {"[X]": token}}


A, X = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[X]", "type_id": 0}}


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        LOWERCASE,
        sequence(*[{"type": "NFKC"}, LOWERCASE, {"type": "StripAccents"}, {"type": "BertNormalizer"}] * 10),
        replace("A", "A" * 16),
        sequence(*[replace("A", "AA")] * 4),
        sequence(*[replace("U", "T")] * 99),
        sequence(*[replace(r"\\s+", "", "Regex")] * 20),
        sequence({"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581")),
        charsmap(b"abc"),
    ],
)
def test_rules_that_keep_a_text_short_are_left_as_they_are(normalizer: Any) -> None:
    description = WORKING | {"normalizer": normalizer, "post_processor": template([X, A, X], [1] * 400)}
    assert bounded(description) == description | {"model": description["model"] | {"dropout": None}}


@pytest.mark.parametrize(
    "normalizer",
    [
        replace("A", "A" * 17),
        replace("AC", "A" * 33),
        sequence(*[replace("A", "AA")] * 5),
        sequence(sequence(*[replace("A", "AA")] * 3), sequence(*[replace("A", "AA")] * 2)),
        replace(".", "A" * 16, "Regex"),
        replace("", "A" * 16),
        sequence(replace("A", "\ufdfa"), {"type": "NFKC"}),
        charsmap(b"A" * 17),
        {"type": "Prepend", "prepend": "A" * 1_001},
        sequence(*[{"type": "Prepend", "prepend": "A" * 500}] * 3),
        sequence({"type": "Prepend", "prepend": "A" * 200}, replace("A", "A" * 10)),
    ],
)
def test_a_normalizer_that_makes_a_text_long_is_refused(normalizer: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="its normalizer makes a text over 16 times as long"):
        bounded(WORKING | {"normalizer": normalizer})


def test_no_text_becomes_longer_than_its_bound() -> None:
    """The library's own normalizers against the factor 2 each that is counted for them."""
    tokenizer = Tokenizer.from_str(json.dumps(WORKING | {"normalizer": sequence(*[replace("A", "AA")] * 4)}))
    assert len(tokenizer.normalizer.normalize_str("A" * 100)) == 1_600
    tokenizer = Tokenizer.from_str(json.dumps(WORKING | {"normalizer": replace("x*", "A", "Regex")}))
    assert len(tokenizer.normalizer.normalize_str("C" * 100)) <= 2 * 100 + 1


@pytest.mark.parametrize(
    ("part", "rules"),
    [
        ("normalizer", sequence(*[LOWERCASE] * 100)),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}] * 100}),
        ("post_processor", {"type": "Sequence", "processors": [template([A], [1])] * 100}),
    ],
)
def test_more_than_a_hundred_rules_are_refused(part: str, rules: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="has over 100 rules"):
        bounded(WORKING | {part: rules})


@pytest.mark.parametrize(
    "processor",
    [
        template([X] * 1_001 + [A], [1]),
        template([X, A], [1] * 1_001),
        template([X] * 101 + [A], [1] * 10),
        {"type": "Sequence", "processors": [template([X, A], [1] * 501)] * 2},
    ],
)
def test_thousands_of_special_tokens_are_refused(processor: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="its post-processor adds over 1,000 tokens"):
        bounded(WORKING | {"post_processor": processor})


def test_a_sequence_that_is_repeated_is_refused() -> None:
    with pytest.raises(UserError, match="its post-processor repeats a sequence"):
        bounded(WORKING | {"post_processor": template([A, A], [1])})


@pytest.mark.parametrize("dropout", [0.1, 1.0, 7, "x"])
def test_the_same_bases_are_the_same_tokens_each_time_whatever_a_file_says_of_dropout(dropout: object) -> None:
    description = WORKING | {"model": WORKING["model"] | {"dropout": dropout}}
    tokenizer = JsonTokenizer(description, {})
    expected = JsonTokenizer(WORKING, {}).encode([BASES])[0].ids.tolist()
    assert all(tokenizer.encode([BASES])[0].ids.tolist() == expected for _ in range(5))
    assert description["model"]["dropout"] == dropout  # what was given is not changed


def test_probabilities_of_words_draw_no_words() -> None:
    words = [["[UNK]", -9.0], *([x, -1.0] for x in "ACGTN"), ["AC", -1.5], ["ACA", -1.5]]
    model = {"type": "Unigram", "unk_id": 0, "vocab": words, "byte_fallback": False, "alpha": 0.1, "nbest_size": 8}
    tokenizer = JsonTokenizer(WORKING | {"model": model, "post_processor": None, "added_tokens": []}, {})
    assert len({tuple(tokenizer.encode(["ACACAC"])[0].ids.tolist()) for _ in range(50)}) == 1


@pytest.mark.slow
def test_an_expression_that_takes_minutes_is_refused_within_seconds() -> None:
    slow = {"type": "Split", "pattern": {"Regex": "(?:A|C|[AC]){17}[^ACN]"}, "behavior": "Isolated", "invert": False}
    started = time.process_time()
    with pytest.raises(UserError, match=r"tokenizer\.json takes over 1 seconds for 4,020 bases"):
        JsonTokenizer(WORKING | {"pre_tokenizer": slow}, {})
    assert time.process_time() - started < 4


def test_special_tokens_beyond_31_bits_are_refused() -> None:
    with pytest.raises(UserError, match="has ids of over 31 bits"):
        JsonTokenizer(WORKING | {"post_processor": template([X, A], [2**31])}, {})


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor", "model"])
@pytest.mark.parametrize("value", [7, "x", [1], {"type": "Replace", "pattern": 3}, {"type": []}, {}])
def test_a_part_of_another_kind_is_left_to_the_library_which_refuses_it(part: str, value: object) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be used"):
        JsonTokenizer(WORKING | {part: value}, {})


def test_tokenizers_that_are_made_here_are_within_all_bounds() -> None:
    for k in (1, 3, 6):
        description = json.loads(all_kmers(k).to_str())
        assert bounded(description) == description
