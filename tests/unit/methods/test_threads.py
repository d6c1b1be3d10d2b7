"""Linear algebra in one thread."""

import pytest
from dnalm.methods.threads import one_thread
from threadpoolctl import threadpool_info, threadpool_limits


def numbers_of_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info()}


def test_linear_algebra_has_one_thread_within_the_block_alone() -> None:
    with one_thread():  # loads the libraries, so that all of them are limited below
        pass
    with threadpool_limits(2):
        assert numbers_of_threads() == {2}
        with one_thread():
            assert numbers_of_threads() == {1}
        assert numbers_of_threads() == {2}


def test_an_error_gives_the_threads_back() -> None:
    with one_thread():
        pass
    with threadpool_limits(2):
        with pytest.raises(ZeroDivisionError), one_thread():
            raise ZeroDivisionError
        assert numbers_of_threads() == {2}
