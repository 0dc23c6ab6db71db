"""Saliencies: what the loss is predicted to change by when a parameter is removed, by diagonal methods.

Magnitude takes w_k^2 / 2, as if the Hessian were the identity.  Optimal brain damage takes h_kk w_k^2 / 2 with the
diagonal of the Hessian, by the recursion of Le Cun et al. or exactly.  In both the other parameters stay as they are.

References
----------
Le Cun, Denker and Solla (1990), Optimal brain damage.
"""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from krylovh.exact import hessian_diagonal, obd_diagonal
from krylovh.objective import Objective

Array = NDArray[np.float64]
Positions = NDArray[np.intp]
Diagonal = Literal["lecun", "exact"]

__all__ = ["Criterion", "DiagonalCriterion"]


class Criterion(Protocol):
    """How parameters are judged, and what happens to the others when some are removed."""

    @property
    def num_products(self) -> int:
        """Products so far."""

    def curvature(self, objective: Objective, free: Positions) -> None:
        """Compute the curvature anew; ``free`` are the positions of the parameters that remain."""

    def saliencies(self, objective: Objective, candidates: Positions) -> Array:
        """Return one number per candidate, counted within the free parameters; infinite where it was left out."""

    def step(self, objective: Objective, batch: Positions) -> Array:
        """Return the change of all free parameters that removes a batch of them."""

    def remove(self, batch: Positions) -> None:
        """Forget the parameters of a batch, without computing anything anew."""


class DiagonalCriterion:
    """``h_k w_k^2 / 2``, and no change of the others."""

    def __init__(self, diagonal: Diagonal | None) -> None:
        self.diagonal = diagonal  # None: magnitude
        self.num_products = 0
        self._free: Positions = np.empty(0, np.intp)
        self._h: Array = np.empty(0)

    def curvature(self, objective: Objective, free: Positions) -> None:
        """Compute the diagonal."""
        if self.diagonal is None:
            h: Any = np.ones(objective.num_parameters)
        else:
            h = obd_diagonal(objective) if self.diagonal == "lecun" else hessian_diagonal(objective)
        self._free, self._h = free, h[free].astype(np.float64)

    def saliencies(self, objective: Objective, candidates: Positions) -> Array:
        """Return ``h_k w_k^2 / 2``."""
        w = objective.net.theta[self._free].astype(np.float64)
        return np.asarray(0.5 * self._h[candidates] * w[candidates] ** 2)

    def step(self, objective: Objective, batch: Positions) -> Array:
        """Return ``-w`` in the batch and 0 elsewhere."""
        change = np.zeros(self._free.size)
        change[batch] = -objective.net.theta[self._free[batch]]
        return change

    def remove(self, batch: Positions) -> None:
        """Forget the batch."""
        self._free, self._h = np.delete(self._free, batch), np.delete(self._h, batch)
