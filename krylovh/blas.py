"""How many threads the BLAS uses.

A BLAS of several threads inside a kernel that is itself parallel multiplies threads, and on matrices that fit into a
cache it spends its time waiting for them.  Worse, threads that were woken for the dot product of two long vectors go on
looking for work for a while, on the cores that the next product needs.  In these places the BLAS is held to one thread,
and given back what it had when the last of them is left; an operator of the caller's, applied inside, has the threads
that the caller gave it.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

from threadpoolctl import ThreadpoolController

SMALL = 2**25  # bytes: what stays in a cache

__all__ = ["SMALL", "blas_threads_of_caller", "one_blas_thread"]


class _Limit:
    """Counts who is inside: the first to enter limits, the last to leave restores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._libraries: list[tuple[Callable[[], int], Callable[[int], Any]]] | None = None
        self._before: list[int] = []

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                if self._libraries is None:
                    import scipy.linalg.cython_blas  # noqa: F401  the BLAS of SciPy has to be loaded by now

                    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
                    self._libraries = [_number_of_threads(library) for library in loaded]
                self._before = [get() for get, _ in self._libraries]
                self._set([1] * len(self._libraries))
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set(self._before)

    def _set(self, numbers: list[int]) -> None:
        for (_, set_to), number, before in zip(self._libraries or [], numbers, self._before, strict=True):
            if before != 1:
                set_to(number)


def _number_of_threads(library: Any) -> tuple[Callable[[], int], Callable[[int], Any]]:
    """Return the functions that read and set how many threads a BLAS uses.

    An OpenBLAS with threads of its own is asked directly: threadpoolctl lets one Python thread alone set their number
    for as long as that thread lives, but here each may be the first to enter.
    """
    if library.internal_api == "openblas" and library.threading_layer == "pthreads":
        get, set_to = (library._get_symbol(f"openblas_{verb}_num_threads") for verb in ("get", "set"))
        if get is not None and set_to is not None:
            return get, set_to
    return library.get_num_threads, library.set_num_threads


_limit = _Limit()


class _Entered(threading.local):
    """The limits that this Python thread is inside of."""

    def __init__(self) -> None:
        self.limits: list[_Limit] = []


_inside = _Entered()


def _after_fork() -> None:
    """A child starts with nobody inside: the threads that were do not exist in it."""
    global _limit
    _limit = _Limit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class one_blas_thread:
    """Hold every BLAS to one thread inside, unless it works on more than ``SMALL`` bytes.

    Examples
    --------
    >>> with one_blas_thread():
    ...     pass
    """

    def __init__(self, num_bytes: int = 0) -> None:
        self._limit = _limit if num_bytes <= SMALL else None

    def __enter__(self) -> None:
        if self._limit is not None:
            self._limit.enter()
            _inside.limits.append(self._limit)

    def __exit__(self, *_: object) -> None:
        if self._limit is not None:
            _inside.limits.pop()
            self._limit.leave()


class blas_threads_of_caller:
    """Give the BLAS back, inside, the threads that it had before this Python thread held it to one.

    Examples
    --------
    >>> with one_blas_thread(), blas_threads_of_caller():
    ...     pass
    """

    def __init__(self) -> None:
        self._limits: list[_Limit] = []

    def __enter__(self) -> None:
        self._limits, _inside.limits = _inside.limits, []
        for limit in self._limits:
            limit.leave()

    def __exit__(self, *_: object) -> None:
        for limit in self._limits:
            limit.enter()
        _inside.limits = self._limits
