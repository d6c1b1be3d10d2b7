"""What a person does with the suite in Galaxy, through its API."""

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
