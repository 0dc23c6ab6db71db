"""An objective whose samples are spread over the ranks of a communicator.

Value, gradient and every product are sums over samples: each rank adds up its own, and one reduction adds up the ranks.
What it returns is whole, and the same on every rank.
"""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numba
import numpy as np
import scipy
from numpy.typing import ArrayLike, DTypeLike, NDArray

import krylovh
from krylovh.distributed.job import world
from krylovh.distributed.ranks import Ranks
from krylovh.distributed.settings import refuse_differences, sample_digest
from krylovh.distributed.shards import rows_of_rank, shard_of
from krylovh.network import Network
from krylovh.objective import Objective, Reduction
from krylovh.sources import RowSource, is_source
from krylovh.threads import available_threads, thread_info

Array = NDArray[Any]
T = TypeVar("T")

__all__ = ["DistributedObjective", "on_first", "spread_over_ranks"]


class DistributedObjective(Objective):
    """A net on data that are spread over ranks, at the net's theta.

    Made by all ranks of the communicator, with the same arguments.  All operators work on it, at one reduction of the
    result per product or block, and what works on operators works on them.  What needs samples one by one, such as the
    full matrix, refuses it.

    Products must be asked for by all ranks in the same order, and by one thread of each.

    Parameters
    ----------
    net : Network
    X, y : array_like or source of rows
        As for :class:`krylovh.Objective`, and by default all N rows, of which each rank uses its own: a shared HDF5
        file or memory map is opened by every rank, and read in parts.
    comm : mpi4py.MPI.Comm
        Any intracommunicator.
    is_split : bool
        Whether X, y and ``sample_weight`` are the rows of this rank already, any number of them; their order over all
        ranks is that of the ranks.
    loss, reduction, l2, sample_weight, loss_options, dtype, memory_limit
        As for :class:`krylovh.Objective`; ``memory_limit`` is for each rank.
    threads : int, optional
        Of each rank; the CPUs of the process, divided by the ranks that share them, if not given.

    Raises
    ------
    ValueError
        If ranks have different nets, data or settings: the message says in what, and which of them.
    Exception
        On all ranks, what was raised on one of them, in words that name it.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> alone = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 1)  # mpi4py.MPI.COMM_WORLD in earnest
    >>> net = Network((1, 1), "identity", [2.0, 0.0])
    >>> objective = DistributedObjective(net, [[1.0], [3.0]], [1.0, 7.0], loss="squared_error", comm=alone)
    >>> objective.value(), objective.gradient()
    (0.5, array([-1.,  0.]))
    """

    _is_shard = True

    def __init__(
        self,
        net: Network,
        X: ArrayLike | RowSource,
        y: ArrayLike | RowSource,
        *,
        loss: str,
        comm: Any,
        is_split: bool = False,
        reduction: Reduction = "mean",
        l2: ArrayLike = 0.0,
        sample_weight: ArrayLike | RowSource | None = None,
        loss_options: Mapping[str, float] | None = None,
        dtype: DTypeLike | None = None,
        memory_limit: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.ranks = comm if isinstance(comm, Ranks) else Ranks(comm)
        self.comm = comm.comm if isinstance(comm, Ranks) else comm
        rank, size = self.ranks.rank, self.ranks.size
        if threads is None:
            place = (platform.node(), _cpus())
            threads = max(1, available_threads() // self.ranks.gather(place).count(place))

        def build() -> dict[str, Any]:
            data: dict[str, Any] = {"X": X, "y": y, "sample_weight": sample_weight}
            given = {} if is_split else dict(data)
            if not is_split:
                num_rows = _num_rows(X)
                for name, values in data.items():
                    if values is not None and _num_rows(values) != num_rows:
                        raise ValueError(f"{name} must have {num_rows} rows as X has, got {_num_rows(values)}")
                rows = rows_of_rank(num_rows, size, rank)
                self.ranks.name = f"rank {rank} (rows {rows.start}:{rows.stop})"
                kind = np.dtype(net.theta.dtype if dtype is None else dtype)
                for name, values in given.items():
                    data[name] = None if values is None else shard_of(name, values, rows, kind)
            super(DistributedObjective, self).__init__(
                net, **data, loss=loss, reduction=reduction, l2=l2, loss_options=loss_options, dtype=dtype,
                memory_limit=memory_limit, threads=threads,
            )  # fmt: skip
            self.ranks.name = f"rank {rank}"
            return {
                "settings": self._settings(given),
                "rows": self.num_own_samples,
                "weight": self._own_weight,
                "digest": self._own_digest(),
            }

        told = self.ranks.together(build)
        refuse_differences([one["settings"] for one in told])
        rows = [one["rows"] for one in told]
        self._num_samples, self._first = int(sum(rows)), int(sum(rows[:rank]))
        if self._num_samples == 0:
            raise ValueError("X is an empty data set on every rank: at least one sample is needed")
        self._total = 1.0 if reduction == "sum" else float(sum(one["weight"] for one in told))
        if self._total == 0.0:
            raise ValueError("sample_weight must not be 0 on every sample")
        self._digest = hashlib.sha256("".join(one["digest"] for one in told).encode()).hexdigest()

    @property
    def num_samples(self) -> int:
        """Number of samples N, on all ranks."""
        return self._num_samples

    @property
    def first_own_sample(self) -> int:
        """Which of all samples is the first of this rank."""
        return self._first

    @property
    def total(self) -> float:
        """What the sum over the samples of all ranks is divided by."""
        return self._total

    @property
    def adds_ridge(self) -> bool:
        """Whether this rank adds the regulariser: rank 0 does."""
        return self.ranks.rank == 0

    @property
    def X(self) -> Any:
        """Refused: the inputs are not in one place."""
        raise TypeError(self._refusal("X"))

    @property
    def y(self) -> Any:
        """Refused: the targets are not in one place."""
        raise TypeError(self._refusal("y"))

    def chunks(self) -> Any:
        """Refused: the samples are not in one place."""
        raise TypeError(self._refusal("a pass over all samples"))

    def _refusal(self, what: str) -> str:
        return (
            f"{what} is needed, but the {self.num_samples} samples of a DistributedObjective are spread over "
            f"{self.ranks.size} ranks; products with its operators are what they can do together"
        )

    def sum_over_ranks(self, array: Array, fill: Callable[[Array], None]) -> None:
        """Let ``fill`` write the sum over the own samples into ``array``, and make that the sum over those of all."""
        self.value()  # a reduction of its own where it is not known yet
        self._sum(array, fill)

    def _sum(self, array: Array, fill: Callable[[Array], None]) -> None:
        self.ranks.sum(array, fill)

    def agree(self, value: T) -> T:
        """Return the value of rank 0."""
        return self.ranks.agree(value)

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks."""
        return self.ranks.gather(value)

    def subset(self, rows: Any) -> "DistributedObjective":
        """Return the objective on some samples of all, by a slice, a mask or positions: each rank keeps its own.

        Samples keep the order of the data; positions must not repeat.
        """
        chosen = np.unique(np.arange(self.num_samples)[rows])
        first = self.first_own_sample
        own = chosen[(chosen >= first) & (chosen < first + self.num_own_samples)] - first
        return self.like(*self._data.subset(own))

    def astype(self, dtype: DTypeLike) -> "DistributedObjective":
        """Return the same objective with products computed in another dtype."""
        X = self._data.X
        if not isinstance(X, np.ndarray):
            raise TypeError(f"dtype of samples in a file must stay {self.dtype} on several ranks, got {dtype}")
        return self.like(X, self.targets.as_given, self.sample_weight, dtype=dtype)

    def like(
        self, X: Any, y: Any, sample_weight: Any = None, *, l2: ArrayLike | None = None, dtype: DTypeLike | None = None
    ) -> "DistributedObjective":
        """Return an objective on other samples of each rank, the same in all else."""
        if l2 is None:
            l2 = self.l2 if self.l2.size > 1 else float(self.l2.sum())
        return DistributedObjective(
            self.net, X, y, loss=self.loss, comm=self.comm, is_split=True, reduction=self.reduction, l2=l2,
            sample_weight=sample_weight,
            loss_options={"delta": self.targets.delta} if self.loss == "huber" else None,
            dtype=self.dtype if dtype is None else dtype, memory_limit=self.memory_limit, threads=self.threads,
        )  # fmt: skip

    def digest(self) -> str:
        """Return a SHA-256 over net, theta, loss, regulariser and the shards of all ranks, as they were at the start.

        Of samples in files it covers shape, dtype and some rows.
        """
        theta = hashlib.sha256(self._theta.tobytes()).hexdigest()
        return hashlib.sha256(f"{self._digest} {theta} {self.loss} {self.reduction}".encode()).hexdigest()

    def facts_of_samples(self) -> dict[str, Any]:
        """Return what is stored with results: the number of samples, a digest of all data, and the number of ranks."""
        return {"num_samples": self.num_samples, "data_digest": self._digest, "ranks": self.ranks.size}

    def _own_digest(self) -> str:
        data = {"X": self._data.X, "y": self.targets.as_given, "sample_weight": self.sample_weight}
        return hashlib.sha256("".join(sample_digest(values) for values in data.values()).encode()).hexdigest()

    def _settings(self, data: Mapping[str, Any]) -> dict[str, str]:
        """Return what must be the same on all ranks, by name."""
        net = self.net
        blas = sorted(f"{lib['prefix']} {lib['version']} {lib['architecture']}" for lib in thread_info()["blas"])
        return {
            "widths": str(net.widths),
            "activations": ", ".join(net.activations),
            "sources": str(net.sources),
            "bias": str(net.bias),
            "theta": sample_digest(net.theta),
            "loss": self.loss,
            "loss_options": f"delta = {self.targets.delta}",
            "reduction": self.reduction,
            "l2": sample_digest(self.l2) if self.l2.size > 1 else str(float(self.l2.sum())),
            "dtype": str(self.dtype),
            "memory_limit": str(self.memory_limit),
            **{name: sample_digest(values) for name, values in data.items()},
            **{f"version of {module.__name__}": module.__version__ for module in (krylovh, np, scipy, numba)},
            "BLAS": ", ".join(blas),
        }

    def __repr__(self) -> str:
        return f"Distributed{super().__repr__()[:-1]}, rank {self.ranks.rank} of {self.ranks.size})"


def spread_over_ranks(*arguments: Any, **options: Any) -> Objective:
    """Return an :class:`krylovh.Objective`; under ``mpiexec``, one with its samples spread over all ranks of the job.

    Examples
    --------
    >>> net = Network((1, 1), "identity", [2.0, 0.0])
    >>> spread_over_ranks(net, [[1.0], [3.0]], [1.0, 7.0], loss="squared_error").value()
    0.5
    """
    comm = world()
    return Objective(*arguments, **options) if comm is None else DistributedObjective(*arguments, comm=comm, **options)


def on_first(objective: Objective, compute: Callable[[], T]) -> T:
    """Call a function, such as one that writes; of the ranks of a distributed objective on rank 0 alone.

    Its result is returned, and what it raises is raised, on all of them.

    Examples
    --------
    >>> net = Network((1, 1), "identity", [2.0, 0.0])
    >>> on_first(Objective(net, [[1.0]], [1.0], loss="squared_error"), lambda: "done")
    'done'
    """
    return objective.ranks.on_first(compute) if isinstance(objective, DistributedObjective) else compute()


def _cpus() -> tuple[int, ...]:
    """Return the CPUs that this process may use, where the system tells."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def _num_rows(values: Any) -> int:
    shape = tuple(values.shape) if is_source(values) else np.shape(values)
    if not shape:
        raise ValueError(f"X, y and sample_weight must have rows, got shape {shape}")
    return int(shape[0])
