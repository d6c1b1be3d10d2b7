import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import ARCHITECTURES, SIZES, TEST_DATA, VOCABULARY, Run
from dnalm.engine import generation
from dnalm.engine.devices import prepare_machine
from dnalm.engine.generation import Generated, Request, Sampling, SequenceGenerator
from dnalm.errors import UserError
from dnalm.models.language_model import Cache, LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks import generation as task

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


def slowly(model: LanguageModel, length: int, request: Request) -> tuple[str, int, float]:
    """One sequence, no cache: the whole window is read for every token; bases, tokens and log-likelihood."""
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


def agrees_with_slow_generation(model: LanguageModel, length: int) -> None:
    for found, request in zip(generated(model, Sampling(length), REQUESTS), REQUESTS, strict=True):
        bases, tokens, likelihood = slowly(model, length, request)
        assert (found.bases, found.n_tokens) == (bases, tokens)
        assert found.log_likelihood == pytest.approx(likelihood, abs=1e-4)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_equals_generation_token_by_token_without_a_cache(model_folder: ModelFolder, architecture: str) -> None:
    agrees_with_slow_generation(loaded(model_folder(architecture)), length=50)


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
    assert found.bases == slowly(model, 30, end)[0]


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


def test_a_low_temperature_draws_likelier_sequences(model_folder: ModelFolder) -> None:
    model = loaded(model_folder("llama"))
    means = [
        np.mean([found.log_likelihood for found in generated(model, Sampling(90, temperature=temperature), REQUESTS)])
        for temperature in (0.5, 1.0, 2.0)
    ]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("batch_tokens", [1, 4, 100_000])
def test_a_sequence_does_not_depend_on_its_batch(model_folder: ModelFolder, batch_tokens: int) -> None:
    model = loaded(model_folder("llama"))
    expected = generated(model, Sampling(70), REQUESTS)
    found = generated(model, Sampling(70), REQUESTS[::-1], batch_tokens)[::-1]
    for one, other in zip(found, expected, strict=True):
        assert one.bases == other.bases
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)


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


PROMPT_FILE = b">first of two\nacgtacgtacgtuu\n>second\nGGRNCA\n>first again\nACGT\n"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.fa"
    path.write_bytes(PROMPT_FILE)
    return path


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    (tmp_path / "outputs").mkdir()
    return tmp_path / "outputs"


@pytest.fixture
def run_tool(run_tool: Run) -> Run:
    """Run the script with one thread: the steps of a tiny model are too little work for two."""
    return lambda *arguments: run_tool(*arguments, "--threads", 1)


def records(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^>(.*)\n([^>]*)", path.read_text(), re.MULTILINE))


def test_without_prompts_ten_sequences_of_200_bases_are_made(
    run_tool: Run, model_folder: ModelFolder, outputs: Path
) -> None:
    code, said, error = run_tool("generate", "--model", model_folder("llama"), "--output", outputs / "x.fa")
    assert (code, error) == (0, "")
    found = records(outputs / "x.fa")
    assert [title.split()[0] for title in found] == [f"generated_{number}" for number in range(1, 11)]
    assert {tuple(map(len, text.splitlines())) for text in found.values()} == {(80, 80, 40)}
    assert "Generated 10 sequences of 2,000 bases in all" in said
    assert "temperature 1, top-k all, top-p 1, seed 0" in said


def test_fasta_and_table_say_the_same(run_tool: Run, model_folder: ModelFolder, prompts: Path, outputs: Path) -> None:
    code, said, error = run_tool(
        "generate",
        *("--model", model_folder("llama"), "--prompts", prompts, "--number", 2, "--length", 33),
        *("--output", outputs / "x.fa", "--summary", outputs / "x.tsv"),
    )
    assert (code, error) == (0, "")
    table = pd.read_csv(outputs / "x.tsv", sep="\t")
    ids = ["first_1", "first_2", "second_1", "second_2", "first_1", "first_2"]
    assert " ".join(table.columns) == "id prompt length n_tokens log_likelihood bits_per_base gc prompt_unread"
    assert table["id"].tolist() == ids
    assert table["prompt"].tolist() == [name[:-2] for name in ids]
    assert set(table["length"]) == {33}
    lines = (outputs / "x.fa").read_text().splitlines()
    for title, bases, row in zip(lines[::2], lines[1::2], table.itertuples(), strict=True):
        assert title == f">{row.id} log_likelihood={row.log_likelihood:.4f} bits_per_base={row.bits_per_base:.4f}"
        assert len(bases) == 33
        assert row.bits_per_base == pytest.approx(-row.log_likelihood / 33 / math.log(2), abs=1e-4)
        assert row.gc == pytest.approx(sum(letter in "GC" for letter in bases) / 33, abs=1e-4)
    model = loaded(model_folder("llama"))
    bases, tokens, likelihood = slowly(model, 33, Request("GGNNCA", (0, 1, 2)))
    assert (lines[7], table["n_tokens"][3]) == (bases, tokens)
    assert table["log_likelihood"][3] == pytest.approx(likelihood, abs=1e-3)
    for line in (
        "prompts: 3",
        "lower-case letters of prompts read as upper case: 14",
        "IUPAC letters of prompts read as N: 1",
        "letters U of prompts read as T: 2",
        "prompts with an id seen before, kept: 1",
    ):
        assert line in said


def test_prompts_longer_than_the_context_are_counted(run_tool: Run, model_folder: ModelFolder, outputs: Path) -> None:
    code, said, _ = run_tool(
        "generate",
        *("--model", model_folder("llama"), "--prompts", TEST_DATA / "human_mitochondrion.fasta", "--number", 3),
        *("--length", 5, "--output", outputs / "x.fa", "--summary", outputs / "x.tsv"),
    )
    assert code == 0
    unread = 16_569 - (198 * 3 + 1)  # 199 tokens beside the start token, the last of one letter
    assert f"of which only the end is read: 1\nbases of prompts left out by that: {unread:,}" in said
    assert pd.read_csv(outputs / "x.tsv", sep="\t")["prompt_unread"].tolist() == [unread] * 3


def test_equal_runs_give_equal_bytes_and_another_seed_others(
    run_tool: Run, model_folder: ModelFolder, prompts: Path, outputs: Path
) -> None:
    for name, seed in (("first", 5), ("second", 5), ("third", 6)):
        code, _, _ = run_tool(
            "generate",
            *("--model", model_folder("mixtral"), "--prompts", prompts, "--length", 40, "--seed", seed),
            *("--output", outputs / f"{name}.fa", "--summary", outputs / f"{name}.tsv"),
        )
        assert code == 0
    for suffix in ("fa", "tsv"):
        first, second, third = ((outputs / f"{name}.{suffix}").read_bytes() for name in ("first", "second", "third"))
        assert first == second != third


def test_more_sequences_do_not_change_the_first_ones_nor_does_the_buffer(
    run_tool: Run, model_folder: ModelFolder, prompts: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, buffer in ((2, 4_096), (5, 4_096), (5, 3)):
        monkeypatch.setattr(task, "BUFFER_SEQUENCES", buffer)
        code, _, _ = run_tool(
            "generate",
            *("--model", model_folder("llama"), "--prompts", prompts, "--number", number, "--length", 50),
            *("--output", outputs / "x.fa"),
        )
        assert code == 0
        lines = (outputs / "x.fa").read_text().splitlines()
        found.append([lines[first : first + 2 * number] for first in range(0, len(lines), 2 * number)])
    few, many, buffered = found
    assert [lines[1::2] for lines in few] == [lines[1:4:2] for lines in many]
    assert many == buffered
    assert len({bases for lines in many for bases in lines[1::2]}) == 15


def test_always_taking_the_likeliest_token_is_warned_of(
    run_tool: Run, model_folder: ModelFolder, outputs: Path
) -> None:
    code, said, _ = run_tool(
        "generate",
        *("--model", model_folder("llama"), "--temperature", 0, "--length", 30, "--output", outputs / "x.fa"),
    )
    assert code == 0
    assert "all sequences of a prompt are alike" in said
    assert len(set(records(outputs / "x.fa").values())) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--temperature", -0.1), "The temperature is -0.1; use 0"),
        (("--temperature", "nan"), "The temperature is nan; use 0"),
        (("--temperature", "inf"), "The temperature is inf; use 0"),
        (("--top-k", -1), "The top-k is -1; use 0"),
        (("--top-p", 0), "The top-p is 0; use a share above 0 up to 1"),
        (("--top-p", 1.01), "The top-p is 1.01; use a share"),
        (("--top-p", "nan"), "The top-p is nan; use a share"),
        (("--length", 0), "The length is 0; use 1 or more"),
        (("--number", 0), "The number of sequences is 0; use 1 or more"),
        (("--seed", -1), "The seed is -1; use 0 or more"),
        (("--prompts", TEST_DATA / "protein.fasta"), "it looks like protein; use DNA sequences"),
        (("--prompts", TEST_DATA / "absent.fasta"), "cannot be read"),
    ],
)
def test_bad_choices_are_refused_in_one_sentence(
    run_tool: Run, model_folder: ModelFolder, outputs: Path, options: tuple[Any, ...], sentence: str
) -> None:
    code, _, error = run_tool("generate", "--model", model_folder("llama"), "--output", outputs / "x.fa", *options)
    assert code == 1
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(outputs.iterdir())


def test_a_model_that_fills_masks_is_refused(run_tool: Run, random_model: Path, outputs: Path) -> None:
    code, _, error = run_tool("generate", "--model", random_model, "--output", outputs / "x.fa")
    assert code == 1
    assert error == (
        "dnalm_generate: The model 'dnalm-random' (esm) fills masks and cannot continue a sequence; use a causal model, "
        "which reads left to right.\n"
    )
    assert not list(outputs.iterdir())


def test_a_model_without_its_head_is_refused(
    run_tool: Run, model_folder: ModelFolder, tmp_path: Path, outputs: Path
) -> None:
    folder = tmp_path / "headless"
    transformers.AutoModel.from_pretrained(model_folder("llama")).save_pretrained(folder)
    shutil.copy(model_folder("llama") / "vocab.txt", folder)
    code, _, error = run_tool("generate", "--model", folder, "--output", outputs / "x.fa")
    assert code == 1
    assert "has no language-model head" in error
    assert not list(outputs.iterdir())


def test_an_output_that_is_an_input_is_refused(run_tool: Run, model_folder: ModelFolder, prompts: Path) -> None:
    for option in ("--output", "--summary"):
        others = ("--output", prompts.with_name("x.fa")) if option == "--summary" else ()
        code, _, error = run_tool(
            "generate", "--model", model_folder("llama"), "--prompts", prompts, *others, *(option, prompts)
        )
        assert code == 1
        assert "is also an input" in error
        assert prompts.read_bytes() == PROMPT_FILE


def test_a_model_that_makes_nan_is_refused_and_leaves_nothing(
    run_tool: Run, model_folder: ModelFolder, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation.LanguageModel, "next_logits", lambda *_: (torch.full((1, 69), torch.nan), None))
    code, _, error = run_tool("generate", "--model", model_folder("llama"), "--number", 1, "--output", outputs / "x.fa")
    assert code == 1
    assert "makes NaN or infinite numbers" in error
    assert not list(outputs.iterdir())
