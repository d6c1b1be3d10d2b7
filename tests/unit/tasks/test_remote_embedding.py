"""What a biologist gets who embeds with a served model, and what leaves the machine for it."""

import base64
import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.engine import asking
from dnalm.engine.asking import IN_FLIGHT, SEQUENCES
from dnalm.formats.answer_journal import AnswerJournal
from dnalm.formats.fasta import FastaReader
from dnalm.tasks import remote_embedding
from endpoint import EndpointServer, Fault, error, pooled_vector, token_vectors

WINDOWS = TEST_DATA / "two_genomes.fasta"
SCRIPT = REPOSITORY / "scripts" / "dnalm_remote_embed.py"
TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz"
Embedded = Callable[..., anndata.AnnData]


def fasta(path: Path, *records: tuple[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in records))
    return path


@pytest.fixture
def embedded(run_remote: Run, endpoint: EndpointServer, tmp_path: Path) -> Embedded:
    """Embed a FASTA file with the endpoint and return the file."""

    def call(sequences: Path, *options: object, kind: str = "pooled") -> anndata.AnnData:
        output = tmp_path / "out.h5ad"
        url = f"{endpoint.url}/{kind}"
        code, _, problem = run_remote(
            "--sequences", sequences, "--endpoint", url, "--consent", "--output", output, *options
        )
        assert (code, problem) == (0, "")
        return anndata.read_h5ad(output)

    return call


def bases_of(path: Path) -> list[str]:
    with FastaReader(path) as reader:
        return [record.bases for record in reader]


def test_vectors_that_the_server_pools_are_taken_as_they_are(embedded: Embedded) -> None:
    found = embedded(WINDOWS)
    wanted = np.array([pooled_vector(bases) for bases in bases_of(WINDOWS)], dtype=np.float32)
    np.testing.assert_array_equal(found.X, wanted)
    assert (found.obs["n_tokens"] == 0).all()
    assert json.loads(found.uns["dnalm"])["model"]["pooled_by"] == "the server"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tokens", "pipeline"])
@pytest.mark.parametrize("pooling", ["mean", "max", "min", "cls", "last"])
def test_one_vector_a_token_is_pooled_here(embedded: Embedded, tmp_path: Path, kind: str, pooling: str) -> None:
    sequences = fasta(tmp_path / "in.fa", ("a", "ACGTTGCAA"), ("b", "ACGTT"), ("c", "A"))
    found = embedded(sequences, "--pooling", pooling, "--special-first", 1, kind=kind)
    for bases, vector, count in zip(bases_of(sequences), found.X, found.obs["n_tokens"], strict=True):
        tokens = np.array(token_vectors(bases))
        own = tokens[1:]
        wanted = {"mean": own.mean(0), "max": own.max(0), "min": own.min(0), "cls": tokens[0], "last": own[-1]}[pooling]
        np.testing.assert_allclose(vector, wanted, rtol=1e-6)
        assert count == len(tokens)
    assert json.loads(found.uns["dnalm"])["model"]["pooled_by"] == "dnalm_remote_embed"


@pytest.mark.slow
def test_the_file_is_as_the_local_tools(embedded: Embedded, run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    remote = embedded(WINDOWS, "--summary", tmp_path / "remote.tsv")
    outputs = ("--output", tmp_path / "local.h5ad", "--summary", tmp_path / "local.tsv")
    assert run_tool("embed", "--sequences", WINDOWS, "--model", random_model, *outputs)[0] == 0
    local = anndata.read_h5ad(tmp_path / "local.h5ad")
    assert remote.obs.columns.tolist() == [*local.obs.columns, "key"]
    assert remote.obs_names.tolist() == local.obs_names.tolist()
    same = ["status", "length", "n_windows", "truncated", "lower_case", "ambiguous", "uracil"]
    assert remote.obs[same].equals(local.obs[same])
    headers = [(tmp_path / f"{where}.tsv").read_text().splitlines()[0] for where in ("remote", "local")]
    assert headers[0] == headers[1]


def test_letters_are_normalised_before_they_are_sent(
    embedded: Embedded, endpoint: EndpointServer, tmp_path: Path
) -> None:
    embedded(fasta(tmp_path / "in.fa", ("a", "acgtRYu"), ("b", "ACGTNNT")))
    assert endpoint.sequences() == ["ACGTNNT"]


def test_equal_sequences_are_asked_once(
    embedded: Embedded, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(remote_embedding, "BUFFER_RECORDS", 3)  # over all buffers
    names = ["a", "b", "a", "c", "d", "e", "f"]
    sequences = fasta(tmp_path / "in.fa", *((name, "ACGT" if name in "ace" else f"TT{name and 'G'}") for name in names))
    found = embedded(sequences)
    assert sorted(endpoint.sequences()) == ["ACGT", "TTG"]
    assert found.obs_names.tolist() == names
    np.testing.assert_array_equal(found.X[0], found.X[3])


@pytest.mark.slow
def test_order_and_numbers_do_not_depend_on_buffers_and_requests(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embedded(WINDOWS)
    for name, module, value in (
        ("BUFFER_RECORDS", remote_embedding, 7),
        ("SEQUENCES", asking, 3),
        ("BASES", asking, 700),
    ):
        monkeypatch.setattr(module, name, value)
        found = embedded(WINDOWS)
        assert found.obs_names.tolist() == whole.obs_names.tolist()
        np.testing.assert_array_equal(found.X, whole.X)


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(run_remote: Run, endpoint: EndpointServer, tmp_path: Path) -> None:
    for name in ("first", "second"):
        outputs = ("--output", tmp_path / f"{name}.h5ad", "--summary", tmp_path / f"{name}.tsv")
        where = ("--endpoint", f"{endpoint.url}/tokens", "--consent")
        assert run_remote("--sequences", WINDOWS, *where, *outputs, "--failed", tmp_path / f"{name}.failed")[0] == 0
    for suffix in ("h5ad", "tsv", "failed"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()
    assert (tmp_path / "first.failed").read_text() == "id\tlength\tstatus\treason\n"
    assert {path.suffix for path in tmp_path.iterdir()} == {".h5ad", ".tsv", ".failed"}  # no journal is left


@pytest.mark.slow
def test_what_a_server_pools_is_sent_many_at_once_and_few_requests_at_a_time(
    embedded: Embedded, endpoint: EndpointServer
) -> None:
    endpoint.seconds = 0.05
    embedded(WINDOWS)
    sizes = [len(asked.sequences) for asked in endpoint.asked]
    assert sizes[0] == 1
    assert sorted(sizes[1:]) == sorted([SEQUENCES] * (79 // SEQUENCES) + [79 % SEQUENCES])
    assert endpoint.most_in_flight <= IN_FLIGHT
    endpoint.asked.clear()
    embedded(WINDOWS, "--pooling", "max", kind="tokens")
    assert {len(asked.sequences) for asked in endpoint.asked} == {1}
    assert endpoint.most_in_flight == IN_FLIGHT


@pytest.mark.slow
def test_a_request_has_a_bounded_number_of_bases(
    embedded: Embedded, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "BASES", 2_000)
    embedded(WINDOWS)
    assert {len(asked.sequences) for asked in endpoint.asked} == {1, 3}


# Consent, counting and bounds


def test_nothing_is_sent_without_consent(run_remote: Run, endpoint: EndpointServer, tmp_path: Path) -> None:
    arguments = ("--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/pooled", "--output", tmp_path / "out")
    code, _, problem = run_remote(*arguments)
    assert code == 1
    assert "The sequences would leave this server for 127.0.0.1:" in problem
    assert endpoint.asked == []
    assert not list(tmp_path.iterdir())


def test_it_says_what_will_be_sent_and_that_nothing_holds_the_model(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path
) -> None:
    sequences = fasta(tmp_path / "in.fa", ("a", "ACGT"), ("b", "ACGT"), ("c", "TTT"))
    arguments = ("--sequences", sequences, "--endpoint", f"{endpoint.url}/pooled?code=secret", "--consent")
    code, said, _ = run_remote(*arguments, "--endpoint-name", "Our server", "--output", tmp_path / "out")
    assert code == 0
    assert "To send: 2 sequences of 3 (2 distinct) with 11 bases in all; 4 requests at once" in said
    assert "A served model has no fixed revision" in said
    assert f"Endpoint: Our server, {endpoint.url}/pooled, on 20" in said
    facts = json.loads(anndata.read_h5ad(tmp_path / "out").uns["dnalm"])
    assert facts["model"] == {
        "name": "Our server",
        "served_at": f"{endpoint.url}/pooled",
        "revision": None,
        "pooled_by": "the server",
    }
    assert "secret" not in said + json.dumps(facts)


def test_too_many_requests_are_refused_before_any_is_sent(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path
) -> None:
    arguments = (
        "--sequences",
        WINDOWS,
        "--endpoint",
        f"{endpoint.url}/pooled",
        "--consent",
        "--output",
        tmp_path / "out",
    )
    code, _, problem = run_remote(*arguments, "--max-requests", 4)
    assert code == 1
    assert "80 sequences would take 5 requests at least, and 4 are allowed" in problem
    assert endpoint.asked == []
    assert not list(tmp_path.iterdir())


def test_the_first_answer_shows_whether_there_will_be_too_many(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path
) -> None:
    arguments = (
        "--sequences",
        WINDOWS,
        "--endpoint",
        f"{endpoint.url}/tokens",
        "--consent",
        "--output",
        tmp_path / "out",
    )
    code, _, problem = run_remote(*arguments, "--max-requests", 20)
    assert code == 1
    assert "80 sequences would take 80 requests, one for each since the server sends one vector a token" in problem
    assert len(endpoint.asked) == 1
    assert not (tmp_path / "out").exists()


def test_requests_that_are_tried_again_count(run_remote: Run, endpoint: EndpointServer, tmp_path: Path) -> None:
    endpoint.fault_of = lambda sequences: error(500) if len(endpoint.asked) % 2 else None
    arguments = (
        "--sequences",
        WINDOWS,
        "--endpoint",
        f"{endpoint.url}/pooled",
        "--consent",
        "--output",
        tmp_path / "out",
    )
    code, said, _ = run_remote(*arguments, "--max-requests", 6, "--failed", tmp_path / "failed")
    assert code == 0
    assert len(endpoint.asked) == 6
    assert "Ended early: the 6 requests that are allowed are used up" in said
    table = pd.read_csv(tmp_path / "failed", sep="\t")
    assert set(table["status"]) == {"not_asked"}
    assert len(table) + anndata.read_h5ad(tmp_path / "out").n_obs == 80


def test_longer_sequences_than_the_endpoint_reads_are_not_sent(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path
) -> None:
    sequences = fasta(tmp_path / "in.fa", ("long", "ACGT" * 5), ("short", "ACGT"), ("long too", "ACGT" * 6))
    arguments = ("--sequences", sequences, "--endpoint", f"{endpoint.url}/pooled", "--consent", "--max-bases", 10)
    outputs = ("--output", tmp_path / "out", "--failed", tmp_path / "failed", "--summary", tmp_path / "summary")
    code, said, _ = run_remote(*arguments, *outputs)
    assert code == 0
    assert endpoint.sequences() == ["ACGT"]
    assert (tmp_path / "failed").read_text().splitlines()[1:] == [
        "long\t20\ttoo_long\tthe endpoint reads at most 10 bases",
        "long\t24\ttoo_long\tthe endpoint reads at most 10 bases",
    ]
    assert pd.read_csv(tmp_path / "summary", sep="\t")["status"].tolist() == ["too_long", "ok", "too_long"]
    assert anndata.read_h5ad(tmp_path / "out").obs_names.tolist() == ["short"]
    assert "Warning: sequences without an embedding: 2 (2 too_long)" in said


# The token


@pytest.mark.slow
def test_the_token_is_sent_where_it_belongs_and_nowhere_else(
    run_remote: Run, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    endpoint.tokens = {TOKEN}
    arguments = (
        "--sequences",
        WINDOWS,
        "--endpoint",
        f"{endpoint.url}/pooled",
        "--consent",
        "--output",
        tmp_path / "out",
    )
    assert "'127.0.0.1:" in (problem := run_remote(*arguments)[2])
    assert "needs a token (401); set the credentials" in problem
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "refuses the token (401)" in run_remote(*arguments)[2]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    code, said, problem = run_remote(*arguments)
    assert (code, problem) == (0, "")
    assert "HF_TOKEN" not in os.environ
    assert {asked.token for asked in endpoint.asked} == {None, "hf_wrong", TOKEN}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    endpoint.asked.clear()
    endpoint.tokens = None
    assert run_remote(*arguments, "--authorization", "none")[0] == 0
    assert {asked.token for asked in endpoint.asked} == {None}
    assert TOKEN not in said


def test_a_token_of_the_machine_is_not_used(
    embedded: Embedded, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    (tmp_path / "token").write_text("hf_of_somebody_else")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    embedded(WINDOWS)
    assert {asked.token for asked in endpoint.asked} == {None}


def forms_of(token: str) -> list[bytes]:
    encoded = base64.b64encode(token.encode()).decode()
    return [token.encode(), encoded.rstrip("=").encode()]


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 413, 422, 424, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("after", [0, 3])
def test_a_server_that_tells_everything_it_was_sent_does_not_tell_the_token(
    endpoint: EndpointServer, tmp_path: Path, status: int, after: int
) -> None:
    """In a process of its own: outputs, both streams and every file that it leaves are searched."""
    echoed = {"error": f"Authorization: Bearer {TOKEN} {forms_of(TOKEN)[1].decode()}"}
    fault = Fault(
        status, json.dumps(echoed).encode(), {"X-Error-Message": TOKEN, "X-Request-Id": TOKEN, "Retry-After": "0"}
    )
    endpoint.fault_of = lambda sequences: fault if len(endpoint.asked) > after else None
    sequences = fasta(tmp_path / "in.fa", *((f"s{number}", "ACG" * (number + 1)) for number in range(80)))
    outputs = [part for name in ("output", "summary", "failed", "timing") for part in (f"--{name}", tmp_path / name)]
    arguments = ["--sequences", sequences, "--endpoint", f"{endpoint.url}/pooled", "--consent", *outputs]
    environment = {"HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"), "HF_DEBUG": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == (0 if after else 1)
    assert b"Traceback" not in done.stderr
    assert any(asked.token == TOKEN for asked in endpoint.asked)
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for form in forms_of(TOKEN):
        assert form not in done.stdout + done.stderr
        assert [path for path, content in written.items() if form in content] == []
    if status in (400, 413, 422) and after:
        reasons = [line.split(b"\t")[3] for line in (tmp_path / "failed").read_bytes().splitlines()[1:]]
        assert set(reasons) == {b"the server answers %d" % status}  # none of its words


# What is told again


@pytest.mark.slow
@pytest.mark.parametrize("part", ["embeddings", "journal"])
def test_a_job_that_ended_early_is_gone_on_with_from_what_it_left(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path, part: str
) -> None:
    where = ("--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/pooled", "--consent")
    first, journal = tmp_path / "first.h5ad", tmp_path / "answers.journal"
    endpoint.fault_of = lambda sequences: error(402) if len(endpoint.asked) > 3 else None
    code, said, _ = run_remote(*where, "--output", first, "--failed", tmp_path / "failed", "--journal", journal)
    assert code == 0
    assert "credit of the token's owner" in said
    asked_before = set(endpoint.sequences()[: 1 + 2 * SEQUENCES])
    done = anndata.read_h5ad(first)
    failed = pd.read_csv(tmp_path / "failed", sep="\t")
    assert done.n_obs + len(failed) == 80
    assert set(failed["status"]) == {"not_asked"}
    endpoint.fault_of = lambda sequences: None
    endpoint.asked.clear()
    earlier = first if part == "embeddings" else journal
    code, said, _ = run_remote(*where, "--output", tmp_path / "whole.h5ad", "--resume-from", earlier)
    assert code == 0
    assert f"Answers of an earlier job: {done.n_obs}" in said
    assert len(endpoint.sequences()) == len(failed)
    assert done.n_obs == len(asked_before)
    assert not asked_before & set(endpoint.sequences())
    whole = anndata.read_h5ad(tmp_path / "whole.h5ad")
    wanted = np.array([pooled_vector(bases) for bases in bases_of(WINDOWS)], dtype=np.float32)
    np.testing.assert_array_equal(whole.X, wanted)


def test_a_second_run_with_one_journal_is_refused_before_anything_is_sent(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path
) -> None:
    where = ("--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/pooled", "--consent", "--output", tmp_path / "out")
    with AnswerJournal(tmp_path / ".out.journal"):
        code, _, problem = run_remote(*where)
    assert code == 1
    assert f"Another run uses the journal '{tmp_path / '.out.journal'}'; wait until it has ended" in problem
    assert endpoint.asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--output", "--failed", "--sequences"])
def test_a_journal_that_is_an_output_or_the_input_is_refused(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path, option: str
) -> None:
    sequences = fasta(tmp_path / "in.fa", ("a", "ACGT"))
    named = {"--sequences": sequences, "--output": tmp_path / "out", "--failed": tmp_path / "failed"}
    where = [part for pair in named.items() for part in pair]
    code, _, problem = run_remote(
        *where, "--endpoint", f"{endpoint.url}/pooled", "--consent", "--journal", named[option]
    )
    assert (code, endpoint.asked) == (1, [])
    assert f"The journal '{named[option]}' is also an output or the input; give it another name." in problem
    assert list(tmp_path.iterdir()) == [sequences]


def test_answers_are_kept_until_the_outputs_have_their_names(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def full_disk(*arguments: object) -> Iterator[list[Path]]:
        yield [tmp_path / "partial"]
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(remote_embedding, "whole_or_nothing", full_disk)
    where = ("--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/pooled", "--consent", "--output", tmp_path / "out")
    code, _, problem = run_remote(*where)
    assert code == 1
    assert "The disk is full" in problem
    with AnswerJournal(tmp_path / ".out.journal") as journal:
        assert journal.earlier == 80


@pytest.mark.slow
def test_answers_of_another_endpoint_or_pooling_are_not_taken(
    embedded: Embedded, endpoint: EndpointServer, tmp_path: Path
) -> None:
    embedded(WINDOWS, kind="tokens")
    (tmp_path / "out.h5ad").rename(tmp_path / "earlier.h5ad")
    for options, kind in ((("--pooling", "max"), "tokens"), (("--special-first", 1), "tokens"), ((), "pipeline")):
        endpoint.asked.clear()
        embedded(WINDOWS, "--resume-from", tmp_path / "earlier.h5ad", *options, kind=kind)
        assert len(endpoint.asked) == 80
    endpoint.asked.clear()
    embedded(WINDOWS, "--resume-from", tmp_path / "earlier.h5ad", kind="tokens")
    assert endpoint.asked == []


def started(endpoint: EndpointServer, folder: Path, *options: object) -> "subprocess.Popen[str]":
    """Start a job with a slow server and return when it has some answers."""
    endpoint.seconds = 0.15
    arguments = ["--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/tokens", "--consent", *options]
    arguments += ["--output", folder / "out.h5ad", "--failed", folder / "failed"]
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    job = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(endpoint.asked) < 12:
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return job


@pytest.mark.slow
def test_a_killed_job_goes_on_without_asking_twice(endpoint: EndpointServer, tmp_path: Path) -> None:
    job = started(endpoint, tmp_path)
    job.kill()
    job.communicate(timeout=60)
    assert not (tmp_path / "out.h5ad").exists()
    journal = tmp_path / ".out.h5ad.journal"
    journal.write_bytes(journal.read_bytes() + b'{"key":"cut in the mid')
    with AnswerJournal(journal) as kept:
        answered = kept.earlier
    assert answered >= 12 - 1 - IN_FLIGHT
    before = len(endpoint.sequences())
    endpoint.seconds = 0
    again = started_again(endpoint, tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"Answers of an earlier job: {answered}" in again.stdout
    assert len(endpoint.sequences()) - before == 80 - answered
    assert anndata.read_h5ad(tmp_path / "out.h5ad").n_obs == 80
    assert not journal.exists()


def started_again(endpoint: EndpointServer, folder: Path) -> "subprocess.CompletedProcess[str]":
    arguments = ["--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/tokens", "--consent"]
    arguments += ["--output", folder / "out.h5ad", "--failed", folder / "failed"]
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], text=True, capture_output=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_told_to_end_keeps_what_it_has(
    endpoint: EndpointServer, tmp_path: Path, sent: signal.Signals
) -> None:
    job = started(endpoint, tmp_path)
    job.send_signal(sent)
    said, problem = job.communicate(timeout=60)
    assert (job.returncode, problem) == (0, "")
    assert "Ended early: the job was told to end" in said
    done, failed = anndata.read_h5ad(tmp_path / "out.h5ad"), pd.read_csv(tmp_path / "failed", sep="\t")
    assert done.n_obs + len(failed) == 80
    assert done.n_obs >= 8
    assert set(failed["status"]) == {"not_asked"}
    assert len(endpoint.asked) < 80


# Times


@pytest.mark.slow
def test_times_are_told_side_by_side(
    run_remote: Run, endpoint: EndpointServer, random_model: Path, tmp_path: Path
) -> None:
    where = ("--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/pooled", "--consent", "--output", tmp_path / "out")
    endpoint.seconds = 0.1
    code, said, _ = run_remote(*where, "--timing", tmp_path / "times", "--model", random_model, "--threads", 1)
    assert code == 0
    table = pd.read_csv(tmp_path / "times", sep="\t")
    assert table["where"].tolist() == ["remote", "local"]
    assert table["sequences"].tolist() == [80, 64]
    assert table["requests"].tolist() == [6, 0]
    assert (table["seconds_per_sequence"] - table["seconds"] / table["sequences"]).abs().max() < 1e-4
    assert 0.3 < table["seconds"][0] < 60
    assert "The local model has 64 dimensions, the served one 5" in said
    assert run_remote(*where, "--timing", tmp_path / "times")[0] == 0
    assert pd.read_csv(tmp_path / "times", sep="\t")["where"].tolist() == ["remote"]


@pytest.mark.slow
def test_a_local_copy_of_the_served_model_is_seen_to_be_one(
    run_remote: Run, run_tool: Run, endpoint: EndpointServer, random_model: Path, tmp_path: Path
) -> None:
    assert (
        run_tool("embed", "--sequences", WINDOWS, "--model", random_model, "--output", tmp_path / "local.h5ad")[0] == 0
    )
    local = dict(zip(bases_of(WINDOWS), anndata.read_h5ad(tmp_path / "local.h5ad").X.tolist(), strict=True))
    endpoint.fault_of = lambda sequences: Fault(200, json.dumps([local[bases] for bases in sequences]).encode())
    where = ("--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/pooled", "--consent", "--output", tmp_path / "out")
    code, said, _ = run_remote(*where, "--timing", tmp_path / "times", "--model", random_model)
    assert code == 0
    (cosine,) = re.findall(r"Cosine of remote and local vectors: at least ([0-9.]+) on 64 sequences", said)
    assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_a_pooling_that_the_server_does_by_itself_is_warned_of(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path
) -> None:
    where = ("--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/pooled", "--consent", "--output", tmp_path / "out")
    code, said, _ = run_remote(*where, "--pooling", "max")
    assert code == 0
    assert "Warning: the server pools by itself; its vectors are taken as they are, not by max" in said


def without(modules: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the tool where some modules cannot be imported."""
    program = f"import runpy, sys; sys.modules.update(dict.fromkeys({modules!r}.split())); sys.argv = sys.argv[1:]\n"
    program += "sys.path.insert(0, sys.argv[0].rpartition('/')[0]); runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", program, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False
    )


OF_OTHER_TOOLS = (
    "pandas anndata scipy sklearn matplotlib pyarrow umap onnx onnxscript onnxruntime peft accelerate pyBigWig joblib"
)


@pytest.mark.slow
def test_pooled_answers_need_no_libraries_of_models(endpoint: EndpointServer, tmp_path: Path) -> None:
    where = ("--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/pooled", "--consent", "--output", tmp_path / "out")
    done = without(f"torch transformers tokenizers {OF_OTHER_TOOLS}", *where)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_it_needs_no_more_than_its_requirements(endpoint: EndpointServer, random_model: Path, tmp_path: Path) -> None:
    """As in an environment made of `requirements_remote`: without what other tools need."""
    where = ("--sequences", WINDOWS, "--endpoint", f"{endpoint.url}/tokens", "--consent", "--output", tmp_path / "out")
    done = without(OF_OTHER_TOOLS, *where, "--timing", tmp_path / "times", "--model", random_model)
    assert (done.returncode, done.stderr) == (0, "")
