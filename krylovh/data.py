"""Data: samples with targets and weights, checked once and shared by all objectives on them.

Inputs in memory are copied, inputs in a file stay there; targets and weights, a few numbers per sample, are always in
memory.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from krylovh.checks import finite_array
from krylovh.memory import Partition
from krylovh.sources import RowSource, in_memory, is_source
from krylovh.stream import RowStream
from krylovh.targets import Targets, check_targets

Array = NDArray[Any]

__all__ = ["Data", "copy_of", "read_only"]


class Data:
    """Samples in the form of the kernels; see :class:`krylovh.objective.Objective` for what the arguments are.

    Examples
    --------
    >>> data = Data([[1.0, 2.0]], [0.5], (2, 1), loss="squared_error", dtype=np.float32)
    >>> data.X.shape, data.targets.values, data.num_bytes
    ((1, 2), array([0.5], dtype=float32), 12)
    """

    def __init__(
        self,
        X: ArrayLike | RowSource | RowStream,
        y: ArrayLike | RowSource,
        widths: tuple[int, ...],
        *,
        loss: str,
        loss_options: Mapping[str, float] | None = None,
        sample_weight: ArrayLike | RowSource | None = None,
        dtype: DTypeLike,
        is_shard: bool = False,
    ) -> None:
        self._is_shard = is_shard  # others may hold the samples, and the weight, that are missing here
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.X = self._checked_inputs(X, widths[0])
        self.targets: Targets = check_targets(loss, y, len(self.X), widths[-1], self.dtype, loss_options)
        self.sample_weight = None if sample_weight is None else self._checked_weights(sample_weight)
        self._no_weights = read_only(np.empty(0, self.dtype))  # read-only like all data: one kind of array to compile

    @property
    def num_bytes(self) -> int:
        """What the data take in memory."""
        arrays = (self.targets.labels, self.targets.values, self.sample_weight, self.X)
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    @property
    def read_bytes(self) -> tuple[int, int]:
        """Bytes of a row that is read from a file, converted and as it is stored; 0 of inputs in memory."""
        if isinstance(self.X, RowStream):
            return self.X.shape[1] * self.dtype.itemsize, self.X.unconverted_row_bytes
        return 0, 0

    @property
    def stored_rows(self) -> int:
        """Rows that a file stores in one piece."""
        return self.X.rows_stored_together if isinstance(self.X, RowStream) else 1

    def blocks(self, cut: Partition) -> Iterator[Array]:
        """Yield the inputs of each chunk, flat and read-only, valid until the next are asked for."""
        if isinstance(self.X, RowStream):
            yield from self.X.blocks(cut.spans, cut.num_read_once)
        else:
            yield from (self.X[start:stop].ravel() for start, stop in cut.spans)

    def targets_of(self, start: int, stop: int) -> tuple[Any, ...]:
        """Return labels, values, weights, loss and delta of some samples, in the order of the kernels."""
        targets, weights = self.targets, self.sample_weight
        return (
            targets.labels[start:stop],
            targets.values[start * targets.num_outputs : stop * targets.num_outputs],
            self._no_weights if weights is None else weights[start:stop],
            targets.code,
            targets.delta,
        )

    def subset(self, rows: Any) -> tuple[Any, Array, Array | None]:
        """Return X, y and weights of some samples; a slice without steps leaves inputs of a file where they are."""
        X = self.X.subset(rows) if isinstance(self.X, RowStream) else self.X[rows]
        return X, self.targets.as_given[rows], None if self.sample_weight is None else self.sample_weight[rows]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for array in (self.X, self.targets.labels, self.targets.values, self.sample_weight, self._no_weights):
            if isinstance(array, np.ndarray):
                read_only(array)  # copies and pickles of arrays can be written again

    def _checked_inputs(self, X: Any, width: int) -> Array | RowStream:
        if isinstance(X, RowStream):
            rows: Array | RowStream = X
        else:
            rows = RowStream("X", X, self.dtype) if is_source(X) else read_only(copy_of("X", X, self.dtype))
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"X must have shape (N, {width}), got {rows.shape}")
        if len(rows) == 0 and not self._is_shard:
            raise ValueError(f"X is an empty data set: at least one sample is needed, got shape {rows.shape}")
        return rows

    def _checked_weights(self, sample_weight: Any) -> Array:
        weights = read_only(copy_of("sample_weight", in_memory("sample_weight", sample_weight), self.dtype))
        if weights.shape != (len(self.X),):
            raise ValueError(f"sample_weight must have shape ({len(self.X)},), got {weights.shape}")
        if weights.min(initial=0) < 0:
            raise ValueError(f"sample_weight must be at least 0, got {weights.min()} at index {weights.argmin()}")
        if weights.max(initial=0) == 0 and not self._is_shard:
            raise ValueError("sample_weight must not be 0 on every sample")
        return weights


def copy_of(name: str, value: Any, dtype: DTypeLike) -> Array:
    """Return a checked copy of an array."""
    array = finite_array(name, value, dtype)
    return array.copy() if np.shares_memory(array, value) else array


def read_only(array: Array) -> Array:
    """Return the array itself, which can no longer be written."""
    array.flags.writeable = False
    return array
