"""Influence against leave-one-out, and retraining against training from the start, on scikit-learn's digits.

    python experiments/influence.py [-o influence.h5] [--readme experiments/README.md] [--picture influence.png]
        [--rows 50] [--pairs 100]

Softmax regression (64-10) and a tanh net (64-16-10), with a ridge, on four fifths of the digits, trained by Newton's
method.  *Influence*: the loss of 20 test samples when single training samples go, to first order and by retraining
without them (Koh and Liang 2017); bars are correlations of 0.99 and 0.8.  *Retraining*: 1, 5 and 10 % of the samples
go; Newton steps from the old solution, preconditioned with eigenpairs of the old Hessian, against the same method from
the start, to the same gradient norm.  The bar is a fifth of the products at a relative distance below 1e-6 from the
optimum, which warm-started steps to a gradient a hundred times smaller give.  What the eigenpairs cost is not counted,
as they are known from the analysis of the old net; it is told.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from sklearn.datasets import load_digits
from tables import WIDTH, ResultTable

from krylovh import (
    HessianOperator,
    Network,
    Objective,
    ResultStore,
    RitzDeflation,
    eigsh,
    influence,
    leave_one_out,
    retrain,
)
from krylovh.applications.influence.newton import Descent, newton_cg

NETS = {"64-10": ((64, 10), 1e-3, 0.99), "64-16-10": ((64, 16, 10), 1e-2, 0.8)}
TOLERANCE = 1e-7


def trained(widths, l2, X, y):
    """Return the objective at its minimum, and theta of the start."""
    net = Network(widths, "tanh" if len(widths) > 2 else "identity")
    net = net.with_theta(net.random_theta(0))
    objective = Objective(net, X, y, loss="softmax_cross_entropy", l2=l2)
    descent = Descent.at(objective, net.theta)
    newton_cg(descent, 1e-10)
    return objective.at(descent.theta), net.theta, descent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="influence.h5")
    parser.add_argument("--readme", help="a page whose tables are replaced")
    parser.add_argument("--picture", help="a picture of predicted against true changes")
    parser.add_argument("--rows", type=int, default=50, help="training samples that are left out, one at a time")
    parser.add_argument("--pairs", type=int, default=100, help="eigenpairs of the old Hessian")
    arguments = parser.parse_args()
    console = Console(width=WIDTH, highlight=False)
    X, y = load_digits(return_X_y=True)
    X, is_test = X / 16, np.arange(len(X)) % 5 == 0
    quality = ResultTable(
        "influence",
        {"net": "<", "Pearson": ".4f", "Spearman": ".4f", "bar": ".2f", "met": "<", "products, influence": ".0f",
         "products, leave-one-out": ".0f"},
    )  # fmt: skip
    speed = ResultTable(
        "retraining",
        {"net": "<", "removed": ".0%", "steps": ".0f", "products": ".0f", "of the certificate": ".0f",
         "gradients": ".0f", "products from the start": ".0f", "gradients from the start": ".0f", "share": ".2f",
         "distance": ".1e", "bound": ".1e", "met": "<"},
    )  # fmt: skip
    store = ResultStore(arguments.output)
    figure, axes = plt.subplots(1, len(NETS), figsize=(9, 4.2), layout="constrained")
    for (name, (widths, l2, bar)), axis in zip(NETS.items(), axes, strict=True):
        objective, start, descent = trained(widths, l2, X[~is_test], y[~is_test])
        console.print(f"{name}: trained, {descent.status}, |grad| {descent.gradient_norm:.1e}")
        pairs = eigsh(HessianOperator(objective), arguments.pairs, tol=1e-4, rng=0, verify=False)
        fact = f"{name}: l2 {l2:g}, {descent.num_products} products of training, {pairs.num_products} of the eigenpairs"
        speed.facts.append(fact)
        for share in (0.01, 0.05, 0.1):
            size = round(share * objective.num_samples)
            gone = np.random.default_rng(1).choice(objective.num_samples, size, replace=False)
            result = retrain(objective, remove=gone, eigenpairs=pairs, tol=TOLERANCE, compare_start=start, rng=0)
            truth = retrain(objective, remove=gone, eigenpairs=pairs, tol=TOLERANCE / 100, certify=False)
            console.print(str(result))
            store.save(f"retrained {name} without {share:.0%}", result)
            distance = np.linalg.norm(result.theta - truth.theta) / np.linalg.norm(truth.theta)
            ratio = result.num_products / result.products_from_start
            met = "yes" if ratio <= 0.2 and distance < 1e-6 and result.status == "converged" else "no"
            speed.rows.append(
                (name, share, len(result.step_history), result.num_products, result.certificate_products,
                 result.num_gradients, result.products_from_start, result.gradients_from_start, ratio, distance,
                 result.distance_bound, met)
            )  # fmt: skip
        rows = np.random.default_rng(0).choice(objective.num_samples, arguments.rows, replace=False)
        P = RitzDeflation(pairs)
        test = {"on": "loss", "X_test": X[is_test][:20], "y_test": y[is_test][:20]}
        predicted = influence(objective, rows, preconditioner=P, progress=True, **test)
        truth = leave_one_out(objective, rows, prediction=predicted, preconditioner=P, rtol=1e-4, progress=True, **test)
        console.print(str(predicted), str(truth), sep="\n")
        store.save(f"influence {name}", predicted)
        store.save(f"leave-one-out {name}", truth)
        met = "yes" if truth.pearson > bar else "no"
        quality.rows.append((name, truth.pearson, truth.spearman, bar, met, predicted.num_products, truth.num_products))
        axis.plot(truth.actual.ravel(), truth.predicted.ravel(), ".", ms=3)
        ends = [truth.actual.min(), truth.actual.max()]
        axis.plot(ends, ends, "k-", lw=0.8)
        axis.set(title=f"{name}: correlation {truth.pearson:.4f}", xlabel="true change of a test loss")
    axes[0].set_ylabel("first-order change")
    quality.facts = [f"{arguments.rows} samples left out one at a time, losses of 20 test samples"]
    for table in (quality, speed):
        table.show(console)
        if arguments.readme:
            table.replace_in(arguments.readme)
    for table in (quality, speed):
        store.save(
            f"table {table.name}",
            {
                title.replace(" ", "_"): np.array(column, dtype=float)
                for title, column in zip(table.columns, zip(*table.rows, strict=True), strict=True)
                if not isinstance(column[0], str)
            },
        )
    if arguments.picture:
        figure.savefig(arguments.picture, dpi=110)


if __name__ == "__main__":
    main()
