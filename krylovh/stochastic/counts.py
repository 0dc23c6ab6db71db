"""How many eigenvalues there are, weighed or not, and how far apart the ends of the spectrum lie.

The count of eigenvalues in an interval is ``tr 1_[a,b](A)``.  A step function has no derivatives, but quadrature
brackets it all the same.  Take the rule of m + 1 nodes that m Lanczos steps give with one node prescribed at x: the
weight that the measure has below x is at least the sum of the weights before that node, and the weight up to x at most
the sum with it (Chebyshev, Markov and Stieltjes; Szego, Orthogonal Polynomials, 3.41).  So the count is known to within
the weight at x, which decreases like ``1/m`` in a bulk, and geometrically in a gap.
"""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.eigsh import eigsh
from krylovh.krylov.scaling import ldexp
from krylovh.krylov.symmetric import resolve_seed
from krylovh.progress import Progress
from krylovh.results import Estimate, Status
from krylovh.stochastic.density import gauss_rule
from krylovh.stochastic.quadrature import estimate_by_quadrature, trace_function
from krylovh.stochastic.spectral_function import SpectralFunction, radau_rule
from krylovh.stochastic.targets import Target

Array = NDArray[np.float64]

__all__ = ["condition_number", "effective_dimension", "eigenvalue_count"]


def eigenvalue_count(
    A: Any,
    a: float,
    b: float,
    *,
    num_probes: int | None = None,
    num_steps: int | None = None,
    num_products: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    rng: int | np.random.Generator | None = None,
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> Estimate:
    """Estimate how many eigenvalues of ``A`` lie in ``[a, b]``.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.
    a, b : float
        Ends of the interval, ``a <= b``, perhaps infinite.
    num_probes, num_steps, num_products, rtol, atol, rng, block_size, max_seconds, progress
        As for :func:`krylovh.trace_function`.

    Returns
    -------
    Estimate
        Not rounded to an integer.  ``quadrature_error`` is a bound, and 0 where all Krylov spaces are invariant; the
        interval holds it and the error of chance, and lies in [0, n].  Eigenvalues that are ``a`` or ``b`` up to
        rounding may count or not, and the bound allows for either.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range and operators that are not square, real and symmetric.

    References
    ----------
    Di Napoli, Polizzi and Saad (2016), Efficient estimation of eigenvalue counts in an interval.
    Chen, Trogdon and Ubaru (2021), Analysis of stochastic Lanczos quadrature for spectrum approximation.

    Examples
    --------
    A fifth of these eigenvalues are above 3.

    >>> A = np.diag(np.r_[np.linspace(0.0, 1.0, 400), np.linspace(4.0, 5.0, 100)])
    >>> print(eigenvalue_count(A, 3.0, np.inf, num_probes=20, num_steps=5, rng=0))
    98.6764 +- 3.14 (95 %: 91.3476 to 107.815; quadrature error 0.76; lanczos quadrature, 100 products, seed 0)
    """
    a, b = float(a), float(b)
    if not a <= b:
        raise ValueError(f"a must be at most b, got a = {a!r}, b = {b!r}")

    def rule(
        alphas: Array, betas: Array, exponent: int, invariant: bool, tolerance: float
    ) -> tuple[float, float, float]:
        nodes, weights = gauss_rule(alphas, betas[: alphas.size - 1])
        slack = tolerance * float(np.abs(nodes).max())

        def distribution(x: float) -> tuple[float, float]:
            """Return bounds of the weight of the measure up to x, be x counted or not."""
            if np.isinf(x):
                return (0.0, 0.0) if x < 0 else (1.0, 1.0)
            x = float(ldexp(x, -exponent))
            if invariant:
                return float(weights[nodes < x - slack].sum()), float(weights[nodes <= x + slack].sum())
            return _weight_around(alphas, betas, x - slack)[0], _weight_around(alphas, betas, x + slack)[1]

        below_a, to_b = distribution(a), distribution(b)
        low, high = max(to_b[0] - below_a[1], 0.0), min(to_b[1] - below_a[0], 1.0)
        return (low + high) / 2, max(high - low, 0.0) / 2, 2.0**-50

    return estimate_by_quadrature(
        A,
        rule,
        num_probes=num_probes,
        num_steps=num_steps,
        num_products=num_products,
        target=Target.of(rtol, atol),
        rng=rng,
        block_size=block_size,
        max_seconds=max_seconds,
        progress=progress,
        range_=(0.0, np.inf),
    )


def _weight_around(alphas: Array, betas: Array, x: float) -> tuple[float, float]:
    """Return bounds of the weight of the measure below x and up to x."""
    try:
        nodes, weights = radau_rule(alphas, betas, x)
    except np.linalg.LinAlgError:  # x is a node of the Gauss rule
        nodes, weights = gauss_rule(alphas, betas[: alphas.size - 1])
    at = int(np.argmin(np.abs(nodes - x)))
    below = float(weights[:at].sum())
    return below, min(below + float(weights[at]), 1.0)


def effective_dimension(
    A: Any,
    damping: float,
    *,
    num_probes: int | None = None,
    num_steps: int | None = None,
    num_products: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    lower_bound: float | None = None,
    rng: int | np.random.Generator | None = None,
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> Estimate:
    """Estimate ``sum_i lambda_i / (lambda_i + damping)``: how many directions the data determine against the damping.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric, with all eigenvalues above ``-damping``.
    damping : float
        Positive.
    num_probes, num_steps, num_products, rtol, atol, lower_bound, rng, block_size, max_seconds, progress
        As for :func:`krylovh.trace_function`.  For a positive semidefinite ``A``, such as a Gauss-Newton matrix,
        ``lower_bound=0`` makes the quadrature error a bound.

    Returns
    -------
    Estimate
        With ``quadrature_error``; the interval holds both errors.

    Raises
    ------
    NonPositiveSpectrumError
        A Ritz value is ``-damping`` to rounding, or below.
    TypeError, ValueError
        For arguments out of range and operators that are not square, real and symmetric.

    References
    ----------
    MacKay (1992), Bayesian interpolation.  Zhang (2005), Learning bounds for kernel regression using effective data
    dimensionality.

    Examples
    --------
    >>> A = np.diag(np.r_[np.full(50, 9.0), np.zeros(450)])
    >>> print(effective_dimension(A, 1.0, num_probes=20, lower_bound=0.0, rng=0))
    46.7336 +- 1.9 (95 %: 42.4131 to 50.7052; lanczos quadrature, 40 products, seed 0)
    """
    damping = float(damping)
    if not 0 < damping < np.inf:
        raise ValueError(f"damping must be positive and finite, got {damping!r}")
    return trace_function(
        A,
        SpectralFunction.resolvent_part(damping),
        num_probes=num_probes,
        num_steps=num_steps,
        num_products=num_products,
        rtol=rtol,
        atol=atol,
        lower_bound=lower_bound,
        rng=rng,
        block_size=block_size,
        max_seconds=max_seconds,
        progress=progress,
    )


def condition_number(
    A: Any,
    *,
    tol: float = 1e-8,
    rng: int | np.random.Generator | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
) -> Estimate:
    """Return ``lambda_max / lambda_min`` of a definite operator, from its extreme eigenpairs.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric, and positive or negative definite.
    tol : float
        Residual of the two eigenpairs, relative to ``|A|``.  Condition numbers up to about ``1/tol`` can be told.
    rng : int, numpy.random.Generator or None
        Seed of the start vector.
    max_products, max_seconds : optional
        Budget.
    progress : bool or callable
        As for :func:`krylovh.eigsh`.

    Returns
    -------
    Estimate
        The interval is not one of chance: there is an eigenvalue within the true residual of each Ritz value.  Its
        upper end is infinite where the residual reaches zero from the smaller one.  That no eigenvalue lies farther
        out is verified by :func:`krylovh.eigsh`; where it could not be, the interval is only ``[value, inf)``.
        ``status`` is NEGATIVE_CURVATURE, and the value NaN, where the ends have different signs or one of them is zero.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range and operators that are not square, real and symmetric.

    Examples
    --------
    >>> estimate = condition_number(np.diag(np.linspace(0.5, 4.0, 300)), rng=0)
    >>> round(estimate.value, 6), str(estimate.status)
    (8.0, 'converged')
    """
    seed = resolve_seed(rng, A)
    stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(b"condition number"),)))
    budget = {"max_products": max_products, "max_seconds": max_seconds}
    n = int(A.shape[0])
    pairs = eigsh(A, min(2, n), which="BE", tol=tol, rng=stream, progress=progress, **budget)  # type: ignore[arg-type]
    value, interval, status = np.nan, (1.0, np.inf), pairs.status
    if len(pairs.eigenvalues) == min(2, n):
        order = np.argsort(np.abs(pairs.eigenvalues))
        (small, large), (low, high) = pairs.eigenvalues[order[[0, -1]]], pairs.residual_norms[order[[0, -1]]]
        rounding = 4 * np.finfo(np.float64).eps * abs(large)
        if small * large <= 0 or abs(small) <= rounding:
            status = Status.NEGATIVE_CURVATURE
        else:
            value = float(large / small)
            small, large, low, high = abs(small), abs(large), low + rounding, high + rounding
            upper = (large + high) / (small - low) if small > low and pairs.set_verified else np.inf
            lower = (large - high) / (small + low) if pairs.set_verified else value
            interval = (max(float(lower), 1.0), float(upper))
    return Estimate(value, 0.0, interval, pairs.num_products, seed, status, "lanczos")
