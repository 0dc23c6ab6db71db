"""Small nets with data for every topology, activation and loss."""

import numpy as np

from krylovh import Network

CHAIN = {"widths": (5, 7, 6, 4)}
SKIP = {
    "widths": (5, 6, 6, 4),
    "sources": [[(0, "dense")], [(1, "dense"), (1 - 1, "dense")], [(2, "dense"), (1, "dense"), (0, "dense")]],
}
RESIDUAL = {
    "widths": (6, 6, 6, 3),
    "sources": [[(0, "dense"), ], [(1, "dense"), (0, "identity")], [(2, "dense"), (1, "dense")]],
    "bias": [True, False, True],
}
IDENTITY_ONLY = {
    "widths": (4, 4, 4, 4, 2),
    "sources": [[(0, "dense")], [(1, "identity")], [(2, "dense"), (1, "identity"), (0, "identity")], [(3, "dense")]],
}
TOPOLOGIES = {"chain": CHAIN, "skip": SKIP, "residual": RESIDUAL, "identity_only": IDENTITY_ONLY}


def random_net(topology, activation, rng, output="identity", dtype=np.float64):
    """A net with random parameters of moderate size; hidden layers share an activation."""
    spec = dict(TOPOLOGIES[topology])
    widths = spec.pop("widths")
    activations = [activation] * (len(widths) - 2) + [output]
    net = Network(widths, activations, **spec)
    # exp feeds exp: with larger weights the exact Hessian itself is ill-conditioned in theta
    theta = (0.1 if activation == "exp" else 0.5) * rng.standard_normal(net.num_parameters)
    return net.with_theta(theta.astype(dtype))


def random_targets(loss, num_samples, num_outputs, rng):
    if loss == "softmax_cross_entropy":
        return rng.integers(0, num_outputs, num_samples)
    if loss == "binary_cross_entropy":
        return rng.random((num_samples, num_outputs))
    if loss == "poisson":
        return rng.poisson(2.0, (num_samples, num_outputs)).astype(float)
    return 1.5 * rng.standard_normal((num_samples, num_outputs))
