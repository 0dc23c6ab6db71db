"""Exact scaling: every algorithm works on ``2**-e A``, whose products are of order one.

Multiplying by a power of two rounds nothing.  With ``e`` read off the first product, operators of norm 1e-300 and
1e300 take the same path through the same bits as one of norm 1, and no norm or inner product over- or underflows.
"""

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.symmetric import SymmetricOperator

Array = NDArray[np.float64]

__all__ = ["ScaledOperator", "binary_exponent", "ldexp", "unit_vector"]


def binary_exponent(x: Array) -> int:
    """Return e with ``max |x|`` in ``[2**(e-1), 2**e)``, and 0 for a zero array.

    Examples
    --------
    >>> binary_exponent(np.array([0.5, -1e300])), binary_exponent(np.zeros(3))
    (997, 0)
    """
    return int(np.frexp(np.abs(x).max(initial=0.0))[1])


@overload
def ldexp(x: float | np.floating[Any], exponent: int) -> float: ...
@overload
def ldexp(x: NDArray[Any], exponent: Any, out: Array | None = None) -> Array: ...


def ldexp(x: Any, exponent: Any, out: Array | None = None) -> Any:
    """Return ``2**exponent x`` to the bit as :func:`numpy.ldexp` does, for long vectors at the speed of a product.

    Examples
    --------
    >>> ldexp(np.array([1.0, 3.0]), -1), ldexp(5e-324, 1080)
    (array([0.5, 1.5]), np.float64(64.0))
    """
    if np.ndim(exponent) == 0 and -1022 <= exponent <= 1023:  # a normal number, and a product that rounds once
        return np.multiply(x, 2.0 ** int(exponent), out=out)
    return np.ldexp(x, exponent, out=out)


def unit_vector(x: Array) -> Array:
    """Return ``x / |x|`` for a nonzero ``x`` of any magnitude.

    Examples
    --------
    >>> unit_vector(np.array([3e-300, 4e-300]))
    array([0.6, 0.8])
    """
    x = ldexp(x, -binary_exponent(x))
    return np.asarray(x / np.linalg.norm(x))


class ScaledOperator:
    """Products with ``2**-exponent A``.

    Parameters
    ----------
    operator : SymmetricOperator
        ``A``, of order n.
    exponent : int

    Examples
    --------
    >>> A = ScaledOperator(SymmetricOperator(np.diag([1024.0, 1.0])), 10)
    >>> A(np.ones(2)) * [1, 1024]
    array([1., 1.])
    """

    def __init__(self, operator: SymmetricOperator, exponent: int) -> None:
        self.operator = operator
        self.exponent = exponent
        self.n = operator.n
        self.eps = operator.eps

    def __call__(self, V: Array) -> Array:
        """Return ``2**-exponent A V`` for V of shape (n,) or (n, k)."""
        product = self.operator(V)
        return product if self.exponent == 0 else ldexp(product, -self.exponent)

    def unscale(self, x: Array) -> Array:
        """Return ``2**exponent x``: eigenvalues or residuals in the units of ``A``."""
        return np.asarray(ldexp(x, self.exponent))
