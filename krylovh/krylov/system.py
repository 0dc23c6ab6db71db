"""A linear system as a solver sees it: scaled to order one, with counted products and a true residual.

Solvers work on ``2**-e A y = 2**-f b``; e is read off the first product and f off b, so that systems of any magnitude
take the same path through the same bits, and ``x = 2**(f-e) y``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import finite_array, whole_number
from krylovh.krylov.scaling import binary_exponent, unit_vector
from krylovh.krylov.symmetric import BudgetSpent, NonFiniteProduct, SymmetricOperator
from krylovh.krylov.symmetry import check_symmetry
from krylovh.results import SolveResult, Status

Array = NDArray[np.float64]

__all__ = ["STOPS", "LinearSystem", "checked_rtol", "checked_vector", "status_of"]

#: what may end a computation early
STOPS = (BudgetSpent, NonFiniteProduct, KeyboardInterrupt)


class LinearSystem:
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
    >>> system.b, system.product(np.ones(2))
    (array([0.75, 0.75]), array([0.5, 1. ]))
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
        self.operator = SymmetricOperator(A, max_products=max_products, max_seconds=max_seconds)
        self.n = self.operator.n
        unscaled = checked_vector("b", b, self.n)
        self.rtol = checked_rtol(rtol)
        self.max_iterations = (
            10 * self.n if max_iterations is None else whole_number("max_iterations", max_iterations, 0)
        )
        self.b_exponent = binary_exponent(unscaled)
        self.b = np.ldexp(unscaled, -self.b_exponent)
        self.b_norm = float(np.linalg.norm(self.b))
        self.target = self.rtol * self.b_norm
        self.eps = self.operator.eps
        self.exponent = 0
        self.norm = 0.0  # largest |A v| / |v| met: a lower bound of |A|
        self._pairs: list[tuple[Array, Array]] = []  # the first directions and products

    def product(self, v: Array) -> Array:
        """Return ``A v`` for a v of any magnitude; one product, none for v = 0."""
        if not v.any():
            return np.zeros(self.n)
        k = binary_exponent(v)
        product = self.operator(np.ldexp(v, -k))
        if self.norm == 0.0:
            self.exponent = binary_exponent(product)
        product = np.ldexp(product, k - self.exponent)
        self.norm = max(self.norm, float(np.linalg.norm(product) / np.linalg.norm(v)))
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

    def scaled_start(self, x0: ArrayLike) -> tuple[Array, Array]:
        """Return a nonzero start vector in the units of y, and its residual; one product."""
        x = checked_vector("x0", x0, self.n)
        if not x.any():
            return x, self.b.copy()
        k = binary_exponent(x)
        product = self.product(np.ldexp(x, -k))
        exponent = self.exponent - self.b_exponent
        return np.ldexp(x, exponent), self.b - np.ldexp(product, k + exponent)

    def residual(self, x: Array) -> Array:
        """Return ``b - A x``; one product, none for x = 0."""
        return self.b - self.product(x)

    def attainable(self, x_norm: float) -> float:
        """Return the residual that the rounding of one product with an x of this norm may leave."""
        return self.eps * self.norm * x_norm

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
            unscaled = np.ldexp(x, self.b_exponent - self.exponent)
            if not np.isfinite(unscaled).all():  # the solution is larger than a float can be
                status = Status.NONFINITE
        return SolveResult(
            x=unscaled,
            status=status,
            residual_norm=float(np.ldexp(residual_norm, self.b_exponent)),
            relative_residual=residual_norm / self.b_norm if self.b_norm else 0.0,
            num_iterations=len(history) - 1,
            num_products=self.operator.num_products,
            negative_curvature=None if direction is None else unit_vector(direction),
            residual_history=np.ldexp(np.array(history, dtype=np.float64), self.b_exponent),
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


def status_of(stop: BaseException) -> Status:
    """Return what the end of a computation by one of ``STOPS`` is called.

    Examples
    --------
    >>> str(status_of(BudgetSpent()))
    'budget'
    """
    if isinstance(stop, BudgetSpent):
        return Status.BUDGET
    return Status.NONFINITE if isinstance(stop, NonFiniteProduct) else Status.INTERRUPTED
