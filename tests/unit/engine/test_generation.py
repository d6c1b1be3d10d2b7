"""Generation by a causal model, compared with generation one token at a time without a cache."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import ARCHITECTURES, SIZES, VOCABULARY
from dnalm.engine.devices import prepare_machine
from dnalm.engine.generation import Generated, Request, Sampling, SequenceGenerator, dna_words
from dnalm.errors import UserError
from dnalm.models.language_model import Cache, LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from slow_generation import generate_slowly

ModelFolder = Callable[[str], Path]
CAUSAL = [name for name, (class_name, _) in ARCHITECTURES.items() if "Masked" not in class_name]
PROMPTS = [None, "ACGTACGTAC", "TTTACA", "GGNCA", "ACGTACGTAC"]
REQUESTS = [Request(prompt, (7, number, sample)) for number, prompt in enumerate(PROMPTS) for sample in (1, 2)]


def loaded(folder: Path) -> LanguageModel:
    return load_language_model(open_model(folder), head=True)


def generated(
    model: LanguageModel, sampling: Sampling, requests: list[Request], batch_tokens: int | None = None
) -> list[Generated]:
    return SequenceGenerator(model, sampling, prepare_machine("cpu", 1, batch_tokens)).generate(requests)


def agrees_with_slow_generation(model: LanguageModel, length: int) -> None:
    for found, request in zip(generated(model, Sampling(length), REQUESTS), REQUESTS, strict=True):
        bases, tokens, likelihood = generate_slowly(model, length, request)
        assert (found.bases, found.n_tokens) == (bases, tokens)
        assert found.log_likelihood == pytest.approx(likelihood, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", CAUSAL)
def test_equals_generation_token_by_token_without_a_cache(model_folder: ModelFolder, architecture: str) -> None:
    agrees_with_slow_generation(loaded(model_folder(architecture)), length=50)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_a_full_context_slides_by_half(model_folder: ModelFolder, architecture: str) -> None:
    model = loaded(model_folder(architecture))
    model.context_length = 12
    agrees_with_slow_generation(model, length=120)


def test_of_a_prompt_longer_than_the_context_the_end_is_read(model_folder: ModelFolder) -> None:
    model = loaded(model_folder("llama"))
    model.context_length = 9
    long, end = Request("TTTTTTACG" + "GATTACAT" * 3, (1,)), Request("GATTACAT" * 3, (1,))
    found, expected = generated(model, Sampling(30), [long, end])
    assert (found.bases, found.log_likelihood) == (expected.bases, pytest.approx(expected.log_likelihood, abs=1e-5))
    assert (found.unread, expected.unread) == (9, 0)
    assert found.bases == generate_slowly(model, 30, end)[0]


@pytest.fixture
def changed_folder(model_folder: ModelFolder, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the tiny llama and changes its vocabulary's tokens or its tokenizer's settings."""

    def call(tokens: dict[str, str] | None = None, **settings: Any) -> Path:
        folder = Path(shutil.copytree(model_folder("llama"), tmp_path / "changed"))
        vocabulary = "\n".join((tokens or {}).get(token, token) for token in VOCABULARY)
        (folder / "vocab.txt").write_text(vocabulary)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return folder

    return call


def test_without_a_start_token_the_first_base_is_uniform(changed_folder: Callable[..., Path]) -> None:
    model = loaded(changed_folder({"<cls>": "<other>"}))
    agrees_with_slow_generation(model, length=20)
    found = generated(model, Sampling(1), [Request(None, (0, number)) for number in range(400)])
    assert {sequence.log_likelihood for sequence in found} == {math.log(0.25)}
    counts = [sum(sequence.bases == letter for sequence in found) for letter in "ACGT"]
    assert min(counts) > 70


def test_an_end_token_behind_the_prompt_is_not_read(
    changed_folder: Callable[..., Path], model_folder: ModelFolder
) -> None:
    with_end = loaded(changed_folder(eos_token="<mask>", model_max_length=200))
    assert with_end.encode(["ACG"])[0].ids[-1] == VOCABULARY.index("<mask>")
    assert generated(with_end, Sampling(30), REQUESTS) == generated(
        loaded(model_folder("llama")), Sampling(30), REQUESTS
    )


def test_only_dna_is_drawn_however_likely_the_rest(model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(model_folder("llama"))
    usual = generated(model, Sampling(60), REQUESTS)
    original = model.next_logits
    others = [number for number, word in enumerate(VOCABULARY) if not set(word) <= set("ACGT")]

    def fond_of_others(input_ids: torch.Tensor, cache: Cache | None = None) -> tuple[torch.Tensor, Cache]:
        logits, cache = original(input_ids, cache)
        logits[:, others] += 30
        return logits, cache

    monkeypatch.setattr(model, "next_logits", fond_of_others)
    found = generated(model, Sampling(60), REQUESTS)
    assert [sequence.bases for sequence in found] == [sequence.bases for sequence in usual]
    # What the others take is counted: the distribution of the likelihood is over the full vocabulary.
    assert all(one.log_likelihood < other.log_likelihood - 100 for one, other in zip(found, usual, strict=True))


def test_first_bases_are_as_frequent_as_the_model_says(model_folder: ModelFolder) -> None:
    model = loaded(model_folder("llama"))
    found = generated(model, Sampling(1), [Request("ACGGTA", (3, number)) for number in range(4_000)])
    probability = {sequence.bases: math.exp(sequence.log_likelihood) for sequence in found}
    dna = sum(probability.values())  # the rest falls to tokens that are not drawn
    assert 0.5 < dna <= 1
    for letter in "ACGT":
        share = sum(sequence.bases == letter for sequence in found) / len(found)
        assert share == pytest.approx(probability[letter] / dna, abs=0.03)


@pytest.mark.parametrize("sampling", [Sampling(40, temperature=0), Sampling(40, top_k=1), Sampling(40, top_p=1e-9)])
def test_greedy_generation_takes_the_likeliest_token(model_folder: ModelFolder, sampling: Sampling) -> None:
    model = loaded(model_folder("llama"))
    (found,) = generated(model, sampling, [Request("ACGACG", (0,))])
    window, expected = model.encode(["ACGACG"])[0].ids.tolist(), ""
    dna = [number for number, word in enumerate(VOCABULARY) if set(word) <= set("ACGT")]
    while len(expected) < 40:
        with torch.inference_mode():
            logits = model.logits(torch.tensor([window]), None)[0, -1]
        window.append(max(dna, key=lambda token: float(logits[token])))
        expected += VOCABULARY[window[-1]]
    assert found.bases == expected[:40]


@pytest.mark.slow
def test_a_low_temperature_draws_likelier_sequences(model_folder: ModelFolder) -> None:
    model = loaded(model_folder("llama"))
    means = [
        np.mean([found.log_likelihood for found in generated(model, Sampling(90, temperature=temperature), REQUESTS)])
        for temperature in (0.5, 1.0, 2.0)
    ]
    assert means == sorted(means, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [1, 4, 100_000])
def test_a_sequence_does_not_depend_on_its_batch(model_folder: ModelFolder, batch_tokens: int) -> None:
    model = loaded(model_folder("llama"))
    expected = generated(model, Sampling(70), REQUESTS)
    found = generated(model, Sampling(70), REQUESTS[::-1], batch_tokens)[::-1]
    for one, other in zip(found, expected, strict=True):
        assert one.bases == other.bases
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)


@pytest.mark.slow
def test_a_batch_too_large_for_the_gpu_is_halved(model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(model_folder("llama"))
    expected = generated(model, Sampling(60), REQUESTS)
    original, most, told = model.next_logits, 2, [0]

    def narrow(input_ids: torch.Tensor, cache: Cache | None = None) -> tuple[torch.Tensor, Cache]:
        if cache is not None and len(input_ids) > most:
            raise torch.OutOfMemoryError
        return original(input_ids, cache)

    monkeypatch.setattr(model, "next_logits", narrow)
    generator = SequenceGenerator(model, Sampling(60), prepare_machine("cpu", 1, None))
    found = generator.generate(REQUESTS, told.append)
    assert [sequence.bases for sequence in found] == [sequence.bases for sequence in expected]
    assert sum(told) == 60 * len(REQUESTS)
    most = 0
    with pytest.raises(UserError, match="does not fit into the GPU; use shorter sequences"):
        generator.generate(REQUESTS)


@pytest.fixture
def bpe_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a tiny Llama with a BPE tokenizer, whose words may carry a mark."""

    def call(mark: str = "", unknown: bool = True) -> Path:
        special = ["[PAD]", "[UNK]"] if unknown else ["[PAD]"]
        vocabulary = [*special, *(first + letter for first in ("", mark) for letter in "ACGT")]
        merges = [("A", mark + "C"), ("AC", mark + "G")]
        vocabulary = list(dict.fromkeys([*vocabulary, "AC", "ACG"]))
        description: dict[str, Any] = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": "[UNK]" if unknown else None,
                "continuing_subword_prefix": mark or None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "vocab": {token: number for number, token in enumerate(vocabulary)},
                "merges": [" ".join(pair) for pair in merges],
            },
        }
        folder = tmp_path / "bpe"
        settings = SIZES | {"num_key_value_heads": 2, "vocab_size": len(vocabulary), "initializer_range": 0.1}
        torch.manual_seed(1)
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps(description))
        return folder

    return call


def test_words_of_many_lengths_are_cut_at_the_length(bpe_folder: Callable[..., Path]) -> None:
    model = loaded(bpe_folder())
    requests = [Request("ACGTTN", (0, number)) for number in range(30)]
    for length in (1, 2, 3, 20):
        found = generated(model, Sampling(length), requests)
        assert {len(sequence.bases) for sequence in found} == {length}
        assert all(1 <= sequence.n_tokens <= length for sequence in found)
        assert len({sequence.bases for sequence in found}) > 1
    ends = {sequence.bases: sequence.log_likelihood for sequence in generated(model, Sampling(1), requests)}
    with torch.inference_mode():
        ids = torch.from_numpy(model.encode(["ACGTTN"])[0].ids)[None]
        whole = torch.softmax(model.logits(ids, None)[0, -1].double(), dim=-1)
    words = model.tokenizer.words()
    for letter, likelihood in ends.items():
        beginning = sum(float(whole[number]) for number, word in words.items() if word.startswith(letter))
        assert likelihood == pytest.approx(math.log(beginning), abs=1e-5)


def test_words_with_marks_are_refused(bpe_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="as no plain word of A, C, G and T"):
        generated(loaded(bpe_folder(mark="##")), Sampling(10), REQUESTS[:1])


def test_a_prompt_with_n_needs_a_token_for_it(bpe_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="drops letters of a sequence"):
        generated(loaded(bpe_folder(unknown=False)), Sampling(10), [Request("ACNGT", (0,))])


def test_bits_per_base_and_gc_follow_from_a_generated_sequence() -> None:
    found = Generated("GCCA", n_tokens=2, log_likelihood=-6 * math.log(2), unread=0)
    assert found.bits_per_base == pytest.approx(1.5)
    assert found.gc == 0.75


def test_words_of_dna_are_those_without_n_and_special_tokens(model_folder: ModelFolder) -> None:
    found = dna_words(loaded(model_folder("llama")))
    assert len(found) == 64 + 4
    assert (found[VOCABULARY.index("GAT")], found[VOCABULARY.index("C")]) == ("GAT", "C")
    assert VOCABULARY.index("N") not in found


def test_a_model_that_fills_masks_is_refused(model_folder: ModelFolder) -> None:
    with pytest.raises(UserError, match=r"\(bert\) fills masks and cannot continue a sequence; use a causal model"):
        generated(loaded(model_folder("bert")), Sampling(10), REQUESTS[:1])


def test_nan_logits_are_refused(model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(model_folder("llama"))
    original = model.next_logits

    def broken(input_ids: torch.Tensor, cache: Cache | None = None) -> tuple[torch.Tensor, Cache]:
        logits, cache = original(input_ids, cache)
        return logits * torch.nan, cache

    monkeypatch.setattr(model, "next_logits", broken)
    with pytest.raises(UserError, match="makes NaN or infinite numbers of a sequence"):
        generated(model, Sampling(10), REQUESTS[:1])


def test_the_description_says_where_unprompted_sequences_start(
    model_folder: ModelFolder, changed_folder: Callable[..., Path]
) -> None:
    machine = prepare_machine("cpu", 1, None)
    usual = SequenceGenerator(loaded(model_folder("llama")), Sampling(), machine).description
    assert usual.endswith("3 layers, context 200 tokens, 68 DNA tokens; a start token")
    without = SequenceGenerator(loaded(changed_folder({"<cls>": "<other>"})), Sampling(), machine).description
    assert without.endswith("no start token: unprompted, the first base is uniform")
