"""Samples one by one: what is kept of them, layer by layer, and passes with several directions for each of them.

Products with curvature matrices sum over samples in compiled kernels.  What is different for every sample, such as
Kronecker factors before they are averaged or the Hessian of one sample's activations, is computed here with the BLAS
of NumPy, a tile of samples at a time and in float64.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.objective import Chunk, Objective

Array = NDArray[np.float64]

TILE_BYTES = 2**25  # what the directions of one tile may take in one layer

__all__ = ["Samples", "tiles"]


class Samples:
    """Some samples of a chunk: arrays (rows, width) for each layer, the input being layer 0.

    Attributes
    ----------
    z, slope, bend, g : lists of arrays
        Outputs z_l, s'_l(a_l), s''_l(a_l) dl/dz_l and g_l = dl/da_l; the last three start with an empty array.
    weights : array (rows,)
        The samples' weights w_n, which the derivatives of the loss (bend, g and the curvature) contain already.
    """

    def __init__(self, objective: Objective, chunk: Chunk, rows: slice) -> None:
        net, n = objective.net, chunk.num_rows
        self.net = net
        self.is_softmax = objective.loss == "softmax_cross_entropy"
        theta = objective.network_arguments[2].astype(np.float64, copy=False)
        self._weights = {
            (block.layer, block.source): theta[block.start : block.stop].reshape(block.shape)
            for block in net.blocks
            if block.kind == "weight"
        }

        def one(flat: NDArray[Any], start: int, width: int) -> Array:
            return flat[start : start + n * width].reshape(n, width)[rows].astype(np.float64)

        def by_layer(flat: NDArray[Any]) -> list[Array]:
            starts = n * np.concatenate([[0], np.cumsum(net.widths[1:])])
            layers = [one(flat, start, width) for start, width in zip(starts, net.widths[1:], strict=False)]
            return [np.empty((0, 0)), *layers]

        *kept, curvature, scale = chunk.linearization
        self.z, self.slope, self.bend, self.g = (by_layer(flat) for flat in kept)
        self.z[0] = one(objective.data_of(chunk)[0], 0, net.widths[0])
        self.num_rows = len(self.z[0])
        self._q = one(curvature, 0, net.widths[-1])
        self._scale = one(scale, 0, 1)[:, 0]
        sample_weight = objective.sample_weight
        self.weights = np.ones(self.num_rows)
        if sample_weight is not None:
            self.weights[:] = sample_weight[chunk.start : chunk.stop][rows]

    def sources(self, layer: int) -> list[tuple[int, Array | None]]:
        """Return the layers that feed a layer, each with its weights (out, in), or None for an identity edge."""
        return [(m, self._weights.get((layer, m))) for m, _ in self.net.sources[layer - 1]]

    def inputs(self, layer: int) -> Array:
        """Return what the parameters of a unit of a layer multiply: all dense sources, then 1 if there is a bias."""
        parts = [self.z[m] for m, W in self.sources(layer) if W is not None]
        if self.net.bias[layer - 1]:
            parts.append(np.ones((self.num_rows, 1)))
        return np.concatenate(parts, axis=1) if parts else np.empty((self.num_rows, 0))

    def curvature_root(self) -> Array:
        """Return R' (rows, C, C) with ``R R' = Q``, the second derivative of the loss with respect to the outputs."""
        C = self.net.widths[-1]
        if not self.is_softmax:
            return np.sqrt(self._q)[:, :, None] * np.eye(C)
        # row c is sqrt(p_c) (e_c - p): no difference of nearly equal squares
        return np.sqrt(self._scale[:, None] * self._q)[:, :, None] * (np.eye(C) - self._q[:, None, :])

    def times_curvature(self, V: Array) -> Array:
        """Return ``Q v`` for the k directions (rows, k, C) of each sample."""
        if not self.is_softmax:
            return V * self._q[:, None, :]
        mean = np.einsum("nkc,nc->nk", V, self._q)
        return np.asarray(self._scale[:, None, None] * self._q[:, None, :] * (V - mean[:, :, None]))

    def forward(self, layer: int, Rz: Array) -> tuple[dict[int, Array], Array]:
        """Move the outputs of a layer along k directions (rows, k, d); nothing before it changes.

        Returns ``R a_m`` of the later layers m that are reached, and ``R z_L`` (rows, k, C).
        """
        moved, Ra = {layer: Rz}, {}
        for m in range(layer + 1, self.net.depth + 1):
            terms = [moved[q] if W is None else times(moved[q], W.T) for q, W in self.sources(m) if q in moved]
            if terms:
                Ra[m] = sum(terms[1:], terms[0])
                moved[m] = self.slope[m][:, None, :] * Ra[m]
        return Ra, moved[self.net.depth]

    def backward(self, Ru: Array, Ra: dict[int, Array], lowest: int) -> dict[int, Array]:
        """Return ``R u_m`` of the layers m >= lowest from that of the outputs (rows, k, C).

        ``R g_m = s'_m R u_m + c_m R a_m``; layers without ``R a_m`` do without the second term.
        """
        found = {self.net.depth: Ru}
        for m in range(self.net.depth, lowest, -1):
            Rg = self.slope[m][:, None, :] * found[m]
            if m in Ra:
                Rg += self.bend[m][:, None, :] * Ra[m]
            for q, W in self.sources(m):
                if q >= lowest:
                    term = Rg if W is None else times(Rg, W)
                    found[q] = found[q] + term if q in found else term
        return found


def tiles(objective: Objective, directions: int, *, own: bool = False) -> Iterator[Samples]:
    """Go through all samples, as many at a time as ``directions`` vectors for each of them allow.

    With ``own``, through those of this process, for sums that are made by :meth:`krylovh.Objective.sum_over_ranks`.
    """
    rows = max(1, TILE_BYTES // (8 * directions * max(objective.net.widths)))
    for chunk in objective.own_chunks() if own else objective.chunks():
        for first in range(0, chunk.num_rows, rows):
            yield Samples(objective, chunk, slice(first, min(first + rows, chunk.num_rows)))


def times(V: Array, W: Array) -> Array:
    """Return ``V W`` for V (rows, k, p) as one matrix product."""
    return np.asarray((V.reshape(-1, V.shape[2]) @ W).reshape(*V.shape[:2], W.shape[1]))
