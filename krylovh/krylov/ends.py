"""Which eigenvalues belong to the set that was asked for.

``which`` is a word of scipy: "LA" the largest, "SA" the smallest, "LM" the largest in magnitude, "BE" from both ends
(one more from the high end if k is odd), "SM" the smallest in magnitude.  For all but the last, a set of k eigenvalues
is right exactly if no other eigenvalue lies outside of an interval that the set itself gives.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Which = Literal["LA", "SA", "LM", "BE", "SM"]
WHICH = get_args(Which)

__all__ = ["WHICH", "Request", "Which", "inner_interval", "outside", "preference"]


@dataclass(frozen=True)
class Request:
    """What is asked for: k pairs, from which end, with residuals up to ``tol |A|``."""

    k: int
    which: str
    tol: float


def preference(values: Array, which: str) -> NDArray[np.intp]:
    """Return the order in which ``values`` are wanted, most wanted first.

    Examples
    --------
    >>> values = np.array([-5.0, 1.0, 2.0, 4.0])
    >>> values[preference(values, "LM")], values[preference(values, "BE")]
    (array([-5.,  4.,  2.,  1.]), array([ 4., -5.,  2.,  1.]))
    """
    ascending = np.argsort(values, kind="stable")
    if which == "SA":
        return ascending
    if which == "LM":
        return np.argsort(-np.abs(values), kind="stable")
    if which == "SM":
        return np.argsort(np.abs(values), kind="stable")
    if which == "BE":
        both = np.empty_like(ascending)
        both[0::2] = ascending[::-1][: both[0::2].size]
        both[1::2] = ascending[: both[1::2].size]
        return both
    return ascending[::-1]


def inner_interval(values: Array, which: str) -> tuple[float, float]:
    """Return the interval outside of which no further eigenvalue may lie if ``values``, ascending, are the right set.

    Examples
    --------
    >>> values = np.array([-3.0, 4.0, 5.0])
    >>> inner_interval(values, "LA"), inner_interval(values, "LM"), inner_interval(values, "BE")
    ((-inf, -3.0), (-3.0, 3.0), (-3.0, 4.0))
    """
    if which == "SA":
        return float(values[-1]), np.inf
    if which == "LM":
        smallest = float(np.abs(values).min())
        return -smallest, smallest
    if which == "BE":
        low = values.size // 2
        return float(values[low - 1]) if low else -np.inf, float(values[low])
    return -np.inf, float(values[0])


def outside(values: Array, found: Array, k: int, which: str, margin: float) -> NDArray[np.intp]:
    """Return which of ``values`` belong to the k wanted of all, ``found`` included.

    Where k are found already, only those count that lie outside of their interval by more than ``margin``.

    Examples
    --------
    >>> outside(np.array([1.0, 4.0, 8.0]), np.array([3.0, 9.0]), 2, "LA", 0.1)
    array([2])
    """
    chosen = preference(np.concatenate([found, values]), which)[:k]
    new = np.sort(chosen[chosen >= found.size]) - found.size
    if found.size < k:
        return new
    low, high = inner_interval(found, which)
    return new[(values[new] < low - margin) | (values[new] > high + margin)]
