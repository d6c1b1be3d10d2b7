"""Hostile model files and folders, the same for the same seed, and what dnalm_embed makes of each.

    python tests/robustness/hostile_models.py [--seed 0] [--every 1] [--only PART_OF_A_NAME]

Each is embedded by the entry script's own code in a forked child with limits of memory and processor time. It may succeed,
or say one sentence and exit with 1: all else, such as a traceback, a crash or an endless run, is listed.
"""

import argparse
import base64
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "scripts"))
sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["OMP_NUM_THREADS"] = "1"  # a child of a process with more of torch's threads would wait for them

# What a child needs is imported once, here.
import dnalm.engine.representations
import dnalm.formats.embeddings_file
import dnalm.models.transformers_native
import dnalm.tasks.embedding_with_model  # noqa: F401
import dnalm_embed
import torch
import transformers
from conftest import ARCHITECTURES, SIZES, VOCABULARY
from dnalm.entry_point import run
from dnalm.models.dnabert2 import MaskedLanguageModel as Dnabert2
from dnalm.models.dnabert2 import read_sizes as dnabert2_sizes
from dnalm.models.model_file import NAMES_OF_DTYPES, StoredModel
from dnalm.models.nucleotide_transformer_v2 import MaskedLanguageModel as NucleotideTransformer
from dnalm.models.nucleotide_transformer_v2 import read_sizes as nucleotide_transformer_sizes
from dnalm.models.presets import PRESETS
from dnalm.models.vocabularies import all_kmers, learn_byte_pairs

SECONDS, MEMORY = 20, 3 << 30  # of the processor, and bytes beyond what the imports take
PATIENCE = 60.0  # seconds until a child is ended, whatever it does
SEQUENCES = ">a\nACGTTGCAAGGCTTACCGATATCGGCTAAGCTTACGGATCCAGTCAN\n>b\nACGTACGTAAAATTTT\n"
OWN = ("nucleotide-transformer-v2", "dnabert-2")
Write = Callable[[Path], Path]
Stored = dict[str, tuple[str, list[int], bytes]]  # name of a tensor → dtype, shape, bytes


@dataclass(frozen=True)
class Case:
    """A hostile model: a name of its own, and what writes it into an empty folder and returns what to give to --model."""

    name: str
    write: Write


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code, negative for a signal; what it printed; whether there is an output."""

    code: int
    stdout: str
    stderr: str
    has_output: bool

    @property
    def is_allowed(self) -> bool:
        """Whether it succeeded without a word of complaint, or failed with one sentence and no output."""
        if "Traceback" in self.stdout + self.stderr:
            return False
        if self.code == 0:
            return self.has_output and not self.stderr
        one_line = self.stderr.startswith("dnalm_embed: ") and self.stderr.count("\n") == 1
        return self.code == 1 and one_line and not self.has_output


@cache
def working(architecture: str) -> tuple[dict[str, Any], Stored]:
    """Return config and tensors of a tiny random model that works."""
    sizes = SIZES | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(3)
    if architecture in OWN:
        preset = PRESETS[{"nucleotide-transformer-v2": "nt-v2-50m", "dnabert-2": "dnabert2"}[architecture]]
        config = preset.config | {key: sizes[key] for key in sizes if key in preset.config or key == "vocab_size"}
        stored = StoredModel("x", (), dict.fromkeys(map(str, range(99))), config, {})  # type: ignore[arg-type]
        made: Any = (
            NucleotideTransformer(nucleotide_transformer_sizes(stored))
            if architecture == OWN[0]
            else Dnabert2(dnabert2_sizes(stored))
        )
        tensors = dict(made.state_dict())
    else:
        class_name, settings = ARCHITECTURES[architecture]
        sizes |= {"n_layers": 2, "n_heads": 2, "hidden_dim": 24, "embedding_size": 16}
        settings = settings | {
            key: sizes[key] for key in ("n_layers", "n_heads", "hidden_dim", "embedding_size") if key in settings
        }
        model_class = getattr(transformers, class_name)
        model = model_class(model_class.config_class(**(SIZES | sizes | settings | {"head_dim": 8})))
        config = json.loads(model.config.to_json_string(use_diff=False))
        config["architectures"] = [class_name]
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            from safetensors.torch import load_file

            tensors = load_file(Path(folder) / "model.safetensors")
    return config, {name: as_stored(tensor) for name, tensor in tensors.items()}


def as_stored(tensor: torch.Tensor) -> tuple[str, list[int], bytes]:
    """Return dtype, shape and bytes of a tensor."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return NAMES_OF_DTYPES[tensor.dtype], list(tensor.shape), flat.numpy().tobytes()


KMERS: dict[str, Any] = {
    "vocab.txt": "\n".join(VOCABULARY),
    "tokenizer_config.json": {"eos_token": None, "model_max_length": 200},
}


@cache
def byte_pairs() -> str:
    """Return a tokenizer.json of byte pairs that works."""
    bases = "".join(random.Random(7).choices("ACGT", k=2_000))
    return str(learn_byte_pairs([bases], 40).to_str())


def json_tokenizer(**changes: Any) -> dict[str, Any]:
    """Return a tokenizer of byte pairs with changed parts."""
    return {"tokenizer.json": json.loads(byte_pairs()) | changes}


def written(
    path: Path,
    architecture: str = "bert",
    *,
    config: Mapping[str, Any] | None = None,
    config_text: str | None = None,
    tokenizer: Any = None,
    tokenizer_text: str | None = None,
    tensors: Stored | None = None,
    **metadata: Any,
) -> Path:
    """Write a model file of a working model with some of its parts replaced; metadata may be text or what becomes JSON."""
    of_config, of_tensors = working(architecture)
    header: dict[str, Any] = {
        "format": "pt",
        "dnalm": "1",
        "config": json.dumps(of_config if config is None else config) if config_text is None else config_text,
        "tokenizer": json.dumps(KMERS if tokenizer is None else tokenizer)
        if tokenizer_text is None
        else tokenizer_text,
        "name": '"hostile"',
    }
    header |= {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    path.write_bytes(safetensors(of_tensors if tensors is None else tensors, header))
    return path


def safetensors(tensors: Stored, metadata: Mapping[str, Any]) -> bytes:
    """Return the bytes of a safetensors file."""
    header: dict[str, Any] = {"__metadata__": metadata}
    body = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    return with_header(json.dumps(header).encode(), body)


def with_header(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file of any header, which may lie about its length."""
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def folder_of(path: Path, architecture: str = "bert", **files: Any) -> Path:
    """Write a working model's folder, with other files: name with `__` for a dot → content; None leaves it out."""
    config, tensors = working(architecture)
    content: dict[str, Any] = {
        "config.json": config,
        **KMERS,
        "model.safetensors": safetensors(tensors, {"format": "pt"}),
    }
    content |= {name.replace("__", "."): value for name, value in files.items()}
    path.mkdir(parents=True)
    for name, value in content.items():
        if value is None:
            continue
        text = value if isinstance(value, bytes | str) else json.dumps(value)
        (path / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def cases(seed: int = 0) -> list[Case]:
    """Return all hostile models of a seed, each with a name of its own."""
    chance = random.Random(seed)
    made = [
        *bytes_of_files(chance),
        *values_of_configs(chance),
        *tokenizers(),
        *metadata(),
        *tensors(chance),
        *folders(),
    ]
    assert len({case.name for case in made}) == len(made)
    return made


def of(name: str, /, **parts: Any) -> Case:
    """Return a case of a model file with replaced parts."""
    return Case(name, lambda folder: written(folder / "model", **parts))


def raw(name: str, content: Callable[[], bytes]) -> Case:
    """Return a case of a file with these bytes."""

    def write(folder: Path) -> Path:
        (folder / "model").write_bytes(content())
        return folder / "model"

    return Case(name, write)


def working_bytes() -> bytes:
    config, tensors = working("bert")
    about = {"format": "pt", "dnalm": "1", "config": json.dumps(config), "tokenizer": json.dumps(KMERS), "name": '"x"'}
    return safetensors(tensors, about)


def bytes_of_files(chance: random.Random) -> Iterator[Case]:
    """Yield files that are cut short, have flipped bits, or lie about themselves."""

    def changed(change: Callable[[bytearray], Any]) -> Callable[[], bytes]:
        def content() -> bytes:
            whole = bytearray(working_bytes())
            change(whole)
            return bytes(whole)

        return content

    for number in range(20):
        share = chance.random() if number else 0.999999

        def cut(whole: bytearray, share: float = share) -> None:
            del whole[int(len(whole) * share) :]

        yield raw(f"bytes: cut at {share:.6f}", changed(cut))
    for number in range(60):
        where, bit, within = chance.random(), 1 << chance.randrange(8), number < 50

        def flip(whole: bytearray, where: float = where, bit: int = bit, within: bool = within) -> None:
            end = 8 + struct.unpack("<Q", whole[:8])[0] if within else len(whole)
            whole[int(where * end)] ^= bit

        yield raw(f"bytes: bit {number} flipped{' in the header' if within else ''}", changed(flip))
    for number in range(10):
        name = f"bytes: random {number}"
        content = chance.randbytes(chance.randrange(1, 500))
        yield raw(name, lambda content=content: content)  # type: ignore[misc]
    tensor = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    headers = {
        "empty": b"",
        "no object": b"[]",
        "a number": b"1",
        "deep": b'{"a":' * 100_000,
        "deep but allowed": b'{"a":' * 900 + b"1" + b"}" * 900,
        "no tensors": b"{}",
        "twice the same": f'{{"a":{tensor},"a":{tensor}}}'.encode(),
        "not UTF-8": b'{"\xff":1}',
        "a name of NUL": json.dumps({"\0": json.loads(tensor)}).encode(),
        "a name of a surrogate": b'{"\\ud800":' + tensor.encode() + b"}",
        "a long name": json.dumps({"x" * 100_000: json.loads(tensor)}).encode(),
        "many tensors": json.dumps({str(number): json.loads(tensor) for number in range(20_000)}).encode(),
        "an adapter": json.dumps({"a.lora_A.weight": json.loads(tensor)}).encode(),
    }
    for what, header in headers.items():
        yield raw(f"header: {what}", lambda header=header: with_header(header, bytes(4)))  # type: ignore[misc]
    for length in (0, 1, 2**31, 2**63, 2**64 - 1, 99_999_999):
        yield raw(f"header: length {length}", lambda length=length: with_header(b"{}", bytes(4), length))  # type: ignore[misc]
    infos: dict[str, Any] = {
        "negative shape": {"shape": [-1], "data_offsets": [0, -4]},
        "huge shape": {"shape": [2**40, 2**40], "data_offsets": [0, 4]},
        "nothing times much": {"shape": [0, 2**47], "data_offsets": [0, 0]},
        "nine dimensions": {"shape": [1] * 9, "data_offsets": [0, 4]},
        "boolean shape": {"shape": [True], "data_offsets": [0, 4]},
        "fractional shape": {"shape": [1.0], "data_offsets": [0, 4]},
        "shape of text": {"shape": "1", "data_offsets": [0, 4]},
        "backward": {"shape": [1], "data_offsets": [4, 0]},
        "beyond": {"shape": [1], "data_offsets": [2**62, 2**62 + 4]},
        "unknown type": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]},
        "type of a list": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        "more keys": {"shape": [1], "data_offsets": [0, 4], "x": 1},
        "no shape": {"data_offsets": [0, 4]},
    }
    for what, info in infos.items():
        header = json.dumps({"a": {"dtype": "F32"} | info}).encode()
        yield raw(f"tensor's header: {what}", lambda header=header: with_header(header, bytes(4)))  # type: ignore[misc]


VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 3, 7, 2**31, 2**63, 10**30, None, True, False, 0.0, -0.5, 1.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), "", "x", "../../etc/passwd", [], [0], {}, {"a": {"b": [1]}}, [[]], "\u017f\0"),
)
FEW = 14  # values of each architecture's config
ODD_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "no window": ("mistral", {"sliding_window": 0}),
    "no window of gemma2": ("gemma2", {"sliding_window": 0}),
    "no epsilon": ("esm-rotary", {"layer_norm_eps": None}),
    "an epsilon of 0": ("llama", {"rms_norm_eps": 0.0}),
    "a negative epsilon": ("bert", {"layer_norm_eps": -1.0}),
    "a pad beyond the tokens, rotary": ("esm-rotary", {"pad_token_id": 10_000}),
    "a pad beyond the tokens, absolute": ("esm-absolute", {"pad_token_id": 10_000}),
    "a pad beyond the tokens, roberta": ("roberta", {"pad_token_id": 10_000}),
    "a pad beyond the tokens, modernbert-decoder": ("modernbert-decoder", {"pad_token_id": 10_000}),
    "no pad": ("esm-rotary", {"pad_token_id": None}),
    "no pad of roberta": ("roberta", {"pad_token_id": None}),
    "a negative pad": ("bert", {"pad_token_id": -10_000}),
    "dynamic ropes": ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
    "ropes of another kind": ("llama", {"rope_parameters": {"rope_type": "x"}}),
    "ropes of nothing": ("llama", {"rope_parameters": {}}),
    "a rope's base of 0": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 0}}),
    "yarn without numbers": ("llama", {"rope_parameters": {"rope_type": "yarn"}}),
    "yarn of absurd numbers": (
        "llama",
        {"rope_parameters": {"rope_type": "yarn", "factor": -1e300, "rope_theta": 1e4, "beta_fast": 0}},
    ),
    "experts that are not chosen": ("mixtral", {"num_experts_per_tok": 0}),
    "more experts than there are": ("mixtral", {"num_experts_per_tok": 9}),
    "heads that do not divide": ("llama", {"num_key_value_heads": 3}),
    "a head of one": ("llama", {"head_dim": 1}),
    "an odd head": ("llama", {"head_dim": 7}),
    "layers of unknown kinds": ("gemma2", {"layer_types": ["x", "y"]}),
    "too few kinds of layers": ("qwen2", {"layer_types": ["full_attention"], "use_sliding_window": True}),
    "local attention of nothing": ("modernbert", {"local_attention": 0}),
    "global attention of every 0th layer": ("modernbert", {"global_attn_every_n_layers": 0}),
    "an activation that is code": ("bert", {"hidden_act": "__import__('os').system('true')"}),
    "an activation of nothing": ("bert", {"hidden_act": None}),
    "buckets of nothing": ("deberta-v2", {"position_buckets": 0, "share_att_key": True}),
    "attention of unknown kinds": ("deberta-v2", {"pos_att_type": ["x"]}),
    "labels without end": ("bert", {"num_labels": 10**9}),
    "labels that are a list": ("bert", {"id2label": [1, 2]}),
    "labels that are a number": ("bert", {"id2label": 7}),
    "labels that are text": ("bert", {"num_labels": "many", "label2id": "x"}),
    "architectures that are a number": ("bert", {"architectures": 7}),
    "architectures of text": ("bert", {"architectures": "BertForMaskedLM"}),
    "architectures that are a module": ("bert", {"architectures": ["models", "__builtins__", "os"]}),
    "code": ("bert", {"auto_map": {"AutoModel": "os--system.x"}, "trust_remote_code": True}),
    "a quantisation": ("bert", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}),
    "a head of ours of nothing": ("bert", {"dnalm_classifier": None}),
    "a head of ours of text": ("bert", {"dnalm_classifier": "x", "problem_type": 3}),
    "another architecture": ("bert", {"model_type": "gpt2"}),
    "no architecture": ("bert", {"model_type": None}),
    "an architecture of a list": ("bert", {"model_type": ["bert"]}),
    "an architecture of an object": ("bert", {"model_type": {}}),
    "an unknown architecture": ("bert", {"model_type": "x" * 5_000}),
    "steps of ALiBi": ("bert", {"alibi_starting_size": 512}),
    "a nucleotide transformer's mark": ("esm-rotary", {"add_bias_fnn": False}),
    "features": ("bert", {"features": [None, 3]}),
    "a decoder": ("bert", {"is_decoder": True}),
    "chunks": ("bert", {"chunk_size_feed_forward": 7}),
    "tied embeddings that are not": ("llama", {"tie_word_embeddings": True}),
    "rescaling of nothing": ("nucleotide-transformer-v2", {"rescaling_factor": 0}),
    "rescaling without end": ("nucleotide-transformer-v2", {"rescaling_factor": float("inf")}),
    "positions of two": ("nucleotide-transformer-v2", {"max_position_embeddings": 2}),
    "no token types": ("dnabert-2", {"type_vocab_size": 0}),
    "a config of 4,000 digits": ("bert", {"hidden_size": 10**4_000}),
    "a deep config": ("bert", {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}),
    "positions without end": ("gpt2", {"n_positions": 10**7}),
    "tied names": ("gpt2", {"n_embd": 16, "hidden_size": 32}),
}


def values_of_configs(chance: random.Random) -> Iterator[Case]:
    """Yield configs with values that cannot be, a few of every architecture, and those that are known to be dangerous."""
    for architecture in (*ARCHITECTURES, *OWN):
        yield Case(f"works: {architecture}", lambda folder, kind=architecture: written(folder / "model", kind))  # type: ignore[misc]
        for number in range(FEW):
            place, value = chance.random(), chance.choice(VALUES)

            def write(folder: Path, kind: str = architecture, place: float = place, value: Any = value) -> Path:
                config = working(kind)[0]
                key = sorted(config)[int(place * len(config))]
                return written(folder / "model", kind, config=config | {key: value})

            yield Case(f"config: {architecture} {number}, {place:.3f} {str(value)[:20]!r}", write)
    for what, (architecture, changes) in ODD_CONFIGS.items():

        def write_odd(folder: Path, kind: str = architecture, changes: dict[str, Any] = changes) -> Path:
            return written(folder / "model", kind, config=working(kind)[0] | changes)

        yield Case(f"config: {what}", write_odd)
    texts = {"a list": "[]", "a number": "1", "text": '"x"', "nothing": "{}", "not JSON": "{", "null": "null"}
    for what, text in texts.items():
        yield of(f"config: {what}", config_text=text)


def replaced(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def in_turn(*rules: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(rules)}


def split_by(expression: str, behavior: str = "Isolated") -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": behavior, "invert": False}


def template(pieces: list[Any], ids: list[int]) -> dict[str, Any]:
    token = {"id": "[X]", "ids": ids, "tokens": ["[CLS]"] * len(ids)}
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": {"[X]": token}}


def added(number: int, content: str, **changes: Any) -> dict[str, Any]:
    """Return an added token."""
    token = {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False}
    return token | {"normalized": True, "special": False} | changes


A, X = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[X]", "type_id": 0}}
DOUBLED = replaced("A", "AA")


def nested(depth: int) -> Any:
    rule: Any = DOUBLED
    for _ in range(depth):
        rule = in_turn(rule)
    return rule


def charsmap(*texts: bytes) -> str:
    return base64.b64encode(struct.pack("<I", 4) + bytes(4) + b"\0".join(texts) + b"\0").decode()


PARTS: dict[str, dict[str, Any]] = {
    "A becomes 1,000 A, three times": {"normalizer": in_turn(*[replaced("A", "A" * 1_000)] * 3)},
    "A is doubled 30 times": {"normalizer": in_turn(*[DOUBLED] * 30)},
    "A is doubled in nested sequences": {"normalizer": in_turn(in_turn(*[DOUBLED] * 20), in_turn(*[DOUBLED] * 20))},
    "50 nested sequences": {"normalizer": nested(50)},
    "300 nested sequences": {"normalizer": nested(300)},
    "every letter becomes many": {
        "normalizer": {"type": "Replace", "pattern": {"Regex": "."}, "content": "A" * 10_000}
    },
    "nothing becomes many": {
        "normalizer": in_turn(*[{"type": "Replace", "pattern": {"Regex": ""}, "content": "AA"}] * 25)
    },
    "an empty pattern": {"normalizer": replaced("", "AAAA")},
    "a long beginning": {"normalizer": {"type": "Prepend", "prepend": "A" * 1_000_000}},
    "many beginnings": {"normalizer": in_turn(*[{"type": "Prepend", "prepend": "A" * 100}] * 90)},
    "10,000 replacements": {"normalizer": in_turn(*[replaced("A", "A")] * 10_000)},
    "replacements to and fro": {"normalizer": in_turn(*[replaced("A", "C"), replaced("C", "A")] * 60)},
    "long forms": {"normalizer": in_turn(replaced("A", "\ufdfa"), *[{"type": "NFKC"}] * 4)},
    "a map that makes many": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap(b"A" * 100_000)}},
    "a map of nothing": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
    "a map that is none": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "!"}},
    "a map whose trie leads out": {
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(struct.pack("<I", 8) + b"\xff" * 8 + b"A\0").decode(),
        }
    },
    "everything stripped": {"normalizer": replaced("A", "")},
    "everything deleted": {"normalizer": {"type": "Replace", "pattern": {"Regex": "."}, "content": ""}},
    "an unknown normalizer": {"normalizer": {"type": "Evil"}},
    "a normalizer of text": {"normalizer": "NFC"},
    "a normalizer of numbers": {"normalizer": [1, 2]},
    "a normalizer with strange types": {"normalizer": {"type": "Replace", "pattern": 3, "content": []}},
    "a slow expression": {"pre_tokenizer": split_by("(?:A|C|[AC]){18}[^ACN]")},
    "a slower expression": {"pre_tokenizer": split_by("(?:A|C|[AC]){60}[^ACN]")},
    "an exponential expression": {"pre_tokenizer": split_by("(A+)+(A+)+$X")},
    "backward references": {"pre_tokenizer": split_by(r"(A*)*\1\1\1X")},
    "nested repeats": {"pre_tokenizer": split_by("(((A{1,99}){1,99}){1,99}){1,99}X")},
    "a large repeat": {"pre_tokenizer": split_by("(A{99999}){99999}")},
    "an expression of nothing": {"pre_tokenizer": split_by("")},
    "recursion": {"pre_tokenizer": split_by(r"(?<x>A\g<x>?\g<x>?)X")},
    "an unclosed expression": {"pre_tokenizer": split_by("(")},
    "letters removed": {"pre_tokenizer": split_by("A", "Removed")},
    "a normalizing expression": {
        "normalizer": {"type": "Replace", "pattern": {"Regex": "(?:A|C|[AC]){18}X"}, "content": "A"}
    },
    "10,000 splits": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split_by("A")] * 10_000}},
    "an unknown pre-tokenizer": {"pre_tokenizer": {"type": "Evil"}},
    "a pre-tokenizer of one letter": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "a wide pre-tokenizer": {"pre_tokenizer": {"type": "FixedLength", "length": 2**63}},
    "bytes": {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    },
    "a million special tokens": {"post_processor": template([X] * 1_000 + [A], [1] * 1_000)},
    "many special tokens": {"post_processor": template([X] * 900 + [A], [1])},
    "sequences repeated": {"post_processor": template([A] * 1_000, [1])},
    "sequences repeated again and again": {
        "post_processor": {"type": "Sequence", "processors": [template([A, A], [1])] * 30}
    },
    "no sequence": {"post_processor": template([X], [1])},
    "no special tokens": {"post_processor": template([A], [])},
    "an unknown special token": {
        "post_processor": {"type": "TemplateProcessing", "single": [X], "pair": [X], "special_tokens": {}}
    },
    "special tokens beyond the tokens": {"post_processor": template([X, A], [2**31 + 5])},
    "1,000 post-processors": {"post_processor": {"type": "Sequence", "processors": [template([A], [1])] * 1_000}},
    "a decoder that makes many": {"decoder": {"type": "Sequence", "decoders": [replaced("A", "A" * 1_000)] * 3}},
    "an unknown decoder": {"decoder": {"type": "Evil"}},
    "truncation to nothing": {
        "truncation": {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}
    },
    "a stride beyond the length": {
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 9}
    },
    "padding without end": {
        "padding": {
            "strategy": {"Fixed": 2**40},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        }
    },
    "an empty added token": {"added_tokens": [added(0, "")]},
    "an added token of each letter": {"added_tokens": [added(70 + number, x) for number, x in enumerate("ACGTN")]},
    "an added token that takes what is beside it": {"added_tokens": [added(70, "A", lstrip=True, rstrip=True)]},
    "an added token far away": {"added_tokens": [added(2**31 + 7, "A")]},
    "an added token beyond 32 bits": {"added_tokens": [added(2**40, "A")]},
    "a negative added token": {"added_tokens": [added(-1, "A")]},
    "10,000 added tokens": {"added_tokens": [added(70 + number, f"A{number}") for number in range(10_000)]},
    "added tokens that grow": {"added_tokens": [added(70, "A" * 50_000)], "normalizer": in_turn(*[DOUBLED] * 4)},
    "added tokens of text": {"added_tokens": ["A"]},
    "a version of another time": {"version": "9.9"},
    "no model": {"model": None},
    "a model of text": {"model": "BPE"},
}


def models_of_tokenizers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what each is and a tokenizer.json with another model."""
    pairs = json.loads(byte_pairs())["model"]
    letters = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4, **{x: 5 + n for n, x in enumerate("ACGTN")}}
    models: dict[str, Any] = {
        "with dropout": pairs | {"dropout": 0.5},
        "with dropout of everything": pairs | {"dropout": 1.0},
        "with dropout of more": pairs | {"dropout": 7.0},
        "with dropout of text": pairs | {"dropout": "x"},
        "without merges": pairs | {"merges": []},
        "with strange merges": pairs | {"merges": ["A"]},
        "with merges of unknown words": pairs | {"merges": [["X", "Y"]]},
        "with merges of numbers": pairs | {"merges": [[1, 2]]},
        "without words": pairs | {"vocab": {}, "merges": []},
        "with words of a list": pairs | {"vocab": ["A"]},
        "with numbers beyond the model": pairs
        | {"vocab": {x: 10_000 + n for n, x in enumerate("ACGTN")}, "merges": []},
        "with numbers beyond 31 bits": pairs | {"vocab": {x: 2**31 + n for n, x in enumerate("ACGTN")}, "merges": []},
        "with numbers beyond 32 bits": pairs | {"vocab": {"A": 2**32}, "merges": []},
        "with negative numbers": pairs | {"vocab": {"A": -1}, "merges": []},
        "with one number for all": pairs | {"vocab": dict.fromkeys("ACGTN", 5), "merges": []},
        "with a long prefix": pairs | {"continuing_subword_prefix": "A" * 100_000},
        "with a long suffix": pairs | {"end_of_word_suffix": "A" * 100_000},
        "with an unknown unknown": pairs | {"unk_token": "nowhere"},
        "of bytes": pairs | {"byte_fallback": True, "unk_token": None},
        "without an unknown": pairs | {"unk_token": None},
        "of words": {"type": "WordLevel", "vocab": letters, "unk_token": "[UNK]"},
        "of words without unknown": {"type": "WordLevel", "vocab": letters, "unk_token": "nowhere"},
        "of pieces": {
            **{"type": "WordPiece", "vocab": letters, "unk_token": "[UNK]"},
            **{"continuing_subword_prefix": "", "max_input_chars_per_word": 2**63},
        },
        "of pieces of one letter": {
            **{"type": "WordPiece", "vocab": letters, "unk_token": "[UNK]"},
            **{"continuing_subword_prefix": "##", "max_input_chars_per_word": 1},
        },
        "of probabilities": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [[x, -1.0] for x in letters],
            "byte_fallback": False,
        },
        "of samples": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [[x, -1.0] for x in letters],
            "alpha": 0.1,
            "nbest_size": 9,
        },
        "of infinite probabilities": {"type": "Unigram", "unk_id": 0, "vocab": [[x, -1e308] for x in letters]},
        "of probabilities of nothing": {"type": "Unigram", "unk_id": 0, "vocab": []},
        "of an unknown piece": {"type": "Unigram", "unk_id": 99, "vocab": [["A", -1.0]]},
        "of NaN": {"type": "Unigram", "unk_id": 0, "vocab": [["A", float("nan")]]},
        "of an unknown kind": {"type": "Evil"},
        "all words of 3 bases": json.loads(all_kmers(3).to_str())["model"],
    }
    for what, model in models.items():
        yield what, json_tokenizer(model=model)


def tokenizers() -> Iterator[Case]:
    """Yield tokenizers that make too much, never end, or are none."""
    for what, changes in PARTS.items():
        yield Case(
            f"tokenizer: {what}",
            lambda folder, changes=changes: written(folder / "model", tokenizer=json_tokenizer(**changes)),  # type: ignore[misc]
        )
    for what, tokenizer in models_of_tokenizers():
        yield of(f"tokenizer: {what}", tokenizer=tokenizer)
    vocabularies: dict[str, Any] = {
        "of nothing": "",
        "of blanks": " \n\n\t",
        "of one letter": "A",
        "of no N": "[PAD]\nA\nC\nG\nT",
        "of letters twice": "[UNK]\n" + "A\nC\nG\nT\nN\n" * 5,
        "of overlapping words": "\n".join(x for x in VOCABULARY if len(x) != 1),
        "of a million words": "\n".join([*VOCABULARY, *map(str, range(1_000_000))]),
        "of long words": "\n".join([*VOCABULARY, "A" * 1_000_000]),
        "of words of nine": "\n".join([*"ACGTN", "A" * 9]),
        "of NUL": "\0\n" + "\n".join(VOCABULARY),
        "of a surrogate": "\n".join([*VOCABULARY, "\ud800"]),
        "of line ends of others": "\u2028".join(VOCABULARY),
        "of a number": 7,
        "of a list": VOCABULARY,
        "of null": None,
    }
    for what, words in vocabularies.items():
        yield of(f"vocabulary: {what}", tokenizer=KMERS | {"vocab.txt": words})
    settings: dict[str, Any] = {
        "a length of nothing": {"model_max_length": 0},
        "a length of one": {"model_max_length": 1},
        "a negative length": {"model_max_length": -5},
        "a length of NaN": {"model_max_length": float("nan")},
        "a length without end": {"model_max_length": float("inf")},
        "a length of text": {"model_max_length": "x"},
        "a fraction of a token": {"model_max_length": 0.5},
        "an end of an object": {"eos_token": {"content": {"content": "A"}}},
        "an end that is a base": {"eos_token": "A"},
        "pads that are bases": {"pad_token": "A", "mask_token": "C"},
        "pads of a list": {"pad_token": ["A"]},
        "overlapping words": {"tokenizer_class": "DNATokenizer"},
        "a class of a list": {"tokenizer_class": ["DNATokenizer"]},
        "code": {"auto_map": {"AutoTokenizer": ["os.system", None]}, "trust_remote_code": True},
        "paths": {"vocab_file": "/etc/passwd", "tokenizer_file": "/etc/passwd", "name_or_path": "/etc"},
    }
    for what, changes in settings.items():
        yield of(f"tokenizer's settings: {what}", tokenizer=KMERS | {"tokenizer_config.json": changes})
        both = json_tokenizer() | {"tokenizer_config.json": changes}
        yield of(f"byte pairs' settings: {what}", tokenizer=both)
    places: dict[str, Any] = {"a list": [], "text": "x", "null": None, "nothing": {}, "other files": {"../x": "y"}}
    for what, content in places.items():
        yield of(f"tokenizer: {what} in the place of files", tokenizer_text=json.dumps(content))
    deep = '{"a":' * 900 + "1" + "}" * 900
    yield of("tokenizer: a deep file", tokenizer_text='{"vocab.txt":"x","tokenizer_config.json":' + deep + "}")
    yield of("tokenizer: a deep tokenizer.json", tokenizer_text='{"tokenizer.json":' + deep + "}")


def metadata() -> Iterator[Case]:
    """Yield metadata of other kinds, and texts that should not reach a terminal."""
    values: dict[str, Any] = {
        "a number": 7,
        "null": "null",
        "a list": [1],
        "an object": {"a": 1},
        "no JSON": "{",
        "NaN": "NaN",
        "a long text": "x" * 100_000,
        "control letters": "\x1b[31mred\n\tx\r\0",
        "a surrogate": '"\\ud800"',
        "deep": "[" * 900 + "]" * 900,
        "very deep": "[" * 100_000,
    }
    for key in ("name", "licence", "labels", "provenance", "training", "dnalm", "format", "dnalm_origin", "pad"):
        for what, value in values.items():
            text = json.dumps(value) if what in ("a long text", "control letters") else value
            yield of(f"metadata: {key} is {what}", **{key: text})
    yield of("metadata: revision of many lines", provenance={"revision": "a\tb\nc", "name": {"x": [1]}})
    yield of("metadata: revision of NaN", provenance='{"revision": NaN}')
    yield of("metadata: labels of objects", labels=[{"a": 1}])
    for key in ("config", "tokenizer", "dnalm"):
        yield Case(f"metadata: no {key}", lambda folder, key=key: without(folder, key))  # type: ignore[misc]
    for what, value in {"a list": [], "text": "x", "numbers": {"config": 7}, "null": None}.items():
        yield raw(f"metadata: {what}", lambda value=value: with_header(json.dumps({"__metadata__": value}).encode()))  # type: ignore[misc]


def without(folder: Path, key: str) -> Path:
    """Write a model file that lacks a key of its metadata."""
    config, tensors = working("bert")
    about = {"format": "pt", "dnalm": "1", "config": json.dumps(config), "tokenizer": json.dumps(KMERS), "name": '"x"'}
    del about[key]
    (folder / "model").write_bytes(safetensors(tensors, about))
    return folder / "model"


NUMBERS: dict[str, Callable[[int], bytes]] = {
    "NaN": lambda count: struct.pack("<f", float("nan")) * count,
    "infinity": lambda count: struct.pack("<f", float("inf")) * count,
    "huge numbers": lambda count: struct.pack("<f", 3e38) * count,
    "zeros": lambda count: bytes(4 * count),
    "tiny numbers": lambda count: struct.pack("<f", 1e-45) * count,
}


def tensors(chance: random.Random) -> Iterator[Case]:
    """Yield weights of wrong numbers, kinds and shapes."""

    def changed(name: str, architecture: str, change: Callable[[Stored, str], Any], place: float) -> Case:
        def write(folder: Path) -> Path:
            of_model = dict(working(architecture)[1])
            change(of_model, sorted(of_model)[int(place * len(of_model))])
            return written(folder / "model", architecture, tensors=of_model)

        return Case(name, write)

    def all_numbers(numbers: Callable[[int], bytes]) -> Callable[[Stored, str], None]:
        def change(stored: Stored, chosen: str) -> None:
            for name, (dtype, shape, content) in stored.items():
                stored[name] = dtype, shape, numbers(len(content) // 4)

        return change

    def one(
        what: Callable[[tuple[str, list[int], bytes]], tuple[str, list[int], bytes]],
    ) -> Callable[[Stored, str], None]:
        def change(stored: Stored, chosen: str) -> None:
            stored[chosen] = what(stored[chosen])

        return change

    changes: dict[str, Callable[[Stored, str], Any]] = {
        **{f"one of {what}": one(lambda x, n=n: (x[0], x[1], n(len(x[2]) // 4))) for what, n in NUMBERS.items()},  # type: ignore[misc]
        "one missing": lambda stored, name: stored.pop(name),
        "one flat": one(lambda x: (x[0], [len(x[2]) // 4], x[2])),
        "one turned": one(lambda x: (x[0], x[1][::-1], x[2])),
        "one of more dimensions": one(lambda x: (x[0], [1, *x[1], 1], x[2])),
        "one of a number": one(lambda x: (x[0], [], x[2][:4])),
        "one empty": one(lambda x: (x[0], [0], b"")),
        "one of whole numbers": one(lambda x: ("I32", x[1], x[2])),
        "one of truths": one(lambda x: ("BOOL", [4 * (len(x[2]) // 4)], x[2])),
        "one of bytes": one(lambda x: ("U8", [len(x[2])], x[2])),
        "one of half precision": one(lambda x: ("BF16", x[1], x[2][: len(x[2]) // 2])),
        "one of double precision": one(lambda x: ("F64", x[1], x[2] * 2)),
        "one more": lambda stored, name: stored.update({"x": ("F32", [1], bytes(4))}),
        "one renamed": lambda stored, name: stored.update({name + ".x": stored.pop(name)}),
        "one of an old name": lambda stored, name: stored.update({name.replace("weight", "gamma"): stored.pop(name)}),
        "one under two names": lambda stored, name: stored.update({name.replace("weight", "gamma"): stored[name]}),
        "a mask of infinity": lambda stored, name: stored.update(
            {"bert.encoder.layer.0.attention.masked_bias": ("F32", [], struct.pack("<f", float("-inf")))}
        ),
        "a name of a path": lambda stored, name: stored.update({"../../x": stored.pop(name)}),
        "a SegmentNT's head": lambda stored, name: stored.update(
            {"unet.x": ("F32", [1], bytes(4)), "fc.weight": ("F32", [1], bytes(4))}
        ),
        "an adapter": lambda stored, name: stored.update({name + ".lora_A.default.weight": ("F32", [1], bytes(4))}),
    }
    architectures = ["bert", "llama", "gpt2", *OWN]
    for what, change in changes.items():
        for architecture in chance.sample(architectures, 2):
            yield changed(f"tensors: {what}, {architecture}", architecture, change, chance.random())
    for what, numbers in NUMBERS.items():
        for architecture in ("bert", "llama", "mixtral", *OWN):
            yield changed(f"tensors: all of {what}, {architecture}", architecture, all_numbers(numbers), 0.0)


def folders() -> Iterator[Case]:
    """Yield folders whose files are missing, of another kind, links, or lead elsewhere."""
    files: dict[str, dict[str, Any]] = {
        "works": {},
        "no config": {"config__json": None},
        "no weights": {"model__safetensors": None},
        "no vocabulary": {"vocab__txt": None},
        "pickled weights alone": {"model__safetensors": None, "pytorch_model__bin": b"\x80\x04."},
        "weights that are a pickle": {"model__safetensors": b"\x80\x04cos\nsystem\n(S'true'\ntR."},
        "weights that are an archive": {"model__safetensors": b"PK\x03\x04" + bytes(100)},
        "weights of nothing": {"model__safetensors": b""},
        "a config of bytes": {"config__json": bytes(range(256))},
        "a config with a byte order mark": {"config__json": "\ufeff" + json.dumps(working("bert")[0])},
        "a config of a list": {"config__json": "[]"},
        "a config of NaN": {"config__json": "NaN"},
        "a config with Infinity": {"config__json": working("bert")[0] | {"time_step_limit": [0.0, float("inf")]}},
        "a config with an infinite epsilon": {"config__json": working("bert")[0] | {"layer_norm_eps": float("inf")}},
        "a config of depth": {"config__json": '{"a":' * 900 + "1" + "}" * 900},
        "a config of great depth": {"config__json": "[" * 1_000_000},
        "a vocabulary of bytes": {"vocab__txt": bytes(range(256))},
        "a vocabulary with a byte order mark": {"vocab__txt": "\ufeff" + KMERS["vocab.txt"]},
        "an adapter alone": {"config__json": None, "adapter_config__json": {"peft_type": "LORA"}},
        "an adapter beside a model": {"adapter_config__json": {"peft_type": "LORA"}},
        "an adapter's weights beside a model": {"adapter_model__safetensors": b"x"},
        "a note of a list": {"dnalm__json": "[]"},
        "a note of numbers": {"dnalm__json": {"name": 7}},
        "a note of many lines": {"dnalm__json": {"name": "a\n\x1b[31mb" * 1_000, "licence": "\t\ud800"}},
        "a note with a strange revision": {"dnalm__json": {"provenance": {"revision": ["a\tb"]}}},
        "a note of NaN": {"dnalm__json": '{"provenance": {"a": NaN}}'},
        "a long note": {"dnalm__json": {"name": "x" * 2_000_000}},
        "an index that leads out": {
            "model__safetensors": None,
            "model__safetensors__index__json": {"weight_map": {"a": "../../x"}},
        },
        "an index of itself": {
            "model__safetensors": None,
            "model__safetensors__index__json": {"weight_map": {"a": "model.safetensors.index.json"}},
        },
        "an index of numbers": {
            "model__safetensors": None,
            "model__safetensors__index__json": {"weight_map": {"a": 7}},
        },
        "an index of nothing": {"model__safetensors": None, "model__safetensors__index__json": {"weight_map": {}}},
        "an index of a file that is not there": {
            "model__safetensors": None,
            "model__safetensors__index__json": {"weight_map": {"a": "b.safetensors"}},
        },
        "scGPT's config": {"config__json": None, "args__json": {"embsize": 1, "nlayers": 1, "d_hid": 1}},
        "an args.json of nonsense": {"config__json": None, "args__json": {"embsize": [], "nlayers": None, "d_hid": {}}},
    }
    for what, content in files.items():
        yield Case(f"folder: {what}", lambda folder, content=content: folder_of(folder / "model", **content))  # type: ignore[misc]
    names = ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "dnalm.json")
    kinds: dict[str, Callable[[Path], Any]] = {
        "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to nothing": lambda path: path.symlink_to("absent"),
        "a folder": lambda path: path.mkdir(),
        "a pipe": os.mkfifo,
    }
    for name in names:
        for what, make in kinds.items():

            def write(folder: Path, name: str = name, make: Callable[[Path], Any] = make) -> Path:
                model = folder_of(folder / "model")
                (model / name).unlink(missing_ok=True)
                make(model / name)
                return model

            yield Case(f"folder: {name} is {what}", write)
    yield Case("folder: a pipe", lambda folder: pipe(folder / "model"))
    yield Case("folder: nothing there", lambda folder: folder / "absent")
    yield Case("folder: empty", lambda folder: folder)
    yield Case("folder: a long name", lambda folder: folder / ("x" * 300))
    yield Case("folder: a device", lambda folder: Path("/dev/zero"))
    for what, reference in {"a path": "../../x", "nothing": "", "many lines": "a\nb", "bytes": "\ud800"}.items():
        yield Case(f"cache: the reference is {what}", lambda folder, text=reference: cached(folder, text))  # type: ignore[misc]
    yield Case("cache: works", lambda folder: cached(folder, "abc"))


def pipe(path: Path) -> Path:
    """Make a pipe that nobody writes to."""
    os.mkfifo(path)
    return path


def cached(folder: Path, reference: str) -> Path:
    """Write a repository of the hub's cache whose main reference says so."""
    repository = folder / "models--a--b"
    folder_of(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_bytes(reference.encode("utf-8", "surrogatepass"))
    return repository


def outcome(case: Case, folder: Path) -> Outcome:
    """Write a case into an empty folder and embed two sequences with it in a child of this process."""
    model, sequences, output = case.write(folder), folder / "x.fasta", folder / "out.npz"
    sequences.write_text(SEQUENCES)
    said = [folder / "stdout.txt", folder / "stderr.txt"]
    child = os.fork()
    if not child:
        end_with(["--sequences", sequences, "--model", model, "--output", output], said)
    ends = time.monotonic() + PATIENCE
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    texts = [path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in said]
    return Outcome(os.waitstatus_to_exitcode(status), texts[0], texts[1], output.exists())


def end_with(arguments: list[Any], said: list[Path]) -> None:
    """Run dnalm_embed within limits, its words into files, and end this process with its exit code."""
    code = 70
    try:
        for number, path in enumerate(said, start=1):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False, encoding="utf-8") for number in (1, 2))  # noqa: SIM115
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        fixed = ["--output-format", "npz", "--threads", "1", "--device", "cpu"]
        code = run(dnalm_embed.parser(), dnalm_embed.main, [*map(str, arguments), *fixed])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 71
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def failures(chosen: list[Case]) -> Iterator[tuple[Case, Outcome]]:
    """Yield the cases whose outcome is not allowed, with it."""
    for case in chosen:
        with tempfile.TemporaryDirectory() as folder:
            found = outcome(case, Path(folder))
        if not found.is_allowed:
            yield case, found


def main() -> int:
    """Run all cases, or some, and say how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="run one of so many")
    parser.add_argument("--only", default="", help="run those with this in their name")
    parser.add_argument("--verbose", action="store_true", help="say how each ended")
    arguments = parser.parse_args()
    chosen = [case for case in cases(arguments.seed)[:: arguments.every] if arguments.only in case.name]
    bad = 0
    for case in chosen:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = outcome(case, Path(folder))
        bad += not found.is_allowed
        if arguments.verbose or not found.is_allowed:
            words = (found.stderr.strip() or "-").splitlines()
            print(
                f"{'   ' if found.is_allowed else 'BAD'} {case.name}: code {found.code}, "
                f"{time.monotonic() - started:.1f} s; {words[-1][:300]}",
                flush=True,
            )
    print(f"{len(chosen)} tried, {bad} not allowed")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
