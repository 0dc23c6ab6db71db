"""Influence functions: what removing a sample does to a trained net, to first order.

Weakening sample i from its weight w_i to ``(1 - t) w_i`` moves a stationary theta, to first order in t, by
``t inv(H) b_i``, with b_i as in :mod:`krylovh.applications.influence.left_out_data`.  At t = 1 the sample is gone.  A
quantity with gradient q changes by ``q' inv(H) b_i``: one solve per row, ``inv(H) b_i``, or one per quantity,
``inv(H) q``, whichever is fewer.

References
----------
Cook and Weisberg (1982), Residuals and influence in regression.
Koh and Liang (2017), Understanding black-box predictions via influence functions.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.influence.left_out_data import checked_rows, removal_gradients
from krylovh.applications.influence.quantities import On, Quantities
from krylovh.checks import whole_number
from krylovh.krylov import block_cg
from krylovh.objective import Objective
from krylovh.operators import HessianOperator
from krylovh.progress import Progress, ProgressFunction, reporting
from krylovh.results import BlockSolveResult, InfluenceResult, Status

Array = NDArray[np.float64]

STATIONARY = 0.1  # largest remaining Newton step, in units of the influences, that is not warned of

__all__ = ["InfluenceWarning", "influence"]


class InfluenceWarning(UserWarning):
    """An assumption of influence functions does not hold, so that their values may mean little."""


def influence(
    objective: Objective,
    rows: ArrayLike,
    *,
    on: On = "parameters",
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    damping: float = 0.0,
    rtol: float = 1e-8,
    preconditioner: Any = None,
    max_products: int | None = None,
    block: int = 16,
    progress: Progress = False,
) -> InfluenceResult:
    """Return the first-order change of parameters, losses or predictions when single samples are REMOVED.

    A positive number says that the quantity grows without the sample: a sample with positive influence on a test loss
    is helpful.  The problem that is left after removal is the same objective on the other samples: for a mean the sum
    of their losses over *their* total weight, for a sum their sum; the regulariser stays as it is.  To first order

        theta_without_i - theta = inv(H + damping I) b_i,

        b_i = (w_i / W) (grad l_i - grad L / W)  for a mean,      b_i = w_i grad l_i  for a sum,

    with the data loss ``L = sum_n w_n l_n``, ``W = sum_n w_n``.  (The factor of Koh and Liang, inv(H) grad l_i / N, is
    that of a mean whose divisor N is kept; the two differ in the regulariser's part.)

    Parameters
    ----------
    objective : Objective
        At a minimum.
    rows : array_like
        Positions of samples, or a mask (N,).
    on : {"parameters", "loss", "prediction"}
        The parameters; the loss of each test sample (without weights and regulariser); or each output z_L for each test
        sample.
    X_test, y_test : array_like, optional
        Test samples: both for "loss", X_test alone for "prediction".
    damping : float
        At least 0; added to the Hessian's diagonal, for a Hessian that is not positive definite.
    rtol : float
        Of the solves.
    preconditioner : LinearOperator, optional
        Near the inverse of ``H + damping I``, as for :func:`cg`.
    max_products : int, optional
        Budget of products in all.
    block : int
        How many systems are solved out of one Krylov space; memory is some 8 ``block`` vectors of length P.
    progress : bool or callable
        True for a bar on standard error, or a function of (solves, solves in all).

    Returns
    -------
    InfluenceResult
        ``values`` (m, q), NaN where no solve was made.  Where the budget ended or Ctrl-C came, what was found is kept.

    Warns
    -----
    InfluenceWarning
        Where the gradient at theta is not near zero: the Newton step that remains changes the quantities by more than a
        tenth of what removing a sample does (root mean squares; a measure without units).  Where negative curvature was
        met, or a solve did not converge.

    Raises
    ------
    ValueError, TypeError
        Where an argument makes no sense.
    FloatingPointError
        If loss or gradient are not finite at theta.

    References
    ----------
    Koh and Liang (2017), Understanding black-box predictions via influence functions.

    Examples
    --------
    The mean of 0, 3 and 6 without the last is 1.5 less; the first-order change is two thirds of that.

    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [3.0], bias=False)
    >>> objective = Objective(net, np.ones((3, 1)), [0.0, 3.0, 6.0], loss="squared_error")
    >>> influence(objective, [2]).values.round(12)
    array([[-1.]])
    """
    index = checked_rows("rows", rows, objective.num_samples)
    quantities = Quantities(objective, on, X_test, y_test)
    if not 0 <= damping < np.inf:
        raise ValueError(f"damping must be finite and at least 0, got {damping}")
    block = whole_number("block", block, 1)
    gradient = objective.gradient().astype(np.float64)
    direct = on == "parameters" or len(index) <= quantities.size
    with reporting(progress, "influence") as report:
        solves = _Solves(objective, float(damping), rtol, preconditioner, max_products, block, report)
        if direct:
            # one system more: the Newton step that remains
            B = np.column_stack([part.T for _, part in removal_gradients(objective, index)] + [gradient[:, None]])
            X = solves.run(B)
            statuses = solves.statuses[:-1]
            values = quantities.along(X[:, :-1])
            remaining = -quantities.along(X[:, -1:])[0]
        else:
            X = solves.run(quantities.gradients())
            statuses = solves.statuses
            values = np.concatenate([part @ X for _, part in removal_gradients(objective, index)])
            remaining = -(gradient @ X)
    result = InfluenceResult(
        rows=index,
        values=values,
        on=on,
        num_outputs=quantities.num_outputs,
        damping=float(damping),
        gradient_norm=float(np.linalg.norm(gradient)),
        remaining_step=_share(remaining, values),
        negative_curvature=solves.lowest,
        rtol=rtol,
        num_products=solves.num_products,
        status=solves.status,
        statuses=tuple(statuses),
        mode="direct" if direct else "adjoint",
    )
    _warn(result)
    return result


class _Solves:
    """Systems with ``H + damping I``, block after block, until the budget ends."""

    def __init__(
        self,
        objective: Objective,
        damping: float,
        rtol: float,
        preconditioner: Any,
        max_products: int | None,
        block: int,
        report: ProgressFunction,
    ) -> None:
        H = HessianOperator(objective)
        self.A = H.damped(damping) if damping else H
        self.rtol = rtol
        self.preconditioner = preconditioner
        self.max_products = max_products
        self.block = block
        self.report = report
        self.num_products = 0
        self.lowest = float("nan")
        self.statuses: list[Status] = []

    @property
    def status(self) -> Status:
        return next((status for status in self.statuses if status != Status.CONVERGED), Status.CONVERGED)

    def run(self, B: Array) -> Array:
        """Return the solutions, NaN for those that were not reached."""
        k = B.shape[1]
        X = np.full(B.shape, np.nan)
        try:
            for start in range(0, k, self.block):
                part = slice(start, min(start + self.block, k))
                left = None if self.max_products is None else max(self.max_products - self.num_products, 0)
                found = block_cg(
                    self.A, B[:, part], rtol=self.rtol, preconditioner=self.preconditioner, max_products=left
                )
                self._take(found, X[:, part])
                if found.status in (Status.INTERRUPTED, Status.NONFINITE) or left == 0:
                    self.statuses += [found.status] * (k - len(self.statuses))
                    break
                self.report(len(self.statuses), k)
        except KeyboardInterrupt:
            self.statuses += [Status.INTERRUPTED] * (k - len(self.statuses))
        return X

    def _take(self, found: BlockSolveResult, X: Array) -> None:
        self.num_products += found.num_products
        for i, status in enumerate(found.statuses):
            if status == Status.CONVERGED or found.relative_residuals[i] < 1:
                X[:, i] = found.x[:, i]
        self.statuses += found.statuses
        if found.negative_curvature is not None:
            met = found.negative_curvature[:, np.isfinite(found.negative_curvature[0])]
            forms = np.einsum("pk,pk->k", met, self.A @ met)
            self.num_products += met.shape[1]
            self.lowest = float(np.fmin(self.lowest, forms.min()))


def _share(remaining: Array, values: Array) -> float:
    """Return the root mean square of what remains over that of the values; 0 / 0 is 0."""
    known = values[np.isfinite(values)]
    step = float(np.sqrt(np.mean(remaining**2)))
    scale = float(np.sqrt(np.mean(known**2))) if known.size else 0.0
    if step == 0.0:
        return 0.0
    return step / scale if scale > 0 else float("inf")


def _warn(result: InfluenceResult) -> None:
    """Complain of what does not hold."""
    if result.remaining_step > STATIONARY:
        warnings.warn(
            f"the gradient at theta is not near zero: |grad| = {result.gradient_norm:.2e}, and the Newton step that "
            f"remains changes the quantities by {result.remaining_step:.2e} of the influences, which must be at most "
            f"{STATIONARY}: train on",
            InfluenceWarning,
            stacklevel=3,
        )
    if np.isfinite(result.negative_curvature):
        warnings.warn(
            f"H + damping I has negative curvature {result.negative_curvature:.2e} at damping {result.damping:.2e}: "
            "theta is no minimum, and a larger damping or more training is needed",
            InfluenceWarning,
            stacklevel=3,
        )
    failed = [s for s in result.statuses if s not in (Status.CONVERGED, Status.NEGATIVE_CURVATURE)]
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(result.statuses)} solves did not converge to rtol {result.rtol:.1e}, the first "
            f"ended as {failed[0]} within {result.num_products} products in all",
            InfluenceWarning,
            stacklevel=3,
        )
