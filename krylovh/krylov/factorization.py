"""The Lanczos factorisation ``A V = V T + r b'`` and its thick restart.

The columns of ``V`` are orthonormal, ``r`` is orthogonal to them, ``T = V'AV`` is small and symmetric.  A step appends
``r / |r|`` to the basis; afterwards ``b = e_m`` and only the last column of ``A V`` leaves the space.  A restart
replaces the basis by some of its Ritz vectors ``V s_i``: the form stays, with ``T`` diagonal and ``b_i`` the old
``b's_i``.  It is mathematically the implicit restart of ARPACK with exact shifts, without its bulge chasing.  A step
costs one product with ``A`` and about ``4 n m`` operations against the basis.

With ``X`` locked, everything above holds for the deflated operator ``(I - XX') A (I - XX')``; with ``K = X'AV``, which
Gram-Schmidt finds on its way, ``A V = V T + r b' + X K``.  So ``A`` times any vector of the space is known.

References
----------
Wu and Simon (2000), Thick-restart Lanczos method for large symmetric eigenvalue problems.
Stewart (2001), A Krylov-Schur algorithm for large eigenproblems.
Golub and Van Loan, Matrix Computations, 10.1 and 10.3; Parlett, The Symmetric Eigenvalue Problem, chapter 13.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread
from krylovh.krylov.basis import BasisStorage, rotate
from krylovh.krylov.orthogonalize import fresh_direction, orthogonalize

Array = NDArray[np.float64]

__all__ = ["LanczosFactorization", "RitzPairs"]


@dataclass(frozen=True)
class RitzPairs:
    """Eigenpairs of ``T``: approximations ``V s_i`` with ``|A V s_i - theta_i V s_i| = |r| |b's_i|``."""

    values: Array  # (m,), ascending
    coordinates: Array  # (m, m): column i is s_i
    residual_norms: Array  # (m,)


class LanczosFactorization:
    """A growing, restartable factorisation ``A V = V T + r b'``.

    If a product raises, the factorisation is what it was before the step.

    Parameters
    ----------
    A : callable
        ``A(v)`` is a new array.
    n : int
        Order of ``A``.
    capacity : int
        Most columns that ``V`` may have.
    start : ndarray of length one, shape (n,), optional
        First column of ``V``; random where not given.  Orthogonal to ``locked``.
    locked : ndarray, shape (n, l), optional
        ``X``, with orthonormal columns.
    rng : numpy.random.Generator
        Where directions come from that the products do not give.
    eps : float
        Machine epsilon of the products.
    storage : BasisStorage
        Where the basis lives.

    Examples
    --------
    >>> A = np.diag([1.0, 2.0, 4.0])
    >>> f = LanczosFactorization(A.dot, 3, 2, np.full(3, 3**-0.5), rng=np.random.default_rng(0))
    >>> f.extend(), f.extend()
    (None, None)
    >>> bool(np.allclose(A @ f.V, f.V @ f.T + np.outer(f.residual, f.coupling)))
    True
    """

    def __init__(
        self,
        A: Callable[[Array], Array],
        n: int,
        capacity: int,
        start: Array | None = None,
        *,
        locked: Array | None = None,
        rng: np.random.Generator,
        eps: float = 2.0**-52,
        storage: BasisStorage = BasisStorage(),  # noqa: B008  immutable
    ) -> None:
        self.A = A
        self.capacity = capacity
        self.num_locked = 0 if locked is None else locked.shape[1]
        self.size = 0  # m
        self.residual = np.zeros(n) if start is None else start  # r
        self.beta = 0.0 if start is None else 1.0  # |r|
        self.invariant = start is None  # r is zero to rounding, and says nothing about where to go
        self.norm = 0.0  # largest |A v| met: a lower bound of |A|
        self.noise = 0.0  # largest component along V that exact products would not have
        self._basis = storage.empty(n, self.num_locked + capacity)
        if locked is not None:
            self._basis[:, : self.num_locked] = locked
        self._T = np.zeros((capacity, capacity))
        self._K = np.zeros((self.num_locked, capacity))  # X'AV
        self._tail = np.zeros(0)  # b is zero but for this tail: one entry after a step, all after a restart
        self._rng = rng
        self._eps = eps

    @property
    def V(self) -> Array:
        """The basis, shape (n, m): a view."""
        return self._basis[:, self.num_locked : self.num_locked + self.size]

    @property
    def T(self) -> Array:
        """The operator on the basis, shape (m, m): a view."""
        return self._T[: self.size, : self.size]

    @property
    def alphas(self) -> Array:
        """Diagonal of T, shape (m,)."""
        return np.diagonal(self.T).copy()

    @property
    def betas(self) -> Array:
        """Off-diagonal of T, shape (m-1,): all of it that is not zero, before the first restart."""
        return np.diagonal(self.T, 1).copy()

    @property
    def coupling(self) -> Array:
        """The vector b, shape (m,)."""
        return np.concatenate([np.zeros(self.size - self._tail.size), self._tail])

    @property
    def full(self) -> bool:
        """Whether there is no room for another step."""
        return self.size == self.capacity

    @property
    def complete(self) -> bool:
        """Whether there is no direction left: V and X span the whole space."""
        return self.num_locked + self.size == len(self.residual)

    def extend(self, product: Array | None = None) -> None:
        """Append the next direction v to the basis; one product, or none if ``A v`` is given.

        The local recurrence comes first, ``w = A v - V (|r| b) - alpha v``.  In exact arithmetic that is the new
        residual; what one pass of Gram-Schmidt still finds is rounding, noise of the products, or asymmetry.
        """
        m, last = self.size, self.num_locked + self.size
        if self.invariant:
            v, column = fresh_direction(self._basis[:, :last], self._rng), np.zeros(0)
        else:
            v, column = self.residual / self.beta, self.beta * self._tail
        self._basis[:, last] = v
        w = self.A(v) if product is None else product.copy()
        norm = max(self.norm, float(np.linalg.norm(w)))

        w -= self._basis[:, last - column.size : last] @ column
        alpha = float(v @ w)
        w -= alpha * v
        correction, beta = orthogonalize(self._basis[:, : last + 1], w)
        noise = max(self.noise, float(np.abs(correction[self.num_locked :]).max()))

        self._T[m, : m + 1] = 0.0
        self._T[m, m - column.size : m] = column
        self._T[m, m] = alpha + correction[-1]
        self._T[: m + 1, m] = self._T[m, : m + 1]
        self._K[:, m] = correction[: self.num_locked]
        self.norm, self.noise, self.residual, self.beta = norm, noise, w, beta
        self.invariant = beta <= 10 * self._eps * norm or last + 1 == len(w)
        self._tail = np.ones(1)
        self.size = m + 1

    def ritz(self) -> RitzPairs:
        """Return the Ritz pairs; no product."""
        with one_blas_thread(self._basis.nbytes):
            values, coordinates = np.linalg.eigh(self.T)
        tail = self._tail @ coordinates[self.size - self._tail.size :]
        return RitzPairs(values, coordinates, np.abs(self.beta * tail))

    def products(self, coordinates: Array) -> Array:
        """Return ``A V C`` for ``C`` of shape (m, p) from the factorisation, without a product."""
        last = self.num_locked + self.size
        inside = np.vstack([self._K[:, : self.size] @ coordinates, self.T @ coordinates])
        with one_blas_thread(self._basis.nbytes):
            product = self._basis[:, :last] @ inside
        product += np.multiply.outer(self.residual, self.coupling @ coordinates)
        return np.asarray(product)

    def restart(self, ritz: RitzPairs, kept: NDArray[np.intp]) -> None:
        """Shrink the basis to the Ritz vectors ``kept``; no product."""
        m, p = self.size, kept.size
        coordinates = ritz.coordinates[:, kept]
        rotate(self.V, coordinates)
        self._K[:, :p] = self._K[:, :m] @ coordinates
        self._T[:m, :m] = 0.0
        self._T[np.arange(p), np.arange(p)] = ritz.values[kept]
        self._tail = self._tail @ coordinates[m - self._tail.size :]
        self.size = p
