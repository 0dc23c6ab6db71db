"""The Hessian, the Gauss-Newton matrix and their difference, seen through products.

All are symmetric SciPy LinearOperators of order P = ``objective.num_parameters`` and cost, per product and dense edge,
6 (Hessian and difference) or 4 matrix products of samples with weights.  A block of vectors goes through the net
together (``_matmat``), which is cheaper than its vectors one by one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.sparse.linalg import LinearOperator

import krylovh.kernels as kernels
from krylovh.objective import Chunk, Objective
from krylovh.operators.passes import OutputCurvature, Passes, Tables
from krylovh.operators.real_symmetric import RealSymmetricOperator

if TYPE_CHECKING:
    from krylovh.operators.blocks import BlockOperator

Array = NDArray[Any]
T = TypeVar("T")

__all__ = ["CurvatureOperator", "DampedOperator", "GaussNewtonOperator", "HessianOperator", "ResidualOperator"]


class CurvatureOperator(RealSymmetricOperator):
    """A symmetric matrix of second derivatives as a LinearOperator; use one of its subclasses."""

    _gauss_newton = False
    _has_ridge = True

    def __init__(self, objective: Objective, *, accumulation: DTypeLike | None = None) -> None:
        super().__init__(objective.dtype, objective.num_parameters)
        accumulation = objective.dtype if accumulation is None else np.dtype(accumulation)
        if accumulation not in (objective.dtype, np.float64):
            raise ValueError(f"accumulation must be {objective.dtype} or float64, got {accumulation}")
        self.objective = objective
        self._passes = Passes(objective, gauss_newton=self._gauss_newton, float64_sums=accumulation == np.float64)
        has_ridge = self._has_ridge and objective.adds_ridge
        self._l2 = (objective.l2 if has_ridge else np.empty(0)).astype(objective.dtype)

    def agree(self, value: T) -> T:
        """Return what :meth:`krylovh.Objective.agree` makes of a value."""
        return self.objective.agree(value)

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

    def block(self, layer_a: int, layer_b: int) -> "BlockOperator":
        """Return the rows of layer ``layer_a``'s parameters and the columns of layer ``layer_b``'s, by number 1..L.

        Only the passes that the block needs are made: from layer b up, and back down to layer a.

        Examples
        --------
        >>> from krylovh import Network
        >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
        >>> H = HessianOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"))
        >>> H.block(1, 2) @ np.ones(1)
        array([11.])
        """
        from krylovh.operators.blocks import BlockOperator, parameters_of_layer

        net = self.objective.net
        return BlockOperator(self, parameters_of_layer(net, layer_a), parameters_of_layer(net, layer_b))

    def submatrix(self, index: ArrayLike | Sequence[int]) -> "BlockOperator":
        """Return the symmetric sub-matrix of some parameters: positions in theta, or a mask of shape (P,).

        Weight matrices without any chosen parameter, and layers whose derivatives are not needed, are left out of the
        passes.

        Examples
        --------
        >>> from krylovh import Network
        >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
        >>> H = HessianOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"))
        >>> H.submatrix([1]) @ np.ones(1)
        array([4.])
        """
        from krylovh.operators.blocks import BlockOperator, positions

        chosen = positions("index", index, self.objective.num_parameters)
        return BlockOperator(self, chosen, chosen)

    def quadratic_form(self, V: ArrayLike) -> NDArray[np.float64]:
        """Return ``v' A v`` for each column of ``V`` (P, k), shape (k,), without a backward pass.

        Half the cost of a product: 3 matrix products per dense edge (2 for Gauss-Newton), 1 for an edge out of the
        input.  Sums over samples are float64 whatever the dtype.

        Examples
        --------
        >>> from krylovh import Network
        >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
        >>> H = HessianOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"))
        >>> H.quadratic_form(np.eye(2))
        array([9., 4.])
        """
        V = np.asarray(V)
        if V.shape[:1] != self.shape[:1] or V.ndim != 2:
            raise ValueError(f"V must have shape ({self.shape[0]}, k), got {V.shape}")
        if V.dtype.kind not in "fiub":
            raise TypeError(f"vectors must be real numbers, got dtype {V.dtype}")
        rows, block = self._rows(V), self._passes.block

        def over_own_samples(values: Array) -> None:
            for start in range(0, len(rows), block):
                part = rows[start : start + block]
                values[start : start + block] = self._passes.quadratic_forms(part, self._output_curvature)
            if self._l2.size:
                l2 = np.broadcast_to(self._l2, rows.shape[1:])
                values += np.einsum("kp,p,kp->k", rows, l2, rows, dtype=np.float64)

        values = np.empty(len(rows))
        self.objective.sum_over_ranks(values, over_own_samples)
        self._count(len(rows))
        return values

    def _output_curvature(self, chunk: Chunk) -> OutputCurvature:
        """Return which second derivative of the loss with respect to the outputs stands in the middle."""
        q, scale = chunk.linearization[4:]
        return self.objective.targets.code, q, scale

    def _rows(self, V: Array) -> Array:
        # (k, n), row by row: a Fortran-ordered block of the right dtype is used as it is
        # (aligned and writable too, so that kernels are compiled for one kind of array)
        return np.require(V.T, self.dtype, ["C", "A", "W"])

    def _multiply(self, V: Array) -> Array:
        rows = self._rows(V)
        out = np.empty_like(rows)
        self._apply(rows, out)
        return out.T

    def _apply(self, rows: Array, out: Array, tables: Tables | None = None) -> None:
        """Write the products with the rows (k, P) to ``out``."""
        block = self._passes.block

        def over_own_samples(out: Array) -> None:
            for start in range(0, len(rows), block):
                part = slice(start, start + block)
                self._passes.multiply(rows[part], out[part], self._output_curvature, self._l2, tables)

        self.objective.sum_over_ranks(out, over_own_samples)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.objective!r}>"


class HessianOperator(CurvatureOperator):
    """The exact Hessian of an objective, regulariser included.

    Parameters
    ----------
    objective : Objective
    accumulation : float32 or float64, optional
        What sums over samples are added up in; the objective's dtype if not given.  With float64, products in float32
        keep the accuracy of float32 for any number of samples.

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
    accumulation : float32 or float64, optional
        See :class:`HessianOperator`.

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


class ResidualOperator(CurvatureOperator):
    """What the Gauss-Newton matrix drops of the Hessian: ``S = H - G``, the second derivatives of the net's outputs.

    S is ``sum_n sum_c (dl_n/dz_c) d2z_c/dtheta2 / total``.  The regulariser belongs to H and G alike, not to S.

    Parameters
    ----------
    objective : Objective
    accumulation : float32 or float64, optional
        See :class:`HessianOperator`.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> S = ResidualOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    >>> S @ np.eye(2)
    array([[0., 5.],
           [5., 0.]])
    """

    _has_ridge = False

    def _output_curvature(self, chunk: Chunk) -> OutputCurvature:
        q, scale = chunk.linearization[4:]
        return kernels.NO_CURVATURE, q, scale


class DampedOperator(LinearOperator):  # type: ignore[misc]
    """``A + damping * I`` for a curvature operator A."""

    def __init__(self, operator: CurvatureOperator | RealSymmetricOperator, damping: float) -> None:
        if not np.isfinite(damping):
            raise ValueError(f"damping must be finite, got {damping}")
        super().__init__(operator.dtype, operator.shape)
        self.operator = operator
        self.damping = float(damping)

    @property
    def num_products(self) -> int:
        """Applications of the underlying operator so far."""
        return self.operator.num_products

    def agree(self, value: T) -> T:
        """Return what the underlying operator's objective makes of a value; see :meth:`krylovh.Objective.agree`."""
        return self.operator.agree(value)

    def quadratic_form(self, V: ArrayLike) -> NDArray[np.float64]:
        """Return ``v' (A + damping I) v`` for each column of ``V``; see :meth:`CurvatureOperator.quadratic_form`."""
        V = np.asarray(V)
        values = self.operator.quadratic_form(V)
        return np.asarray(values + self.damping * np.einsum("pk,pk->k", V, V, dtype=np.float64))

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
