"""How far the usual approximations of the Hessian are from it, on five nets.

    python experiments/approximations.py [-o approximations.h5] [--readme experiments/README.md]

Diagonals, layer blocks, Kronecker factors, the Gauss-Newton matrix, the empirical Fisher matrix and the ten eigenpairs
of largest modulus (approximation_report, from full matrices).  The nets: softmax regression, where the Gauss-Newton
matrix is the Hessian; a tanh net on the digits at its random start, half trained and at a minimum; and a deeper net
with a single output on the diabetes data.
"""

import numpy as np
from minima import arguments_of, classifier, digits, finish, trained
from tables import ResultTable

from krylovh import Network, Objective, approximation_report
from krylovh.approximations import APPROXIMATIONS


def regression(steps):
    """Return a minimum of squared error on standardised data."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    X, y = X / X.std(axis=0), (y - y.mean()) / y.std()
    net = Network((10, 12, 12, 1), "tanh")
    net = net.with_theta(net.random_theta(0))
    return trained(Objective(net, X, y[:, None], loss="squared_error", l2=1e-2), steps)


def nets(rows, steps):
    """Return objectives by name."""
    X, labels = digits(rows=rows)
    start = classifier((64, 12, 10), X, labels, l2=1e-3)
    return {
        "64-10 softmax regression": trained(classifier((64, 10), X, labels, l2=1e-3), steps),
        "64-12-10 tanh, random start": start,
        "64-12-10 tanh, 10 steps": trained(start, 10),
        "64-12-10 tanh, minimum": trained(start, steps),
        "10-12-12-1 tanh, regression": regression(steps),
    }


def main():
    parser = arguments_of(__doc__, "approximations.h5")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--steps", type=int, default=500, help="steps of L-BFGS")
    parser.add_argument("--rank", type=int, default=10)
    arguments = parser.parse_args()
    columns = {"net": "<", "approximation": "<", "Frobenius": ".2e", "spectral": ".2e", "trace": ".3f",
               "overlap": ".3f", "solve": ".2e"}  # fmt: skip
    table = ResultTable("approximations", columns)
    for name, objective in nets(arguments.rows, arguments.steps).items():
        report = approximation_report(objective, rank=arguments.rank, rng=0)
        ratio = report.trace / report.hessian_trace
        columns = (report.frobenius_error, report.spectral_error, ratio, report.overlap, report.solve_error)
        for approximation, *values in zip(APPROXIMATIONS, *columns, strict=True):
            table.rows.append((name, approximation, *map(float, values)))
        gradient = float(np.linalg.norm(objective.gradient()))
        table.facts.append(f"{name}: {report.num_parameters:,} parameters, gradient {gradient:.0e}, "
                           f"damping {report.damping:.2g}")  # fmt: skip
    table.facts.append(f"Rank {arguments.rank}")
    finish([table], arguments)


if __name__ == "__main__":
    main()
