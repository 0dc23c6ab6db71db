"""Exact diagonals and traces, without the matrix and without probing.

The second derivative with respect to the weight of unit j in layer l from unit i is sum_n E^{ll}_jj z_i^2, so only the
diagonals of E are needed.  With the outer-product factors B_l and the slopes A^{lm} = da_m/da_l,

    E^{ll}_jj = sum_c (B_l)_cj^2  +  sum over layers m >= l, units k of  c_mk (A^{lm}_jk)^2:

as many backward passes as there are outputs, and for each layer whose activation is curved the slopes of its units with
respect to the layers below.  From a layer to its source these are its weights, the same for all samples.

Source: Bishop (1992), Exact calculation of the Hessian matrix for the multilayer perceptron.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread
from krylovh.exact.second_derivatives import WORK_BYTES, Tile, tiles, times
from krylovh.objective import Objective

Array = NDArray[Any]

TILE_ROWS = 2048  # samples at a time at most

__all__ = ["add_weight_curvature", "gauss_newton_diagonal", "gauss_newton_trace", "hessian_diagonal", "hessian_trace"]


def hessian_diagonal(objective: Objective) -> Array:
    """Return the exact diagonal of the Hessian, regulariser included.

    Parameters
    ----------
    objective : Objective

    Returns
    -------
    ndarray, shape (P,)
        In the objective's dtype, summed in float64.  Besides the objective's linearisation about 128 MiB are used, as
        long as one sample's slopes fit into that.

    Raises
    ------
    FloatingPointError
        If loss or gradient are not finite at theta.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> hessian_diagonal(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    array([9., 4.])
    """
    return _diagonal(objective, gauss_newton=False)


def gauss_newton_diagonal(objective: Objective) -> Array:
    """Return the exact diagonal of the Gauss-Newton matrix, shape (P,); see :func:`hessian_diagonal`.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> gauss_newton_diagonal(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    array([9., 4.])
    """
    return _diagonal(objective, gauss_newton=True)


def hessian_trace(objective: Objective) -> float:
    """Return the exact trace of the Hessian, regulariser included; see :func:`hessian_diagonal`.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> hessian_trace(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    13.0
    """
    return _trace(objective, gauss_newton=False)


def gauss_newton_trace(objective: Objective) -> float:
    """Return the exact trace of the Gauss-Newton matrix, regulariser included; see :func:`hessian_diagonal`.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> gauss_newton_trace(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    13.0
    """
    return _trace(objective, gauss_newton=True)


def _diagonal(objective: Objective, *, gauss_newton: bool) -> Array:
    diagonal = np.zeros(objective.num_parameters)
    for tile in tiles(objective, _tile_rows(objective)):
        with one_blas_thread(tile.z[0].nbytes):
            add_weight_curvature(tile, _unit_curvature(tile, gauss_newton), diagonal)
    diagonal /= objective.total
    if objective.l2.size:
        diagonal += objective.l2
    return diagonal.astype(objective.dtype)


def add_weight_curvature(tile: Tile, unit_curvature: list[Array], diagonal: Array) -> None:
    """Add ``sum_n h_nj z_ni^2`` to each weight and ``sum_n h_nj`` to each bias; h of layer l is (rows, d_l)."""
    squares = {}
    for block in tile.net.blocks:
        h, part = unit_curvature[block.layer], diagonal[block.start : block.stop]
        if block.source is None:
            part += h.sum(axis=0, dtype=np.float64)
            continue
        if block.source not in squares:
            squares[block.source] = np.square(tile.z[block.source])
        part += (h.T @ squares[block.source]).ravel()


def _trace(objective: Objective, *, gauss_newton: bool) -> float:
    trace = 0.0
    for tile in tiles(objective, _tile_rows(objective)):
        with one_blas_thread(tile.z[0].nbytes):
            curvature = [h.sum(axis=1, dtype=np.float64) for h in _unit_curvature(tile, gauss_newton)]
        squares = [np.einsum("ni,ni->n", z, z, dtype=np.float64) for z in tile.z]
        for block in tile.net.blocks:
            h = curvature[block.layer]
            trace += float(h.sum() if block.source is None else h @ squares[block.source])
    ridge = objective.l2.sum() * (objective.num_parameters if objective.l2.size == 1 else 1)
    return trace / objective.total + float(ridge)


def _tile_rows(objective: Objective) -> int:
    widths = objective.net.widths
    factors = widths[-1] * sum(widths[1:])
    slopes = max(width * sum(widths[1:m]) for m, width in enumerate(widths[1:], start=1))
    return max(1, min(TILE_ROWS, WORK_BYTES // (max(factors, slopes) * objective.dtype.itemsize)))


def _unit_curvature(tile: Tile, gauss_newton: bool) -> list[Array]:
    """Return the diagonals of E^{ll}, (rows, d_l) for each layer behind an empty entry for the input."""
    curvature = [np.einsum("ncj,ncj->nj", B, B) for B in tile.output_factors()]
    if not gauss_newton:
        for m in range(1, tile.net.depth + 1):
            if tile.bend[m].any():  # piecewise linear activations have none
                _add_bend(tile, m, curvature)
    return curvature


def _add_bend(tile: Tile, m: int, curvature: list[Array]) -> None:
    """Add ``sum_k c_mk (da_mk / da_lj)^2`` to the curvature of unit j in every layer l <= m."""
    bend = tile.bend[m]
    curvature[m] += bend
    slopes: dict[int, Array] = {}  # da_m / dz_q: (d_m, d_q) where it is the same for all samples, else (rows, d_m, d_q)

    def arrive(q: int, term: Array) -> None:
        slopes[q] = slopes[q] + term if q in slopes else term

    for q, W in tile.sources(m):
        arrive(q, np.eye(tile.net.widths[m], dtype=tile.dtype) if W is None else W)
    for q in range(m - 1, 0, -1):
        if q not in slopes:
            continue
        to_z = slopes.pop(q)
        if to_z.ndim == 2:
            curvature[q] += (bend @ np.square(to_z)) * np.square(tile.slope[q])
        else:
            curvature[q] += np.einsum("nk,nkj,nkj->nj", bend, to_z, to_z) * np.square(tile.slope[q])
        below = [(p, W) for p, W in tile.sources(q) if p > 0]
        if below:
            to_a = to_z * tile.slope[q][:, None, :]
            for p, W in below:
                arrive(p, to_a if W is None else times(to_a, W))
