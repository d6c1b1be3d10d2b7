"""Tiny random models of every kind of tokenizer, and variants of a small genome for them."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from conftest import SIZES
from dnalm.engine.variant_tokens import Site
from dnalm.methods.variant_windows import shared_windows, trimmed, variant_windows
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.models.vocabularies import all_kmers, learn_byte_pairs

GENOME = "".join(np.random.default_rng(5).choice(list("ACGT"), 400))
CONTEXT = 31
KINDS = ["letters", "3-mers", "6-mers", "byte pairs"]
CLASSES = {"masked": "EsmForMaskedLM", "causal": "LlamaForCausalLM", "windowed causal": "Gemma2ForCausalLM"}


def make_model(folder: Path, reads: str, kind: str) -> LanguageModel:
    """Return a model of 64 tokens with its head, written into an empty folder; `reads` is a key of CLASSES."""
    letters = {"letters": 1, "3-mers": 3, "6-mers": 6}
    words = learn_byte_pairs([GENOME], 48) if kind == "byte pairs" else all_kmers(letters[kind])
    sizes = SIZES | {"vocab_size": words.get_vocab_size(), "num_hidden_layers": 2}
    sizes |= {"pad_token_id": words.token_to_id("[PAD]"), "mask_token_id": words.token_to_id("[MASK]")}
    if reads == "masked":
        sizes |= {"position_embedding_type": "rotary"}
    if reads == "windowed causal":
        sizes |= {"head_dim": 8, "sliding_window": 8, "num_key_value_heads": 2}
    model_class = getattr(transformers, CLASSES[reads])
    torch.manual_seed(2)
    model_class(model_class.config_class(**sizes)).save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    settings = {"mask_token": "[MASK]", "pad_token": "[PAD]", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_language_model(open_model(folder), head=True)


def site(position: int, reference: str, alternative: str, genome: str = GENOME, context: int | None = CONTEXT) -> Site:
    assert genome[position:].startswith(reference)
    offset, reference, alternative = trimmed(reference, alternative)
    where = (lambda start, end: genome[start:end], len(genome), position + offset, reference, alternative, context)
    return Site(variant_windows(*where), shared_windows(*where))


def other_letters(bases: str, shift: int = 1) -> str:
    return "".join("ACGT"[("ACGT".index(letter) + shift) % 4] for letter in bases)


def snv(position: int, shift: int = 1) -> Site:
    return site(position, GENOME[position], other_letters(GENOME[position], shift))
