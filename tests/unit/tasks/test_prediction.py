"""Prediction from the entry script: labels and values of sequences and regions, by models of our own and published ones."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import SIZES, TEST_DATA, VOCABULARY, Run
from dnalm.engine import representations
from dnalm.formats.fasta import FastaReader
from dnalm.methods.strands import reverse_complement
from dnalm.models.head_config import HeadFacts
from dnalm.models.heads import Classifier, load_classifier, new_classifier, write_classifier
from dnalm.models.sources import open_model
from dnalm.tasks import prediction
from mistral_dna import write_mistral_dna

WINDOWS = TEST_DATA / "two_genomes.fasta"
CLASSIFIER, REGRESSOR = TEST_DATA / "classifier.safetensors", TEST_DATA / "regressor.safetensors"
GENES, GENOME = TEST_DATA / "mitochondrial_genes.bed", TEST_DATA / "human_mitochondrion.fasta"


def fasta(path: Path, *records: tuple[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in records))
    return path


@pytest.fixture
def predicted(run_tool: Run, tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """Predict and return the table."""

    def call(*options: object) -> pd.DataFrame:
        output = tmp_path / "predicted.tsv"
        code, _, error = run_tool("predict", "--output", output, *options)
        assert (code, error) == (0, "")
        return pd.read_csv(output, sep="\t", keep_default_na=False)

    return call


def of_labels(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table if name.startswith("probability_")]].to_numpy()


def model_file(tmp_path: Path, facts: HeadFacts, spread: float = 1.0, source: Path | None = None) -> Path:
    """Write a model with a random head whose outputs differ."""
    classifier = new_classifier(open_model(source or TEST_DATA / "random_model.safetensors"), facts, seed=5)
    classifier.module.classifier.weight *= 50 * spread  # type: ignore[union-attr, operator]
    folder = tmp_path / "scratch"
    folder.mkdir(exist_ok=True)
    path = tmp_path / f"{facts.task}_{len(facts.labels)}.safetensors"
    write_classifier(path, classifier, folder, name="tiny", provenance={}, same_backbone=True)
    return path


def logits_one_by_one(classifier: Classifier, sequences: list[str]) -> np.ndarray:
    found = []
    with torch.inference_mode():
        for bases in sequences:
            (encoding,) = classifier.model.encode([bases])
            ids, weights = torch.from_numpy(encoding.ids)[None], torch.from_numpy(~encoding.special)[None].float()
            found.append(classifier.logits(ids, None, weights)[0].numpy())
    return np.array(found)


def windows() -> tuple[list[str], list[str]]:
    with FastaReader(WINDOWS) as reader:
        records = list(reader)
    return [record.id for record in records], [record.bases for record in records]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.slow
def test_equals_one_forward_a_sequence(predicted: Callable[..., pd.DataFrame]) -> None:
    table = predicted("--sequences", WINDOWS, "--model", CLASSIFIER)
    names, sequences = windows()
    assert table["id"].tolist() == names
    expected = softmax(logits_one_by_one(load_classifier(open_model(CLASSIFIER)), sequences))
    np.testing.assert_allclose(of_labels(table), expected, rtol=0, atol=1e-5)
    assert table["label"].tolist() == [("ecoli", "human")[number] for number in expected.argmax(axis=1)]
    np.testing.assert_allclose(table["probability"], expected.max(axis=1), rtol=0, atol=1e-5)


def test_the_test_classifier_tells_windows_that_it_never_saw(predicted: Callable[..., pd.DataFrame]) -> None:
    table = predicted("--sequences", WINDOWS, "--model", CLASSIFIER)
    assert (table["label"] == table["id"].str.split("_").str[0]).mean() > 0.85


def test_the_test_regressor_tells_gc(predicted: Callable[..., pd.DataFrame]) -> None:
    table = predicted("--sequences", WINDOWS, "--model", REGRESSOR)
    shares = [(bases.count("G") + bases.count("C")) / len(bases) for bases in windows()[1]]
    assert np.corrcoef(table["value"], shares)[0, 1] > 0.9
    assert abs(table["value"].mean() - np.mean(shares)) < 0.02


@pytest.mark.slow
def test_windows_and_both_strands_are_those_of_embedding(
    predicted: Callable[..., pd.DataFrame], run_tool: Run, tmp_path: Path
) -> None:
    """A long sequence: the linear head of the vector that dnalm_embed gives."""
    options = ("--sequences", TEST_DATA / "ecoli.fasta.gz", "--both-strands", "--window-overlap", "0.5")
    table = predicted(*options, "--model", CLASSIFIER)
    assert table["n_windows"].tolist() == [78]
    run_tool("embed", *options, "--model", CLASSIFIER, "--output", tmp_path / "e.npz", "--output-format", "npz")
    vectors = np.load(tmp_path / "e.npz")["embeddings"]
    classifier = load_classifier(open_model(CLASSIFIER))
    expected = softmax(classifier.of_vectors(torch.from_numpy(vectors)).numpy())
    np.testing.assert_allclose(of_labels(table), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_sequence_alone_equals_the_same_in_any_company(
    predicted: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    records = [(name, bases[: 13 * number + 1]) for number, (name, bases) in enumerate(zip(*windows(), strict=True))]
    together = of_labels(predicted("--sequences", fasta(tmp_path / "all.fa", *records), "--model", CLASSIFIER))
    monkeypatch.setattr(prediction, "BUFFER_RECORDS", 7)
    backwards = fasta(tmp_path / "back.fa", *records[::-1])
    others = of_labels(predicted("--sequences", backwards, "--model", CLASSIFIER, "--batch-tokens", 100_000))
    np.testing.assert_allclose(others[::-1], together, rtol=0, atol=1e-5)
    alone = predicted("--sequences", fasta(tmp_path / "one.fa", records[9]), "--model", CLASSIFIER)
    np.testing.assert_allclose(of_labels(alone)[0], together[9], rtol=0, atol=1e-5)


def test_equal_sequences_are_computed_once(
    predicted: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    whole = representations.run_pieces

    def counting(lengths: list[int], *others: Any) -> list[np.ndarray]:
        seen.append(len(lengths))
        return whole(lengths, *others)

    monkeypatch.setattr(representations, "run_pieces", counting)
    sequences = fasta(tmp_path / "in.fa", ("a", "ACGTACGT"), ("b", "TTTT"), ("c", "acgtacgu"))
    table = predicted("--sequences", sequences, "--model", CLASSIFIER)
    assert seen == [2]
    assert table["probability"][0] == table["probability"][2]


def test_equal_runs_give_equal_bytes(run_tool: Run, tmp_path: Path) -> None:
    for name in ("first", "second"):
        options = ("--genome", GENOME, "--regions", GENES, "--model", CLASSIFIER, "--bed", tmp_path / f"{name}.bed")
        assert run_tool("predict", *options, "--output", tmp_path / f"{name}.tsv")[0] == 0
    for suffix in ("tsv", "bed"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()


def test_what_was_mended_is_told(run_tool: Run, tmp_path: Path) -> None:
    sequences = fasta(tmp_path / "in.fa", ("a", "acgtRYN"), ("b", "NNN"), ("a", "ACGT" * 1_000))
    code, said, _ = run_tool(
        "predict",
        *("--sequences", sequences, "--model", CLASSIFIER, "--long-sequences", "truncate", "--output", tmp_path / "o"),
    )
    assert code == 0
    table = pd.read_csv(tmp_path / "o", sep="\t")
    assert table["status"].tolist() == ["ok", "all_n", "truncated"]
    assert table["truncated"].tolist() == [0, 0, 4_000 - 3 * 1_023]
    for line in (
        "Predicted 3 sequences of 4,010 bases in all",
        "lower-case letters read as upper case: 4",
        "IUPAC letters read as N: 2",
        "sequences with an id seen before, kept: 1",
        "sequences longer than the model's context, cut: 1",
        "bases left out by the cut: 931",
        "sequences of N alone: 1",
    ):
        assert line in said
    assert re.search(r"^Model SHA-256: [0-9a-f]{64}; licence: MIT$", said, re.MULTILINE)


@pytest.mark.slow
def test_temperature_and_thresholds_of_the_model_are_used(
    predicted: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    facts = HeadFacts("classify", ("a", "b"))
    plain = of_labels(predicted("--sequences", WINDOWS, "--model", model_file(tmp_path, facts, 0.1)))
    second = plain[:, 1]
    cut = float(np.quantile(second, 0.9))
    assert (second > 0.5).mean() != pytest.approx(0.1, abs=0.05)
    strict = model_file(tmp_path, replace(facts, thresholds=(1 - cut, cut)), 0.1)
    table = predicted("--sequences", WINDOWS, "--model", strict)
    assert (table["label"] == "b").tolist() == (second > cut).tolist()
    np.testing.assert_array_equal(table["probability"], np.where(second > cut, second, plain[:, 0]))
    warm = of_labels(
        predicted("--sequences", WINDOWS, "--model", model_file(tmp_path, replace(facts, temperature=2.0), 0.1))
    )
    np.testing.assert_allclose(np.log(warm[:, 1] / warm[:, 0]), np.log(second / plain[:, 0]) / 2, atol=1e-4)


@pytest.mark.slow
def test_several_labels_at_once(predicted: Callable[..., pd.DataFrame], run_tool: Run, tmp_path: Path) -> None:
    facts = HeadFacts("multilabel", ("x", "y", "z"), thresholds=(0.5, 0.2, 0.8))
    model = model_file(tmp_path, facts)
    table = predicted("--sequences", WINDOWS, "--model", model)
    logits = logits_one_by_one(load_classifier(open_model(model)), windows()[1])
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(of_labels(table), expected, rtol=0, atol=1e-5)
    calls = [",".join(np.array(facts.labels)[row >= np.array(facts.thresholds)]) for row in expected]
    assert table["label"].tolist() == calls
    assert len(set(calls)) > 1
    code, _, _ = run_tool(
        "predict",
        *(
            "--genome",
            GENOME,
            "--regions",
            GENES,
            "--model",
            model,
            "--output",
            tmp_path / "o",
            "--bed",
            tmp_path / "b",
        ),
    )
    assert code == 0
    scores = [int(line.split("\t")[4]) for line in (tmp_path / "b").read_text().splitlines()]
    largest = of_labels(pd.read_csv(tmp_path / "o", sep="\t", keep_default_na=False)).max(axis=1)
    assert scores == [round(1_000 * value) for value in largest]


def test_regions_become_a_bed_in_their_order(predicted: Callable[..., pd.DataFrame], tmp_path: Path) -> None:
    options = ("--genome", GENOME, "--regions", GENES, "--model", CLASSIFIER, "--bed", tmp_path / "bed")
    table = predicted(*options)
    rows = [line.split("\t") for line in (tmp_path / "bed").read_text().splitlines()]
    assert [row[3] for row in rows] == [f"{row.id}|{row.label}" for row in table.itertuples()]
    assert [int(row[4]) for row in rows] == [round(1_000 * value) for value in table["probability"]]
    given = [line.split("\t") for line in GENES.read_text().splitlines()]
    assert [(*row[:3], row[5]) for row in rows] == [(*row[:3], row[5]) for row in given]
    assert table[["contig", "start", "end", "strand"]].astype(str).values.tolist() == [
        [*row[:3], row[5]] for row in given
    ]
    table = predicted(*options, "--label", "human")
    rows = [line.split("\t") for line in (tmp_path / "bed").read_text().splitlines()]
    assert [int(row[4]) for row in rows] == [round(1_000 * value) for value in table["probability_human"]]


def test_the_score_of_a_value_is_its_place_in_the_training_targets(
    predicted: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    table = predicted("--genome", GENOME, "--regions", GENES, "--model", REGRESSOR, "--bed", tmp_path / "bed")
    facts = load_classifier(open_model(REGRESSOR)).facts
    assert facts.target_mean is not None
    assert facts.target_scale is not None
    rows = [line.split("\t") for line in (tmp_path / "bed").read_text().splitlines()]
    places = (table["value"] - facts.target_mean[0]) / facts.target_scale[0]
    np.testing.assert_allclose([int(row[4]) for row in rows], 500 + 250 * places, atol=0.6)
    assert [row[3] for row in rows] == [f"{row.id}|{row.value:.6g}" for row in table.itertuples()]


@pytest.mark.slow
def test_many_labels_are_told_by_the_likeliest(run_tool: Run, tmp_path: Path) -> None:
    labels = tuple(f"class {number}" for number in range(10_000))
    model = model_file(tmp_path, HeadFacts("classify", labels))
    few = fasta(tmp_path / "few.fa", *list(zip(*windows(), strict=True))[:5])
    code, said, _ = run_tool("predict", "--sequences", few, "--model", model, "--output", tmp_path / "best")
    assert code == 0
    assert "The model has 10,000 labels: the table has the 5 likeliest of each sequence" in said
    assert "and of 9,980 other labels: 0" in said
    best = pd.read_csv(tmp_path / "best", sep="\t")
    ranks = [name for number in range(1, 6) for name in (f"label_{number}", f"probability_{number}")]
    assert list(best.columns[:14]) == ["id", "status", "label", "probability", *ranks]
    code, _, _ = run_tool(
        "predict", "--sequences", few, "--model", model, "--output", tmp_path / "all", "--columns", "all"
    )
    assert code == 0
    every = of_labels(pd.read_csv(tmp_path / "all", sep="\t"))
    order = np.argsort(-every, axis=1)[:, :5]
    assert best[ranks[::2]].values.tolist() == np.array(labels)[order].tolist()
    np.testing.assert_allclose(best[ranks[1::2]], np.take_along_axis(every, order, axis=1), rtol=1e-5)


def test_many_labels_do_not_fill_the_memory(
    predicted: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held: list[int] = []
    whole = prediction.Predictor.predict

    def watched(self: Any, names: list[str], *others: Any) -> Any:
        held.append(len(names))
        return whole(self, names, *others)

    monkeypatch.setattr(prediction.Predictor, "predict", watched)
    monkeypatch.setattr(prediction, "BUFFER_NUMBERS", 3_000)
    model = model_file(tmp_path, HeadFacts("classify", tuple(map(str, range(100)))))
    assert len(predicted("--sequences", WINDOWS, "--model", model)) == 80
    assert held == [30, 30, 20]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_lower_precision_is_close_and_says_how_close(run_tool: Run, tmp_path: Path, dtype: str) -> None:
    tables = {}
    for kind in ("float32", dtype):
        code, said, _ = run_tool(
            "predict", *("--sequences", WINDOWS, "--model", CLASSIFIER, "--dtype", kind, "--output", tmp_path / kind)
        )
        assert code == 0
        tables[kind] = of_labels(pd.read_csv(tmp_path / kind, sep="\t"))
    (measured,) = re.findall(r"at most ([0-9.e-]+) from float32 on the first", said)
    differences = np.abs(tables[dtype] - tables["float32"])
    assert 0 < float(measured) < 0.1
    assert float(measured) == pytest.approx(differences[: representations.COMPARED].max(), rel=0.02)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A classifier that reads left to right, as its authors saved it; its context is 40 tokens."""
    folder = tmp_path / "published"
    config = transformers.LlamaConfig(
        **(SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 40}), id2label={0: "no", 1: "yes", 2: "maybe"}
    )
    torch.manual_seed(4)
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    return folder


@pytest.mark.slow
def test_a_published_classifier_equals_plain_transformers(
    predicted: Callable[..., pd.DataFrame], published: Path, tmp_path: Path
) -> None:
    names, sequences = windows()
    short = [bases[: 3 * number + 1] for number, bases in enumerate(sequences[:36])]
    records = fasta(tmp_path / "in.fa", *zip(names, short, strict=False))
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(
        published, trust_remote_code=False
    ).eval()
    tokenizer = load_classifier(open_model(published)).model.tokenizer

    def plain(bases: str) -> np.ndarray:
        with torch.inference_mode():
            return reference(torch.from_numpy(tokenizer.encode([bases])[0].ids)[None]).logits[0].numpy()

    expected = np.array([plain(bases) for bases in short])
    table = predicted("--sequences", records, "--model", published)
    assert list(table.columns[4:7]) == ["probability_no", "probability_yes", "probability_maybe"]
    np.testing.assert_allclose(of_labels(table), softmax(expected), rtol=0, atol=1e-5)
    turned = np.array([plain(reverse_complement(bases)) for bases in short])
    both = predicted("--sequences", records, "--model", published, "--both-strands")
    np.testing.assert_allclose(of_labels(both), softmax(0.5 * (expected + turned)), rtol=0, atol=1e-5)


def test_a_published_classifier_reads_a_sequence_to_its_context(run_tool: Run, published: Path, tmp_path: Path) -> None:
    bases = windows()[1][0]
    records = fasta(tmp_path / "in.fa", ("long", bases), ("cut", bases[:117]))
    code, said, _ = run_tool("predict", "--sequences", records, "--model", published, "--output", tmp_path / "o")
    assert code == 0
    assert "The head of this model reads a sequence as a whole" in said
    table = pd.read_csv(tmp_path / "o", sep="\t")
    assert table["status"].tolist() == ["truncated", "ok"]
    assert table["truncated"].tolist() == [600 - 117, 0]
    assert table["n_tokens"].tolist() == [40, 40]
    np.testing.assert_allclose(of_labels(table)[0], of_labels(table)[1], rtol=0, atol=1e-6)
    options = ("--sequences", records, "--model", published, "--output", tmp_path / "o")
    code, _, error = run_tool("predict", *options, "--long-sequences", "fail")
    assert code == 1
    assert "Sequence 'long' has 201 tokens, the model 'published' reads 40; cut it" in error


def test_equal_sequences_of_a_published_classifier_are_computed_once(
    predicted: Callable[..., pd.DataFrame], published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dnalm.engine import prediction as engine

    seen: list[int] = []
    whole = engine.run_pieces

    def counting(lengths: list[int], *others: Any) -> list[np.ndarray]:
        seen.append(len(lengths))
        return whole(lengths, *others)

    monkeypatch.setattr(engine, "run_pieces", counting)
    records = fasta(tmp_path / "in.fa", ("a", "ACGTACGG"), ("b", "TTTT"), ("c", "acgtacgg"), ("d", "AAAA"))
    predicted("--sequences", records, "--model", published)
    predicted("--sequences", records, "--model", published, "--both-strands")
    assert seen == [3, 4]


@pytest.fixture
def mistral_dna(tmp_path: Path) -> Path:
    """A Mistral-DNA of two classes without names."""
    return write_mistral_dna(tmp_path / "mistral_dna")


def difference_by_plain_transformers(folder: Path, sequences: list[str]) -> np.ndarray:
    """Return the first logit of each sequence less the second, one sequence at a time by transformers alone."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    with torch.inference_mode():
        logits = [model(**tokenizer(bases, return_tensors="pt")).logits[0].numpy() for bases in sequences]
    return np.array([first - second for first, second in logits])


def test_mistral_dna_has_the_logits_and_the_labels_of_plain_transformers(
    predicted: Callable[..., pd.DataFrame], mistral_dna: Path, tmp_path: Path
) -> None:
    records = [("first", "ATTGTGGGTCCCCGTAGATGATAGGGGCCCCCC"), ("second", "ACCAGTGGCAT")]
    table = predicted("--sequences", fasta(tmp_path / "in.fa", *records), "--model", mistral_dna)
    expected = difference_by_plain_transformers(mistral_dna, [bases for _, bases in records])
    found = of_labels(table)
    np.testing.assert_allclose(np.log(found[:, 0] / found[:, 1]), expected, atol=2e-4)
    assert table["label"].tolist() == ["LABEL_0" if value > 0 else "LABEL_1" for value in expected]
    assert len(set(table["label"])) == 2


def test_mistral_dna_has_the_logits_of_plain_transformers_for_both_alleles_of_real_windows(
    predicted: Callable[..., pd.DataFrame], mistral_dna: Path, tmp_path: Path
) -> None:
    """Windows of 201 bases of two genomes in a batch: reference and alternative in turn."""
    references = [bases[:201] for bases in windows()[1][::27]]
    alternatives = [bases[:100] + ("A" if bases[100] != "A" else "G") + bases[101:] for bases in references]
    sequences = [bases for pair in zip(references, alternatives, strict=True) for bases in pair]
    assert len(sequences) == 6
    records = fasta(tmp_path / "in.fa", *((str(number), bases) for number, bases in enumerate(sequences)))
    found = of_labels(predicted("--sequences", records, "--model", mistral_dna))
    expected = difference_by_plain_transformers(mistral_dna, sequences)
    np.testing.assert_allclose(np.log(found[:, 0] / found[:, 1]), expected, atol=2e-4)
    assert np.abs(expected[::2] - expected[1::2]).min() > 0.01
