"""The state of a training between two steps, as tensors and JSON: nothing in it is pickled.

transformers' Trainer keeps its state in a folder with pickled files. Those are written and read here alone, in the job's
own temporary folder, from numbers that were checked.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnalm.errors import UserError

OPTIMIZER, BEST, RANDOM = "optimizer.", "best.", "random."


@dataclass(frozen=True)
class TrainingState:
    """What a training needs beside the model's weights to go on exactly.

    Attributes:
        tensors: the optimizer's moments, random states, and the best weights so far; their names begin with OPTIMIZER,
            RANDOM and BEST.
        facts: steps, schedule, log, and whatever the task adds; JSON.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def capture(
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    trainer_state: Mapping[str, Any],
    random_states: Sequence[Tensor],
    sums: Sequence[float] = (),
) -> TrainingState:
    """Return the state as it is now; the tensors are the living ones, to be written at once.

    Args:
        optimizer: with its moments.
        scheduler: of the learning rate.
        trainer_state: steps and epochs.
        random_states: of torch's generator on the CPU, one a process.
        sums: the objective's, since the last row of the log.
    """
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, float]] = {}
    for number, moments in state["state"].items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.dim() > 0:
                tensors[f"{OPTIMIZER}{number}.{name}"] = value
            else:
                scalars.setdefault(str(number), {})[name] = float(value)
    tensors |= {f"{RANDOM}cpu.{number}": rng for number, rng in enumerate(random_states)}
    if torch.cuda.is_available():
        tensors |= {f"{RANDOM}cuda.{number}": rng for number, rng in enumerate(torch.cuda.get_rng_state_all())}
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    facts = {
        "trainer": dict(trainer_state),
        "sums": list(sums),
        "scalars": scalars,
        "groups": state["param_groups"],
        "schedule": {name: value for name, value in scheduler.state_dict().items() if name != "lr_lambdas"},
        "python_random": [version, list(words), gauss],
        "numpy_random": [kind, [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
    }
    return TrainingState(tensors, json.loads(json.dumps(facts)))


def unfold(state: TrainingState, folder: Path) -> None:
    """Write a state as the folder from which transformers' Trainer goes on.

    Raises:
        UserError: something is missing or of another kind than `capture` writes.
    """
    try:
        facts = state.facts
        moments: dict[int, dict[str, Any]] = {
            int(number): {name: torch.tensor(float(value)) for name, value in values.items()}
            for number, values in facts["scalars"].items()
        }
        for name, tensor in state.tensors.items():
            if name.startswith(OPTIMIZER):
                number, moment = name.removeprefix(OPTIMIZER).split(".")
                moments.setdefault(int(number), {})[moment] = tensor.clone()
        torch.save({"state": moments, "param_groups": facts["groups"]}, folder / "optimizer.pt")
        torch.save(facts["schedule"] | {"lr_lambdas": [None] * len(facts["groups"])}, folder / "scheduler.pt")
        kind, keys, position, has_gauss, cached = facts["numpy_random"]
        version, words, gauss = facts["python_random"]
        rng: dict[str, Any] = {
            "python": (int(version), tuple(int(word) for word in words), gauss),
            "numpy": (str(kind), np.array(keys, dtype=np.uint32), int(position), int(has_gauss), float(cached)),
        }
        cuda = [tensor.clone() for name, tensor in sorted(state.tensors.items()) if name.startswith(f"{RANDOM}cuda.")]
        if cuda and torch.cuda.is_available():
            rng["cuda"] = cuda[0] if len(cuda) == 1 else cuda
        states = sum(name.startswith(f"{RANDOM}cpu.") for name in state.tensors)
        for process in range(max(1, states)):
            # The names that the trainer of one process, and of several, looks for.
            name = "rng_state.pth" if states == 1 else f"rng_state_{process}.pth"
            torch.save(rng | {"cpu": state.tensors[f"{RANDOM}cpu.{process}"].clone()}, folder / name)
        (folder / "trainer_state.json").write_text(json.dumps(facts["trainer"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged_state() from error


def steps_done(state: TrainingState) -> int:
    """Return after how many steps a state was taken; raise UserError if it does not say."""
    try:
        steps: int = state.facts["trainer"]["global_step"]
        if type(steps) is int and steps >= 0:
            return steps
    except (KeyError, TypeError):
        pass
    raise damaged_state()


def sums_since_the_last_row(state: TrainingState, count: int) -> list[float]:
    """Return the sums that the next row of the log goes on from; raise UserError if they are not so many numbers.

    Checkpoints of old have none, and the row then tells of the steps since.
    """
    sums = state.facts.get("sums", [0.0] * count)
    if isinstance(sums, list) and len(sums) == count and all(type(value) is float for value in sums):
        return sums
    raise damaged_state()


def damaged_state() -> UserError:
    """Return the sentence for a state that `capture` does not make."""
    return UserError("The checkpoint's state of training is damaged; use an intact checkpoint.")
