"""Train a tokenizer: one tokenizer.json, what the sequences have of its tokens, and what it is."""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.formats.fasta import FastaReader
from dnalm.models.tokenizers import JsonTokenizer, tokenizer_from_files
from dnalm.models.vocabularies import SPECIAL_TOKENS
from dnalm.tasks import tokenizer_training

ECOLI, HUMAN = TEST_DATA / "ecoli.fasta.gz", TEST_DATA / "human.fasta.gz"
TWO_GENOMES, MITOCHONDRION = TEST_DATA / "two_genomes.fasta", TEST_DATA / "human_mitochondrion.fasta"


class Trained:
    """The outputs of a run: tokenizer.json, table, summary."""

    def __init__(self, folder: Path) -> None:
        self.bytes = (folder / "tokenizer.json").read_bytes()
        self.description: dict[str, Any] = json.loads(self.bytes)
        self.vocabulary: dict[str, int] = self.description["model"]["vocab"]
        self.tokenizer = tokenizer_from_files({"tokenizer.json": self.description})
        rows = [line.split("\t") for line in (folder / "tokens.tsv").read_text().splitlines()]
        assert rows.pop(0) == ["token", "length", "count", "share"]
        self.rows = [(token, int(length), int(count), float(share)) for token, length, count, share in rows]
        self.facts = dict(line.split("\t") for line in (folder / "summary.tsv").read_text().splitlines())

    def tokens(self, sequence: str) -> list[str]:
        names = {number: token for token, number in self.vocabulary.items()}
        return [names[number] for number in self.tokenizer.encode([sequence])[0].ids.tolist()]


Train = Callable[..., Trained]


def options(folder: Path, *sequences: Path) -> list[object]:
    given = [argument for path in sequences for argument in ("--sequences", path)]
    outputs = ["--output", "tokenizer.json", "--table", "tokens.tsv", "--summary", "summary.tsv"]
    return [*given, *(folder / name if "." in name else name for name in outputs)]


@pytest.fixture
def train(run_tool: Run, tmp_path: Path) -> Train:
    """Return a function that trains on files and reads the outputs."""

    def call(sequences: list[Path], *more: object) -> Trained:
        code, out, error = run_tool("train_tokenizer", *options(tmp_path, *sequences), *more)
        assert (code, error) == (0, "")
        trained = Trained(tmp_path)
        assert f"bases per token: {trained.facts['bases_per_token']}" in out
        return trained

    return call


def fasta(path: Path, *records: str) -> Path:
    path.write_text("".join(f">{number}\n{bases}\n" for number, bases in enumerate(records)))
    return path


def random_bases(length: int, letters: str = "ACGT", seed: int = 0) -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


@pytest.mark.slow
def test_byte_pairs_with_nothing_but_data_chosen(train: Train) -> None:
    trained = train([ECOLI, HUMAN])
    assert sorted(trained.vocabulary.values()) == list(range(4096))
    assert list(trained.vocabulary)[:9] == [*SPECIAL_TOKENS, "A", "C", "G", "T"]
    assert SPECIAL_TOKENS == ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
    assert (trained.tokenizer.pad_id, trained.tokenizer.cls_id) == (3, 1)
    assert trained.facts["vocabulary"] == "4,096"
    assert trained.facts["sequence_becomes"] == "[CLS] … [SEP]"
    assert trained.tokens("ATT")[0] == "[CLS]"
    assert trained.tokens("ATT")[-1] == "[SEP]"


@pytest.mark.parametrize("size", [10, 64, 1_000])
def test_the_vocabulary_of_byte_pairs_has_the_size_asked_for(train: Train, size: int) -> None:
    assert len(train([TWO_GENOMES], "--vocabulary-size", size).vocabulary) == size


def test_byte_pairs_are_the_commonest_and_merge_the_commonest_pair_first(train: Train, tmp_path: Path) -> None:
    trained = train([fasta(tmp_path / "in.fasta", "GAGAGATC", "GAGA")], "--vocabulary-size", 11)
    assert trained.description["model"]["merges"] == [["G", "A"], ["GA", "GA"]]
    assert trained.tokens("GAGAGATCA") == ["[CLS]", "GAGA", "GA", "T", "C", "A", "[SEP]"]


@pytest.mark.slow
def test_an_n_is_one_unknown_token_across_which_no_byte_pair_reaches(train: Train) -> None:
    trained = train([ECOLI, HUMAN])
    left, right = random_bases(50, seed=1), random_bases(50, seed=2)
    around = [trained.tokens(piece)[1:-1] for piece in (left, right)]
    assert trained.tokens(f"{left}NN{right}")[1:-1] == [*around[0], "[UNK]", "[UNK]", *around[1]]


def test_repeats_make_no_token_longer_than_dnabert2s_longest(train: Train, tmp_path: Path) -> None:
    repeats = fasta(tmp_path / "in.fasta", "A" * 3_000, "CA" * 1_500, "GATTACA" * 400, random_bases(20_000))
    trained = train([repeats], "--vocabulary-size", 300)
    assert max(len(token) for token in trained.vocabulary if token not in SPECIAL_TOKENS) == 32
    assert trained.facts["longest_token"] == "32"


@pytest.mark.parametrize(
    ("kind", "k"), [(("kmer", "--k", 1), 1), (("kmer", "--k", 3), 3), (("kmer",), 6), (("letters",), 1)]
)
def test_kmers_and_letters_follow_the_rule_of_their_vocabulary(train: Train, kind: tuple[Any, ...], k: int) -> None:
    trained = train([MITOCHONDRION], "--kind", *kind)
    assert len(trained.vocabulary) == 5 + 4**k + (4 if k > 1 else 0) + 1
    assert list(trained.vocabulary)[:5] == list(SPECIAL_TOKENS)
    assert list(trained.vocabulary)[-5:] == [*"ACGTN"]
    assert (trained.tokenizer.pad_id, trained.tokenizer.cls_id) == (3, 1)
    by_rule = tokenizer_from_files({"vocab.txt": "\n".join(trained.vocabulary)})
    by_library = JsonTokenizer(trained.description, {})
    for seed in range(200):
        sequence = random_bases(seed % 70, "ACGT" * 4 + "N", seed)
        found, expected = (tokenizer.encode([sequence])[0] for tokenizer in (by_library, by_rule))
        assert found.ids.tolist() == expected.ids.tolist()
        assert found.starts.tolist() == expected.starts.tolist()
        assert found.ends.tolist() == expected.ends.tolist()


def test_kmers_do_not_depend_on_the_sequences(train: Train) -> None:
    assert train([ECOLI], "--kind", "kmer").bytes == train([HUMAN], "--kind", "kmer").bytes


@pytest.mark.parametrize("kind", [("bpe", "--vocabulary-size", 500), ("kmer", "--k", 4), ("letters",)])
def test_the_table_counts_what_the_tokenizer_makes_of_the_sequences(
    train: Train, tmp_path: Path, kind: tuple[Any, ...]
) -> None:
    sequences = [random_bases(700, "ACGT" * 20 + "N", seed) for seed in range(20)]
    trained = train([fasta(tmp_path / "in.fasta", *sequences)], "--kind", *kind)
    expected = Counter(token for sequence in sequences for token in trained.tokens(sequence))
    del expected["[CLS]"], expected["[SEP]"]
    assert {token: count for token, _, count, _ in trained.rows} == expected
    counts = [count for _, _, count, _ in trained.rows]
    assert counts == sorted(counts, reverse=True)
    assert all(length == (1 if token == "[UNK]" else len(token)) for token, length, _, _ in trained.rows)
    assert sum(length * count for _, length, count, _ in trained.rows) == 14_000
    assert [share for *_, share in trained.rows] == pytest.approx(np.array(counts) / sum(counts), rel=1e-5)
    n = expected.pop("N", 0) + expected.pop("[UNK]", 0)
    assert trained.facts["bases_per_token"] == f"{(14_000 - n) / expected.total():.4f}"
    assert (trained.facts["bases"], trained.facts["N"]) == ("14,000", f"{n:,}")


@pytest.mark.slow
@pytest.mark.parametrize("k", range(1, 9))
def test_kmers_of_a_long_sequence_are_counted_as_if_it_were_read_at_once(train: Train, tmp_path: Path, k: int) -> None:
    sequence = random_bases(170_003)
    trained = train([fasta(tmp_path / "in.fasta", sequence)], "--kind", "kmer", "--k", k)
    assert {token: count for token, _, count, _ in trained.rows} == Counter(trained.tokens(sequence)[1:])


def test_letters_that_were_changed_are_counted(train: Train, tmp_path: Path) -> None:
    facts = train([fasta(tmp_path / "in.fasta", "acgURYNN" + "ACGT" * 10)], "--kind", "letters").facts
    assert [facts[name] for name in ("bases", "N", "lower_case", "ambiguous", "uracil")] == ["48", "4", "3", "2", "1"]


def test_the_order_of_files_and_records_does_not_matter(train: Train, tmp_path: Path) -> None:
    with FastaReader(TWO_GENOMES) as reader:
        records = [record.bases for record in reader]
    first = fasta(tmp_path / "first.fasta", *records[:30])
    second = fasta(tmp_path / "second.fasta", *records[30:])
    turned = fasta(tmp_path / "turned.fasta", *records[::-1])
    trained = [train(paths, "--vocabulary-size", 900).bytes for paths in ([first, second], [second, first], [turned])]
    assert trained[0] == trained[1] == trained[2]


def test_byte_pairs_are_learnt_from_a_part_of_what_is_too_much_to_hold(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_training, "MOST_LEARNT", 30_000)
    facts = train([TWO_GENOMES], "--vocabulary-size", 500).facts
    assert (facts["bases_learnt_from"], facts["bases"]) == ("24,000", "48,000")


def test_it_needs_no_torch() -> None:
    """Its requirements in the form have none."""
    command = "import dnalm.tasks.tokenizer_training, sys; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    scripts = REPOSITORY / "tools" / "scripts"
    done = subprocess.run([sys.executable, "-c", command], cwd=scripts, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [("bpe", "--vocabulary-size", 300), ("kmer", "--k", 3), ("letters",)])
def test_a_model_is_imported_with_it_and_embeds(
    train: Train, run_tool: Run, tmp_path: Path, kind: tuple[Any, ...]
) -> None:
    trained = train([TWO_GENOMES], "--kind", *kind)
    config = transformers.BertConfig(
        vocab_size=len(trained.vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=1_000,
        pad_token_id=trained.vocabulary["[PAD]"],
    )
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    weights, tokenizer = tmp_path / "model.safetensors", tmp_path / "tokenizer.json"
    files = ("--config", tmp_path / "config.json", "--weights", weights, "--tokenizer-files", tokenizer)
    assert run_tool("import_model", *files, "--output", tmp_path / "imported")[0] == 0
    arguments = ("--sequences", TWO_GENOMES, "--model", tmp_path / "imported", "--output", tmp_path / "x.h5ad")
    code, out, error = run_tool("embed", *arguments, "--threads", 1)
    assert (code, error) == (0, "")
    assert "Embedded 80 sequences" in out


@pytest.mark.parametrize("kind", [("bpe", "--vocabulary-size", 300), ("kmer", "--k", 3), ("letters",)])
def test_hugging_faces_tokenizer_reads_it(train: Train, tmp_path: Path, kind: tuple[Any, ...]) -> None:
    trained = train([TWO_GENOMES], "--kind", *kind)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="[PAD]", mask_token="[MASK]", unk_token="[UNK]"
    )
    assert (tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 3, 4)
    assert tokenizer("ACGTACGTN").input_ids == trained.tokenizer.encode(["ACGTACGTN"])[0].ids.tolist()
    assert tokenizer.tokenize("ACG[MASK]T")[-2:] == ["[MASK]", "T"]
    assert {token["content"] for token in trained.description["added_tokens"]} == set(SPECIAL_TOKENS)


@pytest.mark.parametrize(
    ("content", "more", "sentence"),
    [
        (
            None,
            ("--vocabulary-size", 2_000),
            "support a vocabulary of 1,464 tokens, and 2,000 are asked for; ask for at most",
        ),
        (">a\nACGTTGCA\n", (), "support a vocabulary of 9 tokens, and 4,096 are asked for; give more sequences."),
        (None, ("--vocabulary-size", 9), "The vocabulary size is 9; use 10 to 65,536 tokens"),
        (None, ("--vocabulary-size", 65_537), "The vocabulary size is 65,537; use 10 to 65,536 tokens"),
        (None, ("--kind", "kmer", "--k", 0), "The k-mers have 0 bases; use 1 to 8."),
        (None, ("--kind", "kmer", "--k", 9), "The k-mers have 9 bases; use 1 to 8."),
        ("", (), "is empty; choose a FASTA file with at least one sequence"),
        (">a\nMAKELFIN\n", (), "looks like protein; use DNA sequences"),
        (">a\nNNNN\n>b\nRYN\n", (), "The sequences are letters N alone"),
        (">a\nNNNN\n", ("--kind", "kmer"), "The sequences are letters N alone"),
        (">a\nNNNN\n", ("--kind", "letters"), "The sequences are letters N alone"),
    ],
)
def test_what_cannot_be_used_gets_a_sentence_and_leaves_nothing(
    run_tool: Run, tmp_path: Path, content: str | None, more: tuple[object, ...], sentence: str
) -> None:
    sequences = TWO_GENOMES
    if content is not None:
        sequences = tmp_path / "in.fasta"
        sequences.write_text(content)
    (tmp_path / "results").mkdir()
    code, _, error = run_tool("train_tokenizer", *options(tmp_path / "results", sequences), *more)
    assert code == 1
    assert sentence in error
    assert error.count("\n") == 1
    assert list((tmp_path / "results").iterdir()) == []


def test_the_largest_vocabulary_that_is_told_can_be_had(run_tool: Run, train: Train, tmp_path: Path) -> None:
    _, _, error = run_tool("train_tokenizer", *options(tmp_path, TWO_GENOMES))
    (most,) = re.findall("ask for at most ([0-9,]+) or give more", error)
    size = int(most.replace(",", ""))
    assert len(train([TWO_GENOMES], "--vocabulary-size", size).vocabulary) == size


def test_an_input_is_not_overwritten(run_tool: Run, tmp_path: Path) -> None:
    sequences = fasta(tmp_path / "in.fasta", "ACGT" * 50)
    for option in ("--output", "--table", "--summary"):
        arguments = {"--output": tmp_path / "x"} | {option: sequences}
        code, _, error = run_tool(
            "train_tokenizer",
            "--sequences",
            TWO_GENOMES,
            "--sequences",
            sequences,
            "--kind",
            "letters",
            *sum(arguments.items(), ()),
        )
        assert code == 1
        assert "is also an input" in error
    assert sequences.read_text() == ">0\n" + "ACGT" * 50 + "\n"
    assert list(tmp_path.iterdir()) == [sequences]


def test_a_genome_with_many_n_is_learnt_from(train: Train, tmp_path: Path) -> None:
    """Pieces begin and end at every N."""
    bases = random_bases(30_000, "ACGT" * 10 + "N")
    trained = train([fasta(tmp_path / "in.fasta", bases)], "--vocabulary-size", 200)
    assert len(trained.vocabulary) == 200
    assert trained.facts["bases_learnt_from"] == f"{30_000 - bases.count('N'):,}"
