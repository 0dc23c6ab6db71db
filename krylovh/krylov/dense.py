"""The complete spectrum: n products with the columns of the identity, LAPACK, and k products for the true residuals.

For small n, or where a large part of the spectrum is wanted, nothing is cheaper, and nothing can be missed.  The
matrix is not the operator: rounding or noise may differ from product to product, and shows only in products ``A x``.

References
----------
Golub and Van Loan, Matrix Computations, 8.3.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.gaps import gaps_to_values
from krylovh.krylov.pairs import Pairs
from krylovh.krylov.scaling import ScaledOperator, binary_exponent, ldexp
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.krylov.symmetry import check_matrix_symmetry
from krylovh.progress import ProgressFunction

Array = NDArray[np.float64]
Index = NDArray[np.intp]

__all__ = ["complete_eigenpairs", "dense_matrix"]


def dense_matrix(operator: SymmetricOperator, report: ProgressFunction, block_size: int = 64) -> Array:
    """Return ``A`` as a matrix, shape (n, n); n products.

    Examples
    --------
    >>> dense_matrix(SymmetricOperator(np.diag([1.0, 2.0])), lambda done, total: None)
    array([[1., 0.],
           [0., 2.]])
    """
    n = operator.n
    matrix = np.empty((n, n), order="F")
    for first in range(0, n, block_size):
        columns = min(block_size, n - first)
        block = operator.recorded(f"columns from {first}", np.eye(n, columns, -first))
        matrix[:, first : first + columns] = block
        report(first + columns, n)
    return matrix


def complete_eigenpairs(
    operator: SymmetricOperator,
    choose: Callable[[Array, ScaledOperator], Index],
    rng: np.random.Generator,
    report: ProgressFunction,
    deflated: Array,
) -> tuple[ScaledOperator, float, Pairs, Array]:
    """Return the scaled operator, its norm, the chosen eigenpairs of the scaled operator, and their gaps.

    ``choose`` gets all eigenvalues of the scaled operator, ascending, and returns the indices of those that are wanted.

    With ``deflated`` of shape (n, m) all of this is about the complement of its orthonormal columns.

    Raises ``ValueError`` if the matrix is not symmetric.
    """
    M = dense_matrix(operator, report)
    A = ScaledOperator(operator, binary_exponent(M))
    M = ldexp(M, -A.exponent)
    check_matrix_symmetry(A, M, rng.standard_normal(A.n), A.eps)
    M = (M + M.T) / 2
    if deflated.shape[1]:
        complement = np.linalg.qr(deflated, mode="complete")[0][:, deflated.shape[1] :]
        values, coordinates = np.linalg.eigh(complement.T @ M @ complement)
        vectors = complement @ coordinates
    else:
        values, vectors = np.linalg.eigh(M)
    chosen = np.sort(choose(values, A))
    X, theta = vectors[:, chosen], values[chosen]
    operator.release()  # a few products more are no reason to lose everything
    AX = A(X)
    pairs = Pairs(theta, X, AX, np.linalg.norm(AX - X * theta, axis=0))
    norm = float(np.abs(values).max())
    error = 10 * np.sqrt(A.n) * A.eps * norm
    return A, norm, pairs, gaps_to_values(theta, pairs.residual_norms, np.delete(values, chosen), error)
