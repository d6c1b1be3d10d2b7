"""Files of JAX models as their authors publish them, and as nobody should."""

from pathlib import Path
from typing import Any

import joblib
from conftest import REPOSITORY
from safetensors.torch import load_file

PARITY = REPOSITORY / "tests" / "parity" / "data"


def as_published(folder: Path, case: str) -> list[Path]:
    """Write a fixture's tensors as its authors do: parameters and state, module → name → array."""
    files = []
    for kind in ("params", "state"):
        modules: dict[str, dict[str, Any]] = {}
        for path, tensor in load_file(PARITY / case / "model.safetensors").items():
            if path.startswith(f"{kind}/"):
                module, name = path.removeprefix(f"{kind}/").rsplit("/", 1)
                modules.setdefault(module, {})[name] = tensor.numpy()
        joblib.dump(modules, folder / f"{kind}.joblib")
        files.append(folder / f"{kind}.joblib")
    return files


class Hostile:
    """Runs a command when it is unpickled by anything that runs what it reads."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))
