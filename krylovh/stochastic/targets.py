"""How exact an estimate has to be, and how much it may cost."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from krylovh.checks import whole_number

__all__ = ["Target", "checked_block_size", "checked_budget", "confirmed_batches"]


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


def checked_block_size(block_size: int | None) -> int:
    """Return how many probes go into one block product: 16 where nothing is asked for.

    Examples
    --------
    >>> checked_block_size(None), checked_block_size(5)
    (16, 5)
    """
    return 16 if block_size is None else whole_number("block_size", block_size, 1)


def confirmed_batches(
    reaches: Callable[[int, int], bool],
    first_size: int,
    least: int,
    affordable: Callable[[], float],
    spends_rest: Callable[[], bool] = lambda: True,
) -> bool:
    """Double a batch of probes until it reaches a target, and then let a new batch of that size confirm it.

    The last batch alone is the estimate.  It took no part in the decision to stop, which a batch with an error that
    happens to be small would have taken too early.  If it misses the target, the batches go on being doubled.

    Parameters
    ----------
    reaches : callable
        ``reaches(first, size)`` makes a batch of the probes first ... first + size - 1, and says whether it reached
        the target.
    first_size, least : int
        Probes of the first batch, and of the smallest that there is.
    affordable : callable
        ``affordable()`` is the number of probes that can be paid for.
    spends_rest : callable
        ``spends_rest()`` says whether a batch of all that can be paid for shall be the last, if it is larger than the
        one before, where a doubled one cannot be paid for.

    Returns
    -------
    bool
        Whether the last batch reached the target.

    Examples
    --------
    >>> batches = []
    >>> def reaches(first, size):
    ...     batches.append((first, size))
    ...     return size >= 20
    >>> confirmed_batches(reaches, 16, 2, lambda: 1000), batches
    (True, [(0, 16), (16, 32), (48, 32)])
    """
    if affordable() < first_size:  # too little for a choice
        return affordable() >= least and reaches(0, int(affordable()))
    first, size, before = 0, first_size, False
    while size <= affordable():
        reached = reaches(first, size)
        if before and reached:
            return True
        first, before = first + size, reached
        size *= 1 if reached else 2
    left = affordable()
    return left > size // 2 and spends_rest() and reaches(first, int(left))
