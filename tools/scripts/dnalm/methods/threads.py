"""Threads of linear algebra: sums of floating-point numbers depend on their number."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold the linear algebra to one thread."""
    # The limit reaches only the libraries that are loaded.
    import scipy.linalg  # noqa: F401
    import sklearn.utils  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
