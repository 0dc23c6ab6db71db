"""Estimates from random probes; they see a symmetric ``LinearOperator``, never a network."""

from krylovh.stochastic.density import spectral_density
from krylovh.stochastic.inverse_diagonal import inverse_diagonal
from krylovh.stochastic.trace import trace

__all__ = ["inverse_diagonal", "spectral_density", "trace"]
