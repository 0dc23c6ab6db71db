"""Decisions that processes sharing an operator take alike."""

from collections.abc import Callable
from typing import Any

from scipy.sparse.linalg import LinearOperator

__all__ = ["agreement_of"]


def agreement_of(A: Any) -> Callable[[Any], Any]:
    """Return what lets processes that share an operator decide alike: its method ``agree``, or one of its parts'.

    ``agree(value)`` returns the value of the first of them.  An operator without it is not shared: the value stands.

    Examples
    --------
    >>> import numpy as np
    >>> agreement_of(np.eye(2))(3)
    3
    """
    agree: Callable[[Any], Any] | None = getattr(A, "agree", None)
    if agree is not None:
        return agree
    parts = [*getattr(A, "args", ()), getattr(A, "A", None)]  # of what SciPy combines, and of an inverse
    shared = [part for part in parts if isinstance(part, LinearOperator)]
    found = [agreement_of(part) for part in shared]
    return next((agree for agree in found if agree is not _stands), _stands)


def _stands(value: Any) -> Any:
    return value
