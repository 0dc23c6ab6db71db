"""What ends a computation before its time, and what that is called."""

from krylovh.krylov.symmetric import BudgetSpent, NonFiniteProduct
from krylovh.results import Status

__all__ = ["STOPS", "status_of"]

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
