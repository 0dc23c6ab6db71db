"""Newton's method with conjugate gradients in a trust region, from any start to a gradient norm.

Each step solves ``H p = -g`` within ``|p| <= radius`` (Steihaug), to an accuracy that tightens as gradients fall
(Eisenstat and Walker), and is taken if the objective falls as the quadratic predicts.  Close to the optimum, where the
objective's changes are lost in its own rounding, they are computed from both gradients instead:
``E(theta + p) - E(theta) = (g + g_new)'p / 2`` to third order in p.

References
----------
Steihaug (1983), The conjugate gradient method and trust regions in large scale optimization.
Eisenstat and Walker (1996), Choosing the forcing terms in an inexact Newton method.
Conn, Gould and Toint (2000), Trust-region methods, 6.1 and 17.4.2.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov import cg
from krylovh.objective import Objective
from krylovh.operators import HessianOperator
from krylovh.results import SolveResult, Status

Array = NDArray[np.float64]

LOOSEST = 0.3  # forcing term of the first step, and the largest of all
ACCEPTED = 0.05  # smallest ratio of actual to predicted fall with which a step is taken
NOISE = 1e3  # falls below this many roundings of the objective are computed from gradients

__all__ = ["Descent", "newton_cg"]


@dataclass
class Descent:
    """Where Newton's method is: theta with its objective, and what it has cost."""

    objective: Objective  # at theta
    theta: Array
    gradient: Array
    status: Status = Status.BUDGET
    num_products: int = 0
    num_gradients: int = 1
    gradient_history: list[float] = field(default_factory=list)
    step_history: list[float] = field(default_factory=list)

    @classmethod
    def at(cls, objective: Objective, theta: Array) -> "Descent":
        """Start somewhere; costs one gradient."""
        here = objective.at(theta)
        gradient = here.gradient().astype(np.float64)
        return cls(here, theta.copy(), gradient, gradient_history=[float(np.linalg.norm(gradient))])

    @property
    def gradient_norm(self) -> float:
        """Length of the gradient."""
        return float(np.linalg.norm(self.gradient))

    def solve(self, rtol: float, preconditioner: Any, radius: float | None, max_products: int | None) -> SolveResult:
        """Solve ``H p = -g``."""
        kept = 0 if radius is None else 1  # for the curvature of a step to the boundary
        left = None if max_products is None else max(max_products - self.num_products - kept, 0)
        found = cg(
            HessianOperator(self.objective),
            -self.gradient,
            rtol=rtol,
            preconditioner=preconditioner,
            radius=radius,
            max_products=left,
        )
        self.num_products += found.num_products
        return found

    def look(self, p: Array, curvature: float | None = None) -> tuple["Descent", float, float]:
        """Return where a step leads, the fall that the quadratic predicts, and the actual one; one gradient.

        ``curvature`` is p'Hp; not given, p is an iterate of conjugate gradients, for which it is -g'p.
        """
        new = Descent.at(self.objective, self.theta + p)
        self.num_gradients += 1
        slope = float(self.gradient @ p)
        predicted = -slope / 2 if curvature is None else -slope - curvature / 2
        before = self.objective.value()
        noise = NOISE * float(np.finfo(self.objective.dtype).eps) * abs(before)
        actual = before - new.objective.value()
        if abs(predicted) <= noise and abs(actual) <= noise:
            actual = -float((self.gradient + new.gradient) @ p) / 2
        return new, predicted, actual

    def move(self, new: "Descent", p: Array) -> None:
        """Take a step."""
        self.objective, self.theta, self.gradient = new.objective, new.theta, new.gradient
        self.gradient_history.append(self.gradient_norm)
        self.step_history.append(float(np.linalg.norm(p)))


def newton_cg(
    descent: Descent,
    target: float,
    *,
    radius: float | None = None,
    preconditioner: Any = None,
    max_products: int | None = None,
    max_steps: int = 500,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Status:
    """Go on until the gradient norm is at most ``target``; ``descent`` moves, and keeps what was found in any case.

    The radius starts at that of the parameters, |theta|, or at the length of the gradient's step to the minimum of the
    quadratic along it where theta is zero.
    """
    try:
        descent.status = _iterate(descent, target, radius, preconditioner, max_products, max_steps, report)
    except KeyboardInterrupt:
        descent.status = Status.INTERRUPTED
    return descent.status


def _iterate(
    descent: Descent,
    target: float,
    radius: float | None,
    preconditioner: Any,
    max_products: int | None,
    max_steps: int,
    report: Callable[[int, int], None],
) -> Status:
    forcing, failures = LOOSEST, 0
    if radius is None:
        radius = float(np.linalg.norm(descent.theta))
    for step in range(max_steps):
        norm = descent.gradient_norm
        if norm <= target:
            return Status.CONVERGED
        if not np.isfinite(norm):
            return Status.NONFINITE
        if radius == 0.0:
            if max_products is not None and descent.num_products >= max_products:
                return Status.BUDGET
            radius = _cauchy_length(descent)
        found = descent.solve(max(forcing, min(0.5, 0.5 * target / norm)), preconditioner, radius, max_products)
        p = found.x
        if found.status in (Status.INTERRUPTED, Status.NONFINITE):
            return found.status
        if not p.any():
            return Status.BUDGET if found.status == Status.BUDGET else Status.STAGNATED
        at_boundary = found.status in (Status.BOUNDARY, Status.NEGATIVE_CURVATURE)
        curvature = None
        if at_boundary:  # the residual is not orthogonal to the last iterate
            curvature = float(HessianOperator(descent.objective).quadratic_form(p[:, None])[0])
            descent.num_products += 1
        new, predicted, actual = descent.look(p, curvature)
        ratio = actual / predicted if predicted > 0 else -np.inf
        length = float(np.linalg.norm(p))
        taken = ratio >= ACCEPTED and bool(np.isfinite(new.gradient).all())
        if ratio < 0.25 or not taken:
            radius = 0.25 * min(radius, length)
        elif ratio > 0.75 and at_boundary:
            radius = 2 * radius
        if taken:
            failures = 0
            descent.move(new, p)
            forcing = min(LOOSEST, 0.9 * (descent.gradient_norm / norm) ** 2)
        else:
            failures += 1
            if length <= 10 * np.finfo(np.float64).eps * float(np.linalg.norm(descent.theta)) or failures > 30:
                return Status.STAGNATED
        report(step + 1, max_steps)
        if found.status == Status.BUDGET:
            break
    return Status.CONVERGED if descent.gradient_norm <= target else Status.BUDGET


def _cauchy_length(descent: Descent) -> float:
    """Return how far along -g the quadratic falls, or |g| over the curvature's magnitude."""
    product = HessianOperator(descent.objective) @ descent.gradient
    descent.num_products += 1
    norm = descent.gradient_norm
    curvature = abs(float(descent.gradient @ product)) / norm**2
    return norm / curvature if curvature > 0 else 1.0
