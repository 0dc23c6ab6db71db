"""What a Krylov space that starts at random says about the eigenvalues it has not shown.

After j steps from a unit vector ``q`` the characteristic polynomial ``p_j`` of the tridiagonal matrix has
``|p_j(B) q| = beta_1 ... beta_j``.  An eigenvalue ``mu`` beyond c, itself beyond all Ritz values, has therefore an
eigenvector ``y`` with ``|y'q| <= beta_1 ... beta_j / |p_j(c)|``.  For a random ``q`` in d dimensions ``|y'q| < delta``
happens with a probability of at most ``delta sqrt(2 d / pi)``: that bounds the probability that the process has
overlooked ``mu``, whatever the spectrum.

References
----------
Van Dorsselaer, Hochstenbach and van der Vorst (2000), Computing probabilistic bounds for extreme eigenvalues of
symmetric matrices with the Lanczos method.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["CONFIDENT", "excluded_interval", "log_probability_overlooked", "schur_correction"]

#: probability of an oversight that is accepted, over the random start vectors
CONFIDENT = 1e-4


def log_probability_overlooked(values: Array, log_betas: float, dimension: int, low: float, high: float) -> float:
    """Return the logarithm of a bound of the probability that an eigenvalue outside of [low, high] was overlooked.

    Parameters
    ----------
    values : ndarray, shape (j,)
        Ritz values of a Lanczos process without restart, from a random start.
    log_betas : float
        Sum of the logarithms of ``beta_1 ... beta_j``, the last one included.
    dimension : int
        Of the space that the start vector is random in.
    low, high : float
        May be infinite.  The bound is infinite if a Ritz value lies outside.

    Examples
    --------
    >>> log_probability_overlooked(np.array([0.0, 1.0]), -20.0, 100, -np.inf, 3.0) < -17
    True
    """
    if values.max() >= high or values.min() <= low:
        return np.inf
    half = 0.5 * np.log(2 * dimension / np.pi)
    sides = [log_betas - float(np.log(np.abs(c - values)).sum()) for c in (low, high) if np.isfinite(c)]
    return float(np.logaddexp.reduce([*sides, -np.inf])) + float(half)


def schur_correction(values: Array, residual_norms: Array, low: float, high: float) -> tuple[float, float]:
    """Return how much [low, high] shrinks for the complement of a Krylov space.

    With ``A V = V T + r b'`` let ``theta_i`` be Ritz values within [low, high] with residual norms ``e_i``, and ``B``
    the operator on the complement of ``V``.  By the Schur complement all eigenvalues of the two together are below
    ``high`` if those of ``B + s rr'/|r|^2`` are, ``s = sum e_i^2 / (high - theta_i)``: it is enough that those of ``B``
    are below ``high - s``.  Likewise for ``low``.

    Examples
    --------
    >>> low, high = schur_correction(np.array([0.0, 1.0]), np.array([0.1, 0.1]), -np.inf, 2.0)
    >>> low, round(high, 3)
    (-inf, 1.985)
    """
    if np.isfinite(high):
        distance = high - values
        high = high - float((residual_norms**2 / distance).sum()) if (distance > 0).all() else -np.inf
    if np.isfinite(low):
        distance = values - low
        low = low + float((residual_norms**2 / distance).sum()) if (distance > 0).all() else np.inf
    return low, high


def excluded_interval(
    ritz: tuple[Array, Array], values: Array, log_betas: float, dimension: int, low: float, high: float
) -> tuple[float, float]:
    """Return the smallest interval of a grid that all other eigenvalues are confidently in; one end at a time.

    Parameters
    ----------
    ritz : (values, residual_norms)
        Ritz pairs that are not wanted, of the process whose space is taken out.
    values, log_betas, dimension
        As in :func:`log_probability_overlooked`, for the process in its complement.
    low, high : float
        Interval that has been shown to hold them.

    Examples
    --------
    >>> ritz = np.array([0.0, 1.0]), np.array([0.0, 0.0])
    >>> low, high = excluded_interval(ritz, np.array([0.1, 0.2]), -40.0, 100, -np.inf, 3.0)
    >>> low, 1.0 < high < 1.2
    (-inf, True)
    """
    inner = np.concatenate([ritz[0], values])
    shares = np.linspace(0.0, 1.0, 41)[1:-1]
    if np.isfinite(high):
        for c in inner.max() + shares * (high - inner.max()):
            top = schur_correction(*ritz, -np.inf, float(c))[1]
            if log_probability_overlooked(values, log_betas, dimension, -np.inf, top) <= np.log(CONFIDENT):
                high = float(c)
                break
    if np.isfinite(low):
        for c in inner.min() - shares * (inner.min() - low):
            bottom = schur_correction(*ritz, float(c), np.inf)[0]
            if log_probability_overlooked(values, log_betas, dimension, bottom, np.inf) <= np.log(CONFIDENT):
                low = float(c)
                break
    return low, high
