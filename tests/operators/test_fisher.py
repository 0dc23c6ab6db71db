"""Fisher matrices against outer products of gradients that are computed sample by sample."""

import numpy as np
import pytest
from krylovh.kernels import LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import EmpiricalFisherOperator, GaussNewtonOperator, MonteCarloFisherOperator, Network, Objective
from krylovh.operators.fisher import drawn_huber_slopes


def outer_products(net, theta, X, y, *, loss, l2=0.0, sample_weight=None):
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    g = [oracles.value_and_gradient(net, theta, X[[n]], y[[n]], loss=loss)[1] for n in range(len(X))]
    return np.einsum("n,np,nq->pq", w, g, g) / w.sum() + np.diag(l2 * np.ones(len(theta)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("limit", [None, 0])
def test_empirical_fisher_is_the_sum_of_outer_products(limit, loss, topology, dtype):
    objective, arguments, settings = problem(
        topology, "tanh", loss, weighted=True, ridge=True, dtype=dtype, memory_limit=limit
    )
    expected = outer_products(*arguments, **settings)
    found = EmpiricalFisherOperator(objective) @ np.eye(len(expected))
    tolerance = 1e-13 if dtype == np.float64 else 5e-6
    assert np.abs(found - expected).max() <= tolerance * np.linalg.norm(expected, 2)


def test_samples_of_weight_zero_do_not_count():
    objective, (net, _, X, y), _ = problem()
    w = np.ones(len(X))
    w[3:7] = 0.0
    weighted = EmpiricalFisherOperator(Objective(net, X, y, loss="softmax_cross_entropy", sample_weight=w))
    subset = EmpiricalFisherOperator(objective.subset(w > 0))
    v = np.ones(net.num_parameters)
    assert np.allclose(weighted @ v, subset @ v, rtol=1e-13)


def test_empirical_fisher_equals_gauss_newton_only_where_it_should():
    """With residuals of square 1 it does (squared error, one output), with others it does not."""
    rng = np.random.default_rng(0)
    net = Network((3, 4, 1), "tanh", 0.5 * rng.standard_normal(21))
    X = rng.standard_normal((12, 3))
    z, signs = net.forward(X)[:, 0], rng.choice([-1.0, 1.0], 12)
    unit = Objective(net, X, z + signs, loss="squared_error")
    F, G = EmpiricalFisherOperator(unit) @ np.eye(21), GaussNewtonOperator(unit) @ np.eye(21)
    assert np.abs(F - G).max() <= 1e-14 * np.linalg.norm(G, 2)
    half = Objective(net, X, z + 0.5 * signs, loss="squared_error")
    assert np.allclose(EmpiricalFisherOperator(half) @ np.eye(21), G / 4, rtol=1e-13, atol=1e-15)
    logistic = Objective(net, X, rng.integers(0, 2, 12).astype(float), loss="binary_cross_entropy")
    F, G = EmpiricalFisherOperator(logistic) @ np.eye(21), GaussNewtonOperator(logistic) @ np.eye(21)
    assert np.linalg.norm(F - G) > 0.1 * np.linalg.norm(G)


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"huber"}))
def test_monte_carlo_fisher_has_gauss_newton_as_its_mean(loss):
    objective, *_ = problem("skip", "tanh", loss, weighted=True, ridge=True)
    G = GaussNewtonOperator(objective) @ np.eye(objective.num_parameters)
    errors = []
    for samples in (100, 10_000):
        F = MonteCarloFisherOperator(objective, samples, rng=1) @ np.eye(len(G))
        errors.append(np.linalg.norm(F - G) / np.linalg.norm(G))
    assert errors[1] < 0.03
    assert errors[1] < 0.3 * errors[0]  # falls like one over the root


@pytest.mark.parametrize("delta", [0.3, 1.0, 2.5])
def test_huber_slopes_have_the_moments_of_their_density(delta):
    r = np.linspace(-delta - 40 / delta, delta + 40 / delta, 2_000_001)
    density = np.exp(-np.where(abs(r) <= delta, r * r / 2, delta * (abs(r) - delta / 2)))
    slope = np.clip(r, -delta, delta)
    expected = (density * slope**2).sum() / density.sum()
    drawn = drawn_huber_slopes(delta, (200_000,), np.random.default_rng(0))
    assert abs(drawn.mean()) < 5 * np.sqrt(expected / drawn.size)
    assert abs((drawn**2).mean() - expected) < 5 * (drawn**2).std() / np.sqrt(drawn.size)


def test_draws_are_those_of_the_seed_whatever_the_batches(monkeypatch):
    monkeypatch.setattr("krylovh.objective.CHUNK_BYTES", 1024)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    products = []
    for limit, rng in ((None, 7), (0, 7), (None, np.random.default_rng(7)), (None, 8)):
        objective, *_ = problem("chain", "tanh", "poisson", num_samples=200, memory_limit=limit)
        F = MonteCarloFisherOperator(objective, 2, rng=rng)
        v = np.ones(objective.num_parameters)
        products.append(F @ v)
        assert np.array_equal(F @ v, products[-1])  # one matrix, not one for each product
    assert np.allclose(products[0], products[1], rtol=1e-12)
    assert not np.allclose(products[0], products[2])
    assert not np.allclose(products[0], products[3])
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_samples_must_be_positive():
    objective, *_ = problem()
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        MonteCarloFisherOperator(objective, 0)
