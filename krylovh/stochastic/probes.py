"""Random probe vectors, one independent stream per (seed, purpose, index).

The estimators of this package average over random vectors v with ``E[v v'] = I`` (Hutchinson 1990), or over vectors
uniform on the unit sphere.  Probe ``i`` is drawn from a counter-based generator (Philox; Salmon, Moraes, Dror and Shaw
2011) whose key is made from the seed, the purpose and ``i`` alone.  So probes 0 to 9 and then 10 to 19 are probes 0 to
19, whatever the block size, and two estimators with the same seed never share a vector.
"""

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread

Array = NDArray[np.float64]
Distribution = Literal["rademacher", "gaussian", "sphere"]

#: Normal numbers (10 to 50 ns each) from which on threads draw them.
_WORTH_THREADS = 2**16

__all__ = ["Distribution", "probe_block"]


def probe_block(
    n: int, first: int, count: int, *, seed: int, purpose: str, distribution: Distribution = "rademacher"
) -> Array:
    """Return probes ``first`` to ``first + count - 1`` as columns.

    Parameters
    ----------
    n : int
        Length of a probe.
    first, count : int
        Which probes.
    seed : int
        Non-negative.
    purpose : str
        Name of the estimator; probes of different purposes are independent.
    distribution : {"rademacher", "gaussian", "sphere"}
        Entries +-1 with equal odds; standard normal entries; or uniform on the unit sphere.

    Returns
    -------
    ndarray, shape (n, count)
        Fortran order.

    Examples
    --------
    >>> first = probe_block(1000, 0, 2, seed=7, purpose="trace")
    >>> both = probe_block(1000, 0, 4, seed=7, purpose="trace")
    >>> bool((both[:, :2] == first).all())
    True
    """
    if distribution not in get_args(Distribution):
        raise ValueError(f"distribution must be one of {get_args(Distribution)}, got {distribution!r}")
    block = np.empty((n, count), order="F")
    name = zlib.crc32(purpose.encode())

    def draw(column: int) -> None:
        # SeedSequence separates seed and spawn key, so no two (seed, purpose, index) meet
        key = np.random.SeedSequence(seed, spawn_key=(name, first + column))
        _draw(np.random.Generator(np.random.Philox(key)), distribution, block[:, column])

    threads = min(_available_threads(), count)
    with one_blas_thread(8 * n):  # for the lengths of single vectors, more threads only wait for each other
        if threads > 1 and distribution != "rademacher" and n * count >= _WORTH_THREADS:
            with ThreadPoolExecutor(threads) as pool:  # NumPy draws without the lock of the interpreter
                list(pool.map(draw, range(count)))
        else:
            for column in range(count):
                draw(column)
    return block


def _available_threads() -> int:
    """Return how many CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _draw(generator: np.random.Generator, distribution: Distribution, vector: Array) -> None:
    """Fill ``vector``."""
    if distribution == "rademacher":
        n = len(vector)
        bits = np.unpackbits(np.frombuffer(generator.bytes((n + 7) // 8), dtype=np.uint8), count=n)
        np.multiply(bits, 2.0, out=vector)
        vector -= 1.0
        return
    generator.standard_normal(out=vector)
    if distribution == "sphere":
        vector /= np.linalg.norm(vector)
