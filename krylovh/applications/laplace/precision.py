"""The posterior precision ``A = beta G + diag(alpha)`` in four shapes: dense, diagonal, Kronecker factors, products.

G is the curvature of the summed loss.  Each shape gives the log determinant, the effective number of parameters
``gamma = k - tr(A^-1 diag(alpha))``, solves with A, and samples of covariance A^-1.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from krylovh.operators.kfac import KroneckerBlock, simultaneous_diagonalization
from krylovh.progress import Progress
from krylovh.results import Estimate, Status

Array = NDArray[np.float64]

__all__ = [
    "DensePrecision",
    "DiagonalPrecision",
    "IndefiniteError",
    "KroneckerPrecision",
    "Precision",
    "exact",
]


def exact(value: float, seed: int) -> Estimate:
    """Return a number without error in the form of an estimate."""
    value = float(value)
    return Estimate(value, 0.0, (value, value), 0, seed, Status.CONVERGED, "exact")


class Precision(Protocol):
    """What a posterior needs of its precision."""

    def logdet(self, progress: Progress = False) -> Estimate:
        """Return ``log det A``."""

    def gamma(self, progress: Progress = False) -> Estimate:
        """Return the effective number of parameters."""

    def solve(self, V: Array) -> Array:
        """Return ``A^-1 V`` for V of shape (k, m)."""

    def root(self, Z: Array, progress: Progress = False) -> Array:
        """Return S Z for Z of shape (k, m), with ``S S' = A^-1``."""

    @property
    def num_products(self) -> int:
        """Products with the curvature so far."""


class DensePrecision:
    """A written out, and its Cholesky factor; ValueError with the smallest eigenvalue where there is none."""

    num_products = 0

    def __init__(self, A: Array, alpha: Array, seed: int) -> None:
        self.alpha, self.seed = alpha, seed
        try:
            self.L = scipy.linalg.cholesky(A, lower=True, check_finite=True)
        except scipy.linalg.LinAlgError:
            smallest = scipy.linalg.eigvalsh(A, subset_by_index=[0, 0])[0]
            raise IndefiniteError(float(smallest)) from None

    def logdet(self, progress: Progress = False) -> Estimate:
        """Return ``log det A``."""
        return exact(2 * np.log(np.diag(self.L)).sum(), self.seed)

    def gamma(self, progress: Progress = False) -> Estimate:
        """Return the effective number of parameters."""
        inverse = scipy.linalg.solve_triangular(self.L, np.eye(len(self.L)), lower=True)
        return exact(np.sum(1.0 - self.alpha * np.square(inverse).sum(axis=0)), self.seed)

    def solve(self, V: Array) -> Array:
        """Return ``A^-1 V``."""
        return np.asarray(scipy.linalg.cho_solve((self.L, True), V))

    def root(self, Z: Array, progress: Progress = False) -> Array:
        """Return S Z with ``S S' = A^-1``."""
        return np.asarray(scipy.linalg.solve_triangular(self.L, Z, lower=True, trans="T"))


class DiagonalPrecision:
    """A diagonal A."""

    num_products = 0

    def __init__(self, diagonal: Array, alpha: Array, seed: int) -> None:
        if diagonal.min() <= 0:
            raise IndefiniteError(float(diagonal.min()))
        self.diagonal, self.alpha, self.seed = diagonal, alpha, seed

    def logdet(self, progress: Progress = False) -> Estimate:
        """Return ``log det A``."""
        return exact(np.log(self.diagonal).sum(), self.seed)

    def gamma(self, progress: Progress = False) -> Estimate:
        """Return the effective number of parameters."""
        return exact(np.sum(1.0 - self.alpha / self.diagonal), self.seed)

    def solve(self, V: Array) -> Array:
        """Return ``A^-1 V``."""
        return V / self.diagonal[:, None]

    def root(self, Z: Array, progress: Progress = False) -> Array:
        """Return S Z with ``S S' = A^-1``."""
        return Z / np.sqrt(self.diagonal)[:, None]


class KroneckerPrecision:
    """Blocks ``B (x) A + I (x) diag(alpha)``, which eigenvectors of the factors make diagonal.

    The prior is added to the eigenvalues of the product, not to its factors: nothing is damped.
    """

    num_products = 0

    def __init__(self, blocks: Sequence[KroneckerBlock], alpha: Array, seed: int) -> None:
        self.seed = seed
        self._blocks = []
        self._logdet = self._gamma = 0.0
        for block in blocks:
            ridge = alpha[block.positions]
            if (ridge != ridge[0]).any():
                raise ValueError(
                    "the prior precision must be the same for all units of a layer with structure 'kfac', "
                    f"got {ridge.min():.6g} and {ridge.max():.6g} in layer {block.layer}"
                )
            if ridge.min() <= 0:
                raise ValueError(
                    f"the prior precision must be positive with structure 'kfac', got {ridge.min():g} "
                    f"in layer {block.layer}: set l2, or prior_precision"
                )
            U, X, ratios = simultaneous_diagonalization(block, ridge[0])
            self._blocks.append((block.positions, U, X, ratios))
            self._logdet += float(np.log1p(ratios).sum() + np.log(ridge).sum())
            self._gamma += float((ratios / (1.0 + ratios)).sum())

    def logdet(self, progress: Progress = False) -> Estimate:
        """Return ``log det A``."""
        return exact(self._logdet, self.seed)

    def gamma(self, progress: Progress = False) -> Estimate:
        """Return the effective number of parameters."""
        return exact(self._gamma, self.seed)

    def solve(self, V: Array) -> Array:
        """Return ``A^-1 V``."""
        rows, out = V.T, np.empty_like(V.T)
        for positions, U, X, ratios in self._blocks:
            out[:, positions] = U @ ((U.T @ rows[:, positions] @ X) / (1.0 + ratios)) @ X.T
        return out.T

    def root(self, Z: Array, progress: Progress = False) -> Array:
        """Return S Z with ``S S' = A^-1``."""
        rows, out = Z.T, np.empty_like(Z.T)
        for positions, U, X, ratios in self._blocks:
            out[:, positions] = U @ (rows[:, positions] / np.sqrt(1.0 + ratios)) @ X.T
        return out.T


class IndefiniteError(ValueError):
    """The posterior precision is not positive definite."""

    def __init__(self, smallest: float, of: str = "of the posterior precision") -> None:
        self.smallest = smallest
        super().__init__(
            f"the smallest eigenvalue {of} must be positive, got {smallest:.6g}: theta is no strict minimum. Train "
            "further, raise the prior precision, or take curvature='gauss_newton' or fallback='gauss_newton'"
        )
