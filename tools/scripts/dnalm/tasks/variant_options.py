"""What a user chooses of the scoring of variants."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnalm.errors import UserError
from dnalm.methods.pooling import Pooling
from dnalm.methods.scores import SCORES

COMPRESSED = (".gz", ".bgz")  # what the names of compressed files end in


@dataclass(frozen=True)
class VariantOptions:
    """What a user chooses; the names are those of `dnalm_score_variants.py --help`."""

    model: Path
    output_table: Path
    variants: Path | None = None
    reference: Path | None = None
    regions: Path | None = None
    reference_sequences: Path | None = None
    alternative_sequences: Path | None = None
    saturation: Path | None = None
    preset: str = "snv-effect"
    scores: list[str] | None = None
    representation: Literal["hidden", "logits"] = "hidden"
    layer: int = -1
    pooling: Pooling = "max"
    context: int | None = None
    both_strands: bool = False
    on_ref_mismatch: str = "skip"
    dtype: str = "float32"
    output_vcf: Path | None = None
    figure: Path | None = None
    track: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None
    processes: int | None = None

    def check(self) -> None:
        """Refuse choices that contradict each other.

        Raises:
            UserError: says which.
        """
        pairs = self.reference_sequences, self.alternative_sequences
        kinds = [self.variants, self.saturation, pairs[0] or pairs[1]]
        if sum(kind is not None for kind in kinds) != 1 or (kinds[2] and None in pairs):
            raise UserError(
                "Give either variants, or reference sequences together with alternative sequences, or regions for "
                "saturation."
            )
        if (self.reference is None) != (kinds[2] is not None):
            raise UserError(
                "Variants and saturation need a reference genome, pairs of sequences none; change one of both."
            )
        if self.variants is None and (self.regions or self.output_vcf):
            raise UserError("Regions to look at and an annotated VCF go with variants (VCF); leave them out.")
        if self.track and not self.saturation:
            raise UserError("A track goes with saturation; leave it out.")
        if self.preset == "custom":
            if not self.scores:
                raise UserError(f"The preset custom needs at least one score of {', '.join(SCORES)}.")
        elif self.scores or (self.representation, self.layer, self.pooling) != ("hidden", -1, "max"):
            raise UserError(
                f"The preset {self.preset} chooses scores, representation, layer and pooling itself; choose custom for "
                "yours."
            )
        if self.representation == "logits" and self.layer != -1:
            raise UserError("Logits have no layers to choose; use hidden for a layer.")
