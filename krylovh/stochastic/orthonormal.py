"""Orthonormal bases of tall blocks, at the speed of matrix products.

Householder's QR works on single columns half of its time.  Where a block is not too ill-conditioned, the Cholesky
factor of its Gram matrix gives the same R by matrix products alone, and doing it twice makes Q orthonormal to rounding
(CholeskyQR2: Yamamoto, Nakatsukasa, Yanagisawa and Fukaya 2015).  Otherwise Householder's is used.
"""

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Largest condition number for CholeskyQR2: its square must stay away from 1/eps.
_WELL_CONDITIONED = 1e6

__all__ = ["divided_by", "thin_qr"]


def thin_qr(Y: Array) -> tuple[Array, Array]:
    """Return ``Q`` (n, p) with orthonormal columns, in Fortran order, and ``R`` (p, p), upper triangular: ``Y = QR``.

    Examples
    --------
    >>> Q, R = thin_qr(np.array([[3.0], [4.0]]))
    >>> Q.ravel().round(12), R.round(12)
    (array([0.6, 0.8]), array([[5.]]))
    """
    p = Y.shape[1]
    first = _cholesky(Y)
    if p and first is not None and np.linalg.cond(first) < _WELL_CONDITIONED:
        Q = divided_by(Y, first)
        second = _cholesky(Q)
        if second is not None:
            return divided_by(Q, second, overwrite=True), np.triu(second @ first)
    Q, R = np.linalg.qr(Y)
    return np.asfortranarray(Q), R


def _cholesky(Y: Array) -> Array | None:
    """Return the upper factor of ``Y'Y``; None where it is not positive definite to rounding."""
    try:
        return np.asarray(np.linalg.cholesky(Y.T @ Y).T)
    except np.linalg.LinAlgError:
        return None


def divided_by(Y: Array, R: Array, *, overwrite: bool = False) -> Array:
    """Return ``Y R^-1`` in Fortran order, for upper triangular R; in the place of Y if that may be overwritten.

    Examples
    --------
    >>> divided_by(np.array([[2.0, 4.0]]), np.array([[2.0, 0.0], [0.0, 4.0]]))
    array([[1., 1.]])
    """
    R, Y = np.asfortranarray(R), np.asfortranarray(Y)
    return np.asarray(scipy.linalg.blas.dtrsm(1.0, R, Y, side=1, overwrite_b=overwrite), order="F")
