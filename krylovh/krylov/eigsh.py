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

import zlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import whole_number
from krylovh.krylov.dense import complete_eigenpairs
from krylovh.krylov.ends import WHICH, Request, Which
from krylovh.krylov.lanczos import checked_start
from krylovh.krylov.pairs import Pairs
from krylovh.krylov.scaling import ScaledOperator, binary_exponent, unit_vector
from krylovh.krylov.search import Search
from krylovh.krylov.symmetric import BudgetSpent, NonFiniteProduct, SymmetricOperator, resolve_seed
from krylovh.krylov.symmetry import check_symmetry
from krylovh.progress import Progress, ProgressFunction, reporting
from krylovh.results import EigenResult, Status

Array = NDArray[np.float64]

__all__ = ["eigsh"]

#: up to this order all eigenvalues are computed where nothing else is asked for
_SMALL = 100
#: up to this order "SM" is served, by computing all eigenvalues
_LARGEST_COMPLETE = 4000

#: what may end a computation early
_STOPS = (BudgetSpent, NonFiniteProduct, KeyboardInterrupt)


def eigsh(
    A: Any,
    k: int = 6,
    *,
    which: Which = "LA",
    tol: float = 1e-8,
    v0: ArrayLike | None = None,
    ncv: int | None = None,
    rng: int | np.random.Generator | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
    max_restarts: int = 1000,
    verify: bool = True,
    progress: Progress = False,
) -> EigenResult:
    """Return k extreme eigenpairs of a symmetric operator.

    For small operators (order up to 100), or where k is a large part of n, the whole spectrum is computed with n + k
    products.  Otherwise a Krylov process needs a few to a few hundred products, depending on how well the wanted
    eigenvalues are separated, and the verification of the set some 10 to 25 more where they are well separated.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Real and symmetric.
    k : int
        Number of eigenpairs, between 1 and n.
    which : {"LA", "SA", "LM", "BE", "SM"}
        Largest, smallest, largest in magnitude, both ends (one more from the high end if k is odd), smallest in
        magnitude.  The last is not an extreme of the spectrum and is served for orders up to 4000 only, by way of the
        whole spectrum.
    tol : float
        A pair is converged when ``|A x - lambda x| <= tol |A|``.  Below about 10 machine epsilons of the products
        (10 x 1.2e-7 for float32) this cannot be reached, and the status is "stagnated".
    v0 : array_like, shape (n,), optional
        Start vector; random by default.
    ncv : int, optional
        Size of the basis, more than k unless it is n; memory is up to ``16 n (ncv + 5 k)`` bytes.  With
        ``ncv = n`` the whole spectrum is computed.
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

    Returns
    -------
    EigenResult
        Eigenvalues in ascending order with residuals recomputed from products.  ``status`` is "converged" if all of
        them are within the tolerance, else "stagnated" (rounding or noise in the products forbids it), "budget",
        "nonfinite" or "interrupted"; the pairs found so far are there in any case, perhaps fewer than k.
        ``set_verified`` tells whether stage 3 ended with nothing missing.

    Raises
    ------
    ValueError
        Where an argument makes no sense, or products show that A is not symmetric.

    References
    ----------
    Wu and Simon (2000), Thick-restart Lanczos method for large symmetric eigenvalue problems.

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
    k = _checked_count(k, n)
    if which not in WHICH:
        raise ValueError(f"which must be one of {WHICH}, got {which!r}")
    if not 0 <= tol < 1:
        raise ValueError(f"tol must be in [0, 1), got {tol}")
    if max_restarts < 0:
        raise ValueError(f"max_restarts must be at least 0, got {max_restarts}")
    capacity = _basis_size(ncv, k, n, which)
    start = None if v0 is None else checked_start(v0, n)
    request, seed = Request(k, which, float(tol)), resolve_seed(rng)
    with reporting(progress, "eigsh") as report:
        if which == "SM" or (capacity == n and operator.remaining > n + k):
            return _complete(operator, request, seed, report)
        return _iterate(operator, request, seed, report, start, capacity, max_restarts, verify)


def _checked_count(k: Any, n: int) -> int:
    if n == 0:
        raise ValueError("A must have at least one row, got shape (0, 0)")
    return whole_number("k", k, 1, n)


def _basis_size(ncv: int | None, k: int, n: int, which: str) -> int:
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
        size = max(2 * k + 10, 40)
        return n if n <= max(_SMALL, 2 * size) else size
    return whole_number("ncv", ncv, min(k + 1, n), n)


def _stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the random stream of a purpose; streams of different purposes are independent."""
    key = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(f"eigsh {purpose}".encode()),))
    return np.random.Generator(np.random.Philox(key))


def _complete(operator: SymmetricOperator, request: Request, seed: int, report: ProgressFunction) -> EigenResult:
    """Stages 1 to 3 in one: the whole spectrum."""
    try:
        rng = _stream(seed, "probe")
        A, norm, pairs = complete_eigenpairs(operator, request.k, request.which, rng, report)
    except _STOPS as stop:
        return _nothing(operator, request, seed, stop)
    return _result(A, request, seed, pairs, norm, set_verified=True)


def _iterate(
    operator: SymmetricOperator,
    request: Request,
    seed: int,
    report: ProgressFunction,
    start: Array | None,
    capacity: int,
    max_restarts: int,
    verify: bool,
) -> EigenResult:
    """Stages 1 to 3 by Krylov processes, each of which may end in an exception that leaves a partial result."""
    operator.reserved = request.k  # for the residuals of whatever will have been found
    try:
        A, start, product = _first_products(operator, start, seed)
    except _STOPS as stop:
        return _nothing(operator, request, seed, stop)
    search = Search(A, request, capacity, max_restarts, _stream(seed, "direction"), report)
    stopped = None
    try:
        search.find(start, product)
        if verify:
            search.verify()
    except _STOPS as stop:
        stopped = _stopped(stop)
        search.close()
    return _result(A, request, seed, search.found, search.norm, stopped, search.verified, search.num_restarts)


def _first_products(operator: SymmetricOperator, start: Array | None, seed: int) -> tuple[ScaledOperator, Array, Array]:
    """Return the scaled operator, the start vector and its product, after a check of symmetry.

    The check needs two random vectors at least; a random start vector is one of them.
    """
    given = start is not None
    probes = _stream(seed, "probe").standard_normal((3 if given else 2, operator.n))
    U = np.column_stack([unit_vector(probe) for probe in probes])
    if start is not None:
        U[:, 0] = start
    product = operator(U)
    A = ScaledOperator(operator, binary_exponent(product))
    product = np.ldexp(product, -A.exponent)
    check_symmetry(A, U, product, A.eps)
    return A, U[:, 0].copy(), product[:, 0]


def _stopped(stop: BaseException) -> Status:
    if isinstance(stop, BudgetSpent):
        return Status.BUDGET
    return Status.NONFINITE if isinstance(stop, NonFiniteProduct) else Status.INTERRUPTED


def _nothing(operator: SymmetricOperator, request: Request, seed: int, stop: BaseException) -> EigenResult:
    """Return the result of a computation that was stopped before it had any."""
    A = ScaledOperator(operator, 0)
    return _result(A, request, seed, Pairs.none(operator.n), 0.0, _stopped(stop))


def _result(
    A: ScaledOperator,
    request: Request,
    seed: int,
    pairs: Pairs,
    norm: float,
    stopped: Status | None = None,
    set_verified: bool = False,
    num_restarts: int = 0,
) -> EigenResult:
    """Return the result in the units of ``A``, with the status that the residuals deserve."""
    converged = pairs.residual_norms <= request.tol * norm
    status = stopped or Status.STAGNATED
    if status in (Status.BUDGET, Status.STAGNATED) and converged.size == request.k and converged.all():
        status = Status.CONVERGED
    X = np.asfortranarray(pairs.vectors)
    gram = X.T @ X
    return EigenResult(
        eigenvalues=A.unscale(pairs.values),
        eigenvectors=X,
        residual_norms=A.unscale(pairs.residual_norms),
        converged=converged,
        status=status,
        set_verified=set_verified,
        orthogonality=float(np.abs(gram - np.eye(len(gram))).max(initial=0.0)),
        operator_norm=float(np.ldexp(norm, A.exponent)),
        num_products=A.operator.num_products,
        num_restarts=num_restarts,
        which=request.which,
        tol=request.tol,
        seed=seed,
    )
