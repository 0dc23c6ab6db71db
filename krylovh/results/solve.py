"""Solutions of linear systems."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["BlockSolveResult", "SolveResult"]


@dataclass(frozen=True)
class SolveResult(Displayed):
    """An approximate solution of ``A x = b``, with its residual recomputed from a product after the iteration.

    Where ``negative_curvature`` is a direction d, of length one, ``d'Ad <= 0`` and ``d'(b - Ax) >= 0``: the quadratic
    ``x'Ax / 2 - b'x`` has no minimum, and falls, or at least does not rise, along d.

    Examples
    --------
    >>> from krylovh import cg
    >>> print(cg(np.diag([1.0, 2.0, 4.0]), np.ones(3)))
    cg: converged, relative residual 0.0e+00, 3 iterations, 4 products
    """

    x: Array  # (n,)
    status: Status
    residual_norm: float  # |b - A x|
    relative_residual: float  # |b - A x| / |b|, and 0 for b = 0
    num_iterations: int
    num_products: int
    negative_curvature: Array | None  # (n,)
    residual_history: Array  # (num_iterations + 1,): norms by the recurrence, which rounding lets drift from the truth
    rtol: float
    solver: str

    def __str__(self) -> str:
        accuracy = f"{self.solver}: {self.status}, relative residual {self.relative_residual:.1e}"
        return f"{accuracy}, {self.num_iterations} iterations, {self.num_products} products"


@dataclass(frozen=True)
class BlockSolveResult(Displayed):
    """Approximate solutions of several systems out of one Krylov space; ``result[i]`` is the i-th alone.

    The systems differ in their right-hand sides, or in the ``shifts`` that are added to the operator.

    Examples
    --------
    >>> from krylovh import shifted_cg
    >>> family = shifted_cg(np.diag([1.0, 2.0, 4.0]), np.ones(3), [1.0, -1.5])
    >>> print(family)
    2 systems by shifted_cg, 3 iterations, 5 products
      0: converged, relative residual 1.3e-16
      1: negative_curvature, relative residual 1.5e+00
    >>> family[0].x
    array([0.5       , 0.33333333, 0.2       ])
    """

    x: Array  # (n, k)
    statuses: tuple[Status, ...]  # one per system
    residual_norms: Array  # (k,), recomputed
    relative_residuals: Array  # (k,), recomputed
    num_iterations: int  # block steps
    num_products: int  # in all
    negative_curvature: Array | None  # (n, k), NaN in the columns of systems where none was met
    residual_history: Array  # (num_iterations + 1, k), by recurrence
    rtol: float
    solver: str
    shifts: Array | None = None  # (k,)

    @property
    def status(self) -> Status:
        """CONVERGED if all systems are, else what ended the first that is not."""
        return next((status for status in self.statuses if status != Status.CONVERGED), Status.CONVERGED)

    def __len__(self) -> int:
        return len(self.statuses)

    def __getitem__(self, i: int) -> SolveResult:
        direction = None
        if self.negative_curvature is not None and np.isfinite(self.negative_curvature[0, i]):
            direction = self.negative_curvature[:, i].copy()
        return SolveResult(
            x=self.x[:, i].copy(),
            status=self.statuses[i],
            residual_norm=float(self.residual_norms[i]),
            relative_residual=float(self.relative_residuals[i]),
            num_iterations=self.num_iterations,
            num_products=self.num_products,
            negative_curvature=direction,
            residual_history=self.residual_history[:, i].copy(),
            rtol=self.rtol,
            solver=self.solver,
        )

    def __str__(self) -> str:
        head = f"{len(self)} systems by {self.solver}, {self.num_iterations} iterations, {self.num_products} products"
        lines = [
            f"  {i}: {status}, relative residual {residual:.1e}"
            for i, (status, residual) in enumerate(zip(self.statuses, self.relative_residuals, strict=True))
        ]
        return "\n".join([head, *lines])
