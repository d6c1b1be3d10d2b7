"""What a user chooses of a comparison of scores."""

from dataclasses import dataclass
from pathlib import Path

from dnalm.errors import UserError


@dataclass(frozen=True)
class ComparisonOptions:
    """What a user chooses; the names are those of `dnalm_compare_scores.py --help`."""

    tables: list[Path]
    output: Path
    groups: Path | None = None
    comparisons: Path | None = None
    classification: Path | None = None
    curves: Path | None = None
    names: list[str] | None = None
    score: str | None = None
    group_column: str | None = None
    label_column: str | None = None
    positive_label: str | None = None
    positive_scores: str = "higher"
    cluster_column: str | None = None
    compare: str = "auto"
    reference_group: str | None = None
    match: str = "no"
    match_column: str | None = None
    false_discovery: str = "bh"
    confidence: float = 0.95
    bootstraps: int = 1_000
    seed: int = 0
    kind: str = "violin"
    order: str = "given"
    figure_format: str = "png"
    title: str | None = None

    def check(self) -> None:
        """Refuse choices that contradict each other.

        Raises:
            UserError: says which.
        """
        several = len(self.tables) > 1
        if several and self.group_column:
            raise UserError("Give several tables, each a group, or one table with a column of groups; not both.")
        if not several and not self.group_column and not self.label_column:
            raise UserError("One table alone is one group; give a column of groups or of labels, or several tables.")
        if self.names and len(self.names) != len(self.tables):
            raise UserError(f"There are {len(self.names)} names for {len(self.tables)} tables; give one a table.")
        if not self.label_column and (self.classification or self.curves or self.positive_label):
            raise UserError("AUROC and AUPRC need labels; give the column of labels.")
        if (self.match == "column") != (self.match_column is not None):
            raise UserError("A column that matches rows goes with '--match column' alone; change one of both.")
        if self.match != "no" and self.compare == "rest":
            raise UserError("Rows of a group cannot be matched with those of all others; compare pairs or a reference.")
        if self.reference_group and self.compare != "reference":
            raise UserError("A reference group goes with '--compare reference' alone; change one of both.")
