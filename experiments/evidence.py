"""What the evidence is good for: the width and regulariser of a net, error bars, determinants, calibrated digits.

    python experiments/evidence.py [-o bench.h5] [--readme experiments/README.md] [--picture evidence.png]

After MacKay (1992) and Bishop (2006), 5.7.  The tests, fixed before they are run: the width, and the alpha, of largest
evidence have an error against the true sinusoid within 10 % of the least among the candidates; the log determinant at
W = 3,466 lies in the 95 % interval of the quadrature; on held-out digits the Laplace predictive has a lower negative
log likelihood and a lower expected calibration error than the point estimate.
"""

import argparse
import warnings

import numpy as np
from rich.console import Console
from scipy.optimize import minimize
from scipy.special import softmax
from tables import WIDTH, ResultTable

from krylovh import Laplace, Network, Objective, ResultStore, compare_models

NOISE, NUM_POINTS, STARTS = 0.15, 30, 2
WIDTHS, ALPHAS = (1, 2, 3, 4, 6, 8), 10.0 ** np.arange(-3, 3)
GRID = np.linspace(-1, 1, 400)[:, None]
SLACK = 1.1


def truth(X):
    return np.sin(1.5 * np.pi * X)


def fitted(objective, theta, steps=1500):
    """Return the objective at a minimum, by L-BFGS."""

    def value_and_gradient(theta):
        here = objective.at(theta)
        return here.value(), here.gradient()

    options = {"maxiter": steps, "maxfun": 2 * steps, "ftol": 0.0, "gtol": 1e-7, "maxcor": 30}
    return objective.at(minimize(value_and_gradient, theta, jac=True, method="L-BFGS-B", options=options).x)


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


def calibration(p, labels, bins=15):
    """Return negative log likelihood, and expected calibration error over bins of confidence."""
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(correct[places == b].sum() - confidence[places == b].sum()) for b in range(bins)]
    return float(-np.log(p[np.arange(len(labels)), labels]).mean()), float(sum(gaps) / len(labels))


def digits(store, rows, alpha, probes):
    from sklearn.datasets import load_digits

    X, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, labels = X[order] / 16, labels[order]
    train, test = slice(0, 1200), slice(1200, None)
    net = Network((64, 32, 32, 10), "tanh")
    objective = Objective(net, X[train], labels[train], loss="softmax_cross_entropy", l2=alpha / 1200)
    objective = fitted(objective, net.random_theta(0), steps=600)
    dense = Laplace(objective, rng=0)
    products = Laplace(objective, structure="krylov", num_probes=probes, rng=0)
    exact, estimate = dense.log_determinant().value, products.log_determinant()
    low, high = estimate.interval
    store.save("digits_posterior", dense.summary())
    store.save("digits_log_determinant", estimate)
    name = f"log det at W = {net.num_parameters:,}"
    rows.append((name, "Cholesky", exact, float("nan"), "-"))
    inside = "yes" if low <= exact <= high else "no"
    rows.append((name, f"{estimate.num_products} products", estimate.value, (high - low) / 2, inside))
    point = calibration(softmax(objective.net.forward(X[test]), axis=1), labels[test])
    rows.append(("digits held out, point", "nll, ece", *point, "-"))
    for method in ("probit", "bridge", "monte_carlo"):
        found = dense.predict(X[test], method=method, rng=0)
        store.save(f"digits_{method}", found)
        figures = calibration(found.mean, labels[test])
        better = "yes" if figures[0] < point[0] and figures[1] < point[1] else "no"
        rows.append((f"digits held out, {method}", "nll, ece", *figures, better))


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
    left.legend(frameon=False, fontsize="small")
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
    table = ResultTable("evidence", {"model": "<", "quantity": "<", "value": ".4f", "error": ".4f", "met": "<"})
    store, (X, y) = ResultStore(arguments.store), sinusoid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # gradients of all modes are in the stored comparisons
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
            digits(store, table.rows, arguments.alpha, arguments.probes)
    table.facts = [
        f"Sinusoid: {NUM_POINTS} points, noise {NOISE}; best of {STARTS} starts by evidence; regularisers at width 8",
        f"Digits: 64-32-32-10, 1,200 rows to train, 597 held out, alpha {arguments.alpha:g}",
    ]
    table.show(Console(width=WIDTH, highlight=False))
    table.write(arguments.output)
    if arguments.readme:
        table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()
