"""Annotated features of a genome: GTF, GFF3 or BED, plain or gzip-compressed, recognised line by line."""

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from dnalm.errors import UserError, shown
from dnalm.formats.interval_lines import Circular, IntervalLine, parts, read_intervals
from dnalm.methods.segment_masks import Spans, merged
from dnalm.methods.variant_windows import known_name

FORMATS = "GTF, GFF3 or BED"
OWN = "DNA-LM"  # source of the segments called here, whose names are quoted
# What published segmenters call features, and what annotations call them (Sequence Ontology, GENCODE, Ensembl, RefSeq).
SYNONYMS = {
    "5UTR": ("five_prime_UTR", "five_prime_utr", "5UTR", "5'UTR"),
    "3UTR": ("three_prime_UTR", "three_prime_utr", "3UTR", "3'UTR"),
    "polyA_signal": ("polyA_signal", "polyA_signal_sequence"),
}
# Features that are genes of a kind, by what GENCODE, Ensembl and RefSeq call the kind.
GENES = {
    "protein_coding_gene": ("protein_coding",),
    "lncRNA": ("lncRNA", "lincRNA", "lnc_RNA"),
    "tRNA": ("tRNA", "Mt_tRNA"),
    "rRNA": ("rRNA", "Mt_rRNA"),
}
KIND = re.compile(r'\b(?:gene_type|gene_biotype|biotype)[= ]"?([^";]+)')
NAME = re.compile(r"(?:^|;)\s*Name=([^;]+)")


@dataclass(frozen=True, slots=True)
class Feature:
    """An annotated feature: bases [start, end), 0-based, of a contig; the names that it goes by; its line in the file."""

    contig: str
    start: int
    end: int
    names: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Annotation:
    """Where features lie.

    Attributes:
        spans: contig → feature → spans that neither overlap nor touch, in order.
        lines: how many lines a feature has.
        others: names that stand for none of the features, and how many lines have them.
        furthest: contig → the last base that any line names, whatever it is called.
    """

    spans: dict[str, dict[str, Spans]]
    lines: Counter[str]
    others: Counter[str]
    furthest: dict[str, int]

    def of(self, contig: str, feature: str) -> Spans:
        """Return the spans of a feature on a contig; shape (spans, 2)."""
        return self.spans.get(contig, {}).get(feature, np.zeros((0, 2), dtype=np.int64))

    def under_names(self, known: Container[str]) -> "Annotation":
        """Return the same with contigs under the names that sequences have, where they have another usual one (chr1, 1)."""
        names, taken = {contig: contig for contig in self.furthest}, set(self.furthest)
        for contig in self.furthest:
            name = known_name(contig, known)
            if name is not None and name not in taken:
                names[contig] = name
                taken.add(name)
        spans = {names[contig]: inside for contig, inside in self.spans.items()}
        return replace(self, spans=spans, furthest={names[contig]: end for contig, end in self.furthest.items()})


def read_annotation(path: Path, features: Sequence[str] | None = None) -> Annotation:
    """Return the features of a file; those that overlap or touch, on either strand, become one.

    Args:
        path: GTF, GFF3, or BED with names.
        features: which; None for all names that there are.

    Raises:
        UserError: a line is no feature, or there is none.
    """
    found: dict[str, dict[str, list[tuple[int, int]]]] = {}
    lines: Counter[str] = Counter()
    others: Counter[str] = Counter()
    furthest: dict[str, int] = {}
    circular = Circular()
    wanted = None if features is None else set(features)
    for feature in read_features(path, circular):
        furthest[feature.contig] = max(furthest.get(feature.contig, 0), feature.end)
        names = feature.names[:1] if wanted is None else [name for name in feature.names if name in wanted]
        if not names:
            others[feature.names[0]] += 1
        for name in names:
            lines[name] += 1
            found.setdefault(feature.contig, {}).setdefault(name, []).append((feature.start, feature.end))
    # The line that says that a contig is circular may stand behind its features.
    for contig, length in circular.lengths.items():
        for name, intervals in found.get(contig, {}).items():
            found[contig][name] = [
                part
                for start, end in intervals
                for part in parts(start, end, circular.passes_origin(contig, start, end))
            ]
        ends = (end for intervals in found.get(contig, {}).values() for _, end in intervals)
        furthest[contig] = max(length, *ends, 0)
    spans = {contig: {name: merged(spans) for name, spans in inside.items()} for contig, inside in found.items()}
    return Annotation(spans, lines, others, furthest)


def read_features(path: Path, circular: Circular | None = None) -> Iterator[Feature]:
    """Yield the features in the order of the file.

    A feature of GTF or GFF3 goes by its type (column 3), by its `Name` where DNA-LM wrote it, and as a gene by its kind; a
    feature of BED by its name (column 4). Names that published segmenters use are told from those of annotations.

    Args:
        path: the file.
        circular: learns which contigs are circular; a feature that passes an origin ends behind its contig.

    Raises:
        UserError: a line is no feature, one is empty, or there is none.
    """
    for line in read_intervals(path, FORMATS, "feature"):
        if circular is not None:
            circular.learn(line)
        yield _feature(line, path.name)


def _feature(line: IntervalLine, file: str) -> Feature:
    where = f"Line {line.number} of '{file}'"
    contig, columns = line.contig, line.columns
    if line.is_gff:
        contig = unquote(contig) if columns[1] == OWN else contig
        names = _gff_names(columns[1], columns[2], columns[8])
    elif len(columns) > 3:
        names = (columns[3].strip(),)
    else:
        raise UserError(f"{where} has no name. Name the feature in column 4 of BED, or give GTF or GFF3.")
    if not names[0]:
        raise UserError(f"{where} has no name. Name the feature as the model does.")
    return Feature(contig, line.start, line.end, names, line.number)


def _gff_names(source: str, kind: str, attributes: str) -> tuple[str, ...]:
    own = NAME.search(attributes)
    names = [unquote(own[1])] if own and source == OWN else []
    names.append(kind)
    names += [name for name, synonyms in SYNONYMS.items() if kind in synonyms]
    if kind.endswith("gene") and (said := KIND.search(attributes)):
        names += [name for name, kinds in GENES.items() if said[1] in kinds]
    return tuple(dict.fromkeys(names))


def lacking(features: Sequence[str], annotation: Annotation, file: str) -> UserError:
    """Return the sentence for features of which an annotation has none."""
    known = ", ".join(f"'{shown(name, 40)}'" for name, _ in annotation.others.most_common(5)) or "none"
    return UserError(
        f"The annotation '{file}' has no {', '.join(map(repr, features[:5]))} (it has {known}); name its features as in "
        "column 3 of GTF and GFF3, or column 4 of BED."
    )


def contigs_in_common(annotation: Annotation, contigs: Mapping[str, int], file: str) -> list[str]:
    """Return the contigs that an annotation and a genome share, in the genome's order.

    Raises:
        UserError: there is none, or a feature ends behind its contig.
    """
    shared = [contig for contig in contigs if contig in annotation.furthest]
    if not shared:
        theirs, ours = (", ".join(list(names)[:3]) for names in (annotation.furthest, contigs))
        raise UserError(
            f"The annotation '{file}' shares no contig with the sequences ({theirs} … against {ours} …); use the "
            "annotation of the same genome."
        )
    for contig in shared:
        if annotation.furthest[contig] > contigs[contig]:
            raise UserError(
                f"The annotation '{file}' has a feature that ends at {annotation.furthest[contig]:,} of '{contig}', which "
                f"ends at {contigs[contig]:,}; use the annotation of the same genome."
            )
    return shared
