"""Where in its loop a search is: all that a decision depends on besides the process and the pairs found."""

from dataclasses import dataclass

__all__ = ["Position"]


@dataclass
class Position:
    """One approach to the target; a tighter one begins anew.

    Examples
    --------
    >>> Position(0.5e-8).extends
    False
    """

    tightness: float = 0.0  # residuals, relative to |A|, at which the catch counts as converged
    before: float = float("inf")  # largest true residual of the approach before
    restarts: int = 0  # of the search, when this one began
    near: bool = False  # residuals of the catch are so small that every step is looked at
    log_betas: float = 0.0  # sum of the logarithms of the betas
    extends: bool = False  # the next thing to do is a step, not a look at the Ritz pairs
