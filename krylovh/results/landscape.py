"""Looking along the spectrum: loss curves, and eigenvalues that are followed through training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["LossCurves", "SpectrumTrack"]


@dataclass(frozen=True)
class LossCurves(Displayed):
    """The objective along lines through theta, with the quadratic that value, gradient and Hessian predict.

    Examples
    --------
    >>> curves = LossCurves(
    ...     np.array([0.0, 1.0]), np.array([[1.0, 2.5]]), np.array([[1.0, 2.0]]), np.array([[1.0, 2.5]]),
    ...     np.array([1.0]), 1, 2, Status.CONVERGED,
    ... )
    >>> print(curves)
    loss along 1 directions at 2 distances in [0, 1], converged, 1 products, 2 gradients
      curvature 1.0000e+00, largest deviation from the quadratic 0.0e+00
    """

    distances: Array  # (points,): in units of the directions' lengths
    values: Array  # (k, points)
    slopes: Array  # (k, points): derivatives along the direction
    quadratic: Array  # (k, points)
    curvatures: Array  # (k,): d'Hd
    num_products: int
    num_gradients: int
    status: Status

    def __str__(self) -> str:
        span = f"{len(self.distances)} distances in [{self.distances.min():g}, {self.distances.max():g}]"
        cost = f"{self.num_products} products, {self.num_gradients} gradients"
        lines = [f"loss along {len(self.values)} directions at {span}, {self.status}, {cost}"]
        for curvature, deviation in zip(self.curvatures, np.abs(self.values - self.quadratic), strict=True):
            known = deviation[~np.isnan(deviation)]
            lines.append(
                f"  curvature {curvature:.4e}, largest deviation from the quadratic {known.max(initial=0.0):.1e}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class SpectrumTrack(Displayed):
    """Eigenvalues at several parameters, one after the other, and how their eigenspaces turn.

    Examples
    --------
    >>> track = SpectrumTrack(
    ...     np.array([[1.0, 2.0], [1.5, 3.0]]), np.zeros((2, 2)), np.array([[0.9, 1.0]]), np.array([40, 20]),
    ...     (Status.CONVERGED, Status.CONVERGED), Status.CONVERGED, "LA", 1e-8, np.eye(3, 2),
    ... )
    >>> print(track)
    2 eigenvalues (LA) at 2 steps, converged, 60 products
      0: [1, 2], converged, 40 products
      1: [1.5, 3], converged, 20 products, smallest cosine 0.9000
    """

    eigenvalues: Array  # (steps, k), ascending in each step; NaN where fewer were found
    residual_norms: Array  # (steps, k)
    overlaps: Array  # (steps - 1, k): cosines of the angles between consecutive eigenspaces, ascending
    products: NDArray[np.int64]  # (steps,)
    statuses: tuple[Status, ...]  # (steps,)
    status: Status
    which: str
    tol: float
    eigenvectors: Array  # (P, k): of the last step, to go on from

    @property
    def num_products(self) -> int:
        """Products of all steps."""
        return int(self.products.sum())

    def __str__(self) -> str:
        steps, k = self.eigenvalues.shape
        lines = [f"{k} eigenvalues ({self.which}) at {steps} steps, {self.status}, {self.num_products} products"]
        for i, (values, status, count) in enumerate(zip(self.eigenvalues, self.statuses, self.products, strict=True)):
            turned = f", smallest cosine {np.nanmin(self.overlaps[i - 1]):.4f}" if i else ""
            shown = ", ".join(f"{value:.6g}" for value in values)
            lines.append(f"  {i}: [{shown}], {status}, {count} products{turned}")
        return "\n".join(lines)
