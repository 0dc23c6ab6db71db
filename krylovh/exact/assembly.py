"""Assembly of a matrix of second derivatives from the structure of dense layers.

With the second derivatives E of :mod:`krylovh.exact.second_derivatives`, the block of two layers l <= m is

    H[(l, j, i), (m, q, k)] = sum_n  z_i (y_k E^{lm}_{jq}  +  g_mq dy_k / da_lj)

where z and y are what the layers' parameters multiply.  Such sums are matrix products of face-splitting products of the
samples' rows (:mod:`krylovh.kernels.face_splitting`): about N P^2 operations for all blocks.  In the block of a layer
with itself the second term is 0 and the first one symmetric in (i, k) and in (j, q): a quarter is computed.  Where y is
z_l, dy_k / da_lj is diagonal, and the second term a small matrix product of its own.

Source: Bishop (1992), Exact calculation of the Hessian matrix for the multilayer perceptron.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

import krylovh.kernels as kernels
from krylovh.blas import one_blas_thread
from krylovh.exact.layout import LayerLayout
from krylovh.exact.second_derivatives import WORK_BYTES, Tile, layers_behind, tiles
from krylovh.objective import Objective
from krylovh.recording import Recorder, Unrecorded
from krylovh.threads import parallel_region

Array = NDArray[Any]

SLAB_BYTES = 2**26  # rows of the matrix held at a time where it does not lie in memory as a whole
TILE_ROWS = 2048  # samples whose products are added up at a time, at most
PART_ROWS = 128  # samples whose derivatives are computed at a time, in cache

__all__ = ["assemble"]


def assemble(
    objective: Objective,
    gauss_newton: bool,
    ridge: Array,
    layout: dict[int, LayerLayout],
    out: Any,
    report: Callable[[int, int], None],
    record: Recorder = Unrecorded(),  # noqa: B008  without a state
) -> None:
    """Fill ``out`` slab by slab: the rows of some units of a layer, which lie in a few stretches.

    ``ridge`` is added to the diagonal: no number, one, or one per parameter of the net.
    """
    n = out.shape[0]
    in_memory = isinstance(out, np.ndarray) and out.flags.c_contiguous and out.flags.aligned and out.flags.writeable
    done, work = 0, n * objective.num_samples
    with ThreadPoolExecutor(objective.lanes) as pool:
        for layer, mine in layout.items():
            for units in _slabs(objective, mine, n, in_memory):
                slab = _Slab(objective, gauss_newton, layout, layer, units, out, in_memory)
                if not slab.pieces:
                    continue

                def entries(slab: _Slab = slab, done: int = done) -> tuple[Array, ...]:
                    samples = 0
                    for tile in tiles(objective, _tile_rows(objective, slab.layer, slab.units)):
                        slab.add(tile, pool)
                        samples += tile.num_rows
                        report(done + len(slab.entries) * samples, work)
                    return (slab.entries,)

                name = f"layer {layer}, units {units.start} to {units.stop}"
                if record.remembers:
                    slab.entries[:] = record.unit(name, None, entries)[0]
                else:
                    entries()
                done += len(slab.entries) * objective.num_samples
                slab.finish(ridge, out)


def _slabs(objective: Objective, mine: LayerLayout, n: int, in_memory: bool) -> Iterator[slice]:
    """Cut a layer's units so that their rows, and derivatives of some hundred samples, stay within bounds."""
    width = objective.net.widths[mine.layer]
    count = WORK_BYTES // (256 * _bytes_per_unit(objective, mine.layer))
    if not in_memory:
        count = min(count, SLAB_BYTES // max(1, mine.positions.shape[1] * n * objective.dtype.itemsize))
    count = max(1, min(width, count))
    return (slice(first, min(width, first + count)) for first in range(0, width, count))


def _bytes_per_unit(objective: Objective, layer: int) -> int:
    """Return what E, P and the pairs of E take for one sample and one unit of a layer."""
    return 3 * sum(objective.net.widths[layer:]) * int(objective.dtype.itemsize)


def _tile_rows(objective: Objective, layer: int, units: slice) -> int:
    count: int = units.stop - units.start
    return max(1, min(TILE_ROWS, WORK_BYTES // (count * _bytes_per_unit(objective, layer))))


class _Slab:
    """The rows of some units of a layer, in the columns of this layer and of later ones until it is finished."""

    def __init__(
        self,
        objective: Objective,
        gauss_newton: bool,
        layout: dict[int, LayerLayout],
        layer: int,
        units: slice,
        out: Any,
        in_memory: bool,
    ) -> None:
        self.objective, self.gauss_newton = objective, gauss_newton
        self.layout, self.mine, self.layer, self.units = layout, layout[layer], layer, units
        self.rows = self.mine.local_positions(units)
        self.pieces = self.mine.pieces(units)
        self.whole = in_memory and units == slice(0, objective.net.widths[layer])
        if self.whole:
            self.entries = np.asarray(out)[self.mine.start : self.mine.stop]
        else:
            self.entries = np.empty((self.rows.size, out.shape[0]), objective.dtype)
        self.entries[:] = 0.0
        self.later = [m for m, theirs in layout.items() if m > layer and theirs.stop > theirs.start]
        # layers with other inputs than z_l itself that move with a_l
        behind = set() if gauss_newton else layers_behind(objective.net, layer)
        self.mixed = [
            m for m in self.later if any(q in behind and kind == "dense" for q, kind in objective.net.sources[m - 1])
        ]
        width = objective.net.widths[layer]
        pairs = np.nonzero(np.arange(width) >= np.arange(units.start, units.stop)[:, None])
        self.first, self.second = (unit.astype(np.int64) for unit in pairs)  # first counts from units.start on

    def add(self, tile: Tile, pool: Executor) -> None:
        """Add the samples of one tile."""
        lanes, n = self.objective.lanes, tile.num_rows
        later, mixed = self.later, self.mixed
        shape = n, self.units.stop - self.units.start
        E = {m: np.empty((*shape, tile.net.widths[m]), tile.dtype) for m in later}
        moved = {m: np.zeros((*shape, self.layout[m].positions.shape[1]), tile.dtype) for m in mixed}
        # the BLAS is slow on a last column or seven: a multiple of eight
        squares = np.zeros((n, -(-len(self.first) // 8) * 8), tile.dtype)

        def derive(first: int) -> None:
            rows = slice(first, first + PART_ROWS)
            part = tile.part(rows)
            A, P = part.responses(self.layer, self.units)
            derivatives = part.second_derivatives(self.layer, self.units, A, P, gauss_newton=self.gauss_newton)
            own = derivatives[self.layer].reshape(part.num_rows, -1)
            chosen = self.first * part.net.widths[self.layer] + self.second
            squares[rows, : len(chosen)] = np.take(own, chosen, axis=1)
            for m in later:
                E[m][rows] = derivatives[m]
                if m in mixed:
                    part.moved_inputs(m, self.layer, self.units, P, moved[m][rows])

        with one_blas_thread():
            for _ in pool.map(derive, range(0, n, PART_ROWS)):
                pass
        z = tile.inputs(self.layer)
        with parallel_region(lanes) as parallel:
            kernels.add_face_squares(
                parallel, lanes, n, z.ravel(), z.shape[1], squares.ravel(),
                self.first, self.second, self.rows, self.mine.positions, self.entries,
            )  # fmt: skip
        for m in later:
            y, cols = tile.inputs(m), self.layout[m].positions
            factors = z.ravel(), z.shape[1], y.ravel(), y.shape[1], E[m].ravel(), *E[m].shape[1:]
            with parallel_region(lanes) as parallel:
                if m in mixed:
                    kernels.add_mixed_products(
                        parallel, lanes, n, *factors, np.ascontiguousarray(tile.g[m]).ravel(), moved[m].ravel(),
                        self.rows, cols, self.entries,
                    )  # fmt: skip
                else:
                    kernels.add_face_products(parallel, lanes, n, *factors, self.rows, cols, self.entries)
            if not self.gauss_newton and m not in mixed:
                self._add_direct(tile, z, m)

    def _add_direct(self, tile: Tile, z: Array, m: int) -> None:
        """Add ``z_i g_mq s'_lj`` at k = j, where layer m has z_l among its inputs."""
        column = 0
        for q, W in tile.sources(m):
            if W is None:
                continue
            if q == self.layer:
                moves = (tile.slope[q][:, self.units, None] * tile.g[m][:, None, :]).reshape(tile.num_rows, -1)
                with one_blas_thread(moves.nbytes):
                    sums = (z.T @ moves).reshape(z.shape[1], len(self.rows), -1)
                cols = self.layout[m].positions[:, column : column + W.shape[1]].T[self.units]
                self.entries[self.rows.T[:, :, None], cols[None]] += sums
            column += W.shape[1]

    def finish(self, ridge: Array, out: Any) -> None:
        """Complete what symmetry gives, divide by the total, add the ridge, and write to ``out``."""
        mine, entries = self.mine, self.entries
        lanes = self.objective.lanes
        with parallel_region(lanes) as parallel:
            kernels.mirror_face_squares(parallel, lanes, self.units.start, self.rows, mine.positions, entries)
        entries /= entries.dtype.type(self.objective.total)
        if ridge.size:
            of_theta = np.broadcast_to(ridge, self.objective.num_parameters)[mine.theta].astype(entries.dtype)
            for piece, local in self.pieces:
                diagonal = np.arange(local.start, local.stop), np.arange(piece.start, piece.stop)
                entries[diagonal] += of_theta[piece.start - mine.start : piece.stop - mine.start]
        # columns of earlier layers and units: what lies there was finished before, in other rows
        for known in [slice(0, mine.start), *(before for before, _ in mine.pieces(slice(0, self.units.start)))]:
            for piece, local in self.pieces:
                entries[local, known] = np.asarray(out[known, piece]).T
        if not self.whole:
            for piece, local in self.pieces:
                out[piece, :] = entries[local]
