"""Commands about single samples: ``influence`` and ``retrain``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from krylovh.cli.failures import USAGE, Failure
from krylovh.cli.job import computing
from krylovh.cli.options import Data, MaxProducts, Net, Problem, Run, SaveNet, choice, count, nonnegative, positive

__all__ = ["influence", "retrain"]


def influence(
    net: Net,
    data: Data,
    problem: Problem,
    run: Run,
    rows: Annotated[str, typer.Option(help="Samples to remove, one at a time: 0,5,10:20.")],
    on: Annotated[Literal["parameters", "loss", "prediction"], choice("What changes.")] = "parameters",
    test: Annotated[Path | None, typer.Option(metavar="DATA", help="Test samples, for loss and prediction.")] = None,
    damping: Annotated[float, nonnegative("Added to the diagonal of the Hessian.")] = 0.0,
    rtol: Annotated[float, positive("Of the solves.")] = 1e-8,
    max_products: MaxProducts = None,
    block: Annotated[int, count("Systems that are solved together.")] = 16,
    leave_one_out: Annotated[bool, typer.Option("--leave-one-out", help="Also retrain without each sample.")] = False,
) -> None:
    """Say what removing single samples does, to first order."""
    with computing(net, data, problem, run) as job:
        from krylovh.applications import influence as functions
        from krylovh.cli.problem import read_data, rows_of

        if (test is None) != (on == "parameters"):
            raise Failure(USAGE, f"--test must {'not ' if test else ''}be given with --on {on}")
        positions = rows_of(rows, job.objective.num_samples, "--rows")
        options: dict[str, Any] = {"on": on}
        if test is not None:
            samples = read_data(test)
            options |= {"X_test": samples.X} | ({"y_test": samples.y} if on == "loss" else {})
        predicted = job.compute(
            "influence", functions.influence, job.objective, positions, damping=damping, rtol=rtol,
            max_products=max_products, block=block, **options,
        )  # fmt: skip
        if leave_one_out:
            job.compute(
                "leave_one_out", functions.leave_one_out, job.objective, positions, prediction=predicted, **options
            )  # fmt: skip


def retrain(
    net: Net,
    data: Data,
    problem: Problem,
    run: Run,
    remove: Annotated[str | None, typer.Option(help="Samples that go: 0,5,10:20.")] = None,
    add: Annotated[Path | None, typer.Option(metavar="DATA", help="Samples that come.")] = None,
    tol: Annotated[float, positive("Gradient norm relative to that of the change.")] = 1e-8,
    max_step: Annotated[float, positive("Full training takes over after a step this long, relative to theta.")] = 0.5,
    max_products: MaxProducts = None,
    certify: Annotated[bool, typer.Option(help="Bound the distance to the optimum.")] = True,
    save_net: SaveNet = None,
) -> None:
    """Retrain a net on changed data in a few Newton steps."""
    with computing(net, data, problem, run, also=save_net) as job:
        from krylovh import retrain
        from krylovh.cli.problem import read_data, rows_of

        objective = job.objective
        if remove is None and add is None:
            raise Failure(USAGE, "needed is --remove or --add")
        gone = None if remove is None else rows_of(remove, objective.num_samples, "--remove")
        come = None if add is None else tuple(part for part in read_data(add) if part is not None)
        job.compute(
            "retraining", retrain, objective, remove=gone, add=come, tol=tol, max_step=max_step,
            max_products=max_products, certify=certify, rng=run.rng,
            ends=lambda found: job.keep_net(save_net, lambda: objective.net.with_theta(found.theta)),
        )  # fmt: skip
