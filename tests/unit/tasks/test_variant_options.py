"""Options of the scoring of variants: what contradicts, and what the script offers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dnalm_score_variants
import pytest
from dnalm.errors import UserError
from dnalm.methods.scores import SCORES
from dnalm.tasks.variant_options import VariantOptions

FILE = Path("file")
NEITHER = VariantOptions(Path("model"), Path("out"))
OF_A_VCF = {"variants": FILE, "reference": FILE}
OF_PAIRS = {"reference_sequences": FILE, "alternative_sequences": FILE}
OF_REGIONS = {"saturation": FILE, "reference": FILE}
ONE_KIND = "Give either variants, or reference sequences together with alternative sequences, or regions"


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({}, ONE_KIND),
        ({"reference": FILE}, ONE_KIND),
        ({"reference_sequences": FILE}, ONE_KIND),
        ({"alternative_sequences": FILE}, ONE_KIND),
        (OF_A_VCF | {"saturation": FILE}, ONE_KIND),
        (OF_A_VCF | {"alternative_sequences": FILE}, ONE_KIND),
        ({"variants": FILE}, "need a reference genome, pairs of sequences none"),
        ({"saturation": FILE}, "need a reference genome, pairs of sequences none"),
        (OF_PAIRS | {"reference": FILE}, "need a reference genome, pairs of sequences none"),
        (OF_PAIRS | {"regions": FILE}, r"Regions to look at and an annotated VCF go with variants \(VCF\)"),
        (OF_REGIONS | {"output_vcf": FILE}, r"Regions to look at and an annotated VCF go with variants \(VCF\)"),
        (OF_A_VCF | {"track": FILE}, "A track goes with saturation"),
        (OF_A_VCF | {"preset": "custom"}, "The preset custom needs at least one score of llr_masked, "),
        (
            OF_A_VCF | {"scores": ["l2"]},
            "The preset snv-effect chooses scores, representation, layer and pooling itself",
        ),
        (OF_A_VCF | {"preset": "gtn-tutorial", "pooling": "mean"}, "The preset gtn-tutorial chooses scores"),
        (OF_A_VCF | {"layer": 0}, "The preset snv-effect chooses scores"),
        (OF_A_VCF | {"representation": "logits"}, "The preset snv-effect chooses scores"),
        (
            OF_A_VCF | {"preset": "custom", "scores": ["l2"], "representation": "logits", "layer": 2},
            "Logits have no layers to choose",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(choices: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        replace(NEITHER, **choices).check()


@pytest.mark.parametrize(
    "choices",
    [
        OF_A_VCF | {"regions": FILE, "output_vcf": FILE},
        OF_PAIRS | {"preset": "gtn-tutorial"},
        OF_REGIONS | {"track": FILE},
        OF_A_VCF | {"preset": "custom", "scores": ["l2"], "representation": "logits", "pooling": "mean"},
        OF_A_VCF | {"preset": "custom", "scores": ["pll", "l1"], "layer": 2},
    ],
)
def test_options_that_agree_are_taken(choices: dict[str, Any]) -> None:
    replace(NEITHER, **choices).check()


def test_the_script_offers_these_options_with_these_defaults() -> None:
    arguments = dnalm_score_variants.parser().parse_args(["--model", "model", "--output-table", "out"])
    assert VariantOptions(**vars(arguments)) == NEITHER


def test_the_script_offers_every_score() -> None:
    assert [*dnalm_score_variants.SCORES, *dnalm_score_variants.DISTANCES] == list(SCORES)
