"""The Laplace evidence of the same net in krylovh and in laplace-torch: full, Kronecker, diagonal and last layer.

    python experiments/laplace_evidence.py [-o bench.h5] [--readme experiments/README.md]

Needs torch, laplace-torch and backpack-for-pytorch.  Nets of unequal widths, on purpose not trained to a minimum: the
formulas are compared, in float64.  Conventions that are matched: laplace-torch takes the curvature of the summed loss
(half the squared error), ``noise_precision = 1 / sigma_noise^2``; its Kronecker factors are of the exact Gauss-Newton
matrix, with weights and bias of a layer apart, and the prior is added to the eigenvalues of the products.
"""

import argparse
import itertools
import warnings

import numpy as np
import torch
from laplace import Laplace as TorchLaplace
from laplace.curvature import BackPackGGN
from rich.console import Console
from tables import WIDTH, ResultTable
from torch.utils.data import DataLoader, TensorDataset

from krylovh import Laplace, Network, Objective

STRUCTURES = {"full": ("all", "full"), "kfac": ("all", "kron"), "diagonal": ("all", "diag"),
              "last_layer": ("last_layer", "full")}  # fmt: skip
BAR = 1e-6


def problem(task):
    """Return widths, X, y and the noise precision of a task."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 5))
    if task == "regression":
        return (5, 7, 4, 2), X, np.sin(X[:, :2]) + 0.1 * rng.standard_normal((60, 2)), 6.25
    return (5, 7, 4, 3), X, rng.integers(0, 3, 60), 1.0


def evidence_of_torch(net, X, y, task, structure, alpha, beta):
    layers = []
    for l, (a, b) in enumerate(itertools.pairwise(net.widths), start=1):
        linear = torch.nn.Linear(a, b, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(net.weights(l).copy()))
            linear.bias.copy_(torch.from_numpy(net.biases(l).copy()))
        layers += [linear, torch.nn.Tanh()]
    weights, hessian = STRUCTURES[structure]
    sigma = {"sigma_noise": beta**-0.5} if task == "regression" else {}
    posterior = TorchLaplace(
        torch.nn.Sequential(*layers[:-1]), task, subset_of_weights=weights, hessian_structure=hessian,
        prior_precision=torch.tensor(alpha, dtype=torch.float64), backend=BackPackGGN, **sigma,
    )  # fmt: skip
    posterior.fit(DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), batch_size=len(X)))
    return float(posterior.log_marginal_likelihood())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="bench.h5")
    parser.add_argument("--readme", help="a page whose table is replaced")
    arguments = parser.parse_args()
    columns = {"task": "<", "structure": "<", "krylovh": ".10f", "laplace-torch": ".10f", "difference": ".1e"}
    table = ResultTable("laplace-torch", columns | {"bar": ".0e", "met": "<"})
    alpha = 1.5
    warnings.simplefilter("ignore")  # that the nets are at no minimum, and what torch says of its hooks
    torch.set_default_dtype(torch.float64)
    for task in ("regression", "classification"):
        widths, X, y, beta = problem(task)
        net = Network(widths, "tanh")
        net = net.with_theta(net.random_theta(1))
        loss = "squared_error" if task == "regression" else "softmax_cross_entropy"
        objective = Objective(net, X, y, loss=loss, l2=alpha / len(X))
        for structure in STRUCTURES:
            ours = Laplace(objective, structure=structure, noise_precision=beta).log_evidence().value
            theirs = evidence_of_torch(net, X, y, task, structure, alpha, beta)
            difference = abs(ours - theirs) / abs(theirs)
            table.rows.append((task, structure, ours, theirs, difference, BAR, "yes" if difference <= BAR else "no"))
    table.facts = ["nets 5-7-4-2 and 5-7-4-3, 60 samples, alpha 1.5, beta 6.25 for the regression"]
    table.show(Console(width=WIDTH, highlight=False))
    table.write(arguments.output)
    if arguments.readme:
        table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()
