"""The Hessian and the Gauss-Newton matrix written out in full.

With the second derivatives E of :mod:`krylovh.exact.second_derivatives`, the block of two dense layers l <= m is

    H[(l, j, i), (m, q, k)] = sum_n  z_i y_k E^{lm}_{jq}  +  z_i g_{m,q} dy_k / da_lj

where z and y are what the layers' parameters multiply.  Both sums are matrix products of face-splitting products of the
samples' rows: about N W^2 operations for all of W parameters, half of what a product with each unit vector takes in
its outermost layers alone.  In the block of a layer with itself the second sum is 0 and the first one symmetric in
(i, k) and in (j, q): a quarter is computed.

Source: Bishop (1992), Exact calculation of the Hessian matrix for the multilayer perceptron.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

import krylovh.kernels as kernels
from krylovh.blas import one_blas_thread
from krylovh.exact.layout import LayerLayout, chosen_layers, layouts
from krylovh.exact.second_derivatives import WORK_BYTES, Tile, tiles
from krylovh.objective import Objective
from krylovh.operators import GaussNewtonOperator, HessianOperator
from krylovh.progress import Progress, reporting
from krylovh.threads import parallel_region

Array = NDArray[Any]
Method = Literal["structure", "products"]

BLOCK = 16  # columns that products build together
SLAB_BYTES = 2**26  # rows of the matrix held at a time where it does not lie in memory as a whole
TILE_ROWS = 2048  # samples at a time at most

__all__ = ["gauss_newton_blocks", "gauss_newton_matrix", "hessian_blocks", "hessian_matrix", "operator_matrix"]


def hessian_matrix(
    objective: Objective,
    *,
    method: Method = "structure",
    layers: Sequence[int] | None = None,
    out: Any = None,
    progress: Progress = False,
) -> Any:
    """Return the Hessian as a dense matrix, regulariser included.

    Parameters
    ----------
    objective : Objective
    method : "structure" or "products"
        By the structure of dense layers, in about N P^2 operations; or row by row from products with unit vectors.
    layers : sequence of int, optional
        Numbers of layers, 1 to L: only their rows and columns, in theta's order.  All layers if not given.
    out : array_like, shape (n, n), optional
        Filled and returned: an ndarray of the objective's dtype, a memory map, an h5py dataset, or whatever can be
        read and written by slices and has ``shape`` and ``dtype``.
    progress : bool or callable

    Returns
    -------
    ndarray, shape (n, n), or ``out``
        In the objective's dtype; symmetric to the last bit.  Besides the matrix, and the linearisation that the
        objective keeps, about 64 MiB are used for derivatives of samples and 4 MiB for each lane, as long as one
        sample and one unit fit into that; where ``out`` is not a contiguous ndarray, another 64 MiB, or one unit's
        rows.

    Raises
    ------
    ValueError
        For an unknown method, layers that the net does not have, or an ``out`` of another shape or dtype.
    FloatingPointError
        If loss or gradient are not finite at theta.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> objective = Objective(net, [[1.0]], [1.0], loss="squared_error")
    >>> hessian_matrix(objective)
    array([[ 9., 11.],
           [11.,  4.]])
    >>> hessian_matrix(objective, layers=[2])
    array([[4.]])
    """
    return _matrix(objective, False, method, layers, out, progress)


def gauss_newton_matrix(
    objective: Objective,
    *,
    method: Method = "structure",
    layers: Sequence[int] | None = None,
    out: Any = None,
    progress: Progress = False,
) -> Any:
    """Return the Gauss-Newton matrix as a dense matrix; parameters, result and errors as in :func:`hessian_matrix`.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> gauss_newton_matrix(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    array([[9., 6.],
           [6., 4.]])
    """
    return _matrix(objective, True, method, layers, out, progress)


def hessian_blocks(objective: Objective) -> list[Array]:
    """Return the diagonal blocks of the Hessian, layer by layer: L symmetric matrices, regulariser included.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> hessian_blocks(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    [array([[9.]]), array([[4.]])]
    """
    return [hessian_matrix(objective, layers=[layer]) for layer in range(1, objective.net.depth + 1)]


def gauss_newton_blocks(objective: Objective) -> list[Array]:
    """Return the diagonal blocks of the Gauss-Newton matrix, layer by layer; see :func:`hessian_blocks`.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> gauss_newton_blocks(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    [array([[9.]]), array([[4.]])]
    """
    return [gauss_newton_matrix(objective, layers=[layer]) for layer in range(1, objective.net.depth + 1)]


def operator_matrix(operator: LinearOperator, *, out: Any = None, progress: Progress = False) -> Any:
    """Return any linear operator as a dense matrix, column by column from products with the unit vectors.

    Parameters
    ----------
    operator : LinearOperator, shape (m, n)
        Symmetric or not; the matrix holds what the products gave, to the bit.
    out : array_like, shape (m, n), optional
        Filled and returned; see :func:`hessian_matrix`.
    progress : bool or callable

    Raises
    ------
    ValueError
        If ``out`` has another shape or dtype.

    Examples
    --------
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> operator_matrix(aslinearoperator(np.array([[1.0, 2.0], [0.0, 3.0]])))
    array([[1., 2.],
           [0., 3.]])
    """
    out = _checked_out(out, operator.shape, operator.dtype)
    with reporting(progress, "matrix") as report:
        for start, stop, columns in _columns(operator):
            out[:, start:stop] = columns
            report(stop, operator.shape[1])
    return out


def _matrix(
    objective: Objective, gauss_newton: bool, method: str, layers: Any, out: Any, progress: Progress
) -> Any:
    if method not in ("structure", "products"):
        raise ValueError(f"method must be 'structure' or 'products', got {method!r}")
    layout = layouts(objective.net, chosen_layers(objective.net, layers))
    n = max(layer.stop for layer in layout.values())
    out = _checked_out(out, (n, n), objective.dtype)
    with reporting(progress, "matrix") as report:
        fill = _fill_by_structure if method == "structure" else _fill_by_products
        fill(objective, gauss_newton, layout, out, report)
    return out


def _checked_out(out: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    if out is None:
        return np.empty(shape, dtype)
    if tuple(out.shape) != tuple(shape):
        raise ValueError(f"out must have shape {tuple(shape)}, got {tuple(out.shape)}")
    if out.dtype != dtype:
        raise ValueError(f"out must have dtype {np.dtype(dtype)}, got {out.dtype}")
    return out


def _columns(operator: LinearOperator, positions: Array | None = None) -> Iterator[tuple[int, int, Array]]:
    """Yield the columns at some positions, ``BLOCK`` at a time, with their numbers."""
    chosen = np.arange(operator.shape[1]) if positions is None else positions
    for start in range(0, len(chosen), BLOCK):
        stop = min(len(chosen), start + BLOCK)
        units = np.zeros((operator.shape[1], stop - start), operator.dtype, order="F")
        units[chosen[start:stop], np.arange(stop - start)] = 1.0
        yield start, stop, operator.matmat(units)


def _fill_by_products(
    objective: Objective, gauss_newton: bool, layout: dict[int, LayerLayout], out: Any, report: Callable[[int, int], None]
) -> None:
    """Fill ``out`` block of rows by block of rows; what lies left of the diagonal is copied from above it."""
    operator = GaussNewtonOperator(objective) if gauss_newton else HessianOperator(objective)
    positions = np.concatenate([np.arange(objective.num_parameters)[layer.theta] for layer in layout.values()])
    for start, stop, columns in _columns(operator, positions):
        rows = np.array(columns[positions].T, order="C")
        if start:
            rows[:, :start] = out[:start, start:stop].T
        square = rows[:, start:stop]
        lower = np.tril_indices(stop - start, -1)
        square[lower] = square.T[lower]
        out[start:stop, :] = rows
        report(stop, len(positions))


def _fill_by_structure(
    objective: Objective, gauss_newton: bool, layout: dict[int, LayerLayout], out: Any, report: Callable[[int, int], None]
) -> None:
    """Fill ``out`` slab by slab: the rows of some units of a layer, which lie in a few stretches."""
    n = out.shape[0]
    in_memory = isinstance(out, np.ndarray) and out.flags.c_contiguous and out.flags.aligned and out.flags.writeable
    work = n * objective.num_samples
    done = 0
    for layer, mine in layout.items():
        for units in _slabs(objective, mine, n, in_memory):
            whole = in_memory and units == slice(0, objective.net.widths[layer])
            pieces = mine.pieces(units)
            num_rows = sum(len(local) for _, local in pieces)
            if num_rows == 0:
                continue
            slab = np.asarray(out)[mine.start : mine.stop] if whole else np.empty((num_rows, n), objective.dtype)
            slab[:] = 0.0
            samples = 0
            for tile in tiles(objective, _tile_rows(objective, layer, units)):
                _add_tile(objective, tile, gauss_newton, layout, layer, units, slab)
                samples += tile.num_rows
                report(done + num_rows * samples, work)
            done += num_rows * objective.num_samples
            with parallel_region(objective.lanes) as parallel:
                kernels.mirror_face_squares(
                    objective.lanes, parallel, units.start, mine.local_positions(units), mine.positions, slab
                )
            slab /= slab.dtype.type(objective.total)
            _add_ridge(objective, mine, pieces, slab)
            # what is left of the diagonal lies above it, in slabs that are finished
            finished = [slice(0, mine.start), *(known for known, _ in mine.pieces(slice(0, units.start)))]
            for known in finished:
                for rows, local in pieces:
                    if known.stop > known.start and len(local):
                        slab[local[0] : local[-1] + 1, known] = np.asarray(out[known, rows]).T
            if not whole:
                for rows, local in pieces:
                    if len(local):
                        out[rows, :] = slab[local[0] : local[-1] + 1]


def _slabs(objective: Objective, mine: LayerLayout, n: int, in_memory: bool) -> Iterator[slice]:
    """Cut a layer's units so that their rows, and derivatives of some hundred samples, stay within bounds."""
    width = objective.net.widths[mine.layer]
    count = WORK_BYTES // (256 * _bytes_per_direction(objective, mine.layer))
    if not in_memory:
        count = min(count, SLAB_BYTES // max(1, mine.positions.shape[1] * n * objective.dtype.itemsize))
    count = max(1, min(width, count))
    return (slice(first, min(width, first + count)) for first in range(0, width, count))


def _bytes_per_direction(objective: Objective, layer: int) -> int:
    """Return what A, P, E and what they are made of take for one sample and one unit of a layer."""
    return 5 * sum(objective.net.widths[layer:]) * objective.dtype.itemsize


def _tile_rows(objective: Objective, layer: int, units: slice) -> int:
    per_sample = (units.stop - units.start) * _bytes_per_direction(objective, layer)
    return max(1, min(TILE_ROWS, WORK_BYTES // per_sample))


def _add_ridge(objective: Objective, mine: LayerLayout, pieces: list[tuple[slice, Array]], slab: Array) -> None:
    if objective.l2.size == 0:
        return
    shift = mine.theta.start - mine.start
    for rows, local in pieces:
        ridge = objective.l2 if objective.l2.size == 1 else objective.l2[rows.start + shift : rows.stop + shift]
        slab[local, np.arange(rows.start, rows.stop)] += ridge.astype(slab.dtype)


def _add_tile(
    objective: Objective,
    tile: Tile,
    gauss_newton: bool,
    layout: dict[int, LayerLayout],
    layer: int,
    units: slice,
    slab: Array,
) -> None:
    """Add the samples of one tile to the rows of some units, in the columns of this layer and of later ones."""
    mine = layout[layer]
    with one_blas_thread():  # small products, and threads that wait for more of them would be in the kernels' way
        A, P = tile.responses(layer, units)
        E = tile.second_derivatives(layer, units, A, P, gauss_newton=gauss_newton)
    z = tile.inputs(layer)
    rows = mine.local_positions(units)
    first, second = (
        pair.astype(np.int64)
        for pair in np.nonzero(np.arange(len(mine.positions)) >= np.arange(units.start, units.stop)[:, None])
    )
    pairs = np.zeros((tile.num_rows, -(-len(first) // 8) * 8), tile.dtype)  # BLAS is slow on a last odd column or seven
    pairs[:, : len(first)] = E[layer].reshape(tile.num_rows, -1)[:, first * len(mine.positions) + second]
    with parallel_region(objective.lanes) as parallel:
        kernels.add_face_squares(
            objective.lanes, parallel, tile.num_rows, z.ravel(), z.shape[1], pairs.ravel(),
            first, second, rows, mine.positions, slab,
        )  # fmt: skip

    def add(y: Array, F: Array, cols: Array) -> None:
        with parallel_region(objective.lanes) as parallel:
            kernels.add_face_products(
                objective.lanes, parallel, tile.num_rows, z.ravel(), z.shape[1], y.ravel(), y.shape[1], F.ravel(),
                *F.shape[1:], rows, np.ascontiguousarray(cols), slab,
            )  # fmt: skip

    for m, theirs in layout.items():
        if m <= layer or theirs.stop == theirs.start:
            continue
        add(tile.inputs(m), E[m], theirs.positions)
        if gauss_newton:
            continue
        column = 0
        for q, W in tile.sources(m):
            if W is None:
                continue
            cols = theirs.positions[:, column : column + W.shape[1]]
            column += W.shape[1]
            if q == layer:  # dz_q / da_l is diagonal
                direct = (tile.slope[layer][:, units, None] * tile.g[m][:, None, :]).reshape(tile.num_rows, -1)
                sums = (z.T @ direct).reshape(z.shape[1], len(rows), -1)
                slab[rows.T[:, :, None], cols.T[None, units]] += sums  # input i, unit j, unit of m
            elif q in P:
                add(np.ascontiguousarray(tile.g[m]), P[q], cols.T)
