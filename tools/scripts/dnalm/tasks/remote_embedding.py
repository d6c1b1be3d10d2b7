"""Embed sequences with a served model: count what would be sent, ask for each distinct one once, write in the order read."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.asking import IN_FLIGHT, Answer, Asker, Failure, refuse_too_many
from dnalm.engine.interruptions import Interruption, told_to_end
from dnalm.errors import UserError
from dnalm.formats.answer_journal import KEY, AnswerJournal, content_key
from dnalm.formats.embeddings_file import H5adWriter
from dnalm.formats.fasta import FastaReader, SequenceRecord
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.records import buffers, columns_of_records
from dnalm.formats.tables import TableWriter
from dnalm.models.served import Endpoint, ServedModel, refuse_unsafe
from dnalm.report.counts import RecordCounts
from dnalm.report.progress import Progress
from dnalm.report.provenance import versions
from dnalm.tasks.remote_times import COMPARED, LocalModel, compare_times

if TYPE_CHECKING:
    from dnalm.methods.pooling import Pooling

BUFFER_RECORDS, BUFFER_BASES = 2_048, 4_000_000
PACKAGES = ("huggingface_hub", "numpy", "h5py")


@dataclass(frozen=True)
class RemoteEmbeddingOptions:
    """What a user chooses; the names are those of `dnalm_remote_embed.py --help`, and the user's token."""

    sequences: Path
    output: Path
    endpoint: str | None = None
    endpoint_name: str | None = None
    authorization: str = "token"
    max_bases: int | None = None
    special_first: int = 0
    special_last: int = 0
    model_id: str | None = None
    provider: str = "hf-inference"
    pooling: "Pooling" = "mean"
    consent: bool = False
    max_requests: int = 1_000
    resume_from: Path | None = None
    journal: Path | None = None
    summary: Path | None = None
    failed: Path | None = None
    timing: Path | None = None
    model: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None
    token: str | None = None


@dataclass
class Plan:
    """What is to be sent: distinct sequences that no earlier job was answered, and all records and bases of the input."""

    records: int = 0
    bases: int = 0
    distinct: int = 0
    to_send: int = 0


def remote_embed(options: RemoteEmbeddingOptions) -> None:
    """Write one vector a sequence in the order of the input, list what has none, and say on stdout what was done.

    Told to end, a job keeps what it has: the next one goes on from there.

    Raises:
        UserError: sequences, endpoint or options cannot be used, or no sequence was embedded.
    """
    endpoint = _endpoint(options)
    refuse_unsafe(endpoint, options.token)
    if not options.consent:
        raise UserError(
            f"The sequences would leave this server for {endpoint.host}; agree to that (consent), or use dnalm_embed."
        )
    outputs = [path for path in (options.output, options.summary, options.failed, options.timing) if path]
    inputs = [path for path in (options.sequences, options.resume_from, options.model) if path]
    journal_path = options.journal or options.output.resolve().with_name(f".{options.output.name}.journal")
    if journal_path.resolve() in [path.resolve() for path in (*outputs, options.sequences)]:
        raise UserError(f"The journal '{journal_path}' is also an output or the input; give it another name.")
    with ExitStack() as written:
        partials = dict(zip(outputs, written.enter_context(whole_or_nothing(outputs, inputs)), strict=True))
        with AnswerJournal(journal_path) as journal:
            results = _embed(options, endpoint, journal, partials)
            written.close()  # the answers are kept until the outputs have their names
            if not results.failed:  # whoever goes on from a part may need them once more
                journal.discard()


def _embed(
    options: RemoteEmbeddingOptions, endpoint: Endpoint, journal: AnswerJournal, partials: dict[Path, Path]
) -> "Results":
    """Ask for what the journal has no answer to, write all outputs, and say what was done."""
    with ExitStack() as stack:
        if options.resume_from:
            journal.take_over(options.resume_from)
        known = Known(endpoint, Keys(endpoint, options.pooling), journal)
        plan = _plan(options.sequences, known)
        _announce(plan, journal, endpoint)
        refuse_too_many(plan.to_send, options.max_requests)
        interruption = stack.enter_context(told_to_end())
        served = stack.enter_context(ServedModel(endpoint, options.token))
        asker = Asker(served, options.pooling, options.max_requests, interruption)
        results = Results(stack, options, partials)
        sample: dict[str, NDArray[np.float32]] = {}
        progress = Progress("answers", lambda: progress.done / max(plan.to_send, 1))
        reader = stack.enter_context(FastaReader(options.sequences))
        for buffer in buffers(iter(reader), BUFFER_RECORDS, BUFFER_BASES):
            for part in _first_alone(known.unknown(buffer), asker):
                _ask(part, asker, known, interruption, progress)
                refuse_too_many(plan.to_send, options.max_requests, asker.by_server)
            found = results.write(buffer, known)
            sample = dict(list((sample | found).items())[:COMPARED])
        results.refuse_nothing(known)
        facts = _facts(options, endpoint, asker, results)
        results.writer.finish(facts)
        if options.timing:
            local = LocalModel(options.model, options.device, options.threads, options.batch_tokens)
            compare_times(partials[options.timing], asker, options.pooling, local, sample)
        _report(results, asker, facts)
    return results


def _endpoint(options: RemoteEmbeddingOptions) -> Endpoint:
    if (options.endpoint is None) == (options.model_id is None):
        raise UserError("Give either an endpoint, or the id of a model of the hub.")
    return Endpoint(
        name=options.endpoint_name or options.model_id or urlsplit(options.endpoint or "").netloc,
        url=options.endpoint,
        model_id=options.model_id,
        provider=None if options.endpoint else options.provider,
        takes_token=options.authorization == "token",
        max_bases=options.max_bases,
        special_first=options.special_first,
        special_last=options.special_last,
    )


class Keys:
    """What an answer is known by: the sequence, who answers, and how it is pooled."""

    def __init__(self, endpoint: Endpoint, pooling: "Pooling") -> None:
        special = f"{endpoint.special_first} {endpoint.special_last}"
        self._parts = (endpoint.identity, pooling, special)

    def of(self, bases: str) -> str:
        """Return a sequence's key."""
        return content_key([*self._parts, bases])


class Known:
    """What is known of sequences by their keys: answers, of this job and earlier ones, and why there is none."""

    def __init__(self, endpoint: Endpoint, keys: Keys, journal: AnswerJournal) -> None:
        self.keys, self.journal = keys, journal
        self.failures: dict[str, Failure] = {}
        self._most_bases = endpoint.max_bases

    def is_to_send(self, key: str, bases: str) -> bool:
        """Say whether a sequence has no answer, and the endpoint reads such long ones."""
        return key not in self.journal and (self._most_bases is None or len(bases) <= self._most_bases)

    def unknown(self, buffer: list[SequenceRecord]) -> dict[str, str]:
        """Return the sequences of which nothing is known: key → bases, each once."""
        wanted: dict[str, str] = {}
        for record in buffer:
            key = self.keys.of(record.bases)
            if self.is_to_send(key, record.bases):
                if key not in self.failures:
                    wanted[key] = record.bases
            elif key not in self.journal:
                self.failures[key] = Failure("too_long", f"the endpoint reads at most {self._most_bases:,} bases")
        return wanted


def _plan(sequences: Path, known: Known) -> Plan:
    """Read all sequences before one is sent: none is if one cannot be read."""
    plan, seen = Plan(), set[bytes]()
    with FastaReader(sequences) as reader:
        for record in reader:
            plan.records += 1
            plan.bases += len(record.bases)
            key = known.keys.of(record.bases)
            if (short := bytes.fromhex(key)[:12]) not in seen:
                seen.add(short)
                plan.distinct += 1
                plan.to_send += known.is_to_send(key, record.bases)
    return plan


def _announce(plan: Plan, journal: AnswerJournal, endpoint: Endpoint) -> None:
    now = datetime.now(UTC)
    print(
        f"Endpoint: {endpoint.name}, {endpoint.identity}, on {now:%Y-%m-%d}; {'a' if endpoint.takes_token else 'no'} token"
    )
    print("A served model has no fixed revision: the same job may give other numbers on another day.")
    if journal.earlier:
        print(f"Answers of an earlier job: {journal.earlier:,}")
    print(
        f"To send: {plan.to_send:,} sequences of {plan.records:,} ({plan.distinct:,} distinct) with {plan.bases:,} bases in "
        f"all; {IN_FLIGHT} requests at once",
        flush=True,
    )


def _first_alone(wanted: dict[str, str], asker: Asker) -> Iterator[dict[str, str]]:
    """Yield the sequences, one by one until an answer shows what answers are like, then all others."""
    rest = list(wanted.items())
    while rest and asker.by_server is None:
        yield dict(rest[:1])
        rest = rest[1:]
    if rest:
        yield dict(rest)


def _ask(wanted: dict[str, str], asker: Asker, known: Known, interruption: Interruption, progress: Progress) -> None:
    """Ask for sequences; answers go to the journal as they come."""
    keys = list(wanted)
    for index, outcome in asker.ask([wanted[key] for key in keys]):
        if isinstance(outcome, Answer):
            known.journal.add(keys[index], outcome.vector, outcome.tokens)
            interruption.awaited = True
            progress.add(1)
        else:
            known.failures[keys[index]] = outcome


class Results:
    """The outputs, written as sequences are done; those without an embedding are in the tables alone."""

    def __init__(self, stack: ExitStack, options: RemoteEmbeddingOptions, partials: dict[Path, Path]) -> None:
        self.writer = stack.enter_context(H5adWriter(partials[options.output]))
        self._summary, self._failed = (
            stack.enter_context(TableWriter(partials[path])) if path else None
            for path in (options.summary, options.failed)
        )
        if self._failed:
            self._failed.append({"id": [], "length": [], "status": [], "reason": []})
        self.counts = RecordCounts()
        self.failed: Counter[str] = Counter()
        self.embedded = 0

    def write(self, buffer: list[SequenceRecord], known: Known) -> dict[str, NDArray[np.float32]]:
        """Write a buffer's records; return the vectors by their sequence."""
        failures, of_records = known.failures, [known.keys.of(record.bases) for record in buffer]
        found = {key: known.journal.read(key) for key in of_records if key in known.journal}
        columns: dict[str, list[Any]] = {
            "id": [record.id for record in buffer],
            "status": ["ok" if key in found else failures[key].status for key in of_records],
            "length": [len(record.bases) for record in buffer],
            "n_tokens": [found[key][1] if key in found else 0 for key in of_records],
            "n_windows": [1] * len(buffer),
            "truncated": [0] * len(buffer),
            **columns_of_records(buffer),
        }
        kept = [number for number, key in enumerate(of_records) if key in found]
        if kept:
            vectors = np.stack([found[of_records[number]][0] for number in kept])
            rows = columns | {KEY: of_records}
            self.writer.append({name: [values[row] for row in kept] for name, values in rows.items()}, vectors)
            self.embedded += len(kept)
        if self._summary:
            norms = [f"{np.linalg.norm(found[key][0]):.6g}" if key in found else "" for key in of_records]
            self._summary.append(columns | {"embedding_norm": norms})
        self.counts.add(columns)
        lost = [(record, failures[key]) for record, key in zip(buffer, of_records, strict=True) if key not in found]
        self.failed.update(failure.status for _, failure in lost)
        if self._failed and lost:
            self._failed.append(
                {
                    "id": [record.id for record, _ in lost],
                    "length": [len(record.bases) for record, _ in lost],
                    "status": [failure.status for _, failure in lost],
                    "reason": [failure.reason for _, failure in lost],
                }
            )
        return {record.bases: found[key][0] for record, key in zip(buffer, of_records, strict=True) if key in found}

    def refuse_nothing(self, known: Known) -> None:
        """Raise UserError if no sequence was embedded."""
        if not self.embedded:
            first = next(iter(known.failures.values()))
            raise UserError(f"No sequence was embedded: {first.reason} ({first.status}).")


def _facts(options: RemoteEmbeddingOptions, endpoint: Endpoint, asker: Asker, results: Results) -> dict[str, Any]:
    by = {None: "an earlier job's", True: "the server", False: "dnalm_remote_embed"}[asker.by_server]
    model = {"name": endpoint.name, "served_at": endpoint.identity, "revision": None, "pooled_by": by}
    chosen = {name: getattr(options, name) for name in ("pooling", "special_first", "special_last", "max_bases")}
    return {
        "tool": "dnalm_remote_embed",
        "options": chosen,
        "model": model,
        "device": "remote",
        "counts": dict(results.counts) | {"failed_sequences": results.failed.total()},
        "versions": versions(PACKAGES),
    }


def _report(results: Results, asker: Asker, facts: dict[str, Any]) -> None:
    """Say what went out, what came back and what did not."""
    if facts["model"]["pooled_by"] == "the server" and facts["options"]["pooling"] != "mean":
        print(
            f"Warning: the server pools by itself; its vectors are taken as they are, not by {facts['options']['pooling']}"
        )
    print(f"Requests: {asker.requests:,}; pooled by {facts['model']['pooled_by']}")
    results.counts.tell("Read")
    print(f"Embedded: {results.embedded:,}")
    if results.failed:
        listed = ", ".join(f"{count:,} {status}" for status, count in sorted(results.failed.items()))
        print(f"Warning: sequences without an embedding: {results.failed.total():,} ({listed})")
        print("A job that goes on from the embeddings of this one asks for these alone")
    if asker.ended:
        print(f"Ended early: {asker.ended}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
