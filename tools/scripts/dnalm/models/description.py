"""What a model is, in a few facts that people ask for: architecture, sizes, context, head."""

import numpy as np
import torch

from dnalm.errors import UserError
from dnalm.models.language_model import LanguageModel, NoLanguageModelHead
from dnalm.models.model_file import StoredModel
from dnalm.models.registry import load_language_model

# Stored beside the parameters by some versions.
BUFFERS = ("position_ids", "inv_freq")
SAMPLE_BASES = 3_000


def describe(stored: StoredModel) -> dict[str, str]:
    """Load a model, run one short sequence through it, and return its facts: name of a fact → value.

    Raises:
        UserError: the model cannot be loaded, or makes NaN or infinity of a sequence.
    """
    try:
        model = load_language_model(stored, head=True)
        head = "causal language model" if model.causal else "masked language model"
    except NoLanguageModelHead:
        model = load_language_model(stored)
        head = "none"
    sample = "".join(np.random.default_rng(0).choice(list("ACGT"), SAMPLE_BASES))
    check_it_runs(model, sample)
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
    return facts


def check_it_runs(model: LanguageModel, sequence: str) -> None:
    """Run the start of a sequence through a model; raise UserError if its hidden states are not finite."""
    (encoding,) = model.encode([sequence[:60]])
    ids = torch.from_numpy(encoding.ids)[None, : model.context_length]
    with torch.inference_mode():
        (states,) = model.hidden_states(ids, None, [len(model.layers)])
    if not bool(torch.isfinite(states).all()):
        raise UserError(
            f"The model '{model.stored.name}' makes NaN or infinite numbers of a sequence; use intact files."
        )


def _bases(model: LanguageModel, sample: str, context: int) -> int:
    """Return how many bases of a random sequence fill the context; repeats and real genes differ by some percent."""
    (encoding,) = model.encode([sample])
    special = int(encoding.special.sum())
    return round((context - special) * len(sample) / (len(encoding) - special))
