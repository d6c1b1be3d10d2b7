"""What a foreign model brings torch or transformers to becomes a sentence; exhausted memory stays what it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dnalm.errors import UserError, shown

HOST_OUT_OF_MEMORY = "can't allocate memory"  # of torch's allocator for the host, whose error is no MemoryError


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is one of memory, of the host or of a GPU, with which smaller batches or more memory help."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and HOST_OUT_OF_MEMORY in str(error)


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn any exception but those of memory into a UserError: the model with this name cannot be loaded."""
    with _told(f"The model '{name}' cannot be loaded", "use intact files"):
        yield


@contextmanager
def running(name: str) -> Iterator[None]:
    """Turn any exception but those of memory into a UserError: the model with this name cannot run a sequence."""
    with _told(f"The model '{name}' cannot run a sequence", "fix its config, or use intact files"):
        yield


@contextmanager
def _told(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # An assertion has no words.
        raise UserError(f"{what} ({shown(str(error) or type(error).__name__, 200)}); {remedy}.") from error
