"""What was removed from a net, in which order, and what it cost."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["PruningResult"]


@dataclass(frozen=True)
class PruningResult(Displayed):
    """Removals in their order, with the loss change that was predicted and the one that came.

    A step removes a batch of parameters; with batches of one there are as many steps as removals.

    Examples
    --------
    >>> from krylovh import Network, Objective, prune
    >>> net = Network((2, 1), "identity", [1.0, 0.1], bias=False)
    >>> objective = Objective(net, [[1.0, 0.0], [0.0, 1.0]], [1.0, 0.1], loss="squared_error")
    >>> print(prune(objective, num_remove=1))
    obs: 1 of 2 parameters removed in 1 steps, loss 0 -> 0.0025 (predicted change 0.0025), converged (num_remove)
    """

    removed: NDArray[np.int64]  # (removals,) positions in theta, in order
    saliencies: Array  # (removals,) what the method itself predicts for each
    predicted: Array  # (steps,) g'd + d'Hd / 2 of the whole step d, at the theta before it
    actual: Array  # (steps,) change of the loss by the step, before any retraining
    num_removed: NDArray[np.int64]  # (steps + 1,) in all, before the first step and after each
    losses: Array  # (steps + 1,) before the first step and after each, retraining included
    validation_losses: Array | None  # (steps + 1,)
    mask: NDArray[np.bool_]  # (n,) True where a parameter remains
    theta: Array  # (n,) 0 where a parameter was removed
    status: Status
    stop_reason: str  # what ended it: "num_remove", "max_loss_change", "callback", ...
    method: str
    num_products: int  # Hessian times vector, quadratic forms included
    num_gradients: int  # evaluations of loss and gradient, those of retraining by L-BFGS included
    num_curvatures: int  # diagonals, matrices and inverses that were computed

    @property
    def num_remaining(self) -> int:
        """Parameters that are left."""
        return int(np.count_nonzero(self.mask))

    def __str__(self) -> str:
        counts = f"{len(self.removed)} of {self.num_remaining + len(self.removed)} parameters removed"
        change = f"loss {self.losses[0]:.4g} -> {self.losses[-1]:.4g} (predicted change {self.predicted.sum():.4g})"
        steps = f"in {len(self.predicted)} steps"
        return f"{self.method}: {counts} {steps}, {change}, {self.status} ({self.stop_reason})"
