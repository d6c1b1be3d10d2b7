"""What a user of dnalm_embed chooses, and what its task asks of whatever embeds; without torch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnalm.engine.embedded import Embedded
from dnalm.engine.processes import Crew

if TYPE_CHECKING:
    from dnalm.engine.representations import Combination, LongSequences
    from dnalm.methods.pooling import Pooling

BASELINES = ("kmer", "onehot")
NamesAndBases = tuple[list[str], list[str]]
# One result per sequence, and the names of the dimensions where they have any.
Vectors = tuple[list[Embedded], list[str] | None]


@dataclass(frozen=True)
class EmbeddingOptions:
    """What a user chooses; the names are those of `dnalm_embed.py --help`."""

    output: Path
    sequences: Path | None = None
    genome: Path | None = None
    regions: Path | None = None
    model: Path | None = None
    representation: str = "hidden"
    k: int = 4
    layer: list[int] | None = None
    combine_layers: "Combination" = "average"
    pooling: "Pooling" = "mean"
    pooling_weights: str = "tokens"
    special_tokens: str = "drop"
    long_sequences: "LongSequences" = "windows"
    window_overlap: float = 0.25
    both_strands: bool = False
    dtype: str = "float32"
    seed: int = 0
    summary: Path | None = None
    output_format: str = "h5ad"
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None
    processes: int | None = None


@dataclass(frozen=True)
class RepresentationInfo:
    """What a process says of its representation when it has opened it."""

    description: str
    facts: dict[str, Any]
    cosine: float | None = None  # of a lower precision with float32


@dataclass(frozen=True)
class Embedder:
    """Where and how sequences are embedded.

    Attributes:
        description: the device in one line.
        device: 'cpu' or 'cuda'.
        processes: how many share the work.
        batch_tokens: padded tokens of a batch, in each of them.
        open: given names and bases of the first sequences, starts the processes, whose `told` is a `RepresentationInfo`.
    """

    description: str
    device: str
    processes: int
    batch_tokens: int
    open: Callable[[NamesAndBases], AbstractContextManager[Crew[NamesAndBases, Vectors]]]
