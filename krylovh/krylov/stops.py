"""What ends a computation before its time, and what that is called."""

from krylovh.krylov.symmetric import BudgetSpent, NonFiniteProduct
from krylovh.results import Status

__all__ = ["STOPS", "is_final", "status_of"]

#: what may end a computation early; a closing computation is ended by the first two alone
STOPS = (BudgetSpent, NonFiniteProduct, KeyboardInterrupt)


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


def is_final(status: Status, max_seconds: float | None) -> bool:
    """Return whether a run that ended so would end so again, so that there is nothing to be resumed.

    Examples
    --------
    >>> is_final(Status.CONVERGED, None), is_final(Status.INTERRUPTED, None), is_final(Status.BUDGET, 10.0)
    (True, False, False)
    """
    return status not in (Status.INTERRUPTED, Status.NONFINITE) and (status != Status.BUDGET or max_seconds is None)
