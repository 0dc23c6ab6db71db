"""Krylov methods for symmetric operators; they see a SciPy ``LinearOperator``, never a network."""

from krylovh.krylov.cg import cg
from krylovh.krylov.eigsh import eigsh
from krylovh.krylov.lanczos import lanczos

__all__ = ["cg", "eigsh", "lanczos"]
