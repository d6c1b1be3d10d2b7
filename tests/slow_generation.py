"""Generation of DNA one token at a time, without batches or a cache: what the fast one must equal."""

import math

import numpy as np
import torch
from conftest import VOCABULARY
from dnalm.engine.generation import Request
from dnalm.models.language_model import LanguageModel


def generate_slowly(model: LanguageModel, length: int, request: Request) -> tuple[str, int, float]:
    """Return bases, number of tokens and log-likelihood; the whole window is read for every token."""
    words = {number: word for number, word in enumerate(VOCABULARY) if set(word) <= set("ACGT")}
    front = [] if model.tokenizer.cls_id is None else [model.tokenizer.cls_id]
    (encoding,) = model.encode([request.prompt or "A"])
    prompt = encoding.ids[~encoding.special].tolist() if request.prompt else []
    if model.context_length:
        prompt = prompt[-(model.context_length - len(front)) :]
    window, bases, tokens, likelihood = front + prompt, "", 0, 0.0
    random = np.random.default_rng(request.seeds)
    if not window:
        bases, tokens, likelihood = "ACGT"[random.integers(4)], 1, math.log(0.25)
        window = [VOCABULARY.index(bases)]
    while len(bases) < length:
        with torch.inference_mode():
            whole = torch.log_softmax(model.logits(torch.tensor([window]), None)[0, -1].double(), dim=-1).tolist()
        chances = {number: math.exp(whole[number]) for number in words}
        threshold, reached = random.random() * sum(chances.values()), 0.0
        for token in sorted(chances):
            reached += chances[token]
            if reached > threshold:
                break
        word = words[token][: length - len(bases)]
        ending = len(bases) + len(words[token]) >= length
        alike = [number for number in words if words[number].startswith(word)] if ending else [token]
        likelihood += math.log(sum(chances[number] for number in alike))
        bases, tokens, window = bases + word, tokens + 1, [*window, token]
        if model.context_length and len(window) > model.context_length:
            window = front + window[-((model.context_length - len(front)) // 2) :]
    return bases, tokens, likelihood
