"""Preconditioners for damped operators ``A + shift I``, made from a diagonal or from eigenpairs.

Each is a symmetric positive definite LinearOperator, an approximate inverse, for the ``preconditioner`` of a solver.
Where A has a few large eigenvalues and a bulk near zero, as curvature matrices of neural nets do, taking the large ones
out leaves a condition number of about ``(bulk + shift) / shift``.

References
----------
Frangella, Tropp and Udell (2023), Randomized Nystrom preconditioning.
Giraud and Gratton (2006), On the sensitivity of some spectral preconditioners.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.blas import one_blas_thread
from krylovh.checks import finite_array
from krylovh.krylov.linear_operator import SymmetricLinearOperator
from krylovh.results import EigenResult

Array = NDArray[np.float64]

__all__ = ["DiagonalPreconditioner", "RitzDeflation", "SpectralPreconditioner"]


class DiagonalPreconditioner(SymmetricLinearOperator):
    """The inverse of a positive diagonal plus a shift (Jacobi).

    Parameters
    ----------
    diagonal : array_like, shape (n,)
        The diagonal of A, or an estimate of it.
    shift : float
        What is added to A.

    Raises
    ------
    ValueError
        If an entry of ``diagonal + shift`` is not positive: then ``A + shift I`` is not positive definite either.

    Examples
    --------
    >>> DiagonalPreconditioner([1.0, 3.0], shift=1.0) @ np.ones(2)
    array([0.5 , 0.25])
    """

    def __init__(self, diagonal: ArrayLike, shift: float = 0.0) -> None:
        entries = finite_array("diagonal", diagonal, np.float64)
        if entries.ndim != 1:
            raise ValueError(f"diagonal must have shape (n,), got {entries.shape}")
        self.entries = entries + _checked_shift(shift)
        if not (self.entries > 0).all():
            i = int(np.argmin(self.entries))
            raise ValueError(f"diagonal + shift must be positive, got {self.entries[i]} at index {i}")
        super().__init__(entries.size)

    def _multiply(self, V: Array) -> Array:
        return np.asarray(V / self.entries[:, None])


class SpectralPreconditioner(SymmetricLinearOperator):
    """The inverse of ``A + shift I`` on known eigenvectors, and one number on all that is orthogonal to them.

    In units of that number it is ``I + U (diag(level / (theta + shift)) - I) U'``: the eigenvalues that are known
    all become ``level``, which ought to lie where the others are.

    Parameters
    ----------
    values : array_like, shape (k,)
        Eigenvalues ``theta`` of A.  Of ``theta + shift`` the magnitude is used, so that the preconditioner is positive
        definite whatever A is, and conjugate gradients find the negative curvature rather than the preconditioner's.
    vectors : array_like, shape (n, k)
        Orthonormal.
    shift : float
        What is added to A.
    level : float
        Positive.

    Examples
    --------
    >>> P = SpectralPreconditioner([9.0], np.eye(3, 1), shift=1.0, level=2.0)
    >>> P @ np.ones(3)
    array([0.2, 1. , 1. ])
    """

    def __init__(self, values: ArrayLike, vectors: ArrayLike, shift: float, level: float) -> None:
        theta = finite_array("values", values, np.float64)
        self.vectors = finite_array("vectors", vectors, np.float64)
        if theta.ndim != 1 or self.vectors.ndim != 2 or self.vectors.shape[1] != theta.size:
            raise ValueError(f"vectors must have shape (n, {theta.size}), got {self.vectors.shape}")
        if not 0 < level < np.inf:
            raise ValueError(f"level must be positive and finite, got {level}")
        self.shift, self.level = _checked_shift(shift), float(level)
        damped = np.abs(theta + self.shift)
        tiny = np.finfo(np.float64).eps * damped.max(initial=self.level)
        self.factors = np.where(damped > tiny, self.level / np.maximum(damped, tiny), 1.0) - 1.0
        super().__init__(self.vectors.shape[0])

    @property
    def rank(self) -> int:
        """Number of eigenvectors."""
        return self.factors.size

    def _multiply(self, V: Array) -> Array:
        with one_blas_thread(self.vectors.nbytes):
            return np.asarray(V + self.vectors @ (self.factors[:, None] * (self.vectors.T @ V)))


class RitzDeflation(SpectralPreconditioner):
    """Spectral preconditioner for ``A + shift I`` from eigenpairs of A that are known already; no product.

    Pairs need not have converged: inaccurate ones make it weaker, not wrong.

    Parameters
    ----------
    eigenpairs : EigenResult
        Of A, as :func:`eigsh` returns them; the largest for positive definite A, both ends ("BE") where some
        eigenvalues are negative.
    shift : float
        What is added to A; the same pairs serve any shift.
    level : float, optional
        Where the known eigenvalues are moved; by default the smallest ``|theta + shift|`` among the largest known half,
        which is the edge of the bulk.

    Raises
    ------
    ValueError
        Where there are no pairs, or an argument makes no sense.

    References
    ----------
    Giraud and Gratton (2006), On the sensitivity of some spectral preconditioners.

    Examples
    --------
    >>> from krylovh import cg, eigsh
    >>> A = np.diag(np.concatenate([np.linspace(0, 0.1, 300), np.arange(1.0, 21.0)]))
    >>> shifted, b = A + 0.01 * np.eye(320), np.ones(320)
    >>> P = RitzDeflation(eigsh(A, 20, rng=0), shift=0.01)
    >>> plain, deflated = cg(shifted, b), cg(shifted, b, preconditioner=P)
    >>> str(deflated.status), deflated.num_products < plain.num_products / 2
    ('converged', True)
    """

    def __init__(self, eigenpairs: EigenResult, shift: float = 0.0, *, level: float | None = None) -> None:
        values = eigenpairs.eigenvalues
        if values.size == 0:
            raise ValueError("eigenpairs must hold at least one pair, got none")
        if level is None:
            damped = np.sort(np.abs(values + _checked_shift(shift)))
            level = float(damped[damped.size // 2 if eigenpairs.which == "BE" else 0])
            level = level if level > 0 else float(damped.max()) or 1.0
        super().__init__(values, eigenpairs.eigenvectors, shift, level)


def _checked_shift(shift: Any) -> float:
    if not np.isfinite(shift):
        raise ValueError(f"shift must be finite, got {shift}")
    return float(shift)
