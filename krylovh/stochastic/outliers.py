"""Eigenpairs that are known beforehand: what their inexactness does to the rest of the spectrum.

With orthonormal columns X, values theta and ``R = A X - X diag(theta)``, the operator ``B = X diag(theta) X' + P A P``,
``P = I - X X'``, has the eigenvalues theta, and next to them those of A on the orthogonal complement of X.  In a basis
that begins with X

    A - B = [ E  F' ]     E = X'R,  F = P R,
            [ F  0  ]

so that, by Weyl's theorem, no eigenvalue of A is farther from that of B of the same rank than

    |A - B| <= (|E| + sqrt(|E|^2 + 4 |F|^2)) / 2.

References
----------
Parlett, The Symmetric Eigenvalue Problem, 10.3 and 11.5.
"""

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.scaling import binary_exponent, ldexp
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.results import EigenResult

Array = NDArray[np.float64]

__all__ = ["known_eigenpairs", "perturbation_bound"]

ORTHOGONALITY = 1e-8  # largest entry of |X'X - I| that is rounding, and not another kind of vectors


def known_eigenpairs(outliers: EigenResult | None, n: int) -> tuple[Array, Array]:
    """Return values (k,) and orthonormal vectors (n, k), none of them for None.

    Examples
    --------
    >>> known_eigenpairs(None, 5)[1].shape
    (5, 0)
    """
    if outliers is None:
        return np.empty(0), np.empty((n, 0))
    if not isinstance(outliers, EigenResult):
        raise TypeError(f"outliers must be an EigenResult, got {type(outliers).__name__}")
    values, X = np.array(outliers.eigenvalues, dtype=np.float64), np.asarray(outliers.eigenvectors, dtype=np.float64)
    if X.ndim != 2 or X.shape[0] != n or X.shape[1] >= n or values.shape != X.shape[1:]:
        raise ValueError(f"outliers must have eigenvectors of shape ({n}, k) with k < {n}, got {X.shape}")
    deviation = float(np.abs(X.T @ X - np.eye(X.shape[1])).max(initial=0.0))
    if not deviation <= ORTHOGONALITY:
        raise ValueError(f"outliers must have orthonormal eigenvectors, got |X'X - I| = {deviation:.1e}")
    return values, np.linalg.qr(X)[0]


def perturbation_bound(A: SymmetricOperator, values: Array, X: Array, block_size: int = 16) -> float:
    """Return the bound of ``|A - B|``; costs one product per pair.

    Examples
    --------
    >>> A = SymmetricOperator(np.diag([1.0, 2.0, 3.0]))
    >>> perturbation_bound(A, np.array([3.25]), np.eye(3)[:, 2:]), A.num_products
    (0.25, 1)
    """
    if not values.size:
        return 0.0
    parts = [slice(first, first + block_size) for first in range(0, values.size, block_size)]
    R = np.concatenate([A(X[:, part]) for part in parts], axis=1)
    exponent = binary_exponent(R)
    R = ldexp(R, -exponent) - X * ldexp(values, -exponent)
    E = X.T @ R
    inner, outer = float(np.linalg.norm((E + E.T) / 2, 2)), float(np.linalg.norm(R - X @ E, 2))
    return float(ldexp((inner + np.hypot(inner, 2 * outer)) / 2, exponent))
