"""The loop of pruning: judge, remove, measure, and perhaps retrain.

Before a step d at theta its cost is predicted from the second-order model with the exact Hessian,

    predicted = g'd + d'Hd / 2,        actual = E(theta + d) - E(theta),

with the gradient g, which is not 0 once a parameter was removed.  Both are equal where the loss is quadratic in theta,
whatever the method took for the curvature; ``saliencies`` are what the method itself believed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.pruning.retraining import retrained
from krylovh.applications.pruning.saliency import Criterion
from krylovh.applications.pruning.surgeon import CurvatureNotPositive
from krylovh.checks import finite_array
from krylovh.objective import Objective
from krylovh.operators import HessianOperator
from krylovh.progress import ProgressFunction
from krylovh.recording import Recorder, Unrecorded
from krylovh.results import Status
from krylovh.results.pruning import PruningResult

Mask = NDArray[np.bool_]
Positions = NDArray[np.intp]
Retrain = Callable[[Objective, Mask], ArrayLike]

_LISTS = ("saliencies", "predicted", "actual", "losses")

__all__ = ["PruningState", "Removal", "Retrain"]


@dataclass(frozen=True)
class PruningState:
    """Where pruning stands after a step; what callbacks are given."""

    objective: Objective  # at the theta after the step
    mask: Mask  # (P,) True where a parameter remains
    num_removed: int
    validation_loss: float | None


class Removal:
    """The loop, and where it stands."""

    recompute: int
    batch: int
    target: int
    max_loss_change: float | None
    max_validation_change: float | None
    accept: Callable[[PruningState], bool] | None
    callback: Callable[[PruningState], Any] | None
    retrain: Literal["lbfgs"] | Retrain | None
    retrain_limits: tuple[int, float]

    def __init__(
        self, objective: Objective, mask: Mask, allowed: Mask, criterion: Criterion, validation: Objective | None
    ) -> None:
        next(objective.chunks())  # refuses a loss or gradient that is not finite
        self.objective, self.mask, self.allowed, self.criterion = objective, mask.copy(), allowed, criterion
        self.validation = validation
        self.removed: list[int] = []
        self.saliencies: list[float] = []
        self.predicted: list[float] = []
        self.actual: list[float] = []
        self.counts = [0]
        self.losses = [objective.value()]
        self.validation_losses = [] if validation is None else [validation.value()]
        self.record: Recorder = Unrecorded()
        self.snapshot: dict[str, Any] = {}  # state before the step
        self._origin: dict[str, Any] = {"origin_theta": None, "origin_mask": None}  # of the curvature
        self._batches: list[Positions] = []  # removed since, as the criterion counts them
        self.since = 0  # removals since the curvature was computed
        self.num_products, self.num_gradients, self.num_curvatures = 0, 1, 0

    def until_stopped(self, report: ProgressFunction, all_done: str) -> tuple[Status, str]:
        """Make steps; return how and why it ended."""
        try:
            while len(self.removed) < self.target:
                self._keep()
                ended = self._step()
                if ended is not None:
                    return ended
                report(len(self.removed), self.target)
            self._keep()
        except KeyboardInterrupt:
            return Status.INTERRUPTED, "interrupted"
        except CurvatureNotPositive as failure:
            if not self.removed:
                raise ValueError(f"method 'obs' cannot start: {failure}") from None
            return failure.status, str(failure)
        return Status.CONVERGED, all_done

    def _step(self) -> tuple[Status, str] | None:
        """Remove one batch; everything is decided before anything is changed."""
        free = np.flatnonzero(self.mask)
        if self.num_curvatures == 0 or self.since >= self.recompute:
            self.criterion.curvature(self.objective, free)
            self._origin = {"origin_theta": self.objective.net.theta, "origin_mask": self.mask}
            self._batches = []
            self.num_curvatures += 1
            self.since = 0
        candidates = np.flatnonzero(self.allowed[free])
        saliencies = self.criterion.saliencies(self.objective, candidates)
        count = min(self.batch, self.target - len(self.removed))
        order = np.argsort(saliencies, kind="stable")[:count]
        chosen = candidates[order]
        change = np.zeros(self.mask.size)
        change[free] = self.criterion.step(self.objective, chosen)
        theta = self.objective.net.theta.astype(np.float64) + change
        theta[free[chosen]] = 0.0
        mask = self.mask.copy()
        mask[free[chosen]] = False
        if not np.isfinite(theta).all():
            return Status.NONFINITE, "the step is not finite"
        after = self.objective.at(theta)
        exact = after.net.theta.astype(np.float64) - self.objective.net.theta.astype(
            np.float64
        )  # as theta's dtype has it
        H = HessianOperator(self.objective)
        predicted = float(self.objective.gradient().astype(np.float64) @ exact)
        predicted += 0.5 * float(H.quadratic_form(exact[:, None])[0])
        self.num_products += H.num_products
        value = after.value()
        self.num_gradients += 1
        if not np.isfinite(value) or not np.isfinite(after.gradient()).all():
            return Status.NONFINITE, "the loss is not finite after the step"
        actual = value - self.losses[-1]
        if self.retrain is not None:
            after = self._retrained(after, mask)
        validation_loss = None if self.validation is None else self.validation.at(after.net.theta).value()
        state = PruningState(after, mask.copy(), len(self.removed) + count, validation_loss)
        rule = self._broken_rule(state)
        if rule is not None:
            return Status.CONVERGED, rule
        self.criterion.remove(chosen)
        self._batches.append(chosen)
        self.objective, self.mask = after, mask
        self.since += count
        self.removed += [int(i) for i in free[chosen]]
        self.saliencies += [float(s) for s in saliencies[order]]
        self.predicted.append(predicted)
        self.actual.append(actual)
        self.counts.append(len(self.removed))
        self.losses.append(after.value())
        if validation_loss is not None:
            self.validation_losses.append(validation_loss)
        if self.callback is not None and self.callback(state):
            return Status.CONVERGED, "callback"
        return None

    def _keep(self) -> None:
        if self.record.remembers:
            self.snapshot = self._state()
            self.record.offer("removals", lambda: self.snapshot)

    def _state(self) -> dict[str, Any]:
        batches = np.concatenate([np.empty(0, np.intp), *self._batches])
        lists = {name: np.array(getattr(self, name), np.float64) for name in (*_LISTS, "validation_losses")}
        positions = {name: np.array(getattr(self, name), np.int64) for name in ("removed", "counts")}
        return {
            **lists, **positions, **self._origin, "theta": self.objective.net.theta, "mask": self.mask,
            "batches": batches, "batch_sizes": np.array([len(batch) for batch in self._batches], np.int64),
            "since": self.since, "num_gradients": self.num_gradients, "num_curvatures": self.num_curvatures,
            "num_products": self.num_products + self.criterion.num_products,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on after a step of a run before; the curvature is computed anew where it was, and follows from there."""
        if state["origin_theta"] is not None and state["since"] < self.recompute:
            self.mask = state["origin_mask"]
            self.criterion.curvature(self.objective.at(state["origin_theta"]), np.flatnonzero(self.mask))
            self._origin = {name: state[name] for name in self._origin}
            self._batches = np.split(state["batches"], np.cumsum(state["batch_sizes"])[:-1]) if state["since"] else []
            for batch in self._batches:
                self.criterion.remove(batch)
        self.objective, self.mask = self.objective.at(state["theta"]), state["mask"]
        for name in _LISTS:
            setattr(self, name, state[name].tolist())
        self.removed, self.counts = state["removed"].tolist(), state["counts"].tolist()
        if self.validation is not None:
            self.validation_losses = state["validation_losses"].tolist()
        self.since, self.num_gradients = state["since"], state["num_gradients"]
        self.num_curvatures = state["num_curvatures"]
        self.num_products = state["num_products"] - self.criterion.num_products

    def _broken_rule(self, state: PruningState) -> str | None:
        if self.max_loss_change is not None and not state.objective.value() - self.losses[0] <= self.max_loss_change:
            return "max_loss_change"
        if self.max_validation_change is not None:
            assert state.validation_loss is not None
            if not state.validation_loss - self.validation_losses[0] <= self.max_validation_change:
                return "max_validation_change"
        return "accept" if self.accept is not None and not self.accept(state) else None

    def _retrained(self, objective: Objective, mask: Mask) -> Objective:
        if callable(self.retrain):
            theta = finite_array("theta of retrain", self.retrain(objective, mask.copy()), np.float64)
            if theta.shape != mask.shape:
                raise ValueError(f"retrain must return theta of shape {mask.shape}, got {theta.shape}")
            if theta[~mask].any():
                where = int(np.flatnonzero(~mask & (theta != 0))[0])
                raise ValueError(f"retrain must keep removed parameters at 0, got {theta[where]} at {where}")
        elif mask.any():
            theta, evaluations = retrained(objective, mask, *self.retrain_limits)
            self.num_gradients += evaluations
        else:
            return objective
        return objective.at(theta)

    def result(self, status: Status, reason: str, method: str) -> PruningResult:
        """Return what was done."""
        return PruningResult(
            removed=np.array(self.removed, np.int64),
            saliencies=np.array(self.saliencies, np.float64),
            predicted=np.array(self.predicted, np.float64),
            actual=np.array(self.actual, np.float64),
            num_removed=np.array(self.counts, np.int64),
            losses=np.array(self.losses, np.float64),
            validation_losses=None if self.validation is None else np.array(self.validation_losses, np.float64),
            mask=self.mask,
            theta=self.objective.net.theta.astype(np.float64),
            status=status,
            stop_reason=reason,
            method=method,
            num_products=self.num_products + self.criterion.num_products,
            num_gradients=self.num_gradients,
            num_curvatures=self.num_curvatures,
        )
