"""From windows to the batches of a pretraining: tokens, weights, and how windows share a batch."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.devices import Machine
from dnalm.engine.training_data import Batching, BatchPlan, Masking, TokenizedWindows, TrainingBatches
from dnalm.engine.training_run import is_main
from dnalm.errors import UserError
from dnalm.methods.pieces import evenly_thinned, pieces
from dnalm.methods.strands import reverse_complement
from dnalm.models.language_model import LanguageModel
from dnalm.models.presets import Preset
from dnalm.models.vocabularies import all_kmers, learn_byte_pairs
from dnalm.report.progress import Progress
from dnalm.tasks.pretraining_options import PretrainingOptions
from dnalm.tasks.pretraining_windows import Windows

# Byte pairs are learnt as dnalm_train_tokenizer does by default.
VOCABULARY, LONGEST_WORD, MOST_LEARNT = 4_096, 1_000, 50_000_000
TOKENIZED_TOGETHER = 4_096
MIXED = 0.25  # coefficient of variation of lengths from which packing was measured to win over grouping
PACKABLE = ("llama", "mistral", "mixtral")


def learnt_tokenizer(preset: Preset, windows: Windows) -> dict[str, Any]:
    """Return the preset's tokenizer; one of byte pairs is learnt from the training windows."""
    if preset.tokenizer != "bpe":
        tokenizer = all_kmers(1 if preset.tokenizer == "letters" else 6)
    else:
        chosen = zip(windows.sequences, windows.validates, strict=True)
        words = (word for bases, validates in chosen if not validates for word in pieces(bases.decode(), LONGEST_WORD))
        try:
            tokenizer = learn_byte_pairs(evenly_thinned(words, MOST_LEARNT), VOCABULARY)
        except UserError as error:
            fact = str(error).partition(";")[0]
            raise UserError(
                f"{fact}; give more sequences, a smaller tokenizer, or a preset that reads letters."
            ) from error
    return {"tokenizer.json": json.loads(tokenizer.to_str())}


def tokenized(
    options: PretrainingOptions, model: LanguageModel, windows: Windows
) -> tuple[tuple[TokenizedWindows, TokenizedWindows | None], TokenizedWindows]:
    """Return tokens of the training windows, of their other strands if asked for, and of the validation windows."""
    wanted = len(windows.sequences) + (int((~windows.validates).sum()) if options.reverse_complement else 0)
    progress = Progress("windows made into tokens", lambda: progress.done / wanted)

    def tokens(validation: bool, other_strand: bool = False) -> TokenizedWindows:
        numbers = np.flatnonzero(windows.validates == validation).tolist()
        ids, bases, weights, lengths = [], [], [], [0]
        for first in range(0, len(numbers), TOKENIZED_TOGETHER):
            part = numbers[first : first + TOKENIZED_TOGETHER]
            letters = [windows.sequences[number].decode() for number in part]
            if other_strand:
                letters = [reverse_complement(sequence) for sequence in letters]
            for number, sequence, encoding in zip(part, letters, model.encode(letters), strict=True):
                if model.context_length is not None and len(encoding) > model.context_length:
                    raise UserError(
                        f"A window of {len(sequence):,} bases has {len(encoding):,} tokens, the model reads "
                        f"{model.context_length:,}; use smaller windows."
                    )
                before = np.concatenate([[0], np.cumsum(np.frombuffer(sequence.encode(), dtype=np.uint8) == ord("N"))])
                clean = before[encoding.ends] == before[encoding.starts]
                covered = (encoding.ends - encoding.starts) * clean
                ids.append(encoding.ids.astype(np.int32))
                bases.append(np.minimum(covered, 65_535).astype(np.uint16))
                weights.append(_token_weights(windows, number, encoding.starts, encoding.ends, other_strand))
                lengths.append(len(encoding))
            if is_main():
                progress.add(len(part))
        return TokenizedWindows(
            np.concatenate(ids), np.concatenate(bases), np.concatenate(weights), np.cumsum(np.array(lengths))
        )

    other = tokens(False, other_strand=True) if options.reverse_complement else None
    return (tokens(False), other), tokens(True)


def _token_weights(
    windows: Windows, number: int, starts: NDArray[np.int64], ends: NDArray[np.int64], other_strand: bool
) -> NDArray[np.float32]:
    """Return the mean weight of each token's bases."""
    if windows.weights is None:
        return np.ones(len(starts), dtype=np.float32)
    weights = windows.weights[number][::-1] if other_strand else windows.weights[number]
    before = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    mean = (before[ends] - before[starts]) / np.maximum(ends - starts, 1)
    # A weight of 0 would make a token one that is not predicted at all, also in validation.
    return np.maximum(mean, 1e-6).astype(np.float32)


def batches_of(
    options: PretrainingOptions,
    model: LanguageModel,
    training: tuple[TokenizedWindows, TokenizedWindows | None],
    validation: TokenizedWindows,
    machine: Machine,
) -> tuple[TrainingBatches, TrainingBatches]:
    """Return the batches of training and of validation.

    Raises:
        UserError: no token is left to predict, or the tokenizer has no mask that the objective needs.
    """
    windows, other_strands = training
    if not all(_is_predictable(options, tokens) for tokens in (windows, validation)):
        raise UserError("No token is left to predict; give sequences with fewer N, or longer windows.")
    assert options.batch_size is not None
    masking = None
    if options.objective == "masked":
        if model.tokenizer.mask_id is None:
            raise UserError("The tokenizer has no mask token, which the objective masked needs; use another tokenizer.")
        masking = Masking(model.tokenizer.mask_id, np.unique(windows.ids[windows.bases > 0]).astype(np.int64))
    lengths = windows.lengths if other_strands is None else np.maximum(windows.lengths, other_strands.lengths)
    batching = chosen_batching(options, model, lengths)
    plan = BatchPlan(batching, options.batch_size, int(lengths.max()), options.seed)
    rows = max(1, machine.batch_tokens // int(validation.lengths.max()))
    measured = replace(plan, batching="grouped", batch_size=rows)
    return (
        TrainingBatches(windows, plan, model.pad_id, masking, other_strands),
        TrainingBatches(validation, measured, model.pad_id, masking, validation=True),
    )


def _is_predictable(options: PretrainingOptions, windows: TokenizedWindows) -> bool:
    """Say whether any token has bases and, in a causal model, another before it."""
    predicted = windows.bases > 0
    if options.objective == "causal":
        predicted[windows.offsets[:-1]] = False
    return bool(predicted.any())


def chosen_batching(options: PretrainingOptions, model: LanguageModel, lengths: NDArray[np.int64]) -> Batching:
    """Return how windows are put together: what was measured to be fastest, unless the user chose."""
    config: Any = model.with_head.config if model.architecture in PACKABLE else None  # type: ignore[union-attr]
    # The mask of a packed row knows of no sliding window.
    slides = getattr(config, "sliding_window", None)
    packable = config is not None and options.objective == "causal" and (not slides or lengths.max() <= slides)
    if options.batching == "packed" and not packable:
        raise UserError(f"The model ({model.architecture}) cannot read packed windows apart; use batching grouped.")
    if options.batching != "auto":
        return options.batching
    mixed = lengths.std() > MIXED * lengths.mean()
    return "packed" if packable and mixed else "grouped"
