"""New tokenizers, each one self-contained tokenizer.json: byte pairs learnt from sequences, or all words of k bases."""

import itertools
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers

from dnalm.errors import UserError

LETTERS = "ACGT"
# In DNABERT-2's order, so that its configs fit.
UNKNOWN, START, END, PAD, MASK = SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
# As DNABERT-2's longest. Without a limit, repeats become tokens of hundreds of bases.
LONGEST_TOKEN = 32
LEAST_COUNT = 2  # of a pair, to be merged: what occurs once is no pattern
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + len(LETTERS) + 1


def learn_byte_pairs(words: Iterable[str], size: int) -> Tokenizer:
    """Return a byte-pair tokenizer of exactly `size` tokens: special tokens, letters, and the commonest merges.

    Merges are learnt within words; ties go to the token made first, so that order of words and threads change nothing.
    It writes `[CLS] … [SEP]` and an `[UNK]` for each N, as DNABERT-2's (Zhou et al. 2023, arXiv:2306.15006) does.
    Byte pairs: Sennrich et al. 2016, doi:10.18653/v1/P16-1162.

    Args:
        words: pieces of A, C, G and T.
        size: tokens, the special ones included.

    Raises:
        UserError: the words have too few different pairs.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=LEAST_COUNT,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list(LETTERS),
        max_token_length=LONGEST_TOKEN + 1,  # the library's limit is the first length that is too long
        show_progress=False,
    )
    tokenizer.train_from_iterator(words, trainer)
    made = tokenizer.get_vocab_size()
    if made < size:
        fewer = f"ask for at most {made:,} or " if made >= SMALLEST_VOCABULARY else ""
        raise UserError(
            f"The sequences support a vocabulary of {made:,} tokens, and {size:,} are asked for; "
            f"{fewer}give more sequences."
        )
    tokenizer.post_processor = _frame(END)
    return tokenizer


def all_kmers(k: int) -> Tokenizer:
    """Return a tokenizer of all words of k bases, the four letters and N; k = 1 reads single letters.

    Its rule is that of `KmerTokenizer` for the same vocabulary: words from left to right in what lies between N, single
    letters for the rest, `[CLS]` first.
    """
    kmers = ["".join(letters) for letters in itertools.product(LETTERS, repeat=k)]
    vocabulary = dict.fromkeys([*SPECIAL_TOKENS, *kmers, *LETTERS, "N"])
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate(vocabulary)}, UNKNOWN))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(f"[{LETTERS}]{{{k}}}|."), "isolated")
    tokenizer.post_processor = _frame()
    return tokenizer


def _frame(*end: str) -> processors.TemplateProcessing:
    """Return what puts `[CLS]` before a sequence, and an end token behind it if there is one; two as BERT does."""
    one = [START, "$A", *end]
    two = [*one, "$B:1", *(f"{token}:1" for token in end)]
    return processors.TemplateProcessing(one, two, [(token, SPECIAL_TOKENS.index(token)) for token in (START, *end)])
