"""The spectral density of a symmetric operator by the kernel polynomial method: a check on Lanczos quadrature.

With the spectrum mapped into [-1, 1] the Chebyshev polynomials of the operator, applied to a vector v of length one,
obey ``t_{k+1} = 2 S t_k - t_{k-1}``; two moments of the spectrum seen from v come out of each product,

    v'T_{2k}v = 2 t_k't_k - 1,      v'T_{2k-1}v = 2 t_k't_{k-1} - v'Sv.

There is no orthogonalisation, no memory beyond three blocks, and nothing adapts: the method shares no step with Lanczos
but the products.  In return it needs an interval that holds the spectrum, and resolves no more than a fixed fraction
of it.  The interval is checked on the way, since inside it ``|T_k(S) v| <= 1``, while beyond it T_k grows like a power.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.checks import whole_number
from krylovh.krylov.lockstep import LockstepLanczos
from krylovh.krylov.scaling import ScaledOperator, binary_exponent, ldexp
from krylovh.krylov.stops import STOPS, status_of
from krylovh.krylov.symmetric import SymmetricOperator, resolve_seed
from krylovh.krylov.symmetry import check_symmetry
from krylovh.progress import Progress, reporting
from krylovh.results import ChebyshevDensity, Status
from krylovh.stochastic.probes import probe_block

Array = NDArray[np.float64]

__all__ = ["kernel_polynomial_density"]

BOUNDS_STEPS = 20  # Lanczos steps that the interval is estimated from
MARGIN = 0.01  # of its width, added on either side; doubled whenever the moments show that it was too little
MAX_MARGIN = 100.0


class _OutsideError(Exception):
    """A polynomial of degree ``k`` has grown to ``norm``: the spectrum is not inside of the bounds."""

    def __init__(self, degree: int, norm: float) -> None:
        super().__init__(degree, norm)
        self.degree, self.norm = degree, norm


def kernel_polynomial_density(
    A: Any,
    *,
    num_probes: int = 10,
    num_steps: int = 90,
    bounds: tuple[float, float] | None = None,
    rng: int | np.random.Generator | None = None,
    block_size: int | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> ChebyshevDensity:
    """Estimate the density of the eigenvalues of ``A`` from Chebyshev moments.

    For the same seed the probes are those of :func:`spectral_density`, so that the moments of both agree to rounding.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.
    num_probes : int
        Random vectors, uniform on the sphere; at least 1.
    num_steps : int
        Products per probe, at least 1; they give ``2 num_steps + 1`` moments.
    bounds : (float, float), optional
        An interval that holds all eigenvalues.  By default it comes from 20 Lanczos steps: the extreme Ritz values with
        their residuals, and 1 % of the width more.  Should the moments show that eigenvalues lie outside, it is
        widened, and the moments are computed again.
    rng : int, numpy.random.Generator or None
        Seed of the probes.
    block_size : int, optional
        Probes that run together, by default all.  Memory: three blocks of n float64 numbers per probe.
    max_products : int, optional
        Products to spend at most, those for the bounds included.  If they do not suffice, all probes take fewer steps.
    max_seconds : float, optional
        No product is started later than this.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)`` after every step.

    Returns
    -------
    ChebyshevDensity
        ``status`` is CONVERGED when all moments are there, else BUDGET, INTERRUPTED (Ctrl-C), NONFINITE (a product had
        NaN or infinity), or STAGNATED where no interval holds the moments, as for products with large errors.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, given ``bounds`` that the moments refute, and operators that are not square and
        real, or whose first products show that they are not symmetric.

    References
    ----------
    Weisse, Wellein, Alvermann and Fehske (2006), The kernel polynomial method.
    Lin, Saad and Yang (2016), Approximating spectral densities of large matrices.
    Zhou and Li (2011), Bounding the spectrum of large Hermitian matrices.

    Examples
    --------
    >>> A = np.diag(np.concatenate([np.linspace(1, 2, 300), np.full(100, 5.0)]))
    >>> result = kernel_polynomial_density(A, num_probes=20, num_steps=60, rng=0)
    >>> print(result)
    Chebyshev density of order 400: 20 probes, 121 moments in [0.9547, 5.04], converged, 1220 products, seed 0
    >>> result.cumulative([1.5, 3.0]).round(2), result.cumulative_error([1.5, 3.0]).round(2)
    (array([0.36, 0.75]), array([0.01, 0.01]))
    """
    operator = SymmetricOperator(A, max_products=max_products, max_seconds=max_seconds)
    n = operator.n
    if n == 0:
        raise ValueError("A must have at least one row, got shape (0, 0)")
    num_probes = whole_number("num_probes", num_probes, 1)
    num_steps = whole_number("num_steps", num_steps, 1)
    group = num_probes if block_size is None else whole_number("block_size", block_size, 1)
    if max_products is not None:
        whole_number("max_products", max_products, 0)
    interval = None if bounds is None else _checked(bounds)
    seed = resolve_seed(rng, A)

    exponent = binary_exponent(np.array(interval)) if interval is not None else 0
    moments = np.empty((0, 2 * num_steps + 1))
    low, high, margin = 0.0, 0.0, MARGIN
    status = Status.CONVERGED
    with reporting(progress, "kernel polynomial method") as report:
        try:
            if interval is None:
                inner, exponent = _lanczos_bounds(operator, seed)
            while True:
                low, high = _widened(inner, margin, operator.eps) if interval is None else ldexp(interval, -exponent)
                remaining = operator.remaining
                probes = int(min(num_probes, remaining))
                steps = int(min(num_steps, remaining // max(probes, 1)))
                moments = np.full((probes, 2 * num_steps + 1), np.nan)
                try:
                    for first in range(0, probes, group):
                        count = min(group, probes - first)
                        V = probe_block(n, first, count, seed=seed, purpose="density", distribution="sphere")
                        rows = moments[first : first + count]
                        recurrence = _Recurrence(ScaledOperator(operator, exponent), V, float(low), float(high), rows)
                        for step in range(1, steps + 1):
                            recurrence.step(step)
                            report(first * steps + count * step, probes * steps)
                    break
                except _OutsideError as failure:
                    moments[:] = np.nan
                    if interval is not None:
                        raise ValueError(
                            f"bounds must contain the spectrum, but in ({interval[0]:g}, {interval[1]:g}) a Chebyshev "
                            f"polynomial of degree {failure.degree} takes a unit vector to norm {failure.norm:.3g}"
                        ) from None
                    margin *= 2
                    if margin > MAX_MARGIN:
                        status = Status.STAGNATED
                        break
            if status is Status.CONVERGED and (probes < num_probes or steps < num_steps):
                status = Status.BUDGET
        except STOPS as stop:
            status = status_of(stop)
    moments = moments[~np.isnan(moments).all(axis=1)]
    limits = (float(ldexp(low, exponent)), float(ldexp(high, exponent)))
    return ChebyshevDensity(moments, limits, n, operator.num_products, seed, status)


class _Recurrence:
    """The vectors ``t_k = T_k(S) v`` for a block of probes, and the moments that their inner products give."""

    def __init__(self, A: ScaledOperator, V: Array, low: float, high: float, moments: Array) -> None:
        self._A = A
        self._centre, self._half_width = low + (high - low) / 2, (high - low) / 2
        self._eps = A.eps * max(1.0, max(abs(low), abs(high)) / self._half_width)  # of products with S
        self._previous = self._current = V
        self._moments = moments  # (b, 2 num_steps + 1)

    def step(self, k: int) -> None:
        """Go from ``t_{k-1}`` to ``t_k``; write moments ``2k-1`` and ``2k``."""
        product = self._A(self._current)
        if k == 1:
            check_symmetry(self._A, self._current, product, self._A.eps, margin=1e4)
        product -= self._centre * self._current
        product /= self._half_width
        if k > 1:
            product *= 2
            product -= self._previous
        self._previous, self._current = self._current, product
        squares = _inner(self._current, self._current)
        # rounding grows at most like the square of the degree
        if not squares.max() <= 1 + 20 * (k + 1) ** 2 * self._eps:
            raise _OutsideError(k, math.sqrt(float(squares.max())))
        mixed, moments = _inner(self._previous, self._current), self._moments
        if k == 1:
            moments[:, 0], moments[:, 1] = _inner(self._previous, self._previous), mixed
        else:
            moments[:, 2 * k - 1] = 2 * mixed - moments[:, 1]
        moments[:, 2 * k] = 2 * squares - moments[:, 0]


def _inner(U: Array, V: Array) -> Array:
    return np.asarray(np.einsum("nb,nb->b", U, V))


def _checked(bounds: tuple[float, float]) -> Array:
    interval = np.array(bounds, dtype=np.float64)
    if interval.shape != (2,) or not np.isfinite(interval).all() or not interval[0] < interval[1]:
        raise ValueError(f"bounds must be a pair of finite numbers, the lower one first, got {bounds}")
    return interval


def _lanczos_bounds(operator: SymmetricOperator, seed: int) -> tuple[tuple[float, float], int]:
    """Return bounds of the spectrum of ``2**-exponent A`` that mostly hold, and the exponent: Zhou and Li (2011)."""
    v = probe_block(operator.n, 0, 1, seed=seed, purpose="density bounds", distribution="sphere")
    process = LockstepLanczos(operator, v, min(BOUNDS_STEPS, operator.n))
    while process.active.size:
        process.step()
    m = int(process.steps[0])
    alphas, betas = process.alphas[0, :m], process.betas[0, :m]
    values, vectors = np.linalg.eigh(np.diag(alphas) + np.diag(betas[: m - 1], -1))
    residuals = betas[m - 1] * np.abs(vectors[-1])
    return (float((values - residuals).min()), float((values + residuals).max())), process.exponent


def _widened(inner: tuple[float, float], margin: float, eps: float) -> tuple[float, float]:
    """Return the interval with ``margin`` of its width more on either side, and wider than rounding in any case."""
    low, high = inner
    size = max(abs(low), abs(high))
    more = margin * max(high - low, size * eps ** (1 / 3) / MARGIN) or 1.0  # the zero operator
    return low - more, high + more
