"""Curvature matrices of an objective as SciPy LinearOperators."""

from krylovh.operators.activations import activation_hessian, input_hessian
from krylovh.operators.blocks import BlockOperator
from krylovh.operators.curvature import (
    CurvatureOperator,
    DampedOperator,
    GaussNewtonOperator,
    HessianOperator,
    ResidualOperator,
)
from krylovh.operators.finite_difference import FiniteDifferenceOperator
from krylovh.operators.fisher import EmpiricalFisherOperator, MonteCarloFisherOperator
from krylovh.operators.jacobian import JacobianOperator
from krylovh.operators.kfac import InverseKFACOperator, KFACOperator

__all__ = [
    "BlockOperator",
    "CurvatureOperator",
    "DampedOperator",
    "EmpiricalFisherOperator",
    "FiniteDifferenceOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "InverseKFACOperator",
    "JacobianOperator",
    "KFACOperator",
    "MonteCarloFisherOperator",
    "ResidualOperator",
    "activation_hessian",
    "input_hessian",
]
