"""SegmentNT: its backbone as a model of its own, how many bases it reads, and files that do not fit together."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA
from dnalm.errors import UserError
from dnalm.models import segment_nt
from dnalm.models.language_model import HiddenStates, NoLanguageModelHead
from dnalm.models.model_file import StoredModel
from dnalm.models.registry import load_language_model, load_segmenter
from dnalm.models.segmenter import Window
from dnalm.models.sources import open_model
from dnalm.models.unet_head import SegmentationHead
from torch import Tensor, nn

PARITY = REPOSITORY / "tests" / "parity" / "data"
Changed = Callable[..., StoredModel]


def random_bases(count: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), count))


def test_published_ones_have_the_windows_of_the_paper() -> None:
    assert load_segmenter(open_model(PARITY / "segment_nt")).window == Window(30_000, 24, 49_992, 24, 24)


def test_only_a_model_with_its_head_is_recognised(random_model: Path) -> None:
    stored = open_model(PARITY / "segment_nt")
    assert segment_nt.recognises(stored)
    for part in ("unet.", "fc."):
        without = {name: info for name, info in stored.tensors.items() if not name.startswith(part)}
        assert not segment_nt.recognises(dataclasses.replace(stored, tensors=without))
    assert not segment_nt.recognises(open_model(random_model))
    assert not segment_nt.recognises(open_model(PARITY / "segment_enformer"))  # its head has Haiku's names


def test_a_written_segmenter_gives_the_same_bits(changed_segmenter: Changed) -> None:
    bases = [random_bases(96)]
    with torch.inference_mode():
        before = load_segmenter(open_model(PARITY / "segment_nt")).probabilities(bases)
        after = load_segmenter(changed_segmenter()).probabilities(bases)
    assert torch.equal(before, after)


def test_its_backbone_is_a_language_model_without_a_head() -> None:
    stored = open_model(TEST_DATA / "segmenter.safetensors")
    model = load_language_model(stored)
    assert model.stored is stored
    assert model.context_length == 401  # as many as its windows have
    with pytest.raises(NoLanguageModelHead, match="has no language-model head"):
        load_language_model(stored, head=True)


def test_its_backbone_has_all_tensors_but_the_heads() -> None:
    stored = open_model(PARITY / "segment_nt")
    backbone = segment_nt.backbone_of(stored)
    left_out = stored.tensors.keys() - backbone.tensors.keys()
    assert {name.split(".")[0] for name in left_out} == {"unet", "fc"}
    assert {name.split(".")[0] for name in backbone.tensors} == {"esm"}


def test_the_window_of_a_model_with_positions_ends_where_they_end() -> None:
    """The random model reads 1,024 tokens of three bases, one of them special."""
    stored = open_model(TEST_DATA / "random_model.safetensors")
    backbone = load_language_model(stored)
    long = dataclasses.replace(stored, config=stored.config | {"segment_window": 2_400})
    longer = dataclasses.replace(stored, config=stored.config | {"segment_window": 6_000})
    assert segment_nt.window_of(long, backbone) == Window(2_400, 12, 3_060, 12, 12)
    assert segment_nt.window_of(longer, backbone) == Window(3_060, 12, 3_060, 12, 12)


def test_a_backbone_of_next_to_no_positions_is_refused() -> None:
    stored = open_model(TEST_DATA / "random_model.safetensors")
    backbone = dataclasses.replace(load_language_model(stored), context_length=4)
    with pytest.raises(UserError, match="'dnalm-random' reads too few tokens for a segmenter"):
        segment_nt.window_of(stored, backbone)


class Counting(nn.Module):
    """A backbone whose hidden state of a token is its number in the sequence."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None) -> HiddenStates:
        numbers = torch.arange(input_ids.shape[1], dtype=torch.float32)
        return HiddenStates(numbers.expand(len(input_ids), -1)[..., None])


class Echo(SegmentationHead):
    """A head that gives back what it is given."""

    def forward(self, states: Tensor) -> Tensor:
        return states


@pytest.mark.parametrize(
    ("begins", "ends", "seen"), [(True, False, [1, 2, 3]), (True, True, [1, 2]), (False, False, [0, 1, 2, 3])]
)
def test_the_head_sees_no_special_token(begins: bool, ends: bool, seen: list[int]) -> None:
    network = segment_nt.SegmentNT(Counting(), Echo(1, 1, 1, 1), begins, ends)
    assert network(torch.zeros(1, 4, dtype=torch.int64)).flatten().tolist() == seen


def test_frequencies_of_a_file_replace_a_factor_that_the_config_lacks(changed_segmenter: Changed) -> None:
    expected = load_segmenter(changed_segmenter(rescaling_factor=2.4414))
    bases = [random_bases(96)]
    with torch.inference_mode():
        wanted = expected.probabilities(bases)
    base = 10_000 * 2.4414 ** (8 / 6)
    frequencies = base ** (-torch.arange(0, 8, 2) / 8)

    def slow(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            if name.endswith("inv_freq"):
                tensors[name] = frequencies.clone()

    with torch.inference_mode():
        found = load_segmenter(changed_segmenter(slow)).probabilities(bases)
        unscaled = load_segmenter(changed_segmenter()).probabilities(bases)
    assert (found - wanted).abs().max() < 1e-6
    assert (unscaled - wanted).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"features": []}, "lists no features"),
        ({"features": "exon"}, "lists no features"),
        ({"features": ["exon", "exon"]}, "lists no features"),
        ({"features": ["exon", 3]}, "lists no features"),
        ({"features": ["exon", "intron"]}, r"tensor 'fc.bias' has the shape \(168,\), the config asks for \(24,\)"),
        ({"rescaling_factor": "x"}, "rescaling_factor = x"),
        ({"rescaling_factor": 1e9}, "rescaling_factor"),
        ({"rescaling_factor": True}, "rescaling_factor"),
        ({"segment_window": 100}, "segment_window = 100, which its model cannot read"),
        ({"segment_window": -24}, "segment_window"),
    ],
)
def test_configs_that_do_not_fit_are_refused(changed_segmenter: Changed, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_segmenter(changed_segmenter(**config))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda tensors: tensors.pop("unet.final_block.conv_layers.1.bias"),
            "final_block.conv_layers.1.bias' is missing",
        ),
        (lambda tensors: tensors.update({"unet.more": torch.zeros(1)}), "'unet.more' is unknown"),
        (lambda tensors: tensors.update({"more": torch.zeros(1)}), "'more' is unknown"),
        (lambda tensors: tensors.pop("esm.encoder.emb_layer_norm_after.bias"), "emb_layer_norm_after.bias' is missing"),
    ],
)
def test_tensors_that_are_missing_or_unknown_are_named(
    changed_segmenter: Changed, change: Callable[[dict[str, Tensor]], object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        load_segmenter(changed_segmenter(change))


def test_a_backbone_of_byte_pairs_is_refused() -> None:
    stored = open_model(PARITY / "dnabert2")
    head = {
        name: info for name, info in open_model(PARITY / "segment_nt").tensors.items() if name[:4] in ("unet", "fc.w")
    }
    joined = dataclasses.replace(
        stored, tensors={**stored.tensors, **head}, config=stored.config | {"features": ["exon"]}
    )
    with pytest.raises(UserError, match="cover different numbers of bases"):
        load_segmenter(joined)
