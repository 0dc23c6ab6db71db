"""How a computation ended."""

from enum import StrEnum

__all__ = ["Status"]


class Status(StrEnum):
    """How a computation ended.

    Examples
    --------
    >>> Status("budget") is Status.BUDGET
    True
    """

    CONVERGED = "converged"  # the target was reached, and checked by recomputation
    BUDGET = "budget"  # products, steps or seconds ran out first
    STAGNATED = "stagnated"  # rounding or noise in the products stops further progress
    BOUNDARY = "boundary"  # the solution lies outside of the trust region, and x on its boundary
    NEGATIVE_CURVATURE = "negative_curvature"  # a direction d with d'Ad <= 0 was met
    BREAKDOWN = "breakdown"  # the Krylov space became invariant
    NONSYMMETRIC = "nonsymmetric"  # u'Av differs from v'Au by more than rounding
    NONFINITE = "nonfinite"  # a product returned NaN or infinity
    INCONSISTENT = "inconsistent"  # the system has no solution
    INTERRUPTED = "interrupted"  # stopped from outside; what was found is kept
