"""SegmentBorzoi: names of published weights, sizes, doublings and position features of its trunk."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from dnalm.errors import UserError
from dnalm.models import borzoi
from dnalm.models.borzoi import UpBlock, gelu, module_name, position_features, read_sizes
from dnalm.models.model_file import StoredModel
from dnalm.models.registry import load_segmenter
from dnalm.models.segmenter import Window
from dnalm.models.sources import open_model

PUBLISHED = REPOSITORY / "tests" / "parity" / "data" / "segment_borzoi"
CPU = torch.device("cpu")
Changed = Callable[..., StoredModel]


def test_published_ones_have_the_windows_of_the_paper() -> None:
    segmenter = load_segmenter(open_model(PUBLISHED))
    window = segmenter.window
    assert segmenter.takes_n
    assert window == Window(524_288, 1_024, 524_288, 128, 32, 1_024)
    assert window.output(2_048) == (512, 1_536)


def test_its_output_is_of_the_middle_of_its_window() -> None:
    """A base far from the middle changes less than one in it, and the change is where the base is."""
    segmenter = load_segmenter(open_model(PUBLISHED))
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 2_048))
    place = 1_300
    changed = (
        bases[:place] + "".join("CATG"["ACGT".index(base)] for base in bases[place : place + 8]) + bases[place + 8 :]
    )
    with torch.inference_mode():
        before, after = segmenter.probabilities([bases, changed])
    difference = (after - before).abs().sum(dim=1)
    first, _ = segmenter.window.output(2_048)
    assert abs(int(difference.argmax()) + first - place) < 128


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("params/Borzoi/~_stem/conv1_d/w", "trunk.stem.weight"),
        ("params/Borzoi/~_conv_tower/layer_5/conv_block/conv1_d/b", "trunk.tower.5.convolution.bias"),
        (
            "state/Borzoi/~_conv_tower/layer_5/conv_block/batch_norm/~/mean_ema/average",
            "trunk.tower.5.norm.running_mean",
        ),
        ("params/Borzoi/~_unet_conv/u_net_conv_block_1/batch_norm/scale", "trunk.up.1.norm.weight"),
        ("params/Borzoi/~_unet_conv/u_net_conv_block_1/batch_norm_unet_repr/scale", "trunk.up.1.skip_norm.weight"),
        ("params/Borzoi/~_unet_conv/u_net_conv_block_1/linear/w", "trunk.up.1.linear.weight"),
        ("params/Borzoi/~_unet_conv/u_net_conv_block_1/linear_unet/w", "trunk.up.1.skip_linear.weight"),
        (
            "params/Borzoi/~_unet_conv/u_net_conv_block_1/separable_depthwise_conv1_d/~/depthwise_conv1_d/w",
            "trunk.up.1.depthwise.weight",
        ),
        (
            "params/Borzoi/~_unet_conv/u_net_conv_block_1/separable_depthwise_conv1_d/~/conv1_d/w",
            "trunk.up.1.pointwise.weight",
        ),
        ("params/Borzoi/~_final_conv_block/conv_block/conv1_d/w", "trunk.final.convolution.weight"),
        ("unet.final_block.conv_layers.0.weight", "unet.final_block.conv_layers.0.weight"),
    ],
)
def test_names_of_haiku_become_ours(path: str, name: str) -> None:
    assert module_name(path) == name


def test_sizes_are_those_of_the_config() -> None:
    assert read_sizes(open_model(PUBLISHED)) == borzoi.Sizes(
        stem=12,
        first=14,
        hidden=24,
        halvings=7,
        divisor=2,
        layers=2,
        heads=4,
        key=8,
        position_features=8,
        final=40,
        steps_out=32,
        head_width=24,
        bases=32,
        features=14,
    )


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"target_length": 30}, "no multiple of 4"),
        ({"target_length": 2**20}, "bases of windows of 524,288"),
        ({"num_rel_pos_features": 6}, "has the shape"),
        ({"nucl_per_token": 128}, "halved 5 times"),
        ({"final_conv_block_embed_dim": 0}, "final_conv_block_embed_dim = 0, where a size is needed"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed_segmenter: Changed, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_segmenter(changed_segmenter(case="segment_borzoi", **config))


def test_the_config_of_the_papers_trunk_follows_from_its_shapes() -> None:
    widths = [608, 736, 896, 1_056, 1_280, 1_536]
    shapes: dict[str, tuple[int, ...]] = {
        "trunk.stem.weight": (512, 4, 15),
        "trunk.final.convolution.weight": (1_920, 1_536, 1),
        "fc.weight": (32 * 14 * 2, 1_536),
        "trunk.transformer.0.attention.content_bias": (1, 8, 1, 64),
        "trunk.transformer.0.attention.relative_key.weight": (512, 32),
    }
    shapes |= {f"trunk.tower.{step}.convolution.weight": (width, 1, 5) for step, width in enumerate(widths)}
    shapes |= {f"trunk.transformer.{layer}.attention.norm.weight": (1_536,) for layer in range(8)}
    assert borzoi.config_of_shapes(shapes) == {
        "architecture": "segment_borzoi",
        "int_embed_dim": 512,
        "res_tower_embed_dim_init": 608,
        "embed_dim": 1_536,
        "num_downsamples": 7,
        "dim_divisible_by": 32,
        "num_transformer_layers": 8,
        "num_attention_heads": 8,
        "attention_dim_key": 64,
        "num_rel_pos_features": 32,
        "final_conv_block_embed_dim": 1_920,
        "target_length": 6_144,
        "unet_embed_dimension": 1_536,
        "nucl_per_token": 32,
    }


def test_a_doubling_repeats_positions_and_adds_the_skipped_states() -> None:
    block = UpBlock(inputs=1, skipped=1, width=1)
    with torch.no_grad():
        for linear, weight in ((block.linear, 1.0), (block.skip_linear, 10.0)):
            linear.weight.fill_(weight)
            linear.bias.zero_()
        block.depthwise.weight.copy_(torch.tensor([[[0.0, 1.0, 0.0]]]))
        block.pointwise.weight.fill_(1.0)
        # GELU leaves large numbers as they are; the fresh norms divide by √1.001.
        found = block(torch.tensor([[[100.0, 200.0]]]), torch.tensor([[[10.0, 20.0, 30.0, 40.0]]]))
    assert found.shape == (1, 1_536, 4)
    expected = torch.tensor([200.0, 300.0, 500.0, 600.0]) / math.sqrt(1.001)
    torch.testing.assert_close(found[0], expected.expand(1_536, 4), rtol=1e-5, atol=0)


def test_gelu_is_its_approximation_with_tanh() -> None:
    found = gelu(torch.tensor([0.0, 1.0, -2.0])).tolist()
    inner = [math.sqrt(2 / math.pi) * (x + 0.044715 * x**3) for x in (0.0, 1.0, -2.0)]
    assert found == pytest.approx([x * (1 + math.tanh(y)) / 2 for x, y in zip((0.0, 1.0, -2.0), inner, strict=True)])


def test_widths_of_position_features_grow_evenly_in_their_logarithms() -> None:
    """Up to 8 positions and three widths these are 9^(1/3) − 1, 9^(2/3) − 1 and 8: 1.08, 3.33 and 8."""
    found = position_features(8, 6, CPU)
    assert found.shape == (15, 6)
    middle = 7
    assert found[middle:, :3].int().tolist() == [
        [1, 1, 1],
        [1, 1, 1],
        [0, 1, 1],
        [0, 1, 1],
        [0, 0, 1],
        [0, 0, 1],
        [0, 0, 1],
        [0, 0, 1],
    ]
    assert torch.equal(found[:middle, :3].flip(0), found[middle + 1 :, :3])
    assert found[middle - 1, 3:].tolist() == [-1, -1, -1]
    assert found[middle, 3:].tolist() == [0, 0, 0]
