"""Curvature matrices of an objective as SciPy LinearOperators."""

from krylovh.operators.curvature import CurvatureOperator, GaussNewtonOperator, HessianOperator

__all__ = ["CurvatureOperator", "GaussNewtonOperator", "HessianOperator"]
