"""Traces of functions, counts and condition numbers, against dense spectra."""

import math

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator

from krylovh import (
    NonPositiveSpectrumError,
    Status,
    condition_number,
    effective_dimension,
    eigenvalue_count,
    logdet,
    trace_function,
)
from krylovh.stochastic.probes import probe_block
from krylovh.stochastic.spectral_function import NAMED, SpectralFunction, bracket

N = 60
LAMBDA = {
    "flat": np.linspace(1.0, 2.0, N),
    "quick": 0.1 + 0.7 ** np.arange(N),
    "slow": 1 / np.arange(1.0, N + 1),
    "outliers": np.r_[np.linspace(0.1, 1, N - 3), 20.0, 30.0, 50.0],
}
FUNCTIONS = {"log": np.log, "inverse": lambda x: 1 / x, "sqrt": np.sqrt, "exp": np.exp}
Q = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))[0]


def matrix(eigenvalues):
    return (Q * eigenvalues) @ Q.T


def spectral_samples(eigenvalues, f, count, seed=0):
    """Return ``n v'f(A)v`` for the probes that quadrature draws."""
    V = probe_block(N, 0, count, seed=seed, purpose="quadrature", distribution="sphere")
    return N * ((Q.T @ V) ** 2 * f(eigenvalues)[:, None]).sum(axis=0)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("spectrum", ["flat", "quick", "slow"])
def test_n_steps_are_exact_for_each_probe(name, spectrum):
    d = LAMBDA[spectrum]
    result = trace_function(matrix(d), name, num_probes=5, num_steps=N, rng=0)
    samples = spectral_samples(d, FUNCTIONS[name], 5)
    assert result.value == pytest.approx(samples.mean(), rel=1e-11, abs=1e-10)
    assert result.standard_error == pytest.approx(samples.std(ddof=1) / 5**0.5, rel=1e-9)
    assert result.quadrature_error == 0
    assert result.status is Status.CONVERGED
    assert result.num_products <= 5 * N


@pytest.mark.parametrize("name", ["log", "inverse", "sqrt"])
@pytest.mark.parametrize("spectrum", LAMBDA)
@pytest.mark.parametrize("steps", [1, 2, 5, 12, 25])
@pytest.mark.parametrize("factor", [0.99, 0.3])
def test_a_lower_bound_makes_the_quadrature_error_a_bound(name, spectrum, steps, factor):
    d = LAMBDA[spectrum]
    result = trace_function(matrix(d), name, num_probes=3, num_steps=steps, lower_bound=factor * d.min(), rng=1)
    exact = spectral_samples(d, FUNCTIONS[name], 3, seed=1).mean()
    assert abs(result.value - exact) <= result.quadrature_error * (1 + 1e-9) + 1e-12 * abs(exact)
    assert result.quadrature_error > 0 or result.num_products < 3 * steps
    if steps == 25 and spectrum == "flat":
        assert result.quadrature_error < 1e-8 * abs(exact)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("spectrum", LAMBDA)
@pytest.mark.parametrize("steps", [8, 15, 25])
def test_the_difference_of_depths_bounds_the_quadrature_error(name, spectrum, steps):
    d = LAMBDA[spectrum]
    result = trace_function(matrix(d), name, num_probes=4, num_steps=steps, rng=2)
    exact = spectral_samples(d, FUNCTIONS[name], 4, seed=2).mean()
    assert abs(result.value - exact) <= result.quadrature_error + 1e-12 * abs(exact)


def test_one_step_says_nothing_of_its_error_without_a_bound():
    result = logdet(matrix(LAMBDA["flat"]), num_probes=3, num_steps=1, rng=0)
    assert result.quadrature_error == math.inf
    assert result.interval == (-math.inf, math.inf)
    assert math.isfinite(result.value)


def test_rules_bracket_in_the_direction_of_theory():
    """Gauss from above and Radau from below for log and the root; the other way round for 1/x."""
    alphas, betas = np.array([2.0]), np.array([1.0])  # weights 1/2 at 1 and 3
    for name, below in (("log", True), ("sqrt", True), ("inverse", False)):
        f = FUNCTIONS[name]
        middle, half, _ = bracket(NAMED[name], alphas, betas, 0, False, 0.5, 0.0)
        exact, gauss = (f(np.float64(1)) + f(np.float64(3))) / 2, f(np.float64(2))
        assert middle - half <= exact <= middle + half
        assert gauss == pytest.approx(middle + half if below else middle - half)


def test_the_interval_holds_both_errors_and_covers():
    d = LAMBDA["slow"]
    A, exact = matrix(d), np.log(d).sum()
    results = [
        logdet(A, num_probes=20, num_steps=20, lower_bound=d.min(), rng=seed, block_size=20) for seed in range(40)
    ]
    covered = np.mean([r.interval[0] <= exact <= r.interval[1] for r in results])
    values = np.array([r.value for r in results])
    assert covered >= 0.85
    assert max(r.quadrature_error / r.standard_error for r in results) < 0.1
    assert abs(values.mean() - exact) <= 4 * values.std() / 40**0.5 + max(r.quadrature_error for r in results)


@pytest.mark.parametrize("power", [-600, -3, 5, 600])
def test_scaling_shifts_a_log_determinant(power):
    A = matrix(LAMBDA["quick"])
    a, b = (logdet(np.ldexp(A, p), num_probes=6, num_steps=15, rng=0) for p in (0, power))
    assert b.value == pytest.approx(a.value + N * power * math.log(2), rel=1e-12)
    assert b.num_products == a.num_products
    assert b.standard_error == pytest.approx(a.standard_error, rel=1e-7)
    c = trace_function(np.ldexp(A, power), lambda x: x, num_probes=6, num_steps=15, rng=0)
    d = trace_function(A, lambda x: x, num_probes=6, num_steps=15, rng=0)
    assert c.value == math.ldexp(d.value, power)
    assert c.standard_error == math.ldexp(d.standard_error, power)


@pytest.mark.parametrize("bad", [0.0, -1e-3, -5.0, 1e-19])
def test_the_logarithm_of_a_non_positive_spectrum_is_an_error(bad):
    d = LAMBDA["flat"].copy()
    d[:3] = bad
    for f in ("log", "sqrt", "inverse"):
        with pytest.raises(NonPositiveSpectrumError, match=f"{f} needs eigenvalues above 0, but one is at most"):
            trace_function(matrix(d), f, num_probes=5, num_steps=N, rng=0)
    with pytest.raises(NonPositiveSpectrumError):
        logdet(np.zeros((5, 5)), rng=0)


def test_a_regression_with_fewer_samples_than_parameters_has_no_log_determinant():
    X = np.random.default_rng(0).standard_normal((20, 100))
    with pytest.raises(NonPositiveSpectrumError):
        logdet(X.T @ X, rng=0)
    damped = logdet(X.T @ X + 0.1 * np.eye(100), rng=0, num_probes=40, lower_bound=0.1)
    exact = np.linalg.slogdet(X.T @ X + 0.1 * np.eye(100))[1]
    assert damped.interval[0] <= exact <= damped.interval[1]


def test_a_bound_that_is_none_is_refused():
    with pytest.raises(
        ValueError, match=r"lower_bound must be at most every eigenvalue, got 1\.5, but one is at most 1\.0"
    ):
        logdet(matrix(LAMBDA["flat"]), num_steps=30, lower_bound=1.5, rng=0)
    with pytest.raises(ValueError, match="lower_bound must be above 0 for log, got 0"):
        logdet(np.eye(3), lower_bound=0)


def test_functions_that_are_not_finite_are_refused_by_their_argument():
    with pytest.raises(ValueError, match="f must be finite on the spectrum, got nan at the Ritz value -1"):
        trace_function(-np.eye(4), lambda x: np.log(x), rng=0)
    with pytest.raises(ValueError, match="f must return 1 real values for 1"):
        trace_function(np.eye(4), lambda x: np.ones(7), rng=0)
    with pytest.raises(ValueError, match="f must be a function or one of"):
        trace_function(np.eye(4), "cosine", rng=0)
    with pytest.raises(TypeError, match="f must be a function or one of"):
        trace_function(np.eye(4), 3, rng=0)
    assert SpectralFunction.of("log") is NAMED["log"]


@pytest.mark.parametrize(
    ("products", "probes", "steps"), [(1000, 20, 50), (200, 20, 10), (30, 30, 1), (5, 5, 1), (70, 23, 3)]
)
def test_a_budget_is_spread_over_probes(products, probes, steps):
    result = trace_function(matrix(LAMBDA["slow"]), "exp", num_products=products, rng=0)
    assert result.num_products == probes * steps <= products
    assert result.status is Status.CONVERGED


def test_steps_are_kept_where_they_are_asked_for():
    assert logdet(matrix(LAMBDA["flat"]), num_products=100, num_steps=30, rng=0).num_products == 90
    with pytest.raises(ValueError, match="num_probes and num_products must not both be given"):
        logdet(np.eye(3), num_probes=3, num_products=3)
    with pytest.raises(ValueError, match=r"num_steps must be in \[1, 3\], got 4"):
        logdet(np.eye(3), num_steps=4)


@pytest.mark.parametrize("block_size", [1, 3, 100])
def test_the_block_size_does_not_matter(block_size):
    A = matrix(LAMBDA["quick"])
    a, b = (logdet(A, num_probes=8, num_steps=12, rng=4, **o) for o in ({}, {"block_size": block_size}))
    np.testing.assert_allclose([b.value, b.standard_error, *b.interval], [a.value, a.standard_error, *a.interval], 1e-9)


def test_a_target_is_reached_by_more_probes_and_more_steps():
    d = np.linspace(1.0, 30.0, 400)
    A = scipy.sparse.diags_array(d)
    exact = np.log(d).sum()
    for rtol in (0.05, 0.005):
        result = logdet(A, rtol=rtol, rng=1)
        assert result.status is Status.CONVERGED
        half = (result.interval[1] - result.interval[0]) / 2
        assert result.quadrature_error < half <= rtol * abs(result.value)
        assert abs(result.value - exact) <= 3 * half
    stagnated = logdet(A, rtol=1e-3, num_steps=2, num_probes=50, rng=1)
    assert stagnated.status is Status.STAGNATED
    budget = logdet(A, rtol=1e-6, num_products=500, rng=1)
    assert budget.status in (Status.BUDGET, Status.STAGNATED)
    assert budget.num_products <= 500


@pytest.mark.parametrize("at", [3, 14])
@pytest.mark.parametrize(("failure", "status"), [(KeyboardInterrupt(), Status.INTERRUPTED), (np.nan, Status.NONFINITE)])
def test_what_was_found_before_a_failure_is_kept(at, failure, status):
    """In the first group: rules of the steps that were finished; later: the groups before."""
    calls = 0

    def matmat(V):
        nonlocal calls
        calls += 1
        if calls == at:
            if isinstance(failure, BaseException):
                raise failure
            return np.full_like(V, failure)
        return LAMBDA["flat"][:, None] * V

    A = LinearOperator((N, N), matvec=lambda v: matmat(v.reshape(-1, 1))[:, 0], matmat=matmat, dtype=float)
    result = logdet(A, num_probes=40, num_steps=10, rng=0, block_size=5)
    assert result.status is status
    assert math.isfinite(result.standard_error)
    error = 4 * result.standard_error + result.quadrature_error
    assert abs(result.value - np.log(LAMBDA["flat"]).sum()) <= error < 100


# -- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3, 10, 30, N])
@pytest.mark.parametrize("spectrum", LAMBDA)
def test_the_count_of_each_probe_is_bracketed(steps, spectrum):
    d = LAMBDA[spectrum]
    for a, b in ((-np.inf, np.inf), (0.551, 1.45), (0.551, np.inf), (-np.inf, 0.551), (-3.0, -2.0), (d[3], d[3])):
        result = eigenvalue_count(matrix(d), a, b, num_probes=4, num_steps=steps, rng=3)
        exact = spectral_samples(d, lambda x, a=a, b=b: (a <= x) & (x <= b), 4, seed=3).mean()
        assert abs(result.value - exact) <= result.quadrature_error + 1e-9
        assert 0 <= result.interval[0] <= result.interval[1]
        if np.isinf([a, b]).all():
            assert result.value == pytest.approx(N)
            assert result.quadrature_error == 0
        elif steps == N and a < b:
            assert result.quadrature_error == 0


def test_a_gap_is_counted_sharply():
    d = LAMBDA["outliers"]
    result = eigenvalue_count(matrix(d), 10.0, np.inf, num_probes=30, num_steps=20, rng=0)
    assert result.quadrature_error < 0.1
    assert result.interval[0] <= 3 <= result.interval[1]
    with pytest.raises(ValueError, match=r"a must be at most b, got a = 2\.0, b = 1\.0"):
        eigenvalue_count(np.eye(3), 2, 1)
    with pytest.raises(ValueError, match="a must be at most b"):
        eigenvalue_count(np.eye(3), np.nan, 1)


@pytest.mark.parametrize("damping", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("bound", [None, 0.0])
def test_the_effective_dimension_is_within_its_errors(damping, bound):
    d = np.r_[np.zeros(20), LAMBDA["slow"][:40]]
    f = lambda x: x / (x + damping)  # noqa: E731
    result = effective_dimension(matrix(d), damping, num_probes=20, num_steps=30, lower_bound=bound, rng=0)
    samples = spectral_samples(d, f, 20).mean()
    assert abs(result.value - samples) <= result.quadrature_error + 1e-9
    assert result.interval[0] <= f(d).sum() <= result.interval[1]
    assert result.quadrature_error < 0.2
    with pytest.raises(NonPositiveSpectrumError, match="needs eigenvalues above"):
        effective_dimension(matrix(d) - 2 * damping * np.eye(N), damping, rng=0)
    with pytest.raises(ValueError, match="damping must be positive and finite, got 0"):
        effective_dimension(np.eye(3), 0)


@pytest.mark.parametrize("n", [1, 2, 50, 400])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("power", [-500, 0, 500])
def test_the_condition_number_is_that_of_the_extreme_eigenvalues(n, sign, power):
    d = np.linspace(0.5, 40.0, n)
    result = condition_number(scipy.sparse.diags_array(sign * np.ldexp(d, power)), rng=0)
    assert result.value == pytest.approx(d[-1] / d[0], rel=1e-7)
    low, high = result.interval
    assert low <= d[-1] / d[0] <= high
    assert high - low < 1e-4 * result.value
    assert result.status is Status.CONVERGED


def test_an_indefinite_or_singular_operator_has_no_condition_number():
    for d in (np.linspace(-1.0, 2.0, 200), np.r_[0.0, np.ones(99)], np.zeros(5)):
        result = condition_number(np.diag(d), rng=0)
        assert result.status is Status.NEGATIVE_CURVATURE
        assert math.isnan(result.value)
    assert condition_number(np.diag(np.linspace(1, 2, 400)), max_products=5, rng=0).status is Status.BUDGET
