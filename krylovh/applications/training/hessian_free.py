"""Hessian-free optimisation after Martens: damped Gauss-Newton steps from truncated conjugate gradients.

The model is ``q(s) = g's + s'(G + damping I)s / 2``.  What makes it work on deep nets: the damping follows the
reduction ratio; conjugate gradients start from the last solution, shrunk, and end when progress on the model becomes
slow; of the iterates on the way that one is taken which is lowest on the objective; and a line search has the last
word.  The gradient is that of all samples, the curvature may be that of a batch.

References
----------
Martens (2010), Deep learning via Hessian-free optimization.
Martens and Sutskever (2012), Training deep and recurrent networks with Hessian-free optimization.
"""

import numpy as np
from numpy.typing import NDArray

from krylovh.applications.training.curvature import Curvature
from krylovh.applications.training.damping import LevenbergMarquardtRule
from krylovh.applications.training.descent import Descent, Step
from krylovh.applications.training.line_search import backtrack
from krylovh.applications.training.preconditioning import Preconditioning
from krylovh.applications.training.truncated_cg import ModelStep, truncated_cg
from krylovh.results import Status

Array = NDArray[np.float64]

DECAY = 0.95  # of the last solution, from which the next solve starts
PROGRESS = 5e-4  # relative fall of the model per iteration below which a solve ends
MAX_INNER = 250
START = 1e-3  # first damping, relative to the curvature along the gradient

__all__ = ["hessian_free"]


def hessian_free(
    descent: Descent,
    curvature: Curvature,
    preconditioning: Preconditioning,
    damping: float | None,
    forcing: float | None,
) -> Status:
    """Minimise by damped Gauss-Newton steps; return how it ended.

    ``damping`` is the first one, by default a thousandth of the curvature along the gradient; ``forcing`` a relative
    residual at which inner solves end, besides the rule of slow progress.
    """
    kept = descent.kept  # of a run that is resumed
    last: Array | None = kept.get("last")
    rule = None if kept.get("damping") is None else LevenbergMarquardtRule(kept["damping"])
    used = kept.get("used", 0)
    while (
        verdict := descent.verdict(curvature, last=last, damping=None if rule is None else rule.value, used=used)
    ) is None:
        objective, gradient = descent.objective, descent.gradient
        operator = descent.count(curvature.at(objective))
        if rule is None:
            rule = LevenbergMarquardtRule(
                START * curvature_along_gradient(descent, operator) if damping is None else damping
            )
        lam = rule.value
        descent.spend(preconditioning.price)
        renew = used == 0 or preconditioning.worth_renewing(objective, used)
        used = 0 if renew else used
        preconditioner = preconditioning.at(objective, operator, lam, renew=renew, rows=curvature.rows)

        found = truncated_cg(
            descent.products(operator, lam),
            gradient,
            start=None if last is None else DECAY * last,
            rtol=_floor(descent) if forcing is None else forcing,
            progress_tol=PROGRESS,
            preconditioner=None if preconditioner is None else preconditioner.matvec,
            max_iterations=MAX_INNER,
            eps=curvature.eps,
            keep_path=True,
        )
        used += found.num_iterations
        if found.status == Status.NONFINITE:
            return Status.NONFINITE
        step, model = lowest_on_the_way(descent, found)
        slope = float(gradient @ step)
        if not slope < 0:  # a batch has misled the solve, or the last solution points elsewhere now: start from zero
            if last is None:
                return Status.STAGNATED
            last = None
            continue
        accepted = backtrack(descent, step, slope, model)
        if accepted is None:
            if last is None:
                return Status.STAGNATED
            last = None
            continue
        trial, _, ratio = accepted
        rule.update(ratio)
        last = found.step
        descent.accept(trial, Step(found.status, found.num_iterations, damping=rule.value))
    return verdict


def lowest_on_the_way(descent: Descent, found: ModelStep) -> tuple[Array, float]:
    """Return the last of the kept iterates before the objective begins to rise again, looking back from the end."""
    best, model = found.path[-1]
    trial = descent.trial(descent.theta + best)
    value = np.inf if trial is None else trial.value()
    for step, q in reversed(found.path[:-1]):
        trial = descent.trial(descent.theta + step)
        before = np.inf if trial is None else trial.value()
        if not before < value and np.isfinite(value):
            break
        best, model, value = step, q, before
    return best, model


def curvature_along_gradient(descent: Descent, operator: object) -> float:
    """Return the Rayleigh quotient of the gradient, which is of the order of the large eigenvalues; 1 if it is 0.

    Costs one product.
    """
    descent.spend()
    g = descent.gradient / descent.gradient_norm
    quotient = float(g @ operator.matvec(g))  # type: ignore[attr-defined]
    return quotient if np.isfinite(quotient) and quotient > 0 else 1.0


def _floor(descent: Descent) -> float:
    """Return the relative residual below which an inner solve gains nothing: a tenth of what is still asked for."""
    return 0.1 * min(1.0, descent.target / descent.gradient_norm)
