"""Krylov methods for symmetric operators; they see a SciPy ``LinearOperator``, never a network."""

from krylovh.krylov.cg import cg
from krylovh.krylov.eigsh import eigsh
from krylovh.krylov.lanczos import lanczos
from krylovh.krylov.minres import minres

__all__ = ["cg", "eigsh", "lanczos", "minres"]
