"""Curvature along a direction, and what rounding leaves of it.

``p'Ap`` is known to about ``eps |A| |p|^2``.  Beyond that its sign is certain.  Within, a positive semidefinite A would
give ``|Ap|^2 <= |A| p'Ap``, so either ``Ap`` is as good as zero and p a null vector, or A is indefinite, and a
combination of p and ``Ap`` shows it.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from krylovh.krylov.system import ScaledSystem
from krylovh.results import Status

Array = NDArray[np.float64]

__all__ = ["ROUNDING", "FlatDirection", "classify_direction"]

#: the rounding of ``p'Ap``, in units of ``eps |A| |p|^2``
ROUNDING = 10.0


@dataclass(frozen=True)
class FlatDirection:
    """A direction without positive curvature."""

    status: Status  # NEGATIVE_CURVATURE, or INCONSISTENT for a null vector
    direction: Array  # (n,)


def classify_direction(system: ScaledSystem, p: Array, q: Array, *, doubtful: bool = False) -> FlatDirection | None:
    """Return None where ``p'Ap`` is certainly positive, else what p proves.

    Parameters
    ----------
    system : ScaledSystem
    p, q : ndarray, shape (n,)
        The direction, and ``A p``.
    doubtful : bool
        The norm of A is not yet known from anything but p: make sure that ``q`` is not all rounding, by one product.

    Examples
    --------
    >>> system = ScaledSystem(np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> p = np.array([1.0, 0.0])
    >>> flat = classify_direction(system, p, system.product(p))
    >>> str(flat.status), flat.direction @ np.array([flat.direction[1], flat.direction[0]]) < 0
    ('negative_curvature', np.True_)
    """
    square = float(p @ p)
    curvature = float(p @ q)
    zone = ROUNDING * system.eps * system.norm * square
    if curvature > zone:
        return None
    if curvature < -zone and not doubtful:
        return FlatDirection(Status.NEGATIVE_CURVATURE, p)
    if not q.any():
        return FlatDirection(Status.INCONSISTENT, p)
    w = system.product(q)  # tells the norm of A better
    zone = ROUNDING * system.eps * system.norm * square
    if curvature < -zone:
        return FlatDirection(Status.NEGATIVE_CURVATURE, p)
    if float(q @ q) <= 4 * system.norm * zone:
        return FlatDirection(Status.INCONSISTENT, p)
    u, v = p / np.sqrt(square), q / np.linalg.norm(q)
    Au, Av = q / np.sqrt(square), w / np.linalg.norm(q)
    form = np.array([[u @ Au, v @ Au], [v @ Au, v @ Av]])
    gram = np.array([[1.0, u @ v], [u @ v, 1.0]])
    values, vectors = scipy.linalg.eigh(form, gram)
    if values[0] >= 0:
        return None if curvature > 0 else FlatDirection(Status.NEGATIVE_CURVATURE, p)
    return FlatDirection(Status.NEGATIVE_CURVATURE, vectors[0, 0] * u + vectors[1, 0] * v)
