"""Second-order training: Newton's method with a trust region, Hessian-free optimisation, Levenberg-Marquardt."""

from krylovh.applications.training.minimization import minimize
from krylovh.applications.training.scipy_interface import ScipyFunctions, scipy_functions

__all__ = ["ScipyFunctions", "minimize", "scipy_functions"]
