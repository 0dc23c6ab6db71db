"""Krylov methods for symmetric operators; they see a SciPy ``LinearOperator``, never a network."""

from krylovh.krylov.block_cg import block_cg
from krylovh.krylov.cg import cg
from krylovh.krylov.check_operator import check_operator
from krylovh.krylov.eigsh import eigsh
from krylovh.krylov.inverse import InverseOperator, SolveFailed, SolveFailedWarning
from krylovh.krylov.lanczos import lanczos
from krylovh.krylov.matrix_function import matrix_function
from krylovh.krylov.minres import minres
from krylovh.krylov.nystrom import NystromPreconditioner
from krylovh.krylov.preconditioners import DiagonalPreconditioner, RitzDeflation, SpectralPreconditioner
from krylovh.krylov.refine import refine_eigenpairs
from krylovh.krylov.shifted_cg import shifted_cg

__all__ = [
    "DiagonalPreconditioner",
    "InverseOperator",
    "NystromPreconditioner",
    "RitzDeflation",
    "SolveFailed",
    "SolveFailedWarning",
    "SpectralPreconditioner",
    "block_cg",
    "cg",
    "check_operator",
    "eigsh",
    "lanczos",
    "matrix_function",
    "minres",
    "refine_eigenpairs",
    "shifted_cg",
]
