"""A look into the complement of a whole basis, for eigenvalues that belong to the set and were overlooked.

That complement has fewer eigenvalues near the set than the complement of the set, so that a few steps from a random
vector are enough where the set is well separated.  It is given up as soon as this looks unlikely.
"""

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.exclusion import CONFIDENT, excluded_interval, log_probability_overlooked, schur_correction
from krylovh.krylov.factorization import LanczosFactorization, RitzPairs

Array = NDArray[np.float64]

__all__ = ["Complement", "log_or_minus_infinity"]


class Complement:
    """What a process in the complement of a basis says about eigenvalues outside of an interval.

    Parameters
    ----------
    ritz : RitzPairs
        Of the basis.
    catch : ndarray of int
        Which of them are the set.
    low, high : float
        The interval that all other eigenvalues are in if none was overlooked.
    dimension : int
        Of the complement.

    Examples
    --------
    >>> ritz = RitzPairs(np.array([0.0, 1.0, 5.0]), np.eye(3), np.array([0.1, 0.1, 0.0]))
    >>> Complement(ritz, np.array([2]), -np.inf, 4.9, 10).is_worth_a_look
    True
    """

    def __init__(self, ritz: RitzPairs, catch: NDArray[np.intp], low: float, high: float, dimension: int) -> None:
        others = np.delete(np.arange(ritz.values.size), catch)
        self.unwanted = ritz.values[others], ritz.residual_norms[others]
        self.low, self.high, self.dimension = low, high, dimension
        self.inner = schur_correction(*self.unwanted, low, high)

    @property
    def is_worth_a_look(self) -> bool:
        """Whether there is a complement, and something that it could show."""
        return self.dimension > 0 and self.inner[0] < self.inner[1] and self.unwanted[0].size > 0

    def examine(self, process: LanczosFactorization) -> tuple[bool, tuple[float, float] | None]:
        """Return whether another step makes no sense, and the interval that all others are in, if it is known."""
        log_betas = 0.0
        for beta in (*process.betas, process.beta):
            log_betas += log_or_minus_infinity(float(beta))
        values = process.ritz().values
        overlooked = log_probability_overlooked(values, log_betas, self.dimension, *self.inner)
        if overlooked <= np.log(CONFIDENT):
            return True, excluded_interval(self.unwanted, values, log_betas, self.dimension, self.low, self.high)
        if process.complete and np.isfinite(overlooked):
            return True, (self.low, self.high)
        steps, before, wanted = process.size, 0.5 * np.log(self.dimension), np.log(CONFIDENT)
        hopeless = steps >= 8 and steps * (before - wanted) > process.capacity * (before - overlooked)
        return bool(np.isinf(overlooked) or hopeless or process.full or process.invariant), None


def log_or_minus_infinity(beta: float) -> float:
    """Return the logarithm of a number that is not negative.

    Examples
    --------
    >>> log_or_minus_infinity(0.0)
    -inf
    """
    return float(np.log(beta)) if beta > 0 else -np.inf
