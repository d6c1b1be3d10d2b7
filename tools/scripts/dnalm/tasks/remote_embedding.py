"""Embed sequences with a served model: count what would be sent, ask for each distinct one once, write in the order read."""

import time
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

if TYPE_CHECKING:
    from dnalm.methods.pooling import Pooling

BUFFER_RECORDS, BUFFER_BASES = 2_048, 4_000_000
COMPARED = 64  # sequences that a local model embeds too, for the comparison of times
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
    with ExitStack() as stack:
        partials = dict(zip(outputs, stack.enter_context(whole_or_nothing(outputs, inputs)), strict=True))
        place = options.journal or options.output.resolve().with_name(f".{options.output.name}.journal")
        journal = stack.enter_context(AnswerJournal(place))
        if options.resume_from:
            journal.take_over(options.resume_from)
        keys = Keys(endpoint, options.pooling)
        plan = _plan(options, keys, journal)
        _announce(plan, journal, endpoint)
        refuse_too_many(plan.to_send, options.max_requests)
        interruption = stack.enter_context(told_to_end())
        served = stack.enter_context(ServedModel(endpoint, options.token))
        asker = Asker(served, options.pooling, options.max_requests, interruption)
        results = Results(stack, options, partials)
        sample: dict[str, NDArray[np.float32]] = {}
        failures: dict[str, Failure] = {}
        progress = Progress("sequences", lambda: progress.done / plan.records)
        reader = stack.enter_context(FastaReader(options.sequences))
        for buffer in buffers(iter(reader), BUFFER_RECORDS, BUFFER_BASES):
            _ask(buffer, keys, asker, journal, failures, endpoint, interruption, plan, options.max_requests)
            results.write(buffer, keys, journal, failures)
            progress.add(len(buffer))
            for record in buffer:
                if len(sample) < COMPARED and (key := keys.of(record.bases)) in journal:
                    sample.setdefault(record.bases, journal.read(key)[0])
        results.refuse_nothing(failures)
        facts = _facts(options, endpoint, asker, results)
        results.writer.finish(facts)
        if options.timing:
            _compare_times(options, partials[options.timing], asker, plan, sample)
        _report(results, asker, facts)
    if not results.failed:  # whoever goes on from a part may need the answers once more
        place.unlink(missing_ok=True)


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


def _plan(options: RemoteEmbeddingOptions, keys: Keys, journal: AnswerJournal) -> Plan:
    """Read all sequences before one is sent: none is if one cannot be read."""
    plan, seen = Plan(), set[bytes]()
    with FastaReader(options.sequences) as reader:
        for record in reader:
            plan.records += 1
            plan.bases += len(record.bases)
            key = keys.of(record.bases)
            if (short := bytes.fromhex(key)[:12]) not in seen:
                seen.add(short)
                plan.distinct += 1
                fits = options.max_bases is None or len(record.bases) <= options.max_bases
                plan.to_send += fits and key not in journal
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


def _ask(
    buffer: list[SequenceRecord],
    keys: Keys,
    asker: Asker,
    journal: AnswerJournal,
    failures: dict[str, Failure],
    endpoint: Endpoint,
    interruption: Interruption,
    plan: Plan,
    most_requests: int,
) -> None:
    """Ask for what is not known of a buffer's sequences; answers go to the journal as they come."""
    wanted: dict[str, str] = {}
    for record in buffer:
        key = keys.of(record.bases)
        if key in journal or key in failures:
            continue
        if endpoint.max_bases is not None and len(record.bases) > endpoint.max_bases:
            failures[key] = Failure("too_long", f"the endpoint reads at most {endpoint.max_bases:,} bases")
        else:
            wanted[key] = record.bases
    asked = list(wanted)
    for part in _first_alone(asked, asker):
        for index, outcome in asker.ask([wanted[key] for key in part]):
            if isinstance(outcome, Answer):
                journal.add(part[index], outcome.vector, outcome.tokens)
                interruption.awaited = True
            else:
                failures[part[index]] = outcome
        refuse_too_many(plan.to_send, most_requests, asker.by_server)


def _first_alone(keys: list[str], asker: Asker) -> Iterator[list[str]]:
    """Yield the keys, one by one until an answer shows what answers are like, then all others."""
    rest = keys
    while rest and asker.by_server is None:
        yield rest[:1]
        rest = rest[1:]
    if rest:
        yield rest


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

    def write(
        self, buffer: list[SequenceRecord], keys: Keys, journal: AnswerJournal, failures: dict[str, Failure]
    ) -> None:
        """Write a buffer's records."""
        of_records = [keys.of(record.bases) for record in buffer]
        found = {key: journal.read(key) for key in of_records if key in journal}
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

    def refuse_nothing(self, failures: dict[str, Failure]) -> None:
        """Raise UserError if no sequence was embedded."""
        if not self.embedded:
            first = next(iter(failures.values()))
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


def _compare_times(
    options: RemoteEmbeddingOptions,
    table: Path,
    asker: Asker,
    plan: Plan,
    sample: dict[str, NDArray[np.float32]],
) -> None:
    """Write how long a sequence took remotely, and with a local model if there is one, on some of the same sequences."""
    answered = plan.to_send
    rows = [("remote", answered, asker.requests, asker.seconds)]
    if options.model:
        seconds, vectors = _embedded_here(options, list(sample))
        rows.append(("local", len(sample), 0, seconds))
        _tell_likeness(list(sample.values()), vectors)
    with TableWriter(table) as writer:
        writer.append(
            {
                "where": [where for where, *_ in rows],
                "sequences": [count for _, count, *_ in rows],
                "requests": [requests for *_, requests, _ in rows],
                "seconds": [f"{seconds:.3f}" for *_, seconds in rows],
                "seconds_per_sequence": [f"{seconds / count:.6f}" if count else "" for _, count, _, seconds in rows],
            }
        )


def _embedded_here(options: RemoteEmbeddingOptions, sequences: list[str]) -> tuple[float, list[NDArray[np.float32]]]:
    """Embed sequences with the local model; return the seconds that it took, once loaded, and the vectors."""
    # The libraries of a local model are heavy, and not needed without one.
    from dnalm.engine.devices import prepare_machine
    from dnalm.engine.representations import ModelChoices, ModelRepresentation
    from dnalm.models.registry import load_language_model
    from dnalm.models.sources import open_model

    assert options.model is not None
    machine = prepare_machine(options.device, options.threads, options.batch_tokens)
    model = load_language_model(open_model(options.model))
    representation = ModelRepresentation(model, ModelChoices(pooling=options.pooling), machine)
    print(f"Local model: {representation.description}; {machine.description}", flush=True)
    names = [str(number) for number in range(len(sequences))]
    representation.embed(names[:1], sequences[:1])  # the first run of a model takes longer
    began = time.monotonic()
    found = representation.embed(names, sequences)
    return time.monotonic() - began, [embedded.vectors for embedded in found]


def _tell_likeness(remote: list[NDArray[np.float32]], local: list[NDArray[np.float32]]) -> None:
    if len(remote[0]) != len(local[0]):
        print(
            f"The local model has {len(local[0]):,} dimensions, the served one {len(remote[0]):,}: they are not the same"
        )
        return
    cosines = [
        float(np.dot(one, other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-30))
        for one, other in zip(remote, local, strict=True)
    ]
    print(f"Cosine of remote and local vectors: at least {min(cosines):.6f} on {len(cosines):,} sequences")


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
