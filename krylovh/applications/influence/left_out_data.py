"""Data without some samples, or with more of them, and the gradients that removing a sample leaves behind.

With total weight W, data loss ``L = sum_n w_n l_n`` and regulariser R, the objective without sample i is

    mean:  E_i = (L - w_i l_i) / (W - w_i) + R          sum:  E_i = L - w_i l_i + R

so R does not change.  Weakening the sample little by little, to ``(1 - t) w_i``, moves the gradient at theta by

    mean:  -b_i = -(w_i / W) (grad l_i - grad L / W)    sum:  -b_i = -w_i grad l_i

per unit of t, and a stationary theta by ``inv(H) b_i``.  At a stationary point ``grad L / W = -grad R``.  The b_i of a
mean add up to zero: removing everything in equal parts changes no mean.  Those of a sum add up to ``-grad R``.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.objective import Objective
from krylovh.operators.samples import Samples

Array = NDArray[np.float64]
Index = NDArray[np.int64]

GRADIENT_BYTES = 2**25  # what the gradients of a tile of samples may take

__all__ = ["altered", "checked_rows", "removal_gradients", "sample_gradients"]


def checked_rows(name: str, rows: ArrayLike, num_samples: int) -> Index:
    """Return positions of samples from positions or a mask (N,); each at most once, negative ones from the end.

    Examples
    --------
    >>> checked_rows("rows", [0, -1], 5), checked_rows("rows", [True, False, True], 3)
    (array([0, 4]), array([0, 2]))
    """
    given = np.asarray(rows)
    if given.dtype == bool:
        if given.shape != (num_samples,):
            raise ValueError(f"{name} must be positions or a mask of shape ({num_samples},), got {given.shape}")
        index = np.flatnonzero(given)
    else:
        if given.size and given.dtype.kind not in "iu":
            raise TypeError(f"{name} must be integers or booleans, got dtype {given.dtype}")
        index = np.atleast_1d(given).astype(np.int64)
    if index.ndim != 1 or index.size == 0:
        raise ValueError(f"{name} must name at least one sample, in one dimension, got shape {given.shape}")
    outside = index[(index < -num_samples) | (index >= num_samples)]
    if outside.size:
        raise ValueError(f"{name} must be in [{-num_samples}, {num_samples}), got {outside[0]}")
    index = np.where(index < 0, index + num_samples, index)
    if np.unique(index).size < index.size:
        raise ValueError(f"{name} must name each sample once, got {index.size - np.unique(index).size} repetitions")
    return index.astype(np.int64)


def sample_gradients(objective: Objective) -> Iterator[tuple[int, Array]]:
    """Yield ``w_n grad l_n`` of all samples in turn, as (position of the first, array (rows, P)), in float64.

    The regulariser is not part of it.  With g_l the derivatives by the pre-activations of layer l, the gradient by a
    weight matrix is the outer product of g_l and the layer's input.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [2.0, 0.0])
    >>> next(sample_gradients(Objective(net, [[1.0], [3.0]], [1.0, 7.0], loss="squared_error")))
    (0, array([[ 1.,  1.],
           [-3., -1.]]))
    """
    rows = max(1, GRADIENT_BYTES // (8 * objective.num_parameters))
    for chunk in objective.chunks():
        for first in range(0, chunk.num_rows, rows):
            samples = Samples(objective, chunk, slice(first, min(first + rows, chunk.num_rows)))
            gradients = np.empty((samples.num_rows, objective.num_parameters))
            for block in objective.net.blocks:
                part = samples.g[block.layer]
                if block.source is not None:
                    part = (part[:, :, None] * samples.z[block.source][:, None, :]).reshape(samples.num_rows, -1)
                gradients[:, block.start : block.stop] = part
            yield chunk.start + first, gradients


def removal_gradients(objective: Objective, rows: Index) -> Iterator[tuple[int, Array]]:
    """Yield the vectors b_i of some samples in turn, as (position in ``rows``, array (rows, P))."""
    share = 1.0 / objective.total
    mean = np.zeros(objective.num_parameters)
    weights = np.ones(len(rows))
    if objective.reduction == "mean":
        mean = data_gradient(objective)
        if objective.sample_weight is not None:
            weights = objective.sample_weight[rows].astype(np.float64)
    if objective.sample_weight is not None and not objective.sample_weight[rows].any():
        yield 0, np.zeros((len(rows), objective.num_parameters))  # removing what weighs nothing changes nothing
        return
    for first, gradients in sample_gradients(objective.subset(rows)):
        here = weights[first : first + len(gradients)]
        yield first, share * (gradients - here[:, None] * mean)


def data_gradient(objective: Objective) -> Array:
    """Return the gradient without that of the regulariser, in float64."""
    gradient = objective.gradient().astype(np.float64)
    if objective.l2.size:
        gradient -= objective.l2 * objective.net.theta.astype(np.float64)
    return gradient


def altered(objective: Objective, remove: Index | None, add: Any = None) -> Objective:
    """Return the objective on other data: without some samples, and with the samples (X, y) or (X, y, weight) of add.

    Samples in memory are copied but for those that go, so that products do not pay for them; of samples in a file the
    weights of those become 0.

    Raises
    ------
    ValueError
        If nothing is left, if samples are added to those in a file, or if what is added does not fit.

    Examples
    --------
    >>> from krylovh import Network
    >>> objective = Objective(Network((1, 1), "identity"), [[1.0], [3.0]], [1.0, 7.0], loss="squared_error")
    >>> altered(objective, np.array([0]), ([[5.0], [6.0]], [2.0, 3.0])).X
    array([[3.],
           [5.],
           [6.]])
    """
    N, weights = objective.num_samples, objective.sample_weight
    if remove is not None and len(remove) == N and add is None:
        raise ValueError(f"remove must leave at least one sample, got all {N}")
    keep = np.ones(N, dtype=bool)
    if remove is not None:
        keep[remove] = False
    if isinstance(objective.X, np.ndarray):
        if add is None:
            return objective.subset(np.flatnonzero(keep))
        X, y, extra = _checked_samples(objective, add)
        if weights is None and extra is None:
            new_weights = None
        else:
            old = np.ones(N, objective.dtype) if weights is None else weights
            new_weights = np.concatenate([old[keep], np.ones(len(X)) if extra is None else extra])
        return objective.like(
            np.concatenate([objective.X[keep], X]),
            np.concatenate([objective.y[keep], y]),
            new_weights,
        )
    if add is not None:
        raise ValueError("add must be None where samples are read from a file: append them to the file instead")
    new_weights = np.ones(N, objective.dtype) if weights is None else weights.copy()
    new_weights[~keep] = 0.0
    return objective.like(objective.X, objective.y, new_weights)


def _checked_samples(objective: Objective, add: Any) -> tuple[Any, Any, Any]:
    """Return samples that are added, in the form of those that are there."""
    if not isinstance(add, tuple) or len(add) not in (2, 3):
        raise TypeError(f"add must be a tuple (X, y) or (X, y, weight), got {type(add).__name__}")
    try:
        new = objective.like(add[0], add[1], add[2] if len(add) == 3 else None)
    except ValueError as error:
        raise ValueError(f"add does not fit: {error}") from None
    y = new.y
    if y.shape[1:] != objective.y.shape[1:]:
        raise ValueError(f"y of add must have shape (n, {', '.join(map(str, objective.y.shape[1:]))}), got {y.shape}")
    return np.asarray(new.X), y, new.sample_weight
