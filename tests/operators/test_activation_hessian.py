"""Hessians of single samples with respect to inputs and activations, against complex steps of a gradient."""

import numpy as np
import pytest
from krylovh.kernels import LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import Network, Objective, activation_hessian, input_hessian

TOLERANCE = {np.float64: 1e-13, np.float32: 5e-6}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_layer_equals_the_oracle_and_is_symmetric_to_the_bit(loss, topology, dtype):
    objective, (net, theta, X, y), _ = problem(topology, "silu", loss, weighted=True, ridge=True, dtype=dtype)
    rows = [4, 0, 4, 22]
    for layer in range(net.depth + 1):
        found = activation_hessian(objective, layer, rows)
        expected = oracles.activation_hessian(net, theta, X[rows], y[rows], layer, loss=loss)
        assert found.dtype == dtype
        assert found.shape == (4, net.widths[layer], net.widths[layer])
        assert np.array_equal(found, found.transpose(0, 2, 1))
        assert np.abs(found - expected).max() <= TOLERANCE[dtype] * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("activation", ["tanh", "gelu", "exp", "sin"])
def test_input_hessian_is_that_of_layer_zero_for_curved_outputs_too(activation):
    objective, (net, theta, X, y), _ = problem("residual", activation, "squared_error", output="softplus")
    found = input_hessian(objective, range(len(X)))
    expected = oracles.activation_hessian(net, theta, X, y, 0, loss="squared_error")
    assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()


def test_probabilities_as_targets_and_the_threshold_of_huber_are_kept():
    rng = np.random.default_rng(0)
    net = Network((3, 2), "identity", rng.standard_normal(8))
    X, W = rng.standard_normal((5, 3)), net.weights(1)
    p = oracles.softmax(net.forward(X))
    soft = Objective(net, X, rng.dirichlet(np.ones(2), 5), loss="softmax_cross_entropy")
    expected = np.array([W.T @ (np.diag(q) - np.outer(q, q)) @ W for q in p])
    assert np.allclose(input_hessian(soft, np.arange(5)), expected, atol=1e-14)
    wide = Objective(net, X, np.zeros((5, 2)), loss="huber", loss_options={"delta": 1e3})
    assert np.allclose(input_hessian(wide, [2])[0], W.T @ W, rtol=1e-14)


def test_samples_of_weight_zero_have_their_hessian_as_well():
    _, (net, _, X, y), settings = problem()
    plain = Objective(net, X, y, **settings)
    weighted = Objective(net, X, y, sample_weight=np.arange(len(X)) > 2, **settings)
    assert np.array_equal(input_hessian(weighted, [0, 1, 5]), input_hessian(plain, [0, 1, 5]))


def test_no_rows_give_no_matrices():
    objective, *_ = problem()
    assert activation_hessian(objective, 2, []).shape == (0, 6, 6)


@pytest.mark.parametrize(
    ("layer", "rows", "error", "message"),
    [
        (4, [0], ValueError, r"layer must be in \[0, 3\], got 4"),
        (-1, [0], ValueError, r"layer must be in \[0, 3\], got -1"),
        (1.0, [0], TypeError, "layer must be an integer"),
        (1, [0, 23], ValueError, r"rows must be in \[0, 23\), got 23 at index 1"),
        (1, [-1], ValueError, r"rows must be in \[0, 23\), got -1 at index 0"),
        (1, 3, TypeError, "rows must be a list of integers"),
        (1, [0.5], TypeError, "rows must be a list of integers, got float64"),
    ],
)
def test_layers_and_rows_that_do_not_exist_are_refused(layer, rows, error, message):
    objective, *_ = problem()
    with pytest.raises(error, match=message):
        activation_hessian(objective, layer, rows)
