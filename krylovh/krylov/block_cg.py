"""Block conjugate gradients: several right-hand sides, one Krylov space.

Every step searches all directions that any residual offers, so that each solution is at least as good as that of its
own conjugate gradients after as many steps, and a step is one block product.  Residuals are kept as ``R = Q C`` with
``Q'P Q = I`` and a small ``C``; where they become linearly dependent, because a combination of the systems has
converged, the directions that are lost leave the block.

References
----------
O'Leary (1980), The block conjugate gradient algorithm and related methods.
Dubrulle (2001), Retooling the method of block conjugate gradients: the variant BCGrQ.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.blas import one_blas_thread
from krylovh.krylov.block_recurrence import BlockRecurrence
from krylovh.krylov.preconditioning import CheckedPreconditioner
from krylovh.krylov.scaling import ldexp, unit_vector
from krylovh.krylov.stops import STOPS, status_of
from krylovh.krylov.system import ScaledSystem, checked_iterations, checked_rtol
from krylovh.progress import Progress, ProgressFunction, reporting
from krylovh.results import BlockSolveResult, Status

Array = NDArray[np.float64]
Index = NDArray[np.intp]

__all__ = ["block_cg"]


def block_cg(
    A: Any,
    B: ArrayLike,
    *,
    rtol: float = 1e-6,
    preconditioner: Any = None,
    max_iterations: int | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> BlockSolveResult:
    """Solve ``A X = B`` for a symmetric positive definite operator out of one Krylov space.

    Costs at most k products per iteration, and k for the true residuals; memory is about seven blocks of k vectors.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Real and symmetric.
    B : array_like, shape (n, k)
        A column that is zero costs nothing, one with NaN or infinity is not solved, and neither disturbs the others.
    rtol : float
        A system is converged when ``|b - A x| <= rtol |b|``.
    preconditioner : LinearOperator, ndarray or sparse matrix, shape (n, n), optional
        ``P``, symmetric positive definite, near the inverse of A.
    max_iterations : int, optional
        Block steps, by default ``10 n``.
    max_products, max_seconds : optional
        Budget; the number of products is never exceeded and includes those of residuals.
    progress : bool or callable
        True for a bar on standard error, or a function of (systems solved, k).

    Returns
    -------
    BlockSolveResult
        With a status and an x per system, as of :func:`cg`; "nonfinite" and NaN for a column of B that is not finite.
        A direction of negative curvature ends the systems that have a component along it, and the others go on.

    Raises
    ------
    TypeError, ValueError
        Where an argument makes no sense, products show that A is not symmetric, or the preconditioner is not positive
        definite.

    References
    ----------
    O'Leary (1980); Dubrulle (2001).

    Examples
    --------
    >>> A = 2 * np.eye(100) - np.eye(100, k=1) - np.eye(100, k=-1)
    >>> result = block_cg(A, np.random.default_rng(0).standard_normal((100, 8)))
    >>> str(result.status), bool(result.relative_residuals.max() <= 1e-6), result.num_iterations < 20
    ('converged', True, True)
    """
    system = ScaledSystem(A, max_products=max_products, max_seconds=max_seconds)
    B = np.asarray(B)
    if B.dtype.kind not in "fiub":
        raise TypeError(f"B must be a real array, got dtype {B.dtype}")
    if B.ndim != 2 or B.shape[0] != system.n:
        raise ValueError(f"B must have shape ({system.n}, k), got {B.shape}")
    systems = _Systems(system, B.astype(np.float64), checked_rtol(rtol), checked_iterations(max_iterations, system.n))
    P = CheckedPreconditioner(preconditioner, system.n)
    with reporting(progress, "block_cg") as report, one_blas_thread(B.nbytes):
        return systems.solve(P, report)


class _Systems:
    """All systems, each with its scale, its status and the best solution so far."""

    def __init__(self, system: ScaledSystem, B: Array, rtol: float, max_iterations: int) -> None:
        self.system = system
        self.rtol = rtol
        self.max_iterations = max_iterations
        k = B.shape[1]
        finite = np.isfinite(B).all(axis=0)
        self.exponents = np.frexp(np.abs(np.where(finite, B, 0.0)).max(axis=0, initial=0.0))[1]
        self.B = ldexp(np.where(finite, B, 0.0), -self.exponents)
        self.lengths = np.linalg.norm(self.B, axis=0)
        self.X = np.zeros_like(self.B)
        self.norms = self.lengths.copy()  # of true residuals
        self.values = np.zeros(k)  # of the quadratics
        self.statuses: list[Status | None] = [None] * k
        self.directions = np.full(B.shape, np.nan)
        self.nonfinite: NDArray[np.bool_] = np.logical_not(finite)
        for i in np.flatnonzero(self.nonfinite):
            self.statuses[i] = Status.NONFINITE
        for i in np.flatnonzero(finite & (self.lengths == 0)):
            self.statuses[i] = Status.CONVERGED
        self.history = [self.lengths.copy()]
        self.stage: BlockRecurrence | None = None

    @property
    def open(self) -> Index:
        """Systems without a status."""
        return np.array([i for i, status in enumerate(self.statuses) if status is None], dtype=np.intp)

    def solve(self, P: CheckedPreconditioner, report: ProgressFunction) -> BlockSolveResult:
        operator = self.system.operator
        stopped = Status.BUDGET
        try:
            while self.open.size and len(self.history) <= self.max_iterations:
                operator.reserved = self.open.size  # for the true residuals
                self._run(P, report)
                report(len(self.statuses) - self.open.size, len(self.statuses))
        except STOPS as stop:
            stopped = status_of(stop)
        operator.release()
        if self.stage is not None:
            try:
                self._verify(self.stage)
            except STOPS[:2] as stop:
                stopped = status_of(stop)
        for i in self.open:
            self.statuses[i] = Status.CONVERGED if self.norms[i] <= self.rtol * self.lengths[i] else stopped
        return self._result()

    def _run(self, P: CheckedPreconditioner, report: ProgressFunction) -> None:
        """Iterate on the open systems from their true residuals, then look at the truth."""
        index = self.open
        before = self.norms[index]
        R = self.B[:, index] - self.system.product(self.X[:, index])
        self.stage = stage = BlockRecurrence(self.system, P, index, self.X[:, index], R)
        flat = None
        targets = self.rtol * self.lengths[index]
        while len(self.history) <= self.max_iterations:
            if (stage.norms <= np.maximum(targets, stage.attainable)).all() or stage.size == 0:
                break
            flat = stage.step()
            if flat is not None:
                break
            norms = self.history[-1].copy()
            norms[index] = stage.norms
            self.history.append(norms)
        self._verify(stage)
        self.stage = None
        for i, norm, old, implied in zip(index, self.norms[index], before, stage.implied(flat), strict=True):
            if norm <= self.rtol * self.lengths[i]:
                self.statuses[i] = Status.CONVERGED
            elif flat is not None and implied:
                self.statuses[i] = flat.status
                if flat.status == Status.NEGATIVE_CURVATURE:
                    d = unit_vector(flat.direction)
                    r = self.B[:, i] - self.residual_products[:, np.searchsorted(index, i)]
                    self.directions[:, i] = d if d @ r >= 0 else -d
            elif norm > 0.5 * old and flat is None and len(self.history) <= self.max_iterations:
                self.statuses[i] = Status.STAGNATED

    def _verify(self, stage: BlockRecurrence) -> None:
        """Recompute the residuals of the systems in a stage, and keep what is better than before.

        Better is what has a smaller residual, or a smaller value of the quadratic ``x'Ax / 2 - b'x``.
        """
        index = stage.index
        reached = stage.smallest <= np.maximum(self.rtol * self.lengths[index], stage.attainable)
        X = np.where(reached | stage.singular, stage.best, stage.X)
        AX = self.system.product(X)
        B = self.B[:, index]
        norms = np.linalg.norm(B - AX, axis=0)
        values = np.einsum("nk,nk->k", X, AX / 2 - B)
        falls = (values < self.values[index] - 10 * self.system.eps * np.abs(self.values[index])) & ~reached
        better = (norms <= self.norms[index]) | falls
        self.values[index[better]] = values[better]
        self.X[:, index[better]] = X[:, better]
        self.norms[stage.index[better]] = norms[better]
        self.residual_products = AX

    def _result(self) -> BlockSolveResult:
        units = self.exponents
        with np.errstate(over="ignore", under="ignore"):
            X = ldexp(self.X, units - self.system.exponent)
        X[:, self.nonfinite] = np.nan
        lengths = np.where(self.lengths > 0, self.lengths, 1.0)
        relative, norms = self.norms / lengths, ldexp(self.norms, units)
        relative[self.nonfinite] = norms[self.nonfinite] = np.nan
        statuses = [
            status if status is not None and (np.isfinite(X[:, i]).all() or self.nonfinite[i]) else Status.NONFINITE
            for i, status in enumerate(self.statuses)
        ]
        return BlockSolveResult(
            x=X,
            statuses=tuple(statuses),
            residual_norms=norms,
            relative_residuals=relative,
            num_iterations=len(self.history) - 1,
            num_products=self.system.operator.num_products,
            negative_curvature=self.directions if np.isfinite(self.directions).any() else None,
            residual_history=ldexp(np.array(self.history), units),
            rtol=self.rtol,
            solver="block_cg",
        )
