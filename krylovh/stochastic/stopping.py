"""What may end an estimate early, and the status that it gives."""

from collections.abc import Iterator
from contextlib import contextmanager

from krylovh.krylov.stops import STOPS, status_of
from krylovh.results import Status

__all__ = ["NotPositive", "Outcome", "stopping"]


class NotPositive(Exception):
    """A direction of negative curvature was met where there must be none."""


class Outcome:
    """How a computation ended."""

    def __init__(self) -> None:
        self.status = Status.CONVERGED

    def missed(self, reached: bool) -> None:
        """Take note of whether the target was reached."""
        if not reached:
            self.status = Status.BUDGET

    def stagnated(self) -> None:
        """Take note that going on would not reach the target."""
        self.status = Status.STAGNATED


@contextmanager
def stopping() -> Iterator[Outcome]:
    """Turn what stops a computation into the status of its outcome; what was found so far is the caller's to keep.

    Examples
    --------
    >>> with stopping() as outcome:
    ...     raise KeyboardInterrupt
    >>> outcome.status
    <Status.INTERRUPTED: 'interrupted'>
    """
    outcome = Outcome()
    try:
        yield outcome
    except STOPS as stop:
        outcome.status = status_of(stop)
    except NotPositive:
        outcome.status = Status.NEGATIVE_CURVATURE
