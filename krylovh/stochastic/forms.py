"""Quadratic forms ``v'Av``, from an operator that knows them without a product or by way of one."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.symmetric import BudgetSpent, NonFiniteProduct, SymmetricOperator

Array = NDArray[np.float64]

__all__ = ["QuadraticForms"]


class QuadraticForms(SymmetricOperator):
    """``v' A v`` by the operator's own method where it has one, else by a product; each counts as a product."""

    def __init__(self, A: Any, *, max_products: int | None = None, max_seconds: float | None = None) -> None:
        super().__init__(A, max_products=max_products, max_seconds=max_seconds)
        self._own: Callable[[Any], Any] | None = getattr(A, "quadratic_form", None)

    def evaluate(self, V: Array) -> tuple[Array, Array]:
        """Return ``v' A v`` and a bound of its rounding for each column v of ``V``, both of shape (k,)."""
        with np.errstate(over="ignore"):  # caught below
            if self._own is None:
                terms = V * self(V)
                values, magnitudes = terms.sum(axis=0), np.abs(terms).sum(axis=0)
            else:
                values = self._ask(self._own, V)
                magnitudes = np.abs(values)
        if not np.isfinite(values).all():
            raise NonFiniteProduct
        return values, self.eps * magnitudes

    def recorded_forms(self, name: str, vectors: Callable[[], Array]) -> tuple[Array, Array]:
        """Return what :meth:`evaluate` does, as a unit of the run; only if there is none yet are vectors made."""
        values, rounding = self.record.unit(name, self, lambda: self.evaluate(vectors()))
        return values, rounding

    def _ask(self, quadratic_form: Callable[[Any], Any], V: Array) -> Array:
        if V.shape[1] > self.remaining or self.time_is_up:
            raise BudgetSpent
        values = np.array(quadratic_form(np.array(V, dtype=self.dtype, order="F")))
        self.num_products += V.shape[1]
        if values.shape != V.shape[1:] or values.dtype.kind not in "fiu":
            found = f"{values.dtype} {values.shape}"
            raise ValueError(f"A.quadratic_form must return {V.shape[1]} real values, got {found}")
        return values.astype(np.float64)
