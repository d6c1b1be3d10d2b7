"""From windows to the batches of a pretraining: tokenizers, tokens with bases and weights, and batching."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import TEST_DATA
from dnalm.engine.devices import prepare_machine
from dnalm.engine.training_data import TokenizedWindows, TrainingBatches
from dnalm.errors import UserError
from dnalm.models.language_model import LanguageModel
from dnalm.models.presets import PRESETS
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks import pretraining_tokens
from dnalm.tasks.pretraining_options import PretrainingOptions
from dnalm.tasks.pretraining_tokens import batches_of, chosen_batching, learnt_tokenizer, tokenized
from dnalm.tasks.pretraining_windows import Windows
from torch import nn

USUAL = PretrainingOptions(Path("out"), sequences=[Path("in")], objective="causal", batch_size=2, seed=3)


@pytest.fixture
def kmers() -> LanguageModel:
    """A masked model that reads words of three bases, and single ones before N and at the end, behind <cls>."""
    return load_language_model(open_model(TEST_DATA / "random_model.safetensors"), head=True)


@pytest.fixture
def letters() -> LanguageModel:
    """A causal model that reads single letters behind [CLS]; Llama's, whose windows can be packed."""
    return load_language_model(open_model(TEST_DATA / "checkpoint.safetensors"), head=True)


def windows(*sequences: str, validates: int = -1, weights: list[list[float]] | None = None) -> Windows:
    """Return windows of which the one numbered `validates`, by default the last, validates."""
    sides = np.arange(len(sequences)) == validates % len(sequences)
    own = None if weights is None else [np.array(row, dtype=np.float32) for row in weights]
    return Windows([bases.encode() for bases in sequences], own, sides, Counter())


def words_of(model: LanguageModel, tokens: TokenizedWindows) -> list[list[str]]:
    """Return the words of each window; a star for a special token or N."""
    words = model.tokenizer.words()
    return [
        [words.get(number, "*") for number in tokens.ids[start:end].tolist()]
        for start, end in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    ]


# Tokenizers


@pytest.mark.parametrize(("preset", "size"), [("demo", 5 + 5), ("nt-v2-50m", 5 + 4**6 + 5)])
def test_words_of_a_fixed_length_need_no_data(preset: str, size: int) -> None:
    """Five special tokens, all words, the four letters and N."""
    files = learnt_tokenizer(PRESETS[preset], windows("A", "C"))
    assert list(files) == ["tokenizer.json"]
    vocabulary = files["tokenizer.json"]["model"]["vocab"]
    assert len(vocabulary) == size
    assert ("ACGTAC" in vocabulary) == (preset == "nt-v2-50m")


def test_byte_pairs_are_learnt_from_what_trains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 words three are learnt: AC, then ACAC, then twice that; what validates has other pairs, and more of them."""
    monkeypatch.setattr(pretraining_tokens, "VOCABULARY", 12)
    files = learnt_tokenizer(PRESETS["llama"], windows("ACACACAC" * 4 + "N" + "AC" * 16, "GT" * 200))
    learnt = sorted(files["tokenizer.json"]["model"]["vocab"], key=lambda word: (len(word), word))
    assert [word for word in learnt if len(word) > 1 and "[" not in word] == ["AC", "ACAC", "ACACACAC"]


def test_too_little_for_so_many_byte_pairs_is_refused() -> None:
    sentence = (
        "support a vocabulary of .* tokens, and 4,096 are asked for; give more sequences, a smaller tokenizer, or a"
    )
    with pytest.raises(UserError, match=sentence):
        learnt_tokenizer(PRESETS["llama"], windows("ACGT" * 10, "GGTA" * 10))


# Tokens


def test_tokens_of_both_sides_have_the_bases_that_they_cover(kmers: LanguageModel) -> None:
    (training, other), validation = tokenized(USUAL, kmers, windows("ACGTTGCA", "TTNACG", "GGGCCC", validates=1))
    assert other is None
    assert words_of(kmers, training) == [["*", "ACG", "TTG", "C", "A"], ["*", "GGG", "CCC"]]
    assert training.bases.tolist() == [0, 3, 3, 1, 1, 0, 3, 3]
    assert training.weights.tolist() == [1] * 8
    assert words_of(kmers, validation) == [["*", "T", "T", "*", "ACG"]]
    # An N is no base to predict.
    assert validation.bases.tolist() == [0, 1, 1, 0, 3]
    assert validation.offsets.tolist() == [0, 5]


def test_other_strands_are_of_what_trains(kmers: LanguageModel) -> None:
    options = replace(USUAL, reverse_complement=True)
    (training, other), validation = tokenized(options, kmers, windows("ACGTTGCA", "GGGCCC"))
    assert other is not None
    assert words_of(kmers, training) == [["*", "ACG", "TTG", "C", "A"]]
    assert words_of(kmers, other) == [["*", "TGC", "AAC", "G", "T"]]
    assert words_of(kmers, validation) == [["*", "GGG", "CCC"]]


def test_a_token_weighs_as_much_as_its_bases_on_average(kmers: LanguageModel) -> None:
    """On the other strand the weights are turned as well; 0 would be a token that is not predicted at all."""
    options = replace(USUAL, reverse_complement=True)
    weights = [[1.0, 1.0, 0.25, 0.0, 0.0, 0.0, 0.5], [1.0] * 6]
    (training, other), validation = tokenized(options, kmers, windows("ACGTTGC", "GGGCCC", weights=weights))
    assert other is not None
    assert training.weights[1:].tolist() == pytest.approx([0.75, 1e-6, 0.5])
    assert other.weights[1:].tolist() == pytest.approx([0.5 / 3, (0.25 + 1) / 3, 1])
    assert validation.weights[1:].tolist() == [1, 1]


def test_windows_in_several_parts_are_tokens_in_order(kmers: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = ["".join(np.random.default_rng(seed).choice(list("ACGT"), 7 + seed)) for seed in range(9)]
    usual, _ = tokenized(USUAL, kmers, windows(*sequences))
    monkeypatch.setattr(pretraining_tokens, "TOKENIZED_TOGETHER", 2)
    found, _ = tokenized(USUAL, kmers, windows(*sequences))
    np.testing.assert_equal(vars(found[0]), vars(usual[0]))
    assert len(found[0]) == 8


def test_a_window_of_more_tokens_than_the_model_reads_is_refused(kmers: LanguageModel) -> None:
    kmers.context_length = 4
    tokenized(USUAL, kmers, windows("ACGTTGCCA", "ACG"))
    with pytest.raises(UserError, match="A window of 10 bases has 5 tokens, the model reads 4; use smaller windows"):
        tokenized(USUAL, kmers, windows("ACG", "ACGTTGCCAA"))


# Batches


def windows_of_tokens(count: int, tokens: int) -> TokenizedWindows:
    """Return windows of so many tokens, each token of one base."""
    every = count * tokens
    return TokenizedWindows(
        np.arange(every, dtype=np.int32) % 4 + 5,
        np.ones(every, dtype=np.uint16),
        np.ones(every, dtype=np.float32),
        np.arange(count + 1) * tokens,
    )


def made(model: LanguageModel, options: PretrainingOptions, *sequences: str) -> tuple[TrainingBatches, TrainingBatches]:
    training, validation = tokenized(options, model, windows(*sequences))
    return batches_of(options, model, training, validation, prepare_machine("cpu", 1, None))


def test_training_has_batches_of_the_chosen_size_and_validation_what_fits(letters: LanguageModel) -> None:
    """Five windows of 4 tokens, two by two; of four windows of 5 tokens as many as 16 tokens allow."""
    machine = prepare_machine("cpu", 1, 16)
    batches = batches_of(USUAL, letters, (windows_of_tokens(5, 4), None), windows_of_tokens(4, 5), machine)
    shapes = [[tuple(side[number]["input_ids"].shape) for number in range(len(side))] for side in batches]
    assert sorted(shapes[0]) == [(1, 4), (2, 4), (2, 4)]
    assert shapes[1] == [(3, 5), (1, 5)]
    assert not batches[0].masked
    # A window that does not fit is read alone.
    narrow = prepare_machine("cpu", 1, 4)
    _, validation = batches_of(USUAL, letters, (windows_of_tokens(5, 4), None), windows_of_tokens(4, 5), narrow)
    assert len(validation) == 4


def test_masked_words_are_replaced_by_those_of_the_training_windows(kmers: LanguageModel) -> None:
    options = replace(USUAL, objective="masked")
    training, validation = made(kmers, options, "ACGCGT" * 10, "TTTTTT")
    assert training.masked
    assert validation.masked
    start, *words = kmers.encode(["ACGCGT"])[0].ids.tolist()
    found: set[int] = set()
    for epoch in range(40):
        training.set_epoch(epoch)
        ids = training[0]["input_ids"]
        assert ids[:, 0].tolist() == [start]
        found |= set(ids[:, 1:].flatten().tolist())
    assert found == {kmers.tokenizer.mask_id, *words}


def test_either_strand_of_a_window_is_trained_on(letters: LanguageModel) -> None:
    training, validation = made(letters, replace(USUAL, reverse_complement=True), "AAAA", "CCCC")
    words = letters.tokenizer.words()
    found = set()
    for epoch in range(10):
        training.set_epoch(epoch)
        found.add("".join(words[number] for number in training[0]["input_ids"][0, 1:].tolist()))
    assert found == {"AAAA", "TTTT"}
    assert {words[number] for number in validation[0]["input_ids"][0, 1:].tolist()} == {"C"}


def test_windows_without_a_token_to_predict_are_refused(letters: LanguageModel, kmers: LanguageModel) -> None:
    sentence = "No token is left to predict; give sequences with fewer N, or longer windows"
    for sequences in (("NNNN", "ACGT"), ("ACGT", "NNNN")):
        with pytest.raises(UserError, match=sentence):
            made(letters, USUAL, *sequences)
    # A causal model does not predict the first token, a masked one does.
    single, machine = windows_of_tokens(2, 1), prepare_machine("cpu", 1, None)
    with pytest.raises(UserError, match=sentence):
        batches_of(USUAL, letters, (single, None), single, machine)
    batches_of(replace(USUAL, objective="masked"), kmers, (single, None), single, machine)


def test_a_masked_model_needs_a_mask(kmers: LanguageModel) -> None:
    kmers.tokenizer.mask_id = None
    with pytest.raises(UserError, match="The tokenizer has no mask token, which the objective masked needs"):
        made(kmers, replace(USUAL, objective="masked"), "ACGT", "ACGT")


# Batching

MIXED, EVEN = np.array([10, 100, 20, 90]), np.array([50, 60, 50, 55])


class Head(nn.Module):
    """A language model with nothing but a config."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)


@pytest.fixture
def of_architecture(letters: LanguageModel) -> Callable[..., LanguageModel]:
    return lambda name, **config: replace(letters, architecture=name, with_head=Head(**config))


@pytest.mark.parametrize("name", ["llama", "mistral", "mixtral"])
def test_windows_of_many_lengths_are_packed_where_the_model_allows_it(
    of_architecture: Callable[..., LanguageModel], name: str
) -> None:
    model = of_architecture(name, sliding_window=None)
    assert chosen_batching(USUAL, model, MIXED) == "packed"
    assert chosen_batching(USUAL, model, EVEN) == "grouped"
    assert chosen_batching(replace(USUAL, objective="masked"), model, MIXED) == "grouped"


def test_a_sliding_window_is_packed_where_no_window_is_longer(of_architecture: Callable[..., LanguageModel]) -> None:
    assert chosen_batching(USUAL, of_architecture("mistral", sliding_window=100), MIXED) == "packed"
    assert chosen_batching(USUAL, of_architecture("mistral", sliding_window=99), MIXED) == "grouped"


def test_windows_of_other_models_are_not_packed(of_architecture: Callable[..., LanguageModel]) -> None:
    model = of_architecture("gpt2")
    assert chosen_batching(USUAL, model, MIXED) == "grouped"
    with pytest.raises(UserError, match=r"The model \(gpt2\) cannot read packed windows apart; use batching grouped"):
        chosen_batching(replace(USUAL, batching="packed"), model, MIXED)


@pytest.mark.parametrize("batching", ["padded", "grouped", "packed"])
def test_what_was_chosen_is_done(of_architecture: Callable[..., LanguageModel], batching: Any) -> None:
    for lengths in (MIXED, EVEN):
        assert chosen_batching(replace(USUAL, batching=batching), of_architecture("llama"), lengths) == batching
