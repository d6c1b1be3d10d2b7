"""From sequences to the numbers of a classifier's head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.devices import DTYPES, Machine
from dnalm.engine.inference import DeviceMemoryError, Piece, run_pieces
from dnalm.engine.representations import COMPARED, LongSequences, ModelChoices, ModelRepresentation
from dnalm.errors import UserError
from dnalm.methods.predictions import Numbers, probabilities, quantities
from dnalm.methods.strands import reverse_complement
from dnalm.models.heads import Classifier
from dnalm.models.quantized import refuse_unquantizable
from dnalm.models.tokenizers import Encoding


@dataclass(frozen=True, slots=True)
class Predicted:
    """What became of one sequence.

    Attributes:
        logits: one number a label; shape (labels,).
        n_tokens: tokens read, special tokens included once.
        n_windows: how many windows were read.
        truncated: bases at the end that were not read.
        status: 'ok', or why the numbers say little.
    """

    logits: NDArray[np.float32]
    n_tokens: int
    n_windows: int
    truncated: int
    status: str


@dataclass(frozen=True)
class PredictionChoices:
    """How sequences are read; the names are those of `dnalm_predict.py --help`."""

    long_sequences: LongSequences = "windows"
    window_overlap: float = 0.25
    both_strands: bool = False


class Predictor:
    """A classifier with the choices that turn a sequence into numbers.

    A pooled head is given the embedding of a sequence: the mean over all its windows, and over both strands if asked for,
    which for a linear head is the mean of what it would say of each. A published head reads a sequence as a whole, and
    what lies beyond the model's context is left out.
    """

    def __init__(self, classifier: Classifier, choices: PredictionChoices, machine: Machine) -> None:
        self.classifier = classifier
        self._choices, self._machine = choices, machine
        self._dtype: torch.dtype | None = None
        self._deviation: float | None = None
        self._embeddings: ModelRepresentation | None = None
        if classifier.pooled:
            as_embedding = ModelChoices(
                long_sequences=choices.long_sequences,
                window_overlap=choices.window_overlap,
                both_strands=choices.both_strands,
            )
            self._embeddings = ModelRepresentation(classifier.model, as_embedding, machine)

    @property
    def description(self) -> str:
        """Architecture, sizes, and what the head says."""
        model, facts = self.classifier.model, self.classifier.facts
        context = f"{model.context_length:,}" if model.context_length else "unlimited"
        labels = ", ".join(facts.labels[:SHOWN]) + (
            f" and {len(facts.labels) - SHOWN:,} more" * (len(facts.labels) > SHOWN)
        )
        kind = {"classify": "one of", "multilabel": "any of", "regress": "the values of"}[facts.task]
        return f"{model.stored.name}, {model.architecture}, context {context} tokens; it predicts {kind} {labels}"

    def facts(self) -> dict[str, Any]:
        """Return what identifies the model, and how far a lower precision was from float32."""
        stored, facts = self.classifier.model.stored, self.classifier.facts
        said = {"name": stored.name, "sha256": stored.sha256(), "licence": stored.licence, "task": facts.task}
        return said if self._deviation is None else said | {"largest_difference_from_float32": self._deviation}

    def outcomes(self, logits: Numbers) -> Numbers:
        """Return probabilities, or values of a regressor; shape (sequences, labels), float64."""
        facts = self.classifier.facts
        if facts.task == "regress":
            mean, scale = facts.target_mean or (0.0,), facts.target_scale or (1.0,)
            return quantities(logits, np.array(mean), np.array(scale))
        return probabilities(logits, exclusive=facts.task == "classify", temperature=facts.temperature)

    def change_precision(self, dtype: str, names: Sequence[str], sequences: Sequence[str]) -> float:
        """Change to a lower precision; return the largest difference from float32 over the first sequences.

        It is one of probabilities, or of a regressor's values. int8 is for pooled heads of encoders on the CPU.
        """
        names, sequences = names[:COMPARED], sequences[:COMPARED]

        def outcomes(predictor: Predictor) -> Numbers:
            return self.outcomes(np.stack([found.logits for found in predictor.predict(names, sequences)]))

        try:
            exact = outcomes(self)
        except DeviceMemoryError:
            print("float32 does not fit into the GPU; the precision is measured against the CPU", flush=True)
            on_cpu = replace(self._machine, device=torch.device("cpu"))
            exact = outcomes(Predictor(self.classifier, self._choices, on_cpu))
        if self._embeddings is not None:
            self._embeddings.change_precision(dtype, names, sequences)
        else:
            self._dtype = None
            self._move(DTYPES[dtype])
        self._deviation = float(f"{np.abs(outcomes(self) - exact).max():.3g}")
        return self._deviation

    def predict(
        self, names: Sequence[str], sequences: Sequence[str], on_done: Callable[[int], None] = lambda count: None
    ) -> list[Predicted]:
        """Return one result a sequence, in order; equal sequences are computed once."""
        if self._embeddings is None:
            return self._predict_whole(names, sequences, on_done)
        embedded = self._embeddings.embed(names, sequences, on_done)
        with torch.inference_mode():
            vectors = torch.from_numpy(np.stack([found.vectors for found in embedded]))
            logits = self.classifier.of_vectors(vectors).numpy()
        return [
            Predicted(numbers, found.n_tokens, found.n_windows, found.truncated, found.status)
            for numbers, found in zip(logits, embedded, strict=True)
        ]

    def _predict_whole(
        self, names: Sequence[str], sequences: Sequence[str], on_done: Callable[[int], None]
    ) -> list[Predicted]:
        """Give each sequence, cut at the context, to a published head."""
        self._move(torch.float32)
        model = self.classifier.model
        own: dict[str, list[int]] = {}
        for number, bases in enumerate(sequences):
            own.setdefault(bases, []).append(number)
        strands = list(own)
        if self._choices.both_strands:
            strands = list(dict.fromkeys(strands + [reverse_complement(bases) for bases in own]))
        most = self._most_bases()
        encodings = model.encode([bases[:most] for bases in strands])
        pieces, truncated = [], []
        for bases, encoding in zip(strands, encodings, strict=True):
            name = names[own[bases][0]] if bases in own else "a reverse complement"
            kept = self._cut(encoding, name)
            pieces.append(Piece(kept.ids, (~kept.special).astype(np.float32)))
            truncated.append(len(bases) - int(kept.ends.max(initial=0)))

        def count_done(indices: list[int]) -> None:
            on_done(sum(len(own.get(strands[index], ())) for index in indices))

        def states(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
            return self.classifier.logits(input_ids, attention_mask)[:, None]

        def first(found: Tensor, weights: Tensor) -> list[Tensor]:
            return list(found[:, 0])

        lengths = [len(piece) for piece in pieces]
        logits = run_pieces(lengths, pieces.__getitem__, states, first, model.pad_id, self._machine, count_done)
        of_strand = dict(zip(strands, zip(logits, pieces, truncated, strict=True), strict=True))
        results = []
        for bases in sequences:
            numbers, piece, left_out = of_strand[bases]
            if self._choices.both_strands:
                other, _, left_out_there = of_strand[reverse_complement(bases)]
                numbers, left_out = 0.5 * (numbers + other), max(left_out, left_out_there)
            status = "all_n" if bases.count("N") == len(bases) else "ok"
            results.append(Predicted(numbers, len(piece), 1, left_out, status))
        return results

    def _most_bases(self) -> int | None:
        """Return how many first bases of a sequence may be read; None where that is not known, or all must be seen."""
        context = self.classifier.model.context_length
        if self._choices.long_sequences == "fail" or context is None:
            return None
        return self.classifier.model.tokenizer.bases_deciding(context)

    def _cut(self, encoding: Encoding, name: str) -> Encoding:
        """Return the tokens within the context; raise UserError if none may be left out."""
        model = self.classifier.model
        if model.context_length is None or len(encoding) <= model.context_length:
            return encoding
        if self._choices.long_sequences == "fail":
            raise UserError(
                f"Sequence '{name}' has {len(encoding):,} tokens, the model '{model.stored.name}' reads "
                f"{model.context_length:,}; cut it, or choose truncate for long sequences."
            )
        return encoding.truncated(model.context_length)

    def _move(self, dtype: torch.dtype) -> None:
        """Bring the model to the device, unless it is there; raise DeviceMemoryError if it does not fit."""
        if self._dtype is not None:
            return
        try:
            self.classifier.to(self._machine.device, dtype)
        except torch.OutOfMemoryError:
            raise DeviceMemoryError(
                f"The model '{self.classifier.model.stored.name}' does not fit into the GPU; use bfloat16, a smaller model "
                "or a larger GPU."
            ) from None
        self._dtype = dtype


SHOWN = 10  # labels in a line


def refuse_unpredictable(classifier: Classifier, dtype: str) -> None:
    """Raise UserError if a classifier has no int8 and that is asked for."""
    if dtype != "int8":
        return
    refuse_unquantizable(classifier.model)
    if not classifier.pooled:
        raise UserError(
            f"The head of '{classifier.model.stored.name}' reads more than hidden states, and has no int8; choose bfloat16 "
            "or float32."
        )
