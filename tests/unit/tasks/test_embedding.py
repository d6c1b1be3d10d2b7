"""Embedding from the entry script: vectors, formats, windows, strands, and what is told."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import TEST_DATA, Run
from dnalm.engine import representations
from dnalm.formats.fasta import FastaReader
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks import embedding

WINDOWS = TEST_DATA / "two_genomes.fasta"


def fasta(path: Path, *records: tuple[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in records))
    return path


def vectors(path: Path) -> np.ndarray:
    return np.load(path, allow_pickle=False)["embeddings"]


@pytest.fixture
def embedded(run_tool: Run, random_model: Path, tmp_path: Path) -> Callable[..., np.ndarray]:
    """Embed a FASTA file with the demo model and return the vectors."""

    def call(sequences: Path, *options: object) -> np.ndarray:
        output = tmp_path / "embedded.npz"
        code, _, error = run_tool(
            "embed",
            "--sequences",
            sequences,
            "--model",
            random_model,
            "--output",
            output,
            "--output-format",
            "npz",
            *options,
        )
        assert (code, error) == (0, "")
        return vectors(output)

    return call


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
@pytest.mark.parametrize("layer", [0, 1, -1])
def test_equals_a_plain_transformers_loop(
    embedded: Callable[..., np.ndarray], random_model: Path, tmp_path: Path, pooling: str, layer: int
) -> None:
    """One sequence a forward, every layer kept, special tokens dropped by hand."""
    stored = open_model(random_model)
    config = transformers.EsmConfig(**{name: value for name, value in stored.config.items() if name != "model_type"})
    reference = transformers.EsmModel.from_pretrained(
        None, config=config, state_dict=stored.read_tensors(), add_pooling_layer=False
    ).eval()
    tokenizer = load_language_model(stored).tokenizer
    found = embedded(WINDOWS, "--pooling", pooling, "--layer", layer)
    with FastaReader(WINDOWS) as reader, torch.inference_mode():
        for record, vector in zip(reader, found, strict=True):
            ids = torch.from_numpy(tokenizer.encode([record.bases])[0].ids)[None]
            hidden = reference(ids, output_hidden_states=True).hidden_states[layer][0]
            expected = {"mean": hidden[1:].mean(0), "max": hidden[1:].max(0).values, "cls": hidden[0]}[pooling]
            np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-5 * np.abs(found).max())


@pytest.mark.slow
def test_the_heads_norm_equals_the_published_definition(
    embedded: Callable[..., np.ndarray], random_model: Path
) -> None:
    """What the Nucleotide Transformer's own code calls the embeddings of its last layer."""
    stored = open_model(random_model)
    config = transformers.EsmConfig(**{name: value for name, value in stored.config.items() if name != "model_type"})
    reference = transformers.EsmForMaskedLM.from_pretrained(
        None, config=config, state_dict=stored.read_tensors()
    ).eval()
    tokenizer = load_language_model(stored).tokenizer
    found = embedded(WINDOWS, "--representation", "lm-head-norm")
    with FastaReader(WINDOWS) as reader, torch.inference_mode():
        for record, vector in zip(reader, found, strict=True):
            ids = torch.from_numpy(tokenizer.encode([record.bases])[0].ids)[None]
            hidden = reference.esm(ids).last_hidden_state[0, 1:]
            normed = reference.lm_head.layer_norm(torch.nn.functional.gelu(reference.lm_head.dense(hidden)))
            np.testing.assert_allclose(vector, normed.mean(0), rtol=0, atol=1e-5 * np.abs(found).max())


@pytest.mark.slow
def test_a_sequence_alone_equals_the_same_in_any_company(embedded: Callable[..., np.ndarray], tmp_path: Path) -> None:
    with FastaReader(WINDOWS) as reader:
        records = [(record.id, record.bases[: 13 * number + 1]) for number, record in enumerate(reader)]
    together = embedded(fasta(tmp_path / "all.fa", *records))
    backwards = embedded(fasta(tmp_path / "back.fa", *records[::-1]), "--batch-tokens", 100_000)
    scale = np.abs(together).max()
    np.testing.assert_allclose(backwards[::-1], together, rtol=0, atol=1e-5 * scale)
    for number in range(0, 80, 16):
        alone = embedded(fasta(tmp_path / "one.fa", records[number]))
        np.testing.assert_allclose(alone[0], together[number], rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize(("records", "bases"), [(1, 10**9), (7, 10**9), (10**9, 1_000)])
def test_the_buffer_does_not_change_the_result(
    embedded: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch, records: int, bases: int
) -> None:
    whole = embedded(WINDOWS)
    monkeypatch.setattr(embedding, "BUFFER_RECORDS", records)
    monkeypatch.setattr(embedding, "BUFFER_BASES", bases)
    np.testing.assert_allclose(embedded(WINDOWS), whole, rtol=0, atol=1e-5 * np.abs(whole).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [("--representation", "kmer", "--k", "8"), ("--layer", *["0", "1", "2"] * 5, "--combine-layers", "concatenate")],
)
def test_wide_vectors_wait_in_small_buffers(
    run_tool: Run, random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """8,192 vectors of all 8-mers would take 2 GB, and a model's concatenated layers as much."""
    held: list[int] = []
    whole = embedding.buffers

    def watched(records: Any, most_records: int, most_bases: int) -> Any:
        held.append(most_records)
        return whole(records, most_records, most_bases)

    monkeypatch.setattr(embedding, "buffers", watched)
    model = () if "kmer" in options else ("--model", random_model)
    output = ("--output", tmp_path / "x", "--output-format", "npz")
    assert run_tool("embed", "--sequences", WINDOWS, *model, *options, *output)[0] == 0
    width = 4**8 if "kmer" in options else 15 * embedding.USUAL_DIMENSIONS
    assert held[0] * width <= embedding.BUFFER_NUMBERS
    assert held[0] >= representations.COMPARED


@pytest.mark.slow
def test_threads_do_not_change_the_result(embedded: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALAXY_SLOTS", "2")
    one = embedded(WINDOWS, "--threads", 1)
    two = embedded(WINDOWS, "--threads", 2)
    assert torch.get_num_threads() == min(2, len(os.sched_getaffinity(0)))
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-5 * np.abs(one).max())


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        code, _, _ = run_tool(
            "embed",
            *("--sequences", WINDOWS, "--model", random_model),
            *("--output", tmp_path / f"{name}.h5ad", "--summary", tmp_path / f"{name}.tsv"),
        )
        assert code == 0
    for suffix in ("h5ad", "tsv"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()


@pytest.mark.slow
def test_scanpy_reads_and_analyses_the_h5ad(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    """What Galaxy's scanpy tools do with it: read, reduce, find neighbours, write."""
    import scanpy

    output = tmp_path / "out.h5ad"
    code, _, _ = run_tool("embed", "--sequences", WINDOWS, "--model", random_model, "--output", output)
    assert code == 0
    data = scanpy.read_h5ad(output)
    assert (data.shape, data.X.dtype) == ((80, 64), np.float32)
    assert data.obs["length"].tolist() == [600] * 80
    scanpy.pp.pca(data, n_comps=10)
    assert data.obsm["X_pca"].shape == (80, 10)
    scanpy.pp.neighbors(data, n_neighbors=5)
    assert data.obsp["connectivities"].shape == (80, 80)
    scanpy.tl.diffmap(data, n_comps=5)
    data.write_h5ad(tmp_path / "again.h5ad")
    assert scanpy.read_h5ad(tmp_path / "again.h5ad").uns["dnalm"] == data.uns["dnalm"]


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_what_was_mended_is_counted_in_every_output(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    sequences = fasta(tmp_path / "in.fa", ("a", "acgtRYN"), ("b", "AUUG"), ("a", "ACGT" * 1_000), ("c", "acgtRYN"))
    output, summary = tmp_path / "out.h5ad", tmp_path / "out.tsv"
    code, said, _ = run_tool(
        "embed",
        *("--sequences", sequences, "--model", random_model, "--long-sequences", "truncate"),
        *("--output", output, "--summary", summary),
    )
    assert code == 0
    table = pd.read_csv(summary, sep="\t")
    assert table["id"].tolist() == ["a", "b", "a", "c"]
    assert table["status"].tolist() == ["ok", "ok", "truncated", "ok"]
    assert table["truncated"].tolist() == [0, 0, 4_000 - 3 * 1_023, 0]
    assert table[["lower_case", "ambiguous", "uracil"]].values.tolist() == [[4, 2, 0], [0, 0, 2], [0, 0, 0], [4, 2, 0]]
    for line in (
        "Embedded 4 sequences of 4,018 bases in all",
        "lower-case letters read as upper case: 8",
        "IUPAC letters read as N: 4",
        "letters U read as T: 2",
        "sequences with an id seen before, kept: 1",
        "sequences longer than the model's context, cut: 1",
        "bases left out by the cut: 931",
    ):
        assert line in said
    data = anndata.read_h5ad(output)
    assert data.obs.reset_index()[list(table.columns[:-1])].equals(table[list(table.columns[:-1])])
    np.testing.assert_array_equal(data.X[0], data.X[3])
    np.testing.assert_allclose(table["embedding_norm"], np.linalg.norm(data.X, axis=1), rtol=1e-5)
    facts = json.loads(data.uns["dnalm"])
    assert facts["counts"]["sequences"] == 4
    assert facts["options"]["pooling"] == "mean"
    assert facts["model"]["layers"] == [2]
    assert facts["model"]["name"] == "dnalm-random"
    assert facts["model"]["sha256"] == open_model(random_model).sha256()


def test_equal_sequences_are_computed_once(
    embedded: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    whole = representations.run_pieces

    def counting(lengths: list[int], *others: Any) -> list[np.ndarray]:
        seen.append(len(lengths))
        return whole(lengths, *others)

    monkeypatch.setattr(representations, "run_pieces", counting)
    found = embedded(fasta(tmp_path / "in.fa", ("a", "ACGTACGT"), ("b", "TTTT"), ("c", "acgtacgu")))
    assert seen == [2]
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.slow
def test_bfloat16_is_close_and_says_how_close(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        code, said, _ = run_tool(
            "embed",
            *("--sequences", WINDOWS, "--model", random_model, "--dtype", dtype),
            *("--output", tmp_path / dtype, "--output-format", "npz"),
        )
        assert code == 0
    exact, lower = vectors(tmp_path / "float32"), vectors(tmp_path / "bfloat16")
    cosines = (exact * lower).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(lower, axis=1)
    assert 0.999 < cosines.min() < 1
    (measured,) = re.findall(r"cosine with float32 at least ([0-9.]+) on the first", said)
    assert float(measured) == pytest.approx(cosines[: representations.COMPARED].min(), abs=2e-6)


@pytest.mark.slow
def test_cls_of_a_model_that_reads_left_to_right_is_warned_of(
    run_tool: Run, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    code, said, _ = run_tool(
        "embed",
        *("--sequences", WINDOWS, "--model", model_folder("llama"), "--pooling", "cls"),
        *("--output", tmp_path / "x.npz", "--output-format", "npz"),
    )
    assert code == 0
    assert "the same for every sequence" in said
    assert np.ptp(vectors(tmp_path / "x.npz"), axis=0).max() < 1e-5
