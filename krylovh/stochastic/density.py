"""The spectral density of a symmetric operator by stochastic Lanczos quadrature.

Seen from a unit vector v the spectrum of ``A`` is the measure with weight ``(v' u_i)^2`` at eigenvalue ``lambda_i``;
for v uniform on the sphere its mean is ``1/n`` at each eigenvalue.  m Lanczos steps from v give the Gauss rule of that
measure: nodes are the eigenvalues of ``T``, weights the squared first components of its eigenvectors (Golub and Welsch
1969), and

    sum_k w_k theta_k^j = v' A^j v        for j = 0 ... 2m-1.

The probes run in lockstep, so that every step is one block product.  Cost: ``num_probes * num_steps`` products.
"""

from os import PathLike
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread
from krylovh.checks import whole_number
from krylovh.krylov.lockstep import LockstepLanczos
from krylovh.krylov.recorded_lockstep import Tridiagonals, finished_processes
from krylovh.krylov.scaling import ldexp
from krylovh.krylov.stops import STOPS, is_final, status_of
from krylovh.krylov.symmetric import SymmetricOperator, resolve_seed
from krylovh.progress import Progress, reporting
from krylovh.recording import CheckpointLike, recording
from krylovh.results import EigenResult, SpectralDensity, Status
from krylovh.stochastic.outliers import known_eigenpairs, perturbation_bound
from krylovh.stochastic.probes import probe_block

Array = NDArray[np.float64]
Reorthogonalize = Literal["partial", "full", "none"]

#: Largest size in bytes of the Lanczos bases that are held at one time.
BASIS_BYTES = 2**30

__all__ = ["BASIS_BYTES", "gauss_rule", "spectral_density"]


def spectral_density(
    A: Any,
    *,
    num_probes: int = 10,
    num_steps: int | None = None,
    rng: int | np.random.Generator | None = None,
    outliers: EigenResult | None = None,
    reorthogonalize: Reorthogonalize = "partial",
    block_size: int | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
) -> SpectralDensity:
    """Estimate the density and the cumulative distribution of the eigenvalues of ``A``.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.
    num_probes : int
        Random start vectors, uniform on the sphere; at least 1.
    num_steps : int, optional
        Lanczos steps per probe, in [1, n - k] with k outliers; by default 90, or the largest number if that is less.
    rng : int, numpy.random.Generator or None
        Seed of the probes.
    outliers : EigenResult, optional
        Eigenpairs from :func:`~krylovh.eigsh`.  The probes are kept orthogonal to them, so that all nodes go to the
        rest of the spectrum, and each pair enters with its exact weight ``1/n``.  One product per pair is spent on its
        residual with this operator, from which ``outlier_error`` of the result is computed.
    reorthogonalize : {"partial", "full", "none"}
        "partial" orthogonalises a vector only where the inner products with earlier ones have grown to the square root
        of machine epsilon, which is as good as "full" for nodes and weights, and cheaper.  "none" keeps two vectors per
        probe instead of ``num_steps``.  Copies of converged eigenvalues then appear among the nodes and share their
        weight, so that the measure stays right, but fewer nodes are left for the rest.
    block_size : int, optional
        Probes that run together, by default all.  It is reduced until the bases fit into ``BASIS_BYTES`` (1 GiB), or to
        one, except with "none".  The result does not depend on it beyond rounding.
    max_products : int, optional
        Products to spend at most.  If it is less than ``num_probes * num_steps``, all probes take fewer steps; if it is
        less than ``num_probes``, there are fewer probes.
    max_seconds : float, optional
        No product is started later than this.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)`` after every step.
    checkpoint : path or Checkpoint, optional
        File from which the same call goes on if this one is stopped, at any moment; ``num_probes`` may be larger then.

    Returns
    -------
    SpectralDensity
        ``nodes`` and ``weights`` of shape (num_probes, num_steps), padded with NaN where a probe took fewer steps.
        ``status`` is CONVERGED when every probe took its steps or reached an invariant space, else BUDGET, INTERRUPTED
        (Ctrl-C) or NONFINITE (a product had NaN or infinity).  Every finished step is kept, as a rule of fewer nodes;
        probes that took none are left out, in the extreme all of them: shape (0, num_steps).

    Raises
    ------
    TypeError, ValueError
        For arguments out of range and operators that are not square and real, or whose first products show that they
        are not symmetric.

    References
    ----------
    Lin, Saad and Yang (2016), Approximating spectral densities of large matrices.
    Ubaru, Chen and Saad (2017), Fast estimation of tr(f(A)) via stochastic Lanczos quadrature.
    Chen, Trogdon and Ubaru (2021), Analysis of stochastic Lanczos quadrature for spectrum approximation.

    Examples
    --------
    With the eigenvalues far out deflated, the nodes are left to the rest.

    >>> from krylovh import eigsh
    >>> A = np.diag(np.concatenate([np.linspace(0, 1, 297), [50.0, 60.0, 70.0]]))
    >>> result = spectral_density(A, num_steps=20, rng=0, outliers=eigsh(A, 3, rng=0))
    >>> print(result)  # doctest: +NORMALIZE_WHITESPACE
    spectral density of order 300: 3 outliers, 10 probes, 200 nodes in [0.0001692, 0.9998], converged, 203 products,
    seed 0

    A quarter of the eigenvalues of this matrix are 5, the others lie evenly between 1 and 2.

    >>> A = np.diag(np.concatenate([np.linspace(1, 2, 300), np.full(100, 5.0)]))
    >>> result = spectral_density(A, num_probes=20, num_steps=12, rng=0)
    >>> print(result)
    spectral density of order 400: 20 probes, 240 nodes in [1.005, 5], converged, 240 products, seed 0
    >>> lower, upper = result.band([1.5, 3.0, 6.0])
    >>> np.stack([lower, result.cumulative([1.5, 3.0, 6.0]), upper]).round(2)
    array([[0.28, 0.7 , 0.73],
           [0.4 , 0.75, 1.  ],
           [0.52, 1.  , 1.  ]])
    """
    operator = SymmetricOperator(A, max_products=max_products, max_seconds=max_seconds)
    n = operator.n
    if n == 0:
        raise ValueError("A must have at least one row, got shape (0, 0)")
    known, X = known_eigenpairs(outliers, n)
    bulk = n - known.size
    num_probes = whole_number("num_probes", num_probes, 1)
    num_steps = min(90, bulk) if num_steps is None else whole_number("num_steps", num_steps, 1, bulk)
    if reorthogonalize not in get_args(Reorthogonalize):
        raise ValueError(f"reorthogonalize must be one of {get_args(Reorthogonalize)}, got {reorthogonalize!r}")
    keeps_basis, level = reorthogonalize != "none", 0.0 if reorthogonalize == "full" else None
    probes, steps = _within_budget(num_probes, num_steps, max_products, known.size)
    group = num_probes if block_size is None else whole_number("block_size", block_size, 1)
    if keeps_basis:
        group = max(1, min(group, BASIS_BYTES // (operator.dtype.itemsize * n * num_steps)))
    group = -(-probes // max(1, -(-probes // group))) or 1  # groups of equal size
    arguments = {
        "num_steps": num_steps,
        "outliers": outliers,
        "reorthogonalize": reorthogonalize,
        "block_size": block_size,
    }
    larger = {"num_probes": num_probes, "max_products": max_products}
    seed = None if rng is None else resolve_seed(rng, A)
    nodes, weights = np.full((2, probes, num_steps), np.nan)
    exact = np.zeros(probes, dtype=bool)
    accuracy, outlier_error = 0.0, np.inf if known.size else 0.0
    status = Status.CONVERGED
    with (
        recording(checkpoint, "spectral_density", A, arguments, larger=larger, seed=seed) as record,
        reporting(progress, "spectral density") as report,
    ):
        if record.result is not None:
            return cast(SpectralDensity, record.result)
        operator.record = record
        try:
            bound = record.unit("outliers", operator, lambda: (np.array([perturbation_bound(operator, known, X)]),))
            outlier_error = float(bound[0][0])
            first = 0
            while first < probes:
                count = min(group, probes - first)

                def start(first: int = first, count: int = count) -> LockstepLanczos:
                    V = probe_block(n, first, count, seed=record.seed, purpose="density", distribution="sphere")
                    if known.size:
                        V -= X @ (X.T @ V)
                        V /= np.linalg.norm(V, axis=0)  # uniform on the sphere of the complement
                    return LockstepLanczos(operator, V, steps, reorthogonalize=keeps_basis, level=level, deflated=X)

                def stepped(processes: LockstepLanczos, first: int = first) -> None:
                    report(first * steps + len(processes.steps) * int(processes.steps.max()), probes * steps)

                def read(found: Tridiagonals, first: int = first) -> None:
                    nonlocal accuracy
                    accuracy = 6 * found.tolerance  # a residual within the tolerance moves a node by less
                    rows = slice(first, min(first + len(found.steps), probes))
                    _read_rules(found, nodes[rows], weights[rows])
                    exact[rows] = found.invariant[: rows.stop - first]

                # an interrupted group leaves the steps it finished
                found = finished_processes(operator, f"{steps} steps: from {first}", start, stepped, read)
                read(found)
                first += len(found.steps)
        except STOPS as stop:
            status = status_of(stop)
        cut_short = probes < num_probes or (steps < num_steps and not exact.all())
        if status is Status.CONVERGED and cut_short:
            status = Status.BUDGET
        kept = ~np.isnan(nodes[:, 0])
        weights *= bulk / n
        density = SpectralDensity(
            nodes[kept], weights[kept], n, operator.num_products, record.seed, status, exact[kept], accuracy,
            None if outliers is None else np.sort(known), outlier_error,
        )  # fmt: skip
        if is_final(status, max_seconds):
            record.finish(density)
        return density


def gauss_rule(alphas: Array, betas: Array) -> tuple[Array, Array]:
    """Return nodes and weights of the Gauss rule of a Jacobi matrix: Golub and Welsch (1969).

    Parameters
    ----------
    alphas : ndarray, shape (m,)
        Diagonal.
    betas : ndarray, shape (m - 1,)
        Off-diagonal.

    Returns
    -------
    nodes, weights : ndarray, shape (m,)
        Nodes ascending; weights add up to one.

    Examples
    --------
    >>> nodes, weights = gauss_rule(np.array([0.0, 0.0]), np.array([1.0]))
    >>> nodes.round(12), weights.round(12)
    (array([-1.,  1.]), array([0.5, 0.5]))
    """
    with one_blas_thread():
        nodes, vectors = np.linalg.eigh(np.diag(alphas) + np.diag(betas, -1))  # reads the lower triangle
    return nodes, vectors[0] ** 2


def _read_rules(processes: Tridiagonals, nodes: Array, weights: Array) -> None:
    """Write the Gauss rule of each process into its row."""
    for i, m in enumerate(processes.steps[: len(nodes)]):
        if m > 0:
            theta, weights[i, :m] = gauss_rule(processes.alphas[i, :m], processes.betas[i, : m - 1])
            nodes[i, :m] = ldexp(theta, processes.exponent)


def _within_budget(num_probes: int, num_steps: int, max_products: int | None, spent: int) -> tuple[int, int]:
    """Return how many probes take how many steps: as deep as the budget allows, all alike."""
    if max_products is None:
        return num_probes, num_steps
    budget = max(0, whole_number("max_products", max_products, 0) - spent)
    probes = min(num_probes, budget)
    return probes, min(num_steps, budget // max(probes, 1))
