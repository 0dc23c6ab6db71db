"""All eigenpairs in an interval, by way of a polynomial that makes them the largest ones.

The largest eigenpairs of ``p(A)`` are sought in portions, each kept orthogonal to the ones before and verified like any
extreme set, until one lies below the level that ``p`` has at the ends of the interval: then none is missing.  A
Rayleigh-Ritz step with ``A`` turns them into eigenpairs of ``A``, with true residuals.

References
----------
Li, Xi, Vecharynski, Yang and Saad (2016), A thick-restart Lanczos algorithm with polynomial filtering for Hermitian
eigenvalue problems.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.basis import BasisStorage
from krylovh.krylov.chebyshev_filter import FilteredOperator, chebyshev_filter
from krylovh.krylov.ends import Request
from krylovh.krylov.factorization import LanczosFactorization
from krylovh.krylov.pairs import Pairs, rayleigh_ritz
from krylovh.krylov.scaling import ScaledOperator
from krylovh.krylov.search import Search
from krylovh.krylov.search_state import restore_search, search_state
from krylovh.krylov.start import FirstProducts, random_stream
from krylovh.krylov.symmetric import BudgetSpent
from krylovh.progress import ProgressFunction

Array = NDArray[np.float64]

__all__ = ["IntervalSearch"]

#: steps of the Lanczos process that the ends of the spectrum are estimated with
_END_STEPS = 30
#: pairs that are sought at a time
_PORTION = 8
#: the largest eigenvalue of p(A) is 1: their residuals are this share of the tolerance for A
_SHARE = 0.1


@dataclass
class IntervalSearch:
    """State of a search for all eigenpairs of the scaled operator in [a, b]; ``found`` is filled by :meth:`close`."""

    first: FirstProducts
    a: float
    b: float
    request: Request  # at most k pairs, with residuals up to tol |A|
    max_restarts: int
    seed: int
    report: ProgressFunction
    deflated: Array
    storage: BasisStorage

    def __post_init__(self) -> None:
        self.A: ScaledOperator = self.first.A
        self.vectors = np.zeros((self.A.n, 0))
        self.norm = 0.0
        self.verified = False
        self.num_restarts = 0
        self.found = Pairs.none(self.A.n)

    def find(self, verify: bool) -> None:
        """Collect the vectors of all pairs in the interval; ``BudgetSpent`` if there are more than k."""
        record, operator = self.A.operator.record, self.A.operator
        low, high, self.norm = (float(x) for x in record.unit("ends", operator, lambda: (self._spectrum(),))[0])
        if self.b < low or self.a > high:
            self.verified = True
            return
        p = FilteredOperator(self.A.operator, self.A.exponent, chebyshev_filter(low, high, self.a, self.b))
        k, verified = self.request.k, True
        for portion in range(self.A.n):
            locked = np.hstack([self.deflated, self.vectors])
            left = self.A.n - locked.shape[1]
            if left == 0:
                break
            rng = random_stream(self.seed, f"portion {portion}")
            count = min(_PORTION, left)
            search = Search(
                p, Request(count, "LA", _SHARE * self.request.tol), min(max(2 * count + 10, 40), left),
                self.max_restarts - self.num_restarts, rng, _silent, deflated=locked, storage=self.storage,
            )  # fmt: skip
            name = f"portion {portion}"
            try:
                found = record.unit(name, operator, partial(self._portion, search, name, verify))
            except BaseException:
                found = _outcome(search)
                raise
            finally:
                vectors, values, facts = found
                self.num_restarts += int(facts[1])
                self.vectors = np.hstack([self.vectors, vectors])
            verified = verified and bool(facts[0])
            inside = int(np.count_nonzero(values >= p.polynomial.level))
            self.report(min(self.vectors.shape[1] - count + inside, k), k)
            if inside < count:
                break
            if self.vectors.shape[1] > k:
                raise BudgetSpent
        self.verified = verified and verify

    def _portion(self, search: Search, name: str, verify: bool) -> tuple[Array, ...]:
        """Find the largest eigenpairs of the filter besides those that are known."""
        record, operator = self.A.operator.record, self.A.operator
        state = record.state(name)
        start, probe = (_unit(search.rng.standard_normal(self.A.n), search.deflated) for _ in range(2))
        search.save = lambda: record.offer(name, lambda: search_state(search))
        if state is None:
            search.find(start, None)
        else:
            operator.num_products = state["num_products"]
            restore_search(search, state)
            search.go_on()
        if verify:
            search.verify(probe, None)
        return _outcome(search)

    def _spectrum(self) -> Array:
        """Return bounds that all eigenvalues are in but for the residuals of the outermost Ritz pairs, and |A|."""
        steps = min(_END_STEPS, self.A.n - self.deflated.shape[1])
        rng = random_stream(self.seed, "ends")
        process = LanczosFactorization(
            self.A, self.A.n, steps, _unit(self.first.probe, self.deflated), locked=self.deflated, rng=rng,
            eps=self.A.eps, storage=self.storage,
        )  # fmt: skip
        while process.size < steps and not process.complete:
            process.extend()
        ritz = process.ritz()
        norm = max(abs(float(ritz.values[0])), abs(float(ritz.values[-1])))
        low, high = ritz.values[0] - ritz.residual_norms[0], ritz.values[-1] + ritz.residual_norms[-1]
        margin = 1e-3 * float(high - low) + 1e-8 * norm
        return np.array([float(low) - margin, float(high) + margin, norm])

    def close(self) -> None:
        """Turn the vectors into eigenpairs in the interval with true residuals; one product per vector."""
        self.A.operator.release()
        if self.vectors.shape[1] == 0:
            return
        X = np.linalg.qr(self.vectors)[0]
        pairs = rayleigh_ritz(X, self.A(X))
        self.norm = max(self.norm, float(np.abs(pairs.values).max()))
        rounding = 10 * self.A.eps * self.norm
        inside = np.flatnonzero((pairs.values >= self.a - rounding) & (pairs.values <= self.b + rounding))
        if inside.size > self.request.k:
            inside, self.verified = inside[: self.request.k], False
        self.found = pairs.select(inside)

    def gaps(self) -> Array:
        """Return lower bounds of gaps: all eigenvalues that are not among the pairs are outside of the interval."""
        values, errors = self.found.values, self.found.residual_norms
        if not self.verified or not np.isfinite(errors).all():
            return np.zeros(values.size)
        distances = np.abs(np.subtract.outer(values, values))
        np.fill_diagonal(distances, np.inf)
        edges = np.minimum(values - self.a, self.b - values)
        nearest = np.minimum(distances.min(axis=1, initial=np.inf), edges)
        return np.asarray(np.maximum(nearest - np.linalg.norm(errors), 0.0))


def _outcome(search: Search) -> tuple[Array, ...]:
    return search.found.vectors, search.found.values, np.array([float(search.verified), float(search.num_restarts)])


def _unit(x: Array, locked: Array) -> Array:
    """Return ``x`` without its parts along ``locked``, of length one."""
    for _ in range(2):
        x = x - locked @ (locked.T @ x)
    return np.asarray(x / np.linalg.norm(x))


def _silent(done: int, total: int) -> None:
    """Take a report of a portion: only the number of pairs in the interval is of interest."""
