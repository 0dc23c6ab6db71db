"""Stochastic Lanczos quadrature against the exact spectrum, by the number of steps.

    python experiments/spectrum_steps.py [-o spectrum_steps.h5] [--readme experiments/README.md] [--picture FILE]

After Ghorbani, Krishnan and Xiao (2019): a 784-20-10 tanh net with 15,910 parameters, trained on MNIST digits, ten
probes, 10 to 90 steps, densities smoothed by Gaussians of variance 1e-5.  With few rows the Hessian is singular:
gradients of the first layer lie in the span of the rows.  In an orthonormal basis of that span the net is r-20-10 for
rows of rank r, and the other (784 - r) 20 eigenvalues are zero; so the spectrum is exact for less work (--rows 5000
takes a matrix of more than 1 GB and many minutes, the default of 300 rows about half a minute).

Errors are integrals of the absolute difference of two densities over all lambda, between 0 and 2: from the exact
density, which has the error of the probes in it, and from the same probes with many more steps, which is the error of
the quadrature alone.
"""

import numpy as np
import scipy.linalg
from minima import arguments_of, classifier, finish, mnist, trained
from tables import ResultTable

from krylovh import HessianOperator, Network, Objective, ResultStore, hessian_matrix, spectral_density

HIDDEN, CLASSES = 20, 10
SIGMA = np.sqrt(1e-5)
NUM_STEPS, MANY = (10, 20, 30, 40, 50, 60, 70, 80, 90), 250


def exact_spectrum(objective):
    """Return all eigenvalues, ascending: those of the net in a basis of the rows, and zeros."""
    X, net = np.asarray(objective.X), objective.net
    _, singular, basis = np.linalg.svd(X, full_matrices=False)
    basis = basis[singular > 1e-10 * singular[0]]
    small = Network((len(basis), HIDDEN, CLASSES), "tanh")
    theta = np.concatenate([(net.weights(1) @ basis.T).ravel(), net.theta[net.widths[0] * HIDDEN :]])
    reduced = Objective(small.with_theta(theta), X @ basis.T, objective.y, loss="softmax_cross_entropy")
    values = scipy.linalg.eigvalsh(hessian_matrix(reduced), overwrite_a=True)
    return np.sort(np.concatenate([values, np.zeros(net.num_parameters - len(values))]))


def smoothed(values, grid):
    """Return the density of eigenvalues of equal weight under Gaussians of deviation SIGMA."""
    near, out = np.sort(values), np.empty_like(grid)
    for i, x in enumerate(grid):
        part = near[np.searchsorted(near, x - 8 * SIGMA) : np.searchsorted(near, x + 8 * SIGMA)]
        out[i] = np.exp(-0.5 * ((x - part) / SIGMA) ** 2).sum()
    return out / (len(values) * SIGMA * np.sqrt(2 * np.pi))


def draw(path, grid, exact, densities):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(9, 4), layout="constrained")
    ax.semilogy(grid, exact, color="k", lw=1.5, label="exact")
    for steps, colour in ((10, "#D55E00"), (90, "#0072B2")):
        ax.semilogy(grid, densities[steps].density(grid, width=SIGMA), "--", color=colour, lw=1, label=f"{steps} steps")
    ax.set(xlabel="eigenvalue", ylabel="density", ylim=(1e-5, 1e3))
    ax.legend(frameon=False)
    figure.savefig(path, dpi=90)


def main():
    parser = arguments_of(__doc__, "spectrum_steps.h5")
    parser.add_argument("--picture", help="a file for the densities")
    parser.add_argument("--store", default="spectrum_densities.h5", help="nodes and weights")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--probes", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8, help="steps of L-BFGS")
    arguments = parser.parse_args()
    X, labels = mnist(arguments.rows)
    objective = trained(classifier((X.shape[1], HIDDEN, CLASSES), X, labels), arguments.steps)
    exact, H = exact_spectrum(objective), HessianOperator(objective)
    densities = {
        steps: spectral_density(H, num_probes=arguments.probes, num_steps=steps, rng=0) for steps in (*NUM_STEPS, MANY)
    }
    grid = np.arange(exact[0] - 10 * SIGMA, exact[-1] + 10 * SIGMA, SIGMA / 4)
    truth, limit = smoothed(exact, grid), densities[MANY].density(grid, width=SIGMA)
    columns = {"steps": "d", "products": "d", "from the exact density": ".1e", "from many steps": ".1e",
               "largest eigenvalue": ".1e", "smallest eigenvalue": ".1e"}  # fmt: skip
    table, norm = ResultTable("spectrum_steps", columns), np.abs(exact).max()
    store = ResultStore(arguments.store)
    for steps, found in densities.items():
        store.save(f"{steps} steps", found, overwrite=True)
        density = found.density(grid, width=SIGMA)
        apart = [np.trapezoid(np.abs(density - other), grid) for other in (truth, limit)]
        apart[1] = apart[1] if steps != MANY else np.nan
        ends = [abs(end - value) / norm for end, value in zip(found.support[::-1], exact[[-1, 0]], strict=True)]
        table.rows.append((steps, found.num_products, *map(float, apart), *map(float, ends)))
    table.facts = [
        f"784-20-10 tanh, {len(X)} MNIST digits, at most {arguments.steps} steps of L-BFGS, "
        f"loss {objective.value():.3f}",
        f"{len(exact):,} eigenvalues from {exact[0]:.3f} to {exact[-1]:.3f}; {np.sum(np.abs(exact) < 1e-12):,} of them "
        f"below 1e-12; {arguments.probes} probes; many steps: {MANY}; ends: errors relative to the largest eigenvalue",
    ]
    finish([table], arguments)
    if arguments.picture:
        draw(arguments.picture, grid, truth, densities)


if __name__ == "__main__":
    main()
