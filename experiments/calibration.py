"""Is the Laplace predictive better calibrated than the net as it was trained?  Digits: as they are, and noisy.

    python experiments/calibration.py [-o calibration.h5] [--readme experiments/README.md]

A 64-20-10 tanh net is trained on 300 rows with a weak ridge, to a stationary point: the point estimate.  Alpha is
re-estimated by MacKay's fixed point on the same rows, the net fitted again, and three predictives ("probit", "bridge",
"monte_carlo") of the full posterior, and of the last layer's, are compared with the point estimate on 597 held-out
rows; the point estimate at the re-estimated alpha stands beside them.  Ten splits with a start each (seeds 0 to 9).

The three problems: the digits; with normal noise of deviation 0.5 on all pixels, in training and test (pixels are in
0 to 1); with 15 % of the labels drawn at random, in training and test.  Met: negative log likelihood, calibration error
and Brier score are each below the point estimate's by two standard errors of the paired difference.  Sizes and noise
were fixed after a trial on seed 100, which is not among the ten.

Runs that the output file holds already are not done again.
"""

import argparse
import warnings

import h5py
import numpy as np
from evidence import fitted
from rich.console import Console
from rich.progress import Progress
from scipy.special import softmax
from sklearn.datasets import load_digits
from tables import WIDTH, ResultTable

from krylovh import Laplace, Network, Objective

ROWS, HELD_OUT, RIDGE, BINS = 300, 597, 1e-5, 15
#: Deviation of the noise on pixels, and share of labels drawn at random.
PROBLEMS = {"digits": (0.0, 0.0), "noisy pixels": (0.5, 0.0), "noisy labels": (0.0, 0.15)}
METHODS = ("probit", "bridge", "monte_carlo")
ESTIMATES = ("point", "point at alpha", *(f"{s}, {m}" for s in ("full", "last layer") for m in METHODS))
SCORES = ("nll", "ece", "brier", "accuracy")


def problem(name, seed):
    """Return rows and labels, shuffled."""
    pixels, labels = PROBLEMS[name]
    rng = np.random.default_rng(seed)
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    X, y = X[order] / 16 + pixels * rng.standard_normal(X.shape), y[order]
    drawn = rng.random(len(y)) < labels
    return X, np.where(drawn, rng.integers(0, 10, len(y)), y)


def scores(p, labels):
    """Return negative log likelihood, expected calibration error over bins of confidence, Brier score, accuracy."""
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.abs(np.bincount(places, correct - confidence, BINS))
    nll = -np.log(p[np.arange(len(labels)), labels]).mean()
    brier = np.square(p - np.eye(p.shape[1])[labels]).sum(axis=1).mean()
    return nll, gaps.sum() / len(labels), brier, correct.mean()


def run(name, seed):
    """Return the scores of the estimates, (estimates, scores), and alpha, gamma and the gradients' relative size."""
    X, y = problem(name, seed)
    new, labels = X[-HELD_OUT:], y[-HELD_OUT:]
    net = Network((64, 20, 10), "tanh")
    objective = Objective(net, X[:ROWS], y[:ROWS], loss="softmax_cross_entropy", l2=RIDGE, threads=1)
    objective = fitted(objective, net.random_theta(seed))
    rows = [scores(softmax(objective.net.forward(new), axis=1), labels)]
    posterior = Laplace(objective, rng=seed).optimize_hyperparameters(tol=1e-2)
    rows.append(scores(softmax(posterior.objective.net.forward(new), axis=1), labels))
    for one in (posterior, Laplace(posterior.objective, structure="last_layer", rng=seed)):
        rows += [scores(one.predict(new, method=method, rng=seed).mean, labels) for method in METHODS]
    return np.array(rows), (posterior.prior_precision[0], posterior.effective_parameters().value)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="calibration.h5")
    parser.add_argument("--readme", help="a page whose table is replaced")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    table = ResultTable(
        "calibration",
        {"problem": "<", "estimate": "<", "nll": ".4f", "ece": ".4f", "brier": ".4f", "accuracy": ".4f",
         "nll less point": "<", "ece less point": "<", "brier less point": "<", "met": "<"},
    )  # fmt: skip
    warnings.simplefilter("error", RuntimeWarning)  # every mode must be a stationary point
    alphas = {}
    with h5py.File(arguments.output, "a") as file, Progress() as progress:
        task = progress.add_task("runs", total=len(PROBLEMS) * arguments.seeds)
        for name in PROBLEMS:
            for seed in range(arguments.seeds):
                place = f"runs/{name}/{seed}"
                if place not in file:
                    found, (alpha, gamma) = run(name, seed)
                    dataset = file.create_dataset(place, data=found)
                    dataset.attrs.update(alpha=alpha, gamma=gamma, estimates=ESTIMATES, scores=SCORES)
                    file.flush()
                progress.advance(task)
            sets = [file[f"runs/{name}/{seed}"] for seed in range(arguments.seeds)]
            alphas[name] = np.mean([one.attrs["alpha"] for one in sets])
            values = np.array([one[()] for one in sets])  # (seeds, estimates, scores)
            change = (values - values[:, :1])[:, :, :3]
            mean, error = change.mean(axis=0), change.std(axis=0, ddof=1) / np.sqrt(len(change))
            for i, estimate in enumerate(ESTIMATES):
                cells = [f"{m:+.4f} ± {e:.4f}" for m, e in zip(mean[i], error[i], strict=True)] if i else ["-"] * 3
                met = "yes" if (mean[i] + 2 * error[i] < 0).all() else "no"
                table.rows.append((name, estimate, *values[:, i].mean(axis=0), *cells, met if i else "-"))
    table.facts = [
        f"64-20-10, {ROWS} rows to train, {HELD_OUT} held out, ridge {RIDGE:g} on the mean loss for the point estimate",
        f"Means over {arguments.seeds} splits, and paired differences from the point estimate ± one standard error",
        "Mean alpha re-estimated: " + ", ".join(f"{name} {alpha:.2f}" for name, alpha in alphas.items()),
    ]
    table.show(Console(width=WIDTH, highlight=False))
    table.write(arguments.output)
    if arguments.readme:
        table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()
