"""The diagonal, against closed forms and against samples with probes left out one by one."""

import math

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from krylovh import Status, diagonal
from krylovh.stochastic.diagonal import _leave_one_out_diagonal
from krylovh.stochastic.probes import probe_block

METHODS = ["bekas", "xdiag"]


def decaying(n, rate=0.8):
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    return (Q * rate ** np.arange(n)) @ Q.T


def arrays(result):
    return np.stack([result.value, result.standard_error, result.lower, result.upper])


def test_one_probe_is_exact_for_a_diagonal_operator():
    d = np.arange(10.0) - 3
    result = diagonal(np.diag(d), num_products=1, rng=0)
    np.testing.assert_array_equal(result.value, d)
    assert np.isnan(result.standard_error).all()
    assert (result.lower == -np.inf).all()
    assert (result.upper == np.inf).all()


def test_means_and_deviations_are_those_of_the_samples():
    A = np.random.default_rng(0).standard_normal((50, 50)) + 1e4 * np.eye(50)
    A = A + A.T
    V = probe_block(50, 0, 40, seed=5, purpose="diagonal")
    X = V * (A @ V)
    result = diagonal(A, num_products=40, rng=5, block_size=7)
    np.testing.assert_allclose(result.value, X.mean(axis=1), rtol=1e-14)
    np.testing.assert_allclose(result.standard_error, X.std(axis=1, ddof=1) / 40**0.5, rtol=1e-9)
    assert result.num_products == 40


def test_the_fast_form_of_xdiag_is_the_one_that_leaves_probes_out():
    n, p = 30, 7
    A, V = decaying(n), probe_block(n, 0, p, seed=1, purpose="x")
    Q, R = np.linalg.qr(A @ V)
    value, error = _leave_one_out_diagonal(V, Q, A @ Q, R, np.einsum("ij,ij->i", Q, A @ Q))

    def sample(i, left_out):
        B = np.linalg.qr(np.delete(A @ V, list(left_out), axis=1))[0]
        return np.diag(B @ B.T @ A) + V[:, i] * (A @ V[:, i] - B @ (B.T @ (A @ V[:, i])))

    X = np.array([sample(i, {i}) for i in range(p)])
    np.testing.assert_allclose(value, X.mean(axis=0), rtol=0, atol=1e-12)
    own = X.var(axis=0, ddof=1)
    shared = sum(
        (X[i] - sample(i, {i, j})) * (X[j] - sample(j, {i, j})) for i in range(p) for j in range(p) if i != j
    ) / (p * (p - 1))
    ratio = np.clip((p - 1) * shared.sum() / own.sum(), 0, 3)
    np.testing.assert_allclose(error, np.sqrt(own * (1 + ratio) / p), rtol=1e-9)


@pytest.mark.parametrize("rank", [1, 5])
def test_xdiag_is_exact_for_low_rank(rank):
    B = np.random.default_rng(0).standard_normal((200, rank))
    A = (B * (-1.0) ** np.arange(rank)) @ B.T
    result = diagonal(A, method="xdiag", num_products=2 * rank + 2, rng=0)
    np.testing.assert_allclose(result.value, np.diag(A), rtol=0, atol=1e-12 * np.linalg.norm(A))
    assert ((result.lower <= np.diag(A)) & (np.diag(A) <= result.upper)).all()
    assert (result.upper - result.lower).max() < 1e-10 * np.linalg.norm(A)


def test_xdiag_pays_where_the_spectrum_decays():
    errors = [
        diagonal(decaying(150), method=method, num_products=60, rng=0).standard_error.mean() for method in METHODS
    ]
    assert errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize("method", METHODS)
def test_n_products_are_exact(method):
    A = decaying(40)
    for n in (1, 40):
        result = diagonal(A[:n, :n], method=method, rng=0, block_size=7)
        np.testing.assert_array_equal(result.value, np.diag(A[:n, :n]))
        assert result.num_products == n
        assert (result.standard_error == 0).all()
        assert result.status is Status.CONVERGED


@pytest.mark.parametrize("method", METHODS)
def test_each_interval_holds_the_entry(method):
    A = decaying(120, 0.9)
    held = []
    for seed in range(100):
        result = diagonal(A, method=method, num_products=40, rng=seed, block_size=40)
        held.append((result.lower <= np.diag(A)) & (np.diag(A) <= result.upper))
    assert 0.93 <= np.mean(held) <= 0.965


def test_all_intervals_hold_at_once_where_that_is_asked_for():
    A = decaying(120, 0.9)
    held = []
    for seed in range(200):
        result = diagonal(A, simultaneous=True, num_products=40, rng=seed, block_size=40)
        held.append(((result.lower <= np.diag(A)) & (np.diag(A) <= result.upper)).all())
        assert result.simultaneous
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [-400, -3, 7, 400])
def test_powers_of_two_scale_the_estimate_exactly(method, power):
    A = decaying(50)
    for options in ({"num_products": 12}, {"num_products": 50}, {"rtol": 0.5, "num_products": 40}):
        a, b = (diagonal(M, method=method, rng=1, **options) for M in (A, np.ldexp(A, power)))
        np.testing.assert_array_equal(arrays(b), np.ldexp(arrays(a), power))
        assert a.num_products == b.num_products


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("block_size", [1, 5, 100])
def test_the_block_size_does_not_matter(method, block_size):
    A = decaying(60)
    a, b = (diagonal(A, method=method, rng=1, num_products=30, block_size=size) for size in (16, block_size))
    np.testing.assert_allclose(arrays(b), arrays(a), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_a_target_is_reached_or_the_diagonal_computed(method):
    A = decaying(400, 0.99) + np.diag(np.linspace(0, 1, 400))
    for target in ({"rtol": 0.2}, {"atol": 0.1}, {"atol": 1e-12}):
        result = diagonal(A, method=method, rng=0, **target)
        assert result.status is Status.CONVERGED
        width = max(target.get("rtol", 0) * np.abs(result.value).max(), target.get("atol", 0))
        assert (result.upper - result.lower).max() / 2 <= width
        assert np.abs(result.value - np.diag(A)).max() <= 2 * width
    budget = diagonal(A, method=method, rng=0, atol=1e-12, num_products=50)
    assert budget.status is Status.BUDGET
    assert budget.num_products <= 50
    assert np.isfinite(budget.standard_error).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("at", [3, 8])
@pytest.mark.parametrize(("failure", "status"), [(KeyboardInterrupt(), Status.INTERRUPTED), (np.nan, Status.NONFINITE)])
def test_what_was_found_before_a_failure_is_kept(failure, status, at, method):
    calls = 0

    def matmat(V):
        nonlocal calls
        calls += 1
        if calls == at:
            if isinstance(failure, BaseException):
                raise failure
            return np.full_like(V, failure)
        return 2 * V

    A = LinearOperator((60, 60), matvec=lambda v: 2 * v, matmat=matmat, dtype=float)
    result = diagonal(A, method=method, num_products=50, rng=0, block_size=4)
    assert result.status is status
    np.testing.assert_array_equal(result.value, np.full(60, 2.0))
    assert "diagonal of order 60" in str(result)


def test_float32_products_are_trusted_to_float32_only():
    d = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    exact = d.astype(float) * math.pi
    A = LinearOperator(
        (50, 50), matvec=lambda v: v, matmat=lambda V: (exact[:, None] * V).astype(np.float32), dtype=np.float32
    )
    result = diagonal(A, num_products=20, rng=0)
    assert ((result.lower <= exact) & (exact <= result.upper)).all()
    assert (result.upper - result.lower).max() < 1e-6 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "xtrace"}, ValueError, r"method must be one of \('bekas', 'xdiag'\), got 'xtrace'"),
        ({"method": "xdiag", "simultaneous": True}, ValueError, "simultaneous intervals need independent samples"),
        ({"method": "xdiag", "num_products": 3}, ValueError, "num_products must be at least 4, got 3"),
        ({"num_products": 0}, ValueError, "num_products must be at least 1, got 0"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1, got 0"),
        ({"rtol": -1}, ValueError, "rtol must be positive and finite, got -1"),
        ({"rng": -1}, ValueError, "rng must be"),
    ],
)
def test_arguments_out_of_range_are_named(options, error, message):
    with pytest.raises(error, match=message):
        diagonal(np.eye(3), **options)
