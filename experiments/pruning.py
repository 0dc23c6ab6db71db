"""The MONK's problems and XOR by optimal brain surgeon, with optimal brain damage and magnitude beside.

    python experiments/pruning.py [FOLDER] [-o pruning.h5] [--seeds 60] [--picture pruning.png] [--readme PAGE]

FOLDER holds monks-1.train, monks-2.train and monks-3.train in ARFF or as in the UCI archive; without it the rows are
downloaded from OpenML, by scikit-learn.  The test sets are all 432 examples by the rules.  The nets are 17-3-1, 17-2-1
and 17-2-1 with 58, 39 and 39 parameters, tanh units and a logistic output, from Glorot's uniform start, trained by
L-BFGS on squared error with l2 = 1e-3.  Pruning is of the same objective: the surgeon takes the exact Hessian, computed
anew after each removal, without damping and without a Newton step.  It goes on to the last parameter or until the
Hessian is not positive definite any more.  Of all nets on the way the smallest is taken whose training accuracy is at
least the paper's, whatever the accuracy of larger ones.

These settings, the same for all problems, were chosen among l2 from 1e-6 to 5e-3 (1e-4 to 2e-3 on the first), exact
Hessian or Gauss-Newton matrix, with and without a Newton step, and on the second and third problem also cross-entropy
and a start three times as large: by parameters left at the training accuracy and by the error of the predicted changes,
on the first three to five seeds.  Test accuracy has no part in the choice of the net on a path, nor in which seed is
called the best: the one with the fewest parameters, then with the highest training accuracy, then with the smallest
training loss of the trained net.
"""

import argparse
import os
from itertools import product
from pathlib import Path

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # to start threads takes longer than these nets do

import h5py
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
L2 = 1e-3
RETRAINING = 50  # steps of L-BFGS after each removal
ROUNDING = 5e-4  # of accuracies given in % with one decimal
METHODS = {
    "obs": {"method": "obs", "curvature": "hessian"},
    "obd": {"method": "obd"},
    "magnitude": {"method": "magnitude"},
}


def encoded(attributes):
    """Return 17 binary inputs, one for each level of each attribute."""
    return np.hstack([attributes[:, [k]] == np.arange(1, n + 1) for k, n in enumerate(LEVELS)]).astype(float)


def training_rows(rows):
    """Return what is left of rows (attributes, class) of both sets without the block of all 432 examples, the test set.

    Which of the two comes first is not relied on.
    """
    size = np.prod(LEVELS)
    for test, train in ((rows[:size], rows[size:]), (rows[-size:], rows[:-size])):
        if len(np.unique(test[:, :-1], axis=0)) == size:
            return train
    raise ValueError(f"neither the first nor the last {size} of {len(rows)} rows are all examples")


def monks(folder, problem):
    """Return inputs and classes of the training rows and of all examples."""
    if folder is None:
        from sklearn.datasets import fetch_openml

        frame = fetch_openml(f"monks-problems-{problem}", version=1, as_frame=True, parser="liac-arff").frame
        rows = np.roll(training_rows(frame.to_numpy().astype(int)), 1, axis=1)  # the class in front
    else:
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
        net.with_theta(start), X, classes[:, None].astype(float), loss="squared_error", l2=L2, threads=1
    )
    objective = train(objective)
    found = {}
    for name in methods:
        curve = []

        def note(net, left, curve=curve):
            curve.append((left, accuracy(net, X, classes), accuracy(net, X_test, test_classes)))

        note(objective.net, net.num_parameters)
        result = prune(
            objective,
            num_remove=net.num_parameters,
            retrain="lbfgs" if retrain else None,
            retrain_iterations=RETRAINING,
            callback=lambda state, note=note: note(state.objective.net, int(state.mask.sum())),
            **METHODS[name],
        )
        found[name] = np.array(curve), result
    return found


def smallest(curve, wanted):
    """Return parameters left and accuracies of the smallest net whose training accuracy is ``wanted``; or None."""
    good = curve[curve[:, 1] >= wanted - ROUNDING]
    return good[-1] if len(good) else None


def first_half_errors(result):
    """Return relative errors of the predicted changes over the first half of all parameters to go.

    That of their sum, the share of single removals with an error of less than 10 %, and that of the sum of saliencies.
    """
    half = result.theta.size // 2
    predicted, actual = result.predicted[:half], result.actual[:half]
    share = float(np.mean(np.abs(predicted - actual) < 0.1 * np.abs(actual)))
    return abs(predicted.sum() / actual.sum() - 1), share, abs(result.saliencies[:half].sum() / actual.sum() - 1)


def monk_table(folder, seeds, retraining_seeds, console):
    """Prune nets of all seeds; return the table, and the runs by problem, method and retraining."""
    columns = {"problem": "<", "method": "<", "retraining": "<", "seeds": "d", "solved": "d", "best left": ".0f",
               "its train %": ".1f", "its test %": ".1f", "median left": ".1f", "median test %": ".1f",
               "paper": "<", "seeds as good": "d", "prediction, median error %": ".1f", "seeds within 10 %": "d",
               "removals within 10 %": ".0f", "saliencies, median error %": ".1f"}  # fmt: skip
    table = ResultTable("pruning", columns)
    found = {}
    for problem, (train_accuracy, test_accuracy, left) in PAPER.items():
        data = monks(folder, problem)
        for retrain, count in ((False, seeds), (True, retraining_seeds)):
            runs = [monk_run(problem, data, seed, retrain, METHODS) for seed in range(count)]
            for name in METHODS if runs else ():
                found[problem, name, retrain] = mine = [run[name] for run in runs]
                chosen = [(smallest(curve, train_accuracy), result.losses[0]) for curve, result in mine]
                solved = [(*net, loss) for net, loss in chosen if net is not None]
                best = min(solved, key=lambda s: (s[0], -s[1], s[3])) if solved else (np.nan,) * 4
                medians = np.median(solved, axis=0) if solved else np.full(4, np.nan)
                good = sum(s[0] <= left and s[2] >= test_accuracy - ROUNDING for s in solved)
                errors, shares, own = np.array([first_half_errors(result) for _, result in mine]).T
                table.rows.append((
                    f"MONK {problem}", name, "yes" if retrain else "no", count, len(solved), float(best[0]),
                    100 * float(best[1]), 100 * float(best[2]), float(medians[0]), 100 * float(medians[2]),
                    f"{left}: {100 * train_accuracy:.3g}, {100 * test_accuracy:.3g}", good,
                    100 * float(np.median(errors)), int((errors < 0.1).sum()), 100 * float(np.median(shares)),
                    100 * float(np.median(own)) if name != "magnitude" else np.nan,
                ))  # fmt: skip
                console.print(" ".join(table.cells()[-1]))
    table.facts = [
        "Parameters left of 58, 39 and 39, in the smallest net on the way with the training accuracy of the paper; "
        "medians are over the seeds solved, those with such a net",
        f"Without retraining seeds 0 to {seeds - 1}; with at most {RETRAINING} steps of L-BFGS after each removal "
        f"seeds 0 to {retraining_seeds - 1}",
        "Paper: parameters left, training and test accuracy; 'seeds as good' have no more with no less",
        "Prediction: the sum of predicted changes against that of the actual ones over the first half of the removals, "
        "29, 19 and 19, of the objective with its l2 term, and the % of these removals predicted to 10 % one by one, "
        "the median over seeds; 'saliencies' are the method's own prediction, without the gradient, summed likewise",
    ]
    return table, found


def xor_table(seeds):
    """Prune 2-2-1 nets that solve XOR."""
    columns = {"method": "<", "trained nets": "d", "solved after one removal": "d", "and retraining": "d",
               "best left": "d", "median left": ".1f", "median left, retraining": ".1f"}  # fmt: skip
    table = ResultTable("pruning_xor", columns)
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([0, 1, 1, 0.0])
    net = Network((2, 2, 1), ["tanh", "logistic"])
    left = {(name, retrain): [] for name in METHODS for retrain in (False, True)}
    first = {key: 0 for key in left}
    for seed in range(seeds):
        start = net.with_theta(net.random_theta(seed))
        objective = train(Objective(start, X, y, loss="squared_error", l2=1e-3, threads=1))
        if accuracy(objective.net, X, y) < 1:
            continue
        for name, retrain in left:
            solved = [(net.num_parameters, 1.0)]
            prune(
                objective,
                num_remove=net.num_parameters,
                retrain="lbfgs" if retrain else None,
                callback=lambda state, solved=solved: solved.append(
                    (int(state.mask.sum()), accuracy(state.objective.net, X, y))
                ),
                **METHODS[name],
            )
            first[name, retrain] += len(solved) > 1 and solved[1][1] == 1
            left[name, retrain].append(min(count for count, right in solved if right == 1))
    trained = len(left["obs", False])
    table.rows = [
        (name, trained, first[name, False], first[name, True], min(left[name, False]),
         float(np.median(left[name, False])), float(np.median(left[name, True])))
        for name in METHODS
    ]  # fmt: skip
    table.facts = [
        f"2-2-1 nets with 9 parameters of seeds 0 to {seeds - 1} that have learnt XOR by squared error with l2 = 1e-3",
        "Counts: nets that still solve it after one removal; parameters left: of the smallest net on the way that does",
    ]
    return table


def store(path, found):
    """Write curves, padded by nan to one length, and removals, predictions and losses of all seeds."""
    with h5py.File(path, "a") as file:
        if "pruning_curves" in file:
            del file["pruning_curves"]
        for (problem, name, retrain), runs in found.items():
            group = file.create_group(f"pruning_curves/monk {problem}/{name}, {'with' if retrain else 'no'} retraining")
            for part, rows in {
                "left": [curve[:, 0] for curve, _ in runs],
                "training accuracy": [curve[:, 1] for curve, _ in runs],
                "test accuracy": [curve[:, 2] for curve, _ in runs],
                "objective": [result.losses for _, result in runs],
                "predicted change": [result.predicted for _, result in runs],
                "actual change": [result.actual for _, result in runs],
                "saliency": [result.saliencies for _, result in runs],
                "removed": [result.removed for _, result in runs],
            }.items():
                group.create_dataset(part, data=padded(rows), compression="gzip")


def padded(rows):
    """Return rows of unequal length as one array, with nan after their ends."""
    table = np.full((len(rows), max(len(row) for row in rows)), np.nan)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def picture(path, found):
    """Draw training accuracy against parameters left: medians and quartiles of the seeds whose path goes so far."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True, layout="constrained")
    for ax, problem in zip(axes, PAPER, strict=True):
        for name, color in zip(METHODS, ("#0072B2", "#D55E00", "#777777"), strict=True):
            accuracies = padded([100 * curve[:, 1] for curve, _ in found[problem, name, False]])
            left = max((curve[:, 0] for curve, _ in found[problem, name, False]), key=len)
            low, middle, high = np.nanpercentile(accuracies, [25, 50, 75], axis=0)
            ax.plot(left, middle, color=color, label=name)
            ax.fill_between(left, low, high, color=color, alpha=0.15, lw=0)
        train_accuracy, _, count = PAPER[problem]
        ax.plot(count, 100 * train_accuracy, "k*", ms=11, label="Hassibi and Stork", zorder=3)
        ax.set(title=f"MONK {problem}, no retraining", xlabel="parameters left", xlim=(left[0], 0))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("training accuracy in %")
    axes[0].legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="where monks-1.train to monks-3.train lie; default: OpenML")
    parser.add_argument("-o", "--output", default="pruning.h5")
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--retraining-seeds", type=int, default=10)
    parser.add_argument("--picture", help="a file for the curves")
    parser.add_argument("--readme", help="a page whose tables are replaced")
    arguments = parser.parse_args()
    console = Console(width=WIDTH, highlight=False)
    xor = xor_table(arguments.seeds)
    xor.show(console)
    monk, found = monk_table(arguments.folder, arguments.seeds, arguments.retraining_seeds, console)
    monk.show(console)
    for table in (xor, monk):
        table.write(arguments.output)
        if arguments.readme:
            table.replace_in(arguments.readme)
    store(arguments.output, found)
    if arguments.picture:
        picture(arguments.picture, found)


if __name__ == "__main__":
    main()
