"""One training: how it is to go, what became of it, and why it ended."""

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from dnalm.engine.checkpoints import damaged_state
from dnalm.errors import UserError

SAVE, TIME_LIMIT, SIGNAL, NO_GAIN, DIVERGED = "save", "time limit", "signal", "no gain", "diverged"


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained; the names are those of `dnalm_pretrain.py --help`."""

    epochs: float
    max_steps: int | None
    gradient_accumulation: int
    learning_rate: float
    weight_decay: float
    warmup: float
    patience: int
    evaluate_every: int | None
    dtype: str
    seed: int
    time_limit: float | None


@dataclass
class Run:
    """What became of a training.

    Attributes:
        log: one row a measurement, column → value.
        best_loss: of validation, in the unit of the objective's loss; infinite before the first.
        best_step: at which it was.
        without_gain: evaluations since.
        stopped: why it ended before its last step; empty if it did not.
        steps: done in all.
    """

    log: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float = math.inf
    best_step: int = 0
    without_gain: int = 0
    stopped: str = ""
    steps: int = 0

    def copy(self) -> "Run":
        """Return a run of its own with the same rows."""
        return replace(self, log=list(self.log))

    def facts(self) -> dict[str, Any]:
        """Return the run as JSON, which has no word for what is infinite or no number: None stands for both."""
        rows = [{name: _finite(value) for name, value in row.items()} for row in self.log]
        return vars(self) | {"log": rows, "best_loss": _finite(self.best_loss)}

    @classmethod
    def of_facts(cls, facts: dict[str, Any]) -> "Run":
        """Return the run that `facts` told of, not stopped; raise UserError if it told of none."""
        try:
            best = facts["best_loss"]
            return cls(**facts | {"best_loss": math.inf if best is None else float(best), "stopped": ""})
        except (KeyError, TypeError, ValueError) as error:
            raise damaged_state() from error

    def end(self) -> list[dict[str, Any]]:
        """Return the row of the log that says why a training ended early; none if it did not."""
        if not self.stopped:
            return []
        epoch = next((row["epoch"] for row in self.log[-1:] if row["step"] == self.steps), "")
        return [{"step": self.steps, "epoch": epoch, "split": f"stopped: {self.stopped}"}]

    def reason(self) -> list[str]:
        """Return the sentence that says why a training ended early; none if it did not."""
        reasons = {
            NO_GAIN: "validation did not become better any more",
            SIGNAL: "the job was asked to end",
            DIVERGED: "its loss is no number any more",
        }
        return [f"Stopped after step {self.steps:,}: {reasons.get(self.stopped, self.stopped)}"] if self.stopped else []


class Divergence(Exception):  # noqa: N818 (the trainer turns it into the sentence)
    """The loss is no number any more."""


def diverged(run: Run) -> UserError:
    """Return the sentence for a loss that is no number any more."""
    kept = (
        f"the best model so far (step {run.best_step}) is kept" if math.isfinite(run.best_loss) else "no model is kept"
    )
    return UserError(
        f"The training diverged after step {run.steps}: its loss is no number any more; {kept}. "
        "Use a lower learning rate, a longer warm-up or float32."
    )


def processes() -> int:
    """Return how many processes train together, as torchrun says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Say whether this is the process that speaks and writes, of one or several."""
    return processes() == 1 or int(os.environ.get("RANK", "0")) == 0


MAIN_SPEAKS_WITHIN = 60.0  # seconds


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let the main process tell the sentence that all have: torchrun ends the others as soon as it has failed.

    A sentence of another process alone is told after a while.
    """
    try:
        yield
    except UserError:
        if not is_main():
            time.sleep(MAIN_SPEAKS_WITHIN)
        raise


def cell(value: object) -> str:
    """Return how a measurement stands in the table of a log."""
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
