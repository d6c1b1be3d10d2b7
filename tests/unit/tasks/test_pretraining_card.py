"""The card of a pretrained model: what it is, how well it does on what, what it learnt from, and how."""

from dataclasses import replace
from typing import Any

import pytest
from conftest import TEST_DATA
from dnalm import __version__
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks.pretraining_card import model_card

OPTIONS: dict[str, Any] = {"objective": "causal", "split": "block", "seed": 7}


@pytest.fixture
def model() -> LanguageModel:
    """Llama's architecture, of 10 words and at most 1,024 of them at once."""
    found = load_language_model(open_model(TEST_DATA / "checkpoint.safetensors"))
    return replace(found, stored=replace(found.stored, name="ours", licence=None))


def test_a_card_is_markdown_with_every_fact(model: LanguageModel) -> None:
    counts = {"records": 3, "training_windows": 12_345}
    card = model_card(model, 1_234_567, OPTIONS, counts, ["Bits per base: 1.9", "Nothing else"], continued=False)
    assert card == (
        "---\n"
        "tags: [dna, biology]\n"
        "---\n"
        "\n"
        "# ours\n"
        "\n"
        "A DNA language model (llama, 1,234,567 parameters) that reads 10 words, 1,024 at most at once; trained from "
        f"nothing with DNA-LM {__version__} by causal language modelling.\n"
        "\n"
        "## Results\n"
        "\n"
        "- Bits per base: 1.9\n"
        "- Nothing else\n"
        "\n"
        "Bits per base are −log₂ p of the predicted tokens over the bases they cover; 2 is chance. Validation is a run of "
        "neighbouring windows, with a gap of one window around it; none of its windows shares a base of a sequence with "
        "one that was trained on, nor repeats one or its reverse complement.\n"
        "\n"
        "## Data\n"
        "\n"
        "- records: 3\n"
        "- training windows: 12,345\n"
        "\n"
        "## Options\n"
        "\n"
        "- objective: causal\n"
        "- split: block\n"
        "- seed: 7\n"
    )


def test_a_licence_stands_where_hubs_look_for_it(model: LanguageModel) -> None:
    licensed = replace(model, stored=replace(model.stored, licence="CC-BY-NC-SA-4.0"))
    card = model_card(licensed, 1, OPTIONS, {}, [], continued=False)
    assert card.startswith('---\ntags: [dna, biology]\nlicense: "cc-by-nc-sa-4.0"\n---\n')


def test_a_model_that_was_trained_further_says_so(model: LanguageModel) -> None:
    assert "; trained further from another model with DNA-LM" in model_card(model, 1, OPTIONS, {}, [], continued=True)


def test_a_model_without_a_limit_names_none(model: LanguageModel) -> None:
    card = model_card(replace(model, context_length=None), 1, OPTIONS, {}, [], continued=False)
    assert "reads 10 words; trained from nothing" in card


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "masked"}, "a causal model's bits per base are no match for them. Validation is a run"),
        ({"split": "random"}, "Validation is windows by chance; none of its windows"),
        ({"split": "record"}, "Validation is whole sequences by chance; none of its windows"),
    ],
)
def test_measure_and_split_are_explained(model: LanguageModel, changes: dict[str, Any], said: str) -> None:
    assert said in model_card(model, 1, OPTIONS | changes, {}, [], continued=False)
