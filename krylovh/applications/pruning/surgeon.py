"""Optimal brain surgeon: the other parameters make up for those that are removed.

Let A be the curvature of the parameters that remain.  Of all changes d with d_B = -w_B, which removes the batch B, the
quadratic ``d'Ad / 2`` is smallest at

    d = -A^-1 E_B M^-1 w_B,     M = [A^-1]_BB,      with the value  L_B = w_B' M^-1 w_B / 2:

for one parameter ``L_q = w_q^2 / (2 [A^-1]_qq)``.  Away from a minimum the model ``g'd + d'Ad / 2`` is smallest at

    d = -A^-1 g - A^-1 E_B M^-1 (w_B - [A^-1 g]_B),

a Newton step and a removal in one; parameters are then ranked by ``(w_q - [A^-1 g]_q)^2 / (2 [A^-1]_qq)``.  When B is
gone, the inverse of what remains is ``A^-1 - A^-1 E_B M^-1 E_B' A^-1``, without the rows and columns of B.

References
----------
Hassibi and Stork (1993), Second order derivatives for network pruning: optimal brain surgeon.
"""

from typing import Any, Literal, Protocol

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from krylovh.exact import gauss_newton_matrix, hessian_diagonal, hessian_matrix, outer_product_inverse
from krylovh.krylov import DiagonalPreconditioner, block_cg
from krylovh.objective import Objective
from krylovh.operators import GaussNewtonOperator, HessianOperator
from krylovh.results import Status

Array = NDArray[np.float64]
Positions = NDArray[np.intp]
Curvature = Literal["hessian", "gauss_newton"]
Inverse = Literal["exact", "outer_product", "cg"]

BLOCK = 16  # solves that share a Krylov space

__all__ = ["CurvatureNotPositive", "SurgeonCriterion"]


class CurvatureNotPositive(ArithmeticError):
    """The curvature of the parameters that remain has no positive definite inverse, or a solve has not converged."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status


class InverseCurvature(Protocol):
    """The inverse of the curvature of the parameters that remain, as far as it is needed."""

    @property
    def num_products(self) -> int:
        """Products so far."""

    def diagonal(self, candidates: Positions, w: Array) -> Array:
        """Return entries of the diagonal of the inverse; infinite where a candidate is left out."""

    def times(self, V: Array) -> Array:
        """Return the inverse times the columns of V."""

    def remove(self, batch: Positions, columns: Array) -> None:
        """Forget a batch, whose columns of the inverse are given."""


class SurgeonCriterion:
    """The saliencies and steps of optimal brain surgeon, for any way to the inverse."""

    def __init__(
        self,
        inverse: Inverse,
        curvature: Curvature,
        damping: float,
        *,
        newton_step: bool = False,
        rtol: float = 1e-8,
        num_candidates: int | None = None,
    ) -> None:
        self.inverse, self.kind, self.damping = inverse, curvature, damping
        self.newton_step, self.rtol, self.num_candidates = newton_step, rtol, num_candidates
        self._free: Positions = np.empty(0, np.intp)
        self._inverse: InverseCurvature = DenseInverse(np.empty((0, 0)))
        self._columns: tuple[Positions, Array] | None = None  # of the last step
        self._products = 0

    @property
    def num_products(self) -> int:
        """Products of all solves so far."""
        return self._products + self._inverse.num_products

    def curvature(self, objective: Objective, free: Positions) -> None:
        """Compute the inverse, or get ready for solves."""
        self._products += self._inverse.num_products
        self._free, self._inverse = free, DenseInverse(np.empty((0, 0)))
        if self.inverse == "cg":
            self._inverse = SolvedInverse(objective, free, self.kind, self.damping, self.rtol, self.num_candidates)
        elif self.inverse == "outer_product":
            self._inverse = DenseInverse(_restricted(outer_product_inverse(objective, self.damping), free))
        else:
            matrix = hessian_matrix if self.kind == "hessian" else gauss_newton_matrix
            A = matrix(objective)[np.ix_(free, free)].astype(np.float64)
            A[np.diag_indices(len(A))] += self.damping
            self._inverse = DenseInverse(_inverse_of(A, np.finfo(objective.dtype).eps))

    def _target(self, objective: Objective) -> tuple[Array, Array | None]:
        """Return where the free parameters are counted from, w or ``w - A^-1 g``, and ``A^-1 g``."""
        w = objective.net.theta[self._free].astype(np.float64)
        if not self.newton_step:
            return w, None
        newton = self._inverse.times(objective.gradient()[self._free].astype(np.float64)[:, None])[:, 0]
        return w - newton, newton

    def saliencies(self, objective: Objective, candidates: Positions) -> Array:
        """Return ``L_q``."""
        target, _ = self._target(objective)
        d = self._inverse.diagonal(candidates, target)
        left_out = np.isinf(d)
        with np.errstate(invalid="ignore"):
            return np.where(left_out, np.inf, 0.5 * target[candidates] ** 2 / np.where(left_out, 1.0, d))

    def step(self, objective: Objective, batch: Positions) -> Array:
        """Return the change of all free parameters that removes a batch."""
        target, newton = self._target(objective)
        columns = self._inverse.times(np.eye(self._free.size)[:, batch])
        self._columns = batch, columns
        M = (columns[batch] + columns[batch].T) / 2
        change = -columns @ scipy.linalg.solve(M, target[batch], assume_a="pos", check_finite=False)
        return np.asarray(change if newton is None else change - newton)

    def remove(self, batch: Positions) -> None:
        """Forget a batch: its row and column leave the inverse."""
        if self._columns is None or not np.array_equal(self._columns[0], batch):
            self._columns = batch, self._inverse.times(np.eye(self._free.size)[:, batch])
        self._inverse.remove(batch, self._columns[1])
        self._free, self._columns = np.delete(self._free, batch), None


class DenseInverse:
    """The inverse as a matrix."""

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix
        self.num_products = 0

    def diagonal(self, candidates: Positions, w: Array) -> Array:
        """Return entries of the diagonal."""
        return np.asarray(np.diagonal(self.matrix)[candidates])

    def times(self, V: Array) -> Array:
        """Return the inverse times the columns of V."""
        return np.asarray(self.matrix @ V)

    def remove(self, batch: Positions, columns: Array) -> None:
        """Take the batch out by a change of low rank."""
        rest = np.setdiff1d(np.arange(len(self.matrix)), batch)
        self.matrix = _restricted(self.matrix, rest)


class SolvedInverse:
    """The inverse through conjugate gradients, for nets whose matrix does not fit.

    A diagonal entry is a solve with a unit vector.  By ``[A^-1]_qq >= 1 / A_qq`` no saliency is larger than
    ``A_qq w_q^2 / 2``; ``num_candidates`` solves only for the candidates where this bound is smallest.
    """

    def __init__(
        self,
        objective: Objective,
        free: Positions,
        kind: Curvature,
        damping: float,
        rtol: float,
        num_candidates: int | None,
    ) -> None:
        operator = HessianOperator if kind == "hessian" else GaussNewtonOperator
        self.whole = operator(objective)
        self.free, self.damping, self.rtol, self.num_candidates = free, damping, rtol, num_candidates
        if kind == "hessian":
            entries = hessian_diagonal(objective)
        else:
            from krylovh.exact import gauss_newton_diagonal

            entries = gauss_newton_diagonal(objective)
        self.entries = entries[free].astype(np.float64) + damping
        if self.entries.min(initial=np.inf) <= 0:
            worst = int(np.argmin(self.entries))
            raise CurvatureNotPositive(
                f"the curvature is not positive definite: its diagonal plus damping is {self.entries[worst]:.3g} at "
                f"parameter {free[worst]}; give a damping larger than {damping:.3g}, or curvature='gauss_newton'",
                Status.NEGATIVE_CURVATURE,
            )

    @property
    def num_products(self) -> int:
        """Products so far."""
        return self.whole.num_products

    def diagonal(self, candidates: Positions, w: Array) -> Array:
        """Return entries of the diagonal, by one solve each."""
        values = np.full(candidates.size, np.inf)
        bounds = self.entries[candidates] * w[candidates] ** 2
        chosen = np.argsort(bounds, kind="stable")[: self.num_candidates]
        for start in range(0, chosen.size, BLOCK):
            part = chosen[start : start + BLOCK]
            units = np.zeros((self.free.size, part.size))
            units[candidates[part], np.arange(part.size)] = 1.0
            values[part] = self.times(units)[candidates[part], np.arange(part.size)]
        return values

    def times(self, V: Array) -> Array:
        """Solve for the columns of V."""
        A: Any = self.whole.submatrix(self.free)
        damped = _Damped(A, self.damping)
        result = block_cg(damped, V, rtol=self.rtol, preconditioner=DiagonalPreconditioner(self.entries))
        if result.status == Status.INTERRUPTED:
            raise KeyboardInterrupt
        if result.status != Status.CONVERGED:
            raise CurvatureNotPositive(
                f"a solve with the curvature ended as {result.status} with a relative residual of "
                f"{result.relative_residuals.max():.1e}; give an rtol larger than {self.rtol:.3g}, a damping larger "
                f"than {self.damping:.3g}, or curvature='gauss_newton'",
                result.status,
            )
        return result.x

    def remove(self, batch: Positions, columns: Array) -> None:
        """Solve with a smaller matrix from now on."""
        self.free, self.entries = np.delete(self.free, batch), np.delete(self.entries, batch)


def _Damped(A: Any, damping: float) -> Any:
    from scipy.sparse.linalg import LinearOperator

    if damping == 0:
        return A
    return LinearOperator(
        A.shape,
        dtype=A.dtype,
        matvec=lambda v: A.matvec(v) + damping * v,
        matmat=lambda V: A.matmat(V) + damping * V,
        rmatvec=lambda v: A.matvec(v) + damping * v,
    )


def _restricted(inverse: Array, rest: Positions) -> Array:
    """Return the inverse of the sub-matrix of ``rest`` from that of the whole matrix."""
    gone = np.setdiff1d(np.arange(len(inverse)), rest)
    if gone.size == 0:
        return inverse
    cross = inverse[np.ix_(rest, gone)]
    factor = scipy.linalg.cholesky(inverse[np.ix_(gone, gone)], lower=True, check_finite=False)
    half = scipy.linalg.solve_triangular(factor, cross.T, lower=True, check_finite=False)
    return np.asarray(inverse[np.ix_(rest, rest)] - half.T @ half)


def _inverse_of(A: Array, eps: float) -> Array:
    """Return the inverse of a matrix, if it is positive definite beyond the rounding of its entries."""
    if A.size == 0:
        return A
    factor, info = scipy.linalg.lapack.dpotrf(A, lower=1)
    if info == 0:
        inverse, info = scipy.linalg.lapack.dpotri(factor, lower=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        if info == 0 and np.linalg.norm(A, 1) * np.linalg.norm(inverse, 1) * len(A) * eps < 1:
            return np.asarray(inverse)
    values = np.linalg.eigvalsh(A)
    raise CurvatureNotPositive(
        f"the curvature of the {len(A)} parameters that remain is not positive definite: with its damping its "
        f"eigenvalues run from {values[0]:.3g} to {values[-1]:.3g}; give a larger damping, "
        "or curvature='gauss_newton' with an objective that has an l2 term",
        Status.NEGATIVE_CURVATURE,
    )
