"""What all products of an objective have in common: passes of a block of vectors through the net, and their scratch."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import krylovh.kernels as kernels
from krylovh.memory import Spread
from krylovh.objective import Chunk, Objective
from krylovh.threads import parallel_region

Array = NDArray[Any]
OutputCurvature = tuple[int, Array, Array]  # a code of the kernels, with q and scale

SEGMENT_TILES = 4  # tiles of a lane that are added up in float32 before they go to float64

__all__ = ["Passes", "Tables"]


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


class Workspace:
    """Scratch of one product with k vectors, allocated once and used by one call at a time."""

    def __init__(self, objective: Objective, k: int, spread: Spread, with_cross: bool) -> None:
        net, dtype, lanes = objective.net, objective.dtype, spread.lanes
        self.packed = np.empty(k * net.num_parameters if k > 1 else 0, dtype)
        self.twin = np.empty(k * net._twin_size if k > 1 else 0, dtype)
        self.direct = np.empty((lanes, k * net.num_parameters), dtype)
        self.cross = np.empty((lanes, k * net._twin_size), dtype) if k > 1 and with_cross else self.direct
        self.ra, self.rz, self.rg = np.empty((3, lanes, spread.tile * k * net.num_units), dtype)
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
        self._spreads: dict[int, Spread] = {}
        self.block = objective.block_size

    def spread(self, k: int) -> Spread:
        """Return how the samples of a product with ``k`` vectors are spread over threads."""
        if k not in self._spreads:
            self._spreads[k] = self.objective.spread(k)
        return self._spreads[k]

    def multiply(
        self,
        V: Array,
        out: Array,
        curvature: Callable[[Chunk], OutputCurvature],
        l2: Array,
        tables: Tables | None = None,
    ) -> None:
        """Write ``(1/total) sum_n ... + l2 * V`` to ``out``, both (k, P), with the sum over the own samples."""
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
        """Return ``J v`` for the k rows of V (k, P) and the own samples, shape (N, k, C)."""
        objective, k = self.objective, len(V)
        u = np.empty(objective.num_own_samples * k * objective.net.widths[-1], objective.dtype)
        self._run(kernels.JACOBIAN, V, np.empty((k, 0), V.dtype), u, _of_the_loss, 1.0, self._nothing)
        return u.reshape(objective.num_own_samples, k, objective.net.widths[-1])

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
        spread = self.spread(k)
        work = self._take(k, spread)
        theta = objective.network_arguments[2]
        packs = k > 1 and task != kernels.TRANSPOSED
        packed, twin = (work.packed, work.twin) if k > 1 else (V[0], V[0])
        outputs = objective.net.widths[-1]
        writes = task in (kernels.HESSIAN, kernels.TRANSPOSED)
        for chunk in objective.own_chunks():
            x, rows = objective.data_of(chunk)
            code, q, scale = curvature(chunk)
            step = rows if sums is None else spread.lanes * spread.tile * SEGMENT_TILES
            for begin in range(0, rows, step):
                end = min(rows, begin + step)
                is_first, is_last = chunk.start + begin == 0, chunk.start + end == objective.num_own_samples
                with parallel_region(spread.lanes, threaded_blas=spread.threaded_blas) as parallel:
                    kernels.product(
                        parallel, spread.lanes, spread.tile, tables.layers,
                        tables.edges if k > 1 else tables.single_edges, theta, x, rows, begin, end, code,
                        *chunk.linearization[:4], q, scale, task, self.gauss_newton, k, V, packed, twin,
                        work.direct, work.cross, work.ra, work.rz, work.rg, work.started,
                        is_first and packs, is_first or sums is not None, writes and (is_last or sums is not None),
                        total, l2, out, u[chunk.start * k * outputs : chunk.stop * k * outputs], work.values,
                    )  # fmt: skip
                if sums is not None:
                    sums += out
        if writes and objective.num_own_samples == 0:
            out[:] = l2 * V if l2.size else 0.0
        values: NDArray[np.float64] = work.values.sum(axis=0) if task == kernels.QUADRATIC else work.values
        with self._lock:
            self._idle.setdefault(k, []).append(work)
        return values

    def _take(self, k: int, spread: Spread) -> Workspace:
        """Take scratch for one call: threads that share the operator never share it."""
        with self._lock:
            for other in [size for size in self._idle if size != k]:
                del self._idle[other]  # scratch of a width that is no longer used
            idle = self._idle.get(k)
            if idle:
                return idle.pop()
        return Workspace(self.objective, k, spread, with_cross=not self.gauss_newton)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_idle": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _of_the_loss(chunk: Chunk) -> OutputCurvature:
    """No curvature is used: any arrays of the right kind."""
    q, scale = chunk.linearization[4:]
    return kernels.NO_CURVATURE, q, scale
