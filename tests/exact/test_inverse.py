"""The inverse of the outer-product matrix."""

import numpy as np
import pytest
from krylovh.kernels import LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import outer_product_inverse
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
