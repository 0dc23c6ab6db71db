"""Lockstep Lanczos: independent Lanczos processes that advance together, one block product per step.

Process ``i`` starts from column ``i`` of ``V`` and knows nothing of the others.  After m steps ``A Q = Q T + r e_m'``,
as for a single process; but the operator is applied to all current vectors at once, which is several times cheaper per
vector than applying it to one.  (Block Lanczos, in contrast, builds one space out of all start vectors.)

A process whose Krylov space becomes invariant has nothing more to learn, leaves the block, and costs no more products.

The basis is kept semiorthogonal.  Rounding makes the inner products of a new vector with the earlier ones grow by a
recurrence that can be followed without the vectors (Simon 1984); only where it passes ``level`` is the vector, and the
one after it, orthogonalised against the whole basis.  With inner products below the square root of machine epsilon,
``T`` is to machine epsilon what it would be with an orthonormal basis, at a fraction of the memory traffic.

References
----------
Golub and Van Loan, Matrix Computations, 10.1 and 10.3.
Simon (1984), The Lanczos algorithm with partial reorthogonalization.
Greenbaum (1989), Behavior of slightly perturbed Lanczos and conjugate-gradient recurrences.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import daxpy, ddot, dnrm2, dscal

from krylovh.blas import one_blas_thread
from krylovh.krylov.orthogonalize import orthogonalize
from krylovh.krylov.scaling import binary_exponent, ldexp
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.krylov.symmetry import check_symmetry

Array = NDArray[np.float64]

__all__ = ["LockstepLanczos"]


_STATE = ("exponent", "alphas", "betas", "steps", "invariant", "active", "_norms")


class LockstepLanczos:
    """Lanczos processes from the columns of ``V``, advanced by :meth:`step`.

    Costs one product per active process and step.  Recurrences are in float64; basis vectors are kept in the dtype of
    the products, to which they are rounded anyway before the next product.  Memory between products is
    ``n b num_steps`` numbers of that dtype for b processes with reorthogonalisation and ``2 n b`` without; each product
    adds its argument and its result.

    Everything is done for ``2**-exponent A``, with ``exponent`` read off the first product, so that operators of any
    magnitude take the same path through the same bits.  If ``step`` raises, the steps that were finished stay valid.

    Parameters
    ----------
    A : SymmetricOperator
        Of order n.
    V : ndarray, shape (n, b)
        Start vectors of length one.
    num_steps : int
        Between 1 and n.
    reorthogonalize : bool
        Orthogonalise new vectors against the basis.  Without, two vectors per process are kept; once an extreme Ritz
        value has converged copies of it appear, and share its weight (Greenbaum 1989).
    level : float, optional
        Largest inner product of two basis vectors; by default the square root of the machine epsilon of the products.
        With 0 every new vector is orthogonalised.
    deflated : ndarray, shape (n, k), optional
        Orthonormal eigenvectors, to which the columns of ``V`` are orthogonal: new vectors are kept so, and T is that
        of ``A`` on their complement.

    Examples
    --------
    Two eigenvalues seen from a start vector make a space of dimension two.

    >>> A = SymmetricOperator(np.diag([1.0, 1.0, 3.0, 3.0]))
    >>> processes = LockstepLanczos(A, np.full((4, 1), 0.5), 4)
    >>> while processes.active.size:
    ...     processes.step()
    >>> processes.steps, processes.invariant
    (array([2]), array([ True]))
    """

    def __init__(
        self,
        A: SymmetricOperator,
        V: Array,
        num_steps: int,
        *,
        reorthogonalize: bool = True,
        level: float | None = None,
        deflated: Array | None = None,
    ) -> None:
        self._A = A
        n, b = V.shape
        #: the space is invariant when ``beta`` is at most this times ``|T|``: rounding of products and of recurrences
        self.tolerance = 10 * (A.eps + math.sqrt(n) * float(np.finfo(np.float64).eps))
        self.num_steps = num_steps
        self.exponent = 0
        #: diagonals and off-diagonals of T of ``2**-exponent A``: entries ``[i, :steps[i]]`` and ``[i, :steps[i] - 1]``
        self.alphas = np.zeros((b, num_steps))
        self.betas = np.zeros((b, num_steps))
        self.steps = np.zeros(b, dtype=np.intp)  # steps taken by each process
        self.invariant = np.zeros(b, dtype=bool)  # the Krylov space is invariant up to rounding
        self.active = np.arange(b)  # processes that go on
        self._norms = np.zeros(b)  # running upper estimate of |T|
        # the whole basis, or the last two vectors in turn: vector j is row j % depth
        self._basis = np.empty((b, num_steps if reorthogonalize else min(2, num_steps), n), dtype=A.dtype)
        self._basis[:, 0] = V.T
        self._deflated = np.empty((n, 0)) if deflated is None else deflated
        self._scratch = np.empty((2, n if A.dtype != np.float64 else 0))
        orthogonality = _Orthogonality(self.alphas, self.betas, A.eps, math.sqrt(A.eps) if level is None else level)
        self._orthogonality = orthogonality if reorthogonalize else None

    def step(self) -> None:
        """Take one step in every active process, with one block product."""
        j = int(self.steps[self.active[0]])
        row = j % self._basis.shape[1]
        together = self.active.size == len(self._basis)
        current = self._basis[:, row] if together else self._basis[self.active, row]  # a view if possible
        W = np.ascontiguousarray(self._A(current.T).T)  # rows are updated in place, and so must be contiguous
        with one_blas_thread():  # what is limited by memory gains nothing from a second one
            if j == 0:
                self.exponent = binary_exponent(W)
                self._check_symmetry(self._basis[:, 0].T, ldexp(W, -self.exponent).T)
            for process, w in zip(self.active, W, strict=True):
                self._recur(int(process), j, w)
            if self._deflated.shape[1]:
                W -= (W @ self._deflated) @ self._deflated.T
            lengths = np.array([dnrm2(w) for w in W])
            lost = self._lost(j, W, lengths)
            for k, (process, w) in enumerate(zip(self.active, W, strict=True)):
                self._extend(int(process), j, w, float(lengths[k]), bool(lost[k]))
        going_on = ~self.invariant[self.active]
        self.active = self.active[going_on & (j + 1 < self.num_steps)]

    def state(self) -> dict[str, Any]:
        """Return everything that the next steps depend on, between two of them; arrays are views."""
        rows = min(int(self.steps.max(initial=0)) + 1, self._basis.shape[1])
        state = {name: getattr(self, name) for name in _STATE}
        if self._orthogonality is not None:
            state |= {f"orthogonality{name}": getattr(self._orthogonality, name) for name in _Orthogonality.STATE}
        return {**state, "basis": self._basis[:, :rows], "num_products": self._A.num_products}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where processes of the same size were; what is in the state is copied."""
        for name in _STATE:
            if isinstance(mine := getattr(self, name), np.ndarray) and name != "active":
                mine[...] = state[name]
            else:
                setattr(self, name, state[name])
        for name in _Orthogonality.STATE if self._orthogonality is not None else ():
            getattr(self._orthogonality, name)[...] = state[f"orthogonality{name}"]
        self._basis[:, : state["basis"].shape[1]] = state["basis"]
        self._A.num_products = state["num_products"]

    def _check_symmetry(self, V: NDArray[Any], product: Array) -> None:
        """Refuse an operator that its first block of products shows to be not symmetric; free unless it looks so."""
        scaled = lambda u: ldexp(self._A(u), -self.exponent)  # noqa: E731
        check_symmetry(scaled, V.astype(np.float64, copy=False), product, self._A.eps, margin=1e4)

    def _vector(self, i: int, j: int) -> Array:
        """Return vector j of process i in float64: as it lies in the basis, or in scratch."""
        stored: NDArray[Any] = self._basis[i, j % self._basis.shape[1]]
        if stored.dtype == np.float64:
            return stored
        scratch: Array = self._scratch[j % 2]
        scratch[:] = stored
        return scratch

    def _recur(self, i: int, j: int, w: Array) -> None:
        """Turn ``w = A q_j`` of process i into ``A q_j - alpha_j q_j - beta_{j-1} q_{j-1} = beta_j q_{j+1}``."""
        for factor in _powers_of_two(-self.exponent):
            dscal(factor, w)
        if j:
            daxpy(self._vector(i, j - 1), w, a=-self.betas[i, j - 1])
        q = self._vector(i, j)
        self.alphas[i, j] = ddot(q, w)
        daxpy(q, w, a=-self.alphas[i, j])

    def _lost(self, j: int, W: Array, lengths: Array) -> NDArray[np.bool_]:
        """Return which rows of ``W``, ``beta_j q_{j+1}`` of the active processes, have to be orthogonalised."""
        if self._orthogonality is None:
            return np.zeros(len(W), dtype=bool)
        asymmetry = np.zeros(len(W))
        if j:  # the part along q_{j-1} is known to be zero but for errors of the products
            for k, (process, w) in enumerate(zip(self.active, W, strict=True)):
                asymmetry[k] = abs(ddot(self._vector(int(process), j - 1), w))
        return self._orthogonality.is_lost(self.active, j, lengths, asymmetry)

    def _extend(self, i: int, j: int, w: Array, beta: float, lost: bool) -> None:
        """Finish step j of process i, with ``w = beta_j q_{j+1}``, whose orthogonality may be lost."""
        depth, n = self._basis.shape[1:]
        previous_beta = float(self.betas[i, j - 1]) if j else 0.0
        norm = max(float(self._norms[i]), abs(float(self.alphas[i, j])) + beta + previous_beta)
        if lost and self._orthogonality is not None:
            coefficients, beta = orthogonalize(self._basis[i, : j + 1].T, w)
            self.alphas[i, j] += coefficients[j]
            self._orthogonality.restored(i, j, coefficients)
        self._norms[i], self.betas[i, j] = norm, beta
        # n orthogonal vectors are the whole space; without reorthogonalisation they need not be orthogonal
        whole_space = self._orthogonality is not None and j + 1 == n - self._deflated.shape[1]
        invariant = whole_space or beta <= self.tolerance * norm
        if j + 1 < self.num_steps and not invariant:
            self._basis[i, (j + 1) % depth] = dscal(1 / beta, w)
        self.steps[i] = j + 1  # from here on the step counts, should an interrupt come
        self.invariant[i] = invariant


class _Orthogonality:
    """Estimates of ``w_{j+1,k} = q_k' q_{j+1}``, k = 0 ... j, for every process, from the entries of T alone.

    Multiplying the recurrence of ``q_{j+1}`` by ``q_k'`` and that of ``q_{k+1}`` by ``q_j'`` gives

        beta_j w_{j+1,k} = beta_k w_{j,k+1} + (alpha_k - alpha_j) w_{j,k} + beta_{k-1} w_{j,k-1} - beta_{j-1} w_{j-1,k}

    plus the rounding of both products.  That is taken for a multiple of what the products are long, as columns of T;
    the multiple begins with machine epsilon, and follows the inner products that are computed on the way.
    """

    STATE = ("_noise", "_products", "_estimates", "_lengths", "_again")

    def __init__(self, alphas: Array, betas: Array, eps: float, level: float) -> None:
        b, num_steps = alphas.shape
        self._alphas, self._betas = alphas, betas
        self._eps, self._level = eps, level
        self._noise = np.full(b, eps)  # of products and recurrences, relative to their length
        self._products = np.zeros((b, num_steps))  # lengths of the columns of T
        self._estimates = np.zeros((3, b, num_steps))  # w_{j,k} in [j % 3, :, k]
        self._lengths = np.zeros(b)
        self._again = np.zeros(b, dtype=bool)  # the last vector was orthogonalised, and the next one is to be

    def is_lost(self, rows: NDArray[np.intp], j: int, beta: Array, asymmetry: Array) -> NDArray[np.bool_]:
        """Return for which processes ``beta_j q_{j+1}``, of length ``beta``, has to be orthogonalised.

        ``asymmetry`` is its inner product with ``q_{j-1}``.
        """
        current, previous = self._estimates[j % 3, rows], self._estimates[(j - 1) % 3, rows]
        alphas, betas = self._alphas[rows], self._betas[rows]
        length = np.abs(alphas[:, j]) + beta + (betas[:, j - 1] if j else 0.0)
        self._products[rows, j], self._lengths[rows] = length, beta
        self._noise[rows] = np.maximum(self._noise[rows], 3 * asymmetry / np.where(length > 0, length, 1.0))
        rounding = self._noise[rows][:, None] * (self._products[rows, : j + 1] + length[:, None])
        divisor = np.where(length > 0, np.maximum(beta, 1e-30 * length), 1.0)[:, None]
        estimate = rounding / divisor  # of the two last vectors
        if j > 1:
            k = j - 1
            growth = betas[:, :k] * current[:, 1 : k + 1] - betas[:, k:j] * previous[:, :k]
            growth += (alphas[:, :k] - alphas[:, j : j + 1]) * current[:, :k]
            growth[:, 1:] += betas[:, : k - 1] * current[:, : k - 1]
            estimate[:, :k] = (growth + np.copysign(rounding[:, :k], growth)) / divisor
        self._estimates[(j + 1) % 3, rows, : j + 1] = estimate
        again = self._again[rows]
        lost = again | (beta == 0) | (np.abs(estimate).max(axis=1) > self._level)
        self._again[rows] = lost & ~again
        return np.asarray(lost)

    def restored(self, i: int, j: int, coefficients: Array) -> None:
        """Note that ``q_{j+1}`` was orthogonalised, and what was taken away."""
        estimate = self._estimates[(j + 1) % 3, i, : j + 1]
        expected, found = float(np.abs(estimate).max()), float(np.abs(coefficients).max())
        if found > 0:  # an estimate that was far too large is trusted in part only
            ratio = found / (self._lengths[i] * expected)
            self._noise[i] = min(1.0, max(self._noise[i] * max(ratio, min(1.0, 8 * ratio)), self._eps / 64))
        estimate[:] = self._eps


def _powers_of_two(exponent: int) -> list[float]:
    """Return factors whose product is ``2**exponent``, none of which overflows."""
    if abs(exponent) < 1000:
        return [math.ldexp(1.0, exponent)] if exponent else []
    half = exponent // 2
    return [math.ldexp(1.0, half), math.ldexp(1.0, exponent - half)]
