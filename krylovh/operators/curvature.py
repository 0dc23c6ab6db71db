"""The Hessian and the Gauss-Newton matrix of an objective, seen through products.

Both are symmetric SciPy LinearOperators of order P = ``objective.num_parameters`` and cost, per product and dense edge,
6 or 4 matrix products of samples with weights.  A block of vectors goes through the net together (``_matmat``), which
is cheaper than its vectors one by one.
"""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

import krylovh.kernels as kernels
from krylovh.objective import Objective
from krylovh.threads import parallel_region

Array = NDArray[Any]

BLOCK = 16  # vectors that go through the net together at most: wider brings nothing, and costs memory

__all__ = ["CurvatureOperator", "GaussNewtonOperator", "HessianOperator"]


class _Workspace:
    """Scratch of one product with k vectors, allocated once and used by one call at a time."""

    def __init__(self, objective: Objective, k: int, gauss_newton: bool) -> None:
        net, lanes, dtype = objective.net, objective.lanes, objective.dtype
        self.tile = objective.tile_rows(k)
        self.packed = np.empty(k * net.num_parameters if k > 1 else 0, dtype)
        self.twin = np.empty(k * net._twin_size if k > 1 else 0, dtype)
        self.direct = np.empty((lanes, k * net.num_parameters), dtype)
        separate = k > 1 and not gauss_newton
        self.cross = np.empty((lanes, k * net._twin_size), dtype) if separate else self.direct
        self.ra, self.rz, self.rg = np.empty((3, lanes, self.tile * k * net.num_units), dtype)
        self.started = np.zeros((lanes, net.depth + 1), np.int8)


class CurvatureOperator(LinearOperator):  # type: ignore[misc]
    """A symmetric matrix of second derivatives as a LinearOperator; use one of its subclasses."""

    _gauss_newton = False

    def __init__(self, objective: Objective) -> None:
        n = objective.num_parameters
        super().__init__(objective.dtype, (n, n))
        self.objective = objective
        self._lock = threading.Lock()
        self._num_products = 0
        self._idle: dict[int, list[_Workspace]] = {}
        net = objective.net
        self._single_edges = net._edges.copy()
        self._single_edges[:, 2] = self._single_edges[:, 1]  # for one vector the twin layout is that of theta
        self._l2 = objective.l2.astype(objective.dtype)

    @property
    def num_products(self) -> int:
        """Applications to one vector so far; a block of k counts k."""
        return self._num_products

    def damped(self, damping: float) -> "DampedOperator":
        """Return ``A + damping * I``.

        Examples
        --------
        >>> from krylovh import Network
        >>> net = Network((1, 1), "identity", bias=False)
        >>> H = HessianOperator(Objective(net, [[2.0]], [0.0], loss="squared_error"))
        >>> H.damped(0.5) @ np.ones(1)
        array([4.5])
        """
        return DampedOperator(self, damping)

    def _matvec(self, v: Array) -> Array:
        return self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V)
        if V.dtype.kind == "c":
            return self._matmat(V.real) + 1j * self._matmat(V.imag)
        if V.dtype.kind not in "fiub":
            raise TypeError(f"vectors must be real or complex numbers, got dtype {V.dtype}")
        # (k, n), row by row: a Fortran-ordered block of the right dtype is used as it is
        # (aligned and writable too, so that kernels are compiled for one kind of array)
        rows = np.require(V.T, self.dtype, ["C", "A", "W"])
        out = np.empty_like(rows)
        for start in range(0, len(rows), BLOCK):
            self._apply(rows[start : start + BLOCK], out[start : start + BLOCK])
        with self._lock:
            self._num_products += len(rows)
        return out.T

    def _rmatvec(self, v: Array) -> Array:
        return self._matvec(v)

    def _rmatmat(self, V: Array) -> Array:
        return self._matmat(V)

    def _adjoint(self) -> "CurvatureOperator":
        return self

    _transpose = _adjoint

    def _apply(self, V: Array, out: Array) -> None:
        objective, k = self.objective, len(V)
        work = self._take(k)
        layers, edges, theta = objective.network_arguments
        packed, twin = (work.packed, work.twin) if k > 1 else (V[0], V[0])
        for chunk in objective.chunks():
            with parallel_region(objective.lanes) as parallel:
                kernels.curvature_product(
                    objective.lanes, parallel, work.tile, layers, edges if k > 1 else self._single_edges, theta,
                    *objective.data_of(chunk), objective.targets.code, *chunk.linearization,
                    self._gauss_newton, k, V, packed, twin, work.direct, work.cross,
                    work.ra, work.rz, work.rg, work.started,
                    chunk.start == 0, chunk.stop == objective.num_samples, objective.total, self._l2, out,
                )  # fmt: skip
        with self._lock:
            self._idle.setdefault(k, []).append(work)

    def _take(self, k: int) -> _Workspace:
        """Take scratch for one call: threads that share the operator never share it."""
        with self._lock:
            for other in [size for size in self._idle if size != k]:
                del self._idle[other]  # scratch of a width that is no longer used
            idle = self._idle.get(k)
            if idle:
                return idle.pop()
        return _Workspace(self.objective, k, self._gauss_newton)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.update(_lock=None, _idle={})
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.objective!r}>"


class HessianOperator(CurvatureOperator):
    """The exact Hessian of an objective, regulariser included.

    Parameters
    ----------
    objective : Objective

    Raises
    ------
    FloatingPointError
        At the first product, if loss or gradient are not finite at theta.

    References
    ----------
    Pearlmutter (1994), Fast exact multiplication by the Hessian.

    Examples
    --------
    The net x w1 w2 on one sample with loss 1/2 (w1 w2 - t)^2 has Hessian [[b^2, 2ab - t], [2ab - t, a^2]].

    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> H = HessianOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    >>> H @ np.eye(2)
    array([[ 9., 11.],
           [11.,  4.]])
    """


class GaussNewtonOperator(CurvatureOperator):
    """The generalised Gauss-Newton (outer-product) matrix ``sum_n J_n' Q_n J_n``, regulariser included.

    J_n is the Jacobian of the outputs z_L and Q_n the second derivative of the loss with respect to them.  It is
    positive semidefinite for every loss here.

    Parameters
    ----------
    objective : Objective

    References
    ----------
    Schraudolph (2002), Fast curvature matrix-vector products for second-order gradient descent.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> G = GaussNewtonOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    >>> G @ np.eye(2)
    array([[9., 6.],
           [6., 4.]])
    """

    _gauss_newton = True


class DampedOperator(LinearOperator):  # type: ignore[misc]
    """``A + damping * I`` for a curvature operator A."""

    def __init__(self, operator: CurvatureOperator, damping: float) -> None:
        if not np.isfinite(damping):
            raise ValueError(f"damping must be finite, got {damping}")
        super().__init__(operator.dtype, operator.shape)
        self.operator = operator
        self.damping = float(damping)

    @property
    def num_products(self) -> int:
        """Applications of the underlying operator so far."""
        return self.operator.num_products

    def _matvec(self, v: Array) -> Array:
        return self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V)
        shift = np.asarray(V, dtype=np.result_type(self.dtype, 1j) if V.dtype.kind == "c" else self.dtype)
        return np.asarray(self.operator.matmat(V) + self.dtype.type(self.damping) * shift)

    def _rmatvec(self, v: Array) -> Array:
        return self._matvec(v)

    def _rmatmat(self, V: Array) -> Array:
        return self._matmat(V)

    def _adjoint(self) -> "DampedOperator":
        return self

    _transpose = _adjoint
