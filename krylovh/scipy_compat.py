"""SciPy's ``eigsh``, ``cg`` and ``minres``, with the methods of this package inside.

Signatures and return values are those of ``scipy.sparse.linalg``, so that existing code needs a different import alone.
What these return values have no place for is told by a :class:`TruthWarning`: that an operator is not positive
definite, that a system has no solution, that rounding forbids the accuracy that was asked for.

What is real and symmetric is served.  Complex operators, generalised problems and SciPy's shift-invert modes raise
``NotImplementedError``.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, aslinearoperator

from krylovh import krylov
from krylovh.results import SolveResult, Status

Array = NDArray[Any]

__all__ = ["TruthWarning", "cg", "eigsh", "minres"]


class TruthWarning(UserWarning):
    """A result is not what the return values alone would say."""


def cg(
    A: Any,
    b: ArrayLike,
    x0: ArrayLike | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[Array], Any] | None = None,
) -> tuple[Array, int]:
    """Solve ``A x = b`` like ``scipy.sparse.linalg.cg``.

    Parameters and return values are SciPy's: x, and 0 for success (the recomputed residual is at most
    ``max(rtol |b|, atol)``), the number of iterations where they did not suffice, or -1 where A is not positive
    definite or gave NaN.

    Warns
    -----
    TruthWarning
        Where the iteration ended for any reason but success and the number of iterations.

    Examples
    --------
    >>> cg(np.diag([1.0, 2.0]), [1.0, 1.0])
    (array([1. , 0.5]), 0)
    """
    operator, vector, start, dtype = _real_system(A, b, x0, M)
    absolute: Any = atol
    if isinstance(absolute, (str, type(None))) or not absolute >= 0:
        raise ValueError(f"atol must be a number of at least 0, got {atol!r}")
    length = float(np.linalg.norm(vector))
    target = max(rtol, atol / length if length else 0.0)
    if start is None and target >= 1:
        return np.zeros(vector.size, dtype), 0
    result = krylov.cg(
        operator,
        vector,
        x0=start,
        rtol=min(target, 1 - 2.0**-53),
        preconditioner=None if M is None else aslinearoperator(M),
        max_iterations=maxiter,
        callback=callback,
    )
    return _as_scipy(result, dtype)


def minres(
    A: Any,
    b: ArrayLike,
    x0: ArrayLike | None = None,
    *,
    rtol: float = 1e-5,
    shift: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[Array], Any] | None = None,
    show: bool = False,
    check: bool = False,
) -> tuple[Array, int]:
    """Solve ``(A - shift I) x = b`` like ``scipy.sparse.linalg.minres``.

    Parameters and return values are SciPy's: x, and 0 for success, the number of iterations where they did not suffice
    or the system has no solution (x is then the shortest least-squares solution), or -1 where A gave NaN.  Success
    means that the recomputed residual is at most ``rtol |b|``, which is more than SciPy's ``rtol |A| |x|``.  ``show``
    shows a progress bar, and ``check`` compares products with random vectors.

    Warns
    -----
    TruthWarning
        Where the iteration ended for any reason but success and the number of iterations.

    Examples
    --------
    >>> minres(np.diag([1.0, -2.0]), [1.0, 1.0])
    (array([ 1. , -0.5]), 0)
    """
    operator, vector, start, dtype = _real_system(A, b, x0, M)
    if check:
        report = krylov.check_operator(operator, rng=0)
        if not report.ok:
            raise ValueError(f"A must be a symmetric operator:\n{report}")
    if shift:
        operator = operator - _Multiple(operator.shape[0], shift)
    if start is None and rtol >= 1:
        return np.zeros(vector.size, dtype), 0
    result = krylov.minres(
        operator,
        vector,
        x0=start,
        rtol=min(rtol, 1 - 2.0**-53),
        preconditioner=None if M is None else aslinearoperator(M),
        max_iterations=5 * vector.size if maxiter is None else maxiter,
        callback=callback,
        progress=show,
    )
    return _as_scipy(result, dtype)


def eigsh(
    A: Any,
    k: int = 6,
    M: Any = None,
    sigma: float | None = None,
    which: str = "LM",
    v0: ArrayLike | None = None,
    ncv: int | None = None,
    maxiter: int | None = None,
    tol: float = 0,
    return_eigenvectors: bool = True,
    Minv: Any = None,
    OPinv: Any = None,
    mode: str = "normal",
    rng: Any = None,
) -> Array | tuple[Array, Array]:
    """Find k eigenvalues of a real symmetric operator like ``scipy.sparse.linalg.eigsh``.

    Parameters and return values are SciPy's.  ``tol`` is relative to the norm of A; 0 stands for 100 machine epsilons.

    Raises
    ------
    ArpackNoConvergence
        Where some pairs have not converged; those that have are in it.
    NotImplementedError
        For complex operators, M, sigma, and what belongs to them.

    Warns
    -----
    TruthWarning
        Where the pairs have converged, and it is not certain that they are the right ones; or where tol is 0, and noise
        in the products keeps residuals above 100 machine epsilons.

    Examples
    --------
    >>> eigsh(np.diag(np.arange(1.0, 201.0)), 2, return_eigenvectors=False, rng=0).round(9)
    array([199., 200.])
    """
    unsupported = {"M": M, "sigma": sigma, "Minv": Minv, "OPinv": OPinv}
    for name, value in unsupported.items():
        if value is not None:
            raise NotImplementedError(f"{name} must be None: generalised and shift-invert problems are not served")
    if mode != "normal":
        raise NotImplementedError(f"mode must be 'normal', got {mode!r}: shift-invert problems are not served")
    operator = aslinearoperator(A)
    if len(operator.shape) != 2 or operator.shape[0] != operator.shape[1]:
        raise ValueError(f"expected square matrix (shape={operator.shape})")
    dtype = np.dtype(operator.dtype or np.float64)
    if dtype.kind == "c":
        raise NotImplementedError(f"A must be real, got dtype {dtype}")
    dtype = dtype if dtype.kind == "f" else np.dtype(np.float64)
    n = operator.shape[0]
    if k <= 0:
        raise ValueError(f"k must be greater than 0, got {k}")
    if k >= n:
        return _dense(A, k, n, return_eigenvectors)
    eps = float(np.finfo(np.float32 if dtype.itemsize < 8 else np.float64).eps)
    result = krylov.eigsh(
        operator,
        k,
        which=which,  # type: ignore[arg-type]  # refused there, in its own words
        tol=max(float(tol), 100 * eps),
        v0=v0,
        ncv=None if ncv is None else min(max(ncv, k + 1), n),
        rng=rng,
        max_restarts=1000 if maxiter is None else maxiter,
    )
    values, vectors = result.eigenvalues.astype(dtype), result.eigenvectors.astype(dtype)
    if tol == 0 and result.status == Status.STAGNATED and values.size == k:
        worst = float(result.residual_norms.max())
        message = f"noise in the products stops the eigenpairs at residuals of {worst:.1e}, for |A| = "
        warnings.warn(f"{message}{result.operator_norm:.1e}", TruthWarning, 2)
    elif result.status != Status.CONVERGED:
        message = f"{result.status}: {np.count_nonzero(result.converged)} of {k} eigenpairs have converged"
        raise ArpackNoConvergence(message, values[result.converged], vectors[:, result.converged])
    elif not result.set_verified:
        warnings.warn(f"the eigenpairs converged, but may not be the {k} that were asked for", TruthWarning, 2)
    return (values, vectors) if return_eigenvectors else values


def _dense(A: Any, k: int, n: int, return_eigenvectors: bool) -> Array | tuple[Array, Array]:
    """Return all eigenvalues of a matrix, as SciPy does where k is not below n."""
    warnings.warn(f"k must be less than n for eigsh; using scipy.linalg.eigh: k = {k}, n = {n}", RuntimeWarning, 3)
    if scipy.sparse.issparse(A) or isinstance(A, LinearOperator):
        kind = "sparse A" if scipy.sparse.issparse(A) else "a LinearOperator"
        raise TypeError(f"cannot use scipy.linalg.eigh for {kind} with k >= n: reduce k")
    values, vectors = scipy.linalg.eigh(np.asarray(A))
    return (values, vectors) if return_eigenvectors else values


class _Multiple(LinearOperator):  # type: ignore[misc]
    """A multiple of the identity."""

    def __init__(self, n: int, factor: float) -> None:
        super().__init__(np.dtype(np.float64), (n, n))
        self.factor = factor

    def _matvec(self, v: Array) -> Array:
        return np.asarray(self.factor * v)

    _rmatvec = _matmat = _rmatmat = _matvec


def _real_system(A: Any, b: ArrayLike, x0: ArrayLike | None, M: Any) -> tuple[LinearOperator, Array, Array | None, Any]:
    """Return the operator, b and x0 as vectors, and the dtype of x."""
    operator = aslinearoperator(A)
    vector = np.asarray(b)
    precision = operator.dtype
    matrix: Any = getattr(operator, "A", None)
    if precision == np.float32 and (isinstance(matrix, np.ndarray) or scipy.sparse.issparse(matrix)):
        operator = aslinearoperator(matrix.astype(np.float64))  # products with float64 vectors are float64 in SciPy too
    for name, dtype in (("A", operator.dtype), ("b", vector.dtype)):
        if dtype is not None and np.dtype(dtype).kind == "c":
            raise NotImplementedError(f"{name} must be real, got dtype {dtype}")
    if vector.shape not in ((operator.shape[0],), (operator.shape[0], 1)):
        raise ValueError(f"shapes of A {operator.shape} and b {vector.shape} are incompatible")
    dtype = np.result_type(precision or np.float64, vector.dtype)
    dtype = dtype if dtype.kind == "f" else np.dtype(np.float64)
    if isinstance(x0, str):
        if x0 != "Mb":
            raise ValueError(f"x0 must be an array, None or 'Mb', got {x0!r}")
        x0 = vector if M is None else aslinearoperator(M) @ vector.ravel()
    return operator, vector.ravel(), None if x0 is None else np.asarray(x0).ravel(), dtype


def _as_scipy(result: SolveResult, dtype: Any) -> tuple[Array, int]:
    """Return x and SciPy's ``info``; say aloud what has no place in it."""
    if result.status == Status.CONVERGED:
        return result.x.astype(dtype), 0
    if result.status == Status.INTERRUPTED:
        raise KeyboardInterrupt
    if result.status != Status.BUDGET:
        warnings.warn(str(result), TruthWarning, stacklevel=3)
    failed = result.status in (Status.NEGATIVE_CURVATURE, Status.NONFINITE, Status.BREAKDOWN)
    return result.x.astype(dtype), -1 if failed else max(result.num_iterations, 1)
