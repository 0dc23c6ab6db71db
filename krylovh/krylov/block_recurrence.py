"""The recurrence BCGrQ of block conjugate gradients: residuals ``R = Q C`` with ``Q'P Q = I``.

Where residuals become linearly dependent, because a combination of the systems has converged, the directions that are
lost leave the block.

References
----------
Dubrulle (2001), Retooling the method of block conjugate gradients: the variant BCGrQ.
"""

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from krylovh.krylov.curvature import FlatDirection, classify_direction
from krylovh.krylov.preconditioning import CheckedPreconditioner
from krylovh.krylov.scaling import unit_vector
from krylovh.krylov.symmetry import check_symmetry
from krylovh.krylov.system import ScaledSystem
from krylovh.results import Status

Array = NDArray[np.float64]
Index = NDArray[np.intp]

__all__ = ["BlockRecurrence"]


class BlockRecurrence:
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
