"""Threads: lanes of samples run side by side, each with a BLAS of one thread.

Two kinds of threads must not multiply: while a kernel runs its lanes, every BLAS in the process is held to one thread.
And Numba's threading layers have two traps that end the process: the ``workqueue`` layer must not be entered by two
threads at once, and GNU OpenMP must not be used in a child forked after it was started.  The first is guarded by a
lock; in such a child lanes run one after the other, with the same result.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
from threadpoolctl import ThreadpoolController

from krylovh.arrays import positive_int

__all__ = ["available_threads", "num_lanes", "parallel_region", "thread_info"]


def available_threads() -> int:
    """Return how many threads kernels may use: the CPUs given to this process, within Numba's own limit."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cpus = os.cpu_count() or 1
    return max(1, min(cpus, int(numba.config.NUMBA_NUM_THREADS)))


def num_lanes(threads: int | None, num_rows: int) -> int:
    """Return into how many lanes ``num_rows`` samples are cut: one per thread, none of them empty."""
    chosen = available_threads() if threads is None else positive_int("threads", threads)
    return max(1, min(chosen, num_rows))


class _BlasLimit:
    """Hold every BLAS to one thread while at least one kernel runs; restore when the last one leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._libraries: list[Any] | None = None
        self._before: list[int] = []

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                if self._libraries is None:
                    import scipy.linalg.cython_blas  # noqa: F401  the BLAS that kernels call has to be loaded by now

                    self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
                self._before = [library.get_num_threads() for library in self._libraries]
                for library, before in zip(self._libraries, self._before, strict=True):
                    if before != 1:
                        library.set_num_threads(1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for library, before in zip(self._libraries or [], self._before, strict=True):
                    if before != 1:
                        library.set_num_threads(before)


_blas = _BlasLimit()
_launch = threading.Lock()  # held while a layer that is not thread-safe is inside a parallel region
_started = False  # a parallel region has run in this process
_forked = False  # this process is a child of one in which a parallel region had run


def _after_fork() -> None:
    global _blas, _launch, _forked
    _blas, _launch = _BlasLimit(), threading.Lock()
    _forked = _forked or _started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _thread_safe() -> bool:
    try:
        return numba.threading_layer() in ("tbb", "omp")
    except ValueError:  # no layer chosen yet: the first launch chooses
        return False


@contextmanager
def parallel_region(lanes: int) -> Iterator[bool]:
    """Surround one kernel call; yields whether its lanes may run side by side."""
    global _started
    _blas.enter()
    try:
        if lanes == 1 or _forked:
            yield False
        elif _thread_safe():
            yield True
        else:
            with _launch:
                _started = True
                yield True
    finally:
        _blas.leave()


def thread_info() -> dict[str, Any]:
    """Return what threads the kernels use: lanes, Numba's layer, and each BLAS with its version and threads.

    Examples
    --------
    >>> sorted(thread_info())
    ['blas', 'layer', 'threads']
    """
    try:
        layer = numba.threading_layer()
    except ValueError:
        layer = "not started"
    blas = [
        {key: entry.get(key) for key in ("prefix", "version", "architecture", "num_threads")}
        for entry in ThreadpoolController().select(user_api="blas").info()
    ]
    return {"threads": available_threads(), "layer": layer, "blas": blas}
