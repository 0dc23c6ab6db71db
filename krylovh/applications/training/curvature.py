"""Which curvature a step is computed from: the exact Hessian or Gauss-Newton, of all samples or of a batch.

A step needs the gradient in full but the curvature only roughly.  So products may run over a batch of samples, drawn
anew in each iteration (Byrd, Chin, Neveitt and Nocedal), and in float32, where they cost half: the accuracy of a step
is that of its inner solve, and the accuracy of the minimum that of the gradient.

References
----------
Byrd, Chin, Neveitt and Nocedal (2011), On the use of stochastic Hessian information in optimization methods for machine
learning.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from krylovh.checks import whole_number
from krylovh.objective import Objective
from krylovh.operators import CurvatureOperator, GaussNewtonOperator, HessianOperator

__all__ = ["Curvature"]


class Curvature:
    """Curvature operators at any point, on all samples or on a fresh batch each time.

    Parameters
    ----------
    objective : Objective
        All samples; its theta does not matter.
    gauss_newton : bool
        Gauss-Newton instead of the exact Hessian.
    batch_size : int or None
        Samples of a batch; all of them if None.
    dtype : float32, float64 or None
        Of the products; the objective's if None.
    rng : int, numpy.random.Generator or None
        Draws the batches: every sample once before any comes again.

    Examples
    --------
    >>> from krylovh import Network
    >>> objective = Objective(Network((1, 1), "identity"), np.ones((8, 1)), np.ones(8), loss="squared_error")
    >>> curvature = Curvature(objective, gauss_newton=True, batch_size=3, dtype=np.float32, rng=0)
    >>> operator = curvature.at(objective)
    >>> operator.dtype, operator.objective.num_samples
    (dtype('float32'), 3)
    """

    def __init__(
        self,
        objective: Objective,
        *,
        gauss_newton: bool,
        batch_size: int | None = None,
        dtype: DTypeLike | None = None,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        self.dtype = np.dtype(objective.dtype if dtype is None else dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"product_dtype must be float32 or float64, got {self.dtype}")
        self.gauss_newton = gauss_newton
        N = objective.num_samples
        size = N if batch_size is None else whole_number("batch_size", batch_size, 1, N)
        self._samples = objective if self.dtype == objective.dtype else objective.astype(self.dtype)
        self._is_given = self._samples is objective
        self._size, self._generator = size, np.random.default_rng(rng)
        self._queue = np.empty(0, np.intp)  # samples whose turn comes next
        self.rows: NDArray[Any] | None = None  # of the last batch

    @property
    def eps(self) -> float:
        """Rounding of the products."""
        return float(np.finfo(self.dtype).eps)

    @property
    def is_full(self) -> bool:
        """Whether products run over all samples."""
        return self._size == self._samples.num_samples

    def at(self, objective: Objective) -> CurvatureOperator:
        """Return the curvature at an objective's theta, on the next batch where there are batches."""
        if not self.is_full:
            self.rows = self._next_batch()
        samples = self.samples(objective, self.rows)
        return GaussNewtonOperator(samples) if self.gauss_newton else HessianOperator(samples)

    def samples(self, objective: Objective, rows: NDArray[Any] | None) -> Objective:
        """Return the objective on a batch, or on all samples, in the dtype of the products."""
        if rows is None and self._is_given:
            return objective  # whose linearisation is made already
        data = self._samples if rows is None else self._samples.subset(rows)
        return data.at(objective.net.theta)

    def state(self) -> dict[str, Any]:
        """Return what the next batches depend on, but for the random generator."""
        return {"queue": self._queue, "rows": self.rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the batches of a run before."""
        self._queue, self.rows = state["queue"], state["rows"]

    def _next_batch(self) -> NDArray[Any]:
        if len(self._queue) < self._size:
            self._queue = np.concatenate([self._queue, self._generator.permutation(self._samples.num_samples)])
        rows, self._queue = self._queue[: self._size], self._queue[self._size :]
        return np.unique(rows)  # in the order of the data; a sample that came twice counts once
