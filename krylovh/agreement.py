"""Decisions that processes sharing an operator take alike."""

from collections.abc import Callable
from typing import Any, TypeVar, cast
from uuid import uuid4

from scipy.sparse.linalg import LinearOperator

T = TypeVar("T")

__all__ = ["agreement_of", "by_the_first", "is_first"]


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


def is_first(agree: Callable[[Any], Any]) -> bool:
    """Tell whether this process is the one whose values count.

    Examples
    --------
    >>> is_first(lambda value: value), is_first(lambda value: "another's")
    (True, False)
    """
    own = uuid4().hex
    return bool(agree(own) == own)


def by_the_first(agree: Callable[[Any], Any], compute: Callable[[], T]) -> T:
    """Call a function in the first process alone; return its result, or raise its error, in all of them.

    Examples
    --------
    >>> by_the_first(lambda value: value, lambda: 3)
    3
    """
    result: Any = None
    failure: Exception | None = None
    if is_first(agree):
        try:
            result = compute()
        except Exception as error:
            failure = error
    result, failure = agree((result, failure))
    if failure is not None:
        raise failure
    return cast(T, result)


def _stands(value: Any) -> Any:
    return value
