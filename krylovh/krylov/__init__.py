"""Krylov methods for symmetric operators; they see a SciPy ``LinearOperator``, never a network."""

from krylovh.krylov.block_cg import block_cg
from krylovh.krylov.cg import cg
from krylovh.krylov.eigsh import eigsh
from krylovh.krylov.lanczos import lanczos
from krylovh.krylov.minres import minres
from krylovh.krylov.refine import refine_eigenpairs
from krylovh.krylov.shifted_cg import shifted_cg

__all__ = [
    "block_cg",
    "cg",
    "eigsh",
    "lanczos",
    "minres",
    "refine_eigenpairs",
    "shifted_cg",
]
