"""Minima of training objectives, with the way that led there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["TrainingHistory", "TrainingResult"]


@dataclass(frozen=True)
class TrainingHistory(Displayed):
    """What was known at the start and after each of the ``nit`` iterations; counts and seconds are those so far."""

    value: Array  # (nit + 1,)
    gradient_norm: Array  # (nit + 1,)
    radius: Array  # (nit + 1,): of the trust region for the next step; infinite before the first cut, NaN without one
    damping: Array  # (nit + 1,): added to the curvature for the next step; NaN in methods without
    step_norm: Array  # (nit + 1,): how far theta moved; 0 at the start
    inner_iterations: NDArray[np.int64]  # (nit + 1,): steps of conjugate gradients
    num_products: NDArray[np.int64]  # (nit + 1,)
    num_gradients: NDArray[np.int64]  # (nit + 1,)
    seconds: Array  # (nit + 1,)
    inner_status: tuple[Status, ...]  # nit: how each inner solve ended

    def __str__(self) -> str:
        head = "  iteration        value     gradient  products  gradients   seconds  inner solve"
        statuses = ("start", *(str(status) for status in self.inner_status))
        rows = zip(
            self.value, self.gradient_norm, self.num_products, self.num_gradients, self.seconds, statuses, strict=True
        )
        lines = [
            f"{i:11d}  {value:11.6g}  {norm:11.3e}  {products:8d}  {gradients:9d}  {seconds:8.2f}  {status}"
            for i, (value, norm, products, gradients, seconds, status) in enumerate(rows)
        ]
        return "\n".join([head, *lines])


@dataclass(eq=False, repr=False)
class TrainingResult(Displayed, OptimizeResult):  # type: ignore[misc]
    """What :func:`krylovh.minimize` returns: an ``OptimizeResult`` of SciPy whose entries are these fields.

    Entries can be read as attributes or by key.  ``history`` gathers the arrays that follow the iterations.

    Examples
    --------
    >>> from krylovh import Network, Objective, minimize
    >>> net = Network((1, 1), "identity", bias=False)
    >>> result = minimize(Objective(net, [[1.0], [2.0]], [2.0, 4.0], loss="squared_error"))
    >>> print(result)
    newton-cg: converged, value 0, gradient norm 0.0e+00, 1 iterations, 1 products, 2 gradients
    >>> result["x"], result.success, len(result.history.value)
    (array([2.]), True, 2)
    """

    x: Array  # (n,)
    fun: float
    jac: Array  # (n,): the gradient at x
    nit: int
    nfev: int  # evaluations of value and gradient
    njev: int  # the same: one pass gives both
    nhev: int  # products with curvature matrices
    num_products: int
    num_gradients: int
    success: bool
    status: Status
    message: str
    method: str
    gradient_norm: float
    target: float  # the gradient norm that counts as converged
    seconds: float
    value_history: Array  # (nit + 1,)
    gradient_norm_history: Array  # (nit + 1,)
    radius_history: Array  # (nit + 1,)
    damping_history: Array  # (nit + 1,)
    step_norm_history: Array  # (nit + 1,)
    inner_iterations_history: NDArray[np.int64]  # (nit + 1,)
    num_products_history: NDArray[np.int64]  # (nit + 1,)
    num_gradients_history: NDArray[np.int64]  # (nit + 1,)
    seconds_history: Array  # (nit + 1,)
    inner_status_history: tuple[Status, ...] | None  # nit; None for nit = 0

    @property
    def history(self) -> TrainingHistory:
        """The arrays that follow the iterations."""
        return TrainingHistory(
            value=self.value_history,
            gradient_norm=self.gradient_norm_history,
            radius=self.radius_history,
            damping=self.damping_history,
            step_norm=self.step_norm_history,
            inner_iterations=self.inner_iterations_history,
            num_products=self.num_products_history,
            num_gradients=self.num_gradients_history,
            seconds=self.seconds_history,
            inner_status=self.inner_status_history or (),
        )

    def table(self) -> dict[str, Any]:
        """Return value and gradient iteration by iteration, with what they cost."""
        return {
            "iteration": range(len(self.value_history)),
            "value": self.value_history,
            "gradient norm": [f"{norm:.3e}" for norm in self.gradient_norm_history],
            "products": self.num_products_history,
            "gradients": self.num_gradients_history,
        }

    def __str__(self) -> str:
        reached = f"{self.method}: {self.status}, value {self.fun:.6g}, gradient norm {self.gradient_norm:.1e}"
        return f"{reached}, {self.nit} iterations, {self.num_products} products, {self.num_gradients} gradients"

    def __repr__(self) -> str:
        return f"<TrainingResult {self}>"
