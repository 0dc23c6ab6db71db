"""Eigenpairs, and the tridiagonal matrices that they come from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["EigenResult", "Tridiagonalization"]


@dataclass(frozen=True)
class Tridiagonalization(Displayed):
    """A symmetric operator on a Krylov space: ``A Q = Q T + r e_m'`` with ``Q'Q = I``.

    ``Q`` is None where reorthogonalisation was switched off.

    Examples
    --------
    >>> t = Tridiagonalization(np.array([2.0, 2.0]), np.array([-1.0]), None, np.zeros(2), 0.0, 2, Status.BREAKDOWN)
    >>> t.dense()
    array([[ 2., -1.],
           [-1.,  2.]])
    """

    alphas: Array  # (m,)
    betas: Array  # (m-1,)
    Q: Array | None  # (n, m)
    residual: Array  # (n,): the vector r
    residual_norm: float
    num_products: int
    status: Status  # CONVERGED: all steps taken; BREAKDOWN: the space is invariant, and exact

    def dense(self) -> Array:
        """Return ``T`` as a dense matrix, shape (m, m)."""
        return np.asarray(np.diag(self.alphas) + np.diag(self.betas, 1) + np.diag(self.betas, -1))


@dataclass(frozen=True)
class EigenResult(Displayed):
    """Eigenpairs of a symmetric operator, with residuals recomputed from products after the iteration.

    For a symmetric operator an eigenvalue lies within ``residual_norms[i]`` of ``eigenvalues[i]``.  Where the distance
    to all other eigenvalues is known to be at least ``gaps[i]``, it lies within ``value_bounds[i]``, and the angle to
    its eigenvector has a sine of at most ``angle_bounds[i]`` (Parlett, The Symmetric Eigenvalue Problem, 11.7).  With
    ``deflate``, gaps are those of the operator on the complement of the known vectors.

    Examples
    --------
    >>> from krylovh import eigsh
    >>> result = eigsh(np.diag(np.arange(1.0, 101.0)), k=2, rng=0)
    >>> print(result)
    2 eigenpairs (LA), converged, set verified, 102 products
      9.9000000000e+01  residual 0.0e+00
      1.0000000000e+02  residual 0.0e+00
    """

    eigenvalues: Array  # (k,), ascending
    eigenvectors: Array  # (n, k), orthonormal columns
    residual_norms: Array  # (k,): |A x - lambda x|, recomputed
    converged: NDArray[np.bool_]  # (k,)
    status: Status
    set_verified: bool  # a deflated run found no eigenvalue that belongs to the set and is missing
    orthogonality: float  # max |X'X - I|
    operator_norm: float  # largest |Ritz value| met: a lower bound of |A|
    num_products: int
    num_restarts: int
    which: str
    tol: float
    seed: int
    gaps: Array | None = None  # (k,): lower bounds of the distance to all other eigenvalues; 0 or None: not known
    rounding: float = 0.0  # what rounding of the products may add to values and residuals

    @property
    def statuses(self) -> tuple[Status, ...]:
        """How each pair ended, shape (k,): "converged", or why it is not."""
        failed = Status.STAGNATED if self.status is Status.CONVERGED else self.status
        return tuple(Status.CONVERGED if done else failed for done in self.converged)

    @property
    def value_bounds(self) -> Array:
        """How far the eigenvalue is at most, shape (k,): the residual, or its square over the gap if that is less."""
        return np.asarray(self.residual_norms * self._residual_over_gap(self.residual_norms) + self.rounding)

    @property
    def angle_bounds(self) -> Array:
        """Sine of the angle to the eigenvector at most, shape (k,): residual over gap; 1 where the gap is not known."""
        return self._residual_over_gap(self.residual_norms + self.rounding)

    def _residual_over_gap(self, residual_norms: Array) -> Array:
        if self.gaps is None:
            return np.ones(len(residual_norms))
        known = self.gaps > residual_norms
        return np.where(known, residual_norms / np.where(known, self.gaps, 1.0), 1.0)

    def table(self) -> dict[str, Any]:
        """Return eigenvalues with residuals, the outermost first."""
        outermost = slice(None, None, -1) if self.which in ("LA", "LM", "BE") else slice(None)
        return {
            "rank": range(1, len(self.eigenvalues) + 1),
            "eigenvalue": self.eigenvalues[outermost],
            "residual": [f"{norm:.1e}" for norm in self.residual_norms[outermost]],
            "status": [str(status) for status in self.statuses[outermost]],
        }

    def __str__(self) -> str:
        verified = "set verified" if self.set_verified else "set NOT verified"
        head = f"{len(self.eigenvalues)} eigenpairs ({self.which}), {self.status}, {verified}"
        lines = [
            f"  {value:.10e}  residual {norm:.1e}"
            for value, norm in zip(self.eigenvalues, self.residual_norms, strict=True)
        ]
        return "\n".join([f"{head}, {self.num_products} products", *lines])
