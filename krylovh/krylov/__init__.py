"""Krylov methods for symmetric operators; they see a SciPy ``LinearOperator``, never a network."""

from krylovh.krylov.eigsh import eigsh
from krylovh.krylov.lanczos import lanczos
from krylovh.krylov.refine import refine_eigenpairs

__all__ = ["eigsh", "lanczos", "refine_eigenpairs"]
