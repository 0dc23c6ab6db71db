"""Samples with one and two probes left out, against QR decompositions of what remains."""

import numpy as np
import pytest

from krylovh.stochastic.leave_one_out import (
    leave_one_out_trace,
    nystrom_leave_one_out,
    range_basis,
)
from krylovh.stochastic.stopping import NotPositive

EPS = 2.0**-52


def operator(name, n):
    rng = np.random.default_rng(7)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    spectrum = {
        "flat": np.linspace(1, 2, n),
        "quick": 0.6 ** np.arange(n),
        "slow": 1 / np.arange(1.0, n + 1),
        "indefinite": rng.standard_normal(n),
    }[name]
    return (Q * spectrum) @ Q.T


def sample(A, W, i, left_out, nystrom):
    """Return what probe i says of the sketch of all probes that are not left out."""
    n, p = W.shape
    kept = [j for j in range(p) if j not in left_out]
    Y, w = A @ W[:, kept], W[:, i]
    if nystrom:
        B = Y @ np.linalg.pinv(W[:, kept].T @ Y) @ Y.T if kept else np.zeros((n, n))
        Q = np.linalg.qr(W[:, kept])[0]
        rest = w - Q @ (Q.T @ w)
        return np.trace(B) + (n - len(kept)) / (rest @ rest) * (w @ (A - B) @ w)
    Q = np.linalg.qr(Y)[0]
    rest = w - Q @ (Q.T @ w)
    return np.trace(Q.T @ A @ Q) + (n - len(kept)) / (rest @ rest) * (rest @ A @ rest)


@pytest.mark.parametrize("name", ["flat", "quick", "slow", "indefinite"])
@pytest.mark.parametrize(("n", "p"), [(3, 2), (12, 5), (40, 12)])
@pytest.mark.parametrize("nystrom", [False, True])
def test_the_fast_form_is_the_one_that_leaves_probes_out(name, n, p, nystrom):
    if nystrom and name == "indefinite":
        pytest.skip("Nystrom needs a semidefinite operator")
    A, W = operator(name, n), np.random.default_rng(p).standard_normal((n, p))
    if nystrom:
        fast = nystrom_leave_one_out(W, A @ W, EPS)
    else:
        Q, R = range_basis(A @ W, EPS)
        fast = leave_one_out_trace(W, Q, R, A @ Q, EPS)
    scale = np.abs(np.linalg.eigvalsh(A)).sum() * (10 if nystrom else 1)  # the shift of the Nystrom approximation
    singles = [sample(A, W, i, {i}, nystrom) for i in range(p)]
    np.testing.assert_allclose(fast.singles, singles, rtol=0, atol=1e-12 * scale)
    for i in range(p):
        for j in range(p):
            if i != j:
                expected = sample(A, W, i, {i, j}, nystrom)
                assert fast.pairs[i, j] == pytest.approx(expected, rel=0, abs=1e-12 * scale)


@pytest.mark.parametrize("name", ["flat", "quick", "slow"])
@pytest.mark.parametrize("nystrom", [False, True])
def test_the_error_is_the_deviation_of_the_mean(name, nystrom):
    """Without the covariance of the samples it would be too small by up to a half."""
    A = operator(name, 60)
    means, errors, naive = [], [], []
    for seed in range(500):
        W = np.random.default_rng(seed).standard_normal((60, 12))
        if nystrom:
            samples = nystrom_leave_one_out(W, A @ W, EPS)
        else:
            Q, R = range_basis(A @ W, EPS)
            samples = leave_one_out_trace(W, Q, R, A @ Q, EPS)
        mean, error, _ = samples.estimate()
        means.append(mean)
        errors.append(error)
        naive.append(samples.singles.std(ddof=1) / 12**0.5)
    deviation = np.std(means)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(deviation, rel=0.4 if name == "quick" else 0.1)
    if name == "slow" and not nystrom:
        assert np.sqrt(np.mean(np.square(naive))) < 0.9 * deviation
    assert abs(np.mean(means) - np.trace(A)) <= 4 * deviation / 500**0.5


def test_the_range_of_dependent_columns_has_a_basis_and_no_factor():
    B = np.random.default_rng(0).standard_normal((30, 4))
    Y = B @ np.random.default_rng(1).standard_normal((4, 9))
    Q, R = range_basis(Y, EPS)
    assert R is None
    assert Q.shape == (30, 4)
    np.testing.assert_allclose(Q.T @ Q, np.eye(4), atol=1e-14)
    np.testing.assert_allclose(Q @ (Q.T @ Y), Y, atol=1e-13)
    Q, R = range_basis(np.zeros((5, 2)), EPS)
    assert R is None
    assert Q.shape == (5, 0)


def test_negative_curvature_is_noticed_beyond_rounding_only():
    W = np.random.default_rng(0).standard_normal((50, 10))
    for negative, refused in ((-1e-3, True), (-1e-16, False)):
        d = np.r_[np.ones(5), np.full(45, negative)]
        if refused:
            with pytest.raises(NotPositive):
                nystrom_leave_one_out(W, d[:, None] * W, EPS)
        else:
            assert nystrom_leave_one_out(W, d[:, None] * W, EPS).estimate()[0] == pytest.approx(5, rel=1e-9)
