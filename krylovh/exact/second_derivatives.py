"""Second derivatives of the loss with respect to pre-activations, sample by sample and layer by layer.

For one sample let a_l be the pre-activation of layer l, z_l its output, g_l = dloss/da_l, s'_l the slope of its
activation and c_l = s''_l dloss/dz_l.  Shift a_l by e:

    A^{lm}_{jk} = da_mk / de_j,    P^{lm}_{jk} = dz_mk / de_j = A^{lm}_{jk} s'_mk,    E^{lm}_{jk} = d2loss / da_lj da_mk

A runs forwards from A^{ll} = I, E backwards from the outputs: this is the R-operator with unit vectors for directions
and without weights that move.  Only products with weight matrices occur, whatever the topology.

The outer-product part needs less: with Q = R R' the curvature of the loss, B_l = R' dz_L/da_l has one row for each
output, and the Gauss-Newton part of E^{lm} is B_l' B_m.

Sources: Bishop (1992), Exact calculation of the Hessian matrix for the multilayer perceptron; Pearlmutter (1994).
"""

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.network import Network
from krylovh.objective import Chunk, Objective

Array = NDArray[Any]

WORK_BYTES = 2**26  # what per-sample derivatives of one tile may take, unless one sample needs more

__all__ = ["WORK_BYTES", "Tile", "layers_behind", "tiles"]


class Tile:
    """Some samples with views of what is kept of them, (rows, width) for each layer; index 0 is the input.

    Attributes
    ----------
    z, slope, bend, g : lists of arrays (rows, width)
        z_l, s'_l, c_l and g_l; the last three have nothing for the input.
    q, scale : arrays (rows, C) and (rows,)
        The curvature of the loss, see :mod:`krylovh.kernels.losses`.
    """

    def __init__(self, objective: Objective, chunk: Chunk) -> None:
        self.net, self.dtype = objective.net, objective.dtype
        self.softmax = objective.loss == "softmax_cross_entropy"
        theta = objective.network_arguments[2]
        self.weights = {
            (block.layer, block.source): theta[block.start : block.stop].reshape(block.shape)
            for block in self.net.blocks
            if block.kind == "weight"
        }
        data, n = objective.data_of(chunk)
        widths = self.net.widths
        ends = n * np.cumsum(widths[1:])

        def by_layer(flat: Array) -> list[Array]:
            return [flat[end - n * width : end].reshape(n, width) for end, width in zip(ends, widths[1:], strict=True)]

        z, slope, bend, g, q, scale = chunk.linearization
        nothing = np.empty((n, 0), self.dtype)
        self.z = [data.reshape(n, widths[0]), *by_layer(z)]
        self.slope, self.bend, self.g = ([nothing, *by_layer(flat)] for flat in (slope, bend, g))
        self.q, self.scale = q[: n * widths[-1]].reshape(n, widths[-1]), scale[:n]

    def part(self, rows: slice) -> "Tile":
        """Return some of the samples."""
        part = copy(self)
        part.z, part.slope, part.bend, part.g = (
            [of_layer[rows] for of_layer in arrays] for arrays in (self.z, self.slope, self.bend, self.g)
        )
        part.q, part.scale = self.q[rows], self.scale[rows]
        return part

    @property
    def num_rows(self) -> int:
        """Number of samples."""
        return len(self.scale)

    def sources(self, layer: int) -> list[tuple[int, Array | None]]:
        """Return the layers that feed a layer, each with its weights (out, in), None for an identity edge."""
        return [(m, self.weights.get((layer, m))) for m, _ in self.net.sources[layer - 1]]

    def inputs(self, layer: int) -> Array:
        """Return what the parameters of one unit of a layer multiply, (rows, a): dense sources, and 1 for a bias."""
        parts = [self.z[m] for m, W in self.sources(layer) if W is not None]
        if self.net.bias[layer - 1]:
            parts.append(np.ones((self.num_rows, 1), self.dtype))
        return np.concatenate(parts, axis=1) if parts else np.empty((self.num_rows, 0), self.dtype)

    def curvature_factor(self) -> Array:
        """Return R', (rows, C, C), with R R' = Q: the second derivative of the loss with respect to z_L."""
        C = self.net.widths[-1]
        factor = np.zeros((self.num_rows, C, C), self.dtype)
        if self.softmax:  # sqrt(p_c) (e_c - p): no difference of nearly equal squares
            factor[:] = -self.q[:, None, :]
        units = np.arange(C)
        factor[:, units, units] += 1 if self.softmax else np.sqrt(self.q)
        if self.softmax:
            factor *= np.sqrt(self.scale[:, None] * self.q)[:, :, None]
        return factor

    def curvature_diagonal(self) -> Array:
        """Return the diagonal of Q, (rows, C)."""
        return self.scale[:, None] * self.q * (1 - self.q) if self.softmax else self.q

    def times_curvature(self, V: Array) -> Array:
        """Return ``V Q`` for V of shape (rows, k, C)."""
        weighted = V * self.q[:, None, :]
        if self.softmax:
            weighted -= weighted.sum(axis=2, keepdims=True) * self.q[:, None, :]
            weighted *= self.scale[:, None, None]
        return weighted

    def output_factors(self) -> list[Array]:
        """Return B_1, ..., B_L behind an empty entry, each (rows, C, width)."""
        L = self.net.depth
        B: list[Array | None] = [None] * L + [self.curvature_factor()]
        for m in range(L, 0, -1):
            upstream = B[m]
            assert upstream is not None  # every hidden layer feeds a later one
            upstream *= self.slope[m][:, None, :]
            for q, W in self.sources(m):
                if q > 0:
                    term = upstream if W is None else times(upstream, W)
                    B[q] = term.copy() if B[q] is None else B[q] + term
        return [np.empty((0, 0, 0), self.dtype), *(b for b in B[1:] if b is not None)]

    def responses(self, layer: int, units: slice) -> tuple[dict[int, Array], dict[int, Array]]:
        """Shift the pre-activations of some units of a layer; return A^{lm} and P^{lm} of all later layers m.

        Layers that the shift does not reach are missing; arrays are (rows, number of units, d_m).
        """
        A: dict[int, Array] = {}
        P: dict[int, Array] = {}
        for m in range(layer + 1, self.net.depth + 1):
            for q, W in self.sources(m):
                if q == layer:
                    rows_of_w = np.eye(self.net.widths[m], dtype=self.dtype)[units] if W is None else W[:, units].T
                    term = self.slope[layer][:, units, None] * rows_of_w
                elif q in P:
                    term = P[q] if W is None else times(P[q], W.T)
                else:
                    continue
                A[m] = A[m] + term if m in A else term
            if m in A:
                P[m] = A[m] * self.slope[m][:, None, :]
        return A, P

    def moved_inputs(self, m: int, layer: int, units: slice, P: dict[int, Array], out: Array) -> None:
        """Fill ``out``, zeros of shape (rows, number of units, a), with how :meth:`inputs` of layer m move."""
        column = 0
        for q, W in self.sources(m):
            if W is None:
                continue
            if q == layer:
                first, last, _ = units.indices(W.shape[1])
                out[:, np.arange(last - first), column + np.arange(first, last)] = self.slope[q][:, units]
            elif q in P:
                out[:, :, column : column + W.shape[1]] = P[q]
            column += W.shape[1]

    def second_derivatives(
        self, layer: int, units: slice, A: dict[int, Array], P: dict[int, Array], *, gauss_newton: bool
    ) -> dict[int, Array]:
        """Return E^{lm} for some units of layer l and all m >= l, (rows, number of units, d_m); see :meth:`responses`.

        ``gauss_newton`` leaves out every term with a second derivative of an activation.
        """
        L = self.net.depth
        first, last, _ = units.indices(self.net.widths[layer])
        own = np.arange(last - first), np.arange(first, last)
        E: dict[int, Array] = {}
        U: dict[int, Array] = {}
        if layer == L:
            P = {L: np.zeros((self.num_rows, last - first, self.net.widths[L]), self.dtype)}
            P[L][:, *own] = self.slope[L][:, units]
        U[L] = self.times_curvature(P[L])
        for m in range(L, layer - 1, -1):
            E[m] = U.pop(m)
            E[m] *= self.slope[m][:, None, :]
            if not gauss_newton and self.net.activations[m - 1] != "identity":
                if m in A:
                    E[m] += A[m] * self.bend[m][:, None, :]
                elif m == layer:
                    E[m][:, *own] += self.bend[m][:, units]
            for q, W in self.sources(m):
                if q >= layer:
                    term = E[m] if W is None else times(E[m], W)
                    U[q] = U[q] + term if q in U else term.copy() if W is None else term
        return E


def layers_behind(net: Network, layer: int) -> set[int]:
    """Return the layers whose pre-activations move with those of a layer."""
    behind: set[int] = set()
    for m in range(layer + 1, net.depth + 1):
        if any(q == layer or q in behind for q, _ in net.sources[m - 1]):
            behind.add(m)
    return behind


def tiles(objective: Objective, rows: int) -> Iterator[Tile]:
    """Go through all samples of an objective, at most ``rows`` at a time."""
    for chunk in objective.chunks():
        tile = Tile(objective, chunk)
        for first in range(0, tile.num_rows, rows):
            yield tile.part(slice(first, first + rows))


def times(V: Array, W: Array) -> Array:
    """Return ``V W`` for V of shape (rows, k, p) as one matrix product."""
    return np.asarray((V.reshape(-1, V.shape[2]) @ W).reshape(*V.shape[:2], W.shape[1]))
