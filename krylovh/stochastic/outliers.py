"""A symmetric operator without the eigenvectors that are known: on their orthogonal complement.

With orthonormal columns X, values theta and ``R = A X - X diag(theta)``, the operator ``B = X diag(theta) X' + P A P``,
``P = I - X X'``, has theta for eigenvalues next to those of ``P A P`` on the complement.  In a basis that begins with X

    A - B = [ E  F' ]     E = X'R,  F = P R,
            [ F  0  ]

so that, by Weyl's theorem, no eigenvalue of A is farther from that of B of the same rank than

    |A - B| <= (|E| + sqrt(|E|^2 + 4 |F|^2)) / 2.

References
----------
Parlett, The Symmetric Eigenvalue Problem, 10.3 and 11.5.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.krylov.scaling import binary_exponent
from krylovh.krylov.symmetric import SymmetricOperator

Array = NDArray[np.float64]

__all__ = ["ComplementOperator"]

ORTHOGONALITY = 1e-8  # largest entry of |X'X - I| that is rounding, and not another kind of vectors


class ComplementOperator(SymmetricOperator):
    """Products with ``(I - XX') A``: with ``P A P`` for vectors orthogonal to the columns of ``X``.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Real and symmetric.
    X : array_like, shape (n, k)
        Orthonormal columns, k < n.
    **budget
        ``max_products`` and ``max_seconds``, see :class:`~krylovh.krylov.symmetric.SymmetricOperator`.

    Examples
    --------
    >>> A = ComplementOperator(np.diag([1.0, 2.0, 3.0]), np.eye(3)[:, 2:])
    >>> A.perturbation(np.array([3.0]))
    0.0
    >>> A(A.project(np.ones((3, 1)))).ravel(), A.num_products
    (array([1., 2., 0.]), 2)
    """

    def __init__(self, A: Any, X: ArrayLike, **budget: Any) -> None:
        super().__init__(A, **budget)
        X = np.asarray(X, dtype=np.float64)
        if X.ndim != 2 or X.shape[0] != self.n or X.shape[1] >= self.n:
            raise ValueError(f"outliers must have eigenvectors of shape ({self.n}, k), k < {self.n}, got {X.shape}")
        deviation = float(np.abs(X.T @ X - np.eye(X.shape[1])).max(initial=0.0))
        if not deviation <= ORTHOGONALITY:
            raise ValueError(f"outliers must have orthonormal eigenvectors, got |X'X - I| = {deviation:.1e}")
        self._X = np.linalg.qr(X)[0]

    def __call__(self, V: Array) -> Array:
        """Return ``(I - XX') A V`` for V of shape (n,) or (n, k)."""
        return self.project(super().__call__(V))

    def project(self, V: Array) -> Array:
        """Return ``V - X X'V``."""
        return np.asarray((V.T - (V.T @ self._X) @ self._X.T).T)  # columns stay contiguous

    def perturbation(self, values: Array, block_size: int = 16) -> float:
        """Return the bound of ``|A - B|`` for the eigenvalues ``values`` (k,) that go with X; costs k products."""
        X = self._X
        parts = [slice(first, first + block_size) for first in range(0, X.shape[1], block_size)]
        products = [SymmetricOperator.__call__(self, X[:, part]) for part in parts]
        if not products:
            return 0.0
        R = np.concatenate(products, axis=1)
        exponent = binary_exponent(R)
        R = np.ldexp(R, -exponent) - X * np.ldexp(values, -exponent)
        E = X.T @ R
        inner, outer = float(np.linalg.norm((E + E.T) / 2, 2)), float(np.linalg.norm(R - X @ E, 2))
        return float(np.ldexp((inner + np.hypot(inner, 2 * outer)) / 2, exponent))
