"""The posterior precision ``A = beta G + diag(alpha)`` in four shapes: dense, diagonal, Kronecker factors, products.

G is the curvature of the summed loss.  Each shape gives the log determinant, the effective number of parameters
``gamma = k - tr(A^-1 diag(alpha))``, solves with A, and samples of covariance A^-1.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from krylovh.krylov import block_cg, eigsh, matrix_function
from krylovh.operators.kfac import KroneckerBlock, simultaneous_diagonalization
from krylovh.progress import Progress, reporting
from krylovh.results import Estimate, Status
from krylovh.stochastic import logdet, trace_function

Array = NDArray[np.float64]

__all__ = [
    "DensePrecision",
    "DiagonalPrecision",
    "IndefiniteError",
    "KroneckerPrecision",
    "KrylovPrecision",
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


class KrylovPrecision:
    """A seen through products, as ``D (I + D^-1 beta G D^-1) D`` with ``D^2 = diag(alpha)``.

    All Krylov methods work on the matrix in the middle: with the Gauss-Newton matrix its eigenvalues are at least 1,
    which makes the error of quadrature a bound.
    """

    def __init__(
        self,
        operator: LinearOperator,
        scale: float,
        alpha: Array,
        *,
        definite: bool,
        options: dict[str, Any],
        seed: int,
    ) -> None:
        if alpha.min() <= 0:
            raise ValueError(
                f"the prior precision must be positive with structure 'krylov', got {alpha.min():g} "
                f"at parameter {int(alpha.argmin())}: set l2 on every parameter, or use structure 'full'"
            )
        self.alpha, self.seed, self.options = alpha, seed, options
        self.lower_bound = 1.0 if definite else None
        self._operator = operator
        self._root = np.sqrt(alpha)
        ridge = np.broadcast_to(operator.objective.l2 if operator.objective.l2.size else 0.0, alpha.shape)

        def middle(V: Array) -> Array:
            V = np.asarray(V, dtype=np.float64).reshape(alpha.size, -1)
            scaled = V / self._root[:, None]
            curved = operator.matmat(scaled) - ridge[:, None] * scaled
            return np.asarray(V + scale * curved / self._root[:, None])

        self.middle = LinearOperator(
            operator.shape, matvec=lambda v: middle(v)[:, 0], matmat=middle, rmatvec=lambda v: middle(v)[:, 0],
            dtype=np.float64,
        )  # fmt: skip
        if not definite:
            smallest = float(eigsh(self.middle, 1, which="SA", tol=1e-3, rng=seed).eigenvalues[0])
            if smallest <= 0:
                raise IndefiniteError(smallest, "of the Hessian in units of the prior precision")

    @property
    def num_products(self) -> int:
        """Products with the curvature so far."""
        return int(self._operator.num_products)

    def logdet(self, progress: Progress = False) -> Estimate:
        """Return ``log det A``."""
        found = logdet(self.middle, lower_bound=self.lower_bound, rng=self.seed, progress=progress, **self.options)
        shift = float(np.log(self.alpha).sum())
        low, high = found.interval
        return Estimate(
            found.value + shift, found.standard_error, (low + shift, high + shift), found.num_products, found.seed,
            found.status, found.method, found.quadrature_error,
        )  # fmt: skip

    def gamma(self, progress: Progress = False) -> Estimate:
        """Return the effective number of parameters."""
        return trace_function(self.middle, lambda x: 1.0 - 1.0 / x, rng=self.seed, progress=progress, **self.options)

    def solve(self, V: Array) -> Array:
        """Return ``A^-1 V``."""
        found = block_cg(self.middle, V / self._root[:, None], rtol=1e-8)
        if found.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        if found.status is not Status.CONVERGED:
            raise ArithmeticError(f"the systems with the posterior precision were not solved: {found.status}")
        return np.asarray(found.x / self._root[:, None])

    def root(self, Z: Array, progress: Progress = False) -> Array:
        """Return S Z with ``S S' = A^-1``."""
        out = np.empty_like(Z)
        with reporting(progress, "samples") as report:
            for i, z in enumerate(Z.T):
                found = matrix_function(self.middle, lambda x: 1 / np.sqrt(x), z, max_steps=1000)
                if found.status is Status.INTERRUPTED:
                    raise KeyboardInterrupt
                if found.status is not Status.CONVERGED:
                    raise ArithmeticError(f"the root of the posterior covariance was not applied: {found}")
                out[:, i] = found.x / self._root
                report(i + 1, Z.shape[1])
        return out


class IndefiniteError(ValueError):
    """The posterior precision is not positive definite."""

    def __init__(self, smallest: float, of: str = "of the posterior precision") -> None:
        self.smallest = smallest
        super().__init__(
            f"the smallest eigenvalue {of} must be positive, got {smallest:.6g}: theta is no strict minimum. Train "
            "further, raise the prior precision, or take curvature='gauss_newton' or fallback='gauss_newton'"
        )
