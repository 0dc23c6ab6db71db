"""What all products of an objective have in common: passes of a block of vectors through the net, and their scratch."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import krylovh.kernels as kernels
from krylovh.network import Network
from krylovh.objective import Chunk, Objective
from krylovh.threads import available_threads, parallel_region

Array = NDArray[Any]
OutputCurvature = tuple[int, Array, Array]  # a code of the kernels, with q and scale

BLOCK = 16  # vectors that go through the net together at most: wider brings nothing, and costs memory
NARROW_BLOCK = 4  # below this, fewer lanes with wider blocks are faster than more lanes
ACCUMULATOR_BYTES = 2**28  # what the threads' accumulators may take whatever the memory limit
SEGMENT_TILES = 4  # tiles of a lane that are added up in float32 before they go to float64
WIDE_TILE = 2048  # rows that pass together where the BLAS does the threading

__all__ = ["BLOCK", "Passes", "Tables"]


class Tables(NamedTuple):
    """The net's tables of layers and edges, for blocks of vectors and for single ones."""

    layers: NDArray[np.int64]
    edges: NDArray[np.int64]
    single_edges: NDArray[np.int64]

    @classmethod
    def of(cls, layers: NDArray[np.int64], edges: NDArray[np.int64]) -> "Tables":
        """Add the table for a single vector, for which the twin layout is that of theta."""
        single_edges = edges.copy()
        single_edges[:, 2] = edges[:, 1]
        return cls(layers, edges, single_edges)


class Layout(NamedTuple):
    """How the samples of a product are spread: over lanes, or over the threads of the BLAS."""

    lanes: int
    tile: int
    threaded_blas: bool


def accumulator_bytes(net: Network, k: int, itemsize: int) -> int:
    """Return what one lane adds up a product with k vectors in."""
    return k * (net.num_parameters + (net._twin_size if k > 1 else 0)) * itemsize


class Workspace:
    """Scratch of one product with k vectors, allocated once and used by one call at a time."""

    def __init__(self, objective: Objective, k: int, layout: Layout, with_cross: bool) -> None:
        net, dtype, lanes = objective.net, objective.dtype, layout.lanes
        self.packed = np.empty(k * net.num_parameters if k > 1 else 0, dtype)
        self.twin = np.empty(k * net._twin_size if k > 1 else 0, dtype)
        self.direct = np.empty((lanes, k * net.num_parameters), dtype)
        self.cross = np.empty((lanes, k * net._twin_size), dtype) if k > 1 and with_cross else self.direct
        self.ra, self.rz, self.rg = np.empty((3, lanes, layout.tile * k * net.num_units), dtype)
        self.started = np.zeros((lanes, net.depth + 1), np.int8)
        self.values = np.zeros((lanes, k))


class Passes:
    """Runs the product kernel over all chunks of an objective, with scratch that is kept from call to call."""

    def __init__(self, objective: Objective, *, gauss_newton: bool, float64_sums: bool = False) -> None:
        net = objective.net
        self.objective = objective
        self.gauss_newton = gauss_newton
        self.float64_sums = float64_sums and objective.dtype != np.float64
        self.tables = Tables.of(net._layers, net._edges)
        self._lock = threading.Lock()
        self._idle: dict[int, list[Workspace]] = {}
        self._nothing = np.empty(0, objective.dtype)
        self._budget = max(ACCUMULATOR_BYTES, objective.memory_limit // 8)
        self._layouts: dict[int, Layout] = {}
        self.block = self._widest_block()

    def layout(self, k: int) -> Layout:
        """Return how a product with ``k`` vectors is spread.

        Every lane has accumulators of its own.  Where those of all lanes would take more than an eighth of the memory
        limit, there are fewer lanes; where that leaves most threads idle, whole tiles go to a BLAS of many threads.
        """
        if k not in self._layouts:
            objective = self.objective
            lanes = min(objective.lanes, max(1, self._budget // self._lane_bytes(k)))
            wanted = available_threads() if objective.threads is None else objective.threads
            if 2 * lanes >= min(wanted, objective.num_samples):
                self._layouts[k] = Layout(lanes, objective.tile_rows(k), False)
            else:
                self._layouts[k] = Layout(1, min(WIDE_TILE, objective.num_samples), True)
        return self._layouts[k]

    def _widest_block(self) -> int:
        """Return how many vectors go through the net together: as many as the accumulators' memory allows."""
        k = BLOCK
        while k > NARROW_BLOCK and self.objective.lanes * self._lane_bytes(k) > self._budget:
            k //= 2
        return k

    def _lane_bytes(self, k: int) -> int:
        return accumulator_bytes(self.objective.net, k, self.objective.dtype.itemsize)

    def multiply(
        self,
        V: Array,
        out: Array,
        curvature: Callable[[Chunk], OutputCurvature],
        l2: Array,
        tables: Tables | None = None,
    ) -> None:
        """Write ``(1/total) sum_n ... + l2 * V`` to ``out``; both are (k, P)."""
        objective = self.objective
        if not self.float64_sums:
            self._run(kernels.HESSIAN, V, out, self._nothing, curvature, objective.total, l2, tables)
            return
        sums = np.zeros(out.shape)
        self._run(kernels.HESSIAN, V, out, self._nothing, curvature, 1.0, self._nothing, tables, sums=sums)
        sums /= objective.total
        if l2.size:
            sums += l2.astype(np.float64) * V
        out[:] = sums

    def quadratic_forms(self, V: Array, curvature: Callable[[Chunk], OutputCurvature]) -> NDArray[np.float64]:
        """Return ``sum_n v' A_n v / total`` for the k rows of V (k, P), without the regulariser."""
        none = self._nothing
        values = self._run(kernels.QUADRATIC, V, np.empty((len(V), 0), V.dtype), none, curvature, 1.0, none)
        return np.asarray(values / self.objective.total)

    def jacobian(self, V: Array) -> Array:
        """Return ``J v`` for the k rows of V (k, P), shape (N, k, C)."""
        objective, k = self.objective, len(V)
        u = np.empty(objective.num_samples * k * objective.net.widths[-1], objective.dtype)
        self._run(kernels.JACOBIAN, V, np.empty((k, 0), V.dtype), u, _of_the_loss, 1.0, self._nothing)
        return u.reshape(objective.num_samples, k, -1)

    def jacobian_transposed(self, U: Array) -> Array:
        """Return ``J' u`` for U (N, k, C), shape (k, P)."""
        out = np.empty((U.shape[1], self.objective.num_parameters), self.objective.dtype)
        self._run(kernels.TRANSPOSED, out, out, U.ravel(), _of_the_loss, 1.0, self._nothing)
        return out

    def _run(
        self,
        task: int,
        V: Array,
        out: Array,
        u: Array,
        curvature: Callable[[Chunk], OutputCurvature],
        total: float,
        l2: Array,
        tables: Tables | None = None,
        *,
        sums: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        objective, k = self.objective, len(V)
        tables = self.tables if tables is None else tables
        layout = self.layout(k)
        work = self._take(k, layout)
        theta = objective.network_arguments[2]
        packs = k > 1 and task != kernels.TRANSPOSED
        packed, twin = (work.packed, work.twin) if k > 1 else (V[0], V[0])
        outputs = objective.net.widths[-1]
        writes = task in (kernels.HESSIAN, kernels.TRANSPOSED)
        for chunk in objective.chunks():
            x, rows = objective.data_of(chunk)
            code, q, scale = curvature(chunk)
            step = rows if sums is None else layout.lanes * layout.tile * SEGMENT_TILES
            for begin in range(0, rows, step):
                end = min(rows, begin + step)
                is_first, is_last = chunk.start + begin == 0, chunk.start + end == objective.num_samples
                with parallel_region(threaded_blas=layout.threaded_blas) as parallel:
                    kernels.product(
                        parallel, layout.lanes, layout.tile, tables.layers,
                        tables.edges if k > 1 else tables.single_edges, theta, x, rows, begin, end, code,
                        *chunk.linearization[:4], q, scale, task, self.gauss_newton, k, V, packed, twin,
                        work.direct, work.cross, work.ra, work.rz, work.rg, work.started,
                        is_first and packs, is_first or sums is not None, writes and (is_last or sums is not None),
                        total, l2, out, u[chunk.start * k * outputs : chunk.stop * k * outputs], work.values,
                    )  # fmt: skip
                if sums is not None:
                    sums += out
        values: NDArray[np.float64] = work.values.sum(axis=0) if task == kernels.QUADRATIC else work.values
        with self._lock:
            self._idle.setdefault(k, []).append(work)
        return values

    def _take(self, k: int, layout: Layout) -> Workspace:
        """Take scratch for one call: threads that share the operator never share it."""
        with self._lock:
            for other in [size for size in self._idle if size != k]:
                del self._idle[other]  # scratch of a width that is no longer used
            idle = self._idle.get(k)
            if idle:
                return idle.pop()
        return Workspace(self.objective, k, layout, with_cross=not self.gauss_newton)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_idle": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _of_the_loss(chunk: Chunk) -> OutputCurvature:
    """No curvature is used: any arrays of the right kind."""
    q, scale = chunk.linearization[4:]
    return kernels.NO_CURVATURE, q, scale
