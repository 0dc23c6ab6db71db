"""Threads: lanes of samples run side by side, each with a BLAS of one thread.

Two kinds of threads must not multiply: while a kernel runs its lanes, every BLAS in the process is held to one thread.
And Numba's threading layers have two traps that end the process: the ``workqueue`` layer must not be entered by two
threads at once, and GNU OpenMP must not be used in a child forked after it was started.  The first is guarded by a
lock; in such a child lanes run one after the other, with the same result.
"""

import os
import threading
from typing import Any

import numba
from threadpoolctl import ThreadpoolController

from krylovh.blas import one_blas_thread
from krylovh.checks import whole_number

LANE_WORK = 2**15

__all__ = ["available_threads", "num_lanes", "parallel_region", "thread_info"]


def available_threads() -> int:
    """Return how many threads kernels may use: the CPUs given to this process, within Numba's own limit."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cpus = os.cpu_count() or 1
    return max(1, min(cpus, int(numba.config.NUMBA_NUM_THREADS)))


def num_lanes(threads: int | None, num_rows: int, row_work: int) -> int:
    """Return into how many lanes ``num_rows`` samples are cut, of ``row_work`` multiplications each.

    One per thread, none of them empty.  Where the number of threads is left open, each gets at least ``LANE_WORK``:
    below that, waiting for the other threads takes longer than their share of the work.
    """
    if threads is None:
        return max(1, min(available_threads(), num_rows, num_rows * row_work // LANE_WORK))
    return max(1, min(whole_number("threads", threads, 1), num_rows))


_launch = threading.Lock()  # held while a layer that is not thread-safe is inside a parallel region
_forked = False  # this process is a child of one in which a parallel region had run


def _after_fork() -> None:
    global _launch, _forked
    _launch = threading.Lock()
    _forked = _forked or _layer() is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _layer() -> str | None:
    """Return Numba's threading layer; None before the first parallel region of the process chooses one."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


class parallel_region:
    """Surround one kernel call: ``with parallel_region(lanes) as parallel`` says whether lanes may run side by side.

    No more threads than lanes are woken.  With ``threaded_blas`` the BLAS keeps its threads: for a kernel of one lane
    with large matrices.
    """

    def __init__(self, lanes: int, *, threaded_blas: bool = False) -> None:
        self._lanes = lanes
        self._threaded_blas = threaded_blas
        self._one_thread = one_blas_thread()
        self._launch: threading.Lock | None = None
        self._team = 0  # threads of Numba before, where they are limited

    def __enter__(self) -> bool:
        if self._threaded_blas:
            return False
        self._one_thread.__enter__()
        if _forked:
            return False
        if _layer() not in ("tbb", "omp"):
            self._launch = _launch
            self._launch.acquire()
        team = numba.get_num_threads()
        if self._lanes < team:
            numba.set_num_threads(self._lanes)
            self._team = team
        return True

    def __exit__(self, *_: object) -> None:
        if self._team:
            numba.set_num_threads(self._team)
        if self._launch is not None:
            self._launch.release()
        if not self._threaded_blas:
            self._one_thread.__exit__()


def thread_info() -> dict[str, Any]:
    """Return what threads the kernels use: lanes, Numba's layer, and each BLAS with its version and threads.

    Examples
    --------
    >>> sorted(thread_info())
    ['blas', 'layer', 'threads']
    """
    blas = [
        {key: entry.get(key) for key in ("prefix", "version", "architecture", "num_threads")}
        for entry in ThreadpoolController().select(user_api="blas").info()
    ]
    return {"threads": available_threads(), "layer": _layer() or "not started", "blas": blas}
