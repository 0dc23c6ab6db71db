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
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from krylovh.krylov.curvature import FlatDirection, classify_direction
from krylovh.krylov.preconditioning import CheckedPreconditioner
from krylovh.krylov.scaling import unit_vector
from krylovh.krylov.stops import STOPS, status_of
from krylovh.krylov.symmetry import check_symmetry
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
    with reporting(progress, "block_cg") as report:
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
        self.B = np.ldexp(np.where(finite, B, 0.0), -self.exponents)
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
        self.stage: _Stage | None = None

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
        self.stage = stage = _Stage(self.system, P, index, self.X[:, index], R)
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

    def _verify(self, stage: "_Stage") -> None:
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
            X = np.ldexp(self.X, units - self.system.exponent)
        X[:, self.nonfinite] = np.nan
        lengths = np.where(self.lengths > 0, self.lengths, 1.0)
        relative, norms = self.norms / lengths, np.ldexp(self.norms, units)
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
            residual_history=np.ldexp(np.array(self.history), units),
            rtol=self.rtol,
            solver="block_cg",
        )


class _Stage:
    """The recurrence BCGrQ: ``R = Q C``, ``Q'P Q = I``, search directions ``S``."""

    def __init__(self, system: ScaledSystem, P: CheckedPreconditioner, index: Index, X: Array, R: Array) -> None:
        self.system = system
        self.P = P
        self.index = index
        self.X = X.copy()
        self.best = self.X.copy()
        self.norms = np.linalg.norm(R, axis=0)
        self.smallest = self.norms.copy()
        self.steps = 0
        self.singular = False  # a null vector was met, along which x diverges
        self.largest_x = np.linalg.norm(X, axis=0)
        self.Q, self.S, self.C = self._factor(R)

    @property
    def size(self) -> int:
        """How many directions are searched."""
        return int(self.S.shape[1])

    @property
    def attainable(self) -> Array:
        """What rounding leaves of each residual, shape (k,)."""
        return np.asarray(self.system.eps * self.system.norm * self.largest_x)

    def step(self) -> FlatDirection | None:
        """Take one step, with one block product; return a direction without positive curvature if there is one."""
        W = self.system.product(self.S)
        if self.steps == 0:
            lengths = np.linalg.norm(self.S, axis=0)
            check_symmetry(self.system.product, self.S / lengths, W / lengths, self.system.eps, margin=100.0)
        form = self.S.T @ W
        form = (form + form.T) / 2
        values, vectors = scipy.linalg.eigh(form, self.S.T @ self.S)
        lowest = self.S @ vectors[:, 0]
        flat = classify_direction(self.system, lowest, W @ vectors[:, 0], doubtful=self.steps == 0)
        if flat is not None:
            self.singular = flat.status == Status.INCONSISTENT
            return flat
        coefficients = vectors @ ((vectors.T @ self.C) / values[:, None])
        self.X += self.S @ coefficients
        self.Q, PQ, zeta = self._factor(self.Q - W @ (vectors @ (vectors.T / values[:, None])))
        self.C = zeta @ self.C
        self.S = PQ + self.S @ zeta.T
        self.steps += 1
        self.norms = np.linalg.norm(self.Q @ self.C, axis=0)
        self.largest_x = np.maximum(self.largest_x, np.linalg.norm(self.X, axis=0))
        better = self.norms <= self.smallest
        self.best[:, better], self.smallest[better] = self.X[:, better], self.norms[better]
        return None

    def implied(self, flat: FlatDirection | None) -> NDArray[np.bool_]:
        """Return which residuals have a component along a flat direction: at least one has."""
        if flat is None:
            return np.zeros(self.index.size, dtype=bool)
        along = np.abs(unit_vector(flat.direction) @ self.Q @ self.C) / np.where(self.norms > 0, self.norms, 1.0)
        return np.asarray(along > np.minimum(np.sqrt(self.system.eps), 0.5 * along.max()))

    def _factor(self, R: Array) -> tuple[Array, Array, Array]:
        """Return ``Q``, ``P Q`` and ``zeta`` with ``R = Q zeta`` and ``Q'P Q = I``; dependent directions are left out.

        Rows and columns of the triangular factor below rounding carry no direction any more.
        """
        Q, T, order = scipy.linalg.qr(R, mode="economic", pivoting=True)
        diagonal = np.abs(np.diagonal(T))
        rank = int(np.count_nonzero(diagonal > 10 * np.finfo(np.float64).eps * diagonal.max(initial=0.0)))
        zeta = np.empty((rank, R.shape[1]))
        zeta[:, order] = T[:rank]
        Q = np.asarray(Q[:, :rank])
        if rank == 0 or self.P.identity:
            return Q, Q.copy(), zeta
        PQ = self.P.apply(Q)
        gram = Q.T @ PQ
        try:
            L = np.linalg.cholesky((gram + gram.T) / 2)
        except np.linalg.LinAlgError:
            raise ValueError("preconditioner must be positive definite, got Q'PQ that is not") from None
        Q, PQ = (scipy.linalg.solve_triangular(L, M.T, lower=True).T for M in (Q, PQ))
        return Q, PQ, L.T @ zeta
