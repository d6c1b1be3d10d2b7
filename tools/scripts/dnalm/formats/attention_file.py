"""Attention maps as NumPy npz, written map by map: memory holds one at a time."""

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dnalm.formats.npz import npy_entry


class AttentionWriter:
    """Append sequences in their order; use it in a `with`, and read the file without pickle.

    Sequence n (from 0) has `attention_n`, float32 of shape (heads, tokens, tokens), whose rows add up to 1: how much each
    token attends to each; and `starts_n` and `ends_n`, shape (tokens,), the 0-based half-open bases of each token, both 0
    for special ones. `ids` has the sequences' names, `heads` the heads' names, `layers_heads` their numbers from 1.
    """

    def __init__(self, path: Path, layers_heads: Sequence[tuple[int, int]]) -> None:
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._layers_heads = layers_heads
        self._ids: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._archive.close()

    def append(
        self,
        name: str,
        starts: NDArray[np.signedinteger[Any]],
        ends: NDArray[np.signedinteger[Any]],
        maps: Iterable[NDArray[np.float32]],
    ) -> None:
        """Add a sequence: the bases of its tokens, and a map a head, each of shape (tokens, tokens)."""
        number, tokens = len(self._ids), len(starts)
        shape = (len(self._layers_heads), tokens, tokens)
        with npy_entry(self._archive, f"attention_{number}", np.dtype("<f4"), shape) as entry:
            for of_head in maps:
                entry.write(np.ascontiguousarray(of_head, dtype="<f4").data)
        self._add(f"starts_{number}", starts.astype("<i8"))
        self._add(f"ends_{number}", ends.astype("<i8"))
        self._ids.append(name)

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Add names and what was run, and complete the file."""
        self._add("ids", np.array(self._ids))
        self._add("heads", np.array([f"{layer}.{head}" for layer, head in self._layers_heads]))
        self._add("layers_heads", np.array(self._layers_heads, dtype="<i8").reshape(-1, 2))
        self._add("provenance", np.array(json.dumps(provenance, sort_keys=True, allow_nan=False)))

    def _add(self, name: str, values: NDArray[Any]) -> None:
        with npy_entry(self._archive, name, values.dtype, values.shape) as entry:
            entry.write(values.tobytes())
