"""Numbers from random probes."""

from dataclasses import dataclass

from krylovh.results.status import Status

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """A number from random probes, with its standard error and a 95 % interval.

    One probe says nothing about its own error: the standard error is then NaN and the interval the whole line.

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

    def __str__(self) -> str:
        low, high = self.interval
        cost = f"{self.method}, {self.num_products} products, seed {self.seed}"
        return f"{self.value:.6g} +- {self.standard_error:.3g} (95 %: {low:.6g} to {high:.6g}; {cost})"
