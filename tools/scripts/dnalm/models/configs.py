"""Reading a model's config.json: sizes that cannot be are refused before memory or time is spent on them."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dnalm.errors import UserError, shown
from dnalm.models.json_files import is_finite
from dnalm.models.model_file import StoredModel
from dnalm.models.tokenizers import tokenizer_from_files

MOST_LABELS = 100_000
DEEPEST_CONFIG = 4
# Positions that one table or buffer is made for before any weight is compared.
MOST_POSITIONS = 10_000_000
LARGEST_SIZE = 2**40
SEGMENT_WINDOW = "segment_window"  # of segmenters that were made here
NAMES_OF_LABELS = ("id2label", "label2id")  # may be called like a size
# A negative number stands for "none" in other keys, such as ids.
NEVER_NEGATIVE = re.compile(r"(num|n)_.*|.*(_size|_heads|_layers|_window|_per_tok)")
# A number of these is a length or a count of something that there must be; of max_window_layers there may be none.
AT_LEAST_ONE = re.compile(r"(num|n)_.*|.*(_size|_heads|_layers|_window|_per_tok|_dim|_positions|_embeddings)")
MAY_BE_NOTHING = ("max_window_layers", "num_labels", "tie_word_embeddings")
EPSILON = re.compile(r".*_eps(ilon)?")
# What decides over untrained weights only.
HARMLESS = re.compile(r"initializer_.*")
# Of transformers: those that cannot run without the number of a pad token, and of them those that count positions from it.
NEED_A_PAD = ("esm", "modernbert", "modernbert-decoder", "roberta")


def refuse_absurd_sizes(stored: StoredModel) -> None:
    """Refuse a config that would cost time or memory before its tensors are compared.

    Layers and experts are built in loops, so that there cannot be more than tensors; positions and labels may become
    buffers and dictionaries; every other size is compared with the tensors, which costs nothing.
    """
    sizes = {key: value for key, value in stored.config.items() if key not in NAMES_OF_LABELS}
    for key, value in _numbers(sizes, stored.name, DEEPEST_CONFIG):
        # Qwen's max_window_layers is a bound, and 28 by default however few layers there are.
        repeated = any(word in key for word in ("layer", "expert", "group")) and "window" not in key
        most = len(stored.tensors) if repeated else MOST_POSITIONS if "position" in key else LARGEST_SIZE
        if abs(value) > most:
            raise UserError(
                f"The config of the model '{stored.name}' asks for {shown(key)} = {_written(value)}, which its weights "
                "cannot fill; use intact files."
            )
        if value < 0 and NEVER_NEGATIVE.fullmatch(key):
            raise UserError(
                f"The config of the model '{stored.name}' has the negative {shown(key)} = {value:,}; use intact files."
            )
    labels = [stored.config.get("num_labels"), *(stored.config.get(key) for key in NAMES_OF_LABELS)]
    if any((value if isinstance(value, int) else len(value or ())) > MOST_LABELS for value in labels):
        raise UserError(f"The config of the model '{stored.name}' has over {MOST_LABELS:,} labels; use intact files.")


def refuse_unfit_numbers(name: str, config: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Refuse numbers with which a model would be built and then fail, or give nothing but NaN.

    Args:
        name: what people call the model.
        config: all settings, as its architecture's code understands them.
        usual: the architecture's own defaults. What these lack, no code reads; where they have 0 or null, so may a config.
    """
    for key, value in config.items():
        if key not in usual:
            continue
        if EPSILON.fullmatch(key):
            fits, needed = _is_number(value) and 0 < value < math.inf, "a positive number"
        elif AT_LEAST_ONE.fullmatch(key) and key not in MAY_BE_NOTHING and type(usual[key]) in (int, type(None)):
            fits, needed = _is_number(value) and value >= min(usual[key] or 1, 1), "a size of 1 or more"
            fits = fits or value == usual[key]
        else:
            fits, needed = HARMLESS.fullmatch(key) is not None or is_finite(value), "a finite number"
        if not fits:
            raise UserError(
                f"The config of the model '{name}' has {shown(key)} = {shown(value)}, where {needed} is needed. "
                "Fix its config.json, or download it again."
            )


def _written(number: int) -> str:
    return shown(f"{number:,}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def fitting_pad(stored: StoredModel) -> int | None:
    """Return the number of the pad token of a model of transformers: the config's, if there is such a token.

    Otherwise the tokenizer's where the architecture cannot do without; what is padded is masked, so that any token will do.

    Raises:
        UserError: the architecture counts positions from the pad token, which the config must then name.
    """
    config = stored.config
    pad, vocabulary_size = config.get("pad_token_id"), config.get("vocab_size")
    missing = pad is None and "pad_token_id" in config
    too_large = isinstance(pad, int) and isinstance(vocabulary_size, int) and pad >= vocabulary_size
    kind = config.get("model_type")
    if not missing and not too_large and (pad is not None or kind != "esm"):
        return pad
    if kind not in NEED_A_PAD:
        return None
    tokenizers_pad = tokenizer_from_files(stored.tokenizer).pad_id
    if kind == "roberta" or (kind == "esm" and config.get("position_embedding_type", "absolute") == "absolute"):
        names = "" if tokenizers_pad is None else f"; its tokenizer's is {tokenizers_pad}"
        raise UserError(
            f"The config of the model '{stored.name}' has pad_token_id = {shown(pad)}, which is none of its tokens, and "
            f"positions are counted from it. Set it to what the model was trained with{names}."
        )
    has_it = tokenizers_pad is not None and isinstance(vocabulary_size, int) and tokenizers_pad < vocabulary_size
    return tokenizers_pad if has_it else 0


def size(stored: StoredModel, key: str, *, divides: str | None = None, most: int = LARGEST_SIZE) -> int:
    """Return a positive whole number of the config.

    Raises:
        UserError: it is missing or none, larger than `most`, or does not divide the number of another key.
    """
    value = stored.config.get(key)
    if type(value) is not int or not 1 <= value <= most:
        raise UserError(
            f"The config of the model '{stored.name}' has {shown(key)} = {shown(value)}, where a size is needed; "
            "use intact files."
        )
    if divides is not None and (whole := size(stored, divides)) % value:
        raise UserError(
            f"The config of the model '{stored.name}' has {divides} = {whole}, which {key} = {value} does not divide; "
            "use intact files."
        )
    return value


def feature_names(stored: StoredModel) -> tuple[str, ...]:
    """Return the names of what a segmenter predicts, as its config lists them.

    Raises:
        UserError: it lists none, one twice, or what is no name.
    """
    features = stored.config.get("features")
    if (
        not isinstance(features, list)
        or not 0 < len(features) <= MOST_LABELS
        or not all(isinstance(name, str) and name.strip() and name.isprintable() for name in features)
        or len(set(features)) < len(features)
    ):
        raise UserError(
            f"The config of the segmenter '{stored.name}' lists no features, or strange ones ({shown(features)}); use "
            "intact files."
        )
    return tuple(features)


def steps_bases(stored: StoredModel, halvings: int) -> int:
    """Return how many bases a segmenter's steps stand for; raise UserError if the config's number is not 2 ** halvings."""
    bases = size(stored, "nucl_per_token")
    if bases != 2**halvings:
        raise UserError(
            f"The config of the segmenter '{stored.name}' has nucl_per_token = {bases}, but the positions are halved "
            f"{halvings} times; use intact files."
        )
    return bases


def segment_window(stored: StoredModel, published: int, multiple: int) -> int:
    """Return how many bases a segmenter was trained with: as its config says, or as published ones were.

    Raises:
        UserError: it is no multiple of what the segmenter's steps need.
    """
    window = size(stored, SEGMENT_WINDOW) if SEGMENT_WINDOW in stored.config else published // multiple * multiple
    if not window or window % multiple or window > MOST_POSITIONS:
        raise UserError(
            f"The config of the segmenter '{stored.name}' has {SEGMENT_WINDOW} = {window:,}, which its model cannot read; "
            "use intact files."
        )
    return window


def epsilon(stored: StoredModel, key: str) -> float:
    """Return the small number that a norm of the config adds to a variance; raise UserError if it is none."""
    value = stored.config.get(key)
    if not isinstance(value, float) or not 0 < value < 1:
        raise UserError(
            f"The config of the model '{stored.name}' has {shown(key)} = {shown(value)}, where a number between 0 and 1 "
            "is needed; use intact files."
        )
    return value


def refuse_other_settings(stored: StoredModel, known: Mapping[str, Any]) -> None:
    """Refuse a config that asks for a variant of the architecture which no published model has.

    Args:
        stored: the model.
        known: key → its only known value; a key that the config lacks has it.
    """
    for key, value in known.items():
        if (found := stored.config.get(key, value)) != value:
            raise UserError(
                f"The config of the model '{stored.name}' has {key} = {shown(found)}; only {shown(value)} is known here."
            )


def _numbers(value: Any, name: str, depth: int, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield every whole number of a config with the key it stands under."""
    if depth < 0:
        raise UserError(f"The config of the model '{name}' is nested too deep; use intact files.")
    if isinstance(value, dict):
        for inner, content in value.items():
            yield from _numbers(content, name, depth - 1, str(inner))
    elif isinstance(value, list):
        for content in value:
            yield from _numbers(content, name, depth - 1, key)
    elif type(value) is int:
        yield key, value
