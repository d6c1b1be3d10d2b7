"""The card of a pretrained model: what it is, how well it does on what, what it learnt from, and how; markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from dnalm import __version__
from dnalm.models.language_model import LanguageModel

MEASURES = {
    "causal": "Bits per base are −log₂ p of the predicted tokens over the bases they cover; 2 is chance.",
    "masked": (
        "Masked bits per base are −log₂ p of the hidden tokens over the bases they cover; the model sees what is on both "
        "sides of them, so that a causal model's bits per base are no match for them."
    ),
}
SPLITS = {
    "random": "windows by chance",
    "block": "a run of neighbouring windows, with a gap of one window around it",
    "record": "whole sequences by chance",
}


def model_card(
    model: LanguageModel,
    parameters: int,
    options: Mapping[str, Any],
    counts: Mapping[str, int],
    results: Sequence[str],
    *,
    continued: bool,
) -> str:
    """Return the card.

    Args:
        model: what was trained.
        parameters: how many it has.
        options: those that decide over the model, by the names of `dnalm_pretrain.py --help`.
        counts: what became of the data.
        results: sentences about how well it does.
        continued: whether it was trained further from another model.
    """
    stored, context = model.stored, model.context_length
    licence = [f'license: "{stored.licence.lower()}"'] if stored.licence else []
    reads = f"reads {model.vocabulary_size:,} words" + (f", {context:,} at most at once" if context else "")
    start = "trained further from another model" if continued else "trained from nothing"
    lines = [
        *("---", "tags: [dna, biology]", *licence, "---", ""),
        *(f"# {stored.name}", ""),
        f"A DNA language model ({model.architecture}, {parameters:,} parameters) that {reads}; {start} with DNA-LM "
        f"{__version__} by {options['objective']} language modelling.",
        *("", "## Results", "", *(f"- {result}" for result in results), ""),
        f"{MEASURES[options['objective']]} Validation is {SPLITS[options['split']]}; none of its windows shares a base of "
        "a sequence with one that was trained on, nor repeats one or its reverse complement.",
        *("", "## Data", "", *(f"- {name.replace('_', ' ')}: {number:,}" for name, number in counts.items())),
        *("", "## Options", "", *(f"- {name}: {value}" for name, value in options.items()), ""),
    ]
    return "\n".join(lines)
