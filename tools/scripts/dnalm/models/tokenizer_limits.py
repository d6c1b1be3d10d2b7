"""What a tokenizer.json may ask of the library that runs it: no rule that makes a text many times as long.

A normalizer that replaces A by 1,000 A, three times, makes a gigabyte of a letter; one that doubles it, 30 times, as much.
What they make of a text is bounded here by the lengths that the file names.
"""

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from dnalm.errors import UserError, shown

MOST_GROWTH = 16  # letters of a normalized text for each letter of a sequence
MOST_RULES = 100  # normalizers, pre-tokenizers or post-processors one after the other
MOST_SPECIAL_TOKENS = 1_000  # around a sequence
LONGEST_EXPANSION = 18  # letters that Unicode's normal forms make of one letter that is not ASCII
UNICODE = ("BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents")
RANDOM = ("dropout",)  # of byte pairs: merges are left out at random, as in training


def bounded(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json that gives the same tokens each time.

    Raises:
        UserError: its rules make a text many times as long, or are very many.
    """
    growth, added, ascii_alone = 1.0, 0.0, True
    for rule in _rules(description.get("normalizer"), "normalizer", "normalizers"):
        factor, more, is_ascii = _growth(rule, ascii_alone)
        growth, added, ascii_alone = growth * factor, added * factor + more, ascii_alone and is_ascii
        if growth > MOST_GROWTH or added > MOST_SPECIAL_TOKENS:
            raise _refusal(f"its normalizer makes a text over {MOST_GROWTH} times as long")
    for _ in _rules(description.get("pre_tokenizer"), "pre-tokenizer", "pretokenizers"):
        pass  # none makes a text longer
    tokens = 0
    for rule in _rules(description.get("post_processor"), "post-processor", "processors"):
        tokens += _special_tokens(rule)
        if tokens > MOST_SPECIAL_TOKENS:
            raise _refusal(f"its post-processor adds over {MOST_SPECIAL_TOKENS:,} tokens to a sequence")
    model = description.get("model")
    if not isinstance(model, dict) or not set(RANDOM) & model.keys():
        return dict(description)
    return {**description, "model": {**model, **dict.fromkeys(set(RANDOM) & model.keys())}}


def _refusal(why: str) -> UserError:
    return UserError(f"The model's tokenizer.json cannot be used: {why}. Use a model with an intact tokenizer.")


def _rules(part: object, what: str, inner: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rules of a part one after the other, sequences of sequences opened."""
    stack, count = [part], 0
    while stack:
        rule = stack.pop()
        if not isinstance(rule, dict):
            continue
        if isinstance(rule.get(inner), list):
            stack += reversed(rule[inner])
        else:
            yield rule
        count += 1
        if count > MOST_RULES:
            raise _refusal(f"its {what} has over {MOST_RULES} rules")


def _growth(rule: Mapping[str, Any], ascii_alone: bool) -> tuple[float, int, bool]:
    """Return how many times as long a normalizer makes a text, what it adds besides, and whether ASCII stays ASCII.

    Args:
        rule: the normalizer.
        ascii_alone: whether what it is given is ASCII.
    """
    kind = rule.get("type")
    if kind == "Replace":
        content, pattern = rule.get("content"), rule.get("pattern")
        length = len(content) if isinstance(content, str) else 0
        text = pattern.get("String") if isinstance(pattern, dict) else None
        # An expression may match nothing, before each letter and at the end.
        factor = length / len(text) if isinstance(text, str) and text else 1 + length if length else 1
        return max(factor, 1.0), length, str(content).isascii()
    if kind == "Prepend":
        added = rule.get("prepend")
        return 1.0, len(str(added)), str(added).isascii()
    if kind == "Precompiled":
        return float(_longest_of_map(rule.get("precompiled_charsmap"))), 0, False
    if kind in UNICODE:
        return (1.0 if ascii_alone else float(LONGEST_EXPANSION)), 0, kind != "ByteLevel"
    return 1.0, 0, True


def _longest_of_map(charsmap: object) -> int:
    """Return the longest text that a map of SentencePiece puts in the place of a letter.

    It is, in base 64, the size of a trie as 4 bytes (little-endian), the trie, and texts that each end with a 0.
    """
    try:
        content = base64.b64decode(charsmap, validate=True) if isinstance(charsmap, str) else b""
        (size,) = struct.unpack_from("<I", content) if content else (0,)
    except (binascii.Error, ValueError, struct.error):
        return 1  # the library refuses it
    return max(1, *map(_letters, content[4 + size :].split(b"\0")))


def _letters(text: bytes) -> int:
    return len(text.decode("utf-8", "replace"))


def _special_tokens(rule: Mapping[str, Any]) -> int:
    """Return how many tokens a post-processor adds to a sequence at most."""
    if rule.get("type") != "TemplateProcessing":
        return 2
    pieces, tokens = rule.get("single"), rule.get("special_tokens")
    if not isinstance(pieces, list) or not isinstance(tokens, dict):
        return 0  # the library refuses it
    count = sequences = 0
    for piece in pieces:
        if not isinstance(piece, dict):
            continue
        sequences += "Sequence" in piece
        named = piece.get("SpecialToken")
        token = tokens.get(str(named.get("id"))) if isinstance(named, dict) else None
        ids = token.get("ids") if isinstance(token, dict) else None
        count += len(ids) if isinstance(ids, list) else 1
        if sequences > 1:
            raise _refusal(f"its post-processor repeats a sequence ({shown(pieces)})")
    return count
