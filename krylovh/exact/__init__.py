"""Matrices, diagonals and traces that the structure of a dense net gives without probing."""

from krylovh.exact.matrix import (
    gauss_newton_blocks,
    gauss_newton_matrix,
    hessian_blocks,
    hessian_matrix,
    operator_matrix,
)

__all__ = ["gauss_newton_blocks", "gauss_newton_matrix", "hessian_blocks", "hessian_matrix", "operator_matrix"]
