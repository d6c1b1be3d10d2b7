"""What was run, with what: told on stdout and kept in every output."""

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from dnalm import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def provenance(
    tool: str,
    options: dict[str, Any],
    model: dict[str, Any],
    device: str,
    counts: dict[str, int],
    packages: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the facts that make a result reproducible; no times and no paths, so that equal runs are equal bytes."""
    said = {"tool": tool, "options": options, "model": model, "device": device, "counts": counts}
    return said | {"versions": versions([*PACKAGES, *packages])}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of this suite, of Python and of packages."""
    own = {"dnalm": __version__, "python": platform.python_version()}
    return own | {package: metadata.version(package) for package in packages}
