"""The recursion of optimal brain damage."""

import numpy as np
import pytest
from krylovh.kernels import LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import Network, Objective, hessian_diagonal, obd_diagonal


def by_the_book(net, X, y, loss):
    """Le Cun, Denker and Solla (1990), sample by sample and unit by unit; tanh layers, identity outputs, a chain."""
    L = net.depth
    diagonal = np.zeros(net.num_parameters)
    weights, _ = oracles.split(net, net.theta)
    for x, target in zip(X, y, strict=True):
        z = oracles.outputs_and_slopes(net, net.theta, x[None])[0]
        g = oracles.LOSSES[loss](z[-1], np.array([target]))[1][0]
        h = np.array(
            [
                oracles.LOSSES[loss](z[-1] + 1e-30j * e, np.array([target]))[1][0, c].imag / 1e-30
                for c, e in enumerate(np.eye(len(g)))
            ]
        )
        found = {}
        for l in range(L, 0, -1):
            found[l] = [np.outer(h, z[l - 1][0] ** 2).ravel(), h]
            if l > 1:
                slope = 1 - z[l - 1][0] ** 2
                u = weights[l, l - 1].T @ g
                h = slope**2 * ((weights[l, l - 1] ** 2).T @ h) - 2 * z[l - 1][0] * slope * u
                g = slope * u
        diagonal += np.concatenate([part for l in sorted(found) for part in found[l]]) / len(X)
    return diagonal


@pytest.mark.parametrize("loss", LOSSES)
def test_equals_the_book(loss):
    objective, (net, _, X, y), _ = problem("chain", "tanh", loss)
    expected = by_the_book(net, X, y, loss)
    assert np.linalg.norm(obd_diagonal(objective) - expected) <= 1e-13 * np.linalg.norm(expected)


@pytest.mark.parametrize("output", ["identity", "logistic"])
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "softmax_cross_entropy"])
def test_is_exact_with_one_hidden_layer_where_losses_of_outputs_add_up(loss, output):
    rng = np.random.default_rng(1)
    net = Network((4, 6, 3), ["silu", output])
    net = net.with_theta(rng.standard_normal(net.num_parameters))
    y = rng.integers(0, 2, (15, 3)).astype(float)
    objective = Objective(net, rng.standard_normal((15, 4)), y, loss=loss, l2=0.01, sample_weight=rng.random(15))
    exact = hessian_diagonal(objective)
    assert np.linalg.norm(obd_diagonal(objective) - exact) <= 1e-14 * np.linalg.norm(exact)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_last_layer_is_exact_and_the_first_is_not(topology, loss):
    objective, *_ = problem(topology, "tanh", loss, weighted=True, ridge=True)
    exact, found = hessian_diagonal(objective), obd_diagonal(objective)
    last = min(block.start for block in objective.net.blocks if block.layer == objective.net.depth)
    scale = np.linalg.norm(exact)
    assert np.linalg.norm(found[last:] - exact[last:]) <= 1e-14 * scale
    assert np.linalg.norm(found[:last] - exact[:last]) >= 1e-4 * scale


def test_float32_and_chunks(monkeypatch):
    exact = obd_diagonal(problem("skip", ridge=True)[0])
    monkeypatch.setattr("krylovh.objective.CHUNK_BYTES", 1024)
    monkeypatch.setattr(Objective, "_best_tile", 5)
    objective, *_ = problem("skip", ridge=True, dtype=np.float32, memory_limit=0, threads=1)
    assert len(list(objective.chunks())) > 1
    single = obd_diagonal(objective)
    assert single.dtype == np.float32
    assert np.linalg.norm(single - exact) <= 20 * np.finfo(np.float32).eps * np.linalg.norm(exact)
