"""Conjugate gradients that look where they go: curvature is tested, residuals are recomputed, the boundary is seen.

In exact arithmetic the method minimises the quadratic ``q(x) = x'Ax / 2 - b'x`` over growing Krylov spaces.  Three
things separate the textbook from the truth.  Where A is not positive definite, q has no minimum, and a direction d with
``d'Ad <= 0`` says so.  The residual of the recurrence drifts away from ``b - A x``, and goes on falling where the true
one has stopped; so "converged" is said of a recomputed residual only, and the iteration starts again from it where it
disagrees.  And no x has a residual below what the rounding of one product leaves, so there is an end to what can be
asked for.

References
----------
Hestenes and Stiefel (1952), Methods of conjugate gradients for solving linear systems.
Steihaug (1983), The conjugate gradient method and trust regions in large scale optimization.
Greenbaum (1997), Estimating the attainable accuracy of recursively computed residual methods.
van der Vorst and Ye (2000), Residual replacement strategies for Krylov subspace iterative methods.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from krylovh.blas import one_blas_thread
from krylovh.krylov.conjugate_gradients import Callback, ConjugateGradients
from krylovh.krylov.preconditioning import CheckedPreconditioner
from krylovh.krylov.system import LinearSystem
from krylovh.progress import Progress, reporting
from krylovh.results import SolveResult

__all__ = ["cg"]


def cg(
    A: Any,
    b: ArrayLike,
    *,
    x0: ArrayLike | None = None,
    rtol: float = 1e-6,
    preconditioner: Any = None,
    radius: float | None = None,
    max_iterations: int | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
    callback: Callback | None = None,
    progress: Progress = False,
) -> SolveResult:
    """Solve ``A x = b`` for a symmetric positive definite operator, or show that it is none.

    Costs one product per iteration and one for the true residual; memory is six vectors.

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
        ``P``, symmetric positive definite, near the inverse of A.
    radius : float, optional
        Trust region: the minimiser of the quadratic along the path of the iterates within ``|x| <= radius`` (Steihaug).
        With a preconditioner the norm is ``sqrt(x' inv(P) x)``, in which the iterates grow.  Needs ``x0 = None``.
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
        ``status`` is

        * "converged": the recomputed residual is within ``rtol |b|``;
        * "stagnated": rounding of the products forbids a smaller one;
        * "negative_curvature": A is not positive definite, and ``negative_curvature`` proves it;
        * "boundary": the minimiser is outside of the trust region, and x on its boundary;
        * "inconsistent": b has a component along a vector that A takes to zero, to rounding of the products (for the
          least-squares solution see :func:`minres`);
        * "budget", "nonfinite" (NaN in a product, or a solution beyond the range of floats), "interrupted", or
          "breakdown" (numbers beyond the range of floats on the way).

        x is the last iterate, which has the smallest value of the quadratic and the smallest error in the norm of A,
        though not always the smallest residual; after "stagnated" and "inconsistent" it is the iterate of smallest
        residual.  With a radius, a direction of negative curvature has been followed to the boundary.

    Raises
    ------
    TypeError, ValueError
        Where an argument makes no sense, products show that A is not symmetric, or that the preconditioner is not
        symmetric, positive definite, nonsingular or finite.

    References
    ----------
    Hestenes and Stiefel (1952); Steihaug (1983); Greenbaum (1997).

    Examples
    --------
    >>> A = 2 * np.eye(100) - np.eye(100, k=1) - np.eye(100, k=-1)
    >>> result = cg(A, np.ones(100))
    >>> print(result)
    cg: converged, relative residual 0.0e+00, 50 iterations, 51 products
    >>> result = cg(A - 0.1 * np.eye(100), np.ones(100))
    >>> d = result.negative_curvature
    >>> str(result.status), bool(d @ (A @ d) < 0.1)
    ('negative_curvature', True)
    """
    system = LinearSystem(
        A, b, rtol=rtol, max_iterations=max_iterations, max_products=max_products, max_seconds=max_seconds
    )
    P = CheckedPreconditioner(preconditioner, system.n)
    if radius is not None and not (0 < radius < np.inf):
        raise ValueError(f"radius must be positive and finite, got {radius}")
    if radius is not None and x0 is not None:
        raise ValueError("x0 must be None where a radius is given: the trust region is around zero")
    if system.b_norm == 0.0:
        return system.zero_result("cg")
    with reporting(progress, "cg") as report, one_blas_thread(8 * system.n):
        iteration = ConjugateGradients(system, P, radius, callback, report)
        return iteration.solve(x0)
