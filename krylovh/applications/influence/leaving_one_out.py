"""Leave-one-out: nets really retrained without single samples, the truth that influence predicts."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.influence.first_order import influence
from krylovh.applications.influence.left_out_data import altered, checked_rows
from krylovh.applications.influence.newton import Descent, newton_cg
from krylovh.applications.influence.quantities import On, Quantities
from krylovh.objective import Objective
from krylovh.progress import Progress, reporting
from krylovh.results import InfluenceResult, LeaveOneOutResult, Status

Array = NDArray[np.float64]

__all__ = ["leave_one_out"]


def leave_one_out(
    objective: Objective,
    rows: ArrayLike,
    *,
    on: On = "parameters",
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    prediction: InfluenceResult | None = None,
    rtol: float = 1e-6,
    preconditioner: Any = None,
    max_products: int | None = None,
    progress: Progress = False,
) -> LeaveOneOutResult:
    """Retrain without single samples, from theta and by Newton's method, beside what influence predicts.

    Parameters
    ----------
    objective : Objective
        At a minimum; changes are against the quantities at its theta.
    rows : array_like
        Positions of samples, or a mask (N,); each is left out alone.
    on, X_test, y_test
        As of :func:`influence`.
    prediction : InfluenceResult, optional
        For the same rows and quantities; by default it is computed here, with its warnings.
    rtol : float
        A net is retrained when the gradient of its objective is at most rtol times that at theta.
    preconditioner : LinearOperator, optional
        Near the inverse of the Hessian, for all solves.
    max_products : int, optional
        Budget of products of retraining in all.
    progress : bool or callable
        True for a bar on standard error, or a function of (rows retrained, rows).

    Returns
    -------
    LeaveOneOutResult
        With the correlations ``pearson`` and ``spearman``.  Rows that were not retrained are NaN.

    Raises
    ------
    ValueError, TypeError
        Where an argument makes no sense.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [3.0], bias=False)
    >>> objective = Objective(net, np.ones((3, 1)), [0.0, 3.0, 6.0], loss="squared_error")
    >>> truth = leave_one_out(objective, [0, 2])
    >>> truth.actual.round(12), truth.predicted.round(12)
    (array([[ 1.5],
           [-1.5]]), array([[ 1.],
           [-1.]]))
    """
    index = checked_rows("rows", rows, objective.num_samples)
    if objective.num_samples < 2:
        raise ValueError("objective must have at least two samples, got 1")
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must be in (0, 1), got {rtol}")
    quantities = Quantities(objective, on, X_test, y_test)
    if prediction is None:
        prediction = influence(objective, index, on=on, X_test=X_test, y_test=y_test, preconditioner=preconditioner)
    if not (
        prediction.on == on
        and np.array_equal(prediction.rows, index)
        and prediction.values.shape == (len(index), quantities.size)
    ):
        raise ValueError(
            f"prediction must be of the same rows on {on!r} with shape ({len(index)}, {quantities.size}), "
            f"got {prediction.on!r} with shape {prediction.values.shape}"
        )
    theta = objective.net.theta.astype(np.float64)
    before = quantities.at(theta)
    actual = np.full((len(index), quantities.size), np.nan)
    norms = np.full(len(index), np.nan)
    statuses: list[Status] = []
    products = gradients = 0
    with reporting(progress, "leave-one-out") as report:
        try:
            for i, row in enumerate(index):
                descent = Descent.at(altered(objective, np.array([row])), theta)
                left = None if max_products is None else max_products - products
                status = newton_cg(
                    descent, rtol * descent.gradient_norm, preconditioner=preconditioner, max_products=left
                )
                products, gradients = products + descent.num_products, gradients + descent.num_gradients
                if status == Status.INTERRUPTED:
                    raise KeyboardInterrupt
                norms[i] = descent.gradient_norm
                if status in (Status.CONVERGED, Status.STAGNATED):
                    actual[i] = quantities.at(descent.theta) - before
                statuses.append(status)
                report(i + 1, len(index))
        except KeyboardInterrupt:
            statuses += [Status.INTERRUPTED] * (len(index) - len(statuses))
    return LeaveOneOutResult(
        rows=index,
        actual=actual,
        predicted=prediction.values,
        on=on,
        gradient_norms=norms,
        statuses=tuple(statuses),
        num_products=products,
        num_gradients=gradients,
        status=next((status for status in statuses if status != Status.CONVERGED), Status.CONVERGED),
    )
