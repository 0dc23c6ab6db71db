"""The inverse of the outer-product matrix, built up sample by sample as in optimal brain surgery."""

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import blas

from krylovh.blas import one_blas_thread
from krylovh.exact.second_derivatives import WORK_BYTES, Tile, tiles
from krylovh.objective import Objective
from krylovh.progress import Progress, reporting

Array = NDArray[np.float64]

__all__ = ["factor_rows", "outer_product_inverse"]


def outer_product_inverse(objective: Objective, damping: float, *, progress: Progress = False) -> Array:
    """Return the inverse of ``G + damping * I``, G the Gauss-Newton matrix with its regulariser.

    It starts from the inverse of the diagonal D = l2 + damping and takes in the samples one after the other: with
    V_n = R_n' J_n / sqrt(total), Q_n = R_n R_n', the matrix D + sum_n V_n' V_n grows by rank C at each, and its inverse
    follows by the formula of Sherman, Morrison and Woodbury,

        A^-1  <-  A^-1 - A^-1 V' (I + V A^-1 V')^-1 V A^-1.

    Parameters
    ----------
    objective : Objective
    damping : float
        At least 0; positive unless l2 is positive for every parameter.
    progress : bool or callable
        Counts samples.

    Returns
    -------
    ndarray, shape (P, P)
        Symmetric to the last bit, in float64 whatever the objective's dtype.  The error is about eps times the square
        of the condition number at worst; 2 N C P^2 operations; no further matrix of this size is held.  Compare
        8 P^2 bytes with the memory there is.

    Raises
    ------
    ValueError
        If damping is not finite, negative, or leaves a parameter without any regularisation.
    FloatingPointError
        If loss or gradient are not finite at theta.

    References
    ----------
    Hassibi and Stork (1993), Second order derivatives for network pruning: optimal brain surgeon.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [2.0], bias=False)
    >>> objective = Objective(net, [[1.0], [3.0]], [1.0, 1.0], loss="squared_error", reduction="sum")
    >>> float(np.round(1 / outer_product_inverse(objective, 0.5)[0, 0], 12))
    10.5
    """
    damping = float(damping)
    if not 0 <= damping < np.inf:
        raise ValueError(f"damping must be finite and at least 0, got {damping}")
    P = objective.num_parameters
    diagonal = np.full(P, damping)
    if objective.l2.size:
        diagonal += objective.l2
    if diagonal.min() <= 0:
        raise ValueError(
            f"damping must be positive where l2 is 0, got {damping} and l2 = 0 at parameter {int(diagonal.argmin())}"
        )
    inverse = np.zeros((P, P), order="F")
    inverse[np.diag_indices(P)] = 1 / diagonal
    rows, done = max(1, WORK_BYTES // (objective.net.widths[-1] * P * 8)), 0
    with reporting(progress, "inverse") as report, one_blas_thread(inverse.nbytes):
        for tile in tiles(objective, rows):
            for V in factor_rows(tile, np.sqrt(objective.total)):
                inverse = _updated(inverse, V)
                report(done := done + 1, objective.num_samples)
    for row in range(1, P):
        inverse[row, :row] = inverse[:row, row]
    return inverse


def factor_rows(tile: Tile, root: float) -> Array:
    """Return V_n for the samples of a tile, (rows, C, P)."""
    B = tile.output_factors()
    rows, C = B[-1].shape[:2]
    V = np.empty((rows, C, tile.net.num_parameters))
    for block in tile.net.blocks:
        outer = B[block.layer]
        if block.source is not None:
            outer = outer[:, :, :, None] * tile.z[block.source][:, None, None, :]
        V[:, :, block.start : block.stop] = outer.reshape(rows, C, -1)
    V /= root
    return V


def _updated(inverse: Array, V: Array) -> Array:
    """Return the inverse after a change of A by V'V; only the upper triangles count, and the array is used again."""
    solved = blas.dsymm(1.0, inverse, V.T)
    factor = scipy.linalg.cholesky(np.eye(len(V)) + V @ solved, lower=True, check_finite=False)
    change = scipy.linalg.solve_triangular(factor, solved.T, lower=True, check_finite=False)
    updated: Any = blas.dsyrk(-1.0, change, beta=1.0, c=inverse, trans=1, overwrite_c=1)
    return np.asarray(updated)
