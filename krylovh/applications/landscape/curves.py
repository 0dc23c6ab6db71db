"""The loss along lines through theta, beside the quadratic that the Hessian predicts."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import finite_array
from krylovh.objective import Objective
from krylovh.operators import HessianOperator
from krylovh.progress import Progress, reporting
from krylovh.results import EigenResult, LossCurves, Status

Array = NDArray[np.float64]

__all__ = ["loss_along"]


def loss_along(
    objective: Objective,
    directions: ArrayLike | EigenResult,
    distances: ArrayLike,
    *,
    progress: Progress = False,
) -> LossCurves:
    """Return the objective at ``theta + t d`` for each direction d and distance t.

    Beside it stands ``E + t g'd + t^2 d'Hd / 2`` at theta.  Costs a gradient per point, and a product per direction.

    Parameters
    ----------
    objective : Objective
    directions : array_like, shape (P, k) or (P,), or EigenResult
        Taken as they are: distances are in units of their lengths, which is 1 for eigenvectors.
    distances : array_like, shape (points,)
    progress : bool or callable
        True for a bar on standard error, or a function of (points done, points in all).

    Returns
    -------
    LossCurves
        After Ctrl-C, NaN at the points that were not reached.  A loss that overflows is infinite, its slope NaN.

    Raises
    ------
    ValueError, TypeError
        Where an argument makes no sense.
    FloatingPointError
        If loss or gradient are not finite at theta.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [2.0], bias=False)
    >>> objective = Objective(net, [[1.0]], [1.0], loss="squared_error")
    >>> curves = loss_along(objective, [[1.0]], [-1.0, 0.0, 1.0])
    >>> curves.values, curves.slopes
    (array([[0. , 0.5, 2. ]]), array([[0., 1., 2.]]))
    """
    given = directions.eigenvectors if isinstance(directions, EigenResult) else directions
    V = finite_array("directions", given, np.float64)
    V = V[:, None] if V.ndim == 1 else V
    P = objective.num_parameters
    if V.ndim != 2 or V.shape[0] != P or V.shape[1] == 0:
        raise ValueError(f"directions must have shape ({P}, k) with k >= 1, got {V.shape}")
    t = np.atleast_1d(finite_array("distances", distances, np.float64)).copy()
    if t.ndim != 1 or t.size == 0:
        raise ValueError(f"distances must have shape (points,) with at least one point, got {t.shape}")
    theta = objective.net.theta.astype(np.float64)
    value, gradient = objective.value(), objective.gradient().astype(np.float64)
    curvatures = HessianOperator(objective).quadratic_form(V)
    quadratic = value + np.outer(gradient @ V, t) + 0.5 * np.outer(curvatures, t**2)
    values, slopes = np.full((2, V.shape[1], t.size), np.nan)
    done, status = 0, Status.CONVERGED
    with reporting(progress, "loss along directions") as report:
        try:
            for i, d in enumerate(V.T):
                for j, distance in enumerate(t):
                    here = objective.at(theta + distance * d)
                    values[i, j] = here.value()
                    if np.isfinite(values[i, j]):
                        slopes[i, j] = here.gradient().astype(np.float64) @ d
                    done += 1
                    report(done, values.size)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
    return LossCurves(t, values, slopes, quadratic, curvatures, V.shape[1], 1 + done, status)
