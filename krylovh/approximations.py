"""How far the usual approximations of a Hessian are from the Hessian itself, on one net and its data.

    diagonal          the exact diagonal
    obd diagonal      the O(W) recursion of Le Cun, Denker and Solla
    layer blocks      the exact blocks of single layers, without what couples layers
    kfac              Kronecker factors of the Gauss-Newton blocks
    gauss-newton      the outer-product approximation
    empirical fisher  outer products of the samples' gradients
    low rank          the eigenpairs that are largest in magnitude

All include the regulariser, as the Hessian does.  Up to some thousand parameters everything is computed from the full
matrices; beyond, errors are estimated from products, with standard errors, and eigenvalues and solves are verified.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, minres

from krylovh.checks import whole_number
from krylovh.exact import hessian_diagonal, hessian_matrix, hessian_trace, obd_diagonal
from krylovh.krylov import eigsh
from krylovh.objective import Objective
from krylovh.operators import EmpiricalFisherOperator, GaussNewtonOperator, HessianOperator, KFACOperator
from krylovh.progress import Progress, reporting
from krylovh.stochastic import trace

Array = NDArray[np.float64]

APPROXIMATIONS = (
    "diagonal", "obd diagonal", "layer blocks", "kfac", "gauss-newton", "empirical fisher", "low rank",
)  # fmt: skip
NUM_PROBES = 32  # for Frobenius norms and traces where there are no matrices
SOLVE_TOLERANCE = 1e-9

__all__ = ["APPROXIMATIONS", "ApproximationReport", "approximation_report"]


@dataclass(frozen=True)
class ApproximationReport:
    """Errors of seven approximations, in the order of ``APPROXIMATIONS``; all arrays have shape (7,)."""

    frobenius_error: Array  # |A - H|_F / |H|_F
    frobenius_standard_error: Array  # 0 where the matrices are known
    spectral_error: Array  # |A - H|_2 / |H|_2
    spectral_residual: Array  # by how much |A - H|_2 / |H|_2 may be off: the residual of its eigenpair
    trace: Array
    trace_standard_error: Array
    overlap: Array  # |cosine| of the angle between the eigenvectors of the largest eigenvalues of A and H
    solve_error: Array  # |x_A - x_H| / |x_H| for (A + damping I) x_A = b and (H + damping I) x_H = b
    solve_residual: Array  # |(A + damping I) x_A - b| / |b|, recomputed
    hessian_norm: float  # |H|_2
    hessian_trace: float
    damping: float
    rank: int
    num_parameters: int
    is_exact: bool  # from full matrices
    num_products: int
    seed: int

    def __str__(self) -> str:
        how = "from full matrices" if self.is_exact else f"from {self.num_products} products"
        lines = [
            f"Hessian of {self.num_parameters} parameters, norm {self.hessian_norm:.4g}, trace "
            f"{self.hessian_trace:.4g}; {how}, damping {self.damping:.3g}, rank {self.rank}, seed {self.seed}",
            f"{'':<17}{'Frobenius':>20}{'spectral':>10}{'trace':>24}{'overlap':>9}{'solve':>10}",
        ]
        for i, name in enumerate(APPROXIMATIONS):
            frobenius = f"{self.frobenius_error[i]:.3g}{_uncertainty(self.frobenius_standard_error[i])}"
            amount = f"{self.trace[i]:.4g}{_uncertainty(self.trace_standard_error[i])}"
            lines.append(
                f"{name:<17}{frobenius:>20}{self.spectral_error[i]:>10.3g}{amount:>24}{self.overlap[i]:>9.3f}"
                f"{self.solve_error[i]:>10.3g}"
            )
        return "\n".join(lines)


def approximation_report(
    objective: Objective,
    *,
    damping: float | None = None,
    rank: int = 10,
    rng: int | np.random.Generator | None = None,
    max_parameters: int = 2000,
    progress: Progress = False,
) -> ApproximationReport:
    """Compare seven approximations of the Hessian with the Hessian: matrices, traces, eigenvectors and solves.

    Parameters
    ----------
    objective : Objective
    damping : float, optional
        Added to H and to each approximation before systems are solved.  If not given, 1/100 of the norm of H, on top of
        1.1 times the modulus of its most negative eigenvalue, so that ``H + damping I`` is positive definite.
    rank : int
        Of the low-rank approximation, at least 1; no more than the number of parameters are used.
    rng : int, numpy.random.Generator or None
        Seed of the right-hand side b (normal entries), of probes and of start vectors.
    max_parameters : int
        Up to this order everything is computed from the P x P matrices, in 5 arrays of 8 P^2 bytes.  Beyond it, norms
        and traces come from random probes, spectral norms from Lanczos and solves from MINRES.
    progress : bool or callable

    Returns
    -------
    ApproximationReport
        ``print`` shows it as a table.

    Raises
    ------
    FloatingPointError
        If loss or gradient are not finite at theta.

    Examples
    --------
    A net without hidden layers is linear, so the Gauss-Newton matrix is its Hessian, and so is the block of its only
    layer.

    >>> from krylovh import Network
    >>> net = Network((2, 1), "identity", [1.0, 2.0, 0.0])
    >>> X, y = [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], [1.5, 3.0, 4.0]
    >>> report = approximation_report(Objective(net, X, y, loss="squared_error"), rank=1, rng=0)
    >>> for line in str(report).splitlines()[:3]:
    ...     print(line)
    Hessian of 3 parameters, norm 2.617, trace 3.333; from full matrices, damping 0.0262, rank 1, seed 0
                                Frobenius  spectral                   trace  overlap     solve
    diagonal                        0.651     0.524                   3.333    0.737     0.959
    >>> dict(zip(APPROXIMATIONS, report.frobenius_error < 1e-14))["gauss-newton"]
    np.True_
    """
    rank = min(whole_number("rank", rank, 1), objective.num_parameters)
    max_parameters = whole_number("max_parameters", max_parameters, 0)
    if damping is not None and not (np.isfinite(damping) and damping >= 0):
        raise ValueError(f"damping must be at least 0 and finite, got {damping}")
    seed = rng if isinstance(rng, int) else int(np.random.default_rng(rng).integers(2**31))
    compare = _from_matrices if objective.num_parameters <= max_parameters else _from_products
    with reporting(progress, "approximations") as report:
        return compare(objective, damping, rank, seed, report)


def _from_matrices(
    objective: Objective, damping: float | None, rank: int, seed: int, report: Callable[[int, int], None]
) -> ApproximationReport:
    n = objective.num_parameters
    H = hessian_matrix(objective).astype(np.float64)
    values, vectors = scipy.linalg.eigh(H)
    norm = float(np.abs(values).max())
    shift = _damping_of(values[0], norm) if damping is None else float(damping)
    b = np.random.default_rng(seed).standard_normal(n)
    x = scipy.linalg.solve(H + shift * np.eye(n), b, assume_a="sym")
    largest = np.argsort(np.abs(values))[::-1][:rank]

    def layer_blocks() -> Array:
        matrix = np.zeros((n, n))
        for begin, end in _layers(objective):
            matrix[begin:end, begin:end] = H[begin:end, begin:end]
        return matrix

    make: dict[str, Callable[[], Array]] = {
        "diagonal": lambda: np.diag(np.diag(H)),
        "obd diagonal": lambda: np.diag(obd_diagonal(objective).astype(np.float64)),
        "layer blocks": layer_blocks,
        "kfac": lambda: KFACOperator(objective) @ np.eye(n),
        "gauss-newton": lambda: _dense(GaussNewtonOperator(objective)),
        "empirical fisher": lambda: _dense(EmpiricalFisherOperator(objective)),
        "low rank": lambda: (vectors[:, largest] * values[largest]) @ vectors[:, largest].T,
    }
    frobenius, spectral, traces, overlap, solve, residual = np.empty((6, len(APPROXIMATIONS)))
    for i, name in enumerate(APPROXIMATIONS):
        A = make[name]()
        frobenius[i] = np.linalg.norm(A - H) / np.linalg.norm(H)
        spectral[i] = np.abs(scipy.linalg.eigvalsh(A - H)[[0, -1]]).max() / norm
        traces[i] = np.trace(A)
        of_A, basis = scipy.linalg.eigh(A)
        overlap[i] = abs(basis[:, -1] @ vectors[:, -1])
        shifted = of_A + shift
        regular = np.abs(shifted) > n * np.finfo(np.float64).eps * np.abs(shifted).max()  # of A that need not be so
        y = basis[:, regular] @ ((basis[:, regular].T @ b) / shifted[regular])
        residual[i] = np.linalg.norm(A @ y + shift * y - b) / np.linalg.norm(b)
        solve[i] = np.linalg.norm(y - x) / np.linalg.norm(x)
        report(i + 1, len(APPROXIMATIONS))
    zeros = np.zeros(len(APPROXIMATIONS))
    return ApproximationReport(
        frobenius, zeros, spectral, zeros, traces, zeros, overlap, solve, residual,
        norm, float(np.trace(H)), shift, rank, n, True, 0, seed,
    )  # fmt: skip


def _from_products(
    objective: Objective, damping: float | None, rank: int, seed: int, report: Callable[[int, int], None]
) -> ApproximationReport:
    n = objective.num_parameters
    H = HessianOperator(objective)
    ends = eigsh(H, 2, which="BE", rng=seed)
    norm = float(np.abs(ends.eigenvalues).max())
    shift = _damping_of(ends.eigenvalues[0], norm) if damping is None else float(damping)
    generator = np.random.default_rng(seed)
    b, probes = generator.standard_normal(n), generator.choice([-1.0, 1.0], (n, NUM_PROBES))
    HV = np.asarray(H @ probes, np.float64)
    x, _ = _solved(H, shift, b)
    pairs = eigsh(H, rank, which="LM", rng=seed)
    diagonal, recursion = (d.astype(np.float64) for d in (hessian_diagonal(objective), obd_diagonal(objective)))
    fisher, gauss_newton, kfac = (
        EmpiricalFisherOperator(objective), GaussNewtonOperator(objective), KFACOperator(objective)
    )  # fmt: skip
    blocks = [(begin, end, H.submatrix(range(begin, end))) for begin, end in _layers(objective)]

    def times_blocks(V: Array) -> Array:
        out = np.zeros(V.shape)
        for begin, end, block in blocks:
            out[begin:end] = block @ V[begin:end]
        return out

    def of(multiply: Callable[[Array], Array]) -> LinearOperator:
        return LinearOperator((n, n), matvec=lambda v: multiply(v.reshape(n, 1))[:, 0], matmat=multiply, dtype=float)

    operators: dict[str, Any] = {
        "diagonal": of(lambda V: diagonal[:, None] * V),
        "obd diagonal": of(lambda V: recursion[:, None] * V),
        "layer blocks": of(times_blocks),
        "kfac": kfac,
        "gauss-newton": gauss_newton,
        "empirical fisher": fisher,
        "low rank": of(lambda V: pairs.eigenvectors @ (pairs.eigenvalues[:, None] * (pairs.eigenvectors.T @ V))),
    }
    exact_trace = hessian_trace(objective)
    known = {
        "diagonal": exact_trace, "obd diagonal": recursion.sum(), "layer blocks": exact_trace,
        "kfac": kfac.trace(), "low rank": pairs.eigenvalues.sum(),
    }  # fmt: skip
    frobenius, frobenius_error, spectral, spectral_residual = np.zeros((4, len(APPROXIMATIONS)))
    traces, trace_error, overlap, solve, residual = np.zeros((5, len(APPROXIMATIONS)))
    for i, name in enumerate(APPROXIMATIONS):
        A = operators[name]
        frobenius[i], frobenius_error[i] = _root_of_ratio(np.asarray(A @ probes, np.float64) - HV, HV)
        difference = eigsh(A - H, 1, which="LM", rng=seed)
        spectral[i] = np.abs(difference.eigenvalues[0]) / norm
        spectral_residual[i] = difference.residual_norms[0] / norm
        if name in known:
            traces[i] = known[name]
        else:
            estimate = trace(A, num_products=NUM_PROBES, rng=seed)
            traces[i], trace_error[i] = estimate.value, estimate.standard_error
        top = eigsh(A, 1, which="LA", rng=seed).eigenvectors[:, 0]
        overlap[i] = abs(top @ ends.eigenvectors[:, -1])
        y, residual[i] = _solved(A, shift, b)
        solve[i] = np.linalg.norm(y - x) / np.linalg.norm(x)
        report(i + 1, len(APPROXIMATIONS))
    num_products = sum(operator.num_products for operator in (H, kfac, gauss_newton, fisher))
    return ApproximationReport(
        frobenius, frobenius_error, spectral, spectral_residual, traces, trace_error, overlap, solve, residual,
        norm, exact_trace, shift, rank, n, False, num_products, seed,
    )  # fmt: skip


def _layers(objective: Objective) -> list[tuple[int, int]]:
    """Return where in theta the parameters of each layer begin and end."""
    blocks = objective.net.blocks
    layers = sorted({block.layer for block in blocks})
    return [(min(b.start for b in blocks if b.layer == l), max(b.stop for b in blocks if b.layer == l)) for l in layers]


def _dense(operator: Any) -> Array:
    matrix = np.asarray(operator @ np.eye(operator.shape[0]), np.float64)
    return (matrix + matrix.T) / 2


def _damping_of(lowest: float, norm: float) -> float:
    return float(max(0.0, -1.1 * lowest) + 0.01 * norm)


def _root_of_ratio(D: Array, HV: Array) -> tuple[float, float]:
    """Return ``sqrt(mean |d|^2 / mean |Hv|^2)`` over probes with its standard error, by the delta method."""
    above, below = (D * D).sum(axis=0), (HV * HV).sum(axis=0)
    ratio = above.mean() / below.mean()
    spread = (above - ratio * below).std(ddof=1) / (np.sqrt(above.size) * below.mean())
    root = float(np.sqrt(ratio))
    return root, float(spread / (2 * root)) if root else 0.0


def _solved(A: Any, shift: float, b: Array) -> tuple[Array, float]:
    """Solve ``(A + shift I) x = b`` by MINRES; return x and its relative residual, recomputed."""
    x, _ = minres(A, b, shift=-shift, rtol=SOLVE_TOLERANCE, maxiter=20 * b.size)
    return x, float(np.linalg.norm(A @ x + shift * x - b) / np.linalg.norm(b))


def _uncertainty(error: float) -> str:
    return f" +- {error:.1g}" if error else ""
