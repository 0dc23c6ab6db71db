"""How strongly layers are coupled: norms of the blocks of a matrix of second derivatives."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.network import Network
from krylovh.progress import Progress, reporting

__all__ = ["layer_block_norms"]

_COLUMNS = 64  # of a block product


def layer_block_norms(A: Any, net: Network, *, progress: Progress = False) -> NDArray[np.float64]:
    """Return the Frobenius norms of the blocks of ``A`` that belong to each pair of layers, shape (L, L).

    Costs as many products as there are parameters, in blocks, and memory for 64 columns.

    Parameters
    ----------
    A : LinearOperator or ndarray, shape (P, P)
        Such as ``HessianOperator(objective)``.
    net : Network
        Whose parameters the rows and columns are.
    progress : bool or callable
        Counts columns.

    Raises
    ------
    ValueError
        ``A`` has another order than the net has parameters.

    Examples
    --------
    >>> net = Network((1, 1, 1), "identity", [3.0, 4.0], bias=False)
    >>> layer_block_norms(np.array([[16.0, 24.0], [24.0, 9.0]]), net)
    array([[16., 24.],
           [24.,  9.]])
    """
    P = net.num_parameters
    if A.shape != (P, P):
        raise ValueError(f"A must have shape ({P}, {P}), as many as the net has parameters, got {A.shape}")
    layer = np.empty(P, dtype=np.intp)
    for block in net.blocks:
        layer[block.start : block.stop] = block.layer - 1
    squares = np.zeros((net.depth, net.depth))
    with reporting(progress, "layer blocks") as report:
        for start in range(0, P, _COLUMNS):
            columns = np.arange(start, min(start + _COLUMNS, P))
            unit = np.zeros((P, len(columns)))
            unit[columns, np.arange(len(columns))] = 1.0
            product = np.asarray(A @ unit, dtype=np.float64) ** 2
            by_row = np.stack([product[layer == l].sum(axis=0) for l in range(net.depth)])
            np.add.at(squares.T, layer[columns], by_row.T)
            report(int(columns[-1]) + 1, P)
    return np.sqrt(squares)
