"""Functions of a symmetric operator, applied to a vector, by Lanczos.

With ``A V = V T + r e_m'`` the vector ``|b| V f(T) e_1`` is exact for polynomials f of degree below m, and so nearly
as good as the best polynomial approximation of f on the spectrum.  The error is estimated by what further steps change:
x after m steps is compared with x after fewer, which overestimates the error of the former as soon as it falls.

References
----------
Higham (2008), Functions of matrices, 13.2.
Druskin and Knizhnerman (1989), Two polynomial methods of calculating functions of symmetric matrices.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.blas import one_blas_thread
from krylovh.checks import whole_number
from krylovh.krylov.factorization import LanczosFactorization
from krylovh.krylov.scaling import ScaledOperator, binary_exponent, ldexp, unit_vector
from krylovh.krylov.stops import STOPS, status_of
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.krylov.system import checked_rtol, checked_vector
from krylovh.progress import Progress, reporting
from krylovh.results import MatrixFunctionResult, Status

Array = NDArray[np.float64]

__all__ = ["matrix_function"]


def matrix_function(
    A: Any,
    f: Callable[[Array], Array],
    b: ArrayLike,
    *,
    rtol: float = 1e-8,
    max_steps: int = 300,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> MatrixFunctionResult:
    """Approximate ``f(A) b``.

    Costs one product per step, and memory for as many vectors: the basis is kept orthogonal.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Real and symmetric; symmetry is not checked.
    f : callable
        Takes and returns an array of shape (m,): eigenvalue estimates, all within the spectrum of A.
    b : array_like, shape (n,)
    rtol : float
        Converged when the estimate of the error is at most ``rtol |x|``.
    max_steps : int
        Status "budget" after so many.
    max_products, max_seconds : optional
        Budget.
    progress : bool or callable
        True for a bar on standard error, or a function of (steps, max_steps).

    Returns
    -------
    MatrixFunctionResult
        ``status`` is "converged" also where the Krylov space became invariant: then x is exact to rounding.

    Raises
    ------
    TypeError, ValueError
        Where an argument makes no sense, or f is not finite at a Ritz value, such as the logarithm at a negative one.

    References
    ----------
    Higham (2008), Functions of matrices, 13.2.

    Examples
    --------
    >>> A = 2 * np.eye(200) - np.eye(200, k=1) - np.eye(200, k=-1)
    >>> b = np.ones(200)
    >>> half = lambda v: matrix_function(A + np.eye(200), np.sqrt, v).x
    >>> bool(np.allclose(half(half(b)), A @ b + b, atol=1e-6))
    True
    """
    operator = SymmetricOperator(A, max_products=max_products, max_seconds=max_seconds)
    n = operator.n
    vector = checked_vector("b", b, n)
    rtol = checked_rtol(rtol)
    max_steps = min(whole_number("max_steps", max_steps, 1), n)
    if not vector.any():
        return MatrixFunctionResult(np.zeros(n), Status.CONVERGED, 0.0, 0.0, 0, 0, rtol)
    process: LanczosFactorization | None = None
    scaled = ScaledOperator(operator, 0)
    estimates = _Estimates(f)
    status = Status.BUDGET
    with reporting(progress, "matrix_function") as report, one_blas_thread(8 * n):
        try:
            start = unit_vector(vector)
            product = operator(start)
            scaled = ScaledOperator(operator, binary_exponent(product))
            never_used = np.random.default_rng(0)  # the process stops where the space is invariant
            process = LanczosFactorization(scaled, n, max_steps, start, rng=never_used, eps=operator.eps)
            process.extend(ldexp(product, -scaled.exponent))
            while True:
                report(process.size, max_steps)
                if process.invariant or process.size == max_steps or process.size % 4 == 0:
                    estimates.update(process, scaled.exponent)
                    if process.invariant or estimates.relative_error <= rtol:
                        status = Status.CONVERGED
                        break
                if process.size == max_steps:
                    break
                process.extend()
        except STOPS as stop:
            status = status_of(stop)
    if process is None or process.size == 0:
        return MatrixFunctionResult(np.zeros(n), status, np.inf, np.inf, 0, operator.num_products, rtol)
    if estimates.size != process.size:
        estimates.update(process, scaled.exponent)
    error = 0.0 if process.invariant else estimates.relative_error
    x = process.V @ estimates.coordinates
    length = float(np.linalg.norm(estimates.coordinates))
    exponent = binary_exponent(vector)
    x *= np.linalg.norm(ldexp(vector, -exponent))
    length *= float(np.linalg.norm(ldexp(vector, -exponent)))
    return MatrixFunctionResult(
        x=ldexp(x, exponent),
        status=status,
        error=float(ldexp(error * length, exponent)) if np.isfinite(error) else np.inf,
        relative_error=error,
        num_steps=process.size,
        num_products=operator.num_products,
        rtol=rtol,
    )


class _Estimates:
    """Coordinates ``f(T) e_1`` in the basis, now and some steps ago."""

    def __init__(self, f: Callable[[Array], Array]) -> None:
        self.f = f
        self.coordinates = np.zeros(0)
        self.size = 0
        self.relative_error = np.inf

    def update(self, process: LanczosFactorization, exponent: int) -> None:
        values, vectors = np.linalg.eigh(process.T)
        theta = ldexp(values, exponent)
        with np.errstate(all="ignore"):  # told below, by value
            image = np.asarray(self.f(theta.copy()))
        if image.shape != theta.shape or image.dtype.kind not in "fiub":
            raise ValueError(f"f must return {theta.size} real values, got {image.dtype} of shape {image.shape}")
        if not np.isfinite(image).all():
            i = int(np.argmin(np.isfinite(image)))
            raise ValueError(f"f must be finite on the spectrum of A, got {image[i]} at the Ritz value {theta[i]:.6g}")
        new = vectors @ (image * vectors[0])
        moved = new.copy()
        moved[: self.size] -= self.coordinates
        length = float(np.linalg.norm(new))
        if self.size:
            self.relative_error = float(np.linalg.norm(moved)) / length if length else 0.0
        self.coordinates, self.size = new, process.size
