"""Matrices that small nets allow to be written out in full.

The whole Hessian of P parameters takes P products and 8 P^2 bytes: for nets of some thousand parameters that is
seconds, and it is the truth that every estimate can be held against.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.objective import Objective
from krylovh.operators import CurvatureOperator, GaussNewtonOperator, HessianOperator
from krylovh.progress import Progress, reporting

BLOCK = 16

__all__ = ["gauss_newton_matrix", "hessian_matrix"]


def hessian_matrix(objective: Objective, *, progress: Progress = False) -> NDArray[Any]:
    """Return the Hessian as a dense matrix, column by column from products with the unit vectors.

    Parameters
    ----------
    objective : Objective
    progress : bool or callable

    Returns
    -------
    ndarray, shape (P, P)
        Symmetric to the last bit: the mean of the computed matrix and its transpose, in the objective's dtype.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> hessian_matrix(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    array([[ 9., 11.],
           [11.,  4.]])
    """
    return _by_columns(HessianOperator(objective), progress)


def gauss_newton_matrix(objective: Objective, *, progress: Progress = False) -> NDArray[Any]:
    """Return the Gauss-Newton matrix as a dense matrix; see :func:`hessian_matrix`.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> gauss_newton_matrix(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    array([[9., 6.],
           [6., 4.]])
    """
    return _by_columns(GaussNewtonOperator(objective), progress)


def _by_columns(operator: CurvatureOperator, progress: Progress) -> NDArray[Any]:
    n = operator.shape[0]
    matrix = np.empty((n, n), operator.dtype, order="F")
    with reporting(progress, "matrix") as report:
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            units = np.zeros((n, stop - start), operator.dtype, order="F")
            units[np.arange(start, stop), np.arange(stop - start)] = 1.0
            matrix[:, start:stop] = operator.matmat(units)
            report(stop, n)
    return np.asarray((matrix + matrix.T) / 2)
