"""Minimum residuals for symmetric systems of any kind: indefinite, singular, without a solution.

Each iterate has the smallest residual in its Krylov space, so that residuals never rise.  Where b is not in the range
of A, they fall to that of the least-squares solutions, and ``A r`` falls to zero with them; it must be recomputed, as
r must, before anything is said.  Of all solutions, or least-squares solutions, the shortest is found.

References
----------
Paige and Saunders (1975), Solution of sparse indefinite systems of linear equations.
Choi, Paige and Saunders (2011), MINRES-QLP: a Krylov subspace method for indefinite or singular symmetric systems.
Liu, Milzarek and Roosta (2023), Obtaining pseudo-inverse solutions with MINRES: the null vector in x is that in r.
"""

from typing import Any

from numpy.typing import ArrayLike

from krylovh.blas import one_blas_thread
from krylovh.krylov.conjugate_gradients import Callback
from krylovh.krylov.minimum_residuals import MinimumResiduals
from krylovh.krylov.preconditioning import CheckedPreconditioner
from krylovh.krylov.system import LinearSystem
from krylovh.progress import Progress, reporting
from krylovh.results import SolveResult

__all__ = ["minres"]


def minres(
    A: Any,
    b: ArrayLike,
    *,
    x0: ArrayLike | None = None,
    rtol: float = 1e-6,
    preconditioner: Any = None,
    max_iterations: int | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
    callback: Callback | None = None,
    progress: Progress = False,
) -> SolveResult:
    """Solve ``A x = b`` for a symmetric operator, definite or not; in the least-squares sense if there is no solution.

    Costs one product per iteration, one for the true residual, and one more where the system is inconsistent; memory is
    nine vectors.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Real and symmetric; float32 products are used with float64 recurrences.
    b : array_like, shape (n,)
    x0 : array_like, shape (n,), optional
        Where to start, zero by default; costs one product.
    rtol : float
        Converged when ``|b - A x| <= rtol |b|``.  With 0 the iteration goes on to the attainable accuracy.
    preconditioner : LinearOperator, ndarray or sparse matrix, shape (n, n), optional
        ``P``, symmetric positive definite.  Residuals are then smallest in the norm ``sqrt(r'P r)``, and solutions of
        singular systems shortest in ``sqrt(x' inv(P) x)``.
    max_iterations : int, optional
        By default ``10 n``.
    max_products, max_seconds : optional
        Budget; the number of products is never exceeded and includes those of residuals.
    callback : callable, optional
        Called as ``callback(x)`` with a copy of the iterate after every iteration.
    progress : bool or callable
        True for a bar on standard error, or a function of (iterations, max_iterations).

    Returns
    -------
    SolveResult
        ``status`` is "converged" (the recomputed residual is within ``rtol |b|``), "inconsistent" (there is no
        solution: iterating did not reduce r any further, and a product shows that it is a null vector, ``|A r| <=
        sqrt(eps) |A| |r|`` with the machine epsilon of the products; x is the shortest least-squares solution),
        "stagnated" (rounding of the products forbids a smaller residual), "budget", "nonfinite" or "interrupted".  x is
        the best iterate in any case.  Where ``x0`` is given and A is singular, x is the solution nearest to it.

    Raises
    ------
    TypeError, ValueError
        Where an argument makes no sense, products show that A is not symmetric, or that the preconditioner is not
        symmetric, positive definite, nonsingular or finite.

    References
    ----------
    Choi, Paige and Saunders (2011), MINRES-QLP.

    Examples
    --------
    >>> import numpy as np
    >>> print(minres(np.diag([1.0, -2.0, 4.0]), [1.0, 1.0, 1.0]))
    minres: converged, relative residual 3.8e-16, 3 iterations, 4 products
    >>> result = minres(np.diag([1.0, -2.0, 0.0]), [1.0, 1.0, 1.0])
    >>> str(result.status), result.x.round(12), round(result.residual_norm, 12)
    ('inconsistent', array([ 1. , -0.5, -0. ]), 1.0)
    """
    system = LinearSystem(
        A, b, rtol=rtol, max_iterations=max_iterations, max_products=max_products, max_seconds=max_seconds
    )
    P = CheckedPreconditioner(preconditioner, system.n)
    if system.b_norm == 0.0:
        return system.zero_result("minres")
    with reporting(progress, "minres") as report, one_blas_thread(8 * system.n):
        return MinimumResiduals(system, P, callback, report).solve(x0)
