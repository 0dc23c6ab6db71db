"""Small nets with data for every topology, activation and loss."""

import numpy as np

from krylovh import Network, Objective

CHAIN = {"widths": (5, 7, 6, 4)}
SKIP = {
    "widths": (5, 6, 6, 4),
    "sources": [[(0, "dense")], [(1, "dense"), (1 - 1, "dense")], [(2, "dense"), (1, "dense"), (0, "dense")]],
}
RESIDUAL = {
    "widths": (6, 6, 6, 3),
    "sources": [
        [
            (0, "dense"),
        ],
        [(1, "dense"), (0, "identity")],
        [(2, "dense"), (1, "dense")],
    ],
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
    # exp feeds exp: with larger weights the loss overflows, here and in the oracle
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


def problem(
    topology="chain",
    activation="tanh",
    loss="softmax_cross_entropy",
    *,
    weighted=False,
    ridge=False,
    rng=0,
    num_samples=23,
    dtype=np.float64,
    output="identity",
    **options,
):
    """An objective, the oracle's arguments (net, theta, X, y), and the settings both share."""
    rng = np.random.default_rng(rng)
    net = random_net(topology, activation, rng, output, dtype)
    X = 0.7 * rng.standard_normal((num_samples, net.widths[0]))
    y = random_targets(loss, num_samples, net.widths[-1], rng)
    settings = {"loss": loss}
    if weighted:
        settings["sample_weight"] = rng.uniform(0.1, 3.0, num_samples)
    if ridge:
        settings["l2"] = rng.uniform(0.0, 0.1, net.num_parameters)
    if dtype == np.float32:  # the oracle computes with what float32 really holds
        X, y = X.astype(dtype).astype(float), y.astype(dtype).astype(float) if y.dtype.kind == "f" else y
        settings = {k: v.astype(dtype).astype(float) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
    theta = net.theta.astype(float)
    return Objective(net, X, y, **settings, **options), (net, theta, X, y), settings
