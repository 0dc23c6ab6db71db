"""Checks of what callers pass in; each error names the argument, what was found and what is needed."""

import operator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["finite_array", "whole_number"]


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int within ``[low, high]``; refuse anything else in words that name it.

    Examples
    --------
    >>> whole_number("num_steps", 0, 1, 20)
    Traceback (most recent call last):
    ValueError: num_steps must be in [1, 20], got 0
    """
    bound = f"at least {low}" if high is None else f"in [{low}, {high}]"
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, {bound}, got {value!r}")
    number = operator.index(value)
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} must be {bound}, got {number}")
    return number


def finite_array(name: str, value: Any, dtype: DTypeLike) -> NDArray[Any]:
    """Return ``value`` as a C-contiguous array of ``dtype``; refuse what is masked, not real, NaN or infinite.

    Examples
    --------
    >>> finite_array("X", [[1, 2]], np.float64)
    array([[1., 2.]])
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be a real array, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused by its index
        array = np.asarray(array, dtype=dtype, order="C")
    if not np.isfinite(array).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        where = first[0] if len(first) == 1 else first
        raise ValueError(f"{name} must be finite in {array.dtype}, found {array[first]} at index {where}")
    return array
