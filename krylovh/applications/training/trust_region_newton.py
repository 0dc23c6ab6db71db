"""Newton's method with a trust region: exact curvature, negative curvature included, one truncated solve per step.

The step minimises the quadratic model by conjugate gradients as far as the boundary of the region (Steihaug, Toint).
Where the objective does not follow, the step is not thrown away: it is a descent direction, and a backtracking search
along it costs evaluations, not products (Nocedal and Yuan); the radius is then what the search found.  The first region
is infinite, so that on a convex quadratic the first step is Newton's.

Far from a minimum the exact Hessian has many negative eigenvalues, and the region cuts most steps short; on request the
positive semidefinite Gauss-Newton matrix takes its place there.

The inner solve becomes more accurate as the gradient falls, ``|r| <= min(1/10, sqrt(|g| / |g_0|)) |g|``, which makes
convergence superlinear (Dembo, Eisenstat and Steihaug).

References
----------
Nocedal and Yuan (1998), Combining trust region and line search techniques.
Dembo, Eisenstat and Steihaug (1982), Inexact Newton methods.
Conn, Gould and Toint (2000), Trust-region methods.
"""

import numpy as np
from numpy.typing import NDArray

from krylovh.applications.training.curvature import Curvature
from krylovh.applications.training.descent import Descent, Step
from krylovh.applications.training.line_search import backtrack
from krylovh.applications.training.preconditioning import Preconditioning
from krylovh.applications.training.truncated_cg import truncated_cg
from krylovh.objective import Objective
from krylovh.results import Status

Array = NDArray[np.float64]

LOOSEST = 0.1  # inner residual of the first solve, relative to the gradient
RENEWAL = 1.5  # close to the minimum a preconditioner is renewed when solves take this many times what the first took

__all__ = ["is_quadratic", "trust_region_newton"]


def trust_region_newton(
    descent: Descent,
    curvature: Curvature,
    preconditioning: Preconditioning,
    forcing: float | None,
    gauss_newton_until: float | None,
) -> Status:
    """Minimise by Newton's method; return how it ended.

    ``forcing`` is the relative residual of all inner solves, by default the sequence above.  Until the
    gradient norm is first at most ``gauss_newton_until`` times that at the start, the curvature is Gauss-Newton.
    """
    kept = descent.kept  # of a run that is resumed
    radius, start_norm = kept.get("radius", np.inf), kept.get("start_norm", descent.gradient_norm)
    exact = is_quadratic(descent.objective)  # a second iteration could only repeat what the first left over
    far_away = kept.get("far_away", gauss_newton_until is not None)
    preconditioner, renew = descent.preconditioner, kept.get("renew", True)
    first_count, used = kept.get("first_count", 0), kept.get("used", 0)
    while (
        verdict := descent.verdict(
            curvature, radius=radius, start_norm=start_norm, far_away=far_away,
            renew=renew, first_count=first_count, used=used,
        )
    ) is None:  # fmt: skip
        objective, gradient = descent.objective, descent.gradient
        far_away = far_away and descent.gradient_norm > (gauss_newton_until or 0.0) * start_norm
        curvature.gauss_newton = far_away
        operator = descent.count(curvature.at(objective))
        if renew:
            descent.spend(preconditioning.price)
            preconditioner = preconditioning.at(objective, operator, 0.0, rows=curvature.rows)
        rtol = min(LOOSEST, np.sqrt(descent.gradient_norm / start_norm)) if forcing is None else forcing
        if exact and forcing is None:
            rtol = 0.1 * min(1.0, descent.target / descent.gradient_norm)

        found = truncated_cg(
            descent.products(operator),
            gradient,
            rtol=float(rtol),
            radius=radius,
            preconditioner=None if preconditioner is None else preconditioner.matvec,
            max_iterations=10 * gradient.size,
            eps=curvature.eps,
        )
        if found.status == Status.NONFINITE:
            return Status.NONFINITE
        accepted = backtrack(descent, found.step, float(gradient @ found.step), found.model)
        if accepted is None:
            return Status.STAGNATED
        trial, length, ratio = accepted
        radius = _next_radius(radius, length * found.norm, ratio, length, found.status)
        if renew:
            first_count, used = max(found.num_iterations, 5), 0
        used += found.num_iterations + 2  # value and gradient cost about two products
        far = found.status != Status.CONVERGED or found.num_iterations > RENEWAL * first_count
        renew = preconditioner is not None and far and preconditioning.worth_renewing(objective, used)
        descent.accept(trial, Step(found.status, found.num_iterations, radius=radius))
    return verdict


def is_quadratic(objective: Objective) -> bool:
    """Return whether the objective is a quadratic function of theta: linear regression.

    Examples
    --------
    >>> from krylovh import Network
    >>> is_quadratic(Objective(Network((1, 1), "identity"), [[1.0]], [1.0], loss="squared_error"))
    True
    """
    net = objective.net
    return objective.loss == "squared_error" and net.depth == 1 and net.activations == ("identity",)


def _next_radius(radius: float, norm: float, ratio: float, length: float, status: Status) -> float:
    """Return the radius of the next region from what the last step, of this norm, did on the objective."""
    if length < 1.0:
        return norm
    if ratio < 0.25:
        return 0.5 * norm
    if ratio > 0.75 and status in (Status.BOUNDARY, Status.NEGATIVE_CURVATURE):
        return (3.0 if ratio > 0.9 else 2.0) * norm
    return radius
