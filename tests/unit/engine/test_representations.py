"""Every choice against a slow and obvious computation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from dnalm.engine import representations
from dnalm.engine.devices import prepare_machine
from dnalm.engine.representations import ModelChoices, ModelRepresentation
from dnalm.errors import UserError
from dnalm.methods.strands import reverse_complement
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model

LENGTHS = [1, 3, 20, 61, 150, 600, 1_790]  # 3-mers; the context is 200 tokens, so that the last has three contexts


def random_bases(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGTN"), length, p=[0.24] * 4 + [0.04]))


SEQUENCES = [random_bases(length, seed=length) for length in LENGTHS]
NAMES = [f"s{length}" for length in LENGTHS]
MACHINE = prepare_machine("cpu", 1, None)
CONTEXT = 200


@pytest.fixture(scope="module", params=["esm-rotary", "llama"])
def model(request: pytest.FixtureRequest, model_folder: Callable[[str], Path]) -> LanguageModel:
    return load_language_model(open_model(model_folder(request.param)), head=True)


def states_of(model: LanguageModel, ids: np.ndarray, choices: ModelChoices) -> np.ndarray:
    """One forward of one sequence, every layer kept."""
    assert model.with_head is not None
    with torch.inference_mode():
        output = model.with_head(torch.from_numpy(ids)[None], output_hidden_states=True)
    if choices.representation == "logits":
        return output.logits[0].numpy()
    layers = [output.hidden_states[layer][0].numpy() for layer in choices.layers]
    return np.concatenate(layers, axis=-1) if choices.combine_layers == "concatenate" else np.mean(layers, axis=0)


def slow(model: LanguageModel, bases: str, choices: ModelChoices) -> np.ndarray:
    """The definition, token by token."""
    (encoding,) = model.tokenizer.encode([bases])
    special = [int(token) for token in encoding.ids[encoding.special]]  # the CLS in front
    inner = encoding.ids[~encoding.special]
    starts, ends = encoding.starts[~encoding.special], encoding.ends[~encoding.special]
    capacity = CONTEXT - len(special)
    if choices.long_sequences == "truncate":
        inner, starts, ends = inner[:capacity], starts[:capacity], ends[:capacity]
    step = max(1, capacity - round(choices.window_overlap * capacity))
    firsts = [0]
    while firsts[-1] + capacity < len(inner):
        firsts.append(min(firsts[-1] + step, len(inner) - capacity))
    of_windows = [states_of(model, np.r_[special, inner[first : first + capacity]], choices) for first in firsts]
    rows = []
    for token in range(len(inner)):
        margins = [
            min(token - first, min(first + capacity, len(inner)) - 1 - token)
            if first <= token < first + capacity
            else -1
            for first in firsts
        ]
        best = int(np.argmax(margins))
        rows.append(of_windows[best][len(special) + token - firsts[best]])
    tokens = np.array(rows, dtype=np.float64)
    fronts = np.array([states[0] for states in of_windows])
    counted = np.concatenate([fronts, tokens]) if choices.keep_special else tokens
    middle = int(ends[-1]) // 2
    covers_middle = next(number for number in range(len(starts)) if starts[number] <= middle < ends[number])
    return {
        "mean": lambda: np.average(tokens, axis=0, weights=ends - starts) if choices.by_bases else counted.mean(0),
        "max": lambda: counted.max(0),
        "min": lambda: counted.min(0),
        "cls": lambda: fronts.mean(0),
        "last": lambda: tokens[-1],
        "center": lambda: tokens[covers_middle],
        "none": lambda: tokens,
    }[choices.pooling]()


CASES: dict[str, dict[str, Any]] = {
    "mean": {},
    "max": {"pooling": "max"},
    "min": {"pooling": "min"},
    "cls": {"pooling": "cls"},
    "last": {"pooling": "last"},
    "center": {"pooling": "center"},
    "none": {"pooling": "none"},
    "bases": {"by_bases": True},
    "special tokens": {"keep_special": True},
    "special tokens in the maximum": {"keep_special": True, "pooling": "max"},
    "special tokens beside the last": {"keep_special": True, "pooling": "last"},
    "special tokens beside the middle": {"keep_special": True, "pooling": "center"},
    "embeddings": {"layers": (0,)},
    "average of layers": {"layers": (1, 3)},
    "layers in a row": {"layers": (3, 0, 2), "combine_layers": "concatenate"},
    "logits": {"representation": "logits"},
    "cut": {"long_sequences": "truncate"},
    "no overlap": {"window_overlap": 0.0},
    "much overlap": {"window_overlap": 0.7, "pooling": "none"},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_equals_the_definition(model: LanguageModel, case: str) -> None:
    choices = replace(ModelChoices(layers=(3,)), **CASES[case])
    found = ModelRepresentation(model, choices, MACHINE).embed(NAMES, SEQUENCES)
    for bases, result in zip(SEQUENCES, found, strict=True):
        expected = slow(model, bases, choices)
        assert result.vectors.shape == expected.shape
        np.testing.assert_allclose(result.vectors, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "max", "cls", "center"])
def test_both_strands_are_averaged(model: LanguageModel, pooling: Any) -> None:
    choices = ModelChoices(pooling=pooling)
    turned = [reverse_complement(bases) for bases in SEQUENCES]
    one, other = (ModelRepresentation(model, choices, MACHINE).embed(NAMES, given) for given in (SEQUENCES, turned))
    both = ModelRepresentation(model, replace(choices, both_strands=True), MACHINE)
    for found, first, second in zip(both.embed(NAMES, SEQUENCES), one, other, strict=True):
        np.testing.assert_allclose(found.vectors, (first.vectors + second.vectors) / 2, atol=1e-5)
    for found, again in zip(both.embed(NAMES, SEQUENCES), both.embed(NAMES, turned), strict=True):
        np.testing.assert_allclose(found.vectors, again.vectors, atol=1e-5)


@pytest.mark.parametrize("bases", ["ACGTTGCAACGG", "ACGTTGCAACGGATTACAGATTACACCTTAGGCATCAGGACTTAG"])
def test_the_last_token_is_the_special_one_behind_where_special_tokens_are_kept(bases: str) -> None:
    """As `hidden_states[:, -1]` of a model card; the second sequence has several contexts, of which the last ends so."""
    stored = open_model(REPOSITORY / "tests" / "parity" / "data" / "dnabert2")
    settings = stored.tokenizer["tokenizer_config.json"] | {"model_max_length": 7}
    short = replace(stored, tokenizer=stored.tokenizer | {"tokenizer_config.json": settings})
    model = load_language_model(short)
    (encoding,) = model.encode([bases])
    window = np.r_[encoding.ids[:1], encoding.ids[1:-1][-5:], encoding.ids[-1:]]
    with torch.inference_mode():
        (expected,) = model.hidden_states(torch.from_numpy(window)[None], None, [3])
    for keep_special, position in ((True, -1), (False, -2)):
        choices = ModelChoices(layers=(3,), pooling="last", keep_special=keep_special)
        (found,) = ModelRepresentation(model, choices, MACHINE).embed(["x"], [bases])
        np.testing.assert_allclose(found.vectors, expected[0, position], rtol=0, atol=1e-5)


def test_rows_of_tokens_say_which_bases_they_cover(model: LanguageModel) -> None:
    for bases, found in zip(
        SEQUENCES,
        ModelRepresentation(model, ModelChoices(pooling="none"), MACHINE).embed(NAMES, SEQUENCES),
        strict=True,
    ):
        assert found.starts is not None
        assert found.ends is not None
        covered = [bases[start:end] for start, end in zip(found.starts, found.ends, strict=True)]
        assert "".join(covered) == bases
        assert len(found.vectors) == len(covered)


def test_counts_of_windows_tokens_and_bases_left_out(model: LanguageModel) -> None:
    bases = "ACG" * 597  # 597 tokens and CLS; 199 of them fit
    for policy, expected in {"windows": (598, 4, 0), "truncate": (200, 1, 3 * 398)}.items():
        choices = ModelChoices(long_sequences=policy)  # type: ignore[arg-type]
        (found,) = ModelRepresentation(model, choices, MACHINE).embed(["x"], [bases])
        assert (found.n_tokens, found.n_windows, found.truncated) == expected


def gpu_for(bits: int, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the device 'meta' is a GPU, the CPU doing its work, into which only narrow numbers fit."""
    move = model.to

    def limited(device: torch.device, dtype: torch.dtype) -> None:
        if device.type == "meta" and torch.finfo(dtype).bits > bits:
            first = next(model.backbone.parameters())
            first.data = first.data.double()  # as a move that fails half way leaves some elsewhere
            raise torch.cuda.OutOfMemoryError
        move(torch.device("cpu"), dtype)

    def on_cpu(*given: Any) -> list[np.ndarray]:
        return run(*given[:-2], MACHINE, given[-1])

    run: Any = representations.run_pieces
    monkeypatch.setattr(model, "to", limited)
    monkeypatch.setattr(representations, "run_pieces", on_cpu)


def test_a_model_too_large_for_the_gpu_is_said_plainly(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_language_model(open_model(model_folder("esm-rotary")))
    gpu_for(8, model, monkeypatch)
    representation = ModelRepresentation(model, ModelChoices(), replace(MACHINE, device=torch.device("meta")))
    with pytest.raises(UserError, match="does not fit into the GPU; use bfloat16, a smaller model or a larger GPU"):
        representation.embed(NAMES, SEQUENCES)


@pytest.mark.slow
def test_a_model_that_fits_in_bfloat16_alone_is_compared_on_the_cpu(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def deviation() -> tuple[float, np.ndarray]:
        model = load_language_model(open_model(model_folder("esm-rotary")))
        machine = MACHINE
        if fits_only_bfloat16:
            gpu_for(16, model, monkeypatch)
            machine = replace(MACHINE, device=torch.device("meta"))
        representation = ModelRepresentation(model, ModelChoices(), machine)
        cosine = representation.change_precision("bfloat16", NAMES, SEQUENCES)
        return cosine, np.stack([found.vectors for found in representation.embed(NAMES, SEQUENCES)])

    fits_only_bfloat16 = False
    expected, vectors = deviation()
    assert capsys.readouterr().out == ""
    fits_only_bfloat16 = True
    found, again = deviation()
    assert "measured against the CPU" in capsys.readouterr().out
    assert found == expected < 1
    np.testing.assert_array_equal(again, vectors)


def test_the_deviation_of_a_chromosome_is_measured_at_its_start(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it would take longer than what the lower precision gains."""
    model = load_language_model(open_model(model_folder("esm-rotary")))
    read: list[int] = []
    whole: Any = representations.run_pieces
    monkeypatch.setattr(
        representations,
        "run_pieces",
        lambda lengths, *more: read.append(sum(lengths)) or whole(lengths, *more),  # type: ignore[func-returns-value]
    )
    representation = ModelRepresentation(model, ModelChoices(layers=(0,), window_overlap=0.0), MACHINE)
    cosine = representation.change_precision("bfloat16", ["x"], ["ACGTTGCAAC" * 5_000])
    assert 0.99 < cosine < 1
    assert len(read) == 2
    assert max(read) < 1.2 * representations.COMPARED_BASES / 3


def test_a_cut_sequence_is_tokenized_no_further_than_it_is_read(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N among the bases, and a cut within a k-mer, decide over the last tokens."""
    long = [random_bases(5_000, seed) for seed in range(30)]
    given = [*SEQUENCES, *long, *("A" * length for length in range(590, 610))]
    names = [str(number) for number in range(len(given))]
    representation = ModelRepresentation(model, ModelChoices(layers=(0,), long_sequences="truncate"), MACHINE)
    found = representation.embed(names, given)
    monkeypatch.setattr(model.tokenizer, "bases_deciding", lambda tokens: None)
    for one, whole in zip(found, representation.embed(names, given), strict=True):
        assert (one.n_tokens, one.truncated, one.status) == (whole.n_tokens, whole.truncated, whole.status)
        np.testing.assert_array_equal(one.vectors, whole.vectors)
    read: list[int] = []
    encode = model.tokenizer.encode
    monkeypatch.undo()
    monkeypatch.setattr(
        model.tokenizer,
        "encode",
        lambda strands: read.extend(map(len, strands)) or encode(strands),  # type: ignore[func-returns-value]
    )
    representation.embed(["x"], ["ACGT" * 10_000])
    assert read == [3 * (CONTEXT + 1)]


def test_a_long_sequence_fails_by_its_name_on_request(model: LanguageModel) -> None:
    representation = ModelRepresentation(model, ModelChoices(long_sequences="fail"), MACHINE)
    with pytest.raises(UserError, match=r"Sequence 's600' has [0-9,]+ tokens, the model .* reads 200"):
        representation.embed(NAMES, SEQUENCES)


def test_every_sequence_is_reported_once(model: LanguageModel) -> None:
    done: list[int] = []
    representation = ModelRepresentation(model, ModelChoices(both_strands=False), MACHINE)
    representation.embed([*NAMES, *NAMES], [*SEQUENCES, *SEQUENCES], done.append)
    assert sum(done) == 2 * len(SEQUENCES)


def test_all_n_is_embedded_and_said(model: LanguageModel) -> None:
    (found,) = ModelRepresentation(model, ModelChoices(), MACHINE).embed(["n"], ["NNNN"])
    assert found.status == "all_n"
    assert np.isfinite(found.vectors).all()
