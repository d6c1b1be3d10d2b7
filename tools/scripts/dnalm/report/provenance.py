"""What was run, with what: told on stdout and kept in every output."""

import platform
from importlib import metadata
from typing import Any

from dnalm import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def provenance(
    tool: str, options: dict[str, Any], model: dict[str, Any], device: str, counts: dict[str, int]
) -> dict[str, Any]:
    """Return the facts that make a result reproducible; no times and no paths, so that equal runs are equal bytes."""
    versions = {"dnalm": __version__, "python": platform.python_version()}
    versions |= {package: metadata.version(package) for package in PACKAGES}
    return {"tool": tool, "options": options, "model": model, "device": device, "counts": counts, "versions": versions}
