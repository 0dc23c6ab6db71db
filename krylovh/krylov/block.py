"""The block Lanczos factorisation ``A V = V T + Q S`` and its thick restart.

``V`` has orthonormal columns, ``Q`` is an orthonormal block orthogonal to them, ``T = V'AV``.  A step appends ``Q`` to
the basis, with one block product; a restart replaces the basis by some of its Ritz vectors, ``S`` by ``S s_i``.  A
block of b columns sees b vectors of each eigenspace.  Where columns of a new block depend on one another, or are zero,
only a basis of their span goes on: the block shrinks, and nothing else changes.

Any orthonormal vectors ``X`` with known products are such a factorisation, ``A X = X Theta + Q S`` with ``Q S`` their
residuals: so approximate eigenvectors from elsewhere can be a start.

References
----------
Golub and Underwood (1977), The block Lanczos method for computing eigenvalues.
Zhou and Saad (2008), Block Krylov-Schur method for large symmetric eigenvalue problems.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread
from krylovh.krylov.basis import BasisStorage, rotate
from krylovh.krylov.factorization import RitzPairs
from krylovh.krylov.orthogonalize import fresh_direction, orthonormal_part, project_out

Array = NDArray[np.float64]

__all__ = ["BlockLanczosFactorization"]


class BlockLanczosFactorization:
    """A growing, restartable factorisation ``A V = V T + Q S``; with ``X`` locked, of the deflated operator.

    If a product raises, the factorisation is what it was before the step.

    Parameters
    ----------
    A : callable
        ``A(V)`` of shape (n, b) is a new array.
    n : int
        Order of ``A``.
    capacity : int
        Most columns that ``V`` may have.
    block : ndarray, shape (n, b)
        Start vectors; dependent ones are left out.
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
    >>> start = np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 0.0]])
    >>> f = BlockLanczosFactorization(A.dot, 3, 3, start, rng=np.random.default_rng(0))
    >>> f.extend()
    >>> bool(np.allclose(A @ f.V, f.V @ f.T + f.Q @ f.S))
    True
    """

    def __init__(
        self,
        A: Callable[[Array], Array],
        n: int,
        capacity: int,
        block: Array,
        *,
        locked: Array | None = None,
        rng: np.random.Generator,
        eps: float = 2.0**-52,
        storage: BasisStorage = BasisStorage(),  # noqa: B008  immutable
    ) -> None:
        self.A, self.n, self.capacity = A, n, capacity
        self.num_locked = 0 if locked is None else locked.shape[1]
        self.size = 0  # m
        self.norm = 0.0  # largest |A v| met: a lower bound of |A|
        self.noise = 0.0  # largest component along V that exact products would not have
        self._basis = storage.empty(n, self.num_locked + capacity)
        if locked is not None:
            self._basis[:, : self.num_locked] = locked
        self._T = np.zeros((capacity, capacity))
        self._K = np.zeros((self.num_locked, capacity))  # X'AV
        self._rng, self._eps = rng, eps
        self._floor = 10 * float(np.finfo(np.float64).eps)
        self.block_size = min(block.shape[1], capacity)
        block = block / np.maximum(np.linalg.norm(block, axis=0), np.finfo(np.float64).tiny)
        project_out(self._basis[:, : self.num_locked], block)
        self.Q = orthonormal_part(block, self._basis[:, : self.num_locked], self._floor)[0][:, :capacity]
        self.S = np.zeros((self.Q.shape[1], 0))

    def adopt(self, vectors: Array, products: Array) -> None:
        """Make orthonormal vectors X, with ``A X`` known, the basis of an empty factorisation; no product."""
        p, first = vectors.shape[1], self.num_locked
        form = vectors.T @ products
        self._basis[:, first : first + p] = vectors
        self._T[:p, :p] = (form + form.T) / 2
        residuals = products.copy()
        coefficients = project_out(self._basis[:, : first + p], residuals)
        self._K[:, :p] = coefficients[:first]
        self.norm = float(np.linalg.norm(products, axis=0).max(initial=0.0))
        self.size = p
        self._continue_with(residuals, 0)

    @property
    def V(self) -> Array:
        """The basis, shape (n, m): a view."""
        return self._basis[:, self.num_locked : self.num_locked + self.size]

    @property
    def T(self) -> Array:
        """The operator on the basis, shape (m, m): a view."""
        return self._T[: self.size, : self.size]

    @property
    def invariant(self) -> bool:
        """Whether the space is invariant to rounding, so that nothing says where to go."""
        return bool(self.Q.shape[1] == 0)

    @property
    def complete(self) -> bool:
        """Whether there is no direction left: V and X span the whole space."""
        return bool(self.num_locked + self.size == self.n)

    @property
    def full(self) -> bool:
        """Whether there is no room for another step."""
        return bool(self.size + max(self.Q.shape[1], 1) > self.capacity)

    def extend(self) -> None:
        """Append the next block to the basis; as many products as it has columns."""
        m, last = self.size, self.num_locked + self.size
        Q, S = (self._fresh_block(), np.zeros((0, m))) if self.invariant else (self.Q, self.S)
        b = Q.shape[1]
        S = S if S.shape[0] else np.zeros((b, m))
        self._basis[:, last : last + b] = Q
        W = self.A(Q)
        norm = max(self.norm, float(np.linalg.norm(W, axis=0).max()))
        W -= self._basis[:, self.num_locked : last] @ S.T
        correction = project_out(self._basis[:, : last + b], W)

        inner = correction[last:]
        unexpected = max(
            float(np.abs(correction[self.num_locked : last]).max(initial=0.0)), float(np.abs(inner - inner.T).max())
        )
        self._T[m : m + b, :m] = S
        self._T[:m, m : m + b] = S.T
        self._T[m : m + b, m : m + b] = (inner + inner.T) / 2
        self._K[:, m : m + b] = correction[: self.num_locked]
        self.norm, self.noise = norm, max(self.noise, unexpected)
        self.size = m + b
        self._continue_with(W, m)

    def _fresh_block(self) -> Array:
        """Return random directions orthogonal to all there are."""
        last = self.num_locked + self.size
        room = min(self.block_size, self.capacity - self.size, self.n - last)
        directions = np.empty((self.n, 0))
        for _ in range(room):
            taken = np.hstack([self._basis[:, :last], directions])
            directions = np.column_stack([directions, fresh_direction(taken, self._rng)])
        return directions

    def _continue_with(self, W: Array, first: int) -> None:
        """Set ``Q S`` to what leaves the space: ``W``, for the columns of V from ``first`` on."""
        last = self.num_locked + self.size
        if last == self.n:
            self.Q, self.S = np.zeros((self.n, 0)), np.zeros((0, self.size))
            return
        Q, R = orthonormal_part(W, self._basis[:, :last], 10 * self._eps * self.norm)
        self.Q, self.S = Q, np.hstack([np.zeros((Q.shape[1], first)), R])

    def ritz(self) -> RitzPairs:
        """Return the Ritz pairs; no product."""
        with one_blas_thread(self._basis.nbytes):
            values, coordinates = np.linalg.eigh(self.T)
        return RitzPairs(values, coordinates, np.linalg.norm(self.S @ coordinates, axis=0))

    def products(self, coordinates: Array) -> Array:
        """Return ``A V C`` for ``C`` of shape (m, p) from the factorisation, without a product."""
        last = self.num_locked + self.size
        inside = np.vstack([self._K[:, : self.size] @ coordinates, self.T @ coordinates])
        with one_blas_thread(self._basis.nbytes):
            return np.asarray(self._basis[:, :last] @ inside + self.Q @ (self.S @ coordinates))

    def restart(self, ritz: RitzPairs, kept: NDArray[np.intp]) -> None:
        """Shrink the basis to the Ritz vectors ``kept``; no product."""
        m, p = self.size, kept.size
        coordinates = ritz.coordinates[:, kept]
        rotate(self.V, coordinates)
        self._K[:, :p] = self._K[:, :m] @ coordinates
        self._T[:m, :m] = 0.0
        self._T[np.arange(p), np.arange(p)] = ritz.values[kept]
        self.S = self.S @ coordinates
        self.size = p
