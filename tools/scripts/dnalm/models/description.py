"""What a model is, in a few facts that people ask for: architecture, sizes, context, head."""

import gc

import numpy as np
import torch

from dnalm.errors import UserError, shown
from dnalm.models import scgpt
from dnalm.models.language_model import LanguageModel, NoLanguageModelHead
from dnalm.models.model_file import StoredModel
from dnalm.models.registry import load_language_model

# Stored beside the parameters by some versions.
BUFFERS = ("position_ids", "inv_freq")
SAMPLE_BASES = 3_000
BINS = 50  # of the values of a cell that is tried
PROBE = "ACGTTGCAAGGCTTACCGATATCGGCTAAGCTTACGGATCCAGTCAN"


def describe(stored: StoredModel) -> dict[str, str]:
    """Load a model, run one short sequence through it, and return its facts: name of a fact → value.

    Raises:
        UserError: the model cannot be loaded, or does not give sensible numbers.
    """
    if scgpt.recognises(stored.config):
        return _describe_cells(try_cell_model(stored))
    model = try_model(stored)
    head = f"{'causal' if model.causal else 'masked'} language model" if model.with_head is not None else "none"
    sample = "".join(np.random.default_rng(0).choice(list("ACGT"), SAMPLE_BASES))
    parameters = {name: info for name, info in stored.tensors.items() if not name.endswith(BUFFERS)}
    count = sum(int(np.prod(info.shape)) for info in parameters.values())
    context = model.context_length
    facts = {
        "name": stored.name,
        "architecture": model.architecture,
        "parameters": f"{count:,}",
        "layers": f"{len(model.layers)}",
        "hidden_size": f"{model.hidden_size:,}",
        "context_tokens": f"{context:,}" if context else "unlimited",
        "context_bases": f"about {_bases(model, sample, context):,}" if context else "unlimited",
        "vocabulary": f"{model.vocabulary_size:,}",
        "head": head,
        "stored_as": ", ".join(sorted({str(info.dtype).removeprefix("torch.") for info in parameters.values()})),
        "licence": stored.licence or "unknown",
    }
    if stored.labels:
        facts["features"] = ", ".join(stored.labels)
    del model
    gc.collect()  # transformers' modules hold each other, and would keep the weights mapped
    return facts


def try_model(stored: StoredModel) -> LanguageModel:
    """Load a model, with its language-model head if it has one, and run a short sequence through it.

    Raises:
        UserError: it cannot be loaded, its tokenizer makes ids that it lacks, or it does not give sensible numbers.
    """
    try:
        model = load_language_model(stored, head=True)
    except NoLanguageModelHead:
        model = load_language_model(stored)
    tokenizer = model.tokenizer
    used = [*tokenizer.words(), *([] if model.causal or tokenizer.mask_id is None else [tokenizer.mask_id])]
    if max(used, default=0) >= model.vocabulary_size:
        raise UserError(
            f"The tokenizer of the model '{stored.name}' makes the token id {max(used)}, but the model has only "
            f"{model.vocabulary_size} tokens; use a model with its own tokenizer."
        )
    (encoding,) = model.encode([PROBE])
    if model.context_length is not None:
        encoding = encoding.truncated(model.context_length)
    ids = torch.from_numpy(encoding.ids)[None]
    try:
        with torch.inference_mode():
            states = model.hidden_states(ids, None, range(len(model.layers) + 1))
            numbers = [*states, *([model.logits(ids, None)] if model.with_head is not None else [])]
    except MemoryError:
        raise
    except Exception as error:  # whatever a strange config brings transformers or torch to
        raise UserError(
            f"The model '{stored.name}' cannot run a sequence ({shown(error, 200)}); use intact files."
        ) from error
    if not all(bool(torch.isfinite(values).all()) for values in numbers):
        raise UserError(f"The model '{stored.name}' makes NaN or infinity of a sequence; use an intact model.")
    if not bool(states[-1].std() > 0):
        raise UserError(
            f"The model '{stored.name}' makes the same of every base: its weights are empty; use an intact model."
        )
    return model


def try_cell_model(stored: StoredModel) -> scgpt.CellModel:
    """Load a model of cells and embed one that expresses as many genes as there are bins.

    Raises:
        UserError: it cannot be loaded, or does not give sensible numbers.
    """
    model = scgpt.load(stored)
    genes = [number for number in range(len(model.vocabulary)) if number not in (model.pad_id, model.cls_id)][:BINS]
    ids = torch.tensor([[model.cls_id, *genes]])
    values = torch.tensor([[model.no_value, *range(1, len(genes) + 1)]])
    with torch.inference_mode():
        cell, states = model.module(ids, values), model.module.hidden_states(ids, values)
    if not bool(torch.isfinite(cell).all()) or not bool(states[-1].std() > 0):
        raise UserError(
            f"The model '{stored.name}' makes no sensible numbers of a cell: its weights are empty or too large; use an "
            "intact model."
        )
    return model


def _describe_cells(model: scgpt.CellModel) -> dict[str, str]:
    stored = model.stored
    return {
        "name": stored.name,
        "architecture": scgpt.NAME,
        "parameters": f"{sum(int(np.prod(info.shape)) for info in stored.tensors.values()):,}",
        "layers": f"{len(model.layers)}",
        "hidden_size": f"{model.hidden_size:,}",
        "context_tokens": f"{scgpt.CONTEXT_LENGTH:,}",
        "vocabulary": f"{len(model.vocabulary):,}",
        "head": "none",
        "stored_as": ", ".join(sorted({str(info.dtype).removeprefix("torch.") for info in stored.tensors.values()})),
        "licence": stored.licence or "unknown",
    }


def _bases(model: LanguageModel, sample: str, context: int) -> int:
    """Return how many bases of a random sequence fill the context; repeats and real genes differ by some percent."""
    (encoding,) = model.encode([sample])
    special = int(encoding.special.sum())
    return round((context - special) * len(sample) / (len(encoding) - special))
