"""How far an eigenvalue is from all others, at least: what turns a residual into a quadratic and an angular bound.

Approximations ``X`` with ``R = A X - X Theta`` belong to eigenvalues one by one within ``|R|`` (Kahan), and so do the
other eigenvalues of A to those of the operator on the complement of X.

References
----------
Parlett, The Symmetric Eigenvalue Problem, 11.5 to 11.7.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["gaps_to_interval", "gaps_to_values"]


def gaps_to_interval(values: Array, residual_norms: Array, low: float, high: float) -> Array:
    """Return lower bounds of gaps where all other eigenvalues are known to lie in [low, high]; 0 if nothing is known.

    Examples
    --------
    >>> gaps_to_interval(np.array([4.0, 7.0]), np.zeros(2), -np.inf, 2.5)
    array([1.5, 3. ])
    """
    beyond = np.maximum(np.maximum(values - high, low - values), 0.0)
    return _reduced(np.minimum(_mutual(values), beyond), residual_norms)


def gaps_to_values(values: Array, residual_norms: Array, others: Array, error: float) -> Array:
    """Return lower bounds of gaps where all other eigenvalues are known up to ``error``.

    Examples
    --------
    >>> gaps_to_values(np.array([4.0, 7.0]), np.zeros(2), np.array([1.0, 9.0]), 0.0)
    array([3., 2.])
    """
    nearest = np.abs(np.subtract.outer(values, others)).min(axis=1, initial=np.inf)
    return _reduced(np.minimum(_mutual(values), nearest) - error, residual_norms)


def _mutual(values: Array) -> Array:
    """Return the distance of each value to the nearest other one."""
    distances = np.abs(np.subtract.outer(values, values))
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances.min(axis=1, initial=np.inf))


def _reduced(gaps: Array, residual_norms: Array) -> Array:
    """Return gaps of approximations as gaps of eigenvalues."""
    error = float(np.linalg.norm(residual_norms))
    if not np.isfinite(error):
        return np.zeros(gaps.size)
    return np.maximum(gaps - error, 0.0)
