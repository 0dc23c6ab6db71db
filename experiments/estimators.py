"""The error of stochastic traces against the products spent: Hutchinson, Hutch++ and XTrace.

    python experiments/estimators.py [-o estimators.h5] [--readme experiments/README.md] [--picture estimators.png]

After Meyer et al. (2021) and Epperly, Tropp and Webber (2024).  Four matrices of order n with known trace: eigenvalues
that hardly decay, that decay like 1/i and 1/i^2 and exponentially, in a random basis; and the Gauss-Newton matrix of a
net trained on the digits.  The median of the relative error over repetitions, and the slope of a line through its
logarithms (an error of 1e-14 or less is rounding, and left out).
"""

import numpy as np
from minima import arguments_of, classifier, digits, finish, trained
from tables import ResultTable

from krylovh import gauss_newton_matrix, trace

METHODS = ("hutchinson", "hutch++", "xtrace")
BUDGETS = (12, 24, 48, 96, 192)
ROUNDING = 1e-14


def matrices(n, steps):
    """Return matrices by name."""
    i = np.arange(1, n + 1)
    spectra = {"uniform in [1, 3]": np.linspace(1, 3, n), "1/i": 1 / i, "1/i^2": 1 / i**2, "0.9^i": 0.9**i}
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))
    found = {name: (basis * values) @ basis.T for name, values in spectra.items()}
    X, labels = digits()
    found["gauss-newton, digits"] = gauss_newton_matrix(trained(classifier((64, 8, 10), X, labels), steps))
    return found


def errors(A, repetitions):
    """Return relative errors, shape (methods, budgets, repetitions)."""
    exact, found = np.trace(A), np.empty((len(METHODS), len(BUDGETS), repetitions))
    for i, method in enumerate(METHODS):
        for j, budget in enumerate(BUDGETS):
            for seed in range(repetitions):
                estimate = trace(A, method=method, num_products=budget, rng=seed)
                found[i, j, seed] = abs(estimate.value / exact - 1)
    return found


def slope(medians):
    """Return the exponent of the budget in the error."""
    good = medians > ROUNDING
    return np.polyfit(np.log(np.array(BUDGETS)[good]), np.log(medians[good]), 1)[0]


def draw(path, curves):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(3 * len(curves), 3.2), layout="constrained", sharex=True)
    for ax, (name, medians) in zip(axes, curves.items(), strict=True):
        for method, line, colour in zip(METHODS, medians, ("#0072B2", "#D55E00", "#009E73"), strict=True):
            ax.loglog(BUDGETS, line, "o-", color=colour, ms=4, label=method)
        for power, style in ((-0.5, ":"), (-1.0, "--")):
            line = medians[0, 0] * (np.array(BUDGETS) / BUDGETS[0]) ** power
            ax.loglog(BUDGETS, line, f"k{style}", lw=1, label=f"slope {power:g}")
        ax.set_xticks(BUDGETS, labels=map(str, BUDGETS), fontsize="small")
        ax.minorticks_off()
        ax.set(xlabel="products", title=name)
    axes[0].set_ylabel("median relative error")
    axes[0].legend(frameon=False, fontsize="x-small")
    figure.savefig(path, dpi=90)


def main():
    parser = arguments_of(__doc__, "estimators.h5")
    parser.add_argument("--picture", help="a file for the curves")
    parser.add_argument("--order", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--steps", type=int, default=100, help="steps of L-BFGS")
    arguments = parser.parse_args()
    columns = {"spectrum": "<", "method": "<"} | {f"{m} products": ".1e" for m in BUDGETS} | {"slope": ".2f"}
    table, curves = ResultTable("estimators", columns), {}
    for name, A in matrices(arguments.order, arguments.steps).items():
        curves[name] = np.median(errors(A, arguments.repetitions), axis=2)
        for method, medians in zip(METHODS, curves[name], strict=True):
            table.rows.append((name, method, *medians, slope(medians)))
    table.facts = [
        f"Order {arguments.order}, that of the net {len(A)}; medians of the relative error over "
        f"{arguments.repetitions} repetitions"
    ]
    finish([table], arguments)
    if arguments.picture:
        draw(arguments.picture, curves)


if __name__ == "__main__":
    main()
