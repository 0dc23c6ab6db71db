"""Conjugate gradients on the quadratic model of an objective, ended early.

The model of a step s is ``q(s) = g's + s'Bs / 2``.  Every iterate of the method is a descent step, each lower on the
model and, from a start at zero, longer than the one before (in the norm of the preconditioner), so the iteration can
end wherever it pays to look at the objective again: at a relative residual (Dembo and Steihaug), where progress per
iteration has become slow (Martens), at the boundary of a trust region or on negative curvature (Steihaug).

Unlike :func:`krylovh.cg`, which solves a system and proves it, this returns the value of the model and iterates from
the way, and leaves the proof to the objective: no product is spent on verification.

References
----------
Dembo and Steihaug (1983), Truncated-Newton algorithms for large-scale unconstrained optimization.
Steihaug (1983), The conjugate gradient method and trust regions in large scale optimization.
Martens (2010), Deep learning via Hessian-free optimization.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread
from krylovh.krylov.trust_region import TrustRegion
from krylovh.results import Status

Array = NDArray[np.float64]
Product = Callable[[Array], NDArray[Any]]

KEEP_RATIO = 1.3  # iterates are kept at iterations that grow by this factor

__all__ = ["ModelStep", "truncated_cg"]


@dataclass(frozen=True)
class ModelStep:
    """A step that is low on the model, and the way there.

    ``status`` is "converged" (residual or progress), "boundary", "negative_curvature", "stagnated" (rounding of the
    products hides the curvature), "nonfinite" or "budget" (iterations).
    """

    step: Array  # (n,)
    model: float  # q(step), below 0
    norm: float  # in the norm of the inverse preconditioner; NaN for a start that is not zero
    status: Status
    num_iterations: int
    path: list[tuple[Array, float]]  # some of the iterates with their q, the last one included


def truncated_cg(
    product: Product,
    gradient: Array,
    *,
    rtol: float = 0.0,
    progress_tol: float = 0.0,
    start: Array | None = None,
    radius: float = np.inf,
    preconditioner: Product | None = None,
    max_iterations: int,
    eps: float = float(np.finfo(np.float64).eps),
    keep_path: bool = False,
) -> ModelStep:
    """Lower the model ``q(s) = g's + s'Bs / 2`` by conjugate gradients.

    Parameters
    ----------
    product : callable
        ``B v`` for v (n,).
    gradient : ndarray, shape (n,)
        Not zero.
    rtol : float
        Ends where the residual ``|g + B s|`` is at most ``rtol |g|``.
    progress_tol : float
        Ends where over the last ``k = max(10, i/10)`` of i iterations q fell by less than ``k progress_tol |q|``.
    start : ndarray, shape (n,), optional
        Where to start, zero if not given; costs one product.
    radius : float
        Of the trust region ``s' inv(P) s <= radius**2``; from zero only.
    preconditioner : callable, optional
        ``P r``, symmetric positive definite.
    max_iterations : int
    eps : float
        Rounding of the products.
    keep_path : bool
        Keep iterates on the way, at iterations that grow geometrically.

    Returns
    -------
    ModelStep
        On negative curvature within a finite radius the step goes on to the boundary.  Without a boundary the curvature
        is taken by its magnitude, but the step grows to at most twice its length.

    Examples
    --------
    >>> found = truncated_cg(lambda v: np.array([2.0, 4.0]) * v, np.array([-2.0, -4.0]), rtol=1e-8, max_iterations=9)
    >>> found.step.round(8), round(found.model, 8), str(found.status)
    (array([1., 1.]), -3.0, 'converged')
    """
    x = np.zeros_like(gradient)
    r = -gradient
    if start is not None and start.any():
        x = start.copy()
        r = r - product(x)
    q = 0.5 * float(x @ (gradient - r))
    target = rtol * float(np.linalg.norm(gradient))
    path: list[tuple[Array, float]] = []
    models, next_kept = [q], 1.0
    z = r if preconditioner is None else preconditioner(r)
    rz = float(r @ z)
    p = z.copy()
    region = TrustRegion(radius, rz)
    status = Status.BUDGET
    one_thread = one_blas_thread(x.nbytes)  # threads of the BLAS that wait for more would keep products from theirs
    for i in range(1, max_iterations + 1):
        with one_thread:
            if not np.isfinite(rz):
                status = Status.NONFINITE
                break
            if rz <= 0.0 or np.linalg.norm(r) <= target:
                status = Status.CONVERGED
                break
        Bp = np.asarray(product(p), dtype=np.float64)
        with one_thread:
            curvature = float(p @ Bp)
            if not np.isfinite(curvature):
                status = Status.NONFINITE
                break
            if curvature <= eps * float(np.linalg.norm(p) * np.linalg.norm(Bp)):
                doubtful = curvature > -eps * float(np.linalg.norm(p) * np.linalg.norm(Bp))
                if doubtful and i > 1 and not np.isfinite(radius):
                    status = Status.STAGNATED
                    break
                status = Status.NEGATIVE_CURVATURE
                length = region.distance() if np.isfinite(radius) else _unbounded(rz, curvature, region)
                q += length * (0.5 * length * curvature - rz)
                x = x + length * p
                region.advance(length, 0.0, rz)
                models.append(q)
                break
            step = rz / curvature
            if start is None and region.leaves(step):
                step = region.distance()
                status = Status.BOUNDARY
            q += step * (0.5 * step * curvature - rz)
            x = x + step * p
            models.append(q)
            if status == Status.BOUNDARY:
                region.advance(step, 0.0, rz)
                break
            r = r - step * Bp
            z = r if preconditioner is None else preconditioner(r)
            rz, before = float(r @ z), rz
            beta = rz / before
            p *= beta
            p += z
            region.advance(step, beta, rz)
            if keep_path and i >= next_kept:
                path.append((x, q))
                next_kept = max(i + 1.0, i * KEEP_RATIO)
            window = max(10, i // 10)
            if progress_tol and i > window and q < 0 and q - models[i - window] > window * progress_tol * q:
                status = Status.CONVERGED
                break
    if keep_path and (not path or path[-1][0] is not x):
        path.append((x, q))
    norm = float(np.sqrt(max(region.xx, 0.0))) if start is None else np.nan
    return ModelStep(x, q, norm, status, len(models) - 1, path)


def _unbounded(rz: float, curvature: float, region: TrustRegion) -> float:
    """Return how far to go along a direction of negative curvature where nothing bounds the step."""
    by_magnitude = rz / abs(curvature) if curvature else np.inf
    if region.xx > 0.0:
        return float(min(by_magnitude, np.sqrt(region.xx / region.pp)))
    return by_magnitude if np.isfinite(by_magnitude) else 1.0
