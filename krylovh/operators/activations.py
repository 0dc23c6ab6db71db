"""The Hessian of single samples' losses with respect to their inputs, or to the outputs z_l of a layer.

Weights are fixed here and activations move: with ``R z_l = e_i`` for each unit i, the passes of the R-operator without
moving weights give one row of the matrix each.  Layers that are computed before layer l do not move, and edges that
bypass it do not either; so with l = 0 this is the curvature of the loss in input space, and with l = L that of the loss
function alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import whole_number
from krylovh.objective import Objective
from krylovh.operators.samples import tiles

__all__ = ["activation_hessian", "input_hessian"]


def activation_hessian(objective: Objective, layer: int, rows: ArrayLike | Sequence[int]) -> NDArray[Any]:
    """Return the second derivatives of single samples' losses with respect to the outputs z of a layer.

    These are derivatives of ``l(z_L(x_n), y_n)`` by itself: without the sample's weight, without division by N, and
    without the regulariser.

    Parameters
    ----------
    objective : Objective
    layer : int
        0 for the inputs, 1..L for the outputs (after the activation) of a layer.
    rows : sequence of int, shape (n,)
        Which samples, in [0, N).

    Returns
    -------
    ndarray, shape (n, d_layer, d_layer)
        Symmetric to the last bit, in the objective's dtype; computed in float64 from the net's activations.

    Raises
    ------
    ValueError, TypeError
        For a layer or a row that does not exist.
    FloatingPointError
        If the loss of one of the samples, or its gradient, is not finite.

    References
    ----------
    Bishop (1992), Exact calculation of the Hessian matrix for the multilayer perceptron.

    Examples
    --------
    The net ``w2 tanh(w1 x)`` with loss 1/2 (z - y)^2 is a parabola in tanh(w1 x), of curvature w2^2.

    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "tanh", [2.0, 3.0], bias=False)
    >>> objective = Objective(net, [[0.0], [1.0]], [0.5, 0.5], loss="squared_error")
    >>> activation_hessian(objective, 1, [1, 0]).ravel(), activation_hessian(objective, 0, [0]).ravel()
    (array([9., 9.]), array([36.]))
    """
    layer = whole_number("layer", layer, 0, objective.net.depth)
    single = _unweighted(objective, _checked_rows(rows, objective.num_samples))
    width = objective.net.widths[layer]
    found = np.empty((0 if single is None else single.num_samples, width, width))
    start = 0
    if single is not None:
        for samples in tiles(single, width):
            stop = start + samples.num_rows
            units = np.broadcast_to(np.eye(width), (samples.num_rows, width, width))
            Ra, Rz = samples.forward(layer, units)
            found[start:stop] = samples.backward(samples.times_curvature(Rz), Ra, layer)[layer]
            start = stop
    return ((found + found.transpose(0, 2, 1)) / 2).astype(objective.dtype)


def input_hessian(objective: Objective, rows: ArrayLike | Sequence[int]) -> NDArray[Any]:
    """Return the second derivatives of single samples' losses with respect to their inputs.

    This is :func:`activation_hessian` of layer 0: shape (len(rows), d_0, d_0).

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((2, 1), "identity", [1.0, 2.0, 0.0])
    >>> input_hessian(Objective(net, [[1.0, 1.0]], [0.0], loss="squared_error"), [0])
    array([[[1., 2.],
            [2., 4.]]])
    """
    return activation_hessian(objective, 0, rows)


def _checked_rows(rows: ArrayLike | Sequence[int], num_samples: int) -> NDArray[np.intp]:
    given = np.asarray(rows)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise TypeError(f"rows must be a list of integers, got {given.dtype} of shape {given.shape}")
    outside = np.flatnonzero((given < 0) | (given >= num_samples))
    if outside.size:
        raise ValueError(f"rows must be in [0, {num_samples}), got {given[outside[0]]} at index {outside[0]}")
    return given.astype(np.intp)


def _unweighted(objective: Objective, rows: NDArray[np.intp]) -> Objective | None:
    """Return the objective on some samples with weights of one and without regulariser; None for no samples."""
    if rows.size == 0:
        return None
    return Objective(
        objective.net,
        np.concatenate([objective.X[row : row + 1] for row in rows]),  # row by row: X may be a file of rows
        objective.y[rows],
        loss=objective.loss,
        loss_options={"delta": objective.targets.delta} if objective.loss == "huber" else None,
        dtype=objective.dtype,
        memory_limit=objective.memory_limit,
        threads=objective.threads,
    )
