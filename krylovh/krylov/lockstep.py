"""Lockstep Lanczos: independent Lanczos processes that advance together, one block product per step.

Process ``i`` starts from column ``i`` of ``V`` and knows nothing of the others.  After m steps its vectors are
orthonormal and ``A Q = Q T + r e_m'``, as for a single process; but the operator is applied to all current vectors at
once, which is several times cheaper per vector than applying it to one.  (Block Lanczos, in contrast, builds one
space out of all start vectors.)

A process whose Krylov space becomes invariant has nothing more to learn, leaves the block, and costs no more products.

References
----------
Golub and Van Loan, Matrix Computations, 10.1 and 10.3.
Greenbaum (1989), Behavior of slightly perturbed Lanczos and conjugate-gradient recurrences.
"""

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.orthogonalize import orthogonalize
from krylovh.krylov.scaling import binary_exponent
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.krylov.symmetry import check_symmetry

Array = NDArray[np.float64]

__all__ = ["LockstepLanczos"]


class LockstepLanczos:
    """Lanczos processes from the columns of ``V``, advanced by :meth:`step`.

    Costs one product per active process and step.  Recurrences are in float64; memory is ``8 n b num_steps`` bytes
    for b processes with reorthogonalisation and ``24 n b`` without.

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
        Orthogonalise each new vector against the whole basis.  Without, two vectors per process are kept; once an
        extreme Ritz value has converged copies of it appear, and share its weight (Greenbaum 1989).

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

    def __init__(self, A: SymmetricOperator, V: Array, num_steps: int, *, reorthogonalize: bool = True) -> None:
        self._A = A
        n, b = V.shape
        #: the space is invariant when ``beta`` is at most this times ``|T|``: rounding of products and of recurrences
        self.tolerance = 10 * (A.eps + np.sqrt(n) * float(np.finfo(np.float64).eps))
        self.num_steps = num_steps
        self.exponent = 0
        #: diagonals and off-diagonals of T of ``2**-exponent A``: entries ``[i, :steps[i]]`` and ``[i, :steps[i] - 1]``
        self.alphas = np.zeros((b, num_steps))
        self.betas = np.zeros((b, num_steps))
        self.steps = np.zeros(b, dtype=np.intp)  # steps taken by each process
        self.invariant = np.zeros(b, dtype=bool)  # the Krylov space is invariant up to rounding
        self.active = np.arange(b)  # processes that go on
        self._norms = np.zeros(b)  # running upper estimate of |T|
        self._reorthogonalize = reorthogonalize
        # the whole basis, or the last two vectors in turn: vector j is row j % depth
        self._basis = np.empty((b, num_steps if reorthogonalize else min(2, num_steps), n))
        self._basis[:, 0] = V.T

    def step(self) -> None:
        """Take one step in every active process, with one block product."""
        j = int(self.steps[self.active[0]])
        current = self._basis[self.active, j % self._basis.shape[1]]
        W = self._A(current.T).T  # rows are contiguous
        if j == 0:
            self.exponent = binary_exponent(W)
        W = np.ldexp(W, -self.exponent)
        if j == 0:
            self._check_symmetry(current.T, W.T)
        for process, w in zip(self.active, W, strict=True):
            self._extend(int(process), j, w)
        going_on = ~self.invariant[self.active]
        self.active = self.active[going_on & (j + 1 < self.num_steps)]

    def _check_symmetry(self, V: Array, product: Array) -> None:
        """Refuse an operator that its first block of products shows to be not symmetric; free unless it looks so."""
        scaled = lambda u: np.ldexp(self._A(u), -self.exponent)  # noqa: E731
        check_symmetry(scaled, V, product, self._A.eps, margin=1e4)

    def _extend(self, i: int, j: int, w: Array) -> None:
        """Step j of process i: ``beta_j q_{j+1} = A q_j - alpha_j q_j - beta_{j-1} q_{j-1}``, from ``w = A q_j``."""
        basis = self._basis[i]
        depth, n = basis.shape
        q = basis[j % depth]
        previous_beta = self.betas[i, j - 1] if j else 0.0
        if j:
            w -= previous_beta * basis[(j - 1) % depth]
        alpha = q @ w
        w -= alpha * q
        if self._reorthogonalize:
            coefficients, beta = orthogonalize(basis[: j + 1].T, w)
            alpha += coefficients[j]
        else:
            beta = float(np.linalg.norm(w))
        self._norms[i] = max(self._norms[i], abs(alpha) + beta + previous_beta)
        self.alphas[i, j], self.betas[i, j] = alpha, beta
        # n orthogonal vectors are the whole space; without reorthogonalisation they need not be orthogonal
        whole_space = self._reorthogonalize and j + 1 == n
        invariant = whole_space or beta <= self.tolerance * self._norms[i]
        if j + 1 < self.num_steps and not invariant:
            basis[(j + 1) % depth] = w / beta
        self.steps[i] = j + 1  # from here on the step counts, should an interrupt come
        self.invariant[i] = invariant
