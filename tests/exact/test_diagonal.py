"""Exact diagonals and traces."""

import numpy as np
import pytest
from krylovh.kernels import ACTIVATIONS, LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import (
    Network,
    Objective,
    gauss_newton_diagonal,
    gauss_newton_matrix,
    gauss_newton_trace,
    hessian_diagonal,
    hessian_matrix,
    hessian_trace,
)
from krylovh.exact import diagonal

ORACLES = {hessian_diagonal: oracles.complex_step_hessian, gauss_newton_diagonal: oracles.gauss_newton_matrix}
TRACES = {hessian_diagonal: hessian_trace, gauss_newton_diagonal: gauss_newton_trace}
MATRIX = {hessian_diagonal: hessian_matrix, gauss_newton_diagonal: gauss_newton_matrix}
DIAGONALS = pytest.mark.parametrize("exact", ORACLES, ids=lambda function: function.__name__)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("loss", LOSSES)
@DIAGONALS
def test_diagonal_and_trace_equal_the_oracle(exact, loss, topology, dtype):
    objective, arguments, settings = problem(topology, "silu", loss, weighted=True, ridge=True, dtype=dtype)
    expected = np.diag(ORACLES[exact](*arguments, **settings))
    found, scale = exact(objective), np.linalg.norm(expected)
    tolerance = 1e-13 if dtype == np.float64 else 20 * np.finfo(np.float32).eps
    assert found.dtype == dtype
    assert np.linalg.norm(found - expected) <= tolerance * scale
    assert abs(TRACES[exact](objective) - expected.sum()) <= tolerance * abs(expected).sum()


@pytest.mark.parametrize("output", ["logistic", "softplus", "relu"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@DIAGONALS
def test_curved_outputs(exact, topology, output):
    objective, *_ = problem(topology, "gelu", "softmax_cross_entropy", output=output, reduction="sum", weighted=True)
    expected = np.diag(MATRIX[exact](objective))
    assert np.linalg.norm(exact(objective) - expected) <= 1e-14 * np.linalg.norm(expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation):
    objective, *_ = problem("skip", activation, "poisson")
    expected = np.diag(hessian_matrix(objective))
    assert np.linalg.norm(hessian_diagonal(objective) - expected) <= 1e-13 * np.linalg.norm(expected)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_slopes_pass_through_several_curved_layers(depth):
    rng = np.random.default_rng(depth)
    net = Network((3, *[4] * depth, 2), "tanh")
    net = net.with_theta(rng.standard_normal(net.num_parameters))
    X, y = rng.standard_normal((9, 3)), rng.integers(0, 2, 9)
    expected = oracles.complex_step_hessian(net, net.theta, X, y, loss="softmax_cross_entropy").diagonal()
    found = hessian_diagonal(Objective(net, X, y, loss="softmax_cross_entropy"))
    assert np.linalg.norm(found - expected) <= 1e-13 * np.linalg.norm(expected)


@DIAGONALS
def test_tiles_and_chunks_change_nothing_but_rounding(exact, monkeypatch):
    objective, *_ = problem("residual", "tanh", weighted=True, ridge=True)
    expected = exact(objective)
    monkeypatch.setattr(diagonal, "TILE_ROWS", 4)
    monkeypatch.setattr("krylovh.objective.CHUNK_BYTES", 4096)
    monkeypatch.setattr(Objective, "_best_tile", 5)
    anew, *_ = problem("residual", "tanh", weighted=True, ridge=True, memory_limit=0, threads=1)
    assert len(list(anew.chunks())) > 1
    assert np.linalg.norm(exact(anew) - expected) <= 1e-14 * np.linalg.norm(expected)
    assert abs(TRACES[exact](anew) - expected.sum()) <= 1e-13 * abs(expected).sum()


def test_a_scalar_ridge_counts_once_for_each_parameter():
    plain, *_ = problem()
    objective, *_ = problem(l2=0.25)
    n = objective.num_parameters
    assert hessian_trace(objective) - hessian_trace(plain) == pytest.approx(0.25 * n, rel=1e-13)
    assert np.allclose(hessian_diagonal(objective) - hessian_diagonal(plain), 0.25, rtol=0, atol=1e-14)
