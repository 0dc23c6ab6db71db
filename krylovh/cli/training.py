"""Commands that change the parameters of a net: ``train`` and ``prune``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from krylovh.cli.failures import BAD_INPUT, USAGE, Failure, failing_as
from krylovh.cli.job import check_net_path, check_writable, computing, computing_on
from krylovh.cli.memory import require_memory
from krylovh.cli.options import (
    CheckpointFile,
    Data,
    MaxProducts,
    MaxSeconds,
    Net,
    Problem,
    Run,
    SaveNet,
    choice,
    count,
    fraction,
    invocation,
    nonnegative,
    positive,
)

if TYPE_CHECKING:
    from krylovh import Network

__all__ = ["prune", "train"]


def train(
    data: Data,
    problem: Problem,
    run: Run,
    net: Annotated[Path | None, typer.Option(metavar="NET", help="The net to start from.")] = None,
    widths: Annotated[
        str | None, typer.Option(help="Of a new net, input and output included: 64,32,10; tanh if not said otherwise.")
    ] = None,
    method: Annotated[
        Literal["newton-cg", "gauss-newton", "hessian-free", "levenberg-marquardt"], choice("How.")
    ] = "newton-cg",
    tol: Annotated[float, nonnegative("Gradient norm at the end, relative to that at the start.")] = 1e-6,
    gtol: Annotated[float, nonnegative("Gradient norm that is small enough as well.")] = 0.0,
    max_iterations: Annotated[int, count("Iterations at most.", 0)] = 200,
    max_products: MaxProducts = None,
    max_seconds: MaxSeconds = None,
    preconditioner: Annotated[
        Literal["none", "fisher", "kfac", "nystrom"] | None, choice("Of the inner solves.")
    ] = None,
    damping: Annotated[float | None, positive("First damping of the Gauss-Newton methods.")] = None,
    forcing: Annotated[float | None, fraction("Relative residual of the inner solves.")] = None,
    gauss_newton_until: Annotated[
        float | None, fraction("Of newton-cg: Gauss-Newton until the gradient is this share of that at the start.")
    ] = None,
    batch_size: Annotated[int | None, count("Samples of a curvature batch; all if not given.")] = None,
    product_dtype: Annotated[Literal["float64", "float32"] | None, choice("Of curvature products.")] = None,
    save_net: SaveNet = None,
    checkpoint: CheckpointFile = None,
) -> None:
    """Train a net by products with its curvature, from a file or from random parameters."""
    check_writable(run.output, force=run.force)
    check_net_path(save_net, force=run.force)
    with failing_as(BAD_INPUT, invocation().values):
        from krylovh.cli.problem import objective_of, read_data

        objective = objective_of(_start(net, widths, problem, run.rng), read_data(data), problem)
    with computing_on(objective, run, checkpoint) as job:
        from krylovh import minimize

        job.compute(
            "training", minimize, objective, resumable=True,
            method=method, tol=tol, gtol=gtol, max_iterations=max_iterations,
            max_products=max_products, max_seconds=max_seconds, preconditioner=preconditioner, damping=damping,
            forcing=forcing, gauss_newton_until=gauss_newton_until, batch_size=batch_size, product_dtype=product_dtype,
            rng=run.rng, ends=lambda found: job.keep_net(save_net, lambda: objective.net.with_theta(found.x)),
        )  # fmt: skip


def _start(net: Path | None, widths: str | None, problem: Problem, rng: int) -> "Network":
    """Return the net of a file, or a new one with random parameters."""
    from krylovh.cli.problem import activations_of, read_network

    if (net is None) == (widths is None):
        raise Failure(USAGE, "needed is one of --net and --widths")
    if net is not None:
        return read_network(net, problem)
    from krylovh import Network

    try:
        layers = [int(width) for width in (widths or "").split(",")]
    except ValueError:
        raise Failure(USAGE, f"--widths must be whole numbers such as 64,32,10, got {widths!r}") from None
    new = Network(layers, activations_of(problem.activations) or "tanh")
    return new.with_theta(new.random_theta(rng))


def prune(
    net: Net,
    data: Data,
    problem: Problem,
    run: Run,
    method: Annotated[Literal["obs", "obd", "magnitude"], choice("Optimal brain surgeon, damage, or size.")] = "obs",
    num_remove: Annotated[int | None, count("Parameters to remove.", 0)] = None,
    max_loss_change: Annotated[float | None, nonnegative("By how much the objective may rise.")] = None,
    max_validation_change: Annotated[float | None, nonnegative("By how much the validation loss may rise.")] = None,
    validation: Annotated[Path | None, typer.Option(metavar="DATA", help="Data that the loss is watched on.")] = None,
    recompute: Annotated[int, count("Removals between computations of the curvature; 0 for a single one.", 0)] = 1,
    batch: Annotated[int, count("Parameters removed in a step.")] = 1,
    inverse: Annotated[Literal["exact", "outer_product", "cg"], choice("Of obs.")] = "exact",
    curvature: Annotated[Literal["hessian", "gauss_newton"], choice("The matrix of obs.")] = "hessian",
    damping: Annotated[float, nonnegative("Added to the diagonal of the matrix.")] = 0.0,
    newton_step: Annotated[
        bool, typer.Option("--newton-step", help="Of obs: also minimise the gradient part.")
    ] = False,
    diagonal: Annotated[Literal["lecun", "exact"], choice("Of obd.")] = "lecun",
    rtol: Annotated[float, positive("Of the solves of cg.")] = 1e-8,
    num_candidates: Annotated[int | None, count("cg solves for so many candidates.")] = None,
    weights_only: Annotated[bool, typer.Option("--weights-only", help="Keep all biases.")] = False,
    retrain: Annotated[Literal["lbfgs"] | None, choice("After each step.")] = None,
    retrain_iterations: Annotated[int, count("Iterations of a retraining.")] = 200,
    retrain_tol: Annotated[float, positive("Largest entry of the gradient after a retraining.")] = 1e-8,
    save_net: SaveNet = None,
    compact: Annotated[bool, typer.Option("--compact", help="Leave dead units out of the saved net.")] = False,
    checkpoint: CheckpointFile = None,
) -> None:
    """Remove the parameters of a net that the loss depends on least."""
    with computing(net, data, problem, run, also=save_net, checkpoint=checkpoint) as job:
        from krylovh import prune
        from krylovh.cli.problem import read_data

        objective, n = job.objective, job.objective.num_parameters
        if method == "obs" and inverse != "cg":
            require_memory(4 * 8 * n * n, f"--inverse {inverse} with {n} parameters")
        samples: Any = None
        if validation is not None:
            samples = read_data(validation)[:2]
        job.compute(
            "pruning", prune, objective, resumable=True,
            method=method, num_remove=num_remove, max_loss_change=max_loss_change,
            max_validation_change=max_validation_change, validation=samples, recompute=recompute or None, batch=batch,
            inverse=inverse, curvature=curvature, damping=damping, newton_step=newton_step, diagonal=diagonal,
            rtol=rtol, num_candidates=num_candidates, retrain=retrain, retrain_iterations=retrain_iterations,
            retrain_tol=retrain_tol, prunable=objective.net.weight_mask() == 1 if weights_only else None,
            ends=lambda found: job.keep_net(save_net, lambda: _pruned(objective.net, found, compact)),
        )  # fmt: skip


def _pruned(net: "Network", found: Any, compacted: bool) -> "Network":
    from krylovh import compact

    pruned = net.with_theta(found.theta)
    return compact(pruned, found.mask) if compacted else pruned
