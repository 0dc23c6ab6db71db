"""What tests of resumed runs share: an operator that stops a run, and equality of results to the last bit."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from krylovh import Checkpoint


class Stopped(Exception):
    """The end of a run that nobody has foreseen."""


class Counted(LinearOperator):
    """``diag(d) + 0.001 11'``, which counts products and raises at one of them."""

    def __init__(self, d, limit=np.inf):
        super().__init__(np.float64, (len(d), len(d)))
        self.d, self.limit, self.count = d, limit, 0

    def _matmat(self, V):
        self.count += V.shape[1]
        if self.count > self.limit:
            raise Stopped
        return self.d[:, None] * V + 1e-3 * V.sum(axis=0)

    def _matvec(self, v):
        return self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]


def often(path):
    """Return a checkpoint that is saved at nearly every opportunity."""
    return Checkpoint(path, overhead=0.99999)


def differing(a, b, but=()):
    """Return the names of the fields in which two results differ, be it in one bit."""
    if isinstance(a, np.ndarray):
        return [] if np.array_equal(a, b) else ["values"]
    return [f.name for f in dataclasses.fields(a) if f.name not in but and not _same(a, b, f.name)]


def _same(a, b, name):
    x, y = getattr(a, name), getattr(b, name)
    if isinstance(x, np.ndarray):
        return x.dtype == y.dtype and x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
    return x == y or (x != x and y != y)


def stopping_after(calls):
    """Return a progress function that raises at its ``calls``-th call."""
    seen = []

    def progress(done, total):
        seen.append(done)
        if len(seen) == calls:
            raise Stopped

    return progress


def calls_of_progress(function, *args, **keywords):
    """Return a result, and how often progress was reported on the way."""
    seen = []
    result = function(*args, **keywords, progress=lambda done, total: seen.append(done))
    return result, len(seen)


def some(cases, later):
    """Return names of cases as parameters; those in ``later`` are for the full suite."""
    return [pytest.param(name, marks=pytest.mark.full) if name in later else name for name in cases]
