"""Likelihoods of tokens, compared with one forward pass after the other."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from dnalm.engine import likelihoods
from dnalm.engine.devices import prepare_machine
from dnalm.engine.likelihoods import TokenLikelihoods, Window, counted_tokens
from dnalm.models.language_model import LanguageModel
from dnalm.models.tokenizers import Encoding
from tiny_variants import GENOME, KINDS

MACHINE = prepare_machine("cpu", 1, None)
TOLERANCE = 1e-5
Make = Callable[[str, str], LanguageModel]


def window(model: LanguageModel, bases: str) -> Window:
    (encoding,) = model.encode([bases])
    return Window(encoding, counted_tokens(bases, encoding))


def without_front(whole: Window) -> Window:
    """Return a window without its special tokens, as of a tokenizer that makes none."""
    kept = ~whole.encoding.special
    ids, starts, ends = (values[kept] for values in (whole.ids, whole.encoding.starts, whole.encoding.ends))
    return Window(Encoding(ids, starts, ends), whole.counted[kept])


def rows_of(model: LanguageModel, ids: np.ndarray) -> np.ndarray:
    """Return the log-probabilities of one forward pass; shape (tokens, vocabulary)."""
    assert model.with_head is not None
    with torch.inference_mode():
        logits = model.with_head(input_ids=torch.from_numpy(ids)[None]).logits[0]
    return logits.double().log_softmax(-1).numpy()


def test_tokens_with_n_and_special_tokens_do_not_count() -> None:
    starts, ends = np.array([0, 0, 3, 4, 7, 0]), np.array([0, 3, 4, 7, 9, 0])
    encoding = Encoding(np.arange(6), starts, ends)
    assert counted_tokens("ACGNTTACG", encoding).tolist() == [False, True, False, True, True, False]
    assert counted_tokens("ACGATTACN", encoding).tolist() == [False, True, True, True, False, False]
    assert counted_tokens("ACGATTACG", encoding).tolist() == [False, True, True, True, True, False]


@pytest.mark.parametrize("reads", ["masked", "causal"])
def test_distributions_are_those_of_one_forward_pass_per_row(tiny_model: Make, reads: str) -> None:
    model = tiny_model(reads, "3-mers")
    rows = [window(model, bases).ids for bases in (GENOME[:30], GENOME[50:59], GENOME[100:160])]
    sites = [np.array([3, 1]), np.array([2]), np.array([0, 20, 5])]
    done: list[int] = []
    machine = replace(MACHINE, batch_tokens=45)
    found = TokenLikelihoods(model, machine).distributions(rows, sites, done.append)
    for ids, at, of_row in zip(rows, sites, found, strict=True):
        np.testing.assert_allclose(of_row, rows_of(model, ids)[at], rtol=0, atol=TOLERANCE)
    assert sum(done) == 3
    assert len(done) == 2


@pytest.mark.slow
@pytest.mark.parametrize("planned", [1, 10**6])
@pytest.mark.parametrize("kind", ["letters", "byte pairs"])
def test_pseudo_likelihoods_mask_each_token_alone(
    tiny_model: Make, monkeypatch: pytest.MonkeyPatch, kind: str, planned: int
) -> None:
    monkeypatch.setattr(likelihoods, "PLANNED_TOKENS", planned)
    model = tiny_model("masked", kind)
    windows = [window(model, bases) for bases in (GENOME[:12], GENOME[20:25] + "NN" + GENOME[27:30], GENOME[40:44])]
    mask_id = model.tokenizer.mask_id
    assert mask_id is not None
    done: list[int] = []
    found = TokenLikelihoods(model, MACHINE).pseudo(windows, done.append)
    assert sum(done) == 3
    assert len(found) == 3
    for one, values in zip(windows, found, strict=True):
        expected = []
        for site in np.flatnonzero(one.counted):
            masked = one.ids.copy()
            masked[site] = mask_id
            expected.append(rows_of(model, masked)[site, one.ids[site]])
        np.testing.assert_allclose(values, expected, rtol=0, atol=TOLERANCE)


def test_a_window_of_n_has_no_pseudo_likelihoods(tiny_model: Make) -> None:
    model = tiny_model("masked", "letters")
    windows = [window(model, "NNN"), window(model, "ACG"), window(model, "NN")]
    found = TokenLikelihoods(model, MACHINE).pseudo(windows, lambda count: None)
    assert [len(values) for values in found] == [0, 3, 0]


@pytest.mark.slow
@pytest.mark.parametrize("front", [True, False], ids=["a start token", "no start token"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reads", ["causal", "windowed causal"])
def test_left_to_right_likelihoods_are_of_tokens_behind_the_shared_ones(
    tiny_model: Make, reads: str, kind: str, front: bool
) -> None:
    model = tiny_model(reads, kind)
    # The first two groups begin with as many tokens in common, but others.
    texts = [[part[:25] + letter + part[26:] for letter in "ACGT"] for part in (GENOME[:45], GENOME[100:145])]
    texts += [["ACGTTTGACC", "CCGTTTGACC"], [GENOME[60:80], GENOME[60:75]], ["AANAA" + GENOME[5:20], "AANAC"]]
    groups = [[window(model, bases) for bases in group] for group in texts]
    if not front:
        groups = [[without_front(one) for one in group] for group in groups]
    done: list[int] = []
    found = TokenLikelihoods(model, MACHINE).left_to_right(groups, done.append)
    assert sum(done) == len(groups)
    for group, values in zip(groups, found, strict=True):
        lengths = [len(one) for one in group]
        shared = 0
        while shared < min(lengths) and len({int(one.ids[shared]) for one in group}) == 1:
            shared += 1
        assert values.shape == (len(group), max(lengths) - shared)
        for one, row in zip(group, values, strict=True):
            log_probabilities = rows_of(model, one.ids)
            for number in range(shared, max(lengths)):
                expected = 0.0
                if number < len(one) and one.counted[number]:
                    bases = one.encoding.ends[number] - one.encoding.starts[number]
                    first = -math.log(4) * bases
                    expected = log_probabilities[number - 1, one.ids[number]] if number else first
                assert row[number - shared] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("reads", ["masked", "causal"])
def test_divergences_are_the_mean_over_aligned_tokens(tiny_model: Make, reads: str) -> None:
    model = tiny_model(reads, "letters")
    texts = [[GENOME[:20], GENOME[:8] + "TT" + GENOME[10:20], GENOME[:8] + GENOME[9:21]], ["ACGTACG", "ACTTACG"]]
    groups = [[window(model, bases) for bases in group] for group in texts]
    pairs = [(np.arange(12, 20), np.arange(12, 20)), (np.array([10, 15, 18]), np.array([9, 14, 17]))]
    aligned = [pairs, [(np.array([2, 7]), np.array([2, 7]))]]  # one of them among the tokens that all begin with
    done: list[int] = []
    found = TokenLikelihoods(model, MACHINE).divergences(groups, aligned, done.append)
    assert sum(done) == 2
    behind = 1 if reads == "causal" else 0  # a token is predicted by the one before it
    for group, of_group, values in zip(groups, aligned, found, strict=True):
        rows = [np.exp(rows_of(model, one.ids)) for one in group]
        assert values.shape == (len(group) - 1, 1)
        for alternative, (of_reference, of_alternative), value in zip(rows[1:], of_group, values[:, 0], strict=True):
            each = []
            for n, m in zip(of_reference - behind, of_alternative - behind, strict=True):
                p, q = rows[0][n], alternative[m]
                middle = (p + q) / 2
                each.append(0.5 * (p * np.log2(p / middle)).sum() + 0.5 * (q * np.log2(q / middle)).sum())
            assert value == pytest.approx(np.mean(each), abs=TOLERANCE)
