"""The files of a published model, told apart by what is in them: in a Galaxy history none has its name."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnalm.errors import UserError, shown
from dnalm.models import scgpt
from dnalm.models.configs import fitting_pad
from dnalm.models.json_files import LARGEST_TEXT_FILE, is_finite, parse_json, read_text
from dnalm.models.model_file import StoredModel, TensorInfo, read_header, read_origin

CONFIG, TOKENIZER, VOCABULARY = "config.json", "tokenizer.json", "vocab.txt"
TOKENIZER_CONFIG, SPECIAL_TOKENS, INDEX = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "model.safetensors.index.json",
)
WEIGHTS = "model.safetensors"
TOKENIZER_KINDS = (TOKENIZER, VOCABULARY, TOKENIZER_CONFIG, SPECIAL_TOKENS)
PICKLED, OLD_VOCABULARY, MERGES, OTHER_TEXT = "pickled weights", "vocab.json", "merges.txt", "other text"
ADAPTER = "adapter_config.json"
# In these, numbers that nothing reads may be infinite: transformers writes Infinity.
MAY_BE_INFINITE = (CONFIG, TOKENIZER_CONFIG)
# A special token as the first line; a JSON list does not begin with such a word.
SPECIAL_TOKEN = re.compile(r"\s*\[[A-Za-z_][\w-]*\][ \t]*(\r|\n|$)")
# A JSON object is of the first kind of which it has one of these keys.
KEYS: dict[str, set[str]] = {
    INDEX: {"weight_map"},
    ADAPTER: {"peft_type"},
    TOKENIZER: {"pre_tokenizer", "post_processor", "added_tokens", "truncation"},
    CONFIG: {
        "model_type",
        "architectures",
        "hidden_size",
        "num_hidden_layers",
        "d_model",
        "n_embd",
        "embed_dim",
        "embsize",
    },
    TOKENIZER_CONFIG: {"tokenizer_class", "model_max_length", "added_tokens_decoder", "clean_up_tokenization_spaces"},
}
MEANINGS = {
    CONFIG: "the config of a model",
    INDEX: "the index of shards",
    WEIGHTS: "weights",
    ADAPTER: "the config of an adapter such as LoRA's; merge it into its base model (peft: merge_and_unload, then "
    "save_pretrained), and give the files of that",
    PICKLED: "pickled weights, which are never read in a job",
    OLD_VOCABULARY: "a vocab.json, of which no tokens follow without more files; give the tokenizer.json instead",
    OTHER_TEXT: "a text that is no file of a model",
    MERGES: "a merges.txt, of which no tokens follow without more files; give the tokenizer.json instead",
}


def read_config(path: Path) -> dict[str, Any]:
    """Return a config.json, told by its content; raise UserError if it is none."""
    config: dict[str, Any] = _expect(path, [CONFIG], [])[1]
    return config


def read_tokenizer(paths: Sequence[Path], mended: list[str] | None = None) -> dict[str, Any]:
    """Return the tokenizer's files, told apart by content: name of a kind → content.

    Raises:
        UserError: one is something else, or two are of one kind.
    """
    return _read_kinds(paths, TOKENIZER_KINDS, [] if mended is None else mended)


def _read_kinds(paths: Sequence[Path], kinds: Sequence[str], mended: list[str]) -> dict[str, Any]:
    tokenizer: dict[str, Any] = {}
    for path in paths:
        kind, content = _expect(path, kinds, mended)
        if kind in tokenizer:
            raise UserError(f"Two of the tokenizer's files are a {kind}, the second is '{path.name}'; give one.")
        tokenizer[kind] = content
    return tokenizer


def read_published_model(
    config: Path, weights: Sequence[Path], tokenizer_files: Sequence[Path], name: str
) -> tuple[StoredModel, list[str]]:
    """Return the model that files of any names make up, weights unread, and what had to be mended in them.

    Args:
        config: config.json; of scGPT args.json.
        weights: one safetensors file, or all shards, with their index or without.
        tokenizer_files: tokenizer.json or vocab.txt; tokenizer_config.json and special_tokens_map.json where there are any;
            of scGPT vocab.json.
        name: what people call the model.

    Raises:
        UserError: a file is not what it is given for, is damaged, is there twice, or shards are missing.
    """
    mended: list[str] = []
    settings = _expect(config, [CONFIG], mended)[1]
    kinds = (OLD_VOCABULARY,) if scgpt.recognises(settings) else TOKENIZER_KINDS
    tokenizer = _read_kinds(tokenizer_files, kinds, mended)
    files, tensors, origin = _read_weights(weights, mended)
    return mend(StoredModel(name, files, tensors, settings, tokenizer, **origin), mended), mended


def mend(stored: StoredModel, mended: list[str]) -> StoredModel:
    """Return a model whose files name no code and no pad token that does not exist; say what was mended."""
    config, tokenizer = dict(stored.config), dict(stored.tokenizer)
    files = {CONFIG: config}
    if isinstance(tokenizer.get(TOKENIZER_CONFIG), dict):
        files[TOKENIZER_CONFIG] = tokenizer[TOKENIZER_CONFIG] = dict(tokenizer[TOKENIZER_CONFIG])
    for name, content in files.items():
        if content.pop("auto_map", None) is not None:
            mended.append(f"{name} names code to load (auto_map), which is left out: no code of a model is ever run")
    pad = config.get("pad_token_id")
    if isinstance(pad, int) and (fitting := fitting_pad(stored)) != pad:
        config["pad_token_id"] = fitting
        names = "it names none now" if fitting is None else f"it names the tokenizer's pad token, {fitting}, now"
        mended.append(f"config.json pads with the token {pad}, but there are only {config['vocab_size']}: {names}")
    return replace(stored, config=config, tokenizer=tokenizer)


def _read_weights(
    paths: Sequence[Path], mended: list[str]
) -> tuple[tuple[Path, ...], dict[str, TensorInfo], dict[str, Any]]:
    """Return files, tensors, and what weights that were exported from a model file say of their model."""
    origin: dict[str, Any] = {}
    tensors: dict[str, TensorInfo] = {}
    files: list[Path] = []
    promised: set[str] = set()
    for path in paths:
        kind, content = _expect(path, [WEIGHTS, INDEX], mended)
        if kind == INDEX:
            promised |= set(content["weight_map"])
            continue
        metadata, found = read_header(path)
        if "dnalm" in metadata:
            raise UserError(f"The file '{path.name}' is a DNA-LM model file already; use it as it is.")
        if repeated := tensors.keys() & found.keys():
            raise UserError(
                f"The tensor '{min(repeated)}' is in two files, the second is '{path.name}'; give each shard once."
            )
        tensors |= found
        origin |= read_origin(metadata, path)
        files.append(path)
    if not files:
        raise UserError("An index of shards has no weights in it; give the safetensors files too.")
    if lacking := promised - tensors.keys():
        raise UserError(f"The index names the tensor '{min(lacking)}', which no file has; give all shards.")
    return tuple(files), tensors, origin


def _expect(path: Path, kinds: Sequence[str], mended: list[str]) -> tuple[str, Any]:
    """Return which of some kinds a file is, and its content where it is text."""
    kind, content = _recognise(path, mended)
    if kind not in kinds:
        wanted = " or ".join(kinds)
        what = MEANINGS.get(kind, f"a {kind}")
        needed = "" if ";" in what else f", where a {wanted} is needed; give that"
        raise UserError(f"The file '{path.name}' is {what}{needed}.")
    return kind, content


def _recognise(path: Path, mended: list[str]) -> tuple[str, Any]:
    """Return what a file is, told by its content, and that content where it is text."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"The file '{path.name}' is not a regular file; give the files of a model.")
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UserError(f"The file '{path.name}' cannot be read ({error.strerror}); check its name.") from error
    if start[:4] == b"PK\x03\x04" or start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return PICKLED, None
    if start[7:9] == b"\0{":  # the end of the header's length, which fills no 8 bytes, and the header's start
        return WEIGHTS, None
    try:
        text = read_text(path, LARGEST_TEXT_FILE)
    except UnicodeDecodeError as error:
        raise UserError(
            f"The file '{path.name}' is neither safetensors nor text; give the files of a model."
        ) from error
    except ValueError as error:
        raise UserError(
            f"The file '{path.name}' is neither safetensors nor a text file of a model (over 100 MB)."
        ) from error
    if text.lstrip()[:1] in ("{", "[") and not SPECIAL_TOKEN.match(text):
        content = _json_object(path, text)
        kind = _kind_of_json(path, content, mended)
        if kind not in MAY_BE_INFINITE and not is_finite(content[0]):
            raise UserError(f"The file '{path.name}' has NaN or an infinite number; give an intact file.")
        return kind, content[0]
    words = text.split()
    if not words or "\0" in text:
        raise UserError(f"The file '{path.name}' is empty or binary; give the files of a model.")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(words) <= 1.5 * len(lines):
        return VOCABULARY, text
    # Two words a line are the pairs that a byte-pair vocabulary merges.
    return (MERGES if all(len(line.split()) == 2 for line in lines) else OTHER_TEXT), None


def _json_object(path: Path, text: str) -> tuple[dict[str, Any], list[str]]:
    """Return a JSON object and the keys that it has twice, of which the last counts as in every reader."""
    repeated: list[str] = []

    def last_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                repeated.append(key)
            found[key] = value
        return found

    try:
        content = parse_json(text, infinite=True, pairs=last_of_each)
    except ValueError as error:
        raise UserError(f"The file '{path.name}' is no JSON ({shown(error)}); give an intact file.") from error
    if not isinstance(content, dict):
        raise UserError(f"The file '{path.name}' is a JSON list, and no file of a model; give an intact file.")
    return content, repeated


def _kind_of_json(path: Path, parsed: tuple[dict[str, Any], list[str]], mended: list[str]) -> str:
    content, repeated = parsed
    known = set().union(*KEYS.values()) & content.keys()
    if content and all(type(value) is int for value in content.values()) and not known:
        return OLD_VOCABULARY
    if isinstance(content.get("model"), dict) and KEYS[TOKENIZER] & content.keys():
        kind = TOKENIZER
    elif content and all(key.endswith(("_token", "_tokens")) for key in content):
        kind = SPECIAL_TOKENS
    else:
        kind = next((kind for kind, keys in KEYS.items() if kind != TOKENIZER and keys & content.keys()), "")
    if not kind:
        raise UserError(
            f"The JSON file '{path.name}' is no file of a model; give config.json and the tokenizer's files."
        )
    if kind == INDEX and not isinstance(content["weight_map"], dict):
        raise UserError(f"The index '{path.name}' names no shards; give an intact file.")
    if repeated and kind == TOKENIZER:
        raise UserError(
            f"The tokenizer.json '{path.name}' has the key '{shown(repeated[0])}' twice; give an intact file."
        )
    if repeated:
        mended.append(f"{kind} has the key '{shown(repeated[0])}' twice: the last value is taken")
    return kind
