"""What an operator was found to be."""

from dataclasses import dataclass
from typing import Any

from krylovh.results.display import Displayed

__all__ = ["OperatorCheck"]


@dataclass(frozen=True)
class OperatorCheck(Displayed):
    """Checks of an operator: for each a name, a number that is zero for a perfect operator, and a verdict.

    Examples
    --------
    >>> check = OperatorCheck(2, "float64", ("linear", "symmetric"), (1e-16, 0.5), (True, False), 5, 0)
    >>> check.ok, check.error("symmetric")
    (False, 0.5)
    """

    order: int
    dtype: str
    names: tuple[str, ...]
    errors: tuple[float, ...]
    passed: tuple[bool, ...]
    num_products: int
    seed: int

    @property
    def ok(self) -> bool:
        """Whether all checks passed."""
        return all(self.passed)

    def error(self, name: str) -> float:
        """Return the number of a check."""
        return self.errors[self.names.index(name)]

    def table(self) -> dict[str, Any]:
        """Return the checks with their errors."""
        verdicts = ["passed" if passed else "FAILED" for passed in self.passed]
        return {"check": self.names, "error": [f"{error:.1e}" for error in self.errors], "verdict": verdicts}

    def __str__(self) -> str:
        count = f"{sum(self.passed)} of {len(self.passed)} checks passed"
        head = f"operator of order {self.order}, {self.dtype}: {count}, {self.num_products} products, seed {self.seed}"
        width = max(map(len, self.names), default=0)
        lines = [
            f"  {name:<{width}}  {'passed' if passed else 'FAILED'}  {error:.1e}"
            for name, error, passed in zip(self.names, self.errors, self.passed, strict=True)
        ]
        return "\n".join([head, *lines])
