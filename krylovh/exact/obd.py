"""The diagonal of the Hessian by the recursion of optimal brain damage: one backward pass, O(W) for each sample."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread
from krylovh.exact.diagonal import add_weight_curvature
from krylovh.exact.second_derivatives import Tile, tiles
from krylovh.objective import Objective

Array = NDArray[Any]

TILE_ROWS = 512  # samples that pass through all layers together

__all__ = ["obd_diagonal"]


def obd_diagonal(objective: Objective) -> Array:
    """Return the diagonal of the Hessian as optimal brain damage approximates it, regulariser included.

    Second derivatives with respect to pre-activations are passed backwards as if they had no off-diagonal entries,

        h_lj = s'_lj^2 sum_m sum_k (W_ml)_kj^2 h_mk + c_lj,      h at the outputs: the diagonal of d2loss/da_L^2,

    and weight (j, i) gets sum_n h_lj z_i^2.  It is exact for the last layer, and for layers that feed only the last one
    where the loss has no cross derivatives between outputs: all losses but softmax cross-entropy.

    Parameters
    ----------
    objective : Objective

    Returns
    -------
    ndarray, shape (P,)
        In the objective's dtype.

    Raises
    ------
    FloatingPointError
        If loss or gradient are not finite at theta.

    References
    ----------
    Le Cun, Denker and Solla (1990), Optimal brain damage.

    Examples
    --------
    One unit that feeds two has cross derivatives behind it, which the recursion does not see:

    >>> from krylovh import Network, hessian_diagonal
    >>> net = Network((1, 1, 2, 1), "identity", [1.0, 1.0, 1.0, 1.0, 1.0], bias=False)
    >>> objective = Objective(net, [[1.0]], [1.0], loss="squared_error")
    >>> obd_diagonal(objective), hessian_diagonal(objective)
    (array([2., 1., 1., 1., 1.]), array([4., 1., 1., 1., 1.]))
    """
    diagonal = np.zeros(objective.num_parameters)
    for tile in tiles(objective, TILE_ROWS):
        with one_blas_thread(tile.z[0].nbytes):
            add_weight_curvature(tile, _recursion(tile), diagonal)
    diagonal /= objective.total
    if objective.l2.size:
        diagonal += objective.l2
    return diagonal.astype(objective.dtype)


def _recursion(tile: Tile) -> list[Array]:
    """Return h of all layers, (rows, d_l), behind an empty entry for the input."""
    h = [np.zeros_like(slope) for slope in tile.slope]
    h[-1] += tile.curvature_diagonal()
    for m in range(tile.net.depth, 0, -1):
        h[m] *= np.square(tile.slope[m])
        h[m] += tile.bend[m]
        for q, W in tile.sources(m):
            if q > 0:
                h[q] += h[m] if W is None else h[m] @ np.square(W)
    return h
