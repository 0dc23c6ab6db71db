"""From the files and options of a command to an objective, an operator, rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from krylovh.cli.failures import FAULT, USAGE, Failure
from krylovh.cli.memory import require_memory
from krylovh.cli.options import Problem

if TYPE_CHECKING:
    from krylovh import Network, Objective
    from krylovh.storage.inputs import Data

__all__ = [
    "activations_of",
    "objective_of",
    "operator_of",
    "read_data",
    "read_network",
    "read_objective",
    "rows_of",
    "tolerance",
]


def read_network(path: Path, problem: Problem) -> "Network":
    """Read a net of any supported format."""
    from krylovh import load_network

    options: dict[str, Any] = {} if problem.outputs is None else {"outputs": problem.outputs}
    return load_network(path, activations_of(problem.activations), **options)


def activations_of(text: str | None) -> str | list[str] | None:
    """Return one name for all hidden layers, or a list with a name per layer.

    Examples
    --------
    >>> activations_of("tanh"), activations_of("relu,identity"), activations_of(None)
    ('tanh', ['relu', 'identity'], None)
    """
    names = None if text is None else [name.strip() for name in text.split(",")]
    return names[0] if names and len(names) == 1 else names


def read_data(path: Path) -> "Data":
    """Read samples, if they fit into memory."""
    from krylovh import load_data

    if path.is_file():
        require_memory(path.stat().st_size, f"{path}: reading it")
    return load_data(path)


def read_objective(net: Path, data: Path, problem: Problem) -> "Objective":
    """Put a net and data from files into an objective."""
    return objective_of(read_network(net, problem), read_data(data), problem)


def objective_of(network: "Network", data: "Data", problem: Problem) -> "Objective":
    """Put a net and data into an objective, if what products need fits into memory."""
    from krylovh.distributed import spread_over_ranks, world

    try:
        world()
    except ImportError as error:  # mpi4py is missing
        raise Failure(FAULT, str(error)) from error
    if problem.delta is not None and problem.loss != "huber":
        raise Failure(USAGE, f"--delta must go with --loss huber, got {problem.loss}")
    X, y, sample_weight = data
    objective = spread_over_ranks(
        network, X, y,
        loss=problem.loss, reduction=problem.reduction,
        l2=problem.l2 if problem.l2_on == "all" else problem.l2 * network.weight_mask(),
        sample_weight=sample_weight,
        loss_options=None if problem.delta is None else {"delta": problem.delta},
        dtype=problem.dtype, memory_limit=problem.memory_limit, threads=problem.threads,
    )  # fmt: skip
    plan = objective.plan(objective.block_size)
    require_memory(plan.peak - plan.data, f"a net of {objective.num_parameters} parameters on these data")
    return objective


def operator_of(objective: "Objective", matrix: str, damping: float = 0.0) -> Any:
    """Return a matrix of second derivatives as an operator."""
    from krylovh import EmpiricalFisherOperator, GaussNewtonOperator, HessianOperator, ResidualOperator

    kinds = {
        "hessian": HessianOperator,
        "gauss_newton": GaussNewtonOperator,
        "residual": ResidualOperator,
        "empirical_fisher": EmpiricalFisherOperator,
    }
    operator: Any = kinds[matrix](objective)
    return operator.damped(damping) if damping else operator


def tolerance(tol: float | None, objective: "Objective") -> float:
    """Return the tolerance of eigenpairs: 1e-8 in float64 and 2e-6 in float32, if none is given."""
    if tol is not None:
        return tol
    return 1e-8 if objective.dtype == "float64" else 2e-6


def rows_of(text: str, num_samples: int, option: str) -> list[int]:
    """Return the positions that a text such as ``"0,5,10:20"`` names.

    Examples
    --------
    >>> rows_of("7,0:3", 10, "--rows")
    [7, 0, 1, 2]
    """
    rows: list[int] = []
    for part in text.split(","):
        first, colon, last = (piece.strip() for piece in part.partition(":"))
        try:
            start = int(first) if first or not colon else 0
            stop = start + 1 if not colon else int(last) if last else num_samples
        except ValueError:
            raise Failure(USAGE, f"{option} must be positions such as 0,5,10:20, got {text!r}") from None
        if not 0 <= start < stop <= num_samples:
            raise Failure(USAGE, f"{option} must lie in [0, {num_samples}), got {part.strip()!r}")
        rows += range(start, stop)
    return rows
