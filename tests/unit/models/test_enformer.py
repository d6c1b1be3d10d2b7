"""SegmentEnformer: names of published weights, sizes, poolings and position features of its trunk."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from dnalm.errors import UserError
from dnalm.models import enformer
from dnalm.models.enformer import AttentionPool, Sizes, Trunk, module_name, position_features, quick_gelu, read_sizes
from dnalm.models.model_file import StoredModel
from dnalm.models.registry import load_segmenter
from dnalm.models.sources import open_model
from torch import Tensor

PUBLISHED = REPOSITORY / "tests" / "parity" / "data" / "segment_enformer"
CPU = torch.device("cpu")
Changed = Callable[..., StoredModel]
HAIKU = "params/Enformer/~_conv_tower/layer_2"
# What the parity model's config says.
SIZES = Sizes(36, halvings=7, divisor=6, layers=2, heads=3, key=8, head_width=36, bases=128, features=14)


def test_published_ones_have_the_windows_of_the_paper() -> None:
    segmenter = load_segmenter(open_model(PUBLISHED))
    window = segmenter.window
    assert segmenter.takes_n
    assert (window.default, window.granularity, window.output(196_608)) == (196_608, 128, (0, 196_608))


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("params/Enformer/~_stem/conv1_d/w", "trunk.stem.convolution.weight"),
        ("params/Enformer/~_stem/attention_pool/~/conv2_d/w", "trunk.stem.pool.logits.weight"),
        ("params/Enformer/~_stem/residual_conv_block/conv_block/conv1_d/b", "trunk.stem.residual.convolution.bias"),
        (f"{HAIKU}/conv_block/batch_norm/scale", "trunk.tower.2.block.norm.weight"),
        (f"{HAIKU}/residual_conv_block/conv_block/conv1_d/w", "trunk.tower.2.residual.convolution.weight"),
        (f"{HAIKU}/attention_pool/~/conv2_d/w", "trunk.tower.2.pool.logits.weight"),
        (
            "state/Enformer/~_conv_tower/layer_2/conv_block/batch_norm/~/var_ema/average",
            "trunk.tower.2.block.norm.running_var",
        ),
        ("_trunk.1.0.weight", "trunk.stem.convolution.weight"),
        ("stem.0.weight", "trunk.stem.convolution.weight"),
        ("_trunk.1.1.fn.0.running_mean", "trunk.stem.residual.norm.running_mean"),
        ("_trunk.1.2.to_attn_logits.weight", "trunk.stem.pool.logits.weight"),
        ("_trunk.2.3.0.2.bias", "trunk.tower.3.block.convolution.bias"),
        ("conv_tower.3.1.fn.2.weight", "trunk.tower.3.residual.convolution.weight"),
        ("_trunk.4.10.0.fn.0.weight", "trunk.transformer.10.attention.norm.weight"),
        ("_trunk.4.10.0.fn.1.to_q.weight", "trunk.transformer.10.attention.query.weight"),
        ("_trunk.4.10.0.fn.1.to_rel_k.weight", "trunk.transformer.10.attention.relative_key.weight"),
        ("transformer.10.0.fn.1.rel_content_bias", "trunk.transformer.10.attention.content_bias"),
        ("_trunk.4.10.1.fn.1.weight", "trunk.transformer.10.feed_forward.expand.weight"),
        ("_trunk.4.10.1.fn.4.bias", "trunk.transformer.10.feed_forward.contract.bias"),
        ("unet.final_block.conv_layers.0.weight", "unet.final_block.conv_layers.0.weight"),
    ],
)
def test_names_of_haiku_and_of_enformer_pytorch_become_ours(published: str, name: str) -> None:
    assert module_name(published) == name


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("params/Enformer/~_heads/human_head/w", False),
        ("state/Enformer/~_final_pointwise/conv_block/batch_norm/~/mean_ema/average", False),
        ("state/Enformer/~_stem/residual_conv_block/conv_block/batch_norm/~/mean_ema/hidden", False),
        ("_trunk.1.1.fn.0.num_batches_tracked", False),
        ("_trunk.6.0.weight", False),
        ("_trunk.2.3.0.2.bias", True),
        ("params/Enformer/~_stem/conv1_d/w", True),
    ],
)
def test_heads_and_counters_of_enformer_are_not_needed(name: str, needed: bool) -> None:
    assert (enformer.unused_names(open_model(PUBLISHED)).search(name) is None) is needed


def test_second_names_are_not_needed_beside_the_first() -> None:
    stored = open_model(PUBLISHED)
    info = next(iter(stored.tensors.values()))
    twice = StoredModel("m", (), {"_trunk.1.0.weight": info, "stem.0.weight": info}, {}, {})
    once = StoredModel("m", (), {"stem.0.weight": info}, {}, {})
    assert enformer.unused_names(twice).search("stem.0.weight")
    assert not enformer.unused_names(twice).search("_trunk.1.0.weight")
    assert not enformer.unused_names(once).search("stem.0.weight")


def test_sizes_are_those_of_the_config() -> None:
    assert read_sizes(open_model(PUBLISHED)) == SIZES
    assert SIZES.transformer.position_features == 12  # hidden states over heads


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"features": ["exon"]}, "tensor 'params/u_net_head/~/fc/b' has the shape"),
        ({"num_transformer_layers": 3}, r"'trunk\.transformer\.2\..* is missing"),
        ({"num_transformer_layers": 1}, "layer_1/.* is unknown"),
        ({"num_transformer_layers": 10**9}, "num_transformer_layers = 1,000,000,000"),
        ({"num_downsamples": 99}, "num_downsamples"),
        ({"nucl_per_token": 64}, "halved 7 times"),
        ({"num_attention_heads": 4}, "no multiple of 6"),
        ({"embed_dim": "x"}, "embed_dim"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed_segmenter: Changed, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_segmenter(changed_segmenter(case="segment_enformer", **config))


def test_an_unknown_path_is_named(changed_segmenter: Changed) -> None:
    def strange(tensors: dict[str, Tensor]) -> None:
        tensors["params/Enformer/~_crop/w"] = torch.zeros(1)

    with pytest.raises(UserError, match="tensor 'params/Enformer/~_crop/w' is unknown"):
        load_segmenter(changed_segmenter(strange, case="segment_enformer"))


def test_the_config_of_the_papers_trunk_follows_from_its_shapes() -> None:
    widths = [768, 896, 1_024, 1_152, 1_280, 1_536]
    shapes: dict[str, tuple[int, ...]] = {
        "trunk.stem.convolution.weight": (768, 4, 15),
        "fc.weight": (128 * 14 * 2, 1_536),
        "trunk.transformer.0.attention.content_bias": (1, 8, 1, 64),
    }
    shapes |= {f"trunk.tower.{step}.block.convolution.weight": (width, 1, 5) for step, width in enumerate(widths)}
    shapes |= {f"trunk.transformer.{layer}.attention.norm.weight": (1_536,) for layer in range(11)}
    assert enformer.config_of_shapes(shapes) == {
        "architecture": "segment_enformer",
        "embed_dim": 1_536,
        "num_downsamples": 7,
        "dim_divisible_by": 128,
        "num_transformer_layers": 11,
        "num_attention_heads": 8,
        "attention_dim_key": 64,
        "unet_embed_dimension": 1_536,
        "nucl_per_token": 128,
    }
    del shapes["trunk.transformer.0.attention.content_bias"]
    with pytest.raises(KeyError, match="content_bias"):
        enformer.config_of_shapes(shapes)


def test_neighbours_are_pooled_by_the_softmax_of_their_logits() -> None:
    pool = AttentionPool(2)
    with torch.no_grad():
        # The logit of the first channel is the value of the second one, that of the second 0.
        pool.logits.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]])[..., None, None])
        found = pool(torch.tensor([[[1.0, 5.0, 2.0, 4.0], [0.0, 0.0, 50.0, 0.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[3.0, 2.0], [0.0, 25.0]]]))


def test_the_trunk_halves_its_positions_as_often_as_its_sizes_say() -> None:
    torch.manual_seed(0)
    trunk = Trunk(SIZES)
    assert len(trunk.tower) == 6
    with torch.inference_mode():
        assert trunk(torch.zeros(1, 4, 128 * 3)).shape == (1, 3, 36)


def test_quick_gelu_is_x_times_a_steep_sigmoid() -> None:
    found = quick_gelu(torch.tensor([0.0, 1 / 1.702, -1 / 1.702]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.7310586, -0.2689414]) / 1.702)


def test_a_third_of_the_position_features_is_of_each_kind_and_half_have_signs() -> None:
    found = position_features(16, 12, CPU)
    assert found.shape == (31, 12)
    middle = 15
    assert found[middle + 1, :6].tolist() == pytest.approx(found[middle - 1, :6].tolist())
    assert found[middle + 1, 6:].tolist() == pytest.approx((-found[middle - 1, 6:]).tolist())
    assert found[middle + 8, 0].item() == pytest.approx(0.5)  # exponential, half-life 8
    assert found[middle + 8, 1].item() == pytest.approx(0.5**0.5)  # half-life 16
    assert found[middle + 1, 2:4].tolist() == [0, 1]  # below 1, below 3
    assert found[:, 4:6].amax(dim=1).tolist() == pytest.approx([1.0] * 31)  # densities over their largest
