"""A linear system as a solver sees it: scaled to order one, with counted products and a true residual.

Solvers work on ``2**-e A y = 2**-f b``; e is read off the first product and f off b, so that systems of any magnitude
take the same path through the same bits, and ``x = 2**(f-e) y``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import finite_array, whole_number
from krylovh.krylov.scaling import binary_exponent, ldexp, unit_vector
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.krylov.symmetry import check_symmetry
from krylovh.results import SolveResult, Status

Array = NDArray[np.float64]

__all__ = [
    "LinearSystem",
    "ScaledSystem",
    "checked_iterations",
    "checked_rtol",
    "checked_vector",
]


class ScaledSystem:
    """Products with ``2**-exponent A`` for a solver, with what they tell of the norm of A.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
    max_products, max_seconds : optional
        Budget.

    Examples
    --------
    >>> system = ScaledSystem(np.diag([1024.0, 2048.0]))
    >>> system.product(np.ones(2)), system.norm.round(3)
    (array([0.5, 1. ]), np.float64(0.791))
    """

    def __init__(self, A: Any, *, max_products: int | None = None, max_seconds: float | None = None) -> None:
        self.operator = SymmetricOperator(A, max_products=max_products, max_seconds=max_seconds)
        self.n = self.operator.n
        self.eps = self.operator.eps
        self.exponent = 0
        self.norm = np.float64(0.0)  # largest |A v| / |v| met: a lower bound of |A|
        self._pairs: list[tuple[Array, Array]] = []  # the first directions and products

    def product(self, V: Array) -> Array:
        """Return ``A V`` for V of shape (n,) or (n, k) and any magnitude; no product for V = 0."""
        if not V.any():
            return np.zeros_like(V)
        k = binary_exponent(V)
        product = self.operator(ldexp(V, -k))
        if self.norm == 0.0:
            self.exponent = binary_exponent(product)
        product = ldexp(product, k - self.exponent)
        lengths = np.linalg.norm(V, axis=0)
        self.norm = np.max(np.linalg.norm(product, axis=0) / np.where(lengths > 0, lengths, 1.0), initial=self.norm)
        return product

    def first_products(self, v: Array, product: Array) -> None:
        """Refuse an operator whose first two products with directions of the iteration show that it is not symmetric.

        Costs no product, unless it looks so.
        """
        if len(self._pairs) == 2:
            return
        length = np.linalg.norm(v)
        self._pairs.append((v / length, product / length))
        if len(self._pairs) == 2:
            U, AU = (np.column_stack(columns) for columns in zip(*self._pairs, strict=True))
            check_symmetry(self.product, U, AU, self.eps)
            self._pairs = [(np.zeros(0), np.zeros(0))] * 2

    def attainable(self, x_norm: float) -> float:
        """Return the residual that the rounding of one product with an x of this norm may leave."""
        return float(self.eps * self.norm * x_norm)


class LinearSystem(ScaledSystem):
    """``A x = b``, scaled.

    The arrays that go in and out of its methods are scaled; :meth:`result` returns to the units of the caller.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
    b : array_like, shape (n,)
    rtol : float
        Target for ``|b - A x| / |b|``, in [0, 1).
    max_iterations : int, optional
        By default ``10 n``.
    max_products, max_seconds : optional
        Budget.

    Examples
    --------
    >>> system = LinearSystem(np.diag([1024.0, 2048.0]), [3.0, 3.0], rtol=1e-6)
    >>> system.b, system.residual(np.ones(2))
    (array([0.75, 0.75]), array([ 0.25, -0.25]))
    """

    def __init__(
        self,
        A: Any,
        b: ArrayLike,
        *,
        rtol: float,
        max_iterations: int | None = None,
        max_products: int | None = None,
        max_seconds: float | None = None,
    ) -> None:
        super().__init__(A, max_products=max_products, max_seconds=max_seconds)
        unscaled = checked_vector("b", b, self.n)
        self.rtol = checked_rtol(rtol)
        self.max_iterations = checked_iterations(max_iterations, self.n)
        self.b_exponent = binary_exponent(unscaled)
        self.b = ldexp(unscaled, -self.b_exponent)
        self.b_norm = float(np.linalg.norm(self.b))
        self.target = self.rtol * self.b_norm

    def scaled_start(self, x0: ArrayLike) -> tuple[Array, Array]:
        """Return a nonzero start vector in the units of y, and its residual; one product."""
        x = checked_vector("x0", x0, self.n)
        if not x.any():
            return x, self.b.copy()
        k = binary_exponent(x)
        product = self.product(ldexp(x, -k))
        exponent = self.exponent - self.b_exponent
        return ldexp(x, exponent), self.b - ldexp(product, k + exponent)

    def residual(self, x: Array) -> Array:
        """Return ``b - A x``; one product, none for x = 0."""
        return self.b - self.product(x)

    def result(
        self,
        solver: str,
        x: Array,
        status: Status,
        residual_norm: float,
        history: Sequence[float],
        direction: Array | None = None,
    ) -> SolveResult:
        """Return what was found, in the units of the caller."""
        with np.errstate(over="ignore", under="ignore"):
            unscaled = ldexp(x, self.b_exponent - self.exponent)
            if not np.isfinite(unscaled).all():  # the solution is larger than a float can be
                status = Status.NONFINITE
        return SolveResult(
            x=unscaled,
            status=status,
            residual_norm=float(ldexp(residual_norm, self.b_exponent)),
            relative_residual=residual_norm / self.b_norm if self.b_norm else 0.0,
            num_iterations=len(history) - 1,
            num_products=self.operator.num_products,
            negative_curvature=None if direction is None else unit_vector(direction),
            residual_history=ldexp(np.array(history, dtype=np.float64), self.b_exponent),
            rtol=self.rtol,
            solver=solver,
        )

    def zero_result(self, solver: str) -> SolveResult:
        """Return the solution x = 0 of ``A x = 0``; no product."""
        return self.result(solver, np.zeros(self.n), Status.CONVERGED, 0.0, [0.0])


def checked_vector(name: str, value: ArrayLike, n: int) -> Array:
    """Return ``value`` as a new finite float64 array of shape (n,); raise if that makes no sense.

    Examples
    --------
    >>> checked_vector("b", [1, 2], 3)
    Traceback (most recent call last):
    ValueError: b must have shape (3,), got (2,)
    """
    array = finite_array(name, value, np.float64)
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {array.shape}")
    return array.copy()


def checked_rtol(rtol: float) -> float:
    """Return ``rtol`` as a float in [0, 1).

    Examples
    --------
    >>> checked_rtol(-1e-3)
    Traceback (most recent call last):
    ValueError: rtol must be in [0, 1), got -0.001
    """
    if not 0 <= rtol < 1:
        raise ValueError(f"rtol must be in [0, 1), got {rtol}")
    return float(rtol)


def checked_iterations(max_iterations: int | None, n: int) -> int:
    """Return the limit on iterations: the one that is given, or ``10 n``.

    Examples
    --------
    >>> checked_iterations(None, 7)
    70
    """
    return 10 * n if max_iterations is None else whole_number("max_iterations", max_iterations, 0)
