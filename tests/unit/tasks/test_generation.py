"""The whole of dnalm_generate: FASTA and table, counts, and refusals."""

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from conftest import TEST_DATA, Run
from dnalm.engine import generation
from dnalm.engine.generation import Request
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks import generation as task
from slow_generation import generate_slowly

ModelFolder = Callable[[str], Path]
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
    model = load_language_model(open_model(model_folder("llama")), head=True)
    bases, tokens, likelihood = generate_slowly(model, 33, Request("GGNNCA", (0, 1, 2)))
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        (("--prompts", TEST_DATA / "absent.fasta"), "does not exist"),
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
