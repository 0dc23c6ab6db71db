"""The regulariser ``sum_i (l2_i / 2) theta_i^2``: weight decay, which shifts the diagonal of the Hessian by l2."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import finite_array

__all__ = ["check_l2", "formula_of"]


def check_l2(l2: ArrayLike, num_parameters: int) -> NDArray[np.float64]:
    """Return no number, one, or one per parameter, read-only and in float64 whatever the dtype of products.

    Examples
    --------
    >>> check_l2(0.0, 3), check_l2(0.5, 3)
    (array([], dtype=float64), array([0.5]))
    """
    values = np.array(finite_array("l2", l2, np.float64))
    if values.size and values.min() < 0:
        raise ValueError(f"l2 must be at least 0, got {values.min()}")
    if values.ndim == 0:
        values = np.empty(0) if not values.any() else values.reshape(1)
    elif values.shape != (num_parameters,):
        raise ValueError(f"l2 must be a scalar or have shape ({num_parameters},), got {values.shape}")
    values.flags.writeable = False
    return values


def formula_of(l2: NDArray[np.float64]) -> str:
    """Return the regulariser as text, to stand behind the loss.

    Examples
    --------
    >>> formula_of(np.array([0.1, 0.1, 0.0]))
    ' + sum_i (l2_i/2) theta_i^2, l2 = 0 on 1, 0.1 on 2 parameters'
    """
    if l2.size == 0:
        return ""
    if l2.size == 1:
        return f" + sum_i ({l2[0]:.6g}/2) theta_i^2"
    values = np.unique(l2)
    shown = ", ".join(f"{v:.6g} on {np.count_nonzero(l2 == v)}" for v in values[:3])
    return f" + sum_i (l2_i/2) theta_i^2, l2 = {shown}{' ...' if len(values) > 3 else ''} parameters"
