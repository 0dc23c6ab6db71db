"""How exact an estimate has to be, and how much it may cost."""

from dataclasses import dataclass

import numpy as np

from krylovh.checks import whole_number

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """A half width of the 95 % interval, absolute or relative to the value; the larger of the two counts.

    Examples
    --------
    >>> Target.of(rtol=0.01, atol=None).half_width(-200.0)
    2.0
    >>> Target.of(None, None) is None
    True
    """

    rtol: float
    atol: float

    @classmethod
    def of(cls, rtol: float | None, atol: float | None) -> "Target | None":
        """Return the target; None where neither is given."""
        for name, value in (("rtol", rtol), ("atol", atol)):
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"{name} must be positive and finite, got {value!r}")
        if rtol is None and atol is None:
            return None
        return cls(0.0 if rtol is None else float(rtol), 0.0 if atol is None else float(atol))

    def half_width(self, value: float) -> float:
        """Return the half width that is asked for."""
        return max(self.rtol * abs(value), self.atol)

    def reached(self, value: float, interval: tuple[float, float]) -> bool:
        """Return whether neither end of the interval is farther from the value than is asked for.

        A skewed interval may be longer on one side; its half width is half of its length.
        """
        low, high = interval
        return bool(high / 2 - low / 2 <= self.half_width(value))


def checked_budget(num_products: int | None, target: Target | None, least: int) -> int | None:
    """Return the number of products: 100 where nothing is asked for, None (no limit) where only a target is."""
    if num_products is None:
        return None if target is not None else max(100, least)
    return whole_number("num_products", num_products, least)
