"""The problems of the paper on optimal brain surgeon, small: XOR, and the first of the MONK's problems."""

from itertools import product

import numpy as np
import pytest

from krylovh import Network, Objective, compact, prune
from krylovh.applications.pruning.retraining import retrained

LEVELS = (3, 3, 2, 3, 4, 2)


def trained(net, seed, X, y, l2):
    objective = Objective(net.with_theta(net.random_theta(seed)), X, y, loss="squared_error", l2=l2, threads=1)
    theta, _ = retrained(objective, np.ones(net.num_parameters, bool), 1000, 1e-8)
    return objective.at(theta)


def solved(net, X, y):
    return bool(((net.forward(X)[:, 0] > 0.5) == (y > 0.5)).all())


def all_examples():
    grid = np.array(list(product(*(range(1, n + 1) for n in LEVELS))))
    return grid, np.hstack([grid[:, [k]] == np.arange(1, n + 1) for k, n in enumerate(LEVELS)]).astype(float)


def test_of_the_three_methods_only_the_surgeon_keeps_xor():
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([0, 1, 1, 0.0])
    net = Network((2, 2, 1), ["tanh", "logistic"])
    kept = {"obs": 0, "obd": 0, "magnitude": 0}
    learnt = 0
    for seed in range(8):
        objective = trained(net, seed, X, y, 1e-3)
        if not solved(objective.net, X, y):
            continue
        learnt += 1
        for method in kept:
            options = {"curvature": "gauss_newton"} if method == "obs" else {}
            result = prune(objective, method=method, num_remove=1, **options)
            kept[method] += solved(net.with_theta(result.theta), X, y)
    assert learnt >= 3
    assert kept == {"obs": learnt, "obd": 0, "magnitude": 0}


def test_the_surgeon_leaves_least_of_a_net_that_has_learnt_the_first_monks_problem():
    grid, inputs = all_examples()
    classes = ((grid[:, 0] == grid[:, 1]) | (grid[:, 4] == 1)).astype(float)
    rows = np.random.default_rng(0).permutation(432)[:124]
    X, y = inputs[rows], classes[rows]
    net = Network((17, 3, 1), ["tanh", "logistic"])
    objective = trained(net, 1, X, y, 1e-4)
    assert solved(objective.net, X, y)
    smallest = {}
    for method in ("obs", "magnitude"):
        thetas = []
        prune(
            objective,
            method=method,
            curvature="gauss_newton",
            num_remove=50,
            callback=lambda state, thetas=thetas: thetas.append((state.mask, state.objective.net)),
        )
        good = [(mask, pruned) for mask, pruned in thetas if solved(pruned, X, y)]
        smallest[method] = good[-1]
    left = {method: int(mask.sum()) for method, (mask, _) in smallest.items()}
    assert left["obs"] <= 20
    assert left["obs"] < left["magnitude"]
    mask, pruned = smallest["obs"]
    small = compact(pruned, mask)
    np.testing.assert_allclose(small.forward(inputs), pruned.forward(inputs), rtol=1e-12)
    assert small.num_parameters <= net.num_parameters
    assert np.mean((small.forward(inputs)[:, 0] > 0.5) == classes) == pytest.approx(1.0, abs=0.01)


def test_the_surgeon_finds_one_input_per_attribute_for_the_second_monks_problem():
    """Two units that compare the number of first values with two thresholds: 2 x 6 weights and 5 more parameters."""
    grid, inputs = all_examples()
    y = ((grid == 1).sum(axis=1) == 2).astype(float)
    objective = trained(Network((17, 2, 1), ["tanh", "logistic"]), 0, inputs, y, 1e-3)
    assert solved(objective.net, inputs, y)
    left = {"obs": 39, "obd": 39, "magnitude": 39}
    for method in left:

        def note(state, method=method):
            if solved(state.objective.net, inputs, y):
                left[method] = int(state.mask.sum())

        result = prune(objective, method=method, num_remove=24, callback=note)
        half = slice(19)
        if method == "obs":
            assert result.predicted[half].sum() == pytest.approx(result.actual[half].sum(), rel=0.1)
    assert left["obs"] <= 17
    assert min(left["obd"], left["magnitude"]) > left["obs"]
