"""How long a sequence takes with a served model and with a local one, and how alike their vectors are."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.asking import Asker
from dnalm.formats.tables import TableWriter

if TYPE_CHECKING:
    from dnalm.methods.pooling import Pooling

COMPARED = 64  # sequences that a local model embeds too


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine, if there is one to compare with, and what it may use."""

    path: Path | None
    device: str
    threads: int | None
    batch_tokens: int | None


def compare_times(
    table: Path, asker: Asker, pooling: "Pooling", local: LocalModel, sample: dict[str, NDArray[np.float32]]
) -> None:
    """Write a line for the served model and, if there is one, a line for the local one.

    Args:
        table: the file.
        asker: what asked the served model.
        pooling: from tokens to one vector.
        local: the model to compare with.
        sample: sequences with their vectors of the served model.
    """
    rows = [("remote", asker.answered, asker.requests, asker.seconds)]
    if local.path is not None:
        seconds, vectors = _embedded_here(local.path, local, pooling, list(sample))
        rows.append(("local", len(sample), 0, seconds))
        _tell_likeness(list(sample.values()), vectors)
    with TableWriter(table) as writer:
        writer.append(
            {
                "where": [where for where, *_ in rows],
                "sequences": [count for _, count, *_ in rows],
                "requests": [requests for *_, requests, _ in rows],
                "seconds": [f"{seconds:.3f}" for *_, seconds in rows],
                "seconds_per_sequence": [f"{seconds / count:.6f}" if count else "" for _, count, _, seconds in rows],
            }
        )


def _embedded_here(
    path: Path, local: LocalModel, pooling: "Pooling", sequences: list[str]
) -> tuple[float, list[NDArray[np.float32]]]:
    """Embed sequences with the local model; return the seconds that it took, once loaded, and the vectors."""
    # The libraries of a local model are heavy, and not needed without one.
    from dnalm.engine.devices import prepare_machine
    from dnalm.engine.representations import ModelChoices, ModelRepresentation
    from dnalm.models.registry import load_language_model
    from dnalm.models.sources import open_model

    machine = prepare_machine(local.device, local.threads, local.batch_tokens)
    model = load_language_model(open_model(path))
    representation = ModelRepresentation(model, ModelChoices(pooling=pooling), machine)
    print(f"Local model: {representation.description}; {machine.description}", flush=True)
    names = [str(number) for number in range(len(sequences))]
    representation.embed(names[:1], sequences[:1])  # the first run of a model takes longer
    began = time.monotonic()
    found = representation.embed(names, sequences)
    return time.monotonic() - began, [embedded.vectors for embedded in found]


def _tell_likeness(remote: list[NDArray[np.float32]], local: list[NDArray[np.float32]]) -> None:
    if len(remote[0]) != len(local[0]):
        print(
            f"The local model has {len(local[0]):,} dimensions, the served one {len(remote[0]):,}: they are not the same"
        )
        return
    cosines = [
        float(np.dot(one, other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-30))
        for one, other in zip(remote, local, strict=True)
    ]
    print(f"Cosine of remote and local vectors: at least {min(cosines):.6f} on {len(cosines):,} sequences")
