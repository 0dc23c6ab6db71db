"""Estimates from random probes; they see a symmetric ``LinearOperator``, never a network."""

from krylovh.stochastic.density import spectral_density
from krylovh.stochastic.diagonal import diagonal
from krylovh.stochastic.squares import frobenius_norm, participation_ratio, squared_diagonal_sum
from krylovh.stochastic.trace import trace

__all__ = [
    "diagonal",
    "frobenius_norm",
    "participation_ratio",
    "spectral_density",
    "squared_diagonal_sum",
    "trace",
]
