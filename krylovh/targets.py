"""Losses by name, and what each of them asks of its targets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import krylovh.kernels as kernels
from krylovh.checks import finite_array
from krylovh.sources import RowSource, in_memory

__all__ = ["Targets", "check_targets"]

_FORMULAS = {
    "squared_error": "1/2 |z_n - y_n|^2",
    "softmax_cross_entropy": "-log softmax(z_n)[y_n]",
    "binary_cross_entropy": "sum_c (log(1 + exp(z_nc)) - y_nc z_nc)",
    "poisson": "sum_c (exp(z_nc) - y_nc z_nc)",
    "huber": "sum_c huber(z_nc - y_nc; delta = {delta:g})",
}


@dataclass(frozen=True)
class Targets:
    """Targets in the form of the kernels; exactly one of ``labels`` and ``values`` is not empty."""

    code: int  # position in kernels.LOSSES
    delta: float
    labels: NDArray[np.int64]  # (N,) or empty
    values: NDArray[Any]  # (N*C,) or empty
    num_outputs: int
    formula: str

    @property
    def as_given(self) -> NDArray[Any]:
        """Labels (N,), or values (N, C)."""
        return self.labels if self.labels.size else self.values.reshape(-1, self.num_outputs)


def check_targets(
    loss: str,
    y: ArrayLike | RowSource,
    num_samples: int,
    num_outputs: int,
    dtype: DTypeLike,
    options: Mapping[str, float] | None,
) -> Targets:
    """Return copies of the targets, checked against the loss; ValueError with argument, value and bound otherwise."""
    if loss not in kernels.LOSSES:
        raise ValueError(f"unknown loss {loss!r}; known are {', '.join(kernels.LOSSES)}")
    delta = _delta(loss, options)
    given: Any = in_memory("y", y)
    labels, values = np.empty(0, np.int64), np.empty(0, dtype)
    formula = _FORMULAS[loss].format(delta=delta)
    if loss == "softmax_cross_entropy" and np.ndim(given) == 1:
        labels = _labels(given, num_samples, num_outputs)
    else:
        values = _values(loss, given, num_samples, num_outputs, dtype)
        if loss == "softmax_cross_entropy":
            formula = "-sum_c y_nc log softmax(z_n)[c]"
    for array in (labels, values):
        array.flags.writeable = False
    return Targets(kernels.LOSSES.index(loss), delta, labels, values, num_outputs, formula)


def _delta(loss: str, options: Mapping[str, float] | None) -> float:
    given = dict(options or {})
    delta = float(given.pop("delta", 1.0)) if loss == "huber" else 1.0
    if given:
        raise ValueError(f"loss_options {sorted(given)} do not belong to loss {loss!r}")
    if not (delta > 0 and math.isfinite(delta)):
        raise ValueError(f"delta must be positive and finite, got {delta}")
    return delta


def _labels(y: ArrayLike, num_samples: int, num_outputs: int) -> NDArray[np.int64]:
    if isinstance(y, np.ma.MaskedArray):
        raise TypeError("y must not be a masked array")
    given = np.asarray(y)
    if given.dtype.kind not in "iub" and (given.dtype.kind != "f" or not np.array_equal(given, np.floor(given))):
        raise TypeError(f"y must hold integer labels (N,) or rows of probabilities (N, C), got dtype {given.dtype}")
    if given.shape != (num_samples,):
        raise ValueError(f"y must have shape ({num_samples},) as X has {num_samples} rows, got {given.shape}")
    outside = np.flatnonzero((given < 0) | (given >= num_outputs))
    if outside.size:
        first = outside[0]
        raise ValueError(f"labels in y must be in [0, {num_outputs}), got {given[first]} at index {first}")
    return np.array(given, np.int64)


def _values(loss: str, y: ArrayLike, num_samples: int, num_outputs: int, dtype: DTypeLike) -> NDArray[Any]:
    values = finite_array("y", y, dtype).copy()
    if values.shape == (num_samples,) and num_outputs == 1:
        values = values.reshape(num_samples, 1)
    if values.shape != (num_samples, num_outputs):
        raise ValueError(f"y must have shape ({num_samples}, {num_outputs}) for loss {loss!r}, got {values.shape}")
    low, high = {
        "softmax_cross_entropy": (0.0, 1.0),
        "binary_cross_entropy": (0.0, 1.0),
        "poisson": (0.0, np.inf),
    }.get(loss, (-np.inf, np.inf))
    outside = np.argwhere((values < low) | (values > high))
    if len(outside):
        first = tuple(int(i) for i in outside[0])
        raise ValueError(f"y must be in [{low:g}, {high:g}] for loss {loss!r}, got {values[first]} at index {first}")
    if loss == "softmax_cross_entropy":
        wrong = np.flatnonzero(np.abs(values.sum(axis=1, dtype=np.float64) - 1.0) > 1e-5)
        if wrong.size:
            total = values[wrong[0]].sum()
            raise ValueError(f"rows of probabilities in y must add up to 1, got {total} in row {wrong[0]}")
    return np.ascontiguousarray(values.ravel())
