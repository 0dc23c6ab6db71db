"""Backtracking along a descent step until the objective falls as much as it should."""

import numpy as np
from numpy.typing import NDArray

from krylovh.applications.training.descent import Descent
from krylovh.objective import Objective

Array = NDArray[np.float64]

SUFFICIENT = 1e-4  # share of what the slope promises (Armijo)
MAX_STEPS = 40

__all__ = ["backtrack"]


def backtrack(descent: Descent, step: Array, slope: float, model: float) -> tuple[Objective, float, float] | None:
    """Return the first point along a step where the objective falls enough.

    Trial points where loss or gradient are not finite count as too high.  Where the model promises less than rounding
    lets the value show, a point counts that has a smaller gradient and, to rounding, no larger value.

    Parameters
    ----------
    descent : Descent
    step : ndarray, shape (n,)
    slope : float
        ``g's``; no step is taken unless it is negative.
    model : float
        What the quadratic model says the full step changes.

    Returns
    -------
    (objective at the point, its length in units of the step, actual over predicted change of the full step) or None
        None where no length is short enough to help: rounding forbids progress.
    """
    if not slope < 0:
        return None
    # one rounding for each of the sums that make up a value, which are added pairwise or better
    noise = 10 * float(np.finfo(descent.objective.dtype).eps) * abs(descent.value)
    length, ratio = 1.0, np.nan
    for _ in range(MAX_STEPS):
        trial = descent.trial(descent.theta + length * step)
        change = np.inf if trial is None else trial.value() - descent.value
        if length == 1.0:
            ratio = change / model if model < 0 else -np.inf
        if trial is not None:
            if change <= SUFFICIENT * length * slope:
                return trial, length, ratio
            if -slope * length <= noise and change <= noise:
                falls = float(np.linalg.norm(trial.gradient())) < descent.gradient_norm
                return (trial, length, 1.0) if falls else None
        curvature = change - length * slope  # of the parabola through value, slope and the trial value
        shrink = 0.1 if not np.isfinite(curvature) or curvature <= 0 else -0.5 * length * slope / curvature
        length *= float(min(0.5, max(0.1, shrink)))
    return None
