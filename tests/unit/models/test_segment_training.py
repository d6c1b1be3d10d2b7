"""New segmenters on language models: windows, initial probabilities, what is trained, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA
from dnalm.errors import UserError
from dnalm.models.registry import load_language_model, load_segmenter
from dnalm.models.segment_training import (
    check_window,
    load_trained_segmenter,
    new_segmenter,
    trainable_segmenter,
    window_limits,
    write_segmenter,
)
from dnalm.models.sources import open_model

PARITY = REPOSITORY / "tests" / "parity" / "data"
FREQUENCIES = [0.3, 0.01]
GENOME = "".join(np.random.default_rng(0).choice(list("ACGT"), 5_000))
BACKBONES = {
    "masked 3-mers": (TEST_DATA / "random_model.safetensors", 1_200),
    "causal letters": (TEST_DATA / "demo_model.safetensors", 400),
    "6-mers, rotary": (PARITY / "nt_v2", 480),
    "6-mers, absolute": (PARITY / "nt_v1", 240),
    "a segmenter's own": (PARITY / "segment_nt", 480),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_new_segmenter_has_any_model_of_kmers_as_backbone(name: str, tmp_path: Path) -> None:
    path, window = BACKBONES[name]
    torch.manual_seed(0)
    segmenter, model = new_segmenter(open_model(path), ["one", "other"], window, FREQUENCIES)
    bases = [GENOME[:window]]
    with torch.inference_mode():
        before = segmenter.probabilities(bases)
    assert before.shape == (1, window, 2)
    # It starts out from the frequencies.
    torch.testing.assert_close(before.mean(dim=(0, 1)), torch.tensor(FREQUENCIES), rtol=0.3, atol=0)
    (tmp_path / "folder").mkdir()
    write_segmenter(tmp_path / "m", segmenter, model, tmp_path / "folder", name="new", provenance={"a": 1})
    stored = open_model(tmp_path / "m")
    again = load_segmenter(stored)
    with torch.inference_mode():
        torch.testing.assert_close(again.probabilities(bases), before, rtol=0, atol=1e-6)
    assert again.window.default == window
    assert stored.labels == ["one", "other"]
    assert not any("lm_head" in tensor for tensor in stored.tensors)


def test_one_seed_makes_one_head() -> None:
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        segmenter, _ = new_segmenter(open_model(TEST_DATA / "random_model.safetensors"), ["a"], 120, [0.5])
        heads.append(torch.cat([value.flatten() for value in segmenter.network.state_dict().values()]))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_rotations_are_slowed_for_windows_longer_than_those_of_pretraining() -> None:
    stored = open_model(PARITY / "nt_v2")
    pretrained = stored.config["max_position_embeddings"] - 2
    short, _ = new_segmenter(stored, ["a"], 24 * 63, [0.5])
    assert short.stored.config["rescaling_factor"] is None
    longer, _ = new_segmenter(stored, ["a"], 24 * 64, [0.5])  # 256 tokens and a special one
    assert longer.stored.config["rescaling_factor"] == pytest.approx(257 / 256)
    window = 24 * (pretrained // 2)
    long, _ = new_segmenter(stored, ["a"], window, [0.5])
    assert long.stored.config["rescaling_factor"] == pytest.approx((window // 6 + 1) / pretrained)
    with torch.inference_mode():
        assert not torch.allclose(short.probabilities([GENOME[:240]]), long.probabilities([GENOME[:240]]))


def test_a_frozen_backbone_has_no_gradients() -> None:
    for frozen in (True, False):
        segmenter, _ = new_segmenter(open_model(TEST_DATA / "random_model.safetensors"), ["a"], 120, [0.5])
        network = trainable_segmenter(segmenter, frozen=frozen)
        of_backbone = {parameter.requires_grad for name, parameter in network.named_parameters() if "backbone" in name}
        of_head = {parameter.requires_grad for name, parameter in network.named_parameters() if "backbone" not in name}
        assert (of_backbone, of_head) == ({not frozen}, {True})


def test_models_that_cannot_be_segmenters_are_refused() -> None:
    with pytest.raises(UserError, match="cover different numbers of bases"):
        new_segmenter(open_model(PARITY / "dnabert2"), ["a"], 120, [0.5])
    with pytest.raises(UserError, match="stands on no language model"):
        new_segmenter(open_model(PARITY / "segment_enformer"), ["a"], 512, [0.5])
    random = open_model(TEST_DATA / "random_model.safetensors")
    for window in (100, 3_072):
        with pytest.raises(UserError, match=r"use a multiple of 12, at most 3,060"):
            new_segmenter(random, ["a"], window, [0.5])


def test_limits_of_windows_follow_from_tokens() -> None:
    limits = {
        name: window_limits(load_language_model(open_model(path))) for name, (path, _) in list(BACKBONES.items())[:4]
    }
    assert limits["masked 3-mers"] == (12, 3_060)
    assert limits["causal letters"] == (4, 1_020)
    assert limits["6-mers, rotary"] == (24, None)


def test_windows_of_rotary_positions_have_no_end_but_whole_steps() -> None:
    model = load_language_model(open_model(PARITY / "nt_v2"))
    check_window(model, 24 * 10_000)
    with pytest.raises(UserError, match="'nt_v2' cannot read windows of 100 bases; use a multiple of 24\\."):
        check_window(model, 100)


def test_a_checkpoint_is_the_segmenter_that_was_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    segmenter, model = new_segmenter(open_model(TEST_DATA / "random_model.safetensors"), ["a", "b"], 120, FREQUENCIES)
    (tmp_path / "folder").mkdir()
    state = {"step": torch.tensor([3])}
    provenance, training = {"from": "a test"}, {"epoch": 1}
    write_segmenter(
        *(tmp_path / "m", segmenter, model, tmp_path / "folder"),
        name="checkpoint",
        provenance=provenance,
        training=training,
        training_tensors=state,
    )
    stored = open_model(tmp_path / "m")
    assert (stored.name, stored.provenance, stored.training) == ("checkpoint", provenance, training)
    assert stored.read_training_tensors() == state
    again, backbone = load_trained_segmenter(stored)
    assert again.network.backbone is backbone.backbone
    wanted, found = segmenter.network.state_dict(), again.network.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


def test_a_language_model_is_no_checkpoint_of_a_segmenter() -> None:
    stored = open_model(TEST_DATA / "random_model.safetensors")
    for config in (stored.config, stored.config | {"features": ["a"]}):
        with pytest.raises(UserError, match="'dnalm-random' has no segmentation head; choose a SegmentNT"):
            load_trained_segmenter(replace(stored, config=config))
