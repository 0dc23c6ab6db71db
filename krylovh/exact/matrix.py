"""The Hessian and the Gauss-Newton matrix written out in full.

By the structure of dense layers (:mod:`krylovh.exact.assembly`) in about N P^2 operations; or from products with unit
vectors, in about 12 N P^2, which needs nothing but the operator.
"""

from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from krylovh.exact.assembly import assemble
from krylovh.exact.layout import LayerLayout, chosen_layers, layouts
from krylovh.objective import Objective
from krylovh.operators import GaussNewtonOperator, HessianOperator
from krylovh.progress import Progress, reporting
from krylovh.recording import CheckpointLike, Recorder, recording

Array = NDArray[Any]
Method = Literal["structure", "products"]

BLOCK = 16  # columns that products build together

__all__ = ["gauss_newton_blocks", "gauss_newton_matrix", "hessian_blocks", "hessian_matrix", "operator_matrix"]


def hessian_matrix(
    objective: Objective,
    *,
    method: Method = "structure",
    layers: Sequence[int] | None = None,
    out: Any = None,
    progress: Progress = False,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
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
    checkpoint : path or Checkpoint, optional
        File from which the same call goes on if this one is stopped, at any moment.  It holds the rows that are
        finished, and so does memory while it is written, ``8 n^2`` bytes and as much again.

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
    return _matrix(objective, False, method, layers, out, progress, checkpoint)


def gauss_newton_matrix(
    objective: Objective,
    *,
    method: Method = "structure",
    layers: Sequence[int] | None = None,
    out: Any = None,
    progress: Progress = False,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
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
    return _matrix(objective, True, method, layers, out, progress, checkpoint)


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
    objective: Objective, gauss_newton: bool, method: str, layers: Any, out: Any, progress: Progress, checkpoint: Any
) -> Any:
    if method not in ("structure", "products"):
        raise ValueError(f"method must be 'structure' or 'products', got {method!r}")
    layout = layouts(objective.net, chosen_layers(objective.net, layers))
    n = max(layer.stop for layer in layout.values())
    out = _checked_out(out, (n, n), objective.dtype)
    task = "gauss_newton_matrix" if gauss_newton else "hessian_matrix"
    arguments = {"method": method, "layers": None if layers is None else [int(layer) for layer in layers]}
    with (
        recording(checkpoint, task, objective, arguments, seed=0) as record,
        reporting(progress, "matrix") as report,
    ):
        if method == "structure":
            assemble(objective, gauss_newton, objective.l2, layout, out, report, record)
        else:
            _fill_by_products(objective, gauss_newton, layout, out, report, record)
        record.finish(None)
    return out


def _checked_out(out: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    if out is None:
        return np.empty(shape, dtype)
    if tuple(out.shape) != tuple(shape):
        raise ValueError(f"out must have shape {tuple(shape)}, got {tuple(out.shape)}")
    if out.dtype != dtype:
        raise ValueError(f"out must have dtype {np.dtype(dtype)}, got {out.dtype}")
    return out


def _columns(
    operator: LinearOperator, positions: Array | None = None, record: Recorder | None = None
) -> Iterator[tuple[int, int, Array]]:
    """Yield the columns at some positions, ``BLOCK`` at a time, with their numbers."""
    chosen = np.arange(operator.shape[1]) if positions is None else positions
    for start in range(0, len(chosen), BLOCK):
        stop = min(len(chosen), start + BLOCK)
        units = np.zeros((operator.shape[1], stop - start), operator.dtype, order="F")
        units[chosen[start:stop], np.arange(stop - start)] = 1.0
        if record is None:
            yield start, stop, operator.matmat(units)
        else:
            columns = record.unit(f"columns from {start}", None, lambda V=units: (operator.matmat(V),))[0]  # type: ignore[misc]
            yield start, stop, columns.astype(operator.dtype, copy=False)


def _fill_by_products(
    objective: Objective,
    gauss_newton: bool,
    layout: dict[int, LayerLayout],
    out: Any,
    report: Callable[[int, int], None],
    record: Recorder,
) -> None:
    """Fill ``out`` block of rows by block of rows; what lies left of the diagonal is copied from above it."""
    operator = GaussNewtonOperator(objective) if gauss_newton else HessianOperator(objective)
    positions = np.concatenate([np.arange(objective.num_parameters)[layer.theta] for layer in layout.values()])
    for start, stop, columns in _columns(operator, positions, record):
        rows = np.array(columns[positions].T, order="C")
        if start:
            rows[:, :start] = out[:start, start:stop].T
        square = rows[:, start:stop]
        lower = np.tril_indices(stop - start, -1)
        square[lower] = square.T[lower]
        out[start:stop, :] = rows
        report(stop, len(positions))
