"""XTrace and XNysTrace as methods: which products are made, and how many.

XTrace spends two products per probe, ``A w`` and ``A q``; XNysTrace, for positive semidefinite operators, one.
"""

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.scaling import binary_exponent, ldexp
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.progress import ProgressFunction
from krylovh.stochastic.confidence import Interval, mean_interval, scaled_back
from krylovh.stochastic.leave_one_out import leave_one_out_trace, nystrom_leave_one_out, range_basis
from krylovh.stochastic.probes import probe_block
from krylovh.stochastic.targets import Target, confirmed_batches

Array = NDArray[np.float64]

#: Probes of the first batch where a target is to be reached.
_FIRST_BATCH = 16

__all__ = ["XTrace"]


class XTrace:
    """Batches of probes that test each other; the last batch is the estimate.

    Parameters
    ----------
    operator : SymmetricOperator
    seed : int
    block_size : int
    nystrom : bool
        XNysTrace.

    Examples
    --------
    Three probes hold an operator of rank two.

    >>> method = XTrace(SymmetricOperator(np.diag([3.0, 2.0] + 18 * [0.0])), 0, 16, nystrom=False)
    >>> method.spend(6, lambda done, total: None)
    True
    >>> round(method.estimate()[0], 12)
    5.0
    """

    def __init__(self, operator: SymmetricOperator, seed: int, block_size: int, *, nystrom: bool) -> None:
        self.operator, self.seed, self.block_size, self.nystrom = operator, seed, block_size, nystrom
        self.cost = 1 if nystrom else 2  # products per probe
        self._purpose = "xnystrace" if nystrom else "xtrace"
        self._finished: tuple[float, float, Interval] | None = None
        self._forms, self._rounding = np.zeros(0), np.zeros(0)

    def estimate(self) -> tuple[float, float, Interval]:
        """Return value, standard error and interval of the last finished batch.

        If there is none, those of Hutchinson's method from the products that were finished.
        """
        return mean_interval(self._forms, self._rounding) if self._finished is None else self._finished

    def spend(self, num_products: int, report: ProgressFunction) -> bool:
        """Make one batch; True."""
        self._batch(0, num_products // self.cost, report)
        return True

    def reach(self, target: Target, largest: float, report: ProgressFunction) -> bool:
        """Make batches until two of the same size reach the target; return False if they would cost too much."""
        last = self.operator.num_products + largest

        def reaches(first: int, size: int) -> bool:
            value, _, interval = self._batch(first, size, report)
            return target.reached(value, interval)

        return confirmed_batches(
            reaches,
            _FIRST_BATCH,
            2,
            lambda: (last - self.operator.num_products) // self.cost,
            lambda: self.operator.remaining < self.operator.n,
        )

    def _batch(self, first: int, size: int, report: ProgressFunction) -> tuple[float, float, Interval]:
        n, total = self.operator.n, size * self.cost
        W, Y = np.empty((n, size), order="F"), np.empty((n, size), order="F")
        for done in range(0, size, self.block_size):
            columns = slice(done, min(done + self.block_size, size))
            count = columns.stop - done
            options = {"seed": self.seed, "purpose": self._purpose}
            W[:, columns] = probe_block(n, first + done, count, distribution="gaussian", **options)  # type: ignore[arg-type]
            Y[:, columns] = self.operator.recorded(
                f"{self._purpose}: {first + done} to {first + columns.stop}", W[:, columns]
            )
            if self._finished is None:
                self._add_forms(W[:, columns], Y[:, columns])
            report(columns.stop, total)
        exponent = binary_exponent(Y)
        ldexp(Y, -exponent, out=Y)
        if self.nystrom:
            value, error, interval = nystrom_leave_one_out(W, Y, self.operator.eps).estimate()
        else:
            value, error, interval = self._xtrace(
                W, Y, exponent, report, f"{self._purpose}: range of {first} to {first + size}"
            )
        self._finished = scaled_back((value, error, interval), exponent)
        return self._finished

    def _xtrace(
        self, W: Array, Y: Array, exponent: int, report: ProgressFunction, name: str
    ) -> tuple[float, float, Interval]:
        eps, size = self.operator.eps, Y.shape[1]
        Q, R = range_basis(Y, eps)
        AQ = np.empty_like(Q, order="F")
        for done in range(0, Q.shape[1], self.block_size):
            columns = slice(done, min(done + self.block_size, Q.shape[1]))
            product = self.operator.recorded(f"{name}, from {done}", Q[:, columns])
            AQ[:, columns] = ldexp(product, -exponent)
            report(size + columns.stop, 2 * size)
        if R is not None:
            return leave_one_out_trace(W, Q, R, AQ, eps).estimate()
        # the range was found: no probe tells the others anything new, and what is left is rounding of the products
        value = float(np.einsum("ij,ij->", Q, AQ))
        slack = max(10, size) * eps * float(np.linalg.norm(AQ, axis=0).sum() + np.linalg.norm(Y) * np.sqrt(len(Y)))
        return value, 0.0, (value - slack, value + slack)

    def _add_forms(self, W: Array, Y: Array) -> None:
        terms = W * Y
        self._forms = np.append(self._forms, terms.sum(axis=0))
        self._rounding = np.append(self._rounding, self.operator.eps * np.abs(terms).sum(axis=0))
