"""New tokenizers: learnt byte pairs, and all k-mers."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, TEST_DATA
from dnalm.errors import UserError
from dnalm.models.vocabularies import LONGEST_TOKEN, SPECIAL_TOKENS, all_kmers, learn_byte_pairs
from tokenizers import Tokenizer


def model_of(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())["model"]


def tokens(tokenizer: Tokenizer, first: str, second: str | None = None) -> list[str]:
    """Return the tokens of a sequence, or of two."""
    return tokenizer.encode(first, second).tokens


def test_the_commonest_pair_is_merged_first() -> None:
    """GA occurs five times, and GA beside GA two times; what occurs once is no pattern."""
    tokenizer = learn_byte_pairs(["GAGAGATC", "GAGA"], 11)
    assert model_of(tokenizer)["merges"] == [["G", "A"], ["GA", "GA"]]
    by_id = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    assert by_id == [*SPECIAL_TOKENS, *"ACGT", "GA", "GAGA"]
    assert tokens(tokenizer, "GAGAGATCA") == ["[CLS]", "GAGA", "GA", "T", "C", "A", "[SEP]"]


def test_an_n_is_unknown_and_two_sequences_are_framed_as_bert_does() -> None:
    tokenizer = learn_byte_pairs(["GAGAGATC", "GAGA"], 11)
    assert tokens(tokenizer, "GANNGA") == ["[CLS]", "GA", "[UNK]", "[UNK]", "GA", "[SEP]"]
    assert tokens(tokenizer, "GA", "TC") == ["[CLS]", "GA", "[SEP]", "T", "C", "[SEP]"]
    assert tokenizer.encode("GA", "TC").type_ids == [0, 0, 0, 1, 1, 1]


def test_merges_do_not_depend_on_the_order_of_the_words() -> None:
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("ACGT"), 60)) for _ in range(40)]
    assert learn_byte_pairs(words, 60).to_str() == learn_byte_pairs(words[::-1], 60).to_str()


LEARN = """
import sys
from dnalm.models.vocabularies import learn_byte_pairs
with open(sys.argv[1]) as file:
    words = [line.strip() for line in file if line[0] != ">"]
print(learn_byte_pairs(words, 900).to_str())
"""


def test_byte_pairs_are_the_same_bytes_with_any_number_of_threads() -> None:
    def learnt(**environment: str) -> bytes:
        command = [sys.executable, "-c", LEARN, str(TEST_DATA / "two_genomes.fasta")]
        path = str(REPOSITORY / "tools" / "scripts")
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path} | environment, check=True, capture_output=True
        )
        return done.stdout

    one = learnt(TOKENIZERS_PARALLELISM="false")
    assert learnt(TOKENIZERS_PARALLELISM="true", RAYON_NUM_THREADS="1") == one
    assert learnt(TOKENIZERS_PARALLELISM="true", RAYON_NUM_THREADS="3") == one


def test_repeats_make_no_token_longer_than_the_longest() -> None:
    """Doublings of A and of CA up to 32 bases are ten merges, and longer ones are none."""
    repeats = ["A" * 33] * 50 + ["CA" * 1_000]
    vocabulary = learn_byte_pairs(repeats, 19).get_vocab()
    assert max(len(token) for token in vocabulary if token not in SPECIAL_TOKENS) == LONGEST_TOKEN == 32
    with pytest.raises(UserError, match="support a vocabulary of 19 tokens"):
        learn_byte_pairs(repeats, 20)


@pytest.mark.parametrize(
    ("words", "made", "advice"),
    [
        (["GAGAGATC", "GAGA"], 11, "ask for at most 11 or give more sequences"),
        (["ACGT"], 9, "50 are asked for; give more sequences"),  # no pair occurs twice, and 9 is no size to ask for
    ],
)
def test_a_size_that_the_sequences_do_not_support_is_refused(words: list[str], made: int, advice: str) -> None:
    with pytest.raises(UserError, match=f"support a vocabulary of {made} tokens, and 50 are asked for") as error:
        learn_byte_pairs(words, 50)
    assert advice in str(error.value)


def test_all_words_are_in_alphabetical_order() -> None:
    words = list(model_of(all_kmers(2))["vocab"])
    assert words[:5] == list(SPECIAL_TOKENS)
    assert words[5:] == [*sorted(words[5:21]), *"ACGTN"]
    assert set(words[5:21]) == {first + second for first in "ACGT" for second in "ACGT"}


def test_words_are_cut_from_the_left_between_n_and_letters_are_left_over() -> None:
    tokenizer = all_kmers(3)
    assert tokens(tokenizer, "ACGTTGCA") == ["[CLS]", "ACG", "TTG", "C", "A"]
    assert tokens(tokenizer, "ACGTNNGGGC") == ["[CLS]", "ACG", "T", "N", "N", "GGG", "C"]


def test_words_of_one_base_are_the_letters_once() -> None:
    tokenizer = all_kmers(1)
    assert list(model_of(tokenizer)["vocab"]) == [*SPECIAL_TOKENS, *"ACGTN"]
    assert tokens(tokenizer, "ACN") == ["[CLS]", "A", "C", "N"]
