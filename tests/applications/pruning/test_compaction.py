"""The compacted net has the outputs of the masked one."""

import numpy as np
import pytest

from krylovh import Network, compact

DENSE = "dense"


def outputs(net, X):
    return net.forward(X)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize(
    "sources",
    [None, [[(0, DENSE)], [(1, DENSE), (0, DENSE)], [(2, DENSE), (1, DENSE), (0, DENSE)]]],
    ids=["chain", "skips"],
)
def test_outputs_are_kept(bias, fraction, sources):
    generator = np.random.default_rng([int(100 * fraction), bias])
    narrower = 0
    for _ in range(10):
        net = Network((4, 7, 6, 2), ["softplus", "logistic", "identity"], sources=sources, bias=bias)
        theta = generator.standard_normal(net.num_parameters)
        mask = generator.random(net.num_parameters) > fraction
        net = net.with_theta(np.where(mask, theta, 0.0))
        small = compact(net, mask)
        X = generator.standard_normal((20, 4))
        np.testing.assert_allclose(outputs(small, X), outputs(net, X), rtol=1e-13, atol=1e-13)
        assert (small.widths[0], small.widths[-1]) == (4, 2)
        assert all(a <= b for a, b in zip(small.widths, net.widths, strict=True))
        narrower += small.num_units < net.num_units
    assert fraction < 0.6 or narrower > 0


def test_units_that_die_free_those_before_them():
    net = Network((2, 2, 2, 1), "tanh")
    theta = np.arange(1.0, net.num_parameters + 1) / 10
    theta[net.position_of(3, "weight", 0, 1)] = 0.0  # unit 1 of layer 2 feeds nothing
    theta[net.position_of(2, "weight", 0, 0)] = 0.0  # and unit 0 of layer 1 fed only that one
    net = net.with_theta(theta)
    small = compact(net)
    assert small.widths == (2, 1, 1, 1)
    X = np.random.default_rng(0).standard_normal((5, 2))
    np.testing.assert_allclose(outputs(small, X), outputs(net, X), rtol=1e-14)


def test_constants_are_folded_through_several_layers():
    net = Network((3, 4, 4, 1), "tanh")
    theta = np.random.default_rng(1).standard_normal(net.num_parameters)
    for i in range(4):
        for j in range(3):
            theta[net.position_of(1, "weight", i, j)] = 0.0
    net = net.with_theta(theta)
    small = compact(net)
    assert small.widths == (3, 1, 1, 1)
    assert not small.weights(1).any()
    X = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_allclose(outputs(small, X), outputs(net, X), rtol=1e-13)


def test_a_weight_that_is_zero_by_chance_stays_where_the_mask_keeps_it():
    net = Network((1, 2, 1), "tanh", [0.0, 1.0, 0, 0, 1.0, 1.0, 0.0])
    assert compact(net, np.ones(7, bool)).widths == (1, 2, 1)
    assert compact(net).widths == (1, 1, 1)


def test_misuse_is_refused_by_name():
    net = Network((2, 2, 1), "tanh", np.ones(9))
    with pytest.raises(ValueError, match=r"mask must be booleans of shape \(9,\)"):
        compact(net, np.ones(8, bool))
    with pytest.raises(ValueError, match=r"theta must be 0 where mask is False, got 1\.0 at 0"):
        compact(net, np.arange(9) > 0)
    skipping = Network((2, 2, 2), "tanh", sources=[[(0, DENSE)], [(1, "identity")]])
    with pytest.raises(ValueError, match="identity edges cannot be compacted"):
        compact(skipping)
