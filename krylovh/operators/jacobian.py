"""The Jacobian of the outputs with respect to theta, for all samples at once."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from krylovh.objective import Objective
from krylovh.operators.passes import Passes

Array = NDArray[Any]

__all__ = ["JacobianOperator"]


class JacobianOperator(LinearOperator):  # type: ignore[misc]
    """``J = dz_L/dtheta``, shape (N*C, P): row ``n*C + c`` is the gradient of output c for sample n.

    Neither sample weights nor the reduction enter: with Q the second derivatives of the loss,
    ``J.T @ Q @ J / objective.total`` is the Gauss-Newton matrix without its regulariser.  ``J @ v`` is a forward pass
    (2 matrix products per dense edge), ``J.T @ u`` a backward pass.  A product with k vectors holds N*C*k numbers.

    Parameters
    ----------
    objective : Objective

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> J = JacobianOperator(Objective(net, [[1.0], [2.0]], [0.0, 0.0], loss="squared_error"))
    >>> J @ np.eye(2)
    array([[3., 2.],
           [6., 4.]])
    >>> J.T @ np.ones(2)
    array([9., 6.])
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        num_outputs = objective.net.widths[-1]
        super().__init__(objective.dtype, (objective.num_samples * num_outputs, objective.num_parameters))
        first = objective.first_own_sample
        self._own_rows = slice(first * num_outputs, (first + objective.num_own_samples) * num_outputs)
        self._passes = Passes(objective, gauss_newton=True)
        self._lock = threading.Lock()
        self._num_products = 0

    @property
    def num_products(self) -> int:
        """Applications of J or its transpose to one vector so far."""
        return self._num_products

    def _matvec(self, v: Array) -> Array:
        return self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]

    def _rmatvec(self, u: Array) -> Array:
        return self._rmatmat(np.asarray(u).reshape(-1, 1))[:, 0]

    def _matmat(self, V: Array) -> Array:
        return self._in_blocks(V, self.shape[0], self._forward)

    def _rmatmat(self, U: Array) -> Array:
        return self._in_blocks(U, self.shape[1], self._backward)

    def _in_blocks(self, V: Array, num_rows: int, apply: Any) -> Array:
        V = np.asarray(V)
        if V.dtype.kind == "c":
            return self._in_blocks(V.real, num_rows, apply) + 1j * self._in_blocks(V.imag, num_rows, apply)
        if V.dtype.kind not in "fiub":
            raise TypeError(f"vectors must be real or complex numbers, got dtype {V.dtype}")
        out = np.empty((num_rows, V.shape[1]), self.dtype, order="F")
        block = self._passes.block
        for start in range(0, V.shape[1], block):
            out[:, start : start + block] = apply(V[:, start : start + block])
        with self._lock:
            self._num_products += V.shape[1]
        return out

    def _forward(self, V: Array) -> Array:
        rows = np.require(V.T, self.dtype, ["C", "A", "W"])
        outputs = np.zeros((self.shape[0], len(rows)), self.dtype)

        def of_own_samples(outputs: Array) -> None:
            outputs[self._own_rows] = self._passes.jacobian(rows).transpose(0, 2, 1).reshape(-1, len(rows))

        self.objective.sum_over_ranks(outputs, of_own_samples)
        return outputs

    def _backward(self, U: Array) -> Array:
        objective, k = self.objective, U.shape[1]
        by_sample = U[self._own_rows].reshape(objective.num_own_samples, objective.net.widths[-1], k).transpose(0, 2, 1)
        aligned = np.require(by_sample, self.dtype, ["C", "A", "W"])  # (N, k, C)
        out = np.empty((k, self.shape[1]), self.dtype)

        def over_own_samples(out: Array) -> None:
            out[:] = self._passes.jacobian_transposed(aligned)

        objective.sum_over_ranks(out, over_own_samples)
        return out.T

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<JacobianOperator of {self.objective!r}>"
