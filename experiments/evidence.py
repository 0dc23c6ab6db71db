"""What the evidence is good for: the width and regulariser of a net, error bars; and its determinant by products.

    python experiments/evidence.py [-o bench.h5] [--readme experiments/README.md] [--picture evidence.png]

After MacKay (1992) and Bishop (2006), 5.7.  The tests, fixed before they are run: the width, and the alpha, of largest
evidence have an error against the true sinusoid within 10 % of the least among the candidates; the log determinant at
W = 3,466 (digits, 64-32-32-10) lies in the 95 % interval of the quadrature.  Calibration is in calibration.py.
"""

import argparse
import warnings

import numpy as np
from rich.console import Console
from scipy.optimize import minimize
from tables import WIDTH, ResultTable

from krylovh import HessianOperator, Laplace, Network, Objective, ResultStore, compare_models

NOISE, NUM_POINTS, STARTS = 0.15, 30, 6
WIDTHS, ALPHAS = (1, 2, 3, 4, 6, 8), 10.0 ** np.arange(-3, 3)
GRID = np.linspace(-1, 1, 400)[:, None]
SLACK = 1.1


def truth(X):
    return np.sin(1.5 * np.pi * X)


def fitted(objective, theta, steps=300):
    """Return the objective at a minimum: L-BFGS, and Newton steps with a trust region from there."""
    found = []

    def at(theta):
        if not (found and np.array_equal(found[0], theta)):
            found[:] = theta.copy(), objective.at(theta)
        return found[1]

    def value_and_gradient(theta):
        return at(theta).value(), at(theta).gradient()

    def product(theta, v):
        return HessianOperator(at(theta)) @ v

    options = {"maxiter": steps, "maxfun": 2 * steps, "ftol": 0.0, "gtol": 1e-7, "maxcor": 30}
    theta = minimize(value_and_gradient, theta, jac=True, method="L-BFGS-B", options=options).x
    scale = np.linalg.norm(objective.l2 * theta)
    options = {"gtol": 1e-6 * scale, "maxiter": 10000}
    return objective.at(minimize(value_and_gradient, theta, jac=True, hessp=product, method="trust-ncg",
                                 options=options).x)  # fmt: skip


def error_of(posterior):
    """Root mean square error against the true function."""
    return float(np.sqrt(np.mean((posterior.objective.net.forward(GRID) - truth(GRID)) ** 2)))


def sinusoid():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (NUM_POINTS, 1))
    return X, truth(X) + NOISE * rng.standard_normal(X.shape)


def of_width(width, X, y):
    """Return the posterior of largest evidence among some starts, alpha and beta re-estimated."""
    found = []
    for seed in range(STARTS):
        net = Network((1, width, 1), "tanh")
        objective = Objective(net, X, y, loss="squared_error", l2=1e-3, threads=1)
        objective = fitted(objective, 2 * net.random_theta(seed))
        beta = 1 / NOISE**2
        posterior = Laplace(objective, noise_precision=beta, prior_precision=beta * len(X) * 1e-3, rng=0)
        groups = (1 - net.weight_mask()).astype(int)  # one alpha for the weights, one for the biases
        found.append(posterior.optimize_hyperparameters(groups=groups, max_iterations=15, tol=1e-2))
    return max(found, key=lambda posterior: posterior.log_evidence().value)


def of_alpha(alpha, width, X, y):
    """Return the posterior of largest evidence among some starts at a fixed alpha and the true noise."""
    found, beta = [], 1 / NOISE**2
    for seed in range(STARTS):
        net = Network((1, width, 1), "tanh")
        objective = Objective(net, X, y, loss="squared_error", l2=alpha / (beta * len(X)), threads=1)
        objective = fitted(objective, 2 * net.random_theta(seed))
        found.append(Laplace(objective, noise_precision=beta, prior_precision=alpha, rng=0))
    return max(found, key=lambda posterior: posterior.log_evidence().value)


def digits(store, rows, alpha, probes, plain):
    """Add the determinant of a posterior on the digits: by Cholesky factors, and by products with and without rank."""
    from sklearn.datasets import load_digits

    X, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:1200]
    net = Network((64, 32, 32, 10), "tanh")
    objective = Objective(net, X[order] / 16, labels[order], loss="softmax_cross_entropy", l2=alpha / 1200)
    objective = fitted(objective, net.random_theta(0))
    dense = Laplace(objective, rng=0)
    store.save("digits_posterior", dense.summary())
    name = f"digits, W = {net.num_parameters:,}"
    exact = {"log det": dense.log_determinant().value, "gamma": dense.effective_parameters().value}
    rows += [(name, f"{quantity}, Cholesky", value, float("nan"), "-") for quantity, value in exact.items()]
    for tag, options in {"": {"num_probes": probes}, ", rank 0": {"rank": 0, **plain}}.items():
        products = Laplace(objective, structure="krylov", rng=0, **options)
        found = {"log det": products.log_determinant()}
        if not tag:
            found["gamma"] = products.effective_parameters()
        for quantity, estimate in found.items():
            low, high = estimate.interval
            inside = "yes" if low <= exact[quantity] <= high else "no"
            store.save(f"digits_{quantity}{tag}".replace(" ", "_"), estimate)
            row = (name, f"{quantity}, {estimate.num_products} products{tag}", estimate.value, (high - low) / 2, inside)
            rows.append(row)


def draw(path, X, y, posteriors, errors):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    best = max(posteriors.values(), key=lambda posterior: posterior.log_evidence().value)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    prediction = best.predict(GRID)
    mean, deviation = prediction.mean[:, 0], np.sqrt(prediction.variance[:, 0])
    left.fill_between(GRID[:, 0], mean - 2 * deviation, mean + 2 * deviation, color="#0072B2", alpha=0.25, lw=0)
    left.plot(GRID, mean, color="#0072B2", label="mean ± 2 standard deviations")
    left.plot(GRID, truth(GRID), "k--", lw=1, label="truth")
    left.plot(X, y, "o", color="#D55E00", ms=4, label="data")
    left.legend(frameon=False, fontsize="small", loc="lower left")
    left.set(
        xlabel="x", ylabel="y", ylim=(-2.2, 1.6), title=f"width {best.objective.net.widths[1]}, of largest evidence"
    )
    right.plot(WIDTHS, [p.log_evidence().value for p in posteriors.values()], "o-", color="#0072B2")
    right.set(xlabel="width", ylabel="log evidence")
    other = right.twinx()
    other.plot(WIDTHS, errors, "s--", color="#D55E00")
    other.set_ylabel("error against the truth", color="#D55E00")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="bench.h5")
    parser.add_argument("--store", default="evidence.h5", help="posteriors, predictions and comparisons")
    parser.add_argument("--readme", help="a page whose table is replaced")
    parser.add_argument("--picture", default="evidence.png")
    parser.add_argument("--alpha", type=float, default=1.0, help="prior precision on the digits")
    parser.add_argument("--probes", type=int, default=20)
    parser.add_argument("--no-digits", action="store_true")
    arguments = parser.parse_args()
    table = ResultTable("evidence", {"model": "<", "quantity": "<", "value": ".4f", "error": ".4g", "met": "<"})
    store, (X, y) = ResultStore(arguments.store), sinusoid()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        posteriors = {f"width {width}": of_width(width, X, y) for width in WIDTHS}
        by_alpha = {f"alpha {alpha:g}": of_alpha(alpha, 8, X, y) for alpha in ALPHAS}
        for name, models in (("widths", posteriors), ("regularisers", by_alpha)):
            comparison = compare_models(models)
            store.save(name, comparison)
            errors = {model: error_of(posterior) for model, posterior in models.items()}
            met = "yes" if errors[comparison.best] <= SLACK * min(errors.values()) else "no"
            for model, value in zip(comparison.names, comparison.log_evidences, strict=True):
                table.rows.append(
                    (f"sinusoid, {model}", "log evidence, rmse", value, errors[model],
                     met if model == comparison.best else "-")
                )  # fmt: skip
        for name, posterior in posteriors.items():
            store.save(f"history, {name}", posterior.history)
        draw(arguments.picture, X, y, posteriors, [error_of(posterior) for posterior in posteriors.values()])
        if not arguments.no_digits:
            digits(store, table.rows, arguments.alpha, arguments.probes, {"num_probes": 20, "num_steps": 50})
    table.facts = [
        f"Sinusoid: {NUM_POINTS} points, noise {NOISE}; best of {STARTS} starts by evidence; regularisers at width 8",
        f"Digits: 64-32-32-10, 1,200 rows, alpha {arguments.alpha:g}; error: half of the 95 % interval",
        f"Warnings of modes that are not stationary to 0.1 %: {len(caught)}",
    ]
    for warning in caught:
        Console(stderr=True).print(warning.message)
    table.show(Console(width=WIDTH, highlight=False))
    table.write(arguments.output)
    if arguments.readme:
        table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()
