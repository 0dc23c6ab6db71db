"""Approximate eigenpairs that carry their products, so that every residual is the true one.

With ``A X`` at hand a Rayleigh-Ritz step and all residuals ``|A x - theta x|`` cost no further product.  ``A X`` itself
need not cost k products where it follows from others: one new product, with a random combination of the vectors, shows
how far it is from the truth.

References
----------
Parlett, The Symmetric Eigenvalue Problem, 11.3 and 11.4.
Freivalds (1979), Fast probabilistic algorithms: checking a product of matrices by a random vector.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["Pairs", "checked_products", "rayleigh_ritz"]


@dataclass(frozen=True)
class Pairs:
    """Values, orthonormal vectors and products ``A X``."""

    values: Array  # (k,), ascending
    vectors: Array  # (n, k)
    products: Array  # (n, k)
    residual_norms: Array  # (k,)

    @staticmethod
    def none(n: int) -> "Pairs":
        """Return no pairs of an operator of order n."""
        return Pairs(np.zeros(0), np.zeros((n, 0)), np.zeros((n, 0)), np.zeros(0))

    def select(self, index: NDArray[np.intp]) -> "Pairs":
        """Return the pairs at ``index``, which must ascend."""
        return Pairs(self.values[index], self.vectors[:, index], self.products[:, index], self.residual_norms[index])


def rayleigh_ritz(vectors: Array, products: Array, error: float = 0.0) -> Pairs:
    """Return the best approximate eigenpairs in a subspace.

    Parameters
    ----------
    vectors : ndarray, shape (n, k)
        Orthonormal columns ``Z``.
    products : ndarray, shape (n, k)
        ``A Z``.
    error : float
        Of each product, root mean square; what residual norms include.

    Examples
    --------
    >>> A, Z = np.diag([1.0, 2.0, 7.0]), np.eye(3)[:, 1:]
    >>> rayleigh_ritz(Z, A @ Z).values
    array([2., 7.])
    """
    form = vectors.T @ products
    values, rotation = np.linalg.eigh((form + form.T) / 2)
    vectors, products = vectors @ rotation, products @ rotation
    residual_norms = np.linalg.norm(products - vectors * values, axis=0)
    return Pairs(values, vectors, products, np.hypot(residual_norms, error) if error else residual_norms)


def checked_products(A: Callable[[Array], Array], X: Array, AX: Array, rng: np.random.Generator) -> tuple[Array, float]:
    """Compare ``A X``, as it is said to be, with one new product.

    With random signs ``s`` the error ``F`` of ``AX`` shows as ``|F s|``, whose mean square is the sum of the squared
    errors of all columns.

    Parameters
    ----------
    A : callable
        ``A(x)`` of shape (n,).
    X, AX : ndarray, shape (n, k)
        Orthonormal columns, and what is taken to be ``A X``.  Of a single column the new product is returned.
    rng : numpy.random.Generator
        Source of the signs.

    Returns
    -------
    AX : ndarray, shape (n, k)
    error : float
        Root mean square of the columns' errors, estimated.

    Examples
    --------
    >>> A, X = np.diag([1.0, 2.0, 7.0]), np.eye(3)[:, 1:]
    >>> round(checked_products(A.dot, X, 2.0 * X, np.random.default_rng(0))[1], 6)  # 5 / sqrt(2)
    3.535534
    """
    k = X.shape[1]
    if k == 1:
        return A(X[:, 0])[:, None], 0.0
    signs = rng.choice([-1.0, 1.0], k) / np.sqrt(k)
    return AX, float(np.linalg.norm(A(X @ signs) - AX @ signs))
