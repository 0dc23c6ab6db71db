"""How far conjugate gradients may go: the boundary of a trust region in the norm of the preconditioner.

The norm ``sqrt(x' inv(P) x)`` is that in which the iterates grow from step to step (Steihaug), and its three inner
products follow from the recurrences without a product with ``inv(P)``.

References
----------
Steihaug (1983), The conjugate gradient method and trust regions in large scale optimization.
Conn, Gould and Toint (2000), Trust-region methods, 7.5.1.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["TrustRegion"]


class TrustRegion:
    """The region ``x' inv(P) x <= radius**2`` as seen from the iterate x along the direction p.

    Parameters
    ----------
    radius : float
    rz : float
        ``r'P r`` at x = 0, for the direction ``p = P r``.

    Examples
    --------
    >>> region = TrustRegion(5.0, 4.0)
    >>> region.leaves(2.4), region.leaves(2.6), region.distance()
    (False, True, 2.5)
    """

    def __init__(self, radius: float, rz: float) -> None:
        self.square = radius * radius
        self.pp = rz  # p' inv(P) p
        self.xp = 0.0  # x' inv(P) p
        self.xx = 0.0  # x' inv(P) x

    def turn(self, x: Array, r: Array, rz: float) -> None:
        """Look from x along ``p = P r`` anew, for a residual r."""
        self.pp, self.xp = rz, float(x @ r)

    def leaves(self, step: float) -> bool:
        """Return whether ``x + step p`` is outside."""
        return not self.xx + step * (2 * self.xp + step * self.pp) < self.square

    def distance(self) -> float:
        """Return the positive step that ends on the boundary."""
        room = max(self.square - self.xx, 0.0)
        root = float(np.sqrt(self.xp**2 + self.pp * room))
        # the root of pp t^2 + 2 xp t = room that does not cancel
        return room / (root + self.xp) if self.xp > 0 else (root - self.xp) / self.pp

    def advance(self, step: float, beta: float, rz: float) -> None:
        """Follow ``x + step p`` and ``p := P r + beta p``."""
        self.xx += step * (2 * self.xp + step * self.pp)
        self.xp = beta * (self.xp + step * self.pp)
        self.pp = rz + beta * beta * self.pp
