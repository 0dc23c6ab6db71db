"""Fast retraining: a few Newton steps from the old solution when samples go or come.

The Hessian of the old problem, known through its leading eigenpairs, preconditions the solves of the new one.  As long
as steps are short and the objective falls as its quadratic says, plain Newton steps are taken; where one is too long,
meets negative curvature or disappoints, a trust region takes over.

The certificate.  Where ``H >= mu I`` everywhere, the optimum is within ``|g| / mu`` of theta (strong convexity).  Where
``H >= mu I`` is known at theta alone, and H changes by at most M per unit of distance, Kantorovich's theorem says that
for ``h = M |g| / mu^2 <= 1/2`` there is a stationary point within ``2 |g| / (mu (1 + sqrt(1 - 2h)))``.

References
----------
Kantorovich (1948), Functional analysis and applied mathematics.
Ortega and Rheinboldt (1970), Iterative solution of nonlinear equations in several variables, 12.6.
Guo, Goldstein, Hannun and van der Maaten (2020), Certified data removal from machine learning models.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.influence.left_out_data import altered, checked_rows
from krylovh.applications.influence.newton import ACCEPTED, Descent, newton_cg
from krylovh.checks import finite_array, whole_number
from krylovh.krylov import RitzDeflation, eigsh
from krylovh.objective import Objective
from krylovh.operators import HessianOperator
from krylovh.progress import Progress, ProgressFunction, reporting
from krylovh.results import EigenResult, RetrainResult, Status

Array = NDArray[np.float64]

FIRST_FORCING = 0.01  # accuracy of the first solve: the quadratic is good, or the step is not taken
MAX_STEPS = 100
LIPSCHITZ_MARGIN = 10.0  # how much larger the Hessian's rate of change may be off the segment

__all__ = ["retrain"]


def retrain(
    objective: Objective,
    *,
    remove: ArrayLike | None = None,
    add: Any = None,
    eigenpairs: EigenResult | None = None,
    preconditioner: Any = None,
    tol: float = 1e-8,
    max_step: float = 0.5,
    max_products: int | None = None,
    certify: bool = True,
    compare_start: ArrayLike | None = None,
    rng: int | np.random.Generator | None = None,
    progress: Progress = False,
) -> RetrainResult:
    """Retrain on changed data from the old solution, which is the objective's theta.

    Parameters
    ----------
    objective : Objective
        On the old data, at its minimum.
    remove : array_like, optional
        Positions of samples that go, or a mask (N,).
    add : tuple (X, y) or (X, y, weight), optional
        Samples that come.
    eigenpairs : EigenResult, optional
        The largest eigenpairs of the old Hessian, which precondition all solves (:class:`RitzDeflation`).
    preconditioner : LinearOperator, optional
        Another approximate inverse of the Hessian, instead.
    tol : float
        The net is retrained when the gradient norm is at most ``tol |b|``, with b the gradient of the new data's loss
        without the regulariser at the old theta, or of the new objective there if that is larger.
    max_step : float
        Full retraining takes over where a Newton step is longer than ``max_step |theta|``.  It also does where negative
        curvature is met, or where the objective falls by less than a quarter of what its quadratic predicts.
    max_products : int, optional
        Budget of products, those of the certificate included.
    certify : bool
        Bound the distance to the optimum.  Costs nothing for a net that is linear in its parameters with a positive l2;
        otherwise the smallest eigenvalue of H and two products.
    compare_start : array_like, shape (P,), optional
        Also train from these parameters, to the same gradient norm and by the same method without preconditioner, and
        report what that costs; nothing is reported if it does not get there.
    rng : int, Generator or None
        Seed of the eigensolver of the certificate.
    progress : bool or callable
        True for a bar on standard error, or a function of (steps, largest number of steps).

    Returns
    -------
    RetrainResult
        ``status`` is "converged", "stagnated" (rounding forbids a smaller gradient), "budget", "interrupted" or
        "nonfinite"; theta is the best one in any case.

    Raises
    ------
    ValueError, TypeError
        Where an argument makes no sense, or nothing is changed.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [3.0], bias=False)
    >>> objective = Objective(net, np.ones((3, 1)), [0.0, 3.0, 6.0], loss="squared_error", l2=1e-9)
    >>> result = retrain(objective, remove=[2], max_step=1.0)
    >>> str(result.status), result.num_products, result.theta.round(6)
    ('converged', 2, array([1.5]))
    """
    if remove is None and add is None:
        raise ValueError("remove or add must be given: nothing changes")
    if eigenpairs is not None and preconditioner is not None:
        raise ValueError("eigenpairs and preconditioner must not both be given")
    if not 0 <= tol < 1:
        raise ValueError(f"tol must be in [0, 1), got {tol}")
    if not max_step > 0:
        raise ValueError(f"max_step must be positive, got {max_step}")
    if max_products is not None:
        max_products = whole_number("max_products", max_products, 0)
    P = objective.num_parameters
    start = None if compare_start is None else finite_array("compare_start", compare_start, np.float64)
    if start is not None and start.shape != (P,):
        raise ValueError(f"compare_start must have shape ({P},), got {start.shape}")
    if eigenpairs is not None:
        if eigenpairs.eigenvectors.shape[0] != P:
            raise ValueError(f"eigenpairs must have vectors of length {P}, got {eigenpairs.eigenvectors.shape[0]}")
        preconditioner = RitzDeflation(eigenpairs)
    index = None if remove is None else checked_rows("remove", remove, objective.num_samples)
    changed = altered(objective, index, add)
    old = objective.net.theta.astype(np.float64)
    descent = Descent.at(changed, old)
    ridge = changed.l2 * old if changed.l2.size else np.zeros(P)
    target = tol * max(descent.gradient_norm, float(np.linalg.norm(descent.gradient - ridge)))
    with reporting(progress, "retrain") as report:
        reason = _newton_steps(descent, target, preconditioner, max_step, max_products, report)
        if reason:
            radius = max_step * float(np.linalg.norm(old))
            newton_cg(
                descent, target, radius=radius, preconditioner=preconditioner, max_products=max_products, report=report
            )
        certificate = _Certificate.none("none was asked for")
        if certify and descent.status in (Status.CONVERGED, Status.STAGNATED):
            left = None if max_products is None else max_products - descent.num_products
            certificate = _certificate(descent, old, eigenpairs, left, rng)
        baseline = None
        if start is not None and descent.status != Status.INTERRUPTED:
            baseline = Descent.at(changed, start)
            if newton_cg(baseline, target, report=report) != Status.CONVERGED:
                baseline = None  # half a training is nothing to compare with
    return RetrainResult(
        theta=descent.theta,
        status=descent.status,
        gradient_norm=descent.gradient_norm,
        distance_bound=certificate.distance,
        curvature_bound=certificate.curvature,
        hessian_lipschitz=certificate.lipschitz,
        assumption=certificate.assumption,
        switched=bool(reason),
        reason=reason,
        num_products=descent.num_products + certificate.num_products,
        certificate_products=certificate.num_products,
        num_gradients=descent.num_gradients,
        gradient_history=np.array(descent.gradient_history),
        step_history=np.array(descent.step_history),
        products_from_start=None if baseline is None else baseline.num_products,
        gradients_from_start=None if baseline is None else baseline.num_gradients,
    )


def _newton_steps(
    descent: Descent,
    target: float,
    preconditioner: Any,
    max_step: float,
    max_products: int | None,
    report: ProgressFunction,
) -> str:
    """Take Newton steps until the target, with the status in ``descent``; return why not, or nothing."""
    forcing = FIRST_FORCING
    size = float(np.linalg.norm(descent.theta))
    try:
        for step in range(MAX_STEPS):
            norm = descent.gradient_norm
            if norm <= target:
                descent.status = Status.CONVERGED
                return ""
            found = descent.solve(max(forcing, min(0.5, 0.5 * target / norm)), preconditioner, None, max_products)
            p = found.x
            length = float(np.linalg.norm(p))
            if found.status == Status.INTERRUPTED:
                raise KeyboardInterrupt
            if found.status == Status.NEGATIVE_CURVATURE:
                return "negative curvature was met"
            if found.status in (Status.NONFINITE, Status.BREAKDOWN):
                return f"a solve ended as {found.status}"
            if size > 0 and length > max_step * size:
                return f"a Newton step of length {length:.2e} is longer than max_step |theta| = {max_step * size:.2e}"
            if found.status == Status.BUDGET and length == 0.0:
                descent.status = Status.BUDGET
                return ""
            new, predicted, actual = descent.look(p)
            ratio = actual / predicted if predicted > 0 else -np.inf
            if new.gradient_norm > 0.5 * norm and length <= 1e3 * np.finfo(descent.objective.dtype).eps * size:
                if new.gradient_norm < norm:
                    descent.move(new, p)
                descent.status = Status.STAGNATED
                return ""
            if not ratio >= 0.25:
                return f"the objective fell by {ratio:.2f} of what its quadratic predicts, which must be at least 0.25"
            descent.move(new, p)
            forcing = min(FIRST_FORCING, max(ACCEPTED * descent.gradient_norm / norm, 1e-8))
            report(step + 1, MAX_STEPS)
            if found.status == Status.BUDGET and descent.gradient_norm > target:
                descent.status = Status.BUDGET
                return ""
    except KeyboardInterrupt:
        descent.status = Status.INTERRUPTED
        return ""
    descent.status = Status.BUDGET
    return ""


@dataclass(frozen=True)
class _Certificate:
    distance: float
    curvature: float
    lipschitz: float
    assumption: str
    num_products: int

    @classmethod
    def none(
        cls, why: str, num_products: int = 0, curvature: float = np.nan, lipschitz: float = np.nan
    ) -> "_Certificate":
        return cls(np.nan, curvature, lipschitz, why, num_products)


def _certificate(
    descent: Descent,
    old: Array,
    eigenpairs: EigenResult | None,
    max_products: int | None,
    rng: int | np.random.Generator | None,
) -> _Certificate:
    """Bound the distance to the nearest optimum."""
    objective, norm = descent.objective, descent.gradient_norm
    net = objective.net
    ridge = float(objective.l2.min()) if objective.l2.size else 0.0
    if net.depth == 1 and net.activations == ("identity",) and ridge > 0:
        linear = "the objective is strongly convex, as the net is linear in its parameters"
        return _Certificate(norm / ridge, ridge, 0.0, linear, 0)
    H = HessianOperator(objective)
    left = None if max_products is None else max(max_products - 2, 0)
    # accurate enough to tell the ridge from zero
    scale = 0.0 if eigenpairs is None else eigenpairs.operator_norm
    tol = float(np.clip(0.1 * ridge / scale, 1e-10, 1e-3)) if scale > 0 and ridge > 0 else 1e-6
    lowest = eigsh(H, 1, which="SA", tol=tol, max_products=left, verify=False, rng=rng)
    products = lowest.num_products
    if lowest.eigenvalues.size == 0 or lowest.status != Status.CONVERGED:
        return _Certificate.none(f"the smallest eigenvalue of the Hessian was not found: {lowest.status}", products)
    mu = float(lowest.eigenvalues[0] - lowest.residual_norms[0] - lowest.rounding)
    if mu <= 0:
        why = f"the Hessian is not certainly positive definite: its smallest eigenvalue is at least {mu:.2e}"
        return _Certificate.none(why, products, mu)
    way = descent.theta - old
    length = float(np.linalg.norm(way))
    rate = 0.0
    if length > 0:
        v = way / length
        rate = float(np.linalg.norm(H @ v - HessianOperator(objective.at(old)) @ v)) / length
        products += 2
    h = LIPSCHITZ_MARGIN * rate * norm / mu**2
    if h > 0.5:
        why = f"Kantorovich's h = M |g| / mu^2 is {h:.2e}, which must be at most 0.5: a smaller tol is needed"
        return _Certificate.none(why, products, mu, rate)
    bound = 2 * norm / (mu * (1 + np.sqrt(1 - 2 * h)))
    assumption = (
        "Lanczos has seen the smallest eigenvalue of the Hessian, and the Hessian changes within the bound at most "
        f"{LIPSCHITZ_MARGIN:g} times as fast as on the way from the old theta"
    )
    return _Certificate(bound, mu, rate, assumption, products)
