"""What a product Hv costs in gradients, and how accurate it is against differences of gradients.

    python experiments/products_accuracy.py [-o products_accuracy.h5] [--readme experiments/README.md] [--picture FILE]

After Pearlmutter (1994).  The net is 64-32-32-10 tanh on the digits, in float64.  The reference is the complex step:
the imaginary part of NumPy's gradient at theta + i h v with h = 1e-30, which has no cancellation and shares no code
with krylovh.  A step h is along the unit vector v.
"""

from time import perf_counter

import numpy as np
from minima import arguments_of, classifier, digits, finish, trained
from tables import ResultTable

from krylovh import FiniteDifferenceOperator, HessianOperator
from krylovh.threads import available_threads

STEPS = 10.0 ** np.arange(-10, 1)
COMPLEX_STEP = 1e-30


def numpy_gradient(net, theta, X, labels):
    """Return the gradient of the mean cross-entropy for a real or complex theta."""
    depth = len(net.widths) - 1
    W, b = [None] * (depth + 1), [None] * (depth + 1)
    for block in net.blocks:
        (W if block.kind == "weight" else b)[block.layer] = theta[block.start : block.stop].reshape(block.shape)
    values = [X]
    for layer in range(1, depth + 1):
        z = values[-1] @ W[layer].T + b[layer]
        values.append(z if layer == depth else np.tanh(z))
    odds = np.exp(values[-1] - values[-1].real.max(axis=1, keepdims=True))
    delta = (odds / odds.sum(axis=1, keepdims=True) - np.eye(net.widths[-1])[labels]) / len(X)
    gradient = np.empty_like(theta)
    for layer in range(depth, 0, -1):
        parts = {"weight": delta.T @ values[layer - 1], "bias": delta.sum(axis=0)}
        for block in net.blocks:
            if block.layer == layer:
                gradient[block.start : block.stop] = parts[block.kind].ravel()
        if layer > 1:
            delta = (delta @ W[layer]) * (1 - values[layer - 1] ** 2)
    return gradient


def exact_error(objective, v):
    """Return the relative error of the exact product, and the reference."""
    shifted = objective.net.theta + 1j * COMPLEX_STEP * v
    exact = numpy_gradient(objective.net, shifted, objective.X, objective.y).imag / COMPLEX_STEP
    return relative(HessianOperator(objective) @ v, exact), exact


def relative(product, exact):
    return np.linalg.norm(product - exact) / np.linalg.norm(exact)


def errors_of(objective, start, directions):
    """Return relative errors by (way, step): medians over directions."""
    theta = objective.net.theta
    at_theta = objective.gradient()
    chosen = {order: FiniteDifferenceOperator(objective, order=order, rng=0) for order in (2, 4)}
    found = {}
    for v in directions:
        error, exact = exact_error(objective, v)
        found.setdefault(("exact product", np.nan), []).append(error)
        found.setdefault(("exact product, random start", np.nan), []).append(exact_error(start, v)[0])
        products = {(f"order {order}, chosen step", np.nan): D @ v for order, D in chosen.items()}
        for h in STEPS:
            ahead, behind = (objective.at(theta + t * v).gradient() for t in (h, -h))
            products["one-sided difference", h] = (ahead - at_theta) / h
            products["central difference", h] = (ahead - behind) / (2 * h)
        for key, product in products.items():
            found.setdefault(key, []).append(relative(product, exact))
    return {key: float(np.median(errors)) for key, errors in found.items()}


def cost_rows(objective, v, rounds):
    """Return rows (what, milliseconds, in gradients): medians of interleaved rounds, each made afresh where told."""
    theta, block = objective.net.theta, np.random.default_rng(1).standard_normal((len(v), 16))
    H = HessianOperator(objective)
    D = FiniteDifferenceOperator(objective, rng=0)
    D @ v  # the noise is measured once
    ways = {
        "gradient": (lambda: objective.at(theta).gradient(), 1),
        "exact product, point kept": (lambda: H @ v, 1),
        "exact product, point made afresh": (lambda: HessianOperator(objective.at(theta)) @ v, 1),
        "exact product, one of 16, point kept": (lambda: H @ block, 16),
        "one-sided difference, gradient at theta kept": (lambda: objective.at(theta + 1e-8 * v).gradient(), 1),
        "central difference": (lambda: [objective.at(theta + t * v).gradient() for t in (1e-5, -1e-5)], 1),
        "central difference, chosen step": (lambda: D @ v, 1),
    }
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, count) in ways.items():
            way()  # the caches are its own
            begin = perf_counter()
            way()
            seconds[name].append((perf_counter() - begin) / count)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    return [(name, 1e3 * time, time / medians["gradient"]) for name, time in medians.items()]


def draw(path, errors):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for way, colour in (("one-sided difference", "#D55E00"), ("central difference", "#0072B2")):
        ax.loglog(STEPS, [errors[way, h] for h in STEPS], "o-", color=colour, label=way)
    others = [key for key in errors if np.isnan(key[1]) and key[0] != "exact product, random start"]
    for (way, step), style in zip(others, ("-", "--", ":"), strict=True):
        ax.axhline(errors[way, step], color="k", ls=style, lw=1, label=way)
    ax.set(xlabel="step", ylabel="relative error of Hv")
    ax.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=90)


def main():
    parser = arguments_of(__doc__, "products_accuracy.h5")
    parser.add_argument("--picture", help="a file for the errors")
    parser.add_argument("--directions", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=30, help="of timing")
    parser.add_argument("--steps", type=int, default=50, help="steps of L-BFGS")
    arguments = parser.parse_args()
    X, labels = digits()
    start = classifier((64, 32, 32, 10), X, labels)
    objective = trained(start, arguments.steps)
    directions = np.random.default_rng(0).standard_normal((arguments.directions, objective.num_parameters))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    errors = errors_of(objective, start, directions)
    accuracy = ResultTable("product_accuracy", {"way": "<", "step": ".0e", "relative error": ".1e"})
    accuracy.rows = [(*key, error) for key, error in sorted(errors.items(), key=lambda item: (item[0][0], -item[0][1]))]
    net = f"64-32-32-10 tanh, {len(X):,} digits, float64, threads: {available_threads()}"
    accuracy.facts = [f"{net}; medians over {arguments.directions} directions"]
    cost = ResultTable("product_cost", {"what": "<", "ms": ".3f", "gradients": ".2f"})
    cost.rows = cost_rows(objective, directions[0], arguments.rounds)
    cost.facts = [f"{net}; medians of {arguments.rounds} rounds"]
    finish([cost, accuracy], arguments)
    if arguments.picture:
        draw(arguments.picture, errors)


if __name__ == "__main__":
    main()
