"""Estimates from random probes; they see a symmetric ``LinearOperator``, never a network."""

from krylovh.stochastic.density import spectral_density
from krylovh.stochastic.trace import trace

__all__ = ["spectral_density", "trace"]
