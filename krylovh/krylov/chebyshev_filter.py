"""A polynomial that is large on an interval and small elsewhere: ``p(A)`` turns interior eigenvalues into largest ones.

``p`` is a Chebyshev expansion of a point mass within the interval, damped by Jackson's factors, which make it positive
and take the ripples away; it falls off on both sides.  All eigenvalues in the interval have ``p(lambda) >= level``,
and all others less, so that the largest eigenvalues of ``p(A)`` down to the level are those in the interval.

References
----------
Li, Xi, Vecharynski, Yang and Saad (2016), A thick-restart Lanczos algorithm with polynomial filtering for Hermitian
eigenvalue problems.
Jay, Kim, Saad and Chelikowsky (1999), Electronic structure calculations using plane-wave codes without diagonalization.
"""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from krylovh.krylov.scaling import ScaledOperator
from krylovh.krylov.symmetric import SymmetricOperator

Array = NDArray[np.float64]

__all__ = ["ChebyshevFilter", "FilteredOperator", "chebyshev_filter"]

_LARGEST_DEGREE = 2000
#: value at the ends of the interval that the degree is chosen for, the largest being 1
_LEVEL = 0.6
#: how much wider an interval is taken, relative to its width
_WIDER = 1e-6


@dataclass(frozen=True)
class ChebyshevFilter:
    """``p(t)``, a Chebyshev series in ``t = (lambda - center) / half_width``."""

    coefficients: Array  # (degree + 1,)
    center: float
    half_width: float
    level: float  # p >= level in the interval, and less outside

    def __call__(self, values: Array) -> Array:
        """Return ``p`` at eigenvalues."""
        return np.asarray(chebyshev.chebval((values - self.center) / self.half_width, self.coefficients))


def chebyshev_filter(low: float, high: float, a: float, b: float) -> ChebyshevFilter:
    """Return a filter for [a, b] where the spectrum lies in [low, high].

    Examples
    --------
    >>> p = chebyshev_filter(-1.0, 1.0, 0.1, 0.3)
    >>> inside, outside = np.linspace(0.1, 0.3, 9), np.concatenate([np.linspace(-1, 0.09), np.linspace(0.31, 1)])
    >>> bool(p(inside).min() >= p.level > p(outside).max())
    True
    """
    center, half_width = (low + high) / 2, (high - low) / 2
    margin = _WIDER * (b - a)
    left, right = ((x - center) / half_width for x in (max(a - margin, low), min(b + margin, high)))
    angle = float(np.arccos(max(left, -1.0)) - np.arccos(min(right, 1.0)))
    degree = max(4, min(int(4 / angle), _LARGEST_DEGREE))  # Jackson's kernel is about pi / degree wide
    while True:
        coefficients = _balanced(degree, left, right)
        ends = chebyshev.chebval(np.array([left, right]), coefficients)[[left > -1, right < 1]]
        level = float(ends.min(initial=np.inf))
        if np.isinf(level):
            level = 0.0
        grid = np.cos(np.linspace(0, np.pi, 40 * degree))
        outside = grid[(grid < left) | (grid > right)]
        inside = np.concatenate([grid[(grid >= left) & (grid <= right)], [left, right]])
        rounding = 1e-12
        separates = (
            chebyshev.chebval(outside, coefficients).max(initial=-np.inf) <= level + rounding
            and chebyshev.chebval(inside, coefficients).min() >= level - rounding
        )
        if (separates and level <= _LEVEL) or degree >= _LARGEST_DEGREE:
            if not separates:
                raise ValueError(
                    f"which must be an interval that is wide enough to be told apart, got a share of "
                    f"{(b - a) / (high - low):.1e} of the spectrum"
                )
            return ChebyshevFilter(coefficients, center, half_width, level - rounding)
        degree = degree + max(2, degree // 8)


def _balanced(degree: int, left: float, right: float) -> Array:
    """Return the filter around the point where it is equally large at both ends of an interval; 1 at that point."""
    if left <= -1 or right >= 1:
        return _point_mass(degree, -1.0 if left <= -1 else 1.0)
    low, high = left, right
    for _ in range(50):
        middle = (low + high) / 2
        coefficients = _point_mass(degree, middle)
        at_left, at_right = chebyshev.chebval(np.array([left, right]), coefficients)
        low, high = (low, middle) if at_right > at_left else (middle, high)
    return coefficients


def _point_mass(degree: int, point: float) -> Array:
    """Return the damped Chebyshev series of a point mass, scaled to 1 at the point."""
    j, m = np.arange(degree + 1), degree + 2
    jackson = ((m - j) * np.cos(np.pi * j / m) + np.sin(np.pi * j / m) / np.tan(np.pi / m)) / m
    coefficients = jackson * np.cos(j * np.arccos(point))
    coefficients[1:] *= 2
    return np.asarray(coefficients / chebyshev.chebval(point, coefficients))


class FilteredOperator(ScaledOperator):
    """Products with ``p(A)``, each at the price of ``degree`` products with ``A``.

    Examples
    --------
    >>> p = chebyshev_filter(0.0, 3.0, 0.5, 1.5)
    >>> A = FilteredOperator(SymmetricOperator(np.diag([0.0, 1.0, 3.0])), 0, p)
    >>> bool(np.allclose(A(np.ones(3)), p(np.array([0.0, 1.0, 3.0]))))
    True
    """

    def __init__(self, operator: SymmetricOperator, exponent: int, polynomial: ChebyshevFilter) -> None:
        super().__init__(operator, exponent)
        self.polynomial = polynomial
        self.eps *= 10  # what a recurrence adds to the rounding of its products

    def __call__(self, V: Array) -> Array:
        """Return ``p(A) V`` by the three-term recurrence of Chebyshev polynomials."""
        c = self.polynomial.coefficients
        before, now = V, self._centered(V)
        total = c[0] * before + c[1] * now
        for coefficient in c[2:]:
            before, now = now, 2 * self._centered(now) - before
            total += coefficient * now
        return np.asarray(total)

    def _centered(self, V: Array) -> Array:
        p = self.polynomial
        return (super().__call__(V) - p.center * V) / p.half_width
