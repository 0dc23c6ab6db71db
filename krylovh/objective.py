"""A net, data, a loss and a regulariser at one theta: value, gradient and the kept linearisation.

    E(theta) = (1/W) sum_n w_n l(z_L(x_n), y_n) + sum_i (l2_i / 2) theta_i^2

with W = sum_n w_n for ``reduction="mean"`` and W = 1 for ``"sum"``.  Sums run over tiles of samples and are divided
once, at the end, so the cut into tiles and lanes changes nothing but rounding.

The linearisation, what every product at this theta shares, is made once and kept for as many samples as fit into
``memory_limit``; for the others products make it anew, one chunk of samples after the other (8 matrix products instead
of 6 per dense edge), in memory that does not grow with N.  Samples may lie in memory, in a file or behind any object
that can be sliced by rows; ``plan`` says what all of it takes.
"""

import copy
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import krylovh.kernels as kernels
from krylovh.checks import finite_array, whole_number
from krylovh.data import Data, read_only
from krylovh.memory import BUFFER_BYTES, BufferPool, MemoryPlan, Spread, partition, spread, widest_block
from krylovh.network import Network
from krylovh.regularization import check_l2, formula_of
from krylovh.sources import RowSource
from krylovh.stream import RowStream
from krylovh.targets import Targets
from krylovh.threads import available_threads, num_lanes, parallel_region

Array = NDArray[Any]
Reduction = Literal["mean", "sum"]
T = TypeVar("T")

DEFAULT_MEMORY_LIMIT = 4 * 2**30  # bytes
CHUNK_BYTES = 2**24  # what a lane's share of a chunk takes where the linearisation is not kept

__all__ = ["Chunk", "Objective"]


@dataclass(slots=True)
class Chunk:
    """A run of samples with the arrays that kernels keep of them at one theta (see ``kernels.linearization``)."""

    start: int
    stop: int
    x: Array  # the rows, flat; valid until the next chunk of the pass
    linearization: tuple[Array, ...]  # z, s1, c, g, q, scale, in the order of the kernels

    @property
    def num_rows(self) -> int:
        """Number of samples."""
        return self.stop - self.start


class Objective:
    """A net on data, at the net's theta.

    Parameters
    ----------
    net : Network
    X : array_like or source of rows, shape (N, d_0)
        An array is copied, so that later changes of the caller's array change nothing.  A memory map
        (``numpy.memmap``), an HDF5 dataset, or another object with ``shape``, ``dtype`` and slices of rows stays where
        it is and is read in each pass: it must stay open and must not change.  Its rows are checked when they are read
        for the first time.  A pickle of the objective names the file and opens it again.
    y : array_like or source
        Labels (N,) of integers in [0, C), or rows (N, C) of probabilities, for ``"softmax_cross_entropy"``; otherwise
        (N, C), or (N,) where the net has one output: in [0, 1] for ``"binary_cross_entropy"``, counts of at least 0
        for ``"poisson"``.
    loss : str
        ``"squared_error"``, 1/2 (z - y)'(z - y); ``"softmax_cross_entropy"`` and ``"binary_cross_entropy"`` on logits
        (several outputs are added); ``"poisson"``, exp(z) - y z on log rates, ``"huber"`` with ``delta``.
    reduction : "mean" or "sum"
    l2 : float or array_like, shape (num_parameters,)
        Adds l2/2 theta^2; a scalar covers every parameter, ``l2 * net.weight_mask()`` spares the biases.
    sample_weight : array_like or source, shape (N,), optional
        Weights of at least 0, not all of them 0.  Like y they are read into memory.
    loss_options : dict, optional
        ``{"delta": 1.0}`` for huber.
    dtype : float32 or float64, optional
        What products are computed in; theta's dtype if not given.
    memory_limit : int, optional
        Bytes that may be taken by what is kept of a pass and by the buffers of a pass (which take up to 64 MiB
        whatever the limit); 4 GiB if not given.  Data in memory and the parameters come on top, see :meth:`plan`.
    threads : int, optional
        How many lanes of samples run side by side; all CPUs of the process if not given.  Each lane adds up its own
        gradient: there are no more lanes than fit their gradients into 64 MiB or an eighth of ``memory_limit``.

    Raises
    ------
    ValueError, TypeError
        For an unknown loss, shapes that do not fit, an empty data set, labels out of range, NaN or infinity; the last
        two in rows of a file when they are read, at the first value, gradient or product.

    Examples
    --------
    >>> net = Network((1, 1), "identity", [2.0, 0.0])
    >>> objective = Objective(net, [[1.0], [3.0]], [1.0, 7.0], loss="squared_error")
    >>> objective.value(), objective.gradient()
    (0.5, array([-1.,  0.]))
    >>> print(objective.formula())
    (1/N) sum_n 1/2 |z_n - y_n|^2, N = 2
    """

    _is_shard = False  # whether these are some of the samples, and others lie elsewhere

    def __init__(
        self,
        net: Network,
        X: ArrayLike | RowSource,
        y: ArrayLike | RowSource,
        *,
        loss: str,
        reduction: Reduction = "mean",
        l2: ArrayLike = 0.0,
        sample_weight: ArrayLike | RowSource | None = None,
        loss_options: Mapping[str, float] | None = None,
        dtype: DTypeLike | None = None,
        memory_limit: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.dtype = np.dtype(net.theta.dtype if dtype is None else dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        self.net = net
        self.reduction: Reduction = reduction
        self.loss = loss
        self._data = Data(
            X, y, net.widths, loss=loss, loss_options=loss_options, sample_weight=sample_weight, dtype=self.dtype,
            is_shard=self._is_shard,
        )  # fmt: skip
        self.l2 = check_l2(l2, net.num_parameters)
        self.memory_limit = DEFAULT_MEMORY_LIMIT if memory_limit is None else int(memory_limit)
        if self.memory_limit < 0:
            raise ValueError(f"memory_limit must be at least 0 bytes, got {memory_limit}")
        self.threads = threads
        accumulators = max(BUFFER_BYTES, self.memory_limit // 8) // (self.num_parameters * self.dtype.itemsize)
        self.lanes = min(num_lanes(threads, self.num_own_samples, self.num_parameters), max(1, accumulators))
        row_bytes, unconverted_bytes = self._data.read_bytes
        self._partition = partition(
            self.num_own_samples,
            self.lanes,
            self.lanes * max(self._best_tile, CHUNK_BYTES // self._bytes_per_sample),
            self.memory_limit,
            kept_bytes=self._bytes_per_sample,
            row_bytes=row_bytes,
            unconverted_bytes=unconverted_bytes,
            stored_rows=self._data.stored_rows,
        )
        self._pool = BufferPool()
        self._theta = read_only(net.theta.astype(self.dtype))
        self._forget()

    def _forget(self) -> None:
        """Start without anything that belongs to one theta."""
        self._lock = threading.Lock()
        self._kept: list[tuple[Array, ...]] = []  # linearisation of the first chunks
        self._whole: Chunk | None = None  # all samples, if they lie in memory and all is kept in one chunk
        self._value: float | None = None
        self._gradient: Array | None = None
        self._gradient_is_finite = False

    @classmethod
    def from_sklearn(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        l2: ArrayLike | None = None,
        dtype: DTypeLike | None = None,
        memory_limit: int | None = None,
        threads: int | None = None,
    ) -> "Objective":
        """Return what a fitted multilayer perceptron of scikit-learn minimised: its loss and its ridge, on its samples.

        Parameters
        ----------
        estimator : MLPClassifier, MLPRegressor, NewtonMLPClassifier, NewtonMLPRegressor or Pipeline
            A pipeline ends in one of them; its other steps are applied to ``X``.
        X, y : array_like
            The samples that it was fitted to, labels as they were given.  With ``early_stopping`` those that were not
            held out.
        sample_weight : array_like, shape (N,), optional
            As in ``fit``.
        l2 : float or array_like, optional
            As in :class:`Objective`, instead of the ridge that the solver used: ``alpha / N`` on the weights for
            "lbfgs" and the estimators of this library, and the mean of ``alpha / batch`` over the batches of an epoch
            for "adam" and "sgd", which is what they minimise on average.
        dtype, memory_limit, threads
            As in :class:`Objective`.

        Raises
        ------
        TypeError, ValueError
            Another estimator, one that is not fitted, labels that it does not know, or samples that do not fit.
        ImportCheckError
            The net's predictions differ from the estimator's.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neural_network import MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> fitted = MLPClassifier((5,), "tanh", solver="lbfgs", alpha=1.5, max_iter=500, random_state=0).fit(X, y)
        >>> objective = Objective.from_sklearn(fitted, X, y)
        >>> print(objective.formula())
        (1/N) sum_n -log softmax(z_n)[y_n], N = 150 + sum_i (l2_i/2) theta_i^2, l2 = 0 on 8, 0.01 on 35 parameters
        >>> bool(abs(objective.value() - fitted.loss_) < 1e-9)
        True
        """
        from krylovh.interop.sklearn_models import objective_of_estimator

        return objective_of_estimator(
            estimator, X, y, sample_weight=sample_weight, l2=l2, dtype=dtype, memory_limit=memory_limit, threads=threads
        )

    @property
    def X(self) -> Array | RowStream:
        """Inputs (N, d_0): an array, or rows of a file that are read by slices."""
        return self._data.X

    @property
    def y(self) -> Array:
        """The targets as they are used: labels (N,), or values (N, C)."""
        return self.targets.as_given

    @property
    def targets(self) -> Targets:
        """Loss and targets in the form of the kernels."""
        return self._data.targets

    @property
    def sample_weight(self) -> Array | None:
        """Weights (N,), if there are any."""
        return self._data.sample_weight

    @property
    def num_samples(self) -> int:
        """Number of samples N."""
        return self.num_own_samples

    @property
    def num_own_samples(self) -> int:
        """Number of samples of this process: all of them, unless they are spread over several."""
        return len(self._data.X)

    @property
    def first_own_sample(self) -> int:
        """Which of all samples is the first of this process."""
        return 0

    @property
    def own_samples(self) -> "tuple[Array | RowStream, Array, Array | None]":
        """Inputs, targets and weights of the samples of this process."""
        return self._data.X, self.targets.as_given, self.sample_weight

    @property
    def adds_ridge(self) -> bool:
        """Whether this process adds the regulariser to a sum over samples: one of all has to."""
        return True

    @property
    def num_parameters(self) -> int:
        """Length of theta."""
        return self.net.num_parameters

    @property
    def total(self) -> float:
        """What the sum over samples is divided by."""
        if self.reduction == "sum":
            return 1.0
        return self._own_weight

    @property
    def _own_weight(self) -> float:
        """Sum of the weights of this process's samples."""
        return float(self.num_own_samples if self.sample_weight is None else self.sample_weight.sum(dtype=np.float64))

    @property
    def keeps_linearization(self) -> bool:
        """Whether what products share is kept for all samples, or made anew in every product for some or all."""
        return self._partition.num_kept == self._partition.num_chunks

    @property
    def _bytes_per_sample(self) -> int:
        return (4 * self.net.num_units + self.net.widths[-1] + 1) * self.dtype.itemsize

    def value(self) -> float:
        """Return E(theta); infinite where the loss overflows."""
        if self._value is None:
            self._evaluate()
        assert self._value is not None
        return self._value

    def gradient(self) -> Array:
        """Return dE/dtheta, shape (num_parameters,)."""
        if self._gradient is None:
            self._evaluate()
        assert self._gradient is not None
        return self._gradient.copy()

    def at(self, theta: ArrayLike) -> "Objective":
        """Return the same objective at other parameters; it shares all data with this one."""
        other = copy.copy(self)
        other.net = self.net.with_theta(finite_array("theta", theta, self.net.theta.dtype))
        other._theta = read_only(other.net.theta.astype(self.dtype))
        return other

    def subset(self, rows: Any) -> "Objective":
        """Return the objective on some samples: a slice, a mask or positions.

        Rows are copied; of samples that are read from a file those of a slice without steps stay there, others are
        read into memory.
        """
        return self.like(*self._data.subset(rows))

    def astype(self, dtype: DTypeLike) -> "Objective":
        """Return the same objective with products computed in another dtype: a copy of the data in that dtype.

        Samples of a file stay there, and are converted to that dtype as they are read.

        Examples
        --------
        >>> net = Network((1, 1), "identity")
        >>> objective = Objective(net, [[1.0]], [1.0], loss="squared_error").astype(np.float32)
        >>> objective.gradient()
        array([-1., -1.], dtype=float32)
        """
        X: Any = self.X
        if isinstance(X, RowStream):
            if len(X) != X.source.shape[0]:
                raise ValueError(f"dtype of a subset of the rows of a file must stay {self.dtype}, got {dtype}")
            X = X.source
        return self.like(X, self.y, self.sample_weight, dtype=dtype)

    def like(
        self, X: Any, y: Any, sample_weight: Any = None, *, l2: ArrayLike | None = None, dtype: DTypeLike | None = None
    ) -> "Objective":
        """Return an objective on other samples, with another regulariser or in another dtype, the same in all else.

        Examples
        --------
        >>> net = Network((1, 1), "identity", [1.0, 0.0])
        >>> objective = Objective(net, [[1.0]], [1.0], loss="huber", loss_options={"delta": 2.0})
        >>> objective.like([[1.0]], [5.0], l2=1.0).value()  # 2 (4 - 2 / 2) and 1 / 2
        6.5
        """
        if l2 is None:
            l2 = self.l2 if self.l2.size > 1 else float(self.l2.sum())
        return Objective(
            self.net,
            X,
            y,
            loss=self.loss,
            reduction=self.reduction,
            l2=l2,
            sample_weight=sample_weight,
            loss_options={"delta": self.targets.delta} if self.loss == "huber" else None,
            dtype=self.dtype if dtype is None else dtype,
            memory_limit=self.memory_limit,
            threads=self.threads,
        )

    def plan(self, block_size: int = 1) -> MemoryPlan:
        """Return what memory value, gradient and products with ``block_size`` vectors take; nothing is allocated.

        Examples
        --------
        >>> net = Network((784, 256, 128, 10), "tanh")
        >>> X, y = np.zeros((1000, 784)), np.zeros(1000, int)
        >>> plan = Objective(net, X, y, loss="softmax_cross_entropy", threads=2, memory_limit=10**7).plan()
        >>> plan.partition.num_kept, plan.partition.num_chunks, plan.limited, plan.data
        (0, 1, 12696000, 6280000)
        """
        k = min(whole_number("block_size", block_size, 1), self.block_size)
        cut, size, P, twin = self._partition, self.dtype.itemsize, self.num_parameters, self.net._twin_size
        row_bytes, unconverted_bytes = self._data.read_bytes
        turns = min(2, cut.num_chunks - cut.num_read_once)
        lanes, tile, _ = self.spread(k)
        accumulators = lanes * P if k == 1 else (lanes + 1) * k * (P + twin)
        scratch = 3 * lanes * tile * k * self.net.num_units
        return MemoryPlan(
            partition=cut,
            block_size=block_size,
            data=self._data.num_bytes,
            parameters=2 * P * size,
            kept=cut.rows_of(cut.num_kept) * self._bytes_per_sample,
            kept_rows=cut.rows_of(cut.num_read_once) * row_bytes,
            chunk=0 if self.keeps_linearization else cut.rows * self._bytes_per_sample,
            read_ahead=cut.rows * (turns * row_bytes + unconverted_bytes),
            gradient=self.lanes * P * size + 4 * P * 8,  # and vectors of float64 on the way to the result
            product=(accumulators + scratch + 2 * block_size * P) * size,  # the vectors and their products included
            limit=self.memory_limit,
        )

    def formula(self) -> str:
        """Return the resolved objective as text.

        Examples
        --------
        >>> net = Network((4, 3), "tanh")
        >>> print(Objective(net, np.eye(4), [0, 1, 2, 0], loss="softmax_cross_entropy", l2=0.1).formula())
        (1/N) sum_n -log softmax(z_n)[y_n], N = 4 + sum_i (0.1/2) theta_i^2
        """
        weight = "" if self.sample_weight is None else "w_n "
        divisor = {"sum": "", "mean": "(1/N) " if self.sample_weight is None else "(1/sum_n w_n) "}[self.reduction]
        return f"{divisor}sum_n {weight}{self.targets.formula}, N = {self.num_samples}{formula_of(self.l2)}"

    def digest(self) -> str:
        """Return a SHA-256 over net, theta, data, loss and regulariser: equal for equal objectives."""
        sha = hashlib.sha256()
        net = self.net
        sha.update(repr((net.widths, net.activations, net.sources, net.bias, self.loss, self.targets.delta)).encode())
        sha.update(repr((self.reduction, self.dtype.str, self._data.X.shape)).encode())
        sha.update(self.dtype.str.encode() + self._theta.data + self.dtype.str.encode())
        for rows in self._data.blocks(self._partition):
            sha.update(rows.data)
        for array in (self.targets.as_given, self.l2, self.sample_weight):
            sha.update(b"none" if array is None else array.dtype.str.encode() + array.tobytes())
        return sha.hexdigest()

    def chunks(self) -> Iterator[Chunk]:
        """Go through all samples with their linearisation, chunk by chunk: in one chunk if all of it is kept.

        What sums over samples goes through :meth:`own_chunks` instead, within :meth:`sum_over_ranks`.
        """
        yield from self.own_chunks()

    def own_chunks(self) -> Iterator[Chunk]:
        """Go through the samples of this process with their linearisation, chunk by chunk.

        Chunks of samples in memory have at most 131,072 rows, so that float32 sums over more of them stay accurate.

        Raises
        ------
        FloatingPointError
            If the loss or its gradient is not finite at theta.
        """
        if not np.isfinite(self.value()):
            raise FloatingPointError(f"the loss is {self.value()} at theta: it has no derivatives in {self.dtype}")
        if not self._gradient_is_finite:
            raise FloatingPointError(f"the gradient is not finite at theta in {self.dtype}")
        if self._whole is not None:
            yield self._whole
        else:
            yield from self._pass(self._kept, np.zeros(self.lanes), np.empty((self.lanes, 0), self.dtype))

    def sum_over_ranks(self, array: Array, fill: Callable[[Array], None]) -> None:
        """Let ``fill`` write its sum over the own samples into ``array``, and make that the sum over all samples.

        One process has all of them.  Where samples are spread over several, each must call this, and all get the sum.
        """
        self._sum(array, fill)

    def _sum(self, array: Array, fill: Callable[[Array], None]) -> None:
        fill(array)

    def agree(self, value: T) -> T:
        """Return the value of the first process of those that samples are spread over; the value itself of one alone.

        Seeds and decisions that depend on time go through this.
        """
        return value

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes that samples are spread over, in their order; of one alone, its own."""
        return [value]

    def _pass(self, kept: list[tuple[Array, ...]], values: Array, gradient: Array) -> Iterator[Chunk]:
        """Go through all chunks; linearise those that are not in ``kept``, adding up the lanes' losses and gradients.

        The first of them are put into ``kept``; the others share one buffer, one after the other.
        """
        cut, buffer = self._partition, None
        for i, ((start, stop), x) in enumerate(zip(cut.spans, self._data.blocks(cut), strict=True)):
            if i < len(kept):
                yield Chunk(start, stop, x, kept[i])
                continue
            if i < cut.num_kept:
                kept.append(linearization := self._allocated(stop - start))
            else:
                buffer = buffer or self._pool.take(lambda: self._allocated(cut.rows))
                linearization = buffer
            with parallel_region(self.lanes) as parallel:
                kernels.linearize(
                    parallel, self.lanes, self.tile_rows(1), *self.network_arguments, x, stop - start,
                    *self._data.targets_of(start, stop), *linearization, values, gradient,
                )  # fmt: skip
            yield Chunk(start, stop, x, linearization)
        if buffer:
            self._pool.give_back(buffer)

    def _allocated(self, rows: int) -> tuple[Array, ...]:
        """Return room for the linearisation of a number of samples."""
        sizes = [self.net.num_units] * 4 + [self.net.widths[-1], 1]  # z, s1, c, g, q, scale
        return tuple(np.empty(rows * size, self.dtype) for size in sizes)

    @property
    def network_arguments(self) -> tuple[Array, ...]:
        """Tables of layers and edges, and theta, in the order of the kernels."""
        return self.net._layers, self.net._edges, self._theta

    def data_of(self, chunk: Chunk) -> tuple[Array, int]:
        """Return the flat data of a chunk and its number of rows, in the order of the kernels."""
        return chunk.x, chunk.num_rows

    def tile_rows(self, k: int) -> int:
        """Return how many samples pass through all layers together, for blocks of ``k`` vectors.

        Small nets want their tile in the second-level cache, wide ones long matrix products.
        """
        tile = self._best_tile
        if k == 1 and tile < 256:
            tile = 1536 // self.dtype.itemsize  # a single vector takes little room: fewer and longer matrix products
        return min(tile, -(-self._partition.rows // self.lanes))

    @property
    def _best_tile(self) -> int:
        # Measured over widths of 10 to 1024: a tile of about 128 rows for small nets, of 256 to 512 for wide ones.
        mean_width = self.net.num_units / self.net.depth
        return 128 if mean_width < 48 else 256 if mean_width < 512 else 512

    @property
    def block_size(self) -> int:
        """How many vectors of a block go through the net together: as many as ``memory_limit`` allows, up to 16."""
        return widest_block(self.lanes, self._accumulated_bytes(2), self.memory_limit)

    def spread(self, k: int) -> Spread:
        """Return how the samples of a product with ``k`` vectors are spread over threads."""
        threads = available_threads() if self.threads is None else self.threads
        tile, vector_bytes = self.tile_rows(k), self._accumulated_bytes(k)
        return spread(k, self.lanes, threads, self._partition.rows, tile, vector_bytes, self.memory_limit)

    def _accumulated_bytes(self, k: int) -> int:
        """Return what a lane of a product with ``k`` vectors adds up for each of them."""
        return (self.num_parameters + (self.net._twin_size if k > 1 else 0)) * self.dtype.itemsize

    def _evaluate(self) -> None:
        """Run forward and backward pass; fill value, gradient and, where it fits, the linearisation."""
        with self._lock:
            if self._value is not None:
                return
            kept: list[tuple[Array, ...]] = []
            sums = np.zeros(self.num_parameters + 1)
            self._sum(sums, partial(self._add_up, kept))
            sums /= self.total
            gradient, value = sums[:-1], float(sums[-1])
            theta = self._theta.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and operators refuse it
                if self.l2.size:
                    gradient += self.l2 * theta
                    value += 0.5 * float(np.sum(self.l2 * theta * theta))
                self._gradient = gradient.astype(self.dtype)
            self._gradient_is_finite = bool(np.isfinite(self._gradient).all())
            self._kept = kept
            X = self._data.X
            if isinstance(X, np.ndarray) and self.keeps_linearization and len(kept) == 1:
                self._whole = Chunk(0, self.num_own_samples, X.ravel(), kept[0])
            self._value = value

    def _add_up(self, kept: list[tuple[Array, ...]], sums: Array) -> None:
        """Write the sums of gradients and losses of the own samples, shape (P + 1,); keep what is to be kept."""
        values = np.zeros(self.lanes)
        shares = np.zeros((self.lanes, self.num_parameters), self.dtype)
        for _ in self._pass(kept, values, shares):
            sums[:-1] += shares.sum(axis=0, dtype=np.float64)  # chunk by chunk, whatever the dtype of products
            shares[:] = 0
        sums[-1] = values.sum()

    def __repr__(self) -> str:
        return f"Objective({self.net!r}, {self.formula()}, {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        own = ("_lock", "_kept", "_whole", "_value", "_gradient", "_gradient_is_finite")  # of one theta
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()
        for array in (self._theta, self.l2):
            read_only(array)  # copies and pickles of arrays can be written again
