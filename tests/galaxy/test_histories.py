"""What a person does with the suite in Galaxy, through its API."""

import csv

import anndata
import client
import numpy as np
import pytest
from conftest import TEST_DATA
from server import GalaxyServer


def test_an_uploaded_model_is_recognised_and_used(
    galaxy: GalaxyServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The type of both inputs is detected, and the model of the history gives what the installed one gives."""
    gi = client.connect(galaxy)
    history = client.create_history(gi, "uploaded model")
    model = client.upload(gi, history, TEST_DATA / "demo_model.safetensors")
    sequences = client.upload(gi, history, TEST_DATA / "two_genomes.fasta")
    assert gi.datasets.show_dataset(model)["file_ext"] == "safetensors"
    assert gi.datasets.show_dataset(sequences)["file_ext"] == "fasta"
    data = {"input|select": "sequences", "input|sequences": {"src": "hda", "id": sequences}}
    found = []
    for source in (
        {"kind|model_source|select": "history", "kind|model_source|model": {"src": "hda", "id": model}},
        {"kind|model_source|select": "installed", "kind|model_source|model": "dnalm_demo"},
    ):
        run = client.run_tool(gi, history, "dnalm_embed", data | source)
        folder = tmp_path_factory.mktemp("outputs")
        assert {path.name for path in client.save_outputs(gi, run, folder)} == {"embeddings.h5ad", "summary.tsv"}
        found.append(anndata.read_h5ad(folder / "embeddings.h5ad"))
    np.testing.assert_array_equal(found[0].X, found[1].X)
    assert found[0].shape == (80, 64)


def test_a_model_pretrained_in_a_history_is_embedded_and_generated_with(
    galaxy: GalaxyServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gi = client.connect(galaxy)
    history = client.create_history(gi, "pretrained model")
    genome = client.upload(gi, history, TEST_DATA / "human_mitochondrion.fasta", "fasta")
    inputs = {"input|select": "sequences", "input|sequences": {"src": "hda", "id": genome}, "training|max_steps": "10"}
    trained = client.run_tool(gi, history, "dnalm_pretrain", inputs)
    model = {"model_source|select": "history", "model_source|model": {"src": "hda", "id": trained.datasets["output"]}}
    sequences = client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    embedding = {"input|select": "sequences", "input|sequences": {"src": "hda", "id": sequences}}
    embedded = client.run_tool(
        gi, history, "dnalm_embed", embedding | {f"kind|{name}": given for name, given in model.items()}
    )
    folder = tmp_path_factory.mktemp("outputs")
    client.save_outputs(gi, embedded, folder)
    assert anndata.read_h5ad(folder / "embeddings.h5ad").shape == (80, 64)
    generated = client.run_tool(gi, history, "dnalm_generate", model | {"number": "2"})
    client.save_outputs(gi, generated, folder)
    assert (folder / "sequences.fasta").read_text().count(">") == 2


def test_sequences_embedded_in_shards_and_merged_are_those_of_one_job(
    galaxy: GalaxyServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A job a shard, and the collection of their results merged as it is."""
    gi = client.connect(galaxy)
    history = client.create_history(gi, "scatter and gather")
    sequences = client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    data = {"src": "hda", "id": sequences}
    shards = client.run_tool(
        gi, history, "dnalm_split", {"what|select": "sequences", "what|sequences": data, "shards": "3"}
    )
    many = {"batch": True, "values": [{"src": "hdca", "id": shards.collections["sequence_shards"]}]}
    folders = {}
    for name, given in {"whole": data, "shards": many}.items():
        inputs = {"input|select": "sequences", "input|sequences": given}
        inputs |= {"kind|model_source|select": "installed", "kind|model_source|model": "dnalm_demo"}
        run = client.run_tool(gi, history, "dnalm_embed", inputs)
        assert len(run.jobs) == (3 if name == "shards" else 1)
        if name == "shards":
            answer = gi.histories.show_history(history, contents=True, types=["dataset_collection"])
            made = next(found["id"] for found in answer if "embeddings" in found["name"])
            run = client.run_tool(gi, history, "dnalm_merge", {"shards": {"src": "hdca", "id": made}})
        folders[name] = tmp_path_factory.mktemp(name)
        client.save_outputs(gi, run, folders[name])
    whole = anndata.read_h5ad(folders["whole"] / "embeddings.h5ad")
    merged = anndata.read_h5ad(folders["shards"] / "output.h5ad")
    assert whole.obs.equals(merged.obs)
    assert whole.uns["dnalm"] == merged.uns["dnalm"]
    np.testing.assert_allclose(whole.X, merged.X, rtol=0, atol=1e-5 * np.abs(whole.X).max())


def test_a_model_fine_tuned_in_a_history_predicts_in_another_after_a_download(
    galaxy: GalaxyServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing but data, labels and model is chosen; the uploaded file is recognised, and says what was measured."""
    gi = client.connect(galaxy)
    history = client.create_history(gi, "fine-tuning")
    sequences = client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    labels = client.upload(gi, history, TEST_DATA / "two_genomes_labels.tsv", "tabular")
    inputs = {
        "sequences": {"src": "hda", "id": sequences},
        "labels": {"src": "hda", "id": labels},
        "model_source|select": "installed",
        "model_source|model": "dnalm_demo",
    }
    trained = client.run_tool(gi, history, "dnalm_finetune", inputs)
    folder = tmp_path_factory.mktemp("outputs")
    client.save_outputs(gi, trained, folder / "trained")
    assert "kmer\tauroc" in (folder / "trained" / "metrics.tsv").read_text()
    other = client.create_history(gi, "prediction")
    model = client.upload(gi, other, folder / "trained" / "output.safetensors")
    assert gi.datasets.show_dataset(model)["file_ext"] == "safetensors"
    again = client.upload(gi, other, TEST_DATA / "two_genomes.fasta", "fasta")
    data = {"input|select": "sequences", "input|sequences": {"src": "hda", "id": again}}
    source = {"model_source|select": "history", "model_source|model": {"src": "hda", "id": model}}
    predicted = client.run_tool(gi, other, "dnalm_predict", data | source)
    client.save_outputs(gi, predicted, folder)
    expected, found = (
        {row["id"]: row for row in csv.DictReader((folder / name).open(), delimiter="\t")}
        for name in ("trained/predictions.tsv", "predictions.tsv")
    )
    assert len(found) == 80
    assert len(expected) == 16
    for name, row in expected.items():
        assert row["label"] == found[name]["label"]
        assert float(row["probability_human"]) == pytest.approx(float(found[name]["probability_human"]), abs=1e-4)


def test_a_failed_job_tells_its_sentence(galaxy: GalaxyServer) -> None:
    gi = client.connect(galaxy)
    history = client.create_history(gi, "failed job")
    sequences = client.upload(gi, history, TEST_DATA / "protein.fasta", "fasta")
    inputs = {
        "input|select": "sequences",
        "input|sequences": {"src": "hda", "id": sequences},
        "kind|model_source|select": "installed",
        "kind|model_source|model": "dnalm_demo",
    }
    with pytest.raises(client.JobError) as error:
        client.run_tool(gi, history, "dnalm_embed", inputs)
    assert "exit code 1" in str(error.value)
    assert "it looks like protein" in str(error.value)
    assert "Traceback" not in str(error.value)
