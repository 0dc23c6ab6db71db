"""Retraining of the parameters that remain, by L-BFGS on these alone."""

from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from krylovh.objective import Objective

Array = NDArray[np.float64]

__all__ = ["retrained"]


def retrained(
    objective: Objective, mask: NDArray[np.bool_], max_iterations: int, gradient_tol: float
) -> tuple[Array, int]:
    """Return theta after L-BFGS on the parameters in ``mask``, and the number of evaluations it took.

    Parameters
    ----------
    objective : Objective
        Starts from its net's theta.
    mask : ndarray of bool, shape (P,)
    max_iterations : int
    gradient_tol : float
        Ends where no entry of the gradient is larger.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((2, 1), "identity", [0.0, 0.0], bias=False)
    >>> objective = Objective(net, [[1.0, 1.0]], [2.0], loss="squared_error")
    >>> theta, _ = retrained(objective, np.array([True, False]), 50, 1e-9)
    >>> theta.round(9)
    array([2., 0.])
    """
    theta = objective.net.theta.astype(np.float64)

    def value_and_gradient(free: Array) -> tuple[float, Array]:
        theta[mask] = free
        here = objective.at(theta)
        return here.value(), here.gradient()[mask].astype(np.float64)

    found: Any = scipy.optimize.minimize(
        value_and_gradient,
        theta[mask],
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iterations, "maxfun": 10 * max_iterations, "gtol": gradient_tol, "ftol": 0.0},
    )
    theta[mask] = found.x
    return theta, int(found.nfev)
