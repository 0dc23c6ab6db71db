"""Structures of the posterior: which parameters it is over, and what of the curvature its precision keeps."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.laplace.krylov_precision import KrylovPrecision
from krylovh.applications.laplace.likelihood import prior_of
from krylovh.applications.laplace.precision import DensePrecision, DiagonalPrecision, KroneckerPrecision, Precision
from krylovh.checks import finite_array
from krylovh.exact import gauss_newton_diagonal, gauss_newton_matrix, hessian_diagonal, hessian_matrix
from krylovh.objective import Objective
from krylovh.operators import GaussNewtonOperator, HessianOperator, KFACOperator
from krylovh.operators.kfac import KroneckerBlock
from krylovh.progress import Progress

if TYPE_CHECKING:
    from krylovh.applications.laplace.posterior import Laplace

Array = NDArray[np.float64]

__all__ = ["build_precision", "checked_prior", "chosen_positions", "stationarity"]


def chosen_positions(objective: Objective, structure: str) -> NDArray[np.intp]:
    """Return which parameters the posterior is over, (k,)."""
    net = objective.net
    if structure != "last_layer":
        return np.arange(net.num_parameters)
    chosen = [np.arange(block.start, block.stop) for block in net.blocks if block.layer == net.depth]
    if not chosen:
        raise ValueError("structure 'last_layer' needs a last layer with parameters, got identity edges alone")
    return np.concatenate(chosen)


def stationarity(laplace: "Laplace", tol: float) -> float:
    """Return ``|grad M|``, and warn where it is not near zero."""
    objective, beta, theta = laplace.objective, laplace.noise_precision, laplace.mode
    l2 = prior_of(objective)[laplace.positions]
    data = beta * (objective.gradient().astype(np.float64)[laplace.positions] * objective.total - l2 * theta)
    prior = laplace.prior_precision * theta
    norm = float(np.linalg.norm(data + prior))
    scale = float(np.linalg.norm(data) + np.linalg.norm(prior))
    if norm > tol * scale:
        warnings.warn(
            f"theta is no stationary point of the posterior: |grad| = {norm:.3g} is above {tol:g} times "
            f"{scale:.3g}, the size of its terms. Train further; with noise_precision beta a minimum of the "
            "objective is one of the posterior for prior_precision = beta * total * l2",
            RuntimeWarning,
            stacklevel=3,
        )
    return norm


def build_precision(laplace: "Laplace", curvature: str, progress: Progress) -> Precision:
    """Return the precision of the structure that the posterior has, with this curvature."""
    objective, alpha, structure = laplace.objective, laplace.prior_precision, laplace.structure
    scale = laplace.noise_precision * objective.total
    l2 = (prior_of(objective) / objective.total)[laplace.positions]
    gauss_newton = curvature == "gauss_newton"
    if structure == "krylov":
        operator = (GaussNewtonOperator if gauss_newton else HessianOperator)(objective)
        options = {name: laplace._options[name] for name in ("rank", "num_probes", "num_steps")}
        return KrylovPrecision(operator, scale, alpha, definite=gauss_newton, options=options, seed=laplace.seed)
    if structure == "kfac":
        blocks = KFACOperator(objective).blocks
        if laplace._options["separate_bias"]:
            blocks = tuple(part for block in blocks for part in _split(block, objective))
        scaled = [KroneckerBlock(b.layer, b.A, scale * b.B, b.positions) for b in blocks]
        return KroneckerPrecision(scaled, alpha, laplace.seed)
    if structure == "diagonal":
        diagonal = (gauss_newton_diagonal if gauss_newton else hessian_diagonal)(objective).astype(np.float64)
        return DiagonalPrecision(scale * (diagonal - l2) + alpha, alpha, laplace.seed)
    layers = [objective.net.depth] if structure == "last_layer" else None
    build = gauss_newton_matrix if gauss_newton else hessian_matrix
    A = build(objective, layers=layers, progress=progress).astype(np.float64)
    A *= scale
    A[np.diag_indices(len(A))] += alpha - scale * l2
    return DensePrecision(A, alpha, laplace.seed)


def checked_prior(prior_precision: ArrayLike, objective: Objective) -> Array:
    """Return alpha for each parameter of the net, (W,)."""
    alpha = finite_array("prior_precision", prior_precision, np.float64)
    if alpha.shape not in ((), (objective.num_parameters,)):
        raise ValueError(
            f"prior_precision must be a scalar or have shape ({objective.num_parameters},), got {alpha.shape}"
        )
    if alpha.min() < 0:
        raise ValueError(f"prior_precision must be at least 0, got {alpha.min()}")
    return np.broadcast_to(alpha, objective.num_parameters)


def _split(block: KroneckerBlock, objective: Objective) -> list[KroneckerBlock]:
    """Return the blocks of the weights and of the bias of a layer."""
    if not objective.net.bias[block.layer - 1]:
        return [block]
    parts = [KroneckerBlock(block.layer, block.A[-1:, -1:], block.B, block.positions[:, -1:])]
    if block.A.shape[0] > 1:
        parts.insert(0, KroneckerBlock(block.layer, block.A[:-1, :-1], block.B, block.positions[:, :-1]))
    return parts
