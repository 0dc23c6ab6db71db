"""The command ``demo``: the Hessian spectrum of a net that scikit-learn trains on its digits."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krylovh.cli.failures import BAD_INPUT, STORAGE, failing_as
from krylovh.cli.job import check_writable, computing_on, progress_bars, written_at_once
from krylovh.cli.options import Run, count

if TYPE_CHECKING:
    from krylovh import Objective

__all__ = ["demo", "digits_objective"]


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write the results.")] = Path("demo.h5"),
    picture: Annotated[Path, typer.Option("--picture", help="Where to draw the spectrum.")] = Path("demo.png"),
    rng: Annotated[int, count("Seed of all random vectors.", 0)] = 0,
    threads: Annotated[int | None, count("Threads; all CPUs if not given.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON; numbers that it lacks become null.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Train a net on scikit-learn's digits and compare its estimated Hessian spectrum with the exact one."""
    check_writable(output, force=True)
    check_writable(picture, force=True)
    with failing_as(BAD_INPUT), progress_bars(sys.stderr.isatty() and not json) as bar:
        bar("training the net")
        objective = digits_objective(threads=threads)
    with computing_on(objective, Run(output=output, rng=rng, force=True, json=json, debug=debug)) as job:
        from krylovh.cli.spectra import whole_spectrum
        from krylovh.plotting import plot_spectrum

        whole_spectrum(job, rng=rng, exact=True)
        title = f"Hessian of a 64-32-32-10 tanh net on digits, {objective.num_parameters:,} parameters"
        found = job.results
        figure = plot_spectrum(
            found["density"], found["largest"], found["smallest"], exact=found["exact"], title=title
        )  # fmt: skip
        with failing_as(STORAGE), written_at_once(picture) as unfinished:
            figure.savefig(unfinished, dpi=150)
        job.written.append(picture)


def digits_objective(*, threads: int | None = None) -> "Objective":
    """Train a 64-32-32-10 tanh net on scikit-learn's digits and return the objective that was minimised.

    scikit-learn's lbfgs minimises the mean cross-entropy plus alpha/(2N) of the squared weights, biases left out.
    """
    import numpy as np

    from krylovh import Network, Objective

    try:
        from sklearn.datasets import load_digits
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        raise ImportError("the demo trains its net with scikit-learn: pip install 'krylovh[demo]'") from None
    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    alpha = 0.1
    model = MLPClassifier((32, 32), activation="tanh", solver="lbfgs", alpha=alpha, max_iter=400, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a spectrum can be taken anywhere
        model.fit(X, y)
    parts = [part for W, b in zip(model.coefs_, model.intercepts_, strict=True) for part in (W.T.ravel(), b)]
    net = Network((64, 32, 32, 10), "tanh", np.concatenate(parts))
    ridge = alpha / len(X) * net.weight_mask()
    return Objective(net, X, y, loss="softmax_cross_entropy", l2=ridge, threads=threads)
