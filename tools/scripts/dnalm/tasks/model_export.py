"""Export a model: the model file becomes a folder as Hugging Face's libraries read it."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnalm.errors import UserError
from dnalm.formats.outputs import whole_or_nothing
from dnalm.models import transformers_native
from dnalm.models.description import describe
from dnalm.models.model_file import StoredModel, write_safetensors
from dnalm.models.sources import open_model
from dnalm.report.facts import tell


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
        UserError: the model cannot be used, or the folder has files in it already.
    """
    target = options.output_directory
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"The folder '{target}' has files in it already; choose a new or an empty one.")
    if not target.absolute().parent.is_dir():
        raise UserError(f"The folder '{target.absolute().parent}' does not exist; make it first.")
    stored = open_model(options.model)
    facts = describe(stored)
    native = (
        transformers_native.recognises(stored.config) and facts["architecture"] in transformers_native.ARCHITECTURES
    )
    facts["reads_it"] = (
        "transformers' from_pretrained" if native else "DNA-LM; transformers only with its authors' code"
    )
    with whole_or_nothing([options.summary] if options.summary else [], [options.model]) as partials:
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent))
        try:
            _write(stored, partial, facts)
            tell(facts, partials[0] if options.summary else None)
            if target.exists():
                target.rmdir()
            partial.chmod(0o755)
            partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write(stored: StoredModel, folder: Path, facts: dict[str, str]) -> None:
    """Write the files of a published model."""
    write_safetensors(folder / "model.safetensors", stored.read_tensors(), {"format": "pt"})
    files: dict[str, Any] = {"config.json": stored.config, **stored.tokenizer}
    if "tokenizer.json" in files:
        # transformers would guess the class of the tokenizer from the model's, and guess wrong.
        named = {"tokenizer_class": "PreTrainedTokenizerFast"} | files.get("tokenizer_config.json", {})
        files["tokenizer_config.json"] = named
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(_card(stored, facts), encoding="utf-8")


def _card(stored: StoredModel, facts: dict[str, str]) -> str:
    """Return a model card: the licence where machines look for it, and where the model comes from."""
    front = ["---", "library_name: transformers"]
    if stored.licence:
        front.append(f"license: {json.dumps(stored.licence.lower())}")
    lines = [*front, "---", "", f"# {stored.name}", "", "Exported by DNA-LM from a model file.", ""]
    lines += [f"- {fact.replace('_', ' ')}: {value}" for fact, value in facts.items() if fact != "name"]
    origin = json.dumps(stored.provenance, indent=2, sort_keys=True, ensure_ascii=False)
    return "\n".join([*lines, "", "## Origin", "", "```json", origin, "```", ""])
