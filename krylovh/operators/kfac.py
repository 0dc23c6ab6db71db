"""Kronecker-factored approximate curvature: one product ``B (x) A`` for each layer, with its exact inverse.

For one sample the block of the Gauss-Newton matrix that belongs to layer l is ``(D_n' D_n) (x) (z_n z_n')``: z_n is
what the layer's parameters multiply (the outputs of all dense sources side by side, then 1 for the bias), and
``D_n = R' dz_L/da_l`` has one row for each output, with Q_n = R R' the curvature of the loss.  The mean of such
products is replaced by the product of means:

    A = sum_n w_n z_n z_n' / sum_n w_n,        B = sum_n w_n D_n' D_n / total.

``total`` is what the objective divides by (sum_n w_n for a mean, 1 for a sum), so A is a mean always and B scales like
the objective.  This is exact for one sample, and where D_n is the same for all, as in a linear net with squared error.
Blocks that couple two layers are zero.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from krylovh.network import Network
from krylovh.objective import Objective
from krylovh.operators.curvature import DampedOperator
from krylovh.operators.real_symmetric import RealSymmetricOperator
from krylovh.operators.samples import tiles

Array = NDArray[np.float64]
Factors = Literal["exact", "empirical"]
T = TypeVar("T")

__all__ = ["InverseKFACOperator", "KFACOperator", "KroneckerBlock"]


@dataclass(frozen=True)
class KroneckerBlock:
    """The curvature ``B (x) A`` of one layer's parameters, taken as a matrix (units, inputs)."""

    layer: int
    A: Array  # (a, a): second moments of the inputs, the constant 1 of a bias last
    B: Array  # (d, d): second moments of the derivatives with respect to the layer's pre-activations
    positions: NDArray[np.intp]  # (d, a): where in theta the entries of that matrix are


class KFACOperator(RealSymmetricOperator):
    """The Kronecker-factored approximation of the Gauss-Newton matrix, regulariser included.

    Factors are made at the first use, in float64 whatever the objective's dtype, and products are float64.

    Parameters
    ----------
    objective : Objective
    factors : {"exact", "empirical"}
        Where B comes from: the exact expectation over the model's own targets, by C backward passes for each sample, or
        the gradients at the given targets, by none (an approximation of the empirical Fisher matrix).

    Raises
    ------
    FloatingPointError
        At the first use, if loss or gradient are not finite at theta.

    References
    ----------
    Martens and Grosse (2015), Optimizing neural networks with Kronecker-factored approximate curvature.
    Botev, Ritter and Barber (2017), Practical Gauss-Newton optimisation for deep learning.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> K = KFACOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    >>> K @ np.eye(2)
    array([[9., 0.],
           [0., 4.]])
    >>> K.inverse(1.0) @ np.array([10.0, 10.0])
    array([1., 2.])
    """

    def __init__(self, objective: Objective, *, factors: Factors = "exact") -> None:
        if factors not in get_args(Factors):
            raise ValueError(f"factors must be one of {get_args(Factors)}, got {factors!r}")
        super().__init__(np.float64, objective.num_parameters)
        self.objective = objective
        self.factors = factors
        self._blocks: tuple[KroneckerBlock, ...] | None = None

    def agree(self, value: T) -> T:
        """Return what :meth:`krylovh.Objective.agree` makes of a value."""
        return self.objective.agree(value)

    @property
    def blocks(self) -> tuple[KroneckerBlock, ...]:
        """Factors of all layers that have parameters."""
        if self._blocks is None:
            self._blocks = self._made()
        return self._blocks

    def _made(self) -> tuple[KroneckerBlock, ...]:
        net = self.objective.net
        layout = [(l, positions_of_layer(net, l)) for l in range(1, net.depth + 1)]
        layout = [(l, positions) for l, positions in layout if positions.size]
        orders = [order for _, positions in layout for order in positions.shape[::-1]]  # of A and B, layer by layer
        sums = np.zeros(sum(order * order for order in orders) + 1)  # and the weight of the samples
        *factors, weight = np.split(sums, np.cumsum([order * order for order in orders]))
        factors = [factor.reshape(order, order) for factor, order in zip(factors, orders, strict=True)]
        A, B = factors[::2], factors[1::2]
        self.objective.sum_over_ranks(sums, lambda sums: self._add_up(layout, A, B, weight))
        return tuple(
            KroneckerBlock(l, symmetrized(a / weight[0]), symmetrized(b / self.objective.total), positions)
            for (l, positions), a, b in zip(layout, A, B, strict=True)
        )

    def _add_up(
        self, layout: list[tuple[int, NDArray[np.intp]]], A: list[Array], B: list[Array], weight: Array
    ) -> None:
        """Add the own samples' factors and weights."""
        directions = self.objective.net.widths[-1] if self.factors == "exact" else 1
        for samples in tiles(self.objective, directions, own=True):
            weight += samples.weights.sum()
            if self.factors == "exact":
                derivatives = samples.backward(samples.curvature_root(), {}, lowest=1)
            for i, (l, _) in enumerate(layout):
                inputs = samples.inputs(l)
                A[i] += inputs.T @ (samples.weights[:, None] * inputs)
                if self.factors == "exact":
                    G = (samples.slope[l][:, None, :] * derivatives[l]).reshape(-1, len(B[i]))
                else:  # g holds w_n, and w_n is wanted in the outer product
                    root = np.sqrt(samples.weights)[:, None]
                    G = np.divide(samples.g[l], root, out=np.zeros_like(samples.g[l]), where=root > 0)
                B[i] += G.T @ G

    def damped(self, damping: float) -> DampedOperator:
        """Return ``K + damping * I``."""
        return DampedOperator(self, damping)

    def inverse(self, damping: float = 0.0) -> "InverseKFACOperator":
        """Return the exact inverse of ``K + diag(l2) + damping * I``: positive definite, a preconditioner.

        Costs the eigenvalues of all factors, and a product four small matrix products per layer.

        Parameters
        ----------
        damping : float
            At least 0; where the objective's l2 does not reach every parameter, more.

        Raises
        ------
        ValueError
            If some parameter has neither l2 nor damping, or l2 is not the same for all units of a layer.  A scalar, and
            a multiple of ``net.weight_mask()``, are: the inverse keeps to the factors only then.
        """
        return InverseKFACOperator(self, damping)

    def logdet(self, damping: float = 0.0) -> float:
        """Return ``log det(K + diag(l2) + damping * I)``; see :meth:`inverse` for what l2 may be.

        Examples
        --------
        >>> from krylovh import Network
        >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
        >>> K = KFACOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"))
        >>> bool(np.isclose(K.logdet(1.0), np.log(50.0)))
        True
        """
        total = 0.0
        for block in self.blocks:
            ridge = self.ridge_of(block, damping)
            _, _, ratios = simultaneous_diagonalization(block, ridge)
            total += float(np.log1p(ratios).sum() + len(block.B) * np.log(ridge).sum())
        return total

    def eigenvalues(self) -> Array:
        """Return all eigenvalues in ascending order, shape (P,); see :meth:`inverse` for what l2 may be."""
        found = []
        for block in self.blocks:
            columns = self._l2_of_inputs(block)
            betas = np.linalg.eigvalsh(block.B)
            if columns.min() == columns.max():
                found.append(np.outer(betas, np.linalg.eigvalsh(block.A)).ravel() + columns[0])
            else:  # B (x) A + I (x) D falls apart into beta A + D
                found.extend(np.linalg.eigvalsh(beta * block.A + np.diag(columns)) for beta in betas)
        return np.sort(np.concatenate(found))

    def diagonal(self) -> Array:
        """Return the diagonal, shape (P,)."""
        diagonal = self._l2.copy()
        for block in self.blocks:
            diagonal[block.positions] += np.outer(np.diag(block.B), np.diag(block.A))
        return diagonal

    def trace(self) -> float:
        """Return the trace."""
        return float(self._l2.sum() + sum(np.trace(block.B) * np.trace(block.A) for block in self.blocks))

    @property
    def _l2(self) -> Array:
        l2 = self.objective.l2
        return np.broadcast_to(l2, self.shape[:1]).copy() if l2.size else np.zeros(self.shape[0])

    def _l2_of_inputs(self, block: KroneckerBlock) -> Array:
        """Return l2 on the weights of each input of a layer, (a,), which must be the same for all units."""
        l2 = self._l2[block.positions]
        differs = np.argwhere(l2 != l2[0])
        if differs.size:
            i, j = differs[0]
            raise ValueError(
                "l2 must be the same for all units of a layer, such as a scalar or a multiple of net.weight_mask(); "
                f"got {l2[0, j]:.6g} and {l2[i, j]:.6g} for units 0 and {i} of layer {block.layer}"
            )
        return np.asarray(l2[0])

    def ridge_of(self, block: KroneckerBlock, damping: float) -> Array:
        """Return l2 + damping on the weights of each input of a layer, (a,); ValueError unless all are positive."""
        if not (np.isfinite(damping) and damping >= 0):
            raise ValueError(f"damping must be finite and at least 0, got {damping}")
        ridge = self._l2_of_inputs(block) + damping
        if ridge.min() <= 0:
            raise ValueError(f"damping must be above 0 where parameters have no l2, got {damping}: no inverse is sure")
        return ridge

    def _multiply(self, V: NDArray[Any]) -> Array:
        rows = np.asarray(V.T, dtype=np.float64)
        out = self._l2 * rows
        for block in self.blocks:
            out[:, block.positions] += block.B @ (rows[:, block.positions] @ block.A)
        return out.T

    def __repr__(self) -> str:
        return f"<KFACOperator of {self.objective!r}>"


class InverseKFACOperator(RealSymmetricOperator):
    """The inverse of ``K + diag(l2) + damping * I`` for a :class:`KFACOperator` K; made by its ``inverse``."""

    def __init__(self, operator: KFACOperator, damping: float) -> None:
        super().__init__(np.float64, operator.shape[0])
        self.damping = float(damping)
        self._blocks = [
            (block.positions, *simultaneous_diagonalization(block, operator.ridge_of(block, damping)))
            for block in operator.blocks
        ]

    def _multiply(self, V: NDArray[Any]) -> Array:
        rows = np.asarray(V.T, dtype=np.float64)
        out = np.empty_like(rows)
        for positions, U, X, ratios in self._blocks:
            coefficients = U.T @ rows[:, positions] @ X
            coefficients /= 1.0 + ratios
            out[:, positions] = U @ coefficients @ X.T
        return out.T


def positions_of_layer(net: Network, layer: int) -> NDArray[np.intp]:
    """Return where a layer's parameters are in theta, (d, a): weights from all dense sources, then the bias."""
    columns = [
        np.arange(block.start, block.stop).reshape(block.shape[0], -1) for block in net.blocks if block.layer == layer
    ]
    return np.concatenate(columns, axis=1) if columns else np.empty((net.widths[layer], 0), np.intp)


def simultaneous_diagonalization(block: KroneckerBlock, ridge: Array) -> tuple[Array, Array, Array]:
    """Return U, X and ratios (d, a) with ``B = U beta U'``, ``X' A X = mu``, ``X' D X = I``, ``ratios = beta mu'``.

    D = diag(ridge).  In these bases ``B (x) A + I (x) D`` is diag(1 + ratios), and its inverse takes a matrix M to
    ``U ((U' M X) / (1 + ratios)) X'``.
    """
    root = np.sqrt(ridge)
    mu, Y = eigh(block.A / np.outer(root, root))
    beta, U = eigh(block.B)
    # both matrices are sums of squares: what is below 0 is rounding
    return U, Y / root[:, None], np.outer(np.maximum(beta, 0.0), np.maximum(mu, 0.0))


def symmetrized(M: Array) -> Array:
    return (M + M.T) / 2
