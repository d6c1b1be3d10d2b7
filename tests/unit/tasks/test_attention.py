import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import ARCHITECTURES, REPOSITORY, TEST_DATA, Run
from dnalm.formats.fasta import FastaReader
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks import attention
from PIL import Image

WINDOWS = TEST_DATA / "two_genomes.fasta"
PARITY = REPOSITORY / "tests" / "parity" / "data"
SEQUENCES = [("a", "ACGTTGCANNACGGATTACAGATTACACC"), ("b", "ACG"), ("c", "TTTTGACATTACGATCGATCGGATCTAGC" * 3)]
OURS = {"nt_v2": PARITY / "nt_v2", "dnabert2": PARITY / "dnabert2", "segment_nt": TEST_DATA / "segmenter.safetensors"}


def fasta(path: Path, *records: tuple[str, str]) -> Path:
    path.write_text("".join(f">{name} a description\n{bases}\n" for name, bases in records))
    return path


@pytest.fixture
def attended(run_tool: Run, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Make maps, and return the arrays of the npz."""

    def call(*options: object) -> dict[str, Any]:
        code, _, error = run_tool("attention", "--output", tmp_path / "maps", *options)
        assert (code, error) == (0, "")
        with np.load(tmp_path / "maps", allow_pickle=False) as arrays:
            return dict(arrays)

    return call


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "esm-rotary", "deberta-v2", "mixtral", "modernbert", "gpt2"])
def test_maps_equal_plain_transformers(
    attended: Callable[..., dict[str, Any]], model_folder: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    folder = model_folder(architecture)
    found = attended(
        *("--sequences", fasta(tmp_path / "in.fa", *SEQUENCES), "--model", folder, "--layers-heads", "3.2,1.*,2.4")
    )
    assert found["heads"].tolist() == ["3.2", "1.1", "1.2", "1.3", "1.4", "2.4"]
    assert found["layers_heads"].tolist() == [[3, 2], [1, 1], [1, 2], [1, 3], [1, 4], [2, 4]]
    assert found["ids"].tolist() == ["a", "b", "c"]
    tokenizer = load_language_model(open_model(folder)).tokenizer
    reference = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager", trust_remote_code=False)
    for number, (_, bases) in enumerate(SEQUENCES):
        (encoding,) = tokenizer.encode([bases])
        ids = torch.from_numpy(encoding.ids)[None]
        with torch.inference_mode():
            maps = reference.eval()(ids, attention_mask=torch.ones_like(ids), output_attentions=True).attentions
        expected = [maps[layer - 1][0, head - 1].numpy() for layer, head in found["layers_heads"]]
        np.testing.assert_allclose(found[f"attention_{number}"], expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(found[f"starts_{number}"], encoding.starts)
        np.testing.assert_array_equal(found[f"ends_{number}"], encoding.ends)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *OURS])
def test_rows_add_up_to_1_in_every_architecture(
    attended: Callable[..., dict[str, Any]], model_folder: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    model = OURS.get(architecture) or model_folder(architecture)
    found = attended("--sequences", fasta(tmp_path / "in.fa", *SEQUENCES), "--model", model)
    loaded = load_language_model(open_model(model))
    layers = len(loaded.layers)
    assert found["heads"].tolist() == [f"{layers}.{head}" for head in range(1, loaded.heads + 1)]
    for number in range(len(SEQUENCES)):
        maps = found[f"attention_{number}"]
        assert maps.shape == (loaded.heads, *2 * found[f"starts_{number}"].shape)
        np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=0, atol=1e-5)
        if loaded.causal:
            assert not np.triu(maps, 1).any()


@pytest.mark.parametrize("path", [PARITY / "nt_v2", TEST_DATA / "random_model.safetensors"], ids=lambda path: path.stem)
def test_layers_come_in_the_order_asked_for_and_no_more_are_computed(path: Path) -> None:
    model = load_language_model(open_model(path))
    ids = torch.from_numpy(model.encode(["ACGTTGCANNACGGATTACAG"])[0].ids)[None]
    ended: list[object] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda *_: ended.append(None))
    with torch.inference_mode():
        second, first = model.attention_maps(ids, None, [1, 0])
        assert len(ended) == 1
        (alone,) = model.attention_maps(ids, None, [0])
        assert len(ended) == 1
    assert torch.equal(alone, first)
    assert not torch.equal(second, first)


@pytest.mark.parametrize("architecture", ["nt_v2", "dnabert2", "bert", "gpt_neox", "modernbert"])
def test_maps_of_other_heads_are_not_held(model_folder: Callable[[str], Path], architecture: str) -> None:
    """One head of each of many layers takes no more memory than what is written."""
    model = load_language_model(open_model(OURS.get(architecture) or model_folder(architecture)))
    ids = torch.from_numpy(model.encode(["ACGTTGCANNACGGATTACAG"])[0].ids)[None]
    with torch.inference_mode():
        whole = model.attention_maps(ids, None, [1, 0])
        some = model.attention_maps(ids, None, [1, 0], {0: [2, 0], 1: [3]})
    for maps, all_of, heads in zip(some, whole, ([3], [2, 0]), strict=True):
        assert torch.equal(maps, all_of[:, heads])
        assert maps.untyped_storage().nbytes() == maps.nbytes


@pytest.mark.slow
def test_sequences_are_chosen_by_id_in_the_order_of_the_file(
    attended: Callable[..., dict[str, Any]], random_model: Path
) -> None:
    options = ("--sequences", WINDOWS, "--model", random_model, "--layers-heads", "1.1")
    found = attended(*options, "--ids", " human_600001\tecoli_103001  human_600001")
    assert found["ids"].tolist() == ["ecoli_103001", "human_600001"]
    with FastaReader(WINDOWS) as reader:
        bases = next(record.bases for record in reader if record.id == "human_600001")
    assert found["ends_1"].max() == len(bases)
    said = json.loads(str(found["provenance"]))
    assert (said["tool"], said["options"]["layers_heads"]) == ("dnalm_attention", ["1.1"])
    assert said["model"]["sha256"] == open_model(random_model).sha256()


@pytest.mark.slow
def test_a_repeated_id_takes_all_its_sequences(
    attended: Callable[..., dict[str, Any]], random_model: Path, tmp_path: Path
) -> None:
    records = fasta(tmp_path / "in.fa", ("a", "ACGT"), ("b", "ACG"), ("a", "ACGTACGT"))
    found = attended("--sequences", records, "--model", random_model, "--ids", "a")
    assert found["ids"].tolist() == ["a", "a"]
    assert [found[f"ends_{number}"].max() for number in (0, 1)] == [4, 8]


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        code, _, _ = run_tool(
            "attention",
            *("--sequences", WINDOWS, "--model", random_model, "--ids", "ecoli_103001"),
            *("--output", tmp_path / f"{name}.npz", "--figure", tmp_path / f"{name}.png"),
        )
        assert code == 0
    for suffix in ("npz", "png"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()


@pytest.mark.slow
def test_the_picture_has_the_first_maps_and_says_so(
    run_tool: Run, random_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[str] = []

    def watched(panels: Any, heads: int, note: str, *others: Any) -> None:
        drawn.extend(panel.title for panel in panels)
        drawn.append(note)
        whole(panels, heads, note, *others)

    whole = attention.draw_attention
    monkeypatch.setattr(attention, "draw_attention", watched)
    monkeypatch.setattr(attention, "MOST_PANELS", 3)
    records = fasta(tmp_path / "in.fa", ("a", "acgtRACGT" * 9), ("b", "TTGACA" * 7))
    code, said, _ = run_tool(
        "attention",
        *("--sequences", records, "--model", random_model, "--layers-heads", "1.2,2.1"),
        *("--output", tmp_path / "o", "--figure", tmp_path / "f"),
    )
    assert code == 0
    assert drawn[:3] == ["a\nlayer 1, head 2", "a\nlayer 2, head 1", "b\nlayer 1, head 2"]
    assert "the first 3 of 4 maps" in drawn[3]
    for line in ("Kept 4 maps of 2 sequences of 123 bases", "maps in the picture, the first of all: 3", "case: 36"):
        assert line in said
    with Image.open(tmp_path / "f") as image:
        assert image.format == "PNG"
        assert json.loads(image.info["Description"])["tool"] == "dnalm_attention"


def test_a_picture_is_no_must(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    options = ("--sequences", WINDOWS, "--ids", "ecoli_103001", "--model", random_model)
    assert run_tool("attention", *options, "--output", tmp_path / "o")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["o"]
