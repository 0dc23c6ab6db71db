"""The command ``solve``: systems with the curvature matrix, such as that of a Newton step."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from krylovh.cli.failures import BAD_INPUT, USAGE, Failure
from krylovh.cli.job import computing
from krylovh.cli.options import (
    Damping,
    Data,
    Matrix,
    MaxProducts,
    MaxSeconds,
    Net,
    Problem,
    Run,
    choice,
    count,
    positive,
)

if TYPE_CHECKING:
    from krylovh import Objective

__all__ = ["solve"]


def solve(
    net: Net,
    data: Data,
    problem: Problem,
    run: Run,
    solver: Annotated[Literal["cg", "minres"], choice("minres also solves singular and indefinite systems.")] = "cg",
    rhs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The right-hand side: .npz with an array b; -gradient if not given."),
    ] = None,
    rtol: Annotated[float, positive("Residual relative to the right-hand side.")] = 1e-6,
    max_iterations: Annotated[int | None, count("Iterations at most.")] = None,
    max_products: MaxProducts = None,
    max_seconds: MaxSeconds = None,
    preconditioner: Annotated[
        Literal["none", "diagonal", "kfac", "nystrom"], choice("Approximate inverse; all but none with --damping.")
    ] = "none",
    rank: Annotated[int, count("Of nystrom.")] = 20,
    matrix: Matrix = "hessian",
    damping: Damping = 0.0,
) -> None:
    """Solve (A + damping I) x = b; by default for the Newton step, b = -gradient."""
    with computing(net, data, problem, run) as job:
        from krylovh import cg, minres
        from krylovh.cli.problem import operator_of

        operator = operator_of(job.objective, matrix, damping)
        b = -job.objective.gradient() if rhs is None else _right_hand_side(rhs, job.objective.num_parameters)
        job.compute(
            "solution", cg if solver == "cg" else minres, operator, b, rtol=rtol,
            max_iterations=max_iterations, max_products=max_products, max_seconds=max_seconds,
            preconditioner=_preconditioner(preconditioner, job.objective, matrix, damping, rank, run.rng),
        )  # fmt: skip


def _right_hand_side(path: Path, n: int) -> Any:
    from krylovh.storage.atomic import open_regular
    from krylovh.storage.npz import read_npz

    with open_regular(path) as raw:
        names, arrays = read_npz(raw, path, "b".__eq__)
    if "b" not in arrays or arrays["b"].shape != (n,):
        found = arrays["b"].shape if "b" in arrays else ", ".join(names) or "nothing"
        raise Failure(BAD_INPUT, f"{path}: needed is an array b of shape ({n},), found {found}")
    return arrays["b"]


def _preconditioner(kind: str, objective: "Objective", matrix: str, damping: float, rank: int, rng: int) -> Any:
    """Return an approximate inverse of the damped matrix, or None."""
    import numpy as np

    from krylovh import DiagonalPreconditioner, KFACOperator, NystromPreconditioner, gauss_newton_diagonal
    from krylovh.cli.problem import operator_of

    if kind == "none":
        return None
    if damping <= 0:
        raise Failure(USAGE, f"--damping must be positive with --preconditioner {kind}, got {damping}")
    if kind == "kfac":
        return KFACOperator(objective).inverse(damping)
    if kind == "nystrom":
        return NystromPreconditioner(operator_of(objective, "gauss_newton"), damping, rank, rng=rng)
    diagonal = gauss_newton_diagonal(objective)
    return DiagonalPreconditioner(np.maximum(diagonal, 0.0), damping)
