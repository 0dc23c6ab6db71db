"""What the ranks run in ``make test-slepc``: SLEPc's eigensolver on the operator as a shell matrix, against eigsh."""

import sys

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from slepc4py import SLEPc

from cases import problem
from krylovh import DistributedObjective, HessianOperator, eigsh
from krylovh.distributed import petsc_matrix, world

K = 5
TOLERANCE = 1e-10


def slepc_eigenvalues(matrix, largest):
    """The K largest or smallest eigenvalues, ascending, and the norms of true residuals."""
    solver = SLEPc.EPS().create(matrix.getComm())
    solver.setOperators(matrix)
    solver.setProblemType(SLEPc.EPS.ProblemType.HEP)
    which = SLEPc.EPS.Which.LARGEST_REAL if largest else SLEPc.EPS.Which.SMALLEST_REAL
    solver.setWhichEigenpairs(which)
    solver.setDimensions(K)
    solver.setTolerances(TOLERANCE, 1000)
    solver.solve()
    assert solver.getConverged() >= K
    order = np.argsort([solver.getEigenvalue(i).real for i in range(K)])
    vector = matrix.createVecRight()
    assert vector.getLocalSize() < matrix.getSize()[0] or matrix.getComm().getSize() == 1  # vectors are in pieces
    values, residuals = [], []
    for i in order:
        value = solver.getEigenpair(int(i), vector).real
        product = matrix.createVecLeft()
        matrix.mult(vector, product)
        product.axpy(-value, vector)
        values.append(value)
        residuals.append(product.norm())
    return np.array(values), np.array(residuals)


def main():
    comm = world() or MPI.COMM_WORLD
    for num_samples in (1, 23):
        objective, _, _ = problem(num_samples=num_samples, threads=1)
        there = DistributedObjective(
            objective.net, objective.X, objective.y, loss=objective.loss, l2=0.1, comm=comm, threads=1
        )
        H = HessianOperator(there)
        matrix = petsc_matrix(H, comm)
        norm = np.abs(eigsh(H, 1, which="LM", rng=0).eigenvalues).max()
        for largest in (True, False):
            values, residuals = slepc_eigenvalues(matrix, largest)
            ours = eigsh(H, K, which="LA" if largest else "SA", tol=1e-10, rng=0)
            assert np.abs(values - ours.eigenvalues).max() <= 1e-9 * norm, (values, ours.eigenvalues)
            assert residuals.max() <= 1e-8 * norm
            if comm.Get_rank() == 0:
                sys.stdout.write(
                    f"{comm.Get_size()} ranks, {num_samples} samples, {'largest' if largest else 'smallest'}: "
                    f"SLEPc and eigsh differ by {np.abs(values - ours.eigenvalues).max() / norm:.1e} |H|\n"
                )
    if comm.Get_rank() == 0:
        sys.stdout.write(f"PETSc {PETSc.Sys.getVersion()}, SLEPc {SLEPc.Sys.getVersion()}\n")


if __name__ == "__main__":
    main()
