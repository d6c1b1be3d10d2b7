"""Called segments as BED or GFF3, in the order of contigs and positions."""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Literal, Self
from urllib.parse import quote

import numpy as np

from dnalm.methods.segments import END, MOST, NONE, START, Segments, means

SegmentFormat = Literal["bed", "gff3"]
HELD_IN_MEMORY = 1 << 16  # bytes a feature; what waits beyond, waits on disk
READ_AT_ONCE = 1_024  # segments
# Terms of the Sequence Ontology for the features of published segmenters; others are sequence features.
TERMS = {
    "protein_coding_gene": "gene",
    "lncRNA": "lnc_RNA",
    "splice_donor": "five_prime_cis_splice_site",
    "splice_acceptor": "three_prime_cis_splice_site",
    "5UTR": "five_prime_UTR",
    "3UTR": "three_prime_UTR",
    "CTCF-bound": "CTCF_binding_site",
    "polyA_signal": "polyA_signal_sequence",
    "enhancer_Tissue_specific": "enhancer",
    "enhancer_Tissue_invariant": "enhancer",
    "promoter_Tissue_specific": "promoter",
    "promoter_Tissue_invariant": "promoter",
}
TERMS |= {term: term for term in ("exon", "intron", "CDS", "gene", "mRNA", "tRNA", "rRNA", "ncRNA")}
PLAIN = ".:^*$@!+_?-|"  # what GFF3 allows in a contig's name


class SegmentWriter:
    """Append segments feature by feature; those of a contig's stretch are sorted when it ends. Use it in a `with`.

    Args:
        path: the file.
        features: names.
        colors: one a feature, as '#RRGGBB'.
        kind: BED with nine columns (score: mean probability × 1,000), or GFF3.
    """

    def __init__(self, path: Path, features: Sequence[str], colors: Sequence[str], kind: SegmentFormat) -> None:
        self._features, self._kind = features, kind
        self._colors = [",".join(str(int(color[at : at + 2], 16)) for at in (1, 3, 5)) for color in colors]
        self._stack = ExitStack()
        self._file = self._stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
        self._waiting = [
            self._stack.enter_context(SpooledTemporaryFile(HELD_IN_MEMORY))  # noqa: SIM115
            for _ in features
        ]
        self._count = 0
        if kind == "gff3":
            self._file.write("##gff-version 3\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def append(self, feature: int, segments: Segments) -> None:
        """Add segments of a feature that are behind those before."""
        self._waiting[feature].write(segments.tobytes())

    def end(self, contig: str) -> None:
        """Write what was added, as segments of a contig."""
        for row in heapq.merge(*(_sorted(file, feature) for feature, file in enumerate(self._waiting) if file.tell())):
            self._count += 1
            self._file.write(self._line(contig, *row))
        for file in self._waiting:
            file.seek(0)
            file.truncate()

    def _line(self, contig: str, start: int, end: int, feature: int, mean: float, most: float) -> str:
        name = self._features[feature]
        if self._kind == "bed":
            color = self._colors[feature]
            shown = "_".join(name.split())
            return f"{contig}\t{start}\t{end}\t{shown}\t{round(mean * 1000)}\t.\t{start}\t{end}\t{color}\n"
        term = TERMS.get(name, "sequence_feature")
        said = f"ID=segment_{self._count};Name={quote(name, safe=' ')};highest={most:.4f}"
        return f"{quote(contig, safe=PLAIN)}\tDNA-LM\t{term}\t{start + 1}\t{end}\t{mean:.4f}\t.\t.\t{said}\n"


def _sorted(file: IO[bytes], feature: int) -> Iterator[tuple[int, int, int, float, float]]:
    """Yield start, end, feature, mean and highest probability of what a file holds."""
    file.seek(0)
    size = NONE.shape[1] * NONE.itemsize
    while content := file.read(READ_AT_ONCE * size):
        segments = np.frombuffer(content).reshape(-1, NONE.shape[1])
        places = segments[:, [START, END]].astype(int).tolist()
        for (start, end), mean, most in zip(places, means(segments).tolist(), segments[:, MOST].tolist(), strict=True):
            yield start, end, feature, mean, most
