"""Outliers of the Hessian's spectrum: how many there are for C classes, what explains them, where the gradient lies.

    python experiments/outliers.py [-o outliers.h5] [--readme experiments/README.md] [--picture outliers.png]

After Sagun et al. (2017), Papyan (2019, 2020) and Gur-Ari, Roberts and Dyer (2018).  Tanh nets 64-h-h-C on the digits
of the first C classes, L-BFGS with l2 on the weights; spectra are exact, of the loss without the regulariser.  The
number of outliers is the k in 1 ... 3C with the largest ratio lambda_k / lambda_(k+1): nothing to tune but the 3.

Class means: with p the probabilities and g_n the gradient of sample n, the vectors

    d_c = sum over n in class c of p_n(c) g_n / sum over n in class c of (1 - p_n(c))

are Papyan's means of the logit derivatives of class c over the other classes.  Told are the share of the first C - 1
and of the first C eigenvectors that lies in the span of the C vectors (mean squared cosine), and the largest eigenvalue
that is left when that span is projected out of the Hessian.

Gradient: descent without regulariser, on all samples or on batches; the share |P g|^2 / |g|^2 of the gradient of the
whole loss in the space of the first k eigenvectors, and the share of the final space of ten in that of the moment.
"""

import numpy as np
import scipy.linalg
from minima import arguments_of, classifier, digits, finish, trained
from scipy.special import softmax
from tables import ResultTable

from krylovh import JacobianOperator, hessian_matrix

L2 = 1e-3


def minimum(num_classes, width, steps, seed=0):
    """Return a net trained with the regulariser, as an objective without it; and labels."""
    X, labels = digits(num_classes)
    widths = (64, width, width, num_classes)
    plain = classifier(widths, X, labels, seed=seed)
    regularised = classifier(widths, X, labels, l2=L2 * plain.net.weight_mask(), seed=seed)
    return plain.at(trained(regularised, steps).net.theta), labels


def num_outliers(descending, num_classes):
    """Return the k up to 3C with the largest ratio of successive eigenvalues."""
    top = np.maximum(descending[: 3 * num_classes + 1], np.finfo(float).tiny)
    return int(np.argmax(top[:-1] / top[1:])) + 1


def class_means(objective, labels):
    """Return an orthonormal basis, shape (P, C), of the span of the vectors d_c; and how close to dependent they are.

    That is the least over the largest singular value of the vectors, each with the root of its class's weight.
    """
    num_classes = objective.net.widths[-1]
    p, indicator = softmax(objective.net.forward(objective.X), axis=1), np.eye(num_classes)[labels]
    U = np.zeros((len(labels), num_classes, num_classes))
    for c in range(num_classes):
        mine = labels == c
        U[mine, :, c] = p[mine, c, None] * (p - indicator)[mine] / np.sqrt((1 - p[mine, c]).sum())
    basis, singular, _ = np.linalg.svd(JacobianOperator(objective).T @ U.reshape(-1, num_classes), full_matrices=False)
    return basis, float(singular[-1] / singular[0])


def share(vectors, basis):
    """Return the mean squared cosine between orthonormal vectors and a space."""
    return float(np.sum((basis.T @ vectors) ** 2) / vectors.shape[1])


def count_row(num_classes, width, steps, spectra):
    """Return a row for a net of so many classes; add its spectrum, and that without the class means, to ``spectra``."""
    objective, labels = minimum(num_classes, width, steps)
    H, (basis, dependence) = hessian_matrix(objective), class_means(objective, labels)
    values, vectors = scipy.linalg.eigh(H)
    values, vectors = values[::-1], vectors[:, ::-1]
    HB = H @ basis
    projected = H - basis @ HB.T - HB @ basis.T + basis @ (basis.T @ HB) @ basis.T
    rest = scipy.linalg.eigvalsh(projected)[::-1]
    spectra[num_classes, width] = values, rest
    C, positive = num_classes, values[values > 0]
    return (
        C, width, len(values), float(np.mean(objective.net.forward(objective.X).argmax(axis=1) == labels)),
        num_outliers(values, C), float(values[C - 2] / values[C - 1]), float(values[C - 1] / values[C]),
        float(positive[:C].sum() / positive.sum()), float(np.mean(np.abs(values) < 1e-3 * values[0])),
        int(np.sum(np.abs(values) >= 1e-3 * values[0])),
        dependence, share(vectors[:, : C - 1], basis), share(vectors[:, :C], basis), float(rest[0] / values[0]),
        int(np.sum(values > rest[0])),
    )  # fmt: skip


def gradient_rows(width, batch, rate, moments):
    """Return rows of a descent on ten classes: where the gradient of all samples and the space are at some moments."""
    X, labels = digits()
    objective, rng = classifier((64, width, width, 10), X, labels), np.random.default_rng(0)
    found, step = [], 0
    for moment in moments:
        while step < moment:
            part = objective if batch is None else objective.subset(rng.choice(len(X), batch, replace=False))
            objective = objective.at(objective.net.theta - rate * part.gradient())
            step += 1
        values, vectors = scipy.linalg.eigh(hessian_matrix(objective))
        found.append((moment, objective.value(), rate * values[-1], objective.gradient(), vectors[:, :-21:-1]))
    last, name = found[-1][-1], "all samples" if batch is None else f"batches of {batch}"
    rows = []
    for moment, loss, sharpness, gradient, vectors in found:
        inside = np.cumsum((vectors.T @ gradient) ** 2) / (gradient @ gradient)
        columns = (loss, sharpness, *inside[[8, 9, 19]], share(last[:, :10], vectors[:, :10]))
        rows.append((name, rate, moment, *map(float, columns)))
    return rows


def draw(path, spectra, width):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    classes = sorted({C for C, w in spectra if w == width})
    figure, axes = pyplot.subplots(1, len(classes), figsize=(1.5 * len(classes), 3.4), layout="constrained")
    for ax, C in zip(axes, classes, strict=True):
        values, rest = spectra[C, width]
        number = np.arange(1, 31)
        ax.semilogy(number, np.maximum(rest[:30] / values[0], 1e-12), ".", color="0.6", label="without class means")
        ax.semilogy(number, np.maximum(values[:30] / values[0], 1e-12), "o", color="#0072B2", ms=3, label="Hessian")
        ax.axvline(C - 0.5, color="#D55E00", lw=1, ls="--")
        ax.axvline(C + 0.5, color="#D55E00", lw=1, ls=":")
        ax.set(title=f"{C} classes", ylim=(4e-3, 1.5))
        if ax is not axes[0]:
            ax.set_yticklabels([])
    axes[0].set_ylabel("eigenvalue / largest")
    entries = axes[0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper right", ncols=2, frameon=False, fontsize="small")
    figure.supxlabel("number of the eigenvalue; lines before the C-th (dashed), behind it (dotted)", fontsize="small")
    figure.savefig(path, dpi=80)


def main():
    parser = arguments_of(__doc__, "outliers.h5")
    parser.add_argument("--picture", help="a file for the first eigenvalues")
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--widths", type=int, nargs="*", default=[6, 20], help="further widths, for ten classes")
    parser.add_argument("--steps", type=int, default=200, help="steps of L-BFGS")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.5], help="of the descent")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--moments", type=int, nargs="+", default=[0, 10, 100, 1000, 3000])
    arguments = parser.parse_args()
    columns = {"classes": "d", "width": "d", "parameters": "d", "accuracy": ".3f", "outliers": "d",
               "ratio at C-1": ".1f", "ratio at C": ".1f", "share of first C": ".2f", "near zero": ".1%", "others": "d",
               "least of means": ".3f", "C-1 in means": ".2f", "C in means": ".2f",
               "left without means": ".3f", "above that": "d"}  # fmt: skip
    table, spectra = ResultTable("outliers", columns), {}
    for num_classes in range(2, 11):
        table.rows.append(count_row(num_classes, arguments.width, arguments.steps, spectra))
    table.rows += [count_row(10, width, arguments.steps, spectra) for width in arguments.widths]
    table.facts = [
        f"64-h-h-C tanh, digits, l2 {L2:g}, {arguments.steps} steps of L-BFGS",
        "Near zero: less than 1/1000 of the largest; share of first C: of the sum of positive eigenvalues; left "
        "without means: largest eigenvalue with their span projected out, relative to the largest; least of means: "
        "least singular value of the weighted means, relative to the largest",
    ]
    gradient = ResultTable(
        "gradient_overlap",
        {"gradients of": "<", "rate": "g", "steps": "d", "loss": ".4f", "rate x lambda_1": ".2f", "in first 9": ".3f",
         "in first 10": ".3f", "in first 20": ".3f", "final space": ".3f"},
    )  # fmt: skip
    for batch in (None, arguments.batch):
        for rate in arguments.rates:
            gradient.rows += gradient_rows(arguments.width, batch, rate, arguments.moments)
    size = len(spectra[10, arguments.width][0])
    gradient.facts = [
        f"64-{arguments.width}-{arguments.width}-10 tanh, {size:,} parameters, digits; a random direction has "
        f"{10 / size:.4f} of its square in ten dimensions"
    ]
    finish([table, gradient], arguments)
    if arguments.picture:
        draw(arguments.picture, spectra, arguments.width)


if __name__ == "__main__":
    main()
