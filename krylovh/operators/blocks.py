"""Blocks of a curvature matrix: some rows and some columns, with only the passes that they need.

The vectors move only the weights that the columns touch, so nothing changes before the first of their layers.  And only
the gradients of the rows' weights are wanted, so the backward pass stops at the lowest of their layers.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator

from krylovh.checks import whole_number
from krylovh.network import Network
from krylovh.operators.passes import Tables

if TYPE_CHECKING:
    from krylovh.operators.curvature import CurvatureOperator

Array = NDArray[Any]
T = TypeVar("T")
Positions = NDArray[np.intp]

__all__ = ["BlockOperator", "parameters_of_layer", "positions", "tables_of_block"]


def parameters_of_layer(net: Network, layer: int) -> Positions:
    """Return the positions in theta of a layer's weights and bias."""
    layer = whole_number("layer", layer, 1, net.depth)
    blocks = [np.arange(block.start, block.stop) for block in net.blocks if block.layer == layer]
    return np.concatenate(blocks) if blocks else np.empty(0, np.intp)


def positions(name: str, index: ArrayLike, num_parameters: int) -> Positions:
    """Return ``index``, a mask or positions, as positions; ValueError for what is outside of theta or given twice."""
    given = np.asarray(index)
    if given.dtype == bool:
        if given.shape != (num_parameters,):
            raise ValueError(f"{name} as a mask must have shape ({num_parameters},), got {given.shape}")
        return np.flatnonzero(given)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be a mask or a list of integers, got {given.dtype} of shape {given.shape}")
    chosen = given.astype(np.intp)
    outside = np.flatnonzero((chosen < 0) | (chosen >= num_parameters))
    if outside.size:
        raise ValueError(f"{name} must be in [0, {num_parameters}), got {chosen[outside[0]]} at {outside[0]}")
    values, counts = np.unique(chosen, return_counts=True)
    if values.size < chosen.size:
        raise ValueError(f"{name} must not hold a position twice, got {values[counts > 1][0]}")
    return chosen


def tables_of_block(net: Network, rows: Positions, columns: Positions) -> Tables:
    """Return the net's tables with what a product with these rows and columns touches."""
    layers, edges = net._layers.copy(), net._edges.copy()
    moved, wanted = (_touched_blocks(net, index) for index in (columns, rows))
    reached, needed = np.zeros((2, net.depth + 1), bool)
    for l in range(1, net.depth + 1):
        edge = layers[l, 4]
        reached[l] = (l, None) in moved
        needed[l] = (l, None) in wanted
        for m, kind in net.sources[l - 1]:
            edges[edge, 3:] = kind == "dense" and (l, m) in moved, kind == "dense" and (l, m) in wanted
            reached[l] |= bool(edges[edge, 3]) or reached[m]
            needed[l] |= bool(edges[edge, 4]) or needed[m]
            edge += 1
    layers[: net.depth + 1, 5], layers[: net.depth + 1, 6] = reached, needed
    return Tables.of(layers, edges)


def _touched_blocks(net: Network, index: Positions) -> set[tuple[int, int | None]]:
    """Return the (layer, source) of all weights and biases (source None) that ``index`` has a part of."""
    inside = np.searchsorted([block.stop for block in net.blocks], np.unique(index), side="right")
    return {(net.blocks[i].layer, net.blocks[i].source) for i in np.unique(inside)}


class BlockOperator(LinearOperator):  # type: ignore[misc]
    """Some rows and columns of a curvature matrix, shape (len(rows), len(columns)).

    Made by :meth:`CurvatureOperator.block` and :meth:`CurvatureOperator.submatrix`; its transpose is the block with
    rows and columns exchanged.  Products count as products of the whole operator.
    """

    def __init__(self, operator: "CurvatureOperator", rows: Positions, columns: Positions) -> None:
        super().__init__(operator.dtype, (len(rows), len(columns)))
        self.operator = operator
        self.rows, self.columns = rows, columns
        self._tables = tables_of_block(operator.objective.net, rows, columns)

    @property
    def num_products(self) -> int:
        """Applications of the whole operator and of its blocks so far."""
        return self.operator.num_products

    def agree(self, value: T) -> T:
        """Return what :meth:`krylovh.Objective.agree` makes of a value."""
        return self.operator.agree(value)

    def _matvec(self, v: Array) -> Array:
        return self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V)
        if V.dtype.kind == "c":
            return self._matmat(V.real) + 1j * self._matmat(V.imag)
        if V.dtype.kind not in "fiub":
            raise TypeError(f"vectors must be real or complex numbers, got dtype {V.dtype}")
        num_parameters = self.operator.shape[0]
        vectors = np.zeros((V.shape[1], num_parameters), self.dtype)
        if not vectors.size or not self.rows.size or not self.columns.size:
            return np.zeros((self.shape[0], V.shape[1]), self.dtype)
        vectors[:, self.columns] = V.T
        out = np.empty_like(vectors)
        self.operator._apply(vectors, out, self._tables)
        self.operator._count(len(vectors))
        return np.asarray(out[:, self.rows].T)

    def _rmatvec(self, v: Array) -> Array:
        return self._adjoint()._matvec(v)

    def _rmatmat(self, V: Array) -> Array:
        return self._adjoint()._matmat(V)

    def _adjoint(self) -> "BlockOperator":
        if np.array_equal(self.rows, self.columns):
            return self
        return BlockOperator(self.operator, self.columns, self.rows)

    _transpose = _adjoint

    def __repr__(self) -> str:
        return f"<block of shape {self.shape} of {self.operator!r}>"
