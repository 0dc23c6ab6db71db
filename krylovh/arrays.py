"""Checks of what callers pass in; each error names the argument, what was found and what is needed."""

import operator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["finite_array", "positive_int"]


def positive_int(name: str, value: Any) -> int:
    """Return ``value`` as an int of at least 1.

    Examples
    --------
    >>> positive_int("threads", 2)
    2
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if isinstance(value, (bool, np.bool_)) or number < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
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
