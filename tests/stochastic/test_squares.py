"""Frobenius norm, squared diagonal and participation ratio, against closed forms and sums over all pairs."""

import itertools
import math

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from krylovh import Status, frobenius_norm, participation_ratio, squared_diagonal_sum
from krylovh.stochastic.probes import probe_block

EXACT = {
    frobenius_norm: lambda A: np.linalg.norm(A),
    squared_diagonal_sum: lambda A: (np.diag(A) ** 2).sum(),
    participation_ratio: lambda A: np.trace(A) ** 2 / (A**2).sum(),
}
DEGREE = {frobenius_norm: 1, squared_diagonal_sum: 2, participation_ratio: 0}
each = pytest.mark.parametrize("function", EXACT, ids=lambda function: function.__name__)


def matrix(n, seed=0):
    G = np.random.default_rng(seed).standard_normal((n, n))
    return G @ G.T / n + np.diag(np.linspace(0, 1, n))


@each
def test_estimates_lie_within_their_errors(function):
    A = matrix(200)
    for m in (20, 100):
        result = function(A, num_products=m, rng=0)
        assert abs(result.value - EXACT[function](A)) <= 4 * result.standard_error
        assert result.interval[0] < result.value < result.interval[1]
        assert result.num_products == m
        assert result.status is Status.CONVERGED


@each
@pytest.mark.parametrize("n", [1, 3, 100])
def test_n_products_are_exact(function, n):
    A = matrix(n)
    result = function(A, rng=0, block_size=7)
    assert result.value == pytest.approx(EXACT[function](A), rel=1e-13)
    assert result.interval[0] <= EXACT[function](A) <= result.interval[1]
    assert result.standard_error == 0
    assert result.num_products == n


def test_a_diagonal_operator_has_no_variance():
    d = np.linspace(-1, 3, 150)
    for function, exact in EXACT.items():
        result = function(np.diag(d), num_products=10, rng=0)
        assert result.value == pytest.approx(exact(np.diag(d)), rel=1e-13)
        assert result.standard_error <= 1e-13 * result.value


def test_the_squared_diagonal_and_its_error_are_sums_over_distinct_probes():
    """Unbiased estimates of the moments, by loops over pairs, triples and quadruples."""
    n, m = 40, 7
    A = matrix(n)
    V = probe_block(n, 0, m, seed=3, purpose="squares")
    D = V * (A @ V)
    K = D.T @ D
    distinct = lambda k: itertools.permutations(range(m), k)  # noqa: E731
    value = np.mean([K[i, j] for i, j in distinct(2)])
    pairs = np.mean([K[i, j] ** 2 for i, j in distinct(2)])
    triples = np.mean([K[i, j] * K[i, k] for i, j, k in distinct(3)])
    fours = np.mean([K[i, j] * K[k, l] for i, j, k, l in distinct(4)])
    variance = (4 * (m - 2) * max(triples - fours, 0) + 2 * max(pairs - fours, 0)) / (m * (m - 1))
    result = squared_diagonal_sum(A, num_products=m, rng=3)
    assert result.value == pytest.approx(value, rel=1e-12)
    assert result.standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_a_vanishing_diagonal_is_found_to_be_near_zero():
    A = np.zeros((300, 300))
    A[np.arange(299), np.arange(1, 300)] = A[np.arange(1, 300), np.arange(299)] = 1.0
    result = squared_diagonal_sum(A, num_products=60, rng=0)
    assert abs(result.value) <= 4 * result.standard_error
    assert result.interval[0] == 0.0
    assert result.interval[1] < 0.2 * (A**2).sum()


def test_few_probes_admit_that_their_error_is_unknown():
    A = matrix(50)
    for function, m in ((frobenius_norm, 1), (squared_diagonal_sum, 2), (squared_diagonal_sum, 3)):
        result = function(A, num_products=m, rng=0)
        assert math.isnan(result.standard_error)
        assert result.interval == (0.0, math.inf)
        assert result.value > 0


@each
@pytest.mark.parametrize("power", [-400, -3, 7, 400])
def test_powers_of_two_scale_the_estimate_exactly(function, power):
    A = matrix(80)
    for options in ({"num_products": 12}, {"num_products": 80}, {"rtol": 0.3, "num_products": 70}):
        a, b = (function(M, rng=1, **options) for M in (A, np.ldexp(A, power)))
        expected = [math.ldexp(x, DEGREE[function] * power) for x in (a.value, a.standard_error, *a.interval)]
        assert [b.value, b.standard_error, *b.interval] == expected
        assert a.num_products == b.num_products


@each
def test_columns_of_any_size_are_summed_without_loss(function):
    """Blocks of unit vectors: a first block that is zero, and entries that grow by orders of magnitude."""
    d = np.r_[np.zeros(20), 2.0 ** np.arange(-490.0, 490, 20), np.zeros(20)]
    A = np.diag(d)
    result = function(A, rng=0, block_size=16)
    assert result.value == pytest.approx(EXACT[function](A), rel=1e-13)


@each
def test_zero_is_zero_or_undefined(function):
    for m in (10, 60):
        result = function(np.zeros((60, 60)), num_products=m, rng=0)
        if function is participation_ratio:
            assert math.isnan(result.value)
        else:
            assert result.value == 0
            assert result.interval == (0.0, 0.0)


@each
@pytest.mark.parametrize("block_size", [1, 5, 100])
def test_the_block_size_does_not_matter(function, block_size):
    A = matrix(80)
    a, b = (function(A, rng=1, num_products=30, block_size=size) for size in (16, block_size))
    np.testing.assert_allclose([b.value, b.standard_error, *b.interval], [a.value, a.standard_error, *a.interval], 1e-9)


@each
def test_a_target_is_reached_or_the_number_computed(function):
    A = matrix(300)
    for rtol in (0.1, 1e-9):
        result = function(A, rng=0, rtol=rtol)
        assert result.status is Status.CONVERGED
        assert (result.interval[1] - result.interval[0]) / 2 <= rtol * result.value
        assert abs(result.value - EXACT[function](A)) <= result.interval[1] - result.interval[0]
    budget = function(A, rng=0, rtol=1e-9, num_products=100)
    assert budget.status is Status.BUDGET
    assert budget.num_products <= 100
    assert math.isfinite(budget.standard_error)


@each
@pytest.mark.parametrize(("failure", "status"), [(KeyboardInterrupt(), Status.INTERRUPTED), (np.nan, Status.NONFINITE)])
def test_what_was_found_before_a_failure_is_kept(function, failure, status):
    calls = 0

    def matmat(V):
        nonlocal calls
        calls += 1
        if calls == 3:
            if isinstance(failure, BaseException):
                raise failure
            return np.full_like(V, failure)
        return 2 * V

    A = LinearOperator((60, 60), matvec=lambda v: 2 * v, matmat=matmat, dtype=float)
    result = function(A, num_products=50, rng=0, block_size=4)
    assert result.status is status
    assert result.value == pytest.approx(EXACT[function](2 * np.eye(60)), rel=1e-12)


def test_operators_that_are_not_square_and_real_are_refused():
    with pytest.raises(ValueError, match="square"):
        frobenius_norm(np.ones((2, 3)))
    with pytest.raises(TypeError, match="real"):
        participation_ratio(np.eye(3) * 1j)
    with pytest.raises(ValueError, match="num_products must be at least 3, got 2"):
        participation_ratio(np.eye(3), num_products=2)
