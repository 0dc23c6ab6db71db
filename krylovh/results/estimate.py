"""Numbers from random probes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.results.display import Displayed, number
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["DiagonalEstimate", "Estimate"]


@dataclass(frozen=True)
class Estimate(Displayed):
    """A number from random probes, with its standard error and a 95 % interval.

    One probe says nothing about its own error: the standard error is then NaN and the interval the whole line.  Where
    functions of the operator are replaced by quadrature rules, ``quadrature_error`` bounds what that adds, as far as
    the method can tell; the interval holds both errors.

    Examples
    --------
    >>> print(Estimate(10.0, 0.5, (8.9, 11.1), 30, 7, Status.CONVERGED, "hutchinson"))
    10 +- 0.5 (95 %: 8.9 to 11.1; hutchinson, 30 products, seed 7)
    """

    value: float
    standard_error: float
    interval: tuple[float, float]  # 95 %
    num_products: int
    seed: int
    status: Status
    method: str
    quadrature_error: float = 0.0

    def table(self) -> dict[str, Any]:
        """Return the value with its errors and its cost."""
        low, high = (number(end) for end in self.interval)
        return {
            "value": [self.value], "standard error": [f"{self.standard_error:.2g}"],
            "95 % interval": [f"{low} to {high}"],
            "products": [self.num_products], "method": [self.method], "seed": [self.seed], "status": [str(self.status)],
        }  # fmt: skip

    def __str__(self) -> str:
        low, high = self.interval
        cost = f"{self.method}, {self.num_products} products, seed {self.seed}"
        if self.quadrature_error:
            cost = f"quadrature error {self.quadrature_error:.2g}; {cost}"
        return f"{self.value:.6g} +- {self.standard_error:.3g} (95 %: {low:.6g} to {high:.6g}; {cost})"


@dataclass(frozen=True)
class DiagonalEstimate(Displayed):
    """The diagonal of an operator from random probes, with standard errors and 95 % intervals.

    Examples
    --------
    >>> one, error = np.array([1.0, 2.0]), np.array([0.1, 0.2])
    >>> print(DiagonalEstimate(one, error, one - 2 * error, one + 2 * error, False, 30, 7, Status.CONVERGED, "bekas"))
    diagonal of order 2, standard errors up to 0.2 (pointwise 95 %; bekas, 30 products, seed 7)
    """

    value: Array  # (n,)
    standard_error: Array  # (n,)
    lower: Array  # (n,)
    upper: Array  # (n,)
    simultaneous: bool  # all intervals hold at once with 95 %, and not only each of them
    num_products: int
    seed: int
    status: Status
    method: str

    @property
    def interval(self) -> tuple[Array, Array]:
        """Lower and upper ends, each of shape (n,)."""
        return self.lower, self.upper

    def __str__(self) -> str:
        kind = "simultaneous" if self.simultaneous else "pointwise"
        largest = self.standard_error.max(initial=0.0)
        cost = f"{kind} 95 %; {self.method}, {self.num_products} products, seed {self.seed}"
        return f"diagonal of order {self.value.size}, standard errors up to {largest:.3g} ({cost})"
