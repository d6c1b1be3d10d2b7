"""What is written of scored variants: rows of the table, and what a VCF gains."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from dnalm.engine.scoring import ScoreChoices, Scored
from dnalm.errors import shown
from dnalm.formats.vcf import InfoField, VcfReader, VcfWriter, can_be_indexed, decompress
from dnalm.methods.scores import SCORES
from dnalm.tasks.variant_inputs import Entry, Variant

APART = "strand_difference"


def rows(variants: Sequence[Variant], scored: Sequence[Scored], choices: ScoreChoices) -> dict[str, list[Any]]:
    """Return the columns of the table, one value an alternative allele; empty where there is no score."""
    columns: dict[str, list[Any]] = {
        "chrom": [variant.contig for variant in variants],
        "pos": [variant.position + 1 for variant in variants],
        "id": [variant.id for variant in variants],
        "ref": [variant.reference for variant in variants],
        "alt": [variant.alternative for variant in variants],
    }
    for score in choices.scores:
        columns[score] = [_number(one.values[score]) for one in scored]
    if choices.both_strands:
        for score in choices.scores:
            columns[f"{score}_{APART}"] = [_number(one.strands[score]) for one in scored]
    columns["n_in_window"] = [variant.site.windows.ambiguous if variant.site else "" for variant in variants]
    columns["status"] = [str(one.status) for one in scored]
    return columns


class VariantVcf:
    """A VCF with fields for one value an alternative allele; use it in a `with`.

    Their names begin with DNALM_, or with DNALM2_ and so on where the VCF has such already.
    """

    def __init__(
        self, path: Path, reader: VcfReader, choices: ScoreChoices, taken: str, facts: Mapping[str, Any]
    ) -> None:
        self._path, self._choices = path, choices
        number = 1
        while any(name.startswith(_prefix(number)) for name in reader.info_fields):
            number += 1
        self._prefix = _prefix(number)
        self._writer = VcfWriter(
            path,
            reader.header,
            list(self._fields(taken, shown(facts["model"]["name"]))),
            {f"dnalm_score_variants{number if number > 1 else ''}": json.dumps(facts, sort_keys=True)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()

    def _fields(self, taken: str, model: str) -> Iterator[InfoField]:
        """Yield the fields with their lines of the header."""
        for score in self._choices.scores:
            told = SCORES[score].meaning.replace("pooled", f"the {taken} of")
            yield InfoField(self._name(score), "A", "Float", f"{told} ({model})")
        for score in self._choices.scores if self._choices.both_strands else ():
            told = f"absolute difference of {score} between both strands ({model})"
            yield InfoField(self._name(f"{score}_{APART}"), "A", "Float", told)
        yield InfoField(self._name("status"), ".", "String", "OK, or why an allele lacks a score")

    def append(self, buffer: Sequence[Entry], scored: Sequence[Scored]) -> None:
        """Write the records of a buffer."""
        results = iter(scored)
        for entry in buffer:
            found = [next(results) for _ in entry.variants]
            values: dict[str, list[str]] = {}
            if any(one.has_a_score for one in found):
                for score in self._choices.scores:
                    values[self._name(score)] = [_number(one.values[score]) or "." for one in found]
                if self._choices.both_strands:
                    for score in self._choices.scores:
                        name = self._name(f"{score}_{APART}")
                        values[name] = [_number(one.strands[score]) or "." for one in found]
            values[self._name("status")] = [str(one.status) for one in found]
            assert entry.record
            self._writer.append(entry.record, values)

    def finish(self, compressed: bool) -> bool:
        """End the file, as plain text if tabix cannot index it, unless it is to be compressed; return if it is plain.

        Galaxy indexes every compressed VCF, and a job fails where that does.
        """
        self._writer.close()
        if compressed or can_be_indexed(self._path):
            return False
        decompress(self._path)
        return True

    def _name(self, score: str) -> str:
        return f"{self._prefix}{score.upper()}"


def _prefix(number: int) -> str:
    return f"DNALM{number if number > 1 else ''}_"


def _number(value: float) -> str:
    """Return six digits of a number, nothing for none."""
    return "" if math.isnan(value) else f"{value:.6g}"
