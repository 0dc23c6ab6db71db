"""Functions of an operator: applied to a vector, and the diagonal of the inverse."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["InverseDiagonal", "MatrixFunctionResult"]


@dataclass(frozen=True)
class MatrixFunctionResult(Displayed):
    """An approximation of ``f(A) b``, with an estimate of its error.

    Examples
    --------
    >>> from krylovh import matrix_function
    >>> print(matrix_function(np.diag([1.0, 4.0]), np.sqrt, np.ones(2)))
    f(A) b: converged, error about 0.0e+00 of |f(A) b|, 2 steps, 2 products
    """

    x: Array  # (n,)
    status: Status
    error: float  # estimate of |x - f(A) b|: how far the last steps moved x
    relative_error: float  # in units of |x|
    num_steps: int
    num_products: int
    rtol: float

    def __str__(self) -> str:
        accuracy = f"f(A) b: {self.status}, error about {self.relative_error:.1e} of |f(A) b|"
        return f"{accuracy}, {self.num_steps} steps, {self.num_products} products"


@dataclass(frozen=True)
class InverseDiagonal(Displayed):
    """Entries of the diagonal of an inverse, exact or estimated.

    Examples
    --------
    >>> print(InverseDiagonal(np.ones(3), np.zeros(3), 3, 12, 0, Status.CONVERGED))
    3 entries of the diagonal of an inverse: converged, 3 solves, 12 products
    """

    values: Array  # (m,)
    standard_errors: Array  # (m,)
    num_solves: int
    num_products: int
    seed: int
    status: Status

    def __str__(self) -> str:
        count = f"{self.values.size} entries of the diagonal of an inverse"
        return f"{count}: {self.status}, {self.num_solves} solves, {self.num_products} products"
