"""Lockstep processes from the first step to the last as one piece of a run that can be resumed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.lockstep import LockstepLanczos
from krylovh.krylov.symmetric import BudgetSpent, SymmetricOperator

Array = NDArray[np.float64]

__all__ = ["Tridiagonals", "finished_processes"]


@dataclass(frozen=True)
class Tridiagonals:
    """What is left of processes that have ended; named as in :class:`LockstepLanczos`."""

    alphas: Array  # (b, steps)
    betas: Array  # (b, steps)
    steps: NDArray[np.intp]  # (b,)
    invariant: NDArray[np.bool_]  # (b,)
    exponent: int
    tolerance: float

    @staticmethod
    def of(processes: LockstepLanczos) -> "Tridiagonals":
        """Return the matrices of processes as far as they have come."""
        p = processes
        return Tridiagonals(p.alphas, p.betas, p.steps, p.invariant, p.exponent, p.tolerance)


def finished_processes(
    operator: SymmetricOperator,
    name: str,
    start: Callable[[], LockstepLanczos],
    stepped: Callable[[LockstepLanczos], None],
    stopped: Callable[[Tridiagonals], None],
) -> Tridiagonals:
    """Run processes to their end, or take their matrices from the memory of the run.

    Parameters
    ----------
    operator : SymmetricOperator
    name : str
        Tells these processes from all others of the run.
    start : callable
        Returns the processes before their first step.
    stepped : callable
        Is given them after each step.
    stopped : callable
        Is given their matrices if a step raises an exception, which then goes on.

    Examples
    --------
    >>> A = SymmetricOperator(np.diag([1.0, 1.0, 3.0, 3.0]))
    >>> def start():
    ...     return LockstepLanczos(A, np.full((4, 1), 0.5), 4)
    >>> finished_processes(A, "only", start, lambda processes: None, lambda found: None).steps
    array([2])
    """

    def compute() -> tuple[NDArray[Any], ...]:
        processes = start()
        if (state := operator.record.state(name)) is not None:
            processes.restore(state)
        try:
            while processes.active.size:
                operator.record.offer(name, processes.state)
                processes.step()
                stepped(processes)
        except BaseException as stop:
            if isinstance(stop, BudgetSpent):  # nothing of the step was done
                operator.record.offer(name, processes.state, force=True)
            stopped(Tridiagonals.of(processes))
            raise
        scale = np.array([float(processes.exponent), processes.tolerance])
        return processes.alphas, processes.betas, processes.steps, processes.invariant, scale

    alphas, betas, steps, invariant, scale = operator.record.unit(name, operator, compute)
    return Tridiagonals(
        np.ascontiguousarray(alphas),
        np.ascontiguousarray(betas),
        steps.astype(np.intp),
        invariant.astype(np.bool_),
        int(scale[0]),
        float(scale[1]),
    )
