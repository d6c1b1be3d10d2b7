"""What a model is, in a few facts that people ask for: architecture, sizes, context, head."""

import gc
import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dnalm.errors import UserError
from dnalm.models import scgpt
from dnalm.models.failures import running
from dnalm.models.heads import Classifier, is_classifier, load_classifier
from dnalm.models.language_model import LanguageModel, NoLanguageModelHead
from dnalm.models.model_file import BUFFERS, StoredModel
from dnalm.models.registry import PROBE, is_segmenter, load_language_model, load_segmenter
from dnalm.models.segmenter import Segmenter
from dnalm.models.tokenizers import Encoding

DECODERS = ("decoder.weight", "lm_head.weight", "embed_out.weight")
SAMPLE_BASES, PROBED_BASES = 3_000, 480
BINS = 50  # of the values of a cell that is tried


def describe(stored: StoredModel) -> dict[str, str]:
    """Load a model, run one short sequence through it, and return its facts: name of a fact → value.

    Raises:
        UserError: the model cannot be loaded, or does not give sensible numbers.
    """
    origin = json.dumps(stored.provenance, sort_keys=True) if stored.provenance else "unknown"
    return _facts(stored) | {"provenance": origin}


def _facts(stored: StoredModel) -> dict[str, str]:
    if scgpt.recognises(stored.config):
        return _describe_cells(try_cell_model(stored))
    model = try_model(stored)
    if isinstance(model, Segmenter):
        return _facts_of_segmenter(model)
    heads = [f"{'causal' if model.causal else 'masked'} language model"] if model.with_head is not None else []
    classifier = try_classifier(stored)
    if classifier is not None:
        heads.append(
            {"classify": "classifier", "multilabel": "multi-label classifier", "regress": "regressor"}[classifier.task]
        )
    sample = _random_bases(SAMPLE_BASES)
    parameters = {name: info for name, info in stored.tensors.items() if not BUFFERS.search(name)}
    tied = _tied(stored, model.vocabulary_size)
    count = sum(int(np.prod(info.shape)) for name, info in parameters.items() if name not in tied)
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
        "head": ", ".join(heads) or "none",
        "stored_as": ", ".join(sorted({str(info.dtype).removeprefix("torch.") for info in parameters.values()})),
        "licence": stored.licence or "unknown",
    }
    if classifier is not None:
        facts["labels"] = ", ".join(classifier.labels)
    elif stored.labels:
        facts["features"] = ", ".join(stored.labels)
    del model, classifier
    gc.collect()  # transformers' modules hold each other, and would keep the weights mapped
    return facts


def _facts_of_segmenter(model: Segmenter) -> dict[str, str]:
    stored, window = model.stored, model.window
    parameters = {name: info for name, info in stored.tensors.items() if info.dtype.is_floating_point}
    central = "" if window.central is None else f", of which it gives the central {window.central:,}"
    return {
        "name": stored.name,
        "architecture": model.architecture,
        "parameters": f"{sum(parameter.numel() for parameter in model.network.parameters()):,}",
        "window_bases": f"{window.default:,}{central}",
        "largest_window_bases": f"{window.most:,}",
        "reads_n": "yes" if model.takes_n else "no: runs of N part a sequence",
        "head": "segmentation",
        "features": ", ".join(model.features),
        "stored_as": ", ".join(sorted({str(info.dtype).removeprefix("torch.") for info in parameters.values()})),
        "licence": stored.licence or "unknown",
    }


def try_model(stored: StoredModel) -> LanguageModel | Segmenter:
    """Load a model, with its head if it has one, and run a short sequence through it.

    Raises:
        UserError: it cannot be loaded, its tokenizer makes ids that it lacks, or it does not give sensible numbers.
    """
    return _try_segmenter(stored) if is_segmenter(stored) else _try_language_model(stored)


def _try_segmenter(stored: StoredModel) -> Segmenter:
    model = load_segmenter(stored)
    multiple, least = model.window.multiple, max(model.window.least, PROBED_BASES)
    bases = min(-(-least // multiple) * multiple, model.window.most)
    with torch.inference_mode():
        probabilities = model.probabilities([_random_bases(bases)])
    _refuse_senseless(stored, [probabilities], probabilities)
    return model


def _try_language_model(stored: StoredModel) -> LanguageModel:
    """Load a language model, with its head if it has one, and run a short sequence through it.

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
    ids = torch.from_numpy(_probe(model).ids)[None]
    with torch.inference_mode():
        states = model.hidden_states(ids, None, range(len(model.layers) + 1))
        numbers = [*states, *([model.logits(ids, None)] if model.with_head is not None else [])]
    _refuse_senseless(stored, numbers, states[-1])
    return model


def _refuse_senseless(stored: StoredModel, numbers: Sequence[Tensor], last: Tensor) -> None:
    """Raise UserError if not all numbers are finite, or the last ones are all the same."""
    _refuse_infinite(stored, numbers)
    if not bool(last.std() > 0):
        raise UserError(
            f"The model '{stored.name}' makes the same of every base: its weights are empty; use an intact model."
        )


def _refuse_infinite(stored: StoredModel, numbers: Sequence[Tensor]) -> None:
    if not all(bool(torch.isfinite(values).all()) for values in numbers):
        raise UserError(f"The model '{stored.name}' makes NaN or infinity of a sequence; use an intact model.")


def _random_bases(count: int) -> str:
    return "".join(np.random.default_rng(0).choice(list("ACGT"), count))


def try_classifier(stored: StoredModel) -> Classifier | None:
    """Load a model with its head that classifies or regresses, and run a short sequence through it; None without one.

    Raises:
        UserError: it cannot be loaded, or does not give sensible numbers.
    """
    if not is_classifier(stored):
        return None
    classifier = load_classifier(stored)
    encoding = _probe(classifier.model)
    ids, weights = torch.from_numpy(encoding.ids)[None], torch.from_numpy(~encoding.special)[None].float()
    with torch.inference_mode():
        logits = classifier.logits(ids, None, weights)
    _refuse_infinite(stored, [logits])
    return classifier


def _probe(model: LanguageModel) -> Encoding:
    """Return the tokens of a short sequence that a model can read."""
    (encoding,) = model.encode([PROBE])
    return encoding if model.context_length is None else encoding.truncated(model.context_length)


def _tied(stored: StoredModel, vocabulary_size: int) -> set[str]:
    """Return the names of decoders that are the table of embeddings once more."""
    tables = [
        name for name, info in stored.tensors.items() if len(info.shape) == 2 and info.shape[0] == vocabulary_size
    ]
    if len(tables) < 2:
        return set()
    first, *others = sorted(tables, key=lambda name: name.endswith(DECODERS))
    weights = stored.read_tensors(tables)
    return {name for name in others if torch.equal(weights[name], weights[first])}


def try_cell_model(stored: StoredModel) -> scgpt.CellModel:
    """Load a model of cells and embed one that expresses as many genes as there are bins.

    Raises:
        UserError: it cannot be loaded, or does not give sensible numbers.
    """
    model = scgpt.load(stored)
    genes = [number for number in range(len(model.vocabulary)) if number not in (model.pad_id, model.cls_id)][:BINS]
    ids = torch.tensor([[model.cls_id, *genes]])
    values = torch.tensor([[model.no_value, *range(1, len(genes) + 1)]])
    with torch.inference_mode(), running(stored.name):
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
