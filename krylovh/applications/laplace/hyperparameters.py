"""MacKay's re-estimation of prior and noise precision.

At a maximum of the evidence, with the dependence of the curvature on alpha and beta left out,

    alpha_g = gamma_g / |theta_g|^2,    beta = (N C - gamma) / (2 E_D),    gamma_g = sum_g (1 - alpha_i Sigma_ii).
"""

import copy
from typing import TYPE_CHECKING

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.laplace.likelihood import loss_sum, total_weight
from krylovh.checks import whole_number
from krylovh.objective import Objective
from krylovh.operators import HessianOperator
from krylovh.progress import Progress, reporting
from krylovh.results import HyperparameterHistory, Status

if TYPE_CHECKING:
    from krylovh.applications.laplace.posterior import Laplace

Array = NDArray[np.float64]

__all__ = ["reestimate"]


def reestimate(
    start: "Laplace", groups: ArrayLike | None, max_iterations: int, tol: float, progress: Progress
) -> "Laplace":
    """Iterate the fixed point; see :meth:`Laplace.optimize_hyperparameters`."""
    number = _checked_groups(groups, start)
    max_iterations = whole_number("max_iterations", max_iterations, 1)
    if not 0 < tol < np.inf:
        raise ValueError(f"tol must be positive and finite, got {tol}")
    start.log_prior()  # refuses improper priors
    here, status = start, Status.BUDGET
    steps = [_row(here, number)]
    with reporting(progress, "hyperparameters") as report:
        try:
            for done in range(1, max_iterations + 1):
                alpha, beta = _estimates(here, number)
                before = np.append(here.prior_precision, here.noise_precision)
                here_next = _refitted(here, alpha, beta)
                row = _row(here_next, number)
                here = here_next
                steps.append(row)
                report(done, max_iterations)
                after = np.append(alpha, beta)
                if np.all(np.abs(after - before) <= tol * np.maximum(after, before)):
                    status = Status.CONVERGED
                    break
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
    alphas, betas, gammas, evidences, gradients = zip(*steps, strict=True)
    best = copy.copy(here)
    best.history = HyperparameterHistory(
        np.array(alphas), np.array(betas), np.array(gammas), np.array(evidences), np.array(gradients), number, status
    )
    return best


def _checked_groups(groups: ArrayLike | None, laplace: "Laplace") -> NDArray[np.int64]:
    k = laplace.num_parameters
    number = np.zeros(k, np.int64) if groups is None else np.asarray(groups)
    if number.shape != (k,) or number.dtype.kind not in "iu":
        raise ValueError(f"groups must be integers of shape ({k},), got {number.dtype} of shape {number.shape}")
    if not np.array_equal(np.unique(number), np.arange(number.max() + 1)):
        raise ValueError(f"groups must be numbered 0, 1, ... without gaps, got {np.unique(number)}")
    if laplace.structure == "krylov" and number.max() > 0:
        raise ValueError("groups must be one for structure 'krylov', whose gamma is a trace over all parameters")
    return number.astype(np.int64)


def _row(laplace: "Laplace", number: NDArray[np.int64]) -> tuple[Array, float, float, float, float]:
    alphas = np.bincount(number, laplace.prior_precision) / np.bincount(number)
    gamma = laplace.effective_parameters().value
    return alphas, laplace.noise_precision, gamma, laplace.log_evidence().value, laplace.gradient_norm


def _estimates(laplace: "Laplace", number: NDArray[np.int64]) -> tuple[Array, float]:
    """Return alpha for each parameter, and beta."""
    gamma = laplace.effective_parameters().value
    if number.max() > 0:
        gammas = np.bincount(number, 1.0 - laplace.prior_precision * laplace.variances())
    else:
        gammas = np.array([gamma])
    squares = np.bincount(number, np.square(laplace.mode))
    wrong = np.flatnonzero(~((squares > 0) & (gammas > 0)))
    if wrong.size:
        g = wrong[0]
        raise ValueError(
            f"group {g} has gamma = {gammas[g]:.3g} and |theta|^2 = {squares[g]:.3g}, which must both be positive: "
            "no prior precision follows from a mode where data determine nothing"
        )
    beta = laplace.noise_precision
    if laplace.objective.loss == "squared_error":
        size = total_weight(laplace.objective) * laplace.objective.net.widths[-1]
        residual = 2 * loss_sum(laplace.objective)
        if not (size > gamma and residual > 0):
            raise ValueError(
                f"N C = {size:g} must be above gamma = {gamma:.4g}, and the residual {residual:.3g} above 0: "
                "no noise precision follows from a net that interpolates its data"
            )
        beta = (size - gamma) / residual
    return (gammas / squares)[number], float(beta)


def _refitted(laplace: "Laplace", alpha: Array, beta: float) -> "Laplace":
    """Return the posterior for new precisions, at its own mode."""
    from krylovh.applications.laplace.posterior import Laplace

    old = laplace.objective
    positions = laplace.positions
    full = np.zeros(old.num_parameters)
    full[positions] = alpha / (beta * old.total)
    fitted = old.like(old.X, old.y, old.sample_weight, l2=full)
    theta = _minimized(fitted, positions)
    prior = np.zeros(old.num_parameters)
    prior[positions] = alpha
    return Laplace(
        fitted.at(theta),
        curvature=laplace.curvature,  # type: ignore[arg-type]
        structure=laplace.structure,  # type: ignore[arg-type]
        noise_precision=beta,
        prior_precision=prior,
        rng=laplace.seed,
        **laplace._options,
    )


def _minimized(objective: Objective, positions: NDArray[np.intp]) -> Array:
    """Fit theta, or some of it, by Newton steps with a trust region.

    In units of the prior's deviations: the regulariser is then the same in all directions, however far apart the
    precisions of groups are, and the curvature at least that of the regulariser plus the loss's.
    """
    theta = objective.net.theta.astype(np.float64)
    ridge = np.broadcast_to(objective.l2 if objective.l2.size else 0.0, theta.shape)[positions]
    unit = np.sqrt(ridge.mean() / ridge) if ridge.size and ridge.min() > 0 else np.ones(positions.size)
    cache: dict[bytes, Objective] = {}

    def at(part: Array) -> Objective:
        key = part.tobytes()
        if key not in cache:
            whole = theta.copy()
            whole[positions] = unit * part
            cache.clear()
            cache[key] = objective.at(whole)
        return cache[key]

    def products(part: Array, v: Array) -> Array:
        whole = np.zeros(theta.size)
        whole[positions] = unit * v
        return unit * np.asarray((HessianOperator(at(part)) @ whole)[positions], dtype=np.float64)

    def gradient(part: Array) -> Array:
        return unit * at(part).gradient().astype(np.float64)[positions]

    start = theta[positions] / unit
    scale = float(np.linalg.norm(ridge * unit**2 * start)) or float(np.linalg.norm(gradient(start)))
    found = scipy.optimize.minimize(
        lambda part: at(part).value(), start, jac=gradient, hessp=products, method="trust-ncg",
        options={"gtol": 1e-6 * scale, "maxiter": 500},
    )  # fmt: skip
    theta[positions] = unit * found.x
    return theta
