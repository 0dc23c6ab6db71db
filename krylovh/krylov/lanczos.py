"""The Lanczos process: a symmetric operator, seen from one vector, is a tridiagonal matrix.

Each step is one product and the three-term recurrence ``beta_j q_{j+1} = A q_j - alpha_j q_j - beta_{j-1} q_{j-1}``.
In floating point the recurrence alone loses orthogonality as soon as a Ritz pair converges, and then finds that pair
again and again; keeping the whole basis orthogonal costs memory, and as much time as cheap products.

References
----------
Lanczos (1950); Paige (1972), Computational variants of the Lanczos method for the eigenproblem.
Golub and Van Loan, Matrix Computations, 10.1 and 10.3; Parlett, The Symmetric Eigenvalue Problem, chapter 13.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.blas import one_blas_thread
from krylovh.checks import whole_number
from krylovh.krylov.factorization import LanczosFactorization
from krylovh.krylov.scaling import ScaledOperator, binary_exponent, ldexp, unit_vector
from krylovh.krylov.stops import STOPS, status_of
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.progress import Progress, reporting
from krylovh.results import Status, Tridiagonalization

Array = NDArray[np.float64]

__all__ = ["ThreeTermRecurrence", "checked_start", "lanczos"]


def lanczos(
    A: Any,
    v0: ArrayLike,
    num_steps: int,
    *,
    reorthogonalize: Literal["full", "none"] = "full",
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> Tridiagonalization:
    """Tridiagonalise a symmetric operator on a Krylov space.

    After ``m`` steps the columns of ``Q`` are orthonormal and ``A Q = Q T + r e_m'``.  Costs ``m`` products with
    ``A``; ends early, with status "breakdown", when the space is invariant: then ``r`` is zero to rounding, and the
    eigenvalues of ``T`` are eigenvalues of ``A``.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Real and symmetric; symmetry is not checked.
    v0 : array_like, shape (n,)
        Start vector, any nonzero length.
    num_steps : int
        Between 1 and ``n``.
    reorthogonalize : {"full", "none"}
        "none" keeps two vectors instead of ``m``, and invents copies of converged eigenvalues.
    max_products : int, optional
        Budget; status "budget" if it is less than ``num_steps`` and the space has not become invariant before.
    max_seconds : float, optional
        No product is started later.
    progress : bool or callable
        True for a bar on standard error, or a function of (steps done, steps in all).

    Returns
    -------
    Tridiagonalization
        ``alphas (m,)``, ``betas (m-1,)``, ``Q (n, m)`` or None, ``residual`` (the vector r), ``residual_norm``.
        Whatever the status, the relation holds for the steps that were finished.

    References
    ----------
    Paige (1972); Golub and Van Loan, Matrix Computations, 10.1.

    Examples
    --------
    The matrix tridiag(-1, 2, -1) is its own tridiagonal form, seen from the first unit vector.

    >>> A = 2 * np.eye(5) - np.eye(5, k=1) - np.eye(5, k=-1)
    >>> t = lanczos(A, [1, 0, 0, 0, 0], 3)
    >>> t.alphas, t.betas, t.residual_norm
    (array([2., 2., 2.]), array([1., 1.]), 1.0)
    >>> r_and_last = np.outer(t.residual, [0, 0, 1])
    >>> bool(np.allclose(A @ t.Q, t.Q @ t.dense() + r_and_last))
    True
    """
    operator = SymmetricOperator(A, max_products=max_products, max_seconds=max_seconds)
    n = operator.n
    m = whole_number("num_steps", num_steps, 1, n)
    if reorthogonalize not in ("full", "none"):
        raise ValueError(f"reorthogonalize must be 'full' or 'none', got {reorthogonalize!r}")
    start = checked_start(v0, n)
    scaled = ScaledOperator(operator, 0)
    process: LanczosFactorization | ThreeTermRecurrence | None = None
    status = Status.CONVERGED
    with reporting(progress, "lanczos") as report, one_blas_thread(8 * n):
        try:
            product = operator(start)
            scaled = ScaledOperator(operator, binary_exponent(product))
            product = ldexp(product, -scaled.exponent)
            if reorthogonalize == "full":
                never_used = np.random.default_rng(0)  # the process stops where the space is invariant
                process = LanczosFactorization(scaled, n, m, start, rng=never_used, eps=operator.eps)
            else:
                process = ThreeTermRecurrence(scaled, start, eps=operator.eps)
            process.extend(product)
            report(1, m)
            while process.size < m and not process.invariant:
                process.extend()
                report(process.size, m)
            if process.size < m:
                status = Status.BREAKDOWN
        except STOPS as stop:
            status = status_of(stop)
    if process is None or process.size == 0:  # Q T is empty, and r is where the process would have begun
        Q = np.zeros((n, 0)) if reorthogonalize == "full" else None
        return Tridiagonalization(np.zeros(0), np.zeros(0), Q, start, 1.0, operator.num_products, status)
    residual = scaled.unscale(process.residual)
    return Tridiagonalization(
        alphas=scaled.unscale(process.alphas),
        betas=scaled.unscale(process.betas),
        Q=process.V if isinstance(process, LanczosFactorization) else None,
        residual=residual,
        residual_norm=float(ldexp(np.linalg.norm(process.residual), scaled.exponent)),
        num_products=operator.num_products,
        status=status,
    )


class ThreeTermRecurrence:
    """The Lanczos process with the last two vectors alone, in Paige's order of operations.

    Examples
    --------
    >>> process = ThreeTermRecurrence(np.diag([1.0, 3.0]).dot, np.array([0.6, 0.8]))
    >>> process.extend()
    >>> process.alphas
    array([2.28])
    """

    def __init__(self, A: Callable[[Array], Array], start: Array, *, eps: float = 2.0**-52) -> None:
        self.A = A
        self.residual = start
        self.size = 0
        self.invariant = False
        self._previous = np.zeros_like(start)
        self._alphas: list[float] = []
        self._betas = [1.0]  # length of the start vector, then the off-diagonal
        self._norm = 0.0
        self._eps = eps

    @property
    def alphas(self) -> Array:
        """Diagonal of T, shape (m,)."""
        return np.array(self._alphas[: self.size])

    @property
    def betas(self) -> Array:
        """Off-diagonal of T, shape (m-1,)."""
        return np.array(self._betas[1 : self.size])

    def extend(self, product: Array | None = None) -> None:
        """Take one step; one product, or none if ``A v`` is given."""
        beta = self._betas[-1]
        v = self.residual / beta
        w = self.A(v) if product is None else product.copy()
        norm = max(self._norm, float(np.linalg.norm(w)))
        if self.size:
            w -= beta * self._previous
        alpha = float(v @ w)
        w -= alpha * v
        self._alphas.append(alpha)
        self._betas.append(float(np.linalg.norm(w)))
        self._previous, self.residual, self._norm = v, w, norm
        self.invariant = self._betas[-1] <= 10 * self._eps * norm
        self.size += 1


def checked_start(v0: ArrayLike, n: int) -> Array:
    """Return ``v0 / |v0|`` as a new array, shape (n,); raise if that makes no sense.

    Examples
    --------
    >>> checked_start([0.0, 0.0], 2)
    Traceback (most recent call last):
    ValueError: v0 must not be zero
    """
    v = np.asarray(v0)
    if v.dtype.kind not in "fiub":
        raise ValueError(f"v0 must be real, got dtype {v.dtype}")
    if v.shape != (n,):
        raise ValueError(f"v0 must have shape ({n},), got {v.shape}")
    v = v.astype(np.float64)
    if not np.isfinite(v).all():
        raise ValueError(f"v0 must be finite, got {v[~np.isfinite(v)][0]} at index {np.argmin(np.isfinite(v))}")
    if not v.any():
        raise ValueError("v0 must not be zero")
    return unit_vector(v)
