"""How likely a language model holds tokens: at some sites, each masked in turn, or from left to right."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.devices import Machine
from dnalm.engine.inference import Results, pad_ids, run_batches
from dnalm.methods.scores import jensen_shannon
from dnalm.models.language_model import LanguageModel
from dnalm.models.tokenizers import Encoding, Ids

Tokens = NDArray[np.int64]
OnBatch = Callable[[int], None]
# Windows whose tokens are masked one after the other, at once: what is planned for each token needs memory.
PLANNED_TOKENS = 65_536


@dataclass(frozen=True, slots=True)
class Window:
    """The tokens of one window; `counted` says which cover bases and no N, shape (tokens,)."""

    encoding: Encoding
    counted: NDArray[np.bool_]

    @property
    def ids(self) -> Ids:
        """Token ids; shape (tokens,)."""
        return self.encoding.ids

    def __len__(self) -> int:
        return len(self.encoding)


def counted_tokens(bases: str, encoding: Encoding) -> NDArray[np.bool_]:
    """Return which tokens cover A, C, G and T alone; shape (tokens,)."""
    covering = ~encoding.special
    if "N" not in bases:
        return covering
    n_before = np.concatenate([[0], np.cumsum(np.frombuffer(bases.encode(), dtype=np.uint8) == ord("N"))])
    return covering & (n_before[encoding.ends] == n_before[encoding.starts])


class TokenLikelihoods:
    """A language model with its head, asked for probabilities; every result belongs to its window alone.

    `on_batch`, wherever it is taken, is told how many of the inputs are finished.
    """

    def __init__(self, model: LanguageModel, machine: Machine) -> None:
        self._model, self._machine = model, machine
        self._mask_id = -1 if model.tokenizer.mask_id is None else model.tokenizer.mask_id

    def distributions(self, rows: Sequence[Ids], sites: Sequence[Tokens], on_batch: OnBatch) -> Results:
        """Return the log-probabilities of all tokens at some sites of each row of ids.

        Args:
            rows: token ids as the model sees them.
            sites: of each row the numbers of one or more tokens.
            on_batch: see the class.

        Returns:
            One array a row, of shape (sites of the row, vocabulary).
        """

        def compute(indices: list[int]) -> list[Tensor]:
            at, _ = pad_ids([sites[index] for index in indices], 0)
            found = self._log_probabilities([rows[index] for index in indices], at)
            return [of_row[: len(sites[index])] for index, of_row in zip(indices, found, strict=True)]

        return run_batches([len(row) for row in rows], compute, self._machine, lambda done: on_batch(len(done)))

    def pseudo(self, windows: Sequence[Window], on_batch: OnBatch) -> list[NDArray[np.float32]]:
        """Return the log-probability of each counted token while it alone is masked, one array a window."""
        found: list[NDArray[np.float32]] = []
        chunk: list[Window] = []
        for number, window in enumerate(windows, start=1):
            chunk.append(window)
            if number == len(windows) or sum(map(len, chunk)) >= PLANNED_TOKENS:
                found += self._pseudo(chunk, on_batch)
                chunk = []
        return found

    def _pseudo(self, windows: list[Window], on_batch: OnBatch) -> list[NDArray[np.float32]]:
        masked = [
            (number, int(site)) for number, window in enumerate(windows) for site in np.flatnonzero(window.counted)
        ]
        left = [int(window.counted.sum()) for window in windows]

        def compute(indices: list[int]) -> list[Tensor]:
            rows = []
            for number, site in (masked[index] for index in indices):
                row = windows[number].ids.copy()
                row[site] = self._mask_id
                rows.append(row)
            sites = torch.tensor([masked[index][1] for index in indices])[:, None]
            true = [int(windows[number].ids[site]) for number, site in (masked[index] for index in indices)]
            found = self._log_probabilities(rows, sites)[:, 0]
            return list(found.gather(1, torch.tensor(true, device=found.device)[:, None]))

        def count(indices: list[int]) -> None:
            for index in indices:
                left[masked[index][0]] -= 1
            on_batch(sum(left[number] == 0 for number in {masked[index][0] for index in indices}))

        results = run_batches([len(windows[number]) for number, _ in masked], compute, self._machine, count)
        flat = np.concatenate(results) if results else np.zeros(0, dtype=np.float32)
        bounds = np.cumsum([window.counted.sum() for window in windows])[:-1]
        return np.split(flat, bounds)

    def left_to_right(self, groups: Sequence[Sequence[Window]], on_batch: OnBatch) -> Results:
        """Return the log-probability of each token given those left of it, behind the tokens that a group has in common.

        What a group's windows begin with is read once. A first token that nothing stands left of counts as if all bases
        were alike. Tokens that are not counted, and padding, have 0.

        Args:
            groups: windows of which most begin alike, for example those of all alleles at a site.
            on_batch: see the class.

        Returns:
            One array a group, of shape (windows of the group, tokens).
        """

        def values(number: int, shared: int, log_probabilities: Tensor) -> Tensor:
            group = groups[number]
            ids, _ = pad_ids([window.ids[shared:] for window in group], 0)
            counted, _ = pad_ids([window.counted[shared:].astype(np.int64) for window in group], 0)
            ids, counted = ids.to(log_probabilities.device), counted.to(log_probabilities.device)
            found = torch.zeros(log_probabilities.shape[:2], device=log_probabilities.device)
            of_tokens = log_probabilities[:, : ids.shape[1]].gather(2, ids[..., None])[..., 0]
            found[:, : ids.shape[1]] = of_tokens.masked_fill(counted == 0, 0.0)
            return found

        return self._run_groups(groups, [_shared(group) for group in groups], values, on_batch)

    def divergences(
        self, groups: Sequence[Sequence[Window]], aligned: Sequence[Sequence[tuple[Tokens, Tokens]]], on_batch: OnBatch
    ) -> Results:
        """Return the mean Jensen-Shannon divergence between a group's first window and each other, at aligned tokens.

        Args:
            groups: the window of REF, then those of ALTs.
            aligned: of each ALT the numbers of tokens of REF and of ALT that are the same; at least one.
            on_batch: see the class.

        Returns:
            One array a group, of shape (ALTs, 1).
        """

        def values(number: int, shared: int, log_probabilities: Tensor) -> Tensor:
            means = []
            for row, (of_reference, of_alternative) in enumerate(aligned[number], start=1):
                both = (log_probabilities[0, of_reference - shared], log_probabilities[row, of_alternative - shared])
                means.append(jensen_shannon(*both).mean())
            return torch.stack(means)[:, None]

        # Tokens that are aligned may lie among those that all windows begin with: the end of a deleted repeat.
        firsts = [min(int(side.min()) for sides in of_group for side in sides) for of_group in aligned]
        shared = [min(_shared(group), first) for group, first in zip(groups, firsts, strict=True)]
        return self._run_groups(groups, shared, values, on_batch)

    def _run_groups(
        self,
        groups: Sequence[Sequence[Window]],
        shared_tokens: Sequence[int],
        values: Callable[[int, int, Tensor], Tensor],
        on_batch: OnBatch,
    ) -> Results:
        """Run groups in batches of as many shared tokens, and give each (by number) its rows of log-probabilities.

        In causal models these are of the tokens behind the shared ones, each as predicted from those left of it; in
        masked models of all tokens, as their own sites have them.
        """
        of_shared: dict[int, list[int]] = {}
        for number, shared in enumerate(shared_tokens):
            of_shared.setdefault(shared if self._model.causal else 0, []).append(number)
        results: dict[int, NDArray[Any]] = {}
        for shared, numbers in of_shared.items():

            def compute(indices: list[int], shared: int = shared, numbers: list[int] = numbers) -> list[Tensor]:
                batch = [groups[numbers[index]] for index in indices]
                found = self._behind(batch, shared) if self._model.causal else self._log_probabilities(_rows(batch))
                bounds = itertools.accumulate(map(len, batch), initial=0)
                parts = [found[start:end] for start, end in itertools.pairwise(bounds)]
                return [values(numbers[index], shared, part) for index, part in zip(indices, parts, strict=True)]

            costs = [sum(map(len, groups[number])) for number in numbers]
            found = run_batches(costs, compute, self._machine, lambda done: on_batch(len(done)))
            results |= dict(zip(numbers, found, strict=True))
        return [results[number] for number in range(len(groups))]

    def _behind(self, groups: list[Sequence[Window]], shared: int) -> Tensor:
        """Return the log-probabilities of the tokens behind the shared ones; shape (rows, tokens, vocabulary)."""
        device = self._machine.device
        read = max(shared - 1, 0)  # the last shared token predicts the first of the others
        rows = [ids[read:] for ids in _rows(groups)]
        # No mask: a causal model sees nothing of the padding, which is right of all tokens.
        input_ids, _ = pad_ids(rows, self._model.pad_id)
        if read:
            heads, _ = pad_ids([group[0].ids[:read] for group in groups], self._model.pad_id)
            cache = self._model.read(heads.to(device))
            owners = [number for number, group in enumerate(groups) for _ in group]
            cache.batch_select_indices(torch.tensor(owners, device=device))
            logits = self._model.logits_behind(input_ids.to(device), cache)
        else:
            logits = self._model.logits(input_ids.to(device), None)
        found = logits[:, :-1].float().log_softmax(-1)
        if shared:
            return found
        bases = torch.tensor([int(w.encoding.ends[0] - w.encoding.starts[0]) for group in groups for w in group])
        first = (-math.log(4) * bases).to(found)[:, None, None].expand(-1, -1, found.shape[-1])
        return torch.cat([first, found], dim=1)

    def _log_probabilities(self, rows: Sequence[Ids], at: Tensor | None = None) -> Tensor:
        """Return log-probabilities at all tokens, or at some of each row; shape (rows, tokens, vocabulary)."""
        device = self._machine.device
        input_ids, mask = pad_ids(rows, self._model.pad_id)
        attention_mask = None if bool(mask.all()) else mask.to(device)
        logits = self._model.logits(input_ids.to(device), attention_mask, None if at is None else at.to(device))
        return logits.float().log_softmax(-1)


def _rows(groups: Sequence[Sequence[Window]]) -> list[Ids]:
    return [window.ids for group in groups for window in group]


def _shared(group: Sequence[Window]) -> int:
    """Return how many tokens all windows begin with in common."""
    shortest = min(map(len, group))
    first = group[0].ids[:shortest]
    alike = np.all([window.ids[:shortest] == first for window in group], axis=0)
    return shortest if alike.all() else int(alike.argmin())
