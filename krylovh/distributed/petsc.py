"""An operator as a shell matrix of PETSc, so that SLEPc's eigensolvers run on it.

SLEPc spreads its vectors over ranks, so that what grows with the number of its basis vectors, P times their number, is
divided by the number of ranks.  A product puts the pieces of one vector together on every rank, applies the operator,
which adds up the ranks' shares, and keeps the own piece.
"""

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from krylovh.distributed.ranks import MAX_COUNT

__all__ = ["petsc_matrix"]


class _Shell:
    """What PETSc calls for a product."""

    def __init__(self, operator: LinearOperator, to_all: Any, everything: Any) -> None:
        self.operator = operator
        self._to_all, self._everything = to_all, everything  # scatters pieces to a whole vector on every rank

    def mult(self, matrix: Any, x: Any, y: Any) -> None:
        """Compute ``y = A x``."""
        self._to_all.scatter(x, self._everything, mode="forward")
        whole = np.array(self._everything.getArray(readonly=True), self.operator.dtype)
        first, last = y.getOwnershipRange()
        y.setArray(self.operator.matvec(whole)[first:last])

    multTranspose = mult  # PETSc's name


def petsc_matrix(operator: LinearOperator, comm: Any) -> Any:
    """Return a symmetric operator as a PETSc matrix of type "python", with its rows spread over ranks.

    Parameters
    ----------
    operator : LinearOperator, shape (n, n)
        Real and symmetric; on every rank, such as of a :class:`krylovh.DistributedObjective` on the same communicator.
    comm : mpi4py.MPI.Comm

    Returns
    -------
    petsc4py.PETSc.Mat
        Its vectors hold n / size entries on each rank.

    Raises
    ------
    ImportError
        If petsc4py is not installed.
    ValueError
        If the operator is not square, or longer than PETSc's integers can count.

    Notes
    -----
    A product holds one whole vector on every rank, beside the operator's own scratch; SLEPc holds its basis in pieces.

    References
    ----------
    Hernandez, Roman and Vidal (2005), SLEPc: a scalable and flexible toolkit for the solution of eigenvalue problems.

    Examples
    --------
    >>> petsc_matrix(LinearOperator((2, 3), matvec=np.ones, dtype=float), None)
    Traceback (most recent call last):
    ValueError: operator must be square, got shape (2, 3)
    """
    if operator.shape[0] != operator.shape[1]:
        raise ValueError(f"operator must be square, got shape {operator.shape}")
    try:
        from petsc4py import PETSc
    except ImportError as error:
        raise ImportError(f"petsc4py is missing; pip install petsc petsc4py builds it ({error})") from error
    n = int(operator.shape[0])
    if n > MAX_COUNT and np.dtype(PETSc.IntType).itemsize < 8:
        raise ValueError(f"operator of order {n} needs a PETSc with 64-bit integers")
    pieces = PETSc.Vec().createMPI(n, comm=comm)
    to_all, everything = PETSc.Scatter.toAll(pieces)
    matrix = PETSc.Mat().createPython(((None, n), (None, n)), _Shell(operator, to_all, everything), comm=comm)
    matrix.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    matrix.setUp()
    return matrix
