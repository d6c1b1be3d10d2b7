"""Export a model: the model file becomes a folder as Hugging Face's libraries read it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnalm.engine.devices import prepare_machine
from dnalm.errors import UserError, shown
from dnalm.formats.outputs import whole_folder_or_nothing, whole_or_nothing
from dnalm.models import scgpt, transformers_names
from dnalm.models.description import describe
from dnalm.models.head_config import has_head
from dnalm.models.model_file import StoredModel, origin_of, write_safetensors
from dnalm.models.published_files import mend
from dnalm.models.sources import LAYOUTS, open_model
from dnalm.models.tokenizers import special_tokens
from dnalm.report.facts import one_line, tell


@dataclass(frozen=True)
class ExportOptions:
    """What a user chooses; the names are those of `dnalm_export_model.py --help`."""

    model: Path
    output_directory: Path
    summary: Path | None = None


def export_model(options: ExportOptions) -> None:
    """Write config.json, model.safetensors, the tokenizer's files and a README.md into a new or empty folder.

    The weights are those of the model file bit by bit. `from_pretrained` of transformers reads the folder where the
    architecture is its own; for others the files are as their authors publish them.

    Raises:
        UserError: the model cannot be used or names files that no model has, or the folder has files in it already.
    """
    prepare_machine("cpu", None, None)  # no more threads than the job has slots
    mended: list[str] = []
    stored = mend(open_model(options.model), mended)
    facts = describe(stored)
    native = transformers_names.recognises(stored.config) and facts["architecture"] in transformers_names.ARCHITECTURES
    facts["reads_it"] = (
        "transformers' from_pretrained" if native else "DNA-LM; transformers only with its authors' code"
    )
    if has_head(stored.config):
        facts["head_is_read_by"] = (
            "DNA-LM alone: classifier.weight and classifier.bias belong to the mean of the last hidden states over the "
            "tokens that cover bases; other libraries leave them out, or take them for a head of their own"
        )
    outputs = [options.summary] if options.summary else []
    with (
        whole_folder_or_nothing(options.output_directory, [options.model], outputs) as folder,
        whole_or_nothing(outputs, [options.model]) as partials,
    ):
        _write(stored, folder, facts)
        for sentence in mended:
            print(f"Mended: {sentence}.")
        tell(facts, partials[0] if options.summary else None)


def _write(stored: StoredModel, folder: Path, facts: dict[str, str]) -> None:
    """Write the files of a published model."""
    of_cells = scgpt.recognises(stored.config)
    config = scgpt.CONFIG if of_cells else "config.json"
    # These names come from a file: they may neither lead out of the folder nor replace another file in it.
    if strange := sorted(stored.tokenizer.keys() - set(LAYOUTS[config])):
        raise UserError(
            f"The tokenizer of the model '{stored.name}' has the file '{shown(strange[0])}', which none has; use an intact "
            "model."
        )
    write_safetensors(folder / "model.safetensors", stored.read_tensors(), {"format": "pt"} | origin_of(stored))
    files: dict[str, Any] = {config: stored.config, **stored.tokenizer}
    # transformers would guess the class of the tokenizer from the model's, and guess wrong.
    tokenizer_class = "PreTrainedTokenizerFast" if "tokenizer.json" in files else "EsmTokenizer"
    if stored.tokenizer and not of_cells:  # a segmenter may read bases as they are
        named = special_tokens(stored.tokenizer)
        files["tokenizer_config.json"] = (
            {"tokenizer_class": tokenizer_class} | named | files.get("tokenizer_config.json", {})
        )
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    (folder / "README.md").write_text(_card(stored, facts), encoding="utf-8")


def _card(stored: StoredModel, facts: dict[str, str]) -> str:
    """Return a model card: the licence where machines look for it, and where the model comes from."""
    front = ["---", "library_name: transformers"]
    if stored.licence:
        front.append(f"license: {json.dumps(stored.licence.lower())}")
    lines = [*front, "---", "", f"# {stored.name}", "", "Exported by DNA-LM from a model file.", ""]
    told = {fact: one_line(value) for fact, value in facts.items() if fact not in ("name", "provenance")}
    lines += [f"- {fact.replace('_', ' ')}: {value}" for fact, value in told.items()]
    origin = json.dumps(stored.provenance, indent=2, sort_keys=True)
    return "\n".join([*lines, "", "## Origin", "", "```json", origin, "```", ""])
