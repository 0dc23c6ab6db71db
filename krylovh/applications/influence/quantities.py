"""What is watched while samples are removed: parameters, losses of test samples, or predictions for them."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.influence.left_out_data import sample_gradients
from krylovh.objective import Objective
from krylovh.operators import JacobianOperator

Array = NDArray[np.float64]
On = Literal["parameters", "loss", "prediction"]

__all__ = ["On", "Quantities"]


class Quantities:
    """The quantities of an objective's net that influence is asked for.

    Parameters
    ----------
    objective : Objective
    on : {"parameters", "loss", "prediction"}
    X_test, y_test : array_like, optional
        Test samples for "loss", without weights or regulariser; for "prediction", inputs alone.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [2.0, 0.0])
    >>> objective = Objective(net, [[1.0]], [1.0], loss="squared_error")
    >>> Quantities(objective, "loss", [[1.0], [2.0]], [1.0, 1.0]).gradients()
    array([[1., 6.],
           [1., 3.]])
    """

    def __init__(
        self, objective: Objective, on: On, X_test: ArrayLike | None = None, y_test: ArrayLike | None = None
    ) -> None:
        if on not in get_args(On):
            raise ValueError(f"on must be one of {get_args(On)}, got {on!r}")
        if (X_test is None) != (on == "parameters"):
            raise ValueError(f"X_test must {'not ' if on == 'parameters' else ''}be given for on={on!r}")
        if (y_test is None) != (on != "loss"):
            raise ValueError(f"y_test must {'' if on == 'loss' else 'not '}be given for on={on!r}")
        self.on = on
        self.num_outputs = objective.net.widths[-1] if on == "prediction" else 1
        self.test: Objective | None = None
        self.size = objective.num_parameters
        if X_test is not None:
            y: Any = y_test
            if y is None:  # targets do not enter predictions; zero fits every loss
                softmax = objective.loss == "softmax_cross_entropy"
                y = (
                    np.zeros(len(np.asarray(X_test)), int)
                    if softmax
                    else np.zeros((len(np.asarray(X_test)), self.num_outputs))
                )
            try:
                self.test = Objective(
                    objective.net,
                    X_test,
                    y,
                    loss=objective.loss,
                    reduction="sum",
                    loss_options={"delta": objective.targets.delta} if objective.loss == "huber" else None,
                    dtype=objective.dtype,
                    memory_limit=objective.memory_limit,
                    threads=objective.threads,
                )
            except ValueError as error:
                raise ValueError(f"X_test and y_test do not fit the objective: {error}") from None
            self.size = self.test.num_samples * self.num_outputs

    def gradients(self) -> Array:
        """Return the gradients of all quantities as columns, shape (P, q); not for parameters."""
        assert self.test is not None
        if self.on == "loss":
            return np.concatenate([part for _, part in sample_gradients(self.test)]).T
        return np.asarray((JacobianOperator(self.test).T @ np.eye(self.size)), dtype=np.float64)

    def along(self, V: Array) -> Array:
        """Return the derivatives of all quantities along the columns of V (P, k), shape (k, q)."""
        if self.test is None:
            return np.array(V.T)
        if self.on == "loss":
            return np.concatenate([part @ V for _, part in sample_gradients(self.test)]).T
        return np.asarray((JacobianOperator(self.test) @ V).T, dtype=np.float64)

    def at(self, theta: Array) -> Array:
        """Return the quantities at other parameters, shape (q,)."""
        if self.test is None:
            return theta.astype(np.float64)
        if self.on == "prediction":
            return np.asarray(
                self.test.net.with_theta(theta).forward(np.asarray(self.test.X)).ravel(), dtype=np.float64
            )
        moved = self.test.at(theta)
        return np.array([moved.subset([n]).value() for n in range(moved.num_samples)])
