"""The Laplace approximation: a Gaussian posterior around a mode, its predictions and its evidence."""

from krylovh.applications.laplace.comparison import compare_models
from krylovh.applications.laplace.posterior import Laplace

__all__ = ["Laplace", "compare_models"]
