"""The trace of a symmetric operator from random probes.

For a random vector with ``E[v v'] = I`` the quadratic form ``v' A v`` has mean ``tr A`` (Hutchinson 1990).  Its
variance is ``2 (|A|_F^2 - sum_i a_ii^2)`` for entries +-1 and ``2 |A|_F^2`` for normal entries, in the Frobenius norm.
One product per probe; the error falls like one over the root of the number of probes.
"""

import time
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from krylovh.checks import whole_number
from krylovh.krylov.symmetric import BudgetSpent, NonFiniteProduct, SymmetricOperator, resolve_seed
from krylovh.progress import Progress, reporting
from krylovh.results import Estimate, Status
from krylovh.stochastic.probes import probe_block

Array = NDArray[np.float64]
Method = Literal["hutchinson"]
TraceDistribution = Literal["rademacher", "gaussian"]

__all__ = ["trace"]


def trace(
    A: Any,
    *,
    method: Method = "hutchinson",
    num_products: int = 100,
    rng: int | np.random.Generator | None = None,
    distribution: TraceDistribution = "rademacher",
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> Estimate:
    """Estimate ``tr A`` with a standard error.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.  An operator that has a method ``quadratic_form(V)``, which returns ``v' A v`` for the columns v of
        ``V`` as an array of shape (k,), is asked for that instead of a product.
    method : {"hutchinson"}
        Mean of ``v' A v`` over probes.
    num_products : int
        Products to spend, at least 1: the number of probes.
    rng : int, numpy.random.Generator or None
        Seed of the probes.
    distribution : {"rademacher", "gaussian"}
        Entries +-1 with equal odds (smaller variance, none at all for a diagonal ``A``), or standard normal.
    block_size : int, optional
        Probes per block product, 16 by default.  The estimate does not depend on it beyond rounding.
    max_seconds : float, optional
        No product is started later than this.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)`` after every block.

    Returns
    -------
    Estimate
        ``value`` is the mean, ``standard_error`` the sample deviation over the root of the number of probes, and
        ``interval`` the 95 % interval of Student's t, widened by the rounding of the products.  From a single probe the
        standard error is NaN and the interval the whole line; without any finished product the value is NaN as well.
        ``status`` is CONVERGED when all products were spent, else BUDGET, INTERRUPTED (Ctrl-C) or NONFINITE (a product
        had NaN or infinity), and the estimate is that of the blocks before.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range and operators that are not square and real.

    References
    ----------
    Hutchinson (1990), A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines.
    Avron and Toledo (2011), Randomized algorithms for estimating the trace of an implicit symmetric matrix.

    Examples
    --------
    The trace of ``min(i, j)``, i, j = 1 ... 100, is 5050.

    >>> index = np.arange(1.0, 101.0)
    >>> print(trace(np.minimum.outer(index, index), num_products=400, rng=0))
    5078.83 +- 285 (95 %: 4519.36 to 5638.3; hutchinson, 400 products, seed 0)
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {get_args(Method)}, got {method!r}")
    if distribution not in get_args(TraceDistribution):
        raise ValueError(f"distribution must be one of {get_args(TraceDistribution)}, got {distribution!r}")
    num_products = whole_number("num_products", num_products, 1)
    block_size = 16 if block_size is None else whole_number("block_size", block_size, 1)
    forms = _QuadraticForms(A, max_seconds=max_seconds)
    seed = resolve_seed(rng)
    samples = np.empty(num_products)
    rounding = np.empty(num_products)
    done, status = 0, Status.CONVERGED
    with reporting(progress, "trace") as report:
        try:
            while done < num_products:
                block = min(block_size, num_products - done)
                V = probe_block(forms.n, done, block, seed=seed, purpose="trace", distribution=distribution)
                samples[done : done + block], rounding[done : done + block] = forms.evaluate(V)
                done += block
                report(done, num_products)
        except BudgetSpent:
            status = Status.BUDGET
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        except NonFiniteProduct:
            status = Status.NONFINITE
    value, error, interval = _mean_with_error(samples[:done], rounding[:done])
    return Estimate(value, error, interval, forms.num_products, seed, status, method)


class _QuadraticForms(SymmetricOperator):
    """``v' A v`` by the operator's own method where it has one, else by a product; each counts as a product."""

    def __init__(self, A: Any, *, max_seconds: float | None) -> None:
        super().__init__(A, max_seconds=max_seconds)
        self._own: Callable[[Any], Any] | None = getattr(A, "quadratic_form", None)

    def evaluate(self, V: Array) -> tuple[Array, Array]:
        """Return ``v' A v`` and a bound of its rounding for each column v of ``V``, both of shape (k,)."""
        with np.errstate(over="ignore"):  # caught below
            if self._own is None:
                terms = V * self(V)
                values, magnitudes = terms.sum(axis=0), np.abs(terms).sum(axis=0)
            else:
                values = self._ask(self._own, V)
                magnitudes = np.abs(values)
        if not np.isfinite(values).all():
            raise NonFiniteProduct
        return values, self.eps * magnitudes

    def _ask(self, quadratic_form: Callable[[Any], Any], V: Array) -> Array:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise BudgetSpent
        values = np.array(quadratic_form(np.array(V, dtype=self.dtype, order="F")))
        self.num_products += V.shape[1]
        if values.shape != V.shape[1:] or values.dtype.kind not in "fiu":
            found = f"{values.dtype} {values.shape}"
            raise ValueError(f"A.quadratic_form must return {V.shape[1]} real values, got {found}")
        return values.astype(np.float64)


def _mean_with_error(samples: Array, rounding: Array) -> tuple[float, float, tuple[float, float]]:
    """Return mean, standard error and 95 % interval of Student's t."""
    if samples.size == 0:
        return np.nan, np.nan, (-np.inf, np.inf)
    scale = 2.0 ** float(np.frexp(np.abs(samples).max())[1] - 1)  # squares must not overflow
    unit = samples / scale
    mean = unit.mean()
    if samples.size == 1:
        return float(scale * mean), np.nan, (-np.inf, np.inf)
    error = unit.std(ddof=1) / np.sqrt(unit.size)
    half = stdtrit(unit.size - 1, 0.975) * error + (rounding / scale).mean()
    return float(scale * mean), float(scale * error), (float(scale * (mean - half)), float(scale * (mean + half)))
