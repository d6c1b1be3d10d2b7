"""Exceptions of libraries: those a model causes become a sentence, those of memory stay what they are."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from dnalm.errors import UserError
from dnalm.models.failures import is_out_of_memory, loading, running

Guard = Callable[[str], AbstractContextManager[None]]
HOST = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


@pytest.mark.parametrize(("guard", "what"), [(loading, "be loaded"), (running, "run a sequence")])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("two\nlines"), r"two\\nlines"),
        (AssertionError(), "AssertionError"),
        (SystemError("of a library"), "of a library"),
        (RuntimeError("shape"), "shape"),
        (OSError(2, "No such file"), "No such file"),
    ],
)
def test_an_error_of_a_library_becomes_a_sentence(guard: Guard, what: str, error: Exception, words: str) -> None:
    sentence = rf"The model 'm' cannot {what} \(.*{words}.*\); .*use intact files"
    with pytest.raises(UserError, match=sentence) as told, guard("m"):
        raise error
    assert told.value.__cause__ is error
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("guard", [loading, running])
@pytest.mark.parametrize(
    "error",
    [
        UserError("a sentence"),
        MemoryError("full"),
        torch.OutOfMemoryError("GPU"),
        HOST,
        KeyboardInterrupt(),
        SystemExit(1),
    ],
)
def test_sentences_lacking_memory_and_ends_pass_as_they_are(guard: Guard, error: BaseException) -> None:
    with pytest.raises(type(error)) as passed, guard("m"):
        raise error
    assert passed.value is error


def test_what_is_out_of_memory() -> None:
    assert all(map(is_out_of_memory, (MemoryError(), torch.OutOfMemoryError("GPU"), HOST)))
    assert not any(map(is_out_of_memory, (RuntimeError("shape"), ValueError("can't allocate memory"))))


def test_a_tensor_that_no_memory_holds_is_out_of_memory() -> None:
    """The words of torch's own allocator."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**46, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
