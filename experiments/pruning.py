"""The MONK's problems and XOR by optimal brain surgeon, with optimal brain damage and magnitude beside.

    python experiments/pruning.py FOLDER [-o pruning.h5] [--seeds 60] [--picture pruning.png] [--readme PAGE]

FOLDER holds monks-1.train, monks-2.train and monks-3.train in ARFF or as in the UCI archive.  The test sets are all 432
examples by the rules.  The nets are 17-3-1, 17-2-1 and 17-2-1 with 58, 39 and 39 parameters, tanh units and a logistic
output, trained by L-BFGS on squared error with an l2 term.  Each is pruned to its last parameter; of all nets on the
way the smallest is taken whose training accuracy is at least the paper's.  Test accuracy has no part in any choice.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.optimize import minimize
from tables import WIDTH, ResultTable

from krylovh import Network, Objective, prune

LEVELS = (3, 3, 2, 3, 4, 2)
RULES = {
    1: lambda a: (a[:, 0] == a[:, 1]) | (a[:, 4] == 1),
    2: lambda a: (a == 1).sum(axis=1) == 2,
    3: lambda a: ((a[:, 4] == 3) & (a[:, 3] == 1)) | ((a[:, 4] != 4) & (a[:, 1] != 3)),
}
HIDDEN = {1: 3, 2: 2, 3: 2}
# training and test accuracy and parameters left in the paper
PAPER = {1: (1.0, 1.0, 14), 2: (1.0, 1.0, 15), 3: (0.934, 0.972, 4)}
L2 = {1: 1e-4, 2: 1e-4, 3: 1e-3}
METHODS = {
    "obs": {"method": "obs", "curvature": "gauss_newton"},
    "obd": {"method": "obd"},
    "magnitude": {"method": "magnitude"},
}


def encoded(attributes):
    """Return 17 binary inputs, one for each level of each attribute."""
    return np.hstack([attributes[:, [k]] == np.arange(1, n + 1) for k, n in enumerate(LEVELS)]).astype(float)


def monks(folder, problem):
    """Return inputs and classes of the training rows and of all examples."""
    path = Path(folder) / f"monks-{problem}.train"
    lines = [line.strip() for line in path.read_text().splitlines()]
    lines = [line for line in lines if line and line[0] not in "@%"]
    rows = np.array([[int(v) for v in line.replace(",", " ").split()[:7]] for line in lines])
    grid = np.array(list(product(*(range(1, n + 1) for n in LEVELS))))
    return encoded(rows[:, 1:]), rows[:, 0], encoded(grid), RULES[problem](grid).astype(int)


def train(objective, steps=2000):
    """Return the objective at the end of L-BFGS."""

    def value_and_gradient(theta):
        here = objective.at(theta)
        return here.value(), here.gradient()

    found = minimize(
        value_and_gradient, objective.net.theta, jac=True, method="L-BFGS-B",
        options={"maxiter": steps, "maxfun": 2 * steps, "gtol": 1e-8, "ftol": 0},
    )  # fmt: skip
    return objective.at(found.x)


def accuracy(net, X, classes):
    return float(np.mean((net.forward(X)[:, 0] > 0.5) == classes))


def monk_run(problem, data, seed, retrain, methods):
    """Return for each method the curve (parameters left, training accuracy, test accuracy) and its PruningResult."""
    X, classes, X_test, test_classes = data
    net = Network((17, HIDDEN[problem], 1), ["tanh", "logistic"])
    start = net.random_theta(np.random.default_rng([problem, seed]))
    objective = Objective(
        net.with_theta(start), X, classes[:, None].astype(float), loss="squared_error", l2=L2[problem], threads=1
    )
    objective = train(objective)
    found = {}
    for name in methods:
        curve = [
            (net.num_parameters, accuracy(objective.net, X, classes), accuracy(objective.net, X_test, test_classes))
        ]

        def note(state, curve=curve):
            here = state.objective.net
            curve.append((int(state.mask.sum()), accuracy(here, X, classes), accuracy(here, X_test, test_classes)))

        result = prune(
            objective,
            num_remove=net.num_parameters,
            retrain="lbfgs" if retrain else None,
            retrain_iterations=50,
            callback=note,
            **METHODS[name],
        )
        found[name] = np.array(curve), result
    return found


def smallest(curve, wanted):
    """Return parameters left and accuracies of the smallest net whose training accuracy is ``wanted``; or None."""
    good = curve[curve[:, 1] >= wanted - 5e-4]
    return good[-1] if len(good) else None


def first_half_error(result):
    """Return how far the sum of the predicted changes is from the actual one over the first half of the removals."""
    half = len(result.actual) // 2
    predicted, actual = result.predicted[:half], result.actual[:half]
    return abs(predicted.sum() - actual.sum()) / abs(actual.sum())


def monk_table(folder, seeds, retraining_seeds, console):
    columns = {"problem": "<", "method": "<", "retraining": "<", "seeds": "d", "solved": "d", "best": ".0f",
               "its train %": ".1f", "its test %": ".1f", "median left": ".1f", "median test %": ".1f",
               "paper": "d", "prediction, median error %": ".1f", "within 10 %": "d", "met": "<"}  # fmt: skip
    table = ResultTable("pruning", columns)
    curves = {}
    for problem, (train_accuracy, test_accuracy, left) in PAPER.items():
        data = monks(folder, problem)
        for retrain, count in ((False, seeds), (True, retraining_seeds)):
            runs = [monk_run(problem, data, seed, retrain, METHODS) for seed in range(count)]
            if not runs:
                continue
            for name in METHODS:
                chosen = [smallest(run[name][0], train_accuracy) for run in runs]
                solved = [c for c in chosen if c is not None]
                errors = np.array([first_half_error(run[name][1]) for run in runs])
                # best: fewest parameters, among equals the higher training accuracy, then the lower seed
                best = min(solved, key=lambda c: (c[0], -c[1])) if solved else np.full(3, np.nan)
                middle = np.median([c[0] for c in solved]) if solved else np.nan
                tests = np.median([c[2] for c in solved]) if solved else np.nan
                met = any(c[0] <= left and c[2] >= test_accuracy - 5e-4 for c in solved)
                table.rows.append((
                    f"MONK {problem}", name, "yes" if retrain else "no", count, len(solved), float(best[0]),
                    100 * float(best[1]), 100 * float(best[2]), float(middle), 100 * float(tests), left,
                    100 * float(np.median(errors)), int((errors < 0.1).sum()), "yes" if met else "no",
                ))  # fmt: skip
                curves[problem, name, retrain] = [run[name] for run in runs]
                console.print(table.cells()[-1])
    by_retraining = "with retraining by at most 50 steps of L-BFGS after each removal"
    table.facts = [
        "The smallest net on the way that has the training accuracy of the paper",
        f"Without retraining seeds 0 to {seeds - 1}, {by_retraining} {retraining_seeds} of them from 0 on",
        "Prediction: sums of predicted and actual changes over the first half of removals; 'within 10 %' counts seeds",
        "Met: a seed has at most the paper's parameters with at least its accuracies, in training and in test",
    ]
    return table, curves


def xor_table(seeds):
    """Remove one parameter from trained 2-2-1 nets, and count those that still solve XOR."""
    columns = {"method": "<", "solved nets": "d", "kept": "d", "lost": "d"}
    table = ResultTable("pruning_xor", columns)
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([0, 1, 1, 0.0])
    net = Network((2, 2, 1), ["tanh", "logistic"])
    kept, trained = dict.fromkeys(METHODS, 0), 0
    for seed in range(seeds):
        start = net.with_theta(net.random_theta(seed))
        objective = train(Objective(start, X, y, loss="squared_error", l2=1e-3, threads=1))
        if accuracy(objective.net, X, y) < 1:
            continue
        trained += 1
        for name, options in METHODS.items():
            result = prune(objective, num_remove=1, **options)
            kept[name] += accuracy(objective.net.with_theta(result.theta), X, y) == 1
    table.rows = [(name, trained, kept[name], trained - kept[name]) for name in METHODS]
    table.facts = [f"2-2-1 nets of seeds 0 to {seeds - 1} that have learnt XOR, after one removal without retraining"]
    return table


def picture(path, curves):
    """Draw training error against parameters left: the median over seeds, and the best seed's."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True)
    for ax, problem in zip(axes, PAPER, strict=True):
        for name, color in zip(METHODS, ("#0072B2", "#D55E00", "#999999"), strict=True):
            full = [curve for curve, _ in curves[problem, name, False]]
            longest = max(len(curve) for curve in full)
            errors = np.array(
                [np.pad(100 * (1 - c[:, 1]), (0, longest - len(c)), constant_values=np.nan) for c in full]
            )
            left = max(full, key=len)[:, 0]
            ax.plot(left, np.nanmedian(errors, axis=0), color=color, label=name)
            ax.fill_between(left, *np.nanpercentile(errors, [25, 75], axis=0), color=color, alpha=0.2, lw=0)
        ax.axvline(PAPER[problem][2], color="black", lw=0.8, ls=":")
        ax.invert_xaxis()
        ax.set(title=f"MONK {problem}", xlabel="parameters left")
    axes[0].set_ylabel("training error in %, median and quartiles of seeds")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where monks-1.train, monks-2.train and monks-3.train lie")
    parser.add_argument("-o", "--output", default="pruning.h5")
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--retraining-seeds", type=int, default=10)
    parser.add_argument("--picture", help="a file for the curves")
    parser.add_argument("--readme", help="a page whose tables are replaced")
    arguments = parser.parse_args()
    console = Console(width=WIDTH, highlight=False)
    xor = xor_table(arguments.seeds)
    xor.show(console)
    monk, curves = monk_table(arguments.folder, arguments.seeds, arguments.retraining_seeds, console)
    monk.show(console)
    for table in (xor, monk):
        table.write(arguments.output)
        if arguments.readme:
            table.replace_in(arguments.readme)
    if arguments.picture:
        picture(arguments.picture, curves)


if __name__ == "__main__":
    main()
