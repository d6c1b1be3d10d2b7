"""Answers of a served model are kept, whatever ends the job, and taken over from earlier files."""

import errno
import fcntl
import hashlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.formats import answer_journal
from dnalm.formats.answer_journal import FIRST_LINE, AnswerJournal, content_key
from dnalm.formats.embeddings_file import H5adWriter

KEYS = [content_key([name]) for name in "abc"]
VECTORS = np.array([[0.5, -1.25], [1e-30, 3e38], [0, 7]], dtype=np.float32)
LINE = b'{"key":"%s","tokens":4,"vector":"AACAPwAAAEA="}\n' % KEYS[0].encode()  # 1 and 2


def write(path: Path, numbers: range) -> Path:
    with AnswerJournal(path) as journal:
        for number in numbers:
            journal.add(KEYS[number], VECTORS[number], number + 3)
    return path


def write_embeddings(path: Path) -> Path:
    with H5adWriter(path) as writer:
        writer.append({"id": list("abc"), "key": KEYS, "n_tokens": [3, 4, 5]}, VECTORS)
        writer.finish({})
    return path


def answers(journal: AnswerJournal) -> list[tuple[list[float], int]]:
    found = [journal.read(key) for key in KEYS if key in journal]
    return [(vector.tolist(), tokens) for vector, tokens in found]


EXPECTED = [(vector.tolist(), number + 3) for number, vector in enumerate(VECTORS)]


def test_a_key_is_of_everything_that_was_asked() -> None:
    assert content_key(["a", "b"]) == hashlib.sha256(b'["a", "b"]').hexdigest()
    keys = {content_key(parts) for parts in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], ['a", "b'])}
    assert len(keys) == 5


def test_an_answer_is_in_the_file_when_it_was_added(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path / "j") as journal:
        journal.add(KEYS[0], np.array([1, 2], dtype=np.float64), 4)
        assert (tmp_path / "j").read_bytes() == FIRST_LINE + LINE
        journal.add(KEYS[1], VECTORS[1], 9)
        vector, tokens = journal.read(KEYS[0])
        assert (vector.tolist(), tokens, vector.dtype) == ([1, 2], 4, np.float32)
        assert KEYS[1] in journal
        assert KEYS[2] not in journal


def test_a_later_job_adds_to_what_an_earlier_one_left(tmp_path: Path) -> None:
    write(tmp_path / "j", range(2))
    with AnswerJournal(tmp_path / "j") as journal:
        assert journal.earlier == 2
        assert answers(journal) == EXPECTED[:2]
        journal.add(KEYS[2], VECTORS[2], 5)
        assert answers(journal) == EXPECTED
    with AnswerJournal(tmp_path / "j") as journal:
        assert (journal.earlier, answers(journal)) == (3, EXPECTED)


@pytest.mark.parametrize("cut", [1, 5, 80])
def test_a_line_that_was_cut_is_written_again(tmp_path: Path, cut: int) -> None:
    whole = write(tmp_path / "j", range(3)).read_bytes()
    (tmp_path / "j").write_bytes(whole[:-cut])
    with AnswerJournal(tmp_path / "j") as journal:
        assert (journal.earlier, KEYS[2] in journal) == (2, False)
        journal.add(KEYS[2], VECTORS[2], 5)
    assert (tmp_path / "j").read_bytes() == whole


@pytest.mark.parametrize("content", [b"", FIRST_LINE[:-1], FIRST_LINE, FIRST_LINE + LINE[:-1]])
def test_a_journal_without_an_answer_is_removed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    with AnswerJournal(tmp_path / "j") as journal:
        assert journal.earlier == 0
        assert (tmp_path / "j").read_bytes() == FIRST_LINE
    assert not (tmp_path / "j").exists()


def test_an_error_leaves_the_answers(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), AnswerJournal(tmp_path / "j") as journal:
        journal.add(KEYS[0], VECTORS[0], 3)
        raise ZeroDivisionError
    with AnswerJournal(tmp_path / "j") as journal:
        assert answers(journal) == EXPECTED[:1]


def test_another_file_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"precious\n")
    with pytest.raises(UserError, match="'j' is no journal of answers; give what an earlier job left"):
        AnswerJournal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == b"precious\n"


@pytest.mark.parametrize("content", [b"precious", b'{"dnalm_journal":2}', b'{"dnalm_journal":1} '])
def test_another_file_without_a_line_end_is_never_written_to(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(UserError, match="'j' is no journal of answers"):
        AnswerJournal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == content


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_what_is_not_a_regular_file_is_no_journal(tmp_path: Path, kind: str) -> None:
    path = Path(os.devnull) if kind == "device" else tmp_path / "j"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(UserError, match=r"The journal '.*' (is not a regular file|cannot be opened)"):
        AnswerJournal(path)
    with (
        AnswerJournal(tmp_path / "new") as journal,
        pytest.raises(UserError, match=r"is not a regular file\. Give a file of embeddings"),
    ):
        journal.take_over(path)
    assert path.exists()


def test_a_journal_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing/j' cannot be opened \(No such file or directory\); give another"):
        AnswerJournal(tmp_path / "missing" / "j")


def test_a_journal_has_one_run_at_a_time(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path / "j") as journal:
        with pytest.raises(UserError, match=r"Another run uses the journal '.*/j'; wait until it has ended"):
            AnswerJournal(tmp_path / "j")
        journal.add(KEYS[0], VECTORS[0], 3)
    with AnswerJournal(tmp_path / "j") as journal:
        assert answers(journal) == EXPECTED[:1]


def test_a_discarded_journal_is_removed_while_it_is_locked(tmp_path: Path) -> None:
    """Another run that waits for the lock then makes a new file, and is not left with one that has no name."""
    path = tmp_path / "j"
    first = AnswerJournal(path)
    first.add(KEYS[0], VECTORS[0], 3)
    first.discard()
    assert path.exists()
    with first:
        pass
    assert not path.exists()


def test_a_journal_that_its_run_removes_while_it_is_opened_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock
    removed: list[Path] = []

    def late(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(tmp_path / "j")
            removed[0].unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with AnswerJournal(tmp_path / "j") as journal:
        journal.add(KEYS[0], VECTORS[0], 3)
    assert removed
    with AnswerJournal(tmp_path / "j") as journal:
        assert answers(journal) == EXPECTED[:1]


def test_without_locks_two_runs_read_their_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with AnswerJournal(tmp_path / "j") as one:
        with AnswerJournal(tmp_path / "j") as other:
            for number in range(50):
                for which, journal in enumerate((one, other)):
                    vector = np.full(number % 7 + 1, number, dtype=np.float32)
                    journal.add(content_key([str(which), str(number)]), vector, which)
            for number in range(50):
                for which, journal in enumerate((one, other)):
                    found, tokens = journal.read(content_key([str(which), str(number)]))
                    assert (found.tolist(), tokens) == ([number] * (number % 7 + 1), which)
        assert (tmp_path / "j").exists()  # though that run ended first
    with AnswerJournal(tmp_path / "j") as journal:
        assert journal.earlier == 100


def test_an_answer_to_another_key_is_never_read(tmp_path: Path) -> None:
    """As where another run has written anew what a place was taken of."""
    with AnswerJournal(tmp_path / "j") as journal:
        journal.add(KEYS[0], VECTORS[0], 3)
        (tmp_path / "j").write_bytes((tmp_path / "j").read_bytes().replace(KEYS[0].encode(), KEYS[1].encode()))
        with pytest.raises(UserError, match="Another run changed the journal 'j' while this one used it; start this"):
            journal.read(KEYS[0])


def test_long_answers_are_read_whole(tmp_path: Path) -> None:
    vector = np.random.default_rng(0).random(70_000).astype(np.float32)
    with AnswerJournal(tmp_path / "j") as journal:
        for key in KEYS:
            journal.add(key, vector, 1)
        for key in KEYS:
            np.testing.assert_array_equal(journal.read(key)[0], vector)


def test_a_line_without_an_end_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_journal, "MOST_LINE", 1_000)
    (tmp_path / "j").write_bytes(FIRST_LINE + b"x" * 5_000)
    with pytest.raises(UserError, match="The journal 'j' is damaged"):
        AnswerJournal(tmp_path / "j")
    with AnswerJournal(tmp_path / "new") as journal, pytest.raises(UserError, match="The journal 'j' is damaged"):
        journal.take_over(tmp_path / "j")


DAMAGED = {
    "no JSON": b"{\n",
    "no object": b"[1]\n",
    "not UTF-8": b'{"key":"\xff"}\n',
    "deep": b"[" * 100_000 + b"\n",
    "no vector": LINE.replace(b"vector", b"answer"),
    "short key": LINE.replace(KEYS[0].encode(), b"00"),
    "blanks in the key": LINE.replace(KEYS[0].encode(), bytes.fromhex(KEYS[0]).hex(" ").encode()),
    "no hexadecimal": LINE.replace(KEYS[0].encode(), b"g" * 64),
    "no whole number": LINE.replace(b":4,", b":4.5,"),
    "true": LINE.replace(b":4,", b":true,"),
    "no base64": LINE.replace(b"AACAPw", b"AACA!Pw"),
    "half a number": LINE.replace(b"AACAPwAAAEA=", b"AACAPwA="),
    "no number": LINE.replace(b"AACAPwAAAEA=", b""),
    "infinite": LINE.replace(b"AACAPwAAAEA=", b"AACAfw=="),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_journal_is_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / "j").write_bytes(FIRST_LINE + DAMAGED[case])
    with pytest.raises(UserError, match="The journal 'j' is damaged; leave it out, and all is asked again"):
        AnswerJournal(tmp_path / "j")
    with (
        AnswerJournal(tmp_path / "new") as journal,
        pytest.raises(UserError, match="The journal 'j' is damaged; leave it out"),
    ):
        journal.take_over(tmp_path / "j")


@pytest.mark.parametrize("rows", [2, 4_096])
def test_answers_are_taken_over_from_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(answer_journal, "ROWS", rows)
    with AnswerJournal(tmp_path / "j") as journal:
        journal.take_over(write_embeddings(tmp_path / "e.h5ad"))
        assert (journal.earlier, answers(journal)) == (3, EXPECTED)


def test_answers_are_taken_over_from_a_journal_that_was_cut(tmp_path: Path) -> None:
    earlier = write(tmp_path / "earlier", range(3))
    earlier.write_bytes(earlier.read_bytes()[:-4])
    with AnswerJournal(tmp_path / "j") as journal:
        journal.take_over(earlier)
        assert (journal.earlier, answers(journal)) == (2, EXPECTED[:2])


def test_answers_that_are_there_already_are_not_replaced(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path / "earlier") as journal:
        journal.add(KEYS[0], VECTORS[2], 99)
        journal.add(KEYS[1], VECTORS[1], 4)
    write(tmp_path / "j", range(1))
    with AnswerJournal(tmp_path / "j") as journal:
        journal.take_over(tmp_path / "earlier")
        assert (journal.earlier, answers(journal)) == (2, EXPECTED[:2])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "'earlier' is empty; give embeddings or a journal"),
        (b"id\tvector\n", r"'earlier' is neither embeddings \(h5ad\) nor a journal of this tool"),
        (b"\x89HDF and nothing more", "'earlier' is a damaged HDF5 file. Make or upload it again"),
    ],
)
def test_other_files_are_not_taken_over(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "earlier").write_bytes(content)
    with AnswerJournal(tmp_path / "j") as journal, pytest.raises(UserError, match=sentence):
        journal.take_over(tmp_path / "earlier")


@pytest.mark.slow
@pytest.mark.parametrize("change", ["no key", "other keys", "keys with blanks", "NaN"])
def test_embeddings_of_other_tools_are_not_taken_over(tmp_path: Path, change: str) -> None:
    with h5py.File(write_embeddings(tmp_path / "e.h5ad"), "r+") as file:
        if change == "NaN":
            file["X"][1, 0] = np.nan
        else:
            del file["obs/key"]
            if change == "other keys":
                file["obs/key"] = ["a", "b", "c"]
            elif change == "keys with blanks":
                file["obs/key"] = [" ".join(key[at : at + 2] for at in range(0, 64, 2)) for key in KEYS]
    with (
        AnswerJournal(tmp_path / "j") as journal,
        pytest.raises(UserError, match=r"'e.h5ad' holds no embeddings that this tool made; give such, or its journal"),
    ):
        journal.take_over(tmp_path / "e.h5ad")


def test_embeddings_that_point_to_another_file_are_refused(tmp_path: Path) -> None:
    with h5py.File(write_embeddings(tmp_path / "e.h5ad"), "r+") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/X")
    with (
        AnswerJournal(tmp_path / "j") as journal,
        pytest.raises(UserError, match=r"'e.h5ad' has 'elsewhere' in another file, which is never read"),
    ):
        journal.take_over(tmp_path / "e.h5ad")


def test_lines_are_json_that_others_can_read(tmp_path: Path) -> None:
    first, line, _ = write(tmp_path / "j", range(1)).read_bytes().split(b"\n")
    assert json.loads(first) == {"dnalm_journal": 1}
    assert json.loads(line) == {"key": KEYS[0], "tokens": 3, "vector": "AAAAPwAAoL8="}
