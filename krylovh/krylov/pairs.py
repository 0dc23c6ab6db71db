"""Approximate eigenpairs that carry their products, so that every residual is the true one.

With ``A X`` at hand a Rayleigh-Ritz step and all residuals ``|A x - theta x|`` cost no further product.

References
----------
Parlett, The Symmetric Eigenvalue Problem, 11.3 and 11.4.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["Pairs", "rayleigh_ritz"]


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


def rayleigh_ritz(vectors: Array, products: Array) -> Pairs:
    """Return the best approximate eigenpairs in a subspace.

    Parameters
    ----------
    vectors : ndarray, shape (n, k)
        Orthonormal columns ``Z``.
    products : ndarray, shape (n, k)
        ``A Z``.

    Examples
    --------
    >>> A, Z = np.diag([1.0, 2.0, 7.0]), np.eye(3)[:, 1:]
    >>> rayleigh_ritz(Z, A @ Z).values
    array([2., 7.])
    """
    form = vectors.T @ products
    values, rotation = np.linalg.eigh((form + form.T) / 2)
    vectors, products = vectors @ rotation, products @ rotation
    return Pairs(values, vectors, products, np.linalg.norm(products - vectors * values, axis=0))
