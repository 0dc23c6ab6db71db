"""Value, gradient and Hessian products in the form that ``scipy.optimize.minimize`` asks for."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from krylovh.objective import Objective
from krylovh.operators import CurvatureOperator, GaussNewtonOperator, HessianOperator

Array = NDArray[np.float64]

__all__ = ["ScipyFunctions", "scipy_functions"]


class ScipyFunctions(NamedTuple):
    """``fun``, ``jac`` and ``hessp`` of one objective."""

    fun: Any
    jac: Any
    hessp: Any


def scipy_functions(objective: Objective, *, gauss_newton: bool = False) -> ScipyFunctions:
    """Return functions for ``scipy.optimize.minimize(fun, x0, jac=jac, hessp=hessp)``.

    SciPy calls ``fun(x)`` and ``jac(x)`` one after the other at the same x, at trial points that it may then leave, and
    ``hessp(x, p)`` many times at the last accepted x.  So value, gradient and linearisation of the last two points are
    kept: each x costs one forward and backward pass, and each product no more than a product.

    Parameters
    ----------
    objective : Objective
    gauss_newton : bool
        Products with the Gauss-Newton matrix instead of the Hessian.

    Examples
    --------
    >>> from scipy.optimize import minimize as scipy_minimize
    >>> from krylovh import Network
    >>> net = Network((1, 3, 1), "tanh")
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> objective = Objective(net, X, np.sin(X), loss="squared_error", l2=1e-2)
    >>> fun, jac, hessp = scipy_functions(objective)
    >>> x0 = net.random_theta(0)
    >>> found = scipy_minimize(fun, x0, jac=jac, hessp=hessp, method="trust-ncg")
    >>> bool(np.linalg.norm(objective.at(found.x).gradient()) < 1e-4)
    True
    """
    points: list[tuple[Array, Objective, CurvatureOperator]] = []

    def at(x: Array) -> tuple[Array, Objective, CurvatureOperator]:
        for point in points:
            if np.array_equal(point[0], x):
                return point
        there = objective.at(x)
        operator = GaussNewtonOperator(there) if gauss_newton else HessianOperator(there)
        points.insert(0, (np.array(x, dtype=np.float64), there, operator))
        del points[2:]
        return points[0]

    def fun(x: Array) -> float:
        return at(x)[1].value()

    def jac(x: Array) -> Array:
        return at(x)[1].gradient().astype(np.float64)

    def hessp(x: Array, p: Array) -> Array:
        return np.asarray(at(x)[2].matvec(p), dtype=np.float64)

    return ScipyFunctions(fun, jac, hessp)
