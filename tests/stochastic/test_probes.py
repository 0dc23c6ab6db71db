"""Probe streams: one per (seed, purpose, index), whatever the blocks."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import krylovh
from krylovh.stochastic.probes import probe_block

DISTRIBUTIONS = ["rademacher", "gaussian", "sphere"]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [1, 7, 8, 1001])
def test_probes_do_not_depend_on_blocks(distribution, n):
    options = {"seed": 3, "purpose": "trace", "distribution": distribution}
    whole = probe_block(n, 0, 20, **options)
    parts = [probe_block(n, first, count, **options) for first, count in [(0, 10), (10, 1), (11, 9)]]
    np.testing.assert_array_equal(np.hstack(parts), whole)
    assert whole.flags.f_contiguous
    assert whole.dtype == np.float64


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_streams_are_distinct(distribution):
    """Also from the stream that NumPy's default generator gives for the seed."""
    n = 4000
    options = {"distribution": distribution}
    vectors = [probe_block(n, 0, 3, seed=1, purpose="trace", **options).T]
    vectors += [probe_block(n, 0, 3, seed=s, purpose="density", **options).T for s in (1, 2, 2**64 + 1, 2**200)]
    vectors += [np.random.default_rng(1).standard_normal((1, n))]
    rows = np.vstack(vectors)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    correlations = rows @ rows.T - np.eye(len(rows))
    assert np.abs(correlations).max() < 5 / np.sqrt(n)


def test_distributions_have_their_moments():
    n, count = 500, 400
    rademacher = probe_block(n, 0, count, seed=0, purpose="x")
    assert set(np.unique(rademacher)) == {-1.0, 1.0}
    assert abs(rademacher.mean()) < 5 / np.sqrt(n * count)
    gaussian = probe_block(n, 0, count, seed=0, purpose="x", distribution="gaussian")
    assert abs(gaussian.mean()) < 5 / np.sqrt(n * count)
    assert abs((gaussian**2).mean() - 1) < 5 * np.sqrt(2 / (n * count))
    assert abs((gaussian**4).mean() - 3) < 5 * np.sqrt(96 / (n * count))
    sphere = probe_block(n, 0, count, seed=0, purpose="x", distribution="sphere")
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=0), 1.0, rtol=1e-14)
    assert abs((sphere**4).mean() * n * (n + 2) - 3) < 5 * np.sqrt(96 / (n * count))


def test_unknown_distribution_is_named():
    with pytest.raises(ValueError, match=r"distribution must be one of .*'rademacher'.*, got 'normal'"):
        probe_block(3, 0, 1, seed=0, purpose="x", distribution="normal")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_probes_do_not_depend_on_threads(distribution, threads, monkeypatch):
    options = {"seed": 3, "purpose": "trace", "distribution": distribution}
    one_by_one = [probe_block(30_000, index, 1, **options) for index in range(7)]
    monkeypatch.setattr("krylovh.stochastic.probes._available_threads", lambda: threads)
    np.testing.assert_array_equal(probe_block(30_000, 0, 7, **options), np.hstack(one_by_one))


ESTIMATORS = {
    "hutchinson": lambda A, m, **o: krylovh.trace(A, num_products=m, **o),
    "hutch++": lambda A, m, **o: krylovh.trace(A, method="hutch++", num_products=3 * m, **o),
    "xtrace": lambda A, m, **o: krylovh.trace(A, method="xtrace", num_products=2 * m, **o),
    "xnystrace": lambda A, m, **o: krylovh.trace(A, method="xnystrace", num_products=m, **o),
    "bekas": lambda A, m, **o: krylovh.diagonal(A, num_products=m, **o),
    "xdiag": lambda A, m, **o: krylovh.diagonal(A, method="xdiag", num_products=2 * m, **o),
    "frobenius": lambda A, m, **o: krylovh.frobenius_norm(A, num_products=m, **o),
    "logdet": lambda A, m, **o: krylovh.logdet(A, num_probes=m, num_steps=3, **o),
    "density": lambda A, m, **o: krylovh.spectral_density(A, num_probes=m, num_steps=3, **o),
}


def first_vectors(name, count, **options):
    """Return the first ``count`` vectors that an estimator asks for: its probes."""
    n, asked = 300, []

    def product(V):
        asked.append(V.copy())
        return np.linspace(1, 2, n)[:, None] * V

    A = LinearOperator((n, n), matvec=lambda v: product(v.reshape(-1, 1))[:, 0], matmat=product, dtype=float)
    ESTIMATORS[name](A, count, rng=5, **options)
    return np.hstack(asked)[:, :count]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_probes_of_a_small_run_are_the_first_of_a_large_one(name):
    """Whatever the blocks: ten probes, and ten more, are twenty."""
    twenty = first_vectors(name, 20, block_size=20)
    np.testing.assert_array_equal(first_vectors(name, 10, block_size=10), twenty[:, :10])
    if name not in ("logdet", "density"):  # their blocks go on to the next step before the next probe
        for block_size in (1, 3, 16):
            np.testing.assert_array_equal(first_vectors(name, 20, block_size=block_size), twenty)


def test_estimators_with_the_same_seed_share_no_probe():
    vectors = np.hstack([first_vectors(name, 2, block_size=2) for name in ESTIMATORS])
    vectors /= np.linalg.norm(vectors, axis=0)
    assert np.abs(vectors.T @ vectors - np.eye(vectors.shape[1])).max() < 5 / 300**0.5
