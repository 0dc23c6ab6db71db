"""Every importer compares what it made with the source."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

__all__ = ["ImportCheckError", "require_equal"]


class ImportCheckError(ValueError):
    """An imported net does not compute what its source computes.

    Examples
    --------
    >>> issubclass(ImportCheckError, ValueError)
    True
    """


def require_equal(what: str, ours: Array, theirs: Array, dtype: DTypeLike, source: str) -> None:
    """Refuse an import whose numbers differ from those of the source by more than rounding in ``dtype``.

    The bound is 1e-12 relative to the largest number for float64; for float32 1e-4, as rounding errors of 2^-24 are
    added up over the units of several layers.

    Raises
    ------
    ImportCheckError
        With the largest difference.

    Examples
    --------
    >>> require_equal("outputs", np.ones(2), np.ones(2) + 1e-9, np.float64, "example")
    Traceback (most recent call last):
        ...
    krylovh.interop.self_check.ImportCheckError: example: outputs of the imported net differ by 1e-09 from the source's
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise ImportCheckError(f"{source}: {what} have shape {ours.shape}, the source's {theirs.shape}")
    if ours.size == 0:
        return
    bound = 1e-12 if np.dtype(dtype) == np.float64 else 1e-4
    difference = float(np.abs(ours - theirs).max())
    if not difference <= bound * max(1.0, float(np.abs(theirs).max())):
        raise ImportCheckError(f"{source}: {what} of the imported net differ by {difference:.3g} from the source's")
