"""Segmenters through import, export and installation: published files in, the same numbers out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.models.registry import load_segmenter
from dnalm.models.sources import open_model
from dnalm.tasks.model_import import ImportOptions, import_model
from hub import Hub
from jax_files import Hostile, as_published
from safetensors.torch import load_file, save_file
from torch import Tensor

PARITY = REPOSITORY / "tests" / "parity" / "data"
SEGMENTERS = ["segment_nt", "segment_nt_multi_species", "segment_enformer", "segment_borzoi"]
TOKENIZER_FILES = ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json")
NAME = "somebody/segmenter"
NON_COMMERCIAL = "CC-BY-NC-SA-4.0"


def probabilities(path: Path) -> Tensor:
    """Return what a segmenter says of 3,072 bases."""
    segmenter = load_segmenter(open_model(path))
    with torch.inference_mode():
        return segmenter.probabilities(["ACGTTGCA" * 384])


def import_options(case: str, folder: Path) -> list[object]:
    published = PARITY / case
    files = [("--tokenizer-files", published / name) for name in TOKENIZER_FILES if (published / name).exists()]
    given = [("--config", published / "config.json"), ("--weights", published / "model.safetensors"), *files]
    return [*(part for pair in given for part in pair), "--output", folder / "model", "--summary", folder / "summary"]


@pytest.mark.slow
@pytest.mark.parametrize("case", SEGMENTERS)
def test_published_files_become_a_model_file_with_the_same_numbers(run_tool: Run, tmp_path: Path, case: str) -> None:
    code, said, problem = run_tool("import_model", *import_options(case, tmp_path), "--licence", NON_COMMERCIAL)
    assert (code, problem) == (0, "")
    assert torch.equal(probabilities(tmp_path / "model"), probabilities(PARITY / case))
    facts = dict(line.split("\t")[:2] for line in (tmp_path / "summary").read_text().splitlines())
    stored = open_model(tmp_path / "model")
    assert facts["features"] == ", ".join(stored.config["features"])
    assert stored.labels == stored.config["features"]
    assert (facts["head"], facts["licence"]) == ("segmentation", NON_COMMERCIAL)
    assert f"architecture: {facts['architecture']}" in said


def test_a_config_without_sizes_is_completed_from_the_tensors(run_tool: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["SegmentEnformer"], "model_type": "something"}')
    options = import_options("segment_enformer", tmp_path)
    options[1] = tmp_path / "config.json"
    assert run_tool("import_model", *options)[0] == 0
    assert torch.equal(probabilities(tmp_path / "model"), probabilities(PARITY / "segment_enformer"))


def test_a_segment_nt_without_its_tokenizer_is_refused(run_tool: Run, tmp_path: Path) -> None:
    options = [part for part in import_options("segment_nt", tmp_path) if "tokenizer" not in str(part)]
    options = [part for part in options if Path(str(part)).name not in TOKENIZER_FILES]
    code, _, problem = run_tool("import_model", *options)
    assert code == 1
    assert "has no tokenizer.json and no vocab.txt" in problem
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("case", ["segment_nt", "segment_borzoi"])
def test_an_exported_segmenter_can_be_imported_again(run_tool: Run, tmp_path: Path, case: str) -> None:
    assert run_tool("import_model", *import_options(case, tmp_path))[0] == 0
    code, _, problem = run_tool(
        "export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported"
    )
    assert (code, problem) == (0, "")
    assert torch.equal(probabilities(tmp_path / "exported"), probabilities(PARITY / case))
    assert (tmp_path / "exported" / "tokenizer_config.json").exists() == (case == "segment_nt")


def row_of(folder: Path) -> dict[str, str]:
    (row,) = json.loads((folder / "row.json").read_text())["data_tables"]["huggingface"]
    return row


def test_a_segment_nt_of_the_hub_is_installed(run_install: Run, hub: Hub, tmp_path: Path) -> None:
    hub.add("InstaDeepAI/segment_nt", PARITY / "segment_nt")
    code, said, problem = run_install("--curated", "InstaDeepAI/segment_nt")
    assert code == 0, problem
    row = row_of(tmp_path)
    assert row["pipeline_tag"] == "token-classification"
    assert row["name"] == "SegmentNT human, 14 features (CC-BY-NC-SA-4.0: non-commercial)"
    assert "14 features, reads 30,000 bases" in said
    assert torch.equal(probabilities(tmp_path / "models" / row["path"]), probabilities(PARITY / "segment_nt"))


@pytest.mark.slow
@pytest.mark.parametrize("config", [None, {"auto_map": {"AutoModel": "code.Model"}, "model_type": "something"}])
def test_jax_weights_of_the_hub_are_converted(
    run_install: Run, hub: Hub, tmp_path: Path, config: dict[str, Any] | None
) -> None:
    (tmp_path / "published").mkdir()
    files = {f"jax/{path.name}": path.read_bytes() for path in as_published(tmp_path / "published", "segment_enformer")}
    if config is not None:
        files["config.json"] = json.dumps(config).encode()
    hub.add("InstaDeepAI/segment_enformer", files | {"README.md": b"---\nlicense: cc-by-nc-sa-4.0\n---\n"})
    code, _, problem = run_install("--curated", "InstaDeepAI/segment_enformer")
    assert code == 0, problem
    row = row_of(tmp_path)
    assert row["name"] == "SegmentEnformer human (CC-BY-NC-SA-4.0: non-commercial)"
    folder = tmp_path / "models" / row["path"]
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "dnalm.json"}
    assert torch.equal(probabilities(folder), probabilities(PARITY / "segment_enformer"))
    assert not list((tmp_path / "downloads").iterdir())


def test_jax_weights_of_a_folder_are_converted(run_install: Run, tmp_path: Path) -> None:
    (tmp_path / "published" / "jax").mkdir(parents=True)
    as_published(tmp_path / "published" / "jax", "segment_enformer")
    code, _, problem = run_install("--source", "folder", "--folder", tmp_path / "published")
    assert code == 0, problem
    assert torch.equal(
        probabilities(tmp_path / "models" / row_of(tmp_path)["path"]), probabilities(PARITY / "segment_enformer")
    )


def test_a_hostile_pickle_is_refused_and_leaves_nothing(run_install: Run, hub: Hub, tmp_path: Path) -> None:
    joblib.dump({"module": {"w": Hostile(tmp_path / "ran")}}, tmp_path / "params.joblib")
    hub.add(NAME, {"params.joblib": (tmp_path / "params.joblib").read_bytes()})
    code, _, problem = run_install("--source", "hub", "--model-id", NAME)
    assert code == 1
    assert "holds more than arrays" in problem
    assert "Traceback" not in problem
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "models").glob("*"))


def test_jax_weights_of_another_model_are_refused(run_install: Run, hub: Hub, tmp_path: Path) -> None:
    import numpy as np

    joblib.dump({"mlp": {"w": np.zeros((2, 3))}}, tmp_path / "params.joblib")
    hub.add(NAME, {"params.joblib": (tmp_path / "params.joblib").read_bytes()})
    code, _, problem = run_install("--source", "hub", "--model-id", NAME)
    assert code == 1
    assert "is unknown here" in problem


def test_missing_parameters_are_named(run_install: Run, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    files = {path.name: path for path in as_published(tmp_path / "published", "segment_enformer")}
    state = joblib.load(files["state.joblib"])
    del state["Enformer/~_conv_tower/layer_0/conv_block/batch_norm/~/mean_ema"]
    joblib.dump(state, files["state.joblib"])
    hub.add(NAME, {name: path.read_bytes() for name, path in files.items()})
    code, _, problem = run_install("--source", "hub", "--model-id", NAME)
    assert code == 1
    assert "tensor 'trunk.tower.0.block.norm.running_mean' is missing" in problem


def test_files_with_strange_names_are_refused(run_install: Run, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    (first, second) = as_published(tmp_path / "published", "segment_enformer")
    hub.add(NAME, {"../params.joblib": first.read_bytes(), "state.joblib": second.read_bytes()})
    code, _, problem = run_install("--source", "hub", "--model-id", NAME)
    assert code == 1
    assert "strange name" in problem
    assert not (tmp_path / "params.joblib").exists()


def test_published_weights_may_be_of_half_precision(tmp_path: Path) -> None:
    tensors = {name: tensor.half() for name, tensor in load_file(PARITY / "segment_nt" / "model.safetensors").items()}
    save_file(tensors, tmp_path / "w")
    published: Callable[[str], Path] = (PARITY / "segment_nt").joinpath
    import_model(ImportOptions(published("config.json"), [tmp_path / "w"], tmp_path / "m", [published("vocab.txt")]))
    assert (probabilities(tmp_path / "m") - probabilities(PARITY / "segment_nt")).abs().max() < 0.01


def test_the_segmenter_of_the_test_data_is_installed_for_galaxys_tests() -> None:
    rows = [line.split("\t") for line in (TEST_DATA / "huggingface.loc").read_text().splitlines() if line[0] != "#"]
    (row,) = [row for row in rows if row[2] == "token-classification"]
    assert row[-1].endswith("/segmenter.safetensors")
