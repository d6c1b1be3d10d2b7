"""Import a published model: its files, told apart by content, become one model file."""

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from dnalm import __version__
from dnalm.engine.devices import prepare_machine
from dnalm.errors import UserError
from dnalm.formats.outputs import whole_or_nothing
from dnalm.models.description import describe
from dnalm.models.heads import config_with_labels, is_classifier, labels_of
from dnalm.models.json_files import read_text
from dnalm.models.model_file import write_model_file
from dnalm.models.published_files import read_published_model
from dnalm.models.registry import with_config_of_tensors
from dnalm.report.facts import one_line, tell


@dataclass(frozen=True)
class ImportOptions:
    """What a user chooses; the names are those of `dnalm_import_model.py --help`."""

    config: Path
    weights: list[Path]
    output: Path
    tokenizer_files: list[Path] = field(default_factory=list)
    features: Path | None = None
    licence: str | None = None
    name: str | None = None
    summary: Path | None = None


def import_model(options: ImportOptions) -> None:
    """Write a model file whose weights are the published ones bit by bit, and say what the model is.

    Raises:
        UserError: the files are not what they are given for, do not fit together, or are of an unknown architecture.
    """
    prepare_machine("cpu", None, None)  # no more threads than the job has slots
    given = [
        options.config,
        *options.weights,
        *options.tokenizer_files,
        *([options.features] if options.features else []),
    ]
    outputs = [options.output, *([options.summary] if options.summary else [])]
    with whole_or_nothing(outputs, given) as partials:
        name = one_line(options.name or "") or "imported model"
        stored, mended = read_published_model(options.config, options.weights, options.tokenizer_files, name)
        stored = with_config_of_tensors(stored)
        digests = [_sha256(path) for path in stored.files]
        of_labels = is_classifier(stored)
        said = labels_of(stored) if of_labels else stored.config.get("features", stored.labels)
        labels = _features(options.features, said)
        stored = replace(
            stored,
            config=config_with_labels(stored, labels or []) if of_labels else stored.config,
            # What an exported model says of itself outlives the export.
            licence=one_line(options.licence or stored.licence or "") or None,
            labels=labels,
            provenance={"tool": "dnalm_import_model", "version": __version__, "weights_sha256": digests}
            | ({"exported_from": stored.provenance} if stored.provenance else {}),
        )
        facts = describe(stored)
        for sentence in mended:
            print(f"Mended: {sentence}.")
        write_model_file(
            partials[0],
            stored.read_tensors(),
            stored.config,
            stored.tokenizer,
            name=stored.name,
            licence=stored.licence,
            labels=stored.labels,
            provenance=stored.provenance,
        )
        facts |= {f"mended_{number}": sentence for number, sentence in enumerate(mended, start=1)}
        facts |= {"sha256": _sha256(partials[0]), "weights_sha256": ", ".join(digests)}
        tell(facts, partials[1] if options.summary else None)


LARGEST_FEATURES = 10_000_000  # bytes
UNNAMED = re.compile("LABEL_[0-9]+")  # what transformers calls labels that have no names


def _features(path: Path | None, of_config: object) -> list[str] | None:
    """Return the names of what a model predicts: one a line of a file, which must not contradict the config."""
    said = [str(feature) for feature in of_config] if isinstance(of_config, list) else None
    if path is None:
        return said
    try:
        names = [line.strip() for line in read_text(path, LARGEST_FEATURES).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text, or over 10 MB"
        raise UserError(f"The features '{path.name}' cannot be read ({why}); give one name per line.") from error
    if not names or len(set(names)) < len(names):
        raise UserError(f"The features '{path.name}' are empty or name one twice; give one name a line.")
    if said is not None and all(map(UNNAMED.fullmatch, said)) and len(said) == len(names):
        return names
    if said is not None and names != said:
        raise UserError(f"The features '{path.name}' differ from those of the model's config; leave them out.")
    return names


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
