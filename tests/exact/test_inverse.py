"""The inverse of the outer-product matrix."""

import numpy as np
import pytest
from krylovh.kernels import LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import Network, Objective, outer_product_inverse
from krylovh.exact import inverse


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_equals_the_inverse_of_the_matrix(topology, loss):
    objective, arguments, settings = problem(topology, "tanh", loss, weighted=True, ridge=True)
    G = oracles.gauss_newton_matrix(*arguments, **settings) + 0.01 * np.eye(objective.num_parameters)
    found, expected = outer_product_inverse(objective, 0.01), np.linalg.inv(G)
    assert np.array_equal(found, found.T)
    assert np.linalg.norm(found - expected) <= 1e-9 * np.linalg.norm(expected)


def test_sums_tiles_and_float32(monkeypatch):
    options = {"reduction": "sum", "dtype": np.float32}
    objective, arguments, settings = problem("skip", "tanh", "squared_error", **options)
    monkeypatch.setattr(inverse, "WORK_BYTES", 30_000)
    G = oracles.gauss_newton_matrix(*arguments, **settings, reduction="sum") + np.eye(objective.num_parameters)
    found = outer_product_inverse(objective, 1.0)
    assert found.dtype == np.float64
    assert np.linalg.norm(found @ G - np.eye(len(G)), 2) <= 100 * np.finfo(np.float32).eps * np.linalg.norm(G, 2)


def test_linear_regression_in_closed_form_with_progress_by_samples():
    rng = np.random.default_rng(0)
    X, y, seen = rng.standard_normal((30, 5)), rng.standard_normal(30), []
    objective = Objective(Network((5, 1), "identity", np.ones(5), bias=False), X, y, loss="squared_error")
    found = outer_product_inverse(objective, 0.1, progress=lambda done, total: seen.append((done, total)))
    expected = np.linalg.inv(X.T @ X / 30 + 0.1 * np.eye(5))
    assert np.linalg.norm(found - expected) <= 1e-14 * np.linalg.norm(expected)
    assert seen == [(i, 30) for i in range(1, 31)]


def test_the_recursion_of_hassibi_and_stork_for_one_output():
    _, arguments, _ = problem("chain", "tanh", "squared_error", num_samples=12)
    net = Network((5, 7, 1), "tanh", np.random.default_rng(3).standard_normal(50) / 2)
    X = arguments[2]
    step, J = 1e-30, []
    for e in np.eye(50):
        J.append(oracles.outputs_and_slopes(net, net.theta + 1j * step * e, X)[0][-1].imag[:, 0] / step)
    inverse_by_hand = np.eye(50) / 1e-3
    for x in np.array(J).T:
        Hx = inverse_by_hand @ x
        inverse_by_hand = inverse_by_hand - np.outer(Hx, Hx) / (len(X) + x @ Hx)
    found = outer_product_inverse(Objective(net, X, np.ones(len(X)), loss="squared_error"), 1e-3)
    assert np.linalg.norm(found - inverse_by_hand) <= 1e-11 * np.linalg.norm(inverse_by_hand)


def test_a_ridge_on_all_parameters_needs_no_damping():
    objective, arguments, settings = problem("chain", l2=0.5)
    G = oracles.gauss_newton_matrix(*arguments, **settings, l2=0.5)
    assert np.linalg.norm(outer_product_inverse(objective, 0.0) @ G - np.eye(len(G))) <= 1e-12 * np.linalg.cond(G)


@pytest.mark.parametrize(
    ("damping", "words"),
    [
        (-1.0, "damping must be finite and at least 0, got -1.0"),
        (np.nan, "damping must be finite and at least 0, got nan"),
        (0.0, "damping must be positive where l2 is 0, got 0.0 and l2 = 0 at parameter 0"),
    ],
)
def test_misuse_is_named(damping, words):
    with pytest.raises(ValueError, match=words):
        outer_product_inverse(problem()[0], damping)
