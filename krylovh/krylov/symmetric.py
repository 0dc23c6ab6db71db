"""The only door between an algorithm and an operator: coerced, counted, checked products in float64.

Algorithms call a :class:`SymmetricOperator` and may rely on this: the operator never sees the algorithm's own arrays,
the result is a new float64 array that nobody else holds, every application to one vector is counted, a budget is never
exceeded, and NaN or infinity cannot enter a basis unseen.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from krylovh.agreement import agreement_of
from krylovh.blas import blas_threads_of_caller
from krylovh.recording import Recorder, Unrecorded

Array = NDArray[np.float64]

__all__ = ["BudgetSpent", "NonFiniteProduct", "SymmetricOperator", "resolve_seed"]


class BudgetSpent(Exception):
    """The next product would exceed the budget of products or seconds."""


class NonFiniteProduct(Exception):
    """The operator returned NaN or infinity for a finite vector."""


class SymmetricOperator:
    """Products with ``A`` as an algorithm sees them.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Real and symmetric.
    max_products : int, optional
        Largest number of applications to one vector.
    max_seconds : float, optional
        No product is started later than this.
    """

    def __init__(self, A: Any, *, max_products: int | None = None, max_seconds: float | None = None) -> None:
        if max_products is not None and max_products < 0:
            raise ValueError(f"max_products must be at least 0, got {max_products}")
        if max_seconds is not None and not max_seconds >= 0:
            raise ValueError(f"max_seconds must be at least 0, got {max_seconds}")
        self.operator: LinearOperator = aslinearoperator(A)
        shape = self.operator.shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"A must be square, got shape {shape}")
        dtype = np.dtype(self.operator.dtype if self.operator.dtype is not None else np.float64)
        if dtype.kind == "c":
            raise TypeError(f"A must be real, got dtype {dtype}")
        self.n = int(shape[0])
        #: dtype that products are rounded to; integers count as float64
        self.dtype = np.dtype(np.float32) if dtype in (np.float16, np.float32) else np.dtype(np.float64)
        self.num_products = 0
        self.max_products = max_products
        #: products that are kept back from the budget for a closing computation
        self.reserved = 0
        #: memory of the run
        self.record: Recorder = Unrecorded()
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._agree = agreement_of(A)

    @property
    def eps(self) -> float:
        """Machine epsilon of the products."""
        return float(np.finfo(self.dtype).eps)

    @property
    def remaining(self) -> float:
        """Products left in the budget."""
        return np.inf if self.max_products is None else self.max_products - self.num_products - self.reserved

    @property
    def time_is_up(self) -> bool:
        """Whether ``max_seconds`` are over: on the first of all processes that share the operator."""
        return self._deadline is not None and bool(self._agree(time.monotonic() > self._deadline))

    def release(self) -> None:
        """Stop the clock and free what is reserved: from here on results are only being closed."""
        self.reserved = 0
        self._deadline = None

    def __call__(self, V: Array) -> Array:
        """Return ``A V`` in float64 for ``V`` of shape (n,) or (n, k); a block counts as k products."""
        count = 1 if V.ndim == 1 else V.shape[1]
        if count > self.remaining or self.time_is_up:
            raise BudgetSpent
        # a copy: an operator may scribble on what it gets
        argument: NDArray[Any] = np.array(V, dtype=self.dtype, order="F")
        if V.ndim == 1 or _has_block_product(self.operator):
            product = self._apply(argument)
        else:
            product = np.empty(V.shape, order="F")
            for i in range(count):  # the default loop of scipy would collect one reused buffer k times
                product[:, i] = self._apply(argument[:, i])
        product = product.astype(np.float64, copy=False)
        if not np.isfinite(product).all():
            raise NonFiniteProduct
        return product

    def recorded(self, name: str, V: Array) -> Array:
        """Return ``A V`` as a unit of the run: the recorded product of that name, or a new one."""
        return self.record.unit(name, self, lambda: (self(V),))[0]

    def _apply(self, V: NDArray[Any]) -> NDArray[Any]:
        """Return ``A V`` as a new array, with complaints that name what a product must be."""
        self.num_products += 1 if V.ndim == 1 else V.shape[1]
        with blas_threads_of_caller():
            result = self.operator._matvec(V) if V.ndim == 1 else self.operator._matmat(V)
        product = np.array(result, order="F")
        if product.dtype.kind not in "fiub":
            raise TypeError(f"a product with A must be a real array, got {type(result).__name__} of {product.dtype}")
        if V.ndim == 1 and product.shape == (self.n, 1):
            product = product[:, 0]
        if product.shape != V.shape:
            raise ValueError(f"a product with A must have shape {V.shape}, got {product.shape}")
        return product


def _has_block_product(operator: LinearOperator) -> bool:
    """Return whether ``A V`` is more than scipy's loop over the columns of V."""
    if type(operator)._matmat is LinearOperator._matmat:
        return False
    # LinearOperator(shape, matvec=...) without matmat hides the same loop
    return getattr(operator, "_CustomLinearOperator__matmat_impl", True) is not None


def resolve_seed(rng: int | np.random.Generator | None, A: Any = None) -> int:
    """Return the seed that a result records: the given one, one drawn from a generator, or a fresh one.

    Processes that share the operator ``A`` all get that of the first.

    Examples
    --------
    >>> resolve_seed(7)
    7
    """
    if rng is None:
        return int(agreement_of(A)(int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))))
    if isinstance(rng, np.random.Generator):
        return int(agreement_of(A)(int(rng.integers(2**63))))
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and rng >= 0:
        return int(agreement_of(A)(int(rng)))
    raise ValueError(f"rng must be a non-negative integer, a numpy.random.Generator or None, got {rng!r}")
