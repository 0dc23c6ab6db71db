"""The command ``laplace``: the posterior over the parameters, its evidence, and predictions with error bars."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from krylovh.cli.failures import USAGE, Failure
from krylovh.cli.job import computing
from krylovh.cli.memory import require_memory
from krylovh.cli.options import Data, Net, Problem, Run, SaveNet, choice, count, positive

__all__ = ["laplace"]


def laplace(
    net: Net,
    data: Data,
    problem: Problem,
    run: Run,
    curvature: Annotated[Literal["gauss_newton", "hessian"], choice("The matrix.")] = "gauss_newton",
    structure: Annotated[
        Literal["full", "krylov", "kfac", "diagonal", "last_layer"], choice("How much of it is kept.")
    ] = "full",
    noise_precision: Annotated[float, positive("Of the targets, for squared_error.")] = 1.0,
    prior_precision: Annotated[float | None, positive("Of all parameters; from l2 if not given.")] = None,
    fallback: Annotated[Literal["gauss_newton"] | None, choice("Where the Hessian is indefinite.")] = None,
    separate_bias: Annotated[bool, typer.Option(help="Of kfac: blocks of their own for biases.")] = True,
    stationarity_tol: Annotated[float, positive("A larger share of the gradient is warned of.")] = 1e-3,
    rank: Annotated[int | None, count("Of the Nystrom approximation of krylov.", 0)] = None,
    num_probes: Annotated[int | None, count("Of krylov.")] = None,
    num_steps: Annotated[int | None, count("Of krylov.")] = None,
    optimize: Annotated[bool, typer.Option("--optimize", help="Re-estimate the precisions first.")] = False,
    predict: Annotated[Path | None, typer.Option(metavar="DATA", help="Samples to predict, with variances.")] = None,
    save_net: SaveNet = None,
) -> None:
    """Compute the Laplace approximation at a minimum: log evidence, effective parameters, predictions."""
    if save_net is not None and not optimize:
        raise Failure(USAGE, "--save-net must go with --optimize, which alone changes the net")
    with computing(net, data, problem, run, also=save_net) as job:
        from krylovh import Laplace
        from krylovh.cli.problem import read_data

        n = job.objective.num_parameters
        if structure == "full":
            require_memory(3 * 8 * n * n, f"--structure full with {n} parameters")
        X = None if predict is None else read_data(predict).X
        posterior: Any = Laplace(
            job.objective, curvature=curvature, structure=structure, noise_precision=noise_precision,
            prior_precision=prior_precision, fallback=fallback, separate_bias=separate_bias,
            stationarity_tol=stationarity_tol, rank=rank, num_probes=num_probes, num_steps=num_steps, rng=run.rng,
            progress=job.bar("curvature"),
        )  # fmt: skip
        if optimize:
            posterior = posterior.optimize_hyperparameters(progress=job.bar("precisions"))
            job.results["hyperparameters"] = posterior.history
            job.keep_net(save_net, lambda: posterior.objective.net)
        job.compute("posterior", posterior.summary)
        if X is not None:
            job.compute("prediction", posterior.predict, X)
