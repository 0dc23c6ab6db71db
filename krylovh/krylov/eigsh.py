"""Extreme eigenpairs of a symmetric operator, with proof.

Three stages, all in float64 whatever the products are:

1. A thick-restart Lanczos process runs until the Ritz pairs that are wanted have small residual *estimates*.
2. One block product ``A X`` gives the *true* residuals.  Only they decide what is called converged.
3. A Lanczos process sees one vector of each eigenspace, so copies of multiple eigenvalues, or an eigenvalue that the
   start vector hardly contained, may be missing.  A second process, deflated by X and started at random, looks for
   eigenvalues that belong to the set.  It need not converge to be sure that there is none: a residual that is small
   against the distance to the set is enough.  What it finds joins the set, until it finds nothing.

References
----------
Wu and Simon (2000), Thick-restart Lanczos method for large symmetric eigenvalue problems.
Parlett, The Symmetric Eigenvalue Problem, chapters 11 and 13.
Kuczynski and Wozniakowski (1992), Estimating the largest eigenvalue by the power and Lanczos algorithms with a random
start: why a random start misses an eigenvalue with small probability only.
"""

from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from krylovh.blas import one_blas_thread
from krylovh.checks import whole_number
from krylovh.krylov.basis import BasisStorage
from krylovh.krylov.ends import WHICH, Request, Which
from krylovh.krylov.stages import complete_spectrum, filtered_stages, krylov_stages
from krylovh.krylov.start import checked_block, known_vectors
from krylovh.krylov.stops import is_final
from krylovh.krylov.symmetric import SymmetricOperator, resolve_seed
from krylovh.progress import Progress, reporting
from krylovh.recording import CheckpointLike, recording
from krylovh.results import EigenResult

__all__ = ["eigsh"]

#: up to this order all eigenvalues are computed where nothing else is asked for
_SMALL = 100
#: up to this order "SM" is served, by computing all eigenvalues
_LARGEST_COMPLETE = 4000


def eigsh(
    A: Any,
    k: int = 6,
    *,
    which: Which | tuple[float, float] = "LA",
    tol: float = 1e-8,
    v0: ArrayLike | None = None,
    ncv: int | None = None,
    rng: int | np.random.Generator | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
    max_restarts: int = 1000,
    verify: bool = True,
    progress: Progress = False,
    block_size: int | None = None,
    deflate: ArrayLike | None = None,
    basis_path: str | PathLike[str] | None = None,
    memory_limit: int | None = None,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
) -> EigenResult:
    """Return k extreme eigenpairs of a symmetric operator.

    For small operators (order up to 100), or where k is a large part of n, the whole spectrum is computed with n + k
    products.  Otherwise a Krylov process needs a few to a few hundred products, depending on how well the wanted
    eigenvalues are separated, and the verification of the set some 5 to 25 more where they are well separated.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Real and symmetric.
    k : int
        Number of eigenpairs, between 1 and n, or n - m with ``deflate``.
    which : {"LA", "SA", "LM", "BE", "SM"} or (a, b)
        Largest, smallest, largest in magnitude, both ends (one more from the high end if k is odd), smallest in
        magnitude.  The last is not an extreme of the spectrum and is served for orders up to 4000 only, by way of the
        whole spectrum.  Of an interval [a, b] all eigenpairs are sought, at most k; each step costs as many products
        as the degree of a polynomial filter, some 5 times the width of the spectrum over that of the interval.
    tol : float
        A pair is converged when ``|A x - lambda x| <= tol |A|``.  Below about 10 machine epsilons of the products
        (10 x 1.2e-7 for float32) this cannot be reached, and the status is "stagnated".
    v0 : array_like, shape (n,) or (n, p), optional
        Start vector; random by default.  Of several columns, such as eigenvectors of an operator nearby, the Ritz pairs
        are computed first, with p products, and then a block Krylov space from their residuals.
    ncv : int, optional
        Size of the basis, at least ``k`` and a block unless it is n; memory is up to ``8 n (3 ncv + 6 k)`` bytes.
        With ``ncv = n`` the whole spectrum is computed.
    rng : int or numpy.random.Generator, optional
        Seed of all random vectors.
    max_products, max_seconds : optional
        Budget.  The number of products is never exceeded, and includes the k that residuals need in the end.
    max_restarts : int
        Status "budget" if more are needed.
    verify : bool
        Look for eigenvalues that were missed.
    progress : bool or callable
        True for a bar on standard error, or a function of (pairs converged, k).
    block_size : int, optional
        Vectors per product.  A block of b sees b copies of a multiple eigenvalue, and block products are faster per
        vector, but more of them are needed.  1 by default, and the number of columns of ``v0``.
    deflate : array_like, shape (n, m), optional
        Known eigenvectors, with independent columns: pairs are sought on their orthogonal complement.
    basis_path : path, optional
        A folder: bases live in files there, without a name, that vanish when the function returns.
    memory_limit : int, optional
        Bytes that a basis may take in memory; a larger one is in a file, in ``basis_path`` or the system's folder of
        temporary files.
    checkpoint : path or Checkpoint, optional
        File from which the same call goes on if this one is stopped, at any moment.  In the later call ``k``, ``tol``,
        ``max_products`` and ``max_restarts`` may be larger, or closer: the pairs that were found are where it starts.

    Returns
    -------
    EigenResult
        Eigenvalues in ascending order with true residuals: from products that were made anew, or that a new product
        with a random combination of the vectors has confirmed to rounding.  ``status`` is "converged" if all of
        them are within the tolerance, else "stagnated" (rounding or noise in the products forbids it), "budget",
        "nonfinite" or "interrupted"; the pairs found so far are there in any case, perhaps fewer than k.
        ``set_verified`` tells whether stage 3 ended with nothing missing; the ``gaps`` that bounds on values and angles
        rest on are known then.

    Raises
    ------
    ValueError
        Where an argument makes no sense, or products show that A is not symmetric.

    References
    ----------
    Wu and Simon (2000), Thick-restart Lanczos method for large symmetric eigenvalue problems.
    Zhou and Saad (2008), Block Krylov-Schur method for large symmetric eigenvalue problems.

    Examples
    --------
    >>> from scipy.sparse.linalg import LinearOperator
    >>> n = 500
    >>> A = LinearOperator((n, n), matvec=lambda v: v.ravel() + n * v.mean(), dtype=np.float64)  # I + 11'
    >>> result = eigsh(A, 2, rng=0)
    >>> result.eigenvalues.round(10), str(result.status), result.set_verified
    (array([  1., 501.]), 'converged', True)
    """
    operator = SymmetricOperator(A, max_products=max_products, max_seconds=max_seconds)
    n = operator.n
    if n == 0:
        raise ValueError("A must have at least one row, got shape (0, 0)")
    deflated = known_vectors(deflate, n)
    k = whole_number("k", k, 1, n - deflated.shape[1])
    interval = _checked_interval(which)
    if not 0 <= tol < 1:
        raise ValueError(f"tol must be in [0, 1), got {tol}")
    if max_restarts < 0:
        raise ValueError(f"max_restarts must be at least 0, got {max_restarts}")
    if interval is not None and (v0 is not None or block_size is not None):
        raise ValueError("v0 and block_size must not be given where which is an interval")
    start = None if v0 is None else checked_block(v0, n, deflated)
    block = start.shape[1] if start is not None else 1
    if block_size is not None:
        block = max(block, whole_number("block_size", block_size, 1, n))
    name = str(which) if interval is None else f"[{interval[0]:g}, {interval[1]:g}]"
    capacity = _basis_size(ncv, k, n, name, block)
    storage = _storage(basis_path, memory_limit)
    request = Request(k, name, float(tol))
    arguments = {"which": which, "v0": v0, "ncv": ncv, "verify": verify, "block_size": block_size, "deflate": deflate}
    larger = {"k": k, "tol": float(tol), "max_products": max_products, "max_restarts": max_restarts}
    seed = None if rng is None else resolve_seed(rng, A)
    with (
        recording(checkpoint, "eigsh", A, arguments, larger=larger, seed=seed) as record,
        reporting(progress, "eigsh") as report,
        one_blas_thread(8 * n),
    ):
        if record.result is not None:
            return cast(EigenResult, record.result)
        operator.record, seed = record, record.seed
        if which == "SM" or (capacity == n and operator.remaining > n + k):
            result = complete_spectrum(operator, request, seed, report, deflated, interval)
        elif interval is not None:
            result = filtered_stages(operator, request, seed, report, interval, max_restarts, verify, deflated, storage)
        else:
            return krylov_stages(
                operator,
                request,
                seed,
                report,
                start,
                block,
                capacity,
                max_restarts,
                verify,
                deflated=deflated,
                storage=storage,
                max_seconds=max_seconds,
            )
        if is_final(result.status, max_seconds):
            record.finish(result)
        return result


def _checked_interval(which: Any) -> tuple[float, float] | None:
    """Return the interval that ``which`` is, or None if it is a word."""
    if isinstance(which, str):
        if which not in WHICH:
            raise ValueError(f"which must be one of {WHICH} or an interval (a, b), got {which!r}")
        return None
    try:
        a, b = (float(end) for end in which)
    except (TypeError, ValueError):
        raise ValueError(f"which must be one of {WHICH} or an interval (a, b), got {which!r}") from None
    if not (np.isfinite(a) and np.isfinite(b) and a < b):
        raise ValueError(f"which must be an interval (a, b) with a < b, both finite, got {which!r}")
    return a, b


def _basis_size(ncv: int | None, k: int, n: int, which: str, block: int) -> int:
    """Return the size of the basis; n means that the whole spectrum is computed."""
    if which == "SM":
        if n > _LARGEST_COMPLETE:
            raise ValueError(
                f"which='SM' must have n <= {_LARGEST_COMPLETE}, got n = {n}: eigenvalues of smallest magnitude lie in "
                "the interior of the spectrum, where products alone find nothing reliably; for a positive definite A "
                "use which='SA', otherwise give eigsh an operator for the inverse of A and which='LM'"
            )
        return n
    if ncv is None:
        size = max(2 * k + 10, 40, k + 6 * block if block > 1 else 0)
        return n if n <= max(_SMALL, 2 * size) else size
    return whole_number("ncv", ncv, min(k + block, n), n)


def _storage(basis_path: str | PathLike[str] | None, memory_limit: int | None) -> BasisStorage:
    if basis_path is not None and not Path(basis_path).is_dir():
        raise ValueError(f"basis_path must be a folder, got {str(basis_path)!r}")
    limit = None if memory_limit is None else whole_number("memory_limit", memory_limit, 0)
    return BasisStorage(limit, None if basis_path is None else Path(basis_path))
