"""A net, data, a loss and a regulariser at one theta: value, gradient and the kept linearisation.

    E(theta) = (1/W) sum_n w_n l(z_L(x_n), y_n) + sum_i (l2_i / 2) theta_i^2

with W = sum_n w_n for ``reduction="mean"`` and W = 1 for ``"sum"``.  Sums run over tiles of samples and are divided
once, at the end, so the cut into tiles and lanes changes nothing but rounding.

The linearisation, what every product at this theta shares, is made once and kept if it fits into ``memory_limit``;
otherwise products make it anew for one chunk of samples after the other (8 matrix products instead of 6 per dense
edge), in memory that does not grow with N.
"""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import krylovh.kernels as kernels
from krylovh.checks import finite_array
from krylovh.network import Network
from krylovh.targets import Targets, check_targets
from krylovh.threads import num_lanes, parallel_region

Array = NDArray[Any]
Reduction = Literal["mean", "sum"]

DEFAULT_MEMORY_LIMIT = 4 * 2**30  # bytes
CHUNK_BYTES = 2**24  # what a lane's share of a chunk takes where the linearisation is not kept

__all__ = ["Chunk", "Objective"]


class Chunk:
    """A run of samples with the arrays that kernels keep of them at one theta (see ``kernels.linearization``)."""

    def __init__(self, objective: "Objective", capacity: int) -> None:
        net, dtype = objective.net, objective.dtype
        self.arrays = tuple(np.empty(capacity * net.num_units, dtype) for _ in range(4))  # z, s1, c, g
        self.curvature = np.empty(capacity * net.widths[-1], dtype)
        self.scale = np.empty(capacity, dtype)
        self.start = self.stop = 0

    @property
    def num_rows(self) -> int:
        """Number of samples."""
        return self.stop - self.start

    @property
    def linearization(self) -> tuple[Array, ...]:
        """z, s1, c, g, q, scale, in the order of the kernels."""
        return (*self.arrays, self.curvature, self.scale)


class Objective:
    """A net on data, at the net's theta.

    Parameters
    ----------
    net : Network
    X : array_like, shape (N, d_0)
        Copied, so that later changes of the caller's array change nothing.
    y : array_like
        Labels (N,) of integers in [0, C), or rows (N, C) of probabilities, for ``"softmax_cross_entropy"``; otherwise
        (N, C), or (N,) where the net has one output: in [0, 1] for ``"binary_cross_entropy"``, counts of at least 0
        for ``"poisson"``.
    loss : str
        ``"squared_error"`` 1/2 |z - y|^2, ``"softmax_cross_entropy"`` and ``"binary_cross_entropy"`` on logits
        (several outputs are added), ``"poisson"`` exp(z) - y z on log rates, ``"huber"`` with ``delta``.
    reduction : "mean" or "sum"
    l2 : float or array_like, shape (num_parameters,)
        Adds l2/2 theta^2; a scalar covers every parameter, ``l2 * net.weight_mask()`` spares the biases.
    sample_weight : array_like, shape (N,), optional
        Weights of at least 0, not all of them 0.
    loss_options : dict, optional
        ``{"delta": 1.0}`` for huber.
    dtype : float32 or float64, optional
        What products are computed in; theta's dtype if not given.
    memory_limit : int, optional
        Bytes that the kept linearisation may take; 4 GiB if not given.
    threads : int, optional
        How many lanes of samples run side by side; all CPUs of the process if not given.

    Raises
    ------
    ValueError, TypeError
        For an unknown loss, shapes that do not fit, an empty data set, labels out of range, NaN or infinity.

    Examples
    --------
    >>> net = Network((1, 1), "identity", [2.0, 0.0])
    >>> objective = Objective(net, [[1.0], [3.0]], [1.0, 7.0], loss="squared_error")
    >>> objective.value(), objective.gradient()
    (0.5, array([-1.,  0.]))
    >>> print(objective.formula())
    (1/N) sum_n 1/2 |z_n - y_n|^2, N = 2
    """

    def __init__(
        self,
        net: Network,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str,
        reduction: Reduction = "mean",
        l2: ArrayLike = 0.0,
        sample_weight: ArrayLike | None = None,
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
        self.X = _read_only(_copy_of("X", X, self.dtype))
        if self.X.ndim != 2 or self.X.shape[1] != net.widths[0]:
            raise ValueError(f"X must have shape (N, {net.widths[0]}), got {self.X.shape}")
        self.num_samples = len(self.X)
        if self.num_samples == 0:
            raise ValueError(f"X is an empty data set: at least one sample is needed, got shape {self.X.shape}")
        self.targets: Targets = check_targets(loss, y, self.num_samples, net.widths[-1], self.dtype, loss_options)
        self.loss = loss
        self.sample_weight = None if sample_weight is None else self._checked_weights(sample_weight)
        self._no_weights = _read_only(np.empty(0, self.dtype))  # read-only like all data: one kind of array to compile
        self.l2 = self._checked_l2(l2)
        self.memory_limit = DEFAULT_MEMORY_LIMIT if memory_limit is None else int(memory_limit)
        if self.memory_limit < 0:
            raise ValueError(f"memory_limit must be at least 0 bytes, got {memory_limit}")
        self.threads = threads
        self.lanes = num_lanes(threads, self.num_samples)
        self._theta = _read_only(net.theta.astype(self.dtype))
        self._lock = threading.Lock()
        self._kept: Chunk | None = None
        self._value: float | None = None
        self._gradient: Array | None = None
        self._gradient_is_finite = False

    @property
    def y(self) -> Array:
        """The targets as they are used: labels (N,), or values (N, C)."""
        return self.targets.as_given

    @property
    def num_parameters(self) -> int:
        """Length of theta."""
        return self.net.num_parameters

    @property
    def total(self) -> float:
        """What the sum over samples is divided by."""
        if self.reduction == "sum":
            return 1.0
        return float(self.num_samples if self.sample_weight is None else self.sample_weight.sum(dtype=np.float64))

    @property
    def keeps_linearization(self) -> bool:
        """Whether what products share is kept for all samples, or made anew in every product."""
        return self.num_samples * self._bytes_per_sample <= self.memory_limit

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
        """Return the same objective at other parameters."""
        return self._like(self.net.with_theta(finite_array("theta", theta, self.net.theta.dtype)), slice(None))

    def subset(self, rows: Any) -> "Objective":
        """Return the objective on some samples: a slice, a mask or positions."""
        return self._like(self.net, rows)

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
        text = f"{divisor}sum_n {weight}{self.targets.formula}, N = {self.num_samples}"
        if self.l2.size == 0:
            return text
        if self.l2.size == 1:
            return f"{text} + sum_i ({self.l2[0]:.6g}/2) theta_i^2"
        values = np.unique(self.l2)
        shown = ", ".join(f"{v:.6g} on {np.count_nonzero(self.l2 == v)}" for v in values[:3])
        return f"{text} + sum_i (l2_i/2) theta_i^2, l2 = {shown}{' ...' if len(values) > 3 else ''} parameters"

    def digest(self) -> str:
        """Return a SHA-256 over net, theta, data, loss and regulariser: equal for equal objectives."""
        sha = hashlib.sha256()
        net = self.net
        sha.update(repr((net.widths, net.activations, net.sources, net.bias, self.loss, self.targets.delta)).encode())
        sha.update(repr((self.reduction, self.dtype.str, self.X.shape)).encode())
        for array in (self._theta, self.X, self.y, self.l2, self.sample_weight):
            sha.update(b"none" if array is None else array.dtype.str.encode() + array.tobytes())
        return sha.hexdigest()

    def chunks(self) -> Iterator[Chunk]:
        """Go through all samples with their linearisation: once as a whole if it is kept, else chunk by chunk.

        Raises
        ------
        FloatingPointError
            If the loss or its gradient is not finite at theta.
        """
        if not np.isfinite(self.value()):
            raise FloatingPointError(f"the loss is {self.value()} at theta: it has no derivatives in {self.dtype}")
        if not self._gradient_is_finite:
            raise FloatingPointError(f"the gradient is not finite at theta in {self.dtype}")
        if self._kept is not None:
            yield self._kept
        else:
            values, no_gradient = np.zeros(self.lanes), np.empty((self.lanes, 0), self.dtype)
            yield from self._linearized(values, no_gradient)

    def _linearized(self, values: Array, gradient: Array) -> Iterator[Chunk]:
        """Linearise one chunk after the other, adding up the lanes' losses and gradients."""
        capacity = self.num_samples
        if not self.keeps_linearization:
            capacity = min(capacity, self.lanes * max(self.tile_rows(1), CHUNK_BYTES // self._bytes_per_sample))
        chunk = Chunk(self, capacity)
        targets, weights = self.targets, self.sample_weight
        outputs = self.net.widths[-1]
        for chunk.start in range(0, self.num_samples, capacity):
            chunk.stop = min(self.num_samples, chunk.start + capacity)
            rows = slice(chunk.start, chunk.stop)
            with parallel_region() as parallel:
                kernels.linearize(
                    parallel, self.lanes, self.tile_rows(1), *self.network_arguments, *self.data_of(chunk),
                    targets.labels[rows], targets.values[chunk.start * outputs : chunk.stop * outputs],
                    self._no_weights if weights is None else weights[rows], targets.code, targets.delta,
                    *chunk.linearization, values, gradient,
                )  # fmt: skip
            yield chunk

    @property
    def network_arguments(self) -> tuple[Array, ...]:
        """Tables of layers and edges, and theta, in the order of the kernels."""
        return self.net._layers, self.net._edges, self._theta

    def data_of(self, chunk: Chunk) -> tuple[Array, int]:
        """Return the flat data of a chunk and its number of rows, in the order of the kernels."""
        return self.X[chunk.start : chunk.stop].ravel(), chunk.num_rows

    def tile_rows(self, k: int) -> int:
        """Return how many samples pass through all layers together, for blocks of ``k`` vectors.

        Small nets want their tile in the second-level cache, wide ones long matrix products.
        """
        # Measured over widths of 10 to 1024: a tile of about 128 rows for small nets, of 256 to 512 for wide ones.
        mean_width = self.net.num_units / self.net.depth
        tile = 128 if mean_width < 48 else 256 if mean_width < 512 else 512
        share = -(-self.num_samples // self.lanes)
        return min(tile, share)

    def _evaluate(self) -> None:
        """Run forward and backward pass; fill value, gradient and, where it fits, the linearisation."""
        with self._lock:
            if self._value is not None:
                return
            values = np.zeros(self.lanes)
            shares = np.zeros((self.lanes, self.num_parameters), self.dtype)
            for chunk in self._linearized(values, shares):
                if self.keeps_linearization:
                    self._kept = chunk
            theta = self._theta.astype(np.float64)
            gradient = shares.sum(axis=0, dtype=np.float64) / self.total
            value = float(values.sum()) / self.total
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and operators refuse it
                if self.l2.size:
                    gradient += self.l2 * theta
                    value += 0.5 * float(np.sum(self.l2 * theta * theta))
                self._gradient = gradient.astype(self.dtype)
            self._gradient_is_finite = bool(np.isfinite(self._gradient).all())
            self._value = value

    def _like(self, net: Network, rows: Any) -> "Objective":
        return Objective(
            net,
            self.X[rows],
            self.y[rows],
            loss=self.loss,
            reduction=self.reduction,
            l2=self.l2 if self.l2.size > 1 else float(self.l2.sum()),
            sample_weight=None if self.sample_weight is None else self.sample_weight[rows],
            loss_options={"delta": self.targets.delta} if self.loss == "huber" else None,
            dtype=self.dtype,
            memory_limit=self.memory_limit,
            threads=self.threads,
        )

    def _checked_weights(self, sample_weight: ArrayLike) -> Array:
        weights = _read_only(_copy_of("sample_weight", sample_weight, self.dtype))
        if weights.shape != (self.num_samples,):
            raise ValueError(f"sample_weight must have shape ({self.num_samples},), got {weights.shape}")
        if weights.min() < 0:
            raise ValueError(f"sample_weight must be at least 0, got {weights.min()} at index {weights.argmin()}")
        if weights.max() == 0:
            raise ValueError("sample_weight must not be 0 on every sample")
        return weights

    def _checked_l2(self, l2: ArrayLike) -> NDArray[np.float64]:
        """Return no number, one, or one per parameter; in float64 whatever the dtype of products."""
        values = _copy_of("l2", l2, np.float64)
        if values.size and values.min() < 0:
            raise ValueError(f"l2 must be at least 0, got {values.min()}")
        if values.ndim == 0:
            return _read_only(np.empty(0) if not values.any() else values.reshape(1))
        if values.shape != (self.num_parameters,):
            raise ValueError(f"l2 must be a scalar or have shape ({self.num_parameters},), got {values.shape}")
        return _read_only(values)

    def __repr__(self) -> str:
        return f"Objective({self.net!r}, {self.formula()}, {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.update(_lock=None, _kept=None, _value=None, _gradient=None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        data = (self.X, self._theta, self.targets.labels, self.targets.values, self.l2, self._no_weights)
        for array in (*data, *([] if self.sample_weight is None else [self.sample_weight])):
            _read_only(array)  # copies and pickles of arrays can be written again


def _copy_of(name: str, value: Any, dtype: DTypeLike) -> Array:
    array = finite_array(name, value, dtype)
    return array.copy() if np.shares_memory(array, value) else array


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array
