"""What samples do to a trained net: first-order influence, leave-one-out truth, and a net retrained."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["InfluenceResult", "LeaveOneOutResult", "RetrainResult"]


@dataclass(frozen=True)
class InfluenceResult(Displayed):
    """First-order changes when single samples are removed; positive means that the quantity grows.

    ``remaining_step`` tells how far theta is from a stationary point: the root mean square of the change that the
    Newton step still to be made brings to the quantities, over that of the influences.

    Examples
    --------
    >>> result = InfluenceResult(
    ...     np.array([7]), np.array([[0.5]]), "loss", 1, 0.0, 0.0, 0.0, np.nan, 1e-6, 12, Status.CONVERGED,
    ...     (Status.CONVERGED,), "adjoint",
    ... )
    >>> print(result)
    influence of 1 rows on loss (1 quantities), converged, 1 adjoint solves, 12 products
      |grad| 0.0e+00, remaining Newton step 0.0e+00 of the influences
    """

    rows: NDArray[np.int64]  # (m,)
    values: Array  # (m, q): change of each quantity when the row is removed; NaN where nothing was found
    on: str  # "parameters", "loss" or "prediction"
    num_outputs: int  # quantities per test sample; 1 but for predictions
    damping: float
    gradient_norm: float  # of the objective at theta
    remaining_step: float  # in units of the influences
    negative_curvature: float  # the lowest d'(H + damping I)d / |d|^2 that proved it; NaN if none was met
    rtol: float  # of the solves
    num_products: int
    status: Status
    statuses: tuple[Status, ...]  # one per solve: of each row ("direct"), or of each quantity ("adjoint")
    mode: str  # "direct": one solve per row; "adjoint": one per quantity

    @property
    def predictions(self) -> Array:
        """Changes of predictions, shape (m, test samples, outputs)."""
        return self.values.reshape(len(self.rows), -1, self.num_outputs)

    def __str__(self) -> str:
        head = f"influence of {len(self.rows)} rows on {self.on} ({self.values.shape[1]} quantities), {self.status}"
        return (
            f"{head}, {len(self.statuses)} {self.mode} solves, {self.num_products} products\n"
            f"  |grad| {self.gradient_norm:.1e}, remaining Newton step {self.remaining_step:.1e} of the influences"
        )


@dataclass(frozen=True)
class LeaveOneOutResult(Displayed):
    """Nets really retrained without single samples, beside what influence predicted.

    Examples
    --------
    >>> truth = LeaveOneOutResult(
    ...     np.arange(3), np.array([[1.0], [2.0], [4.0]]), np.array([[1.1], [2.1], [3.0]]), "loss", np.zeros(3),
    ...     (Status.CONVERGED,) * 3, 30, 9, Status.CONVERGED,
    ... )
    >>> print(truth)
    leave-one-out of 3 rows on loss, converged: Pearson 0.9758, Spearman 1.0000, 30 products, 9 gradients
    """

    rows: NDArray[np.int64]  # (m,)
    actual: Array  # (m, q): change of each quantity, NaN for rows that were not retrained
    predicted: Array  # (m, q)
    on: str
    gradient_norms: Array  # (m,): of each left-out objective at its retrained theta
    statuses: tuple[Status, ...]  # (m,)
    num_products: int  # of retraining alone
    num_gradients: int
    status: Status

    @property
    def pearson(self) -> float:
        """Correlation of actual and predicted changes, over all rows and quantities."""
        return _correlation(*self._known())

    @property
    def spearman(self) -> float:
        """Rank correlation of actual and predicted changes, over all rows and quantities."""
        return _correlation(*(_ranks(values) for values in self._known()))

    @property
    def pearson_by_quantity(self) -> Array:
        """Correlation over rows for each quantity, shape (q,)."""
        return np.array([_correlation(*self._known(i)) for i in range(self.actual.shape[1])])

    def _known(self, quantity: int | slice = slice(None)) -> tuple[Array, Array]:
        actual, predicted = self.actual[:, quantity].ravel(), self.predicted[:, quantity].ravel()
        known = np.isfinite(actual) & np.isfinite(predicted)
        return actual[known], predicted[known]

    def __str__(self) -> str:
        found = f"Pearson {self.pearson:.4f}, Spearman {self.spearman:.4f}"
        cost = f"{self.num_products} products, {self.num_gradients} gradients"
        return f"leave-one-out of {len(self.rows)} rows on {self.on}, {self.status}: {found}, {cost}"


@dataclass(frozen=True)
class RetrainResult(Displayed):
    """A net retrained on changed data, with a certificate.

    ``distance_bound`` bounds the distance of theta to the retrained optimum under ``assumption``; it is NaN where
    nothing can be said.

    Examples
    --------
    >>> result = RetrainResult(
    ...     np.zeros(2), Status.CONVERGED, 1e-9, 1e-6, 1e-3, 0.0, "the objective is convex", False, "", 40, 0, 3,
    ...     np.array([1e-2, 1e-9]), np.array([0.1]), 400, 30,
    ... )
    >>> print(result)
    retrain: converged in 1 Newton steps, |grad| 1.0e-09, distance to the optimum at most 1.0e-06
      if the objective is convex
      40 products and 3 gradients; from the start 400 and 30: 0.10 of the products
    """

    theta: Array  # (P,)
    status: Status
    gradient_norm: float
    distance_bound: float  # NaN: none
    curvature_bound: float  # lower bound of the Hessian's eigenvalues at theta; NaN: none
    hessian_lipschitz: float  # |H(theta) v - H(old theta) v| / |theta - old theta|, v the unit vector between them
    assumption: str  # what the bound rests on
    switched: bool  # full retraining took over
    reason: str  # why it did
    num_products: int  # in all, those of the certificate included
    certificate_products: int
    num_gradients: int
    gradient_history: Array  # (steps + 1,): gradient norms
    step_history: Array  # (steps,): lengths of the steps
    products_from_start: int | None = None  # of training again from a start, where that was asked for
    gradients_from_start: int | None = None

    def __str__(self) -> str:
        head = f"retrain: {self.status} in {len(self.step_history)} Newton steps, |grad| {self.gradient_norm:.1e}"
        known = np.isfinite(self.distance_bound)
        bound = f"distance to the optimum at most {self.distance_bound:.1e}" if known else "no bound of the distance"
        lines = [f"{head}, {bound}", f"  {'if' if known else 'because'} {self.assumption}"]
        if self.switched:
            lines.append(f"  full retraining took over: {self.reason}")
        cost = f"  {self.num_products} products and {self.num_gradients} gradients"
        if self.products_from_start is not None:
            share = self.num_products / max(self.products_from_start, 1)
            cost += f"; from the start {self.products_from_start} and {self.gradients_from_start}"
            cost += f": {share:.2f} of the products"
        return "\n".join([*lines, cost])


def _correlation(a: Array, b: Array) -> float:
    """Return Pearson's correlation; NaN where there are fewer than two pairs or one side is constant."""
    if a.size < 2:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _ranks(values: Array) -> Array:
    """Return ranks; equal values share their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[group])
