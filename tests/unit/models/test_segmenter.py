"""Loaded segmenters: what they read, what they give, and models that are none."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA
from dnalm.errors import UserError
from dnalm.models import nucleotide_transformer_v2
from dnalm.models.convolution_blocks import stepwise_widths
from dnalm.models.language_model import NoLanguageModelHead
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.registry import load_language_model, load_segmenter, with_config_of_tensors
from dnalm.models.segmenter import Segmenter, Window
from dnalm.models.sources import open_model

PARITY = REPOSITORY / "tests" / "parity" / "data"
Changed = Callable[..., StoredModel]


@pytest.fixture
def segmenter() -> Segmenter:
    return load_segmenter(open_model(TEST_DATA / "segmenter.safetensors"))


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """Return a function that gives a segmenter whose config, or tensors, are other ones."""

    def change(
        tensors: Callable[[dict[str, torch.Tensor]], object] = lambda tensors: None,
        case: str = "segment_nt",
        **config: Any,
    ) -> StoredModel:
        stored = open_model(PARITY / case)
        weights = stored.read_tensors()
        tensors(weights)
        write_model_file(tmp_path / "m.safetensors", weights, stored.config | config, stored.tokenizer, name="m")
        return open_model(tmp_path / "m.safetensors")

    return change


def random_bases(count: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), count))


def test_a_segmenter_says_what_it_reads(segmenter: Segmenter) -> None:
    assert segmenter.features == ("CDS", "rRNA", "tRNA")
    assert segmenter.window == Window(default=1_200, least=12, most=1_992, multiple=12, granularity=12)
    assert segmenter.window.output(1_200) == (0, 1_200)
    assert not segmenter.takes_n


def test_published_ones_read_what_the_paper_says() -> None:
    assert load_segmenter(open_model(PARITY / "segment_nt")).window == Window(30_000, 24, 49_992, 24, 24)


def test_probabilities_do_not_depend_on_the_batch(segmenter: Segmenter) -> None:
    sequences = [random_bases(240, seed) for seed in range(3)]
    with torch.inference_mode():
        together = segmenter.probabilities(sequences)
        alone = torch.cat([segmenter.probabilities([bases]) for bases in sequences])
    assert together.shape == (3, 240, 3)
    assert ((together > 0) & (together < 1)).all()
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_bfloat16_stays_near_float32() -> None:
    sequences = [random_bases(480)]
    segmenter = load_segmenter(open_model(PARITY / "segment_nt"))
    with torch.inference_mode():
        exact = segmenter.probabilities(sequences)
        segmenter.to(torch.device("cpu"), torch.bfloat16)
        near = segmenter.probabilities(sequences)
    assert near.dtype == torch.float32
    assert (near - exact).abs().max() < 0.03


def test_a_written_segmenter_gives_the_same_bits(changed: Changed) -> None:
    bases = [random_bases(96)]
    with torch.inference_mode():
        before = load_segmenter(open_model(PARITY / "segment_nt")).probabilities(bases)
        after = load_segmenter(changed()).probabilities(bases)
    assert torch.equal(before, after)


def test_its_backbone_is_a_language_model_without_a_head() -> None:
    stored = open_model(TEST_DATA / "segmenter.safetensors")
    model = load_language_model(stored)
    assert model.stored is stored
    assert model.context_length == 401  # as many as its windows have
    with pytest.raises(NoLanguageModelHead):
        load_language_model(stored, head=True)


@pytest.mark.parametrize(
    ("tokens", "rescaling", "scale"),
    [
        (2_000, 1.0, 1.0),
        (5_001, 2.4419, 2.4419),
        (5_001, 1.0, 1.0),
        (5_002, 2.4419, 5_002 / 2_048),
        (6_669, 1.0, 3.25635),
    ],
)
def test_rotations_are_slowed_by_the_factor_or_the_length(tokens: int, rescaling: float, scale: float) -> None:
    sizes = nucleotide_transformer_v2.Sizes(4107, 1024, 29, 16, 4096, 1e-12, rescaling, 5_001)
    found = nucleotide_transformer_v2.rotary_base(tokens, sizes)
    assert found == pytest.approx(10_000 * math.exp(math.log(scale) * 64 / 62), rel=1e-5)


def test_fifty_thousand_bases_have_the_base_that_the_reference_computes() -> None:
    sizes = nucleotide_transformer_v2.Sizes(4107, 1024, 29, 16, 4096, 1e-12, 2.4419, 5_001)
    assert nucleotide_transformer_v2.rotary_base(8_333, sizes) == pytest.approx(42_573, abs=1)


def test_a_plain_language_model_is_never_slowed() -> None:
    sizes = nucleotide_transformer_v2.Sizes(4107, 1024, 29, 16, 4096, 1e-12)
    assert nucleotide_transformer_v2.rotary_base(8_333, sizes) == 10_000


def test_frequencies_of_a_file_stand_in_for_a_factor_that_the_config_lacks(changed: Changed) -> None:
    expected = load_segmenter(changed(rescaling_factor=2.4414))
    bases = [random_bases(96)]
    with torch.inference_mode():
        wanted = expected.probabilities(bases)
    base = 10_000 * 2.4414 ** (8 / 6)
    frequencies = base ** (-torch.arange(0, 8, 2) / 8)

    def slow(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            if name.endswith("inv_freq"):
                tensors[name] = frequencies.clone()

    with torch.inference_mode():
        found = load_segmenter(changed(slow)).probabilities(bases)
        unscaled = load_segmenter(changed()).probabilities(bases)
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
def test_configs_that_do_not_fit_are_refused(changed: Changed, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_segmenter(changed(**config))


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
    changed: Changed, change: Callable[[dict[str, torch.Tensor]], object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        load_segmenter(changed(change))


def test_a_model_without_a_head_is_no_segmenter(random_model: Path) -> None:
    with pytest.raises(UserError, match="'dnalm-random' is no segmenter"):
        load_segmenter(open_model(random_model))


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


@pytest.mark.parametrize("case", ["segment_enformer", "segment_borzoi"])
def test_segmenters_of_bases_read_n_and_do_not_depend_on_the_batch(case: str) -> None:
    segmenter = load_segmenter(open_model(PARITY / case))
    bases = 3 * 1_024
    sequences = [random_bases(bases), "N" * 1_000 + random_bases(bases - 1_000, 1)]
    with torch.inference_mode():
        together = segmenter.probabilities(sequences)
        alone = torch.cat([segmenter.probabilities([sequence]) for sequence in sequences])
    assert segmenter.takes_n
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    first, end = segmenter.window.output(bases)
    assert together.shape == (2, end - first, 14)


def test_published_segmenters_of_bases_read_what_the_paper_says() -> None:
    enformer = load_segmenter(open_model(PARITY / "segment_enformer")).window
    assert (enformer.default, enformer.granularity, enformer.output(196_608)) == (196_608, 128, (0, 196_608))
    published = Window(524_288, 196_608, 524_288, 128, 32, 196_608)
    assert published.output(524_288) == (163_840, 360_448)
    borzoi = load_segmenter(open_model(PARITY / "segment_borzoi")).window
    assert borzoi == Window(524_288, 1_024, 524_288, 128, 32, 1_024)
    assert borzoi.output(2_048) == (512, 1_536)


def test_borzois_output_is_of_the_middle_of_its_window() -> None:
    """A base far from the middle changes less than one in it, and the change is where the base is."""
    segmenter = load_segmenter(open_model(PARITY / "segment_borzoi"))
    bases = random_bases(2_048)
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
    ("case", "config", "sentence"),
    [
        ("segment_enformer", {"features": ["exon"]}, "tensor 'params/u_net_head/~/fc/b' has the shape"),
        ("segment_enformer", {"num_transformer_layers": 3}, r"'trunk\.transformer\.2\..* is missing"),
        ("segment_enformer", {"num_transformer_layers": 1}, "layer_1/.* is unknown"),
        ("segment_enformer", {"num_transformer_layers": 10**9}, "num_transformer_layers = 1,000,000,000"),
        ("segment_enformer", {"num_downsamples": 99}, "num_downsamples"),
        ("segment_enformer", {"nucl_per_token": 64}, "halved 7 times"),
        ("segment_enformer", {"num_attention_heads": 4}, "no multiple of 6"),
        ("segment_enformer", {"embed_dim": "x"}, "embed_dim"),
        ("segment_borzoi", {"target_length": 30}, "no multiple of 4"),
        ("segment_borzoi", {"target_length": 2**20}, "bases of windows of 524,288"),
        ("segment_borzoi", {"num_rel_pos_features": 6}, "has the shape"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed: Changed, case: str, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_segmenter(changed(case=case, **config))


def test_a_path_that_no_rule_knows_is_named(changed: Changed) -> None:
    def strange(tensors: dict[str, torch.Tensor]) -> None:
        tensors["params/Enformer/~_crop/w"] = torch.zeros(1)

    with pytest.raises(UserError, match="tensor 'params/Enformer/~_crop/w' is unknown"):
        load_segmenter(changed(strange, case="segment_enformer"))


@pytest.mark.parametrize("case", ["segment_enformer", "segment_borzoi"])
def test_a_segmenter_of_bases_is_no_language_model(case: str) -> None:
    with pytest.raises(UserError, match="stands on no language model"):
        load_language_model(open_model(PARITY / case))


@pytest.mark.parametrize("case", ["segment_enformer", "segment_borzoi"])
def test_sizes_follow_from_tensors_where_no_config_tells_them(case: str) -> None:
    stored = open_model(PARITY / case)
    found = with_config_of_tensors(dataclasses.replace(stored, config={"architectures": ["Unknown"]})).config
    published = {"target_length": 6_144} if case == "segment_borzoi" else {}
    wanted = {key: value for key, value in stored.config.items() if key in found}
    assert found == wanted | published | {"dim_divisible_by": found["dim_divisible_by"]}
    assert found["features"] == stored.config["features"]  # the paper's, since there are as many


def test_features_without_names_are_refused() -> None:
    stored = open_model(PARITY / "segment_enformer")
    shape = stored.tensors["params/u_net_head/~/fc/w"]
    fewer = dataclasses.replace(shape, shape=(36, 2 * 128 * 3))
    tensors = {**stored.tensors, "params/u_net_head/~/fc/w": fewer}
    with pytest.raises(UserError, match="predicts 3 features and names none"):
        with_config_of_tensors(dataclasses.replace(stored, config={}, tensors=tensors))
    named = with_config_of_tensors(dataclasses.replace(stored, config={"features": ["a", "b", "c"]}, tensors=tensors))
    assert named.config["features"] == ["a", "b", "c"]


def test_the_papers_trunks_have_the_papers_sizes() -> None:
    assert stepwise_widths(768, 1_536, 6, 128) == [768, 896, 1_024, 1_152, 1_280, 1_536]
    assert stepwise_widths(608, 1_536, 6, 32) == [608, 736, 896, 1_056, 1_280, 1_536]
