"""Estimates from random probes; they see a symmetric ``LinearOperator``, never a network."""

from krylovh.stochastic.chebyshev import kernel_polynomial_density
from krylovh.stochastic.density import spectral_density
from krylovh.stochastic.trace import trace

__all__ = ["kernel_polynomial_density", "spectral_density", "trace"]
