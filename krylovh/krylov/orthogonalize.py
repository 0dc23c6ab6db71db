"""Orthogonalisation against a basis, to rounding.

Classical Gram-Schmidt is two matrix-vector products with the basis, the fastest form there is, and loses orthogonality
only where it cancels.  So a second pass is made where the norm dropped, and only there: twice is enough.

References
----------
Daniel, Gragg, Kaufman and Stewart (1976), Reorthogonalization and stable algorithms for updating the Gram-Schmidt QR
factorization.  Parlett, The Symmetric Eigenvalue Problem, 6.9 (with Kahan).
"""

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread

Array = NDArray[np.float64]

__all__ = ["fresh_direction", "orthogonalize", "orthonormal_part", "project_out"]


def orthogonalize(Q: NDArray[Any], w: Array) -> tuple[Array, float]:
    """Replace ``w`` by ``w - Q Q'w`` in place.

    Parameters
    ----------
    Q : ndarray, shape (n, m)
        Orthonormal columns, in float64 or float32; the result is as orthogonal as their dtype allows.
    w : ndarray, shape (n,)
        In float64; overwritten.

    Returns
    -------
    coefficients : ndarray, shape (m,)
        What was taken away: the old ``w`` is ``Q @ coefficients`` plus the new one.
    norm : float
        Norm of the new ``w``; 0 where the old one lies in the span of ``Q`` to rounding.

    Examples
    --------
    >>> w = np.array([1.0, 2.0, 3.0])
    >>> orthogonalize(np.eye(3)[:, :2], w)
    (array([1., 2.]), 3.0)
    >>> w
    array([0., 0., 3.])
    """
    coefficients = np.zeros(Q.shape[1])
    norm = float(np.linalg.norm(w))
    with one_blas_thread(Q.nbytes):
        for _ in range(3):
            part = Q.T @ w.astype(Q.dtype, copy=False)
            w -= Q @ part
            coefficients += part
            before, norm = norm, float(np.linalg.norm(w))
            if norm > 0.7 * before:
                return coefficients, norm
    return coefficients, 0.0


def fresh_direction(Q: Array, rng: np.random.Generator) -> Array:
    """Return a random unit vector orthogonal to the columns of ``Q``, of shape (n, m) with m < n.

    Examples
    --------
    >>> fresh_direction(np.eye(3)[:, :2], np.random.default_rng(3))
    array([0., 0., 1.])
    """
    while True:
        direction = np.asarray(rng.standard_normal(Q.shape[0]))
        norm = orthogonalize(Q, direction)[1]
        if norm > 0:
            return direction / norm


def project_out(Q: Array, W: Array) -> Array:
    """Replace a block ``W`` by ``W - Q Q'W`` in place, in two passes; return the coefficients taken away.

    Parameters
    ----------
    Q : ndarray, shape (n, m)
        Orthonormal columns.
    W : ndarray, shape (n, b)
        Overwritten.

    Returns
    -------
    ndarray, shape (m, b)

    Examples
    --------
    >>> W = np.array([[1.0], [2.0]])
    >>> project_out(np.eye(2)[:, :1], W), W
    (array([[1.]]), array([[0.],
           [2.]]))
    """
    coefficients = np.zeros((Q.shape[1], W.shape[1]))
    with one_blas_thread(Q.nbytes):
        for _ in range(2):
            part = Q.T @ W
            W -= Q @ part
            coefficients += part
    return coefficients


def orthonormal_part(W: Array, Q: Array, threshold: float) -> tuple[Array, Array]:
    """Return ``B, R`` with ``W = B R`` up to ``threshold`` and orthonormal ``B``, orthogonal to ``Q``.

    Pivoted QR finds the numerical rank: columns that depend on others leave no trace in ``B``.

    Parameters
    ----------
    W : ndarray, shape (n, b)
        Orthogonal to ``Q`` up to rounding of its largest entries.
    Q : ndarray, shape (n, m)
        Orthonormal columns.
    threshold : float
        What counts as zero.

    Returns
    -------
    B : ndarray, shape (n, r), r <= b
    R : ndarray, shape (r, b)

    Examples
    --------
    >>> B, R = orthonormal_part(np.array([[3.0, 6.0], [4.0, 8.0], [0.0, 0.0]]), np.eye(3)[:, 2:], 1e-14)
    >>> B.shape, np.abs(B @ R).round(12)
    ((3, 1), array([[3., 6.],
           [4., 8.],
           [0., 0.]]))
    """
    B, R, pivots = scipy.linalg.qr(W, mode="economic", pivoting=True)
    rank = int(np.count_nonzero(np.abs(np.diagonal(R)) > threshold))
    B, unpivoted = B[:, :rank], np.empty((rank, W.shape[1]))
    unpivoted[:, pivots] = R[:rank]
    project_out(Q, B)  # what was small next to its parts in Q is not orthogonal to Q yet
    B, correction = np.linalg.qr(B)
    return B, correction @ unpivoted
