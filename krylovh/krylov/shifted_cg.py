"""Damped families: ``(A + lam I) x = b`` for many lam out of one Krylov space.

A shift moves the diagonal of the tridiagonal matrix of the Lanczos process and leaves its vectors alone.  So one
product per step serves all shifts, and each has its own factorisation ``T + lam I = L D L'``, its own direction and its
own iterate: those of conjugate gradients for ``A + lam I``.  The pivots of D are the curvatures ``p'(A + lam I) p`` of
these directions; the first that is not positive ends that shift, and no other.

References
----------
Saad (2003), Iterative methods for sparse linear systems, 6.7: the direct version of the Lanczos method.
Frommer and Maass (1999), Fast CG-based methods for Tikhonov-Phillips regularization.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.blas import one_blas_thread
from krylovh.checks import finite_array
from krylovh.krylov.curvature import ROUNDING
from krylovh.krylov.scaling import ldexp
from krylovh.krylov.stops import STOPS, status_of
from krylovh.krylov.system import LinearSystem
from krylovh.progress import Progress, reporting
from krylovh.results import BlockSolveResult, Status

Array = NDArray[np.float64]
Index = NDArray[np.intp]

__all__ = ["shifted_cg"]


def shifted_cg(
    A: Any,
    b: ArrayLike,
    shifts: ArrayLike,
    *,
    rtol: float = 1e-6,
    max_iterations: int | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> BlockSolveResult:
    """Solve ``(A + lam I) x = b`` for all given lam, with the products of one solve.

    Costs one product per iteration, as many iterations as the smallest lam needs, and one product per lam for its true
    residual.  Memory is two vectors per lam and a few more.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Real and symmetric.
    b : array_like, shape (n,)
    shifts : array_like, shape (k,)
        The values of lam, in any order.
    rtol : float
        A system is converged when ``|b - (A + lam I) x| <= rtol |b|``.
    max_iterations : int, optional
        By default ``10 n``.
    max_products, max_seconds : optional
        Budget; the number of products is never exceeded and includes those of residuals.
    progress : bool or callable
        True for a bar on standard error, or a function of (systems solved, k).

    Returns
    -------
    BlockSolveResult
        One system per lam, in the given order, with true residuals and a status each: "converged";
        "negative_curvature" where ``A + lam I`` is not positive definite, with a direction d of nonpositive curvature;
        "inconsistent" where it is singular, to rounding, along a component of b; "stagnated" where the recurrence
        claimed more than rounding allows (:func:`cg` for that lam alone goes on from x); "budget", "nonfinite" or
        "interrupted".

    Raises
    ------
    TypeError, ValueError
        Where an argument makes no sense, or products show that A is not symmetric.

    References
    ----------
    Frommer and Maass (1999), Fast CG-based methods for Tikhonov-Phillips regularization.

    Examples
    --------
    >>> A = 2 * np.eye(100) - np.eye(100, k=1) - np.eye(100, k=-1)
    >>> b = np.random.default_rng(0).standard_normal(100)
    >>> family = shifted_cg(A, b, [1e-3, 1e-1, 10.0, -0.5])
    >>> [str(status) for status in family.statuses]
    ['converged', 'converged', 'converged', 'negative_curvature']
    >>> one = family[1]
    >>> bool(np.linalg.norm(A @ one.x + 0.1 * one.x - b) <= 1e-6 * np.linalg.norm(b))
    True
    """
    system = LinearSystem(
        A, b, rtol=rtol, max_iterations=max_iterations, max_products=max_products, max_seconds=max_seconds
    )
    lam = finite_array("shifts", shifts, np.float64)
    if lam.ndim != 1:
        raise ValueError(f"shifts must have shape (k,), got {lam.shape}")
    family = _Family(system, lam)
    status = Status.BUDGET
    with reporting(progress, "shifted_cg") as report, one_blas_thread(8 * system.n):
        system.operator.reserved = lam.size  # for the true residuals
        try:
            if system.b_norm > 0:
                for _ in range(system.max_iterations):
                    if family.active.size == 0:
                        break
                    family.step()
                    report(lam.size - family.active.size, lam.size)
        except STOPS as stop:
            status = status_of(stop)
        try:
            return family.close(status)
        except KeyboardInterrupt:
            if status == Status.INTERRUPTED:  # the second one
                raise
            return family.close(Status.INTERRUPTED)


class _Family:
    """All shifted systems; arrays have one entry, or column, per shift."""

    def __init__(self, system: LinearSystem, shifts: Array) -> None:
        k, n = shifts.size, system.n
        self.system = system
        self.shifts = shifts
        self.X = np.zeros((n, k), order="F")
        self.P = np.zeros((n, k), order="F")
        self.active: Index = np.arange(k)
        self.statuses: list[Status | None] = [None] * k
        self.directions = np.full((n, k), np.nan)
        self.norms = np.full(k, system.b_norm)
        self.history = [self.norms.copy()]
        self._v = system.b / (system.b_norm or 1.0)
        self._previous = np.zeros(n)
        self._beta = 0.0
        self._pivots = np.ones(k)
        self._z = np.full(k, system.b_norm)

    def step(self) -> None:
        """Take one step of the Lanczos process, and with it one of every system that is not done; one product."""
        system, v, active = self.system, self._v, self.active
        w = system.product(v)
        system.first_products(v, w)
        shifts = ldexp(self.shifts, -system.exponent)
        w -= self._beta * self._previous
        alpha = float(v @ w)
        w -= alpha * v
        beta = float(np.linalg.norm(w))
        ratio = self._beta / self._pivots[active] if len(self.history) > 1 else np.zeros(active.size)
        pivots = alpha + shifts[active] - self._beta * ratio
        z = self._z[active] if len(self.history) == 1 else -ratio * self._z[active]
        self.P[:, active] = v[:, None] - self.P[:, active] * ratio
        lengths = np.linalg.norm(self.P[:, active], axis=0)
        sizes = system.norm + np.abs(shifts[active])
        zone = ROUNDING * system.eps * sizes * lengths**2
        flat = pivots <= zone
        for i, pivot, width, size, sign in zip(*(a[flat] for a in (active, pivots, zone, sizes, z)), strict=True):
            self._leave(i, pivot, width, size, np.copysign(1.0, sign), w)
        going, steps = active[~flat], z[~flat] / pivots[~flat]
        self.X[:, going] += self.P[:, going] * steps
        self._pivots[going], self._z[going] = pivots[~flat], z[~flat]
        self.norms[going] = beta * np.abs(steps)
        self.history.append(self.norms.copy())
        floor = system.eps * (system.norm + np.abs(shifts[going])) * np.linalg.norm(self.X[:, going], axis=0)
        invariant = beta <= 10 * system.eps * system.norm
        done = (self.norms[going] <= np.maximum(system.target, floor)) | invariant
        self.active = going[~done]
        if not invariant:
            self._previous, self._v, self._beta = v, w / beta, beta

    def _leave(self, i: int, pivot: float, zone: float, size: float, sign: float, w: Array) -> None:
        """End a system whose direction p has no positive curvature: ``(A + lam I) p = pivot v + w``, with w to v."""
        p, image = self.P[:, i], pivot**2 + float(w @ w)
        if pivot >= -zone and image <= 4 * size * zone:
            self.statuses[i] = Status.INCONSISTENT  # p is a null vector, to rounding
            return
        if pivot > 0:  # to rounding: a step along w makes sure
            p = p - w / (2 * size)
        self.statuses[i] = Status.NEGATIVE_CURVATURE
        self.directions[:, i] = sign * p / np.linalg.norm(p)

    def close(self, status: Status) -> BlockSolveResult:
        """Recompute all residuals, and tell what they are."""
        system = self.system
        system.operator.release()
        shifts = ldexp(self.shifts, -system.exponent)
        norms = np.full(self.shifts.size, system.b_norm)
        values = np.zeros(self.shifts.size)  # of the quadratics x'(A + lam I)x / 2 - b'x
        try:
            image = system.product(self.X) + self.X * shifts
            norms = np.linalg.norm(system.b[:, None] - image, axis=0)
            values = np.einsum("nk,nk->k", self.X, image / 2 - system.b[:, None])
        except STOPS[:2] as stop:
            status = status_of(stop)
            self.X[:] = 0.0
        singular = np.array([found == Status.INCONSISTENT for found in self.statuses], dtype=bool)
        worse = (norms > system.b_norm) & ((values >= 0) | singular)  # nothing is better than this
        self.X[:, worse], norms[worse] = 0.0, system.b_norm
        statuses = []
        for i, (found, norm) in enumerate(zip(self.statuses, norms, strict=True)):
            if norm <= system.target:
                statuses.append(Status.CONVERGED)
            elif found is not None:
                statuses.append(found)
            else:
                statuses.append(status if i in self.active or status == Status.NONFINITE else Status.STAGNATED)
        met = np.array([found == Status.NEGATIVE_CURVATURE for found in statuses], dtype=bool)
        self.directions[:, ~met] = np.nan
        f = system.b_exponent
        return BlockSolveResult(
            x=ldexp(self.X, f - system.exponent),
            statuses=tuple(statuses),
            residual_norms=ldexp(norms, f),
            relative_residuals=norms / (system.b_norm or 1.0),
            num_iterations=len(self.history) - 1,
            num_products=system.operator.num_products,
            negative_curvature=self.directions if met.any() else None,
            residual_history=ldexp(np.array(self.history), f),
            rtol=system.rtol,
            solver="shifted_cg",
            shifts=self.shifts.copy(),
        )
