"""Estimates from random probes; they see a symmetric ``LinearOperator``, never a network."""

from krylovh.stochastic.chebyshev import kernel_polynomial_density
from krylovh.stochastic.counts import condition_number, effective_dimension, eigenvalue_count
from krylovh.stochastic.density import spectral_density
from krylovh.stochastic.diagonal import diagonal
from krylovh.stochastic.inverse_diagonal import inverse_diagonal
from krylovh.stochastic.quadrature import logdet, trace_function
from krylovh.stochastic.spectral_function import NonPositiveSpectrumError
from krylovh.stochastic.squares import frobenius_norm, participation_ratio, squared_diagonal_sum
from krylovh.stochastic.trace import trace

__all__ = [
    "NonPositiveSpectrumError",
    "condition_number",
    "diagonal",
    "effective_dimension",
    "eigenvalue_count",
    "frobenius_norm",
    "inverse_diagonal",
    "kernel_polynomial_density",
    "logdet",
    "participation_ratio",
    "spectral_density",
    "squared_diagonal_sum",
    "trace",
    "trace_function",
]
