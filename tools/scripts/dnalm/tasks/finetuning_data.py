"""Labelled sequences: read, matched with their labels, checked, and split so that nothing tested was seen before."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dnalm.errors import UserError, shown
from dnalm.formats.fasta import FastaReader
from dnalm.formats.label_tables import Annotation, ColumnNames, LabelTable
from dnalm.formats.sequence_tables import is_table
from dnalm.methods.leakage import Place, place_of
from dnalm.tasks.finetuning_options import FinetuningOptions

SUFFIXES = (".gz", ".fasta", ".fa", ".fna", ".ffn", ".fas")
SHOWN = 5  # ids that a sentence names


@dataclass(slots=True)
class Example:
    """One sequence with what is known of it.

    Attributes:
        id, bases: of the record.
        labels: as the table has them; None of a sequence that no line is about.
        group, side: as the table has them.
        place: where it lies on a genome, where that is known.
        line: of the table that labels it; 0 where no table does.
        status: 'ok', or why it is left out.
    """

    id: str
    bases: str
    labels: tuple[str, ...] | None
    group: str | None = None
    side: str | None = None
    place: Place | None = None
    line: int = 0
    status: str = "ok"


@dataclass
class Collection:
    """All that was read.

    Attributes:
        examples: in the order of the sequences; behind them lines of the labels that no sequence belongs to.
        label_columns: names of the columns of labels.
        source: the file that has the labels, as sentences name it.
        counts: what was mended or left out.
    """

    examples: list[Example]
    label_columns: tuple[str, ...]
    source: str
    counts: Counter[str] = field(default_factory=Counter)


def read_examples(options: FinetuningOptions) -> Collection:
    """Read sequences with their labels, from wherever both are.

    Raises:
        UserError: files cannot be read, or sequences and labels do not belong together.
    """
    if options.labels is not None:
        return _matched(options, options.labels)
    tables = [path for path in options.sequences if is_table(path)]
    if tables and len(options.sequences) > 1:
        raise UserError(
            f"The table '{tables[0].name}' is one of several files; give one table with sequences and labels, or several "
            "FASTA files, one a class."
        )
    return _of_one_table(options, tables[0]) if tables else _of_classes(options)


def _names(options: FinetuningOptions) -> ColumnNames:
    columns = options.label_column.split(",") if options.label_column else []
    side = options.split_column if options.split == "given" else None
    return ColumnNames(tuple(name.strip() for name in columns) or None, options.group_column, side)


def _of_one_table(options: FinetuningOptions, path: Path) -> Collection:
    table = LabelTable(path, _names(options), with_sequences=True)
    collection = Collection([], table.label_columns, f"the table '{path.name}'")
    for record, annotation in table.records():
        _count(collection.counts, record.lower_case, record.ambiguous, record.uracil)
        collection.examples.append(_annotated(record.id, record.bases, annotation))
    return collection


def _of_classes(options: FinetuningOptions) -> Collection:
    """Read several FASTA files, each with the sequences of one class."""
    if len(options.sequences) < 2:
        raise UserError(
            f"Nothing says what the sequences of '{options.sequences[0].name}' are; give a table of labels, a table with "
            "sequences and labels, or a FASTA file for each of two or more classes."
        )
    if options.task != "classify" or options.split == "given" or options.group_column:
        raise UserError(
            "FASTA files, one a class, are for the task classify without given groups or splits; give a table of labels."
        )
    collection = Collection([], ("file",), "the files")
    for path, label in zip(options.sequences, _class_names(options), strict=True):
        for name, bases in _records([path], collection.counts):
            collection.examples.append(Example(name, bases, (label,), place=place_of(name)))
    return collection


def _class_names(options: FinetuningOptions) -> list[str]:
    names = options.class_names.split(",") if options.class_names else [path.name for path in options.sequences]
    names = [" ".join(_without_suffix(name).split()) for name in names]
    if len(names) != len(options.sequences):
        raise UserError(
            f"There are {len(names)} names of classes and {len(options.sequences)} files; give one name a file."
        )
    if not all(names) or len(set(names)) < len(names):
        raise UserError(
            f"The names of the classes ({shown(', '.join(names))}) are not all different; give each file a name of its own."
        )
    return names


def _without_suffix(name: str) -> str:
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _matched(options: FinetuningOptions, labels: Path) -> Collection:
    """Match sequences with the lines of a table by id."""
    if tables := [path for path in options.sequences if is_table(path)]:
        raise UserError(
            f"The sequences are in the table '{tables[0].name}', and there is a table of labels too; give FASTA with "
            "labels, or one table with both and no labels beside it."
        )
    table = LabelTable(labels, _names(options), with_sequences=False)
    counts: Counter[str] = Counter()
    annotations = _annotations(table, counts)
    collection = Collection([], table.label_columns, f"the table '{labels.name}'", counts)
    found: set[str] = set()
    for name, bases in _records(options.sequences, counts):
        counts["duplicate_ids"] += name in found
        found.add(name)
        known_of = annotations.get(name)
        if known_of is None:
            collection.examples.append(Example(name, bases, None, place=place_of(name), status="not_in_labels"))
        else:
            collection.examples.append(_annotated(name, bases, known_of))
    if table.id_column in found and table.id_column not in annotations:
        raise UserError(
            f"The first line of '{labels.name}' is about the sequence '{shown(table.id_column)}' and names no columns; add "
            "a line with their names, such as id and label."
        )
    without = [annotation for name, annotation in annotations.items() if name not in found]
    for annotation in without:
        example = _annotated(annotation.id, "", annotation)
        example.status = "no_sequence"
        collection.examples.append(example)
    _judge_matches(options, collection)
    return collection


def _annotations(table: LabelTable, counts: Counter[str]) -> dict[str, Annotation]:
    """Return what a table says of each id; raise UserError if it says nothing, or different things of one."""
    annotations: dict[str, Annotation] = {}
    for annotation in table:
        known = annotations.setdefault(annotation.id, annotation)
        if known is not annotation:
            counts["repeated_lines"] += 1
            if (known.labels, known.group, known.side) != (annotation.labels, annotation.group, annotation.side):
                raise UserError(
                    f"Lines {known.line} and {annotation.line} of '{table.path.name}' say different things of "
                    f"'{shown(annotation.id)}'; keep one."
                )
    if not annotations:
        raise UserError(
            f"The table '{table.path.name}' has no line below its header; give the labels of the sequences."
        )
    return annotations


def _judge_matches(options: FinetuningOptions, collection: Collection) -> None:
    """Say what did not match, or refuse it."""
    sides = {
        status: [example.id for example in collection.examples if example.status == status]
        for status in ("not_in_labels", "no_sequence")
    }
    if not any(example.status == "ok" for example in collection.examples):
        first, second = (shown(names[0]) if names else "nothing" for names in sides.values())
        raise UserError(
            f"No sequence has a line in {collection.source}: the sequences are called like '{first}', the lines like "
            f"'{second}'; use the same names in both."
        )
    for status, meaning in (
        ("not_in_labels", "sequences without a line in the labels"),
        ("no_sequence", "lines of the labels without a sequence"),
    ):
        names = sides[status]
        if not names:
            continue
        listed = ", ".join(shown(name, 40) for name in names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
        if options.unmatched == "fail":
            raise UserError(f"There are {len(names):,} {meaning} ({listed}); add what is missing, or leave them out.")
        print(f"{meaning}, left out: {len(names):,} ({listed})")
        collection.counts[status] = len(names)


def _annotated(name: str, bases: str, annotation: Annotation) -> Example:
    place = Place(*annotation.place) if annotation.place else place_of(name)
    return Example(name, bases, annotation.labels, annotation.group, annotation.side, place, annotation.line)


def _records(paths: Sequence[Path], counts: Counter[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        with FastaReader(path) as reader:
            for record in reader:
                _count(counts, record.lower_case, record.ambiguous, record.uracil)
                yield record.id, record.bases


def _count(counts: Counter[str], lower_case: int, ambiguous: int, uracil: int) -> None:
    counts["sequences"] += 1
    counts["lower_case"] += lower_case
    counts["ambiguous"] += ambiguous
    counts["uracil"] += uracil
