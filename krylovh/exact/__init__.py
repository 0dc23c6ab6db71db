"""Matrices, diagonals, traces, spectra and inverses that the structure of a dense net gives without probing."""

from krylovh.exact.diagonal import gauss_newton_diagonal, gauss_newton_trace, hessian_diagonal, hessian_trace
from krylovh.exact.gram import GaussNewtonSpectrum, gauss_newton_spectrum
from krylovh.exact.inverse import outer_product_inverse
from krylovh.exact.layer_norms import layer_block_norms
from krylovh.exact.matrix import (
    gauss_newton_blocks,
    gauss_newton_matrix,
    hessian_blocks,
    hessian_matrix,
    operator_matrix,
)
from krylovh.exact.obd import obd_diagonal

__all__ = [
    "GaussNewtonSpectrum",
    "gauss_newton_blocks",
    "gauss_newton_diagonal",
    "gauss_newton_matrix",
    "gauss_newton_spectrum",
    "gauss_newton_trace",
    "hessian_blocks",
    "hessian_diagonal",
    "hessian_matrix",
    "hessian_trace",
    "layer_block_norms",
    "obd_diagonal",
    "operator_matrix",
    "outer_product_inverse",
]
