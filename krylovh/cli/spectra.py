"""Commands that look at the spectrum: ``spectrum``, ``eigs``, ``density``, ``trace``."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from krylovh.cli.failures import USAGE, Failure, option_name
from krylovh.cli.job import Job, computing
from krylovh.cli.memory import require_memory
from krylovh.cli.options import (
    CheckpointFile,
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
    fraction,
    positive,
)

if TYPE_CHECKING:
    from krylovh import Objective

__all__ = ["density", "eigs", "exact_spectrum", "spectrum", "trace", "whole_spectrum"]

Tol = Annotated[float | None, fraction("Residual of eigenpairs relative to the norm; 1e-8, in float32 2e-6.")]
NumProbes = Annotated[int, count("Probes of the density.")]
Exact = Annotated[bool, typer.Option("--exact", help="Also all eigenvalues, from the full matrix.")]
BlockSize = Annotated[int | None, count("Vectors per product.")]


def spectrum(
    net: Net,
    data: Data,
    problem: Problem,
    run: Run,
    num_largest: Annotated[int, count("Largest eigenvalues.", 0)] = 10,
    num_smallest: Annotated[int, count("Smallest eigenvalues.", 0)] = 5,
    tol: Tol = None,
    num_probes: NumProbes = 10,
    num_steps: Annotated[int, count("Lanczos steps per probe.")] = 90,
    num_trace_products: Annotated[int, count("Products for the trace.")] = 100,
    layer_blocks: Annotated[
        bool, typer.Option("--layer-blocks", help="Also norms of the blocks of layers: a product per parameter.")
    ] = False,
    exact: Exact = False,
) -> None:
    """Compute the Hessian spectrum of a net on data: both ends, trace and density."""
    with computing(net, data, problem, run) as job:
        for name, k in (("num_largest", num_largest), ("num_smallest", num_smallest)):
            _at_most_all(name, k, job.objective)
        whole_spectrum(
            job, num_largest=num_largest, num_smallest=num_smallest, tol=tol, num_probes=num_probes,
            num_steps=num_steps, num_trace_products=num_trace_products, exact=exact, rng=run.rng,
        )  # fmt: skip
        if layer_blocks:
            from krylovh import HessianOperator, layer_block_norms

            job.compute("layer_blocks", layer_block_norms, HessianOperator(job.objective), job.objective.net)


def whole_spectrum(
    job: Job,
    *,
    num_largest: int = 10,
    num_smallest: int = 5,
    tol: float | None = None,
    num_probes: int = 10,
    num_steps: int = 90,
    num_trace_products: int = 100,
    exact: bool = False,
    rng: int = 0,
) -> None:
    """Compute both ends of the spectrum, trace, density and, if asked for, the truth."""
    from krylovh import HessianOperator, eigsh, spectral_density, trace
    from krylovh.cli.problem import tolerance

    H, n = HessianOperator(job.objective), job.objective.num_parameters
    if exact:
        _require_full_matrix(n, "--exact")
    for name, which, k in (("largest", "LA", num_largest), ("smallest", "SA", num_smallest)):
        if k > 0:
            _require_basis(n, k, None)
            job.compute(name, eigsh, H, k, which=which, tol=tolerance(tol, job.objective), rng=rng)
    job.compute("trace", trace, H, num_products=num_trace_products, rng=rng)
    job.compute("density", spectral_density, H, num_probes=num_probes, num_steps=min(num_steps, n), rng=rng)
    if exact:
        job.compute("exact", exact_spectrum, job.objective)


def eigs(
    net: Net,
    data: Data,
    problem: Problem,
    run: Run,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Number of eigenpairs.")] = 6,
    which: Annotated[str, choice("LA, SA, LM, BE or SM, or an interval such as 0.5,2.")] = "LA",
    tol: Tol = None,
    ncv: Annotated[int | None, count("Size of the Krylov basis.")] = None,
    block_size: BlockSize = None,
    max_products: MaxProducts = None,
    max_seconds: MaxSeconds = None,
    max_restarts: Annotated[int, count("Restarts at most.", 0)] = 1000,
    verify: Annotated[bool, typer.Option(help="Look for eigenvalues that were missed.")] = True,
    matrix: Matrix = "hessian",
    damping: Damping = 0.0,
    checkpoint: CheckpointFile = None,
) -> None:
    """Compute eigenvalues and eigenvectors at an end of the spectrum, or in an interval."""
    with computing(net, data, problem, run, checkpoint=checkpoint) as job:
        from krylovh import eigsh
        from krylovh.cli.problem import operator_of, tolerance

        _at_most_all("k", k, job.objective)
        _require_basis(job.objective.num_parameters, k, ncv)
        job.compute(
            "eigenvalues", eigsh, operator_of(job.objective, matrix, damping), k, which=_which(which),
            tol=tolerance(tol, job.objective), ncv=ncv, block_size=block_size, max_products=max_products,
            max_seconds=max_seconds, max_restarts=max_restarts, verify=verify, rng=run.rng, resumable=True,
        )  # fmt: skip


def density(
    net: Net,
    data: Data,
    problem: Problem,
    run: Run,
    num_probes: NumProbes = 10,
    num_steps: Annotated[int | None, count("Lanczos steps per probe; 90 if not given.")] = None,
    num_outliers: Annotated[int, count("Largest eigenvalues that are computed first and enter exactly.", 0)] = 0,
    reorthogonalize: Annotated[Literal["partial", "full", "none"], choice("Of the Lanczos vectors.")] = "partial",
    block_size: BlockSize = None,
    max_products: MaxProducts = None,
    max_seconds: MaxSeconds = None,
    matrix: Matrix = "hessian",
    damping: Damping = 0.0,
    checkpoint: CheckpointFile = None,
    exact: Exact = False,
) -> None:
    """Estimate the spectral density by stochastic Lanczos quadrature."""
    with computing(net, data, problem, run, checkpoint=checkpoint) as job:
        from krylovh import eigsh, spectral_density
        from krylovh.cli.problem import operator_of, tolerance

        _at_most_all("num_outliers", num_outliers, job.objective)
        if exact:
            if matrix != "hessian" or damping:
                raise Failure(USAGE, "--exact must go with --matrix hessian and no --damping")
            _require_full_matrix(job.objective.num_parameters, "--exact")
        operator, outliers = operator_of(job.objective, matrix, damping), None
        if num_outliers:
            _require_basis(job.objective.num_parameters, num_outliers, None)
            tol = tolerance(None, job.objective)
            outliers = job.compute("largest", eigsh, operator, num_outliers, tol=tol, rng=run.rng)
        job.compute(
            "density", spectral_density, operator, num_probes=num_probes, num_steps=num_steps, outliers=outliers,
            reorthogonalize=reorthogonalize, block_size=block_size, max_products=max_products, max_seconds=max_seconds,
            rng=run.rng, resumable=True,
        )  # fmt: skip
        if exact:
            job.compute("exact", exact_spectrum, job.objective)


def trace(
    net: Net,
    data: Data,
    problem: Problem,
    run: Run,
    method: Annotated[Literal["hutchinson", "hutch++", "xtrace", "xnystrace"], choice("How.")] = "hutchinson",
    num_products: Annotated[int | None, count("Products to spend; 100 if there is no target.")] = None,
    rtol: Annotated[float | None, positive("Target for half of the interval, relative to the trace.")] = None,
    atol: Annotated[float | None, positive("Target for half of the interval.")] = None,
    distribution: Annotated[Literal["rademacher", "gaussian"], choice("Of the probes.")] = "rademacher",
    block_size: BlockSize = None,
    max_seconds: MaxSeconds = None,
    matrix: Matrix = "hessian",
    damping: Damping = 0.0,
    checkpoint: CheckpointFile = None,
) -> None:
    """Estimate the trace, with a standard error and a 95 % interval."""
    with computing(net, data, problem, run, checkpoint=checkpoint) as job:
        from krylovh import trace
        from krylovh.cli.problem import operator_of

        if method != "hutchinson":
            needed = 24 * job.objective.num_parameters * (num_products or 100)
            require_memory(needed, f"--method {method} with {num_products or 100} products")
        job.compute(
            "trace", trace, operator_of(job.objective, matrix, damping), method=method,
            num_products=num_products, rtol=rtol, atol=atol, distribution=distribution, block_size=block_size,
            max_seconds=max_seconds, rng=run.rng, resumable=True,
        )  # fmt: skip


def exact_spectrum(objective: "Objective", progress: Any) -> Any:
    """Return all eigenvalues, ascending, from the full matrix."""
    import numpy as np
    import scipy.linalg

    from krylovh import hessian_matrix

    matrix = hessian_matrix(objective, progress=progress).astype(np.float64)
    return np.asarray(scipy.linalg.eigh(matrix, eigvals_only=True, overwrite_a=True, check_finite=False))


def _which(text: str) -> Any:
    """Return a word, or the two ends of an interval."""
    if "," not in text:
        if text not in ("LA", "SA", "LM", "BE", "SM"):
            raise Failure(USAGE, f"--which must be LA, SA, LM, BE, SM or an interval such as 0.5,2, got {text!r}")
        return text
    try:
        a, b = (float(part) for part in text.split(","))
    except ValueError:
        raise Failure(USAGE, f"--which must be an interval such as 0.5,2, got {text!r}") from None
    return a, b


def _at_most_all(parameter: str, k: int, objective: "Objective") -> None:
    n = objective.num_parameters
    if k > n:
        raise Failure(USAGE, f"{option_name(parameter)} must be at most the number of parameters {n}, got {k}")


def _require_basis(n: int, k: int, ncv: int | None) -> None:
    """Refuse a Krylov basis that does not fit into memory: its vectors, and those of a restart and of the result."""
    size = min(n, ncv or max(2 * k + 10, 40))
    require_memory(8 * n * (3 * size + 6 * k), f"a Krylov basis of {size} vectors for {n} parameters")


def _require_full_matrix(n: int, what: str) -> None:
    """Refuse a full matrix where samples are spread, or where it does not fit: 8 n^2 bytes, thrice for its symmetry."""
    from krylovh.distributed import is_launched

    if is_launched():
        raise Failure(USAGE, f"{what} needs all samples in one process, and cannot run under mpiexec")
    require_memory(3 * 8 * n * n, f"{what} with {n} parameters")
