"""The diagonal of the inverse: chosen entries exactly, or all of them from random probes.

An entry is a solve with a unit vector.  All entries at once are the mean of ``v * inv(A) v`` over probes v with entries
+-1 (Bekas, Kokiopoulou and Saad 2007): the variance of entry i is the sum of the squares of the other entries in row i
of the inverse.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import whole_number
from krylovh.krylov.block_cg import block_cg
from krylovh.krylov.symmetric import SymmetricOperator, resolve_seed
from krylovh.progress import Progress, reporting
from krylovh.results import InverseDiagonal, Status
from krylovh.stochastic.probes import probe_block

Array = NDArray[np.float64]

__all__ = ["inverse_diagonal"]


def inverse_diagonal(
    A: Any,
    *,
    index: ArrayLike | None = None,
    num_probes: int = 30,
    rng: int | np.random.Generator | None = None,
    rtol: float = 1e-8,
    preconditioner: Any = None,
    block_size: int = 16,
    max_products: int | None = None,
    progress: Progress = False,
) -> InverseDiagonal:
    """Return entries of the diagonal of ``inv(A)`` for a symmetric positive definite operator.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
    index : array_like of int, shape (m,), optional
        Entries that are wanted exactly, by one solve each.  Without, all n entries are estimated.
    num_probes : int
        Solves with random vectors, where all entries are estimated; at least 2.
    rng : int, numpy.random.Generator or None
        Seed of the probes.
    rtol : float
        Of every solve.
    preconditioner : LinearOperator, ndarray or sparse matrix, shape (n, n), optional
        For the solves.
    block_size : int
        Solves per block; they share a Krylov space.
    max_products : int, optional
        Budget; only blocks of solves that have all converged count.
    progress : bool or callable
        True for a bar on standard error, or a function of (solves done, solves in all).

    Returns
    -------
    InverseDiagonal
        ``values`` (m,), and ``standard_errors`` (m,), which are zero for exact entries and leave out the error of the
        solves, about ``rtol`` times the condition number.  ``status`` is "converged", or what ended the first solve
        that was not; the values are then those of the blocks before, and NaN where there are none.

    Raises
    ------
    TypeError, ValueError
        Where an argument makes no sense.

    References
    ----------
    Bekas, Kokiopoulou and Saad (2007), An estimator for the diagonal of a matrix.

    Examples
    --------
    >>> A = 2 * np.eye(4) - np.eye(4, k=1) - np.eye(4, k=-1)
    >>> inverse_diagonal(A, index=[0, 1]).values.round(6)
    array([0.8, 1.2])
    >>> inverse_diagonal(np.diag([1.0, 2.0, 4.0]), num_probes=2, rng=0).values.round(6)
    array([1.  , 0.5 , 0.25])
    """
    n = SymmetricOperator(A).n
    block_size = whole_number("block_size", block_size, 1)
    if max_products is not None:
        max_products = whole_number("max_products", max_products, 0)
    chosen = None if index is None else _checked_index(index, n)
    total = whole_number("num_probes", num_probes, 2) if chosen is None else chosen.size
    seed = resolve_seed(rng, A) if chosen is None else 0
    samples: list[Array] = []
    done, used, status = 0, 0, Status.CONVERGED
    with reporting(progress, "inverse_diagonal") as report:
        while done < total and status == Status.CONVERGED:
            count = min(block_size, total - done)
            if chosen is None:
                V = probe_block(n, done, count, seed=seed, purpose="inverse diagonal")
            else:
                V = np.zeros((n, count))
                V[chosen[done : done + count], np.arange(count)] = 1.0
            remaining = None if max_products is None else max_products - used
            result = block_cg(A, V, rtol=rtol, preconditioner=preconditioner, max_products=remaining)
            used, status = used + result.num_products, result.status
            if status == Status.CONVERGED:
                samples.append(V * result.x)
                done += count
                report(done, total)
    forms = np.hstack(samples) if samples else np.zeros((n, 0))
    if chosen is not None:
        values = np.full(total, np.nan)
        values[:done] = forms.sum(axis=0)
        return InverseDiagonal(values, np.zeros(total), done, used, seed, status)
    if done < 2:
        return InverseDiagonal(np.full(n, np.nan), np.full(n, np.nan), done, used, seed, status)
    errors = forms.std(axis=1, ddof=1) / np.sqrt(done)
    return InverseDiagonal(forms.mean(axis=1), errors, done, used, seed, status)


def _checked_index(index: ArrayLike, n: int) -> NDArray[np.intp]:
    positions = np.asarray(index)
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        raise ValueError(f"index must be integers of shape (m,), got {positions.dtype} of shape {positions.shape}")
    if positions.size and not (positions.min() >= 0 and positions.max() < n):
        raise ValueError(f"index must be in [0, {n - 1}], got {positions.min()} to {positions.max()}")
    return positions.astype(np.intp)
