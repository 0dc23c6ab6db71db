"""The method of Levenberg and Marquardt for squared error.

Each step solves ``(G + damping I) s = -g`` with the Gauss-Newton matrix G.  Where the matrix fits, it is assembled once
per accepted point and factorised by Cholesky for each damping that is tried; else the system is solved by conjugate
gradients to a fixed accuracy.  The damping follows the reduction ratio smoothly (Nielsen).

References
----------
Levenberg (1944); Marquardt (1963), An algorithm for least-squares estimation of nonlinear parameters.
Nielsen (1999), Damping parameter in Marquardt's method.
"""

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from krylovh.applications.training.curvature import Curvature
from krylovh.applications.training.descent import Descent, Step
from krylovh.applications.training.preconditioning import Preconditioning
from krylovh.applications.training.truncated_cg import truncated_cg
from krylovh.exact import gauss_newton_matrix
from krylovh.results import Status

Array = NDArray[np.float64]

DENSE_LIMIT = 3000  # parameters up to which the matrix is written out
START = 1e-3  # first damping, relative to the largest diagonal entry of G
INNER_RTOL = 1e-3

__all__ = ["levenberg_marquardt"]


def levenberg_marquardt(
    descent: Descent,
    curvature: Curvature,
    preconditioning: Preconditioning,
    damping: float | None,
    forcing: float | None,
) -> Status:
    """Minimise a squared error; return how it ended."""
    dense = descent.objective.num_parameters <= DENSE_LIMIT and curvature.is_full
    lam, growth = descent.kept.get("damping", damping), descent.kept.get("growth", 2.0)
    while (verdict := descent.verdict(curvature, damping=lam, growth=growth)) is None:
        objective, gradient = descent.objective, descent.gradient
        operator = descent.count(curvature.at(objective))
        matrix = gauss_newton_matrix(objective).astype(np.float64) if dense else None
        if lam is None:
            scale = np.diag(matrix).max() if matrix is not None else gradient @ operator.matvec(gradient)
            scale = float(scale) if matrix is not None else float(scale) / descent.gradient_norm**2
            lam = START * scale if scale > 0 else 1.0
        noise = 10 * float(np.finfo(objective.dtype).eps) * abs(descent.value)
        while True:
            if matrix is not None:
                step, inner, iterations = _by_cholesky(matrix, gradient, lam)
            else:
                descent.spend(preconditioning.price)
                preconditioner = preconditioning.at(objective, operator, lam, renew=True, rows=curvature.rows)

                found = truncated_cg(
                    descent.products(operator, lam),
                    gradient,
                    rtol=INNER_RTOL if forcing is None else forcing,
                    preconditioner=None if preconditioner is None else preconditioner.matvec,
                    max_iterations=10 * gradient.size,
                    eps=curvature.eps,
                )
                step, inner, iterations = found.step, found.status, found.num_iterations
            # at the solution of the damped system g's + s'Gs/2 = (g's - damping s's)/2
            predicted = 0.5 * float(gradient @ step - lam * (step @ step))
            trial = descent.trial(descent.theta + step)
            change = np.inf if trial is None else trial.value() - descent.value
            ratio = change / predicted if predicted < 0 else -np.inf
            within_noise = -predicted <= noise and change <= noise
            if trial is not None and within_noise:
                if not float(np.linalg.norm(trial.gradient())) < descent.gradient_norm:
                    return Status.STAGNATED
                ratio = 1.0
            if trial is not None and (change < 0 or within_noise) and ratio > 1e-4:
                lam *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
                growth = 2.0
                descent.accept(trial, Step(inner, iterations, damping=lam))
                break
            if growth > 2.0**40:
                return Status.STAGNATED
            lam, growth = lam * growth, 2 * growth
            if descent.time_is_up or descent.products_left < 1:
                return Status.BUDGET
    return verdict


def _by_cholesky(matrix: Array, gradient: Array, damping: float) -> tuple[Array, Status, int]:
    """Return the step; a matrix that rounding has made indefinite asks for more damping."""
    damped = matrix.copy()
    damped[np.diag_indices_from(damped)] += damping
    try:
        factor = scipy.linalg.cho_factor(damped, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return np.zeros_like(gradient), Status.BREAKDOWN, 0
    return -scipy.linalg.cho_solve(factor, gradient, check_finite=False), Status.CONVERGED, 0
