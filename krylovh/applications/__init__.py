"""What a Hessian is for: one package per use."""

from krylovh.applications.laplace import Laplace, compare_models

__all__ = ["Laplace", "compare_models"]
