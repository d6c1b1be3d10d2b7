"""Models and options that dnalm_predict must refuse: one sentence, exit 1, nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from conftest import SIZES, TEST_DATA, VOCABULARY, Run

WINDOWS = TEST_DATA / "two_genomes.fasta"
CLASSIFIER, REGRESSOR = TEST_DATA / "classifier.safetensors", TEST_DATA / "regressor.safetensors"
REGIONS = ("--genome", TEST_DATA / "human_mitochondrion.fasta", "--regions", TEST_DATA / "mitochondrial_genes.bed")


@pytest.fixture
def refused(run_tool: Run, tmp_path: Path) -> Callable[..., str]:
    """Run a job that must be refused, and return its sentence."""

    def call(*arguments: object) -> str:
        results = tmp_path / "results"
        results.mkdir()
        places = {"RESULTS": results}
        given = [places["RESULTS"] / "bed" if argument == "BED" else argument for argument in arguments]
        code, _, error = run_tool("predict", *given, "--output", results / "table")
        assert code == 1
        assert error.startswith("dnalm_predict: ")
        assert error.endswith(".\n")
        assert error.count("\n") == 1
        assert list(results.iterdir()) == []
        return error

    return call


NO_HEAD = (
    "has no head that classifies or regresses; fine-tune it on labelled sequences first, or choose a model that was"
)
REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "a language model": (("--sequences", WINDOWS, "--model", TEST_DATA / "random_model.safetensors"), NO_HEAD),
    "a model of ours": (("--sequences", WINDOWS, "--model", TEST_DATA / "published_model"), NO_HEAD),
    "a causal model": (("--sequences", WINDOWS, "--model", TEST_DATA / "demo_model.safetensors"), NO_HEAD),
    "a checkpoint": (("--sequences", WINDOWS, "--model", TEST_DATA / "checkpoint.safetensors"), NO_HEAD),
    "a segmenter": (("--sequences", WINDOWS, "--model", TEST_DATA / "segmenter.safetensors"), NO_HEAD),
    "no model": (("--sequences", WINDOWS, "--model", WINDOWS), "no model file"),
    "a class of a regressor": (
        ("--sequences", WINDOWS, "--model", REGRESSOR, "--label", "high"),
        "predicts values (gc) and has no classes; leave out --label",
    ),
    "probabilities of a regressor": (
        ("--sequences", WINDOWS, "--model", REGRESSOR, "--columns", "best"),
        "predicts values (gc) and has no classes; leave out --columns",
    ),
    "an unknown label": (
        ("--sequences", WINDOWS, "--model", CLASSIFIER, "--label", "Human"),
        "has no label 'Human'; it has ecoli, human",
    ),
    "a BED of sequences": (("--sequences", WINDOWS, "--model", CLASSIFIER, "--bed", "BED"), "A BED is made of regions"),
    "sequences and regions": (("--sequences", WINDOWS, *REGIONS, "--model", CLASSIFIER), "Give either sequences, or a"),
    "neither": (("--model", CLASSIFIER), "Give either sequences, or a genome together with regions"),
    "a genome alone": ((*REGIONS[:2], "--model", CLASSIFIER), "Give either sequences, or a genome together with"),
    "protein": (("--sequences", TEST_DATA / "protein.fasta", "--model", CLASSIFIER), "it looks like protein"),
    "no overlap": (
        ("--sequences", WINDOWS, "--model", CLASSIFIER, "--window-overlap", "1"),
        "The overlap of windows is 1.0",
    ),
    "too long": (
        ("--sequences", TEST_DATA / "ecoli.fasta.gz", "--model", CLASSIFIER, "--long-sequences", "fail"),
        "Sequence 'ecoli' has 40,001 tokens, the model 'dnalm-classifier' reads 1,024; cut it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_predicted_is_refused(refused: Callable[..., str], case: str) -> None:
    arguments, sentence = REFUSED[case]
    assert sentence in refused(*arguments)


def test_a_published_head_has_no_int8(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    torch.manual_seed(1)
    transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    options = ("--sequences", WINDOWS, "--model", folder, "--dtype", "int8")
    assert "reads more than hidden states, and has no int8" in refused(*options)


def test_a_head_that_gives_no_numbers_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    model = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**SIZES))
    model.score.weight.data.fill_(3e38)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    assert "NaN or infinite numbers" in refused("--sequences", WINDOWS, "--model", folder)


def test_an_earlier_table_stays_when_a_job_is_refused(run_tool: Run, tmp_path: Path) -> None:
    (tmp_path / "table").write_text("an earlier result")
    code, _, _ = run_tool(
        "predict", "--sequences", WINDOWS, "--model", REGRESSOR, "--label", "x", "--output", tmp_path / "table"
    )
    assert code == 1
    assert (tmp_path / "table").read_text() == "an earlier result"
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
