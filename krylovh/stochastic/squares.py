"""Sums of squares from random probes: of all entries, of the diagonal, of the eigenvalues.

Each product ``A v`` with a vector of random signs gives three samples:

    |A v|^2      of mean  sum_ij a_ij^2 = sum_i lambda_i^2
    v'A v        of mean  tr A = sum_i lambda_i
    d = v * A v  of mean  diag A, so that  d_i'd_j  of two probes has mean  sum_i a_ii^2

The last is a U-statistic: all pairs of probes are used.  Its samples share probes, and the variance of their mean is
(Hoeffding 1948)

    Var = (4 (m - 2) zeta_1 + 2 zeta_2) / (m (m - 1)),    zeta_1 = Cov(K_12, K_13),    zeta_2 = Var(K_12),

for ``K_ij = d_i'd_j``; both are estimated without bias, from sums over distinct probes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.scaling import binary_exponent, ldexp
from krylovh.krylov.symmetric import SymmetricOperator, resolve_seed
from krylovh.progress import Progress, ProgressFunction, reporting
from krylovh.results import Estimate
from krylovh.stochastic.confidence import (
    LINE,
    Interval,
    hull_interval,
    mean_interval,
    scaled_back,
    skewed_interval,
    skewness,
)
from krylovh.stochastic.probes import probe_block
from krylovh.stochastic.stopping import stopping
from krylovh.stochastic.targets import Target, checked_block_size, checked_budget, confirmed_batches

Array = NDArray[np.float64]
_FIRST_BATCH = 32
_NOTHING = -(2**30)  # the binary exponent of zero

__all__ = ["frobenius_norm", "participation_ratio", "squared_diagonal_sum"]


def frobenius_norm(
    A: Any,
    *,
    num_products: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    rng: int | np.random.Generator | None = None,
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> Estimate:
    """Estimate ``|A|_F``, the root of the sum of the squares of all entries, and of all eigenvalues.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.
    num_products : int, optional
        Products to spend, at least 1: the number of probes.  100 by default, or no limit if there is a target.
    rtol, atol : float, optional
        Target for half of the length of the interval, relative to the value, and absolute.
    rng : int, numpy.random.Generator or None
        Seed of the probes.
    block_size : int, optional
        Probes per block product, 16 by default.  The estimate does not depend on it beyond rounding.
    max_seconds : float, optional
        No product is started later than this.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)`` after every block.

    Returns
    -------
    Estimate
        The root of the mean of ``|A v|^2``, corrected for the bias of the root; the interval is the root of that of the
        mean, and covers within 1.5 % of 95 % from 20 probes on.  ``status`` is as for :func:`krylovh.trace`.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range and operators that are not square and real.

    References
    ----------
    Avron and Toledo (2011), Randomized algorithms for estimating the trace of an implicit symmetric matrix.

    Examples
    --------
    >>> A = np.diag(np.arange(1.0, 201.0)) + 0.5
    >>> round(float(np.linalg.norm(A)), 1)
    1648.3
    >>> print(frobenius_norm(A, num_products=50, rng=0))
    1648.76 +- 1.96 (95 %: 1644.81 to 1656.35; frobenius norm, 50 products, seed 0)
    """
    return _estimate(A, _FROBENIUS, num_products, rtol, atol, rng, block_size, max_seconds, progress)


def squared_diagonal_sum(
    A: Any,
    *,
    num_products: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    rng: int | np.random.Generator | None = None,
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> Estimate:
    """Estimate ``sum_i a_ii^2``.

    Together with the Frobenius norm it tells how much of an operator is diagonal.  It takes ``8 n m`` bytes.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.
    num_products : int, optional
        Products to spend, at least 2: the number of probes.  100 by default, or no limit if there is a target.
    rtol, atol, rng, block_size, max_seconds, progress
        As for :func:`frobenius_norm`.

    Returns
    -------
    Estimate
        The mean over all pairs of probes.  With fewer than four probes the standard error is NaN and the interval
        unbounded.  It covers within 1.5 % of 95 % from 50 probes on; with 20, down to 88 % where one eigenvalue
        dominates.  ``status`` is as for :func:`krylovh.trace`.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range and operators that are not square and real.

    References
    ----------
    Hoeffding (1948), A class of statistics with asymptotically normal distribution.

    Examples
    --------
    >>> A = np.diag(np.arange(1.0, 201.0)) + 0.5
    >>> float((np.diag(A) ** 2).sum())
    2706850.0
    >>> print(squared_diagonal_sum(A, num_products=50, rng=0))
    2.70834e+06 +- 4.59e+03 (95 %: 2.69913e+06 to 2.72643e+06; squared diagonal, 50 products, seed 0)
    """
    return _estimate(A, _SQUARED_DIAGONAL, num_products, rtol, atol, rng, block_size, max_seconds, progress)


def participation_ratio(
    A: Any,
    *,
    num_products: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    rng: int | np.random.Generator | None = None,
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> Estimate:
    """Estimate ``(sum_i lambda_i)^2 / sum_i lambda_i^2``: how many eigenvalues carry the trace.

    It is n for a multiple of the identity and k for k equal eigenvalues among zeros; for a positive semidefinite
    operator it lies between 1 and its rank.  Negative eigenvalues lower it, down to 0.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.
    num_products : int, optional
        Products to spend, at least 3: the number of probes.  100 by default, or no limit if there is a target.
    rtol, atol, rng, block_size, max_seconds, progress
        As for :func:`frobenius_norm`.

    Returns
    -------
    Estimate
        From the means of ``v'A v`` and ``|A v|^2`` over the same probes, by the jackknife, which removes the bias of
        the quotient and gives its error.  The zero operator has no participation ratio: NaN.  ``status`` is as for
        :func:`krylovh.trace`.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range and operators that are not square and real.

    References
    ----------
    Edwards and Thouless (1972), Numerical studies of localization in disordered systems.
    Efron and Stein (1981), The jackknife estimate of variance.

    Examples
    --------
    >>> A = np.diag(np.r_[np.ones(40), np.zeros(160)]) + 1e-3
    >>> print(participation_ratio(A, num_products=100, rng=0))
    40.2779 +- 0.0379 (95 %: 40.2027 to 40.353; participation ratio, 100 products, seed 0)
    """
    return _estimate(A, _PARTICIPATION, num_products, rtol, atol, rng, block_size, max_seconds, progress)


@dataclass(frozen=True)
class _Quantity:
    """What is estimated: how from a batch of probes, and how from the diagonal and the squared norms of all columns."""

    name: str
    least: int  # probes
    degree: int  # in A
    from_probes: "Callable[[_Batch], tuple[float, float, Interval]]"
    from_columns: Callable[[Array, Array], float]


class _Batch:
    """The samples of the probes ``first`` to ``first + size - 1``, as far as they are finished."""

    def __init__(self, operator: SymmetricOperator, seed: int, keeps_diagonals: bool) -> None:
        self.operator, self.seed = operator, seed
        self.exponent = 0  # everything is that of 2**-exponent A
        self.squares, self.forms = np.zeros(0), np.zeros(0)
        self.diagonals: list[Array] | None = [] if keeps_diagonals else None

    def draw(self, first: int, size: int, block_size: int, report: ProgressFunction) -> None:
        done = 0
        while done < size:
            block = min(block_size, size - done)
            V = probe_block(self.operator.n, first + done, block, seed=self.seed, purpose="squares")
            W = self.operator(V)
            if done == 0:
                self.exponent = binary_exponent(W)
            W = ldexp(W, -self.exponent)
            squares = np.einsum("ij,ij->j", W, W)
            W *= V
            self.forms = np.append(self.forms, W.sum(axis=0))
            self.squares = np.append(self.squares, squares)
            if self.diagonals is not None:
                self.diagonals.append(W)
            done += block
            report(done, size)


def _estimate(
    A: Any,
    quantity: _Quantity,
    num_products: int | None,
    rtol: float | None,
    atol: float | None,
    rng: int | np.random.Generator | None,
    block_size: int | None,
    max_seconds: float | None,
    progress: Progress,
) -> Estimate:
    """Make one batch, or batches for a target, and return what the last of them gives; or n columns, where cheaper."""
    target = Target.of(rtol, atol)
    budget = checked_budget(num_products, target, quantity.least)
    size = checked_block_size(block_size)
    operator, seed = SymmetricOperator(A, max_products=budget, max_seconds=max_seconds), resolve_seed(rng, A)
    n, keeps = operator.n, quantity is _SQUARED_DIAGONAL
    batch = _Batch(operator, seed, keeps)
    found = None
    with reporting(progress, quantity.name) as report, stopping() as outcome:

        def reaches(first: int, count: int) -> bool:
            nonlocal batch
            fresh = _Batch(operator, seed, keeps)
            if not batch.forms.size:
                batch = fresh  # what there is of the first batch is better than nothing
            fresh.draw(first, count, size, report)
            batch = fresh
            value, _, interval = quantity.from_probes(batch)
            return target is None or target.reached(value, interval)

        exact = operator.remaining >= n and (target is None or n <= 2 * _FIRST_BATCH)
        if not exact:
            if target is None:
                reached = reaches(0, int(operator.remaining))
            else:
                affordable = lambda: min(operator.remaining, n - operator.num_products)  # noqa: E731
                reached = confirmed_batches(
                    reaches, _FIRST_BATCH, quantity.least, affordable, lambda: operator.remaining < n
                )
            exact = not reached and operator.remaining >= n
            outcome.missed(reached or exact)
        if exact:
            found = _from_columns(operator, quantity, size, report)
    value, error, interval = found or quantity.from_probes(batch)
    return Estimate(value, error, interval, operator.num_products, seed, outcome.status, quantity.name)


def _from_columns(
    operator: SymmetricOperator, quantity: _Quantity, block_size: int, report: ProgressFunction
) -> tuple[float, float, Interval]:
    """Return the exact quantity from n products with unit vectors."""
    n = operator.n
    columns, exponent = np.zeros((2, n)), _NOTHING  # diagonal and squared norms of 2**-exponent A
    for first in range(0, n, block_size):
        block = min(block_size, n - first)
        product = operator(np.eye(n, block, -first))
        if product.any() and (larger := max(exponent, binary_exponent(product))) > exponent:
            step = exponent - larger if exponent > _NOTHING else 0
            columns[:, :first] = ldexp(columns[:, :first], [[step], [2 * step]])
            exponent = larger
        product = ldexp(product, -exponent) if exponent > _NOTHING else product
        columns[0, first : first + block] = np.diagonal(product, -first)
        columns[1, first : first + block] = np.einsum("ij,ij->j", product, product)
        report(first + block, n)
    if exponent == _NOTHING:  # the zero operator
        exponent = 0
    value = quantity.from_columns(*columns)
    slack = 4 * operator.eps * abs(value) * (np.sqrt(n) if quantity is _PARTICIPATION else 1.0)
    return scaled_back((value, 0.0, (value - slack, value + slack)), quantity.degree * exponent)


def _frobenius(batch: _Batch) -> tuple[float, float, Interval]:
    mean, error, (low, high) = mean_interval(batch.squares, 2 * batch.operator.eps * batch.squares)
    if not mean > 0:
        return mean, error, (0.0, high)
    root = float(np.sqrt(mean))
    if np.isnan(error):
        return scaled_back((root, error, (0.0, np.inf)), batch.exponent)
    relative = error / mean
    value = root * (1 + relative**2 / 8)  # E[sqrt(x)] = sqrt(mean) (1 - Var / (8 mean^2) + ...)
    interval = (float(np.sqrt(max(low, 0.0))), float(np.sqrt(high)))
    return scaled_back((value, root * relative / 2, interval), batch.exponent)


def _squared_diagonal(batch: _Batch) -> tuple[float, float, Interval]:
    m = batch.forms.size
    if m < 2 or not batch.diagonals:
        return np.nan, np.nan, (0.0, np.inf)
    D = np.hstack(batch.diagonals)
    K = D.T @ D
    slack = 2 * batch.operator.eps * float(np.sqrt(np.diagonal(K).mean() * (batch.squares.mean())))
    np.fill_diagonal(K, 0.0)
    rows = K.sum(axis=1)
    total, squares = float(rows.sum()), float(np.einsum("ij,ij->", K, K))
    value = total / (m * (m - 1))
    if m < 4:
        return scaled_back((value, np.nan, (0.0, np.inf)), 2 * batch.exponent)
    pairs = squares / (m * (m - 1))  # E[K_12^2]
    triples = float((rows**2).sum() - squares) / (m * (m - 1) * (m - 2))  # E[K_12 K_13]
    fours = (total**2 - 4 * float((rows**2).sum()) + 2 * squares) / (m * (m - 1) * (m - 2) * (m - 3))  # E[K_12]^2
    zeta_1, zeta_2 = max(triples - fours, 0.0), max(pairs - fours, 0.0)
    error = float(np.sqrt((4 * (m - 2) * zeta_1 + 2 * zeta_2) / (m * (m - 1))))
    a = skewness(rows) / np.sqrt(m)
    if value > 2 * error:  # the root is closer to a sum of independent samples: few eigenvalues make it one
        root = float(np.sqrt(value))
        ends = hull_interval(root, error / (2 * root), m - 1, a, slack / (2 * root))
        low, high = max(ends[0], 0.0) ** 2, ends[1] ** 2
    else:
        low, high = hull_interval(value, error, m - 1, a, slack)
    return scaled_back((value, error, (max(low, 0.0), high)), 2 * batch.exponent)


def _participation(batch: _Batch) -> tuple[float, float, Interval]:
    x, y = batch.forms, batch.squares
    m = x.size
    if m < 2 or not y.any():
        return np.nan, np.nan, LINE
    value = x.mean() ** 2 / y.mean()
    others = ((x.sum() - x) / (m - 1)) ** 2 / ((y.sum() - y) / (m - 1))
    pseudo = m * value - (m - 1) * others
    mean, error = float(pseudo.mean()), float(pseudo.std(ddof=1)) / np.sqrt(m)
    # Student's: the jackknife of a quotient of two skewed means is skewed the less
    low, high = skewed_interval(mean, error, m - 1, 0.0, 8 * batch.operator.eps * value)
    return mean, float(error), (max(low, 0.0), high)


def _ratio(diagonal: Array, squares: Array) -> float:
    return float(diagonal.sum() ** 2 / squares.sum()) if squares.any() else np.nan


_FROBENIUS = _Quantity("frobenius norm", 1, 1, _frobenius, lambda diagonal, squares: float(np.sqrt(squares.sum())))
_SQUARED_DIAGONAL = _Quantity(
    "squared diagonal", 2, 2, _squared_diagonal, lambda diagonal, squares: float((diagonal**2).sum())
)
_PARTICIPATION = _Quantity("participation ratio", 3, 0, _participation, _ratio)
