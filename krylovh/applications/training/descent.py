"""A point on its way downhill: where it is, what it has cost, and how far it has come.

All methods move a :class:`Descent`.  It evaluates trial points, counts, keeps within the budget, and remembers every
accepted point, so that whatever ends a method, what was found is there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult
from scipy.sparse.linalg import LinearOperator

from krylovh.applications.training.curvature import Curvature
from krylovh.applications.training.preconditioning import Preconditioning
from krylovh.objective import Objective
from krylovh.progress import ProgressFunction
from krylovh.recording import Recorder, Unrecorded
from krylovh.results import Status, TrainingResult

Array = NDArray[np.float64]
Callback = Callable[[OptimizeResult], Any]

__all__ = ["Callback", "Descent", "Limits", "OutOfBudget", "Step"]


class OutOfBudget(Exception):
    """The next product or gradient would exceed what the caller allows."""


@dataclass(frozen=True)
class Limits:
    """When to stop: convergence of the gradient norm, and budgets."""

    tol: float
    gtol: float
    max_iterations: int
    max_products: int | None
    max_seconds: float | None


@dataclass(frozen=True)
class Step:
    """What is remembered of one iteration besides the point it led to."""

    inner_status: Status
    inner_iterations: int
    radius: float = np.nan
    damping: float = np.nan


class Descent:
    """The current point, its cost and its history.

    Parameters
    ----------
    objective : Objective
        At the starting point.
    limits : Limits
    callback : callable or None
        Called with an ``OptimizeResult`` after each iteration.
    report : callable
        Of progress: (iterations done, iterations at most).
    preconditioning : Preconditioning
        Whose products count as well.
    """

    def __init__(
        self,
        objective: Objective,
        limits: Limits,
        callback: Callback | None,
        report: ProgressFunction,
        preconditioning: Preconditioning,
    ) -> None:
        self.limits = limits
        self.record: Recorder = Unrecorded()
        #: what a method has kept for its next iteration in a run before
        self.kept: dict[str, Any] = {}
        self.preconditioner: Any = None  # of a run before
        self.snapshot: dict[str, Any] = {}  # state at the beginning of this iteration
        self._preconditioning = preconditioning
        self._callback = callback
        self._report = report
        self._start = time.monotonic()
        self._agree = objective.agree
        self._operators: list[Any] = []  # those that are counting
        self._counted = 0
        self.num_gradients = 0
        self._rows: list[tuple[float, ...]] = []
        self._inner: list[Status] = []
        self.finite = self._finite(objective)
        self._move(objective)
        first = self.gradient_norm if self.finite else np.nan
        self._set_target(first)
        self._remember(0.0, Step(Status.CONVERGED, 0))

    @property
    def theta(self) -> Array:
        """The current point, float64."""
        return self._theta

    @property
    def nit(self) -> int:
        """Iterations done."""
        return len(self._inner)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def num_products(self) -> int:
        """Products with all curvature operators so far."""
        current = sum(int(operator.num_products) for operator in self._operators)
        return self._counted + current + self._preconditioning.num_products

    @property
    def products_left(self) -> float:
        """Products that may still be made."""
        return np.inf if self.limits.max_products is None else self.limits.max_products - self.num_products

    @property
    def time_is_up(self) -> bool:
        """Whether ``max_seconds`` are over."""
        return self.limits.max_seconds is not None and self._agree(self.seconds >= self.limits.max_seconds)

    def count(self, operator: Any) -> Any:
        """Count the products of an operator from now on, and return it; those of earlier operators are settled."""
        self._counted += sum(int(earlier.num_products) for earlier in self._operators) - int(operator.num_products)
        self._operators = [operator]
        return operator

    def spend(self, products: int = 1) -> None:
        """Ask for products before they are made; raises OutOfBudget."""
        if products > self.products_left or self.time_is_up:
            raise OutOfBudget

    def products(self, operator: LinearOperator, damping: float = 0.0) -> Callable[[Array], Array]:
        """Return what multiplies by an operator plus damping, within the budget."""

        def product(v: Array) -> Array:
            self.spend()
            Bv = operator.matvec(v)
            return np.asarray(Bv + damping * v if damping else Bv, dtype=np.float64)

        return product

    def verdict(self, curvature: Curvature, **kept: Any) -> Status | None:
        """Return how the method has ended, or None if it goes on; the beginning of an iteration.

        ``kept`` is what the method needs to go on from here, besides what is known anyway.
        """
        if self.record.remembers:
            own = {f"kept_{name}": value for name, value in kept.items()}
            self.snapshot = {**self._state(), **curvature.state(), **self._preconditioning.state(), **own}
            self.record.offer("iteration", lambda: self.snapshot)
        if not self.finite:
            return Status.NONFINITE
        if self.gradient_norm <= self.target:
            return Status.CONVERGED
        if self.nit >= self.limits.max_iterations or self.time_is_up or self.products_left < 1:
            return Status.BUDGET
        return None

    def trial(self, theta: Array) -> Objective | None:
        """Return the objective at a trial point, None where it or its gradient is not finite."""
        if self.time_is_up:
            raise OutOfBudget
        if not np.isfinite(theta).all():
            return None
        trial = self.objective.at(theta.astype(self.objective.net.theta.dtype))
        return trial if self._finite(trial) else None

    def accept(self, trial: Objective, step: Step) -> None:
        """Move to a trial point: the end of an iteration."""
        before = self._theta
        self._move(trial)
        self._inner.append(step.inner_status)
        self._remember(float(np.linalg.norm(self._theta - before)), step)
        self._report(self.nit, self.limits.max_iterations)
        if self._callback is not None:
            self._callback(OptimizeResult(x=self._theta.copy(), fun=self.value, jac=self.gradient.copy(), nit=self.nit))

    def result(self, method: str, status: Status, message: str) -> TrainingResult:
        """Return what was found."""
        columns = [np.array(column) for column in zip(*self._rows, strict=True)]
        value, norm, radius, damping, moved, inner, products, gradients, seconds = columns
        return TrainingResult(
            x=self._theta.copy(),
            fun=self.value,
            jac=self.gradient.copy(),
            nit=self.nit,
            nfev=self.num_gradients,
            njev=self.num_gradients,
            nhev=self.num_products,
            num_products=self.num_products,
            num_gradients=self.num_gradients,
            success=status == Status.CONVERGED,
            status=status,
            message=message,
            method=method,
            gradient_norm=self.gradient_norm,
            target=self.target,
            seconds=self.seconds,
            value_history=value,
            gradient_norm_history=norm,
            radius_history=radius,
            damping_history=damping,
            step_norm_history=moved,
            inner_iterations_history=inner.astype(np.int64),
            num_products_history=products.astype(np.int64),
            num_gradients_history=gradients.astype(np.int64),
            seconds_history=seconds,
            inner_status_history=tuple(self._inner) or None,
        )

    def _state(self) -> dict[str, Any]:
        return {
            "theta": self._theta,
            "history": np.array(self._rows, dtype=np.float64),
            "inner": " ".join(status.value for status in self._inner),
            "counted": self.num_products - self._preconditioning.num_products,
            "num_products": self.num_products,
            "num_gradients": self.num_gradients,
            "seconds": self.seconds,
            "first_gradient_norm": float(self._rows[0][1]),
        }

    def restore(self, state: dict[str, Any], curvature: Curvature) -> None:
        """Go on from the beginning of an iteration of a run before."""
        self.kept = {name[5:]: value for name, value in state.items() if name.startswith("kept_")}
        curvature.restore(state)
        self.preconditioner = self._preconditioning.restore(state, self.objective, curvature)
        self._move(self.objective.at(state["theta"].astype(self.objective.net.theta.dtype)))
        self._rows = [tuple(row) for row in state["history"].tolist()]
        self._inner = [Status(word) for word in state["inner"].split()]
        self._counted, self.num_gradients = state["counted"], state["num_gradients"]
        self._start = time.monotonic() - state["seconds"]
        self._set_target(state["first_gradient_norm"])

    def _set_target(self, first: float) -> None:
        self.target = max(self.limits.gtol, self.limits.tol * first)

    def _finite(self, objective: Objective) -> bool:
        self.num_gradients += 1
        return bool(np.isfinite(objective.value()) and np.isfinite(objective.gradient()).all())

    def _move(self, objective: Objective) -> None:
        self.objective = objective
        self._theta = objective.net.theta.astype(np.float64)
        self.value = objective.value()
        self.gradient: Array = objective.gradient().astype(np.float64)
        self.gradient_norm = float(np.linalg.norm(self.gradient))

    def _remember(self, moved: float, step: Step) -> None:
        costs = (self.num_products, self.num_gradients, self.seconds)
        self._rows.append(
            (self.value, self.gradient_norm, step.radius, step.damping, moved, step.inner_iterations, *costs)
        )
