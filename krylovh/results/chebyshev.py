"""Spectral densities by the kernel polynomial method."""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["ChebyshevDensity", "jackson_coefficients"]


def jackson_coefficients(count: int) -> Array:
    """Return the factors ``g_0 = 1, g_1, ...`` that make a series of ``count`` Chebyshev moments nonnegative.

    They are those of the positive kernel with the smallest variance, ``(pi / count)^2`` in the angle.

    References
    ----------
    Weisse, Wellein, Alvermann and Fehske (2006), The kernel polynomial method, equation 71.

    Examples
    --------
    >>> jackson_coefficients(3).round(4)
    array([1.    , 0.7071, 0.25  ])
    """
    k, angle = np.arange(count), np.pi / (count + 1)
    return np.asarray(((count - k + 1) * np.cos(angle * k) + np.sin(angle * k) / np.tan(angle)) / (count + 1))


@dataclass(frozen=True)
class ChebyshevDensity(Displayed):
    """Chebyshev moments of the spectrum seen from each probe, and the density that the Jackson kernel makes of them.

    Row ``p`` of ``moments`` holds ``v'T_k(S)v``, k = 0, 1, ..., of probe p without damping, padded with NaN where the
    run ended early; ``S = (2A - (high + low)I) / (high - low)`` has its spectrum in [-1, 1].  The density is
    nonnegative, integrates to one between the ``bounds``, and shows an eigenvalue as a peak of standard deviation
    ``resolution`` (less near the bounds).

    A run that ended before its first product has no probe, and its methods raise ``ValueError``.

    References
    ----------
    Silver and Roeder (1994), Densities of states of mega-dimensional Hamiltonian matrices.
    Weisse, Wellein, Alvermann and Fehske (2006), The kernel polynomial method.

    Examples
    --------
    >>> point = ChebyshevDensity(np.array([[1.0, 0.0, -1.0]]), (-2.0, 2.0), 100, 1, 0, Status.CONVERGED)
    >>> point.cumulative([-2.0, 0.0, 2.0]).round(12)
    array([0. , 0.5, 1. ])
    >>> print(point)
    Chebyshev density of order 100: 1 probe, 3 moments in [-2, 2], converged, 1 products, seed 0
    """

    moments: Array  # (num_probes, num_moments)
    bounds: tuple[float, float]  # an interval that holds the spectrum, as far as the moments tell
    dimension: int  # n, the order of the operator
    num_products: int  # those for the bounds included
    seed: int
    status: Status

    def __str__(self) -> str:
        probes = f"{self.num_probes} probe{'' if self.num_probes == 1 else 's'}, {self.moments.shape[1]} moments"
        span = "[{:.4g}, {:.4g}]".format(*self.bounds)
        cost = f"{self.num_products} products, seed {self.seed}"
        return f"Chebyshev density of order {self.dimension}: {probes} in {span}, {self.status}, {cost}"

    @property
    def num_probes(self) -> int:
        """Number of random probes."""
        return len(self.moments)

    @property
    def resolution(self) -> float:
        """Standard deviation of the peak of one eigenvalue in the middle of the spectrum."""
        counts = np.count_nonzero(~np.isnan(self.moments), axis=1)
        return float(np.pi * self._half_width / counts.min()) if counts.size else np.inf

    def grid(self, num_points: int = 1000) -> Array:
        """Return points between the bounds, denser at their ends as Chebyshev points are, shape (num_points,).

        With weights ``pi / num_points * sqrt((high - x)(x - low))`` they integrate the density without error, if there
        are more points than moments.
        """
        angles = (np.arange(num_points) + 0.5) * np.pi / num_points
        return np.asarray(self._centre - self._half_width * np.cos(angles))

    def density(self, grid: ArrayLike) -> Array:
        """Return the density at the points of ``grid``, in shares of all eigenvalues per unit; zero at the bounds."""
        return np.asarray(self._densities(grid).mean(axis=0))

    def density_error(self, grid: ArrayLike) -> Array:
        """Return the standard error over probes of :meth:`density`; NaN for a single probe."""
        return self._standard_error(self._densities(grid))

    def cumulative(self, grid: ArrayLike) -> Array:
        """Return the integral of the density up to each point of ``grid``."""
        return np.asarray(self._integrals(grid).mean(axis=0))

    def cumulative_error(self, grid: ArrayLike) -> Array:
        """Return the standard error over probes of :meth:`cumulative`; NaN for a single probe."""
        return self._standard_error(self._integrals(grid))

    @property
    def _centre(self) -> float:
        low, high = self.bounds
        return low + (high - low) / 2

    @property
    def _half_width(self) -> float:
        return (self.bounds[1] - self.bounds[0]) / 2

    def _series(self) -> Array:
        """Return the damped coefficients, (num_moments, num_probes)."""
        if self.num_probes == 0:
            raise ValueError(f"the Chebyshev density has no probe (status {self.status}): nothing can be read from it")
        series = np.zeros(self.moments.shape)
        for row, moments in zip(series, self.moments, strict=True):
            count = int(np.count_nonzero(~np.isnan(moments)))
            row[:count] = jackson_coefficients(count) * moments[:count]
        series[:, 1:] *= 2
        return series.T

    def _place(self, grid: ArrayLike) -> Array:
        """Return the points as numbers in [-1, 1], exact at the bounds."""
        low, high = self.bounds
        return np.asarray(2 * ((np.clip(np.asarray(grid, dtype=np.float64), low, high) - low) / (high - low)) - 1)

    def _densities(self, grid: ArrayLike) -> Array:
        series, x = self._series(), self._place(grid)
        sine = np.sqrt((1 - x) * (1 + x))
        values = np.maximum(chebyshev.chebval(x, series), 0.0)  # rounding may be negative
        return np.asarray(
            np.divide(values, np.pi * self._half_width * sine, out=np.zeros(values.shape), where=sine > 0)
        )

    def _integrals(self, grid: ArrayLike) -> Array:
        """Integrate term by term: of ``T_k`` over ``sqrt(1 - x^2)`` comes ``-sin(k angle) / k``, and
        ``k sin(k angle) = sin(angle) T_k'``.
        """  # noqa: D205
        series, x = self._series(), self._place(grid)
        angle, sine = np.arccos(x), np.sqrt((1 - x) * (1 + x))
        k = np.arange(1, len(series))
        tail = np.concatenate([np.zeros((1, series.shape[1])), series[1:] / k[:, None] ** 2])
        waves = chebyshev.chebval(x, chebyshev.chebder(tail)) if k.size else np.zeros((series.shape[1], *x.shape))
        shares = np.multiply.outer(series[0], 1 - angle / np.pi) - waves * sine / np.pi
        return np.asarray(np.clip(shares, 0.0, 1.0))

    def _standard_error(self, values: Array) -> Array:
        if self.num_probes == 1:
            return np.full(values.shape[1:], np.nan)
        return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(self.num_probes))
