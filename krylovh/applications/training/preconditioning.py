"""Preconditioners for the inner solves: approximate inverses of the curvature plus a damping.

``"fisher"`` is that of Martens: the diagonal of the empirical Fisher matrix plus the damping, to the power of 3/4.
``"kfac"`` is the inverse of one Kronecker product per layer: dearer to make, and far closer to the curvature where
inputs of a layer are correlated.  ``"nystrom"`` takes out the largest eigenvalues, at the cost of some products.

References
----------
Martens (2010), Deep learning via Hessian-free optimization.
Martens and Grosse (2015), Optimizing neural networks with Kronecker-factored approximate curvature.
Frangella, Tropp and Udell (2023), Randomized Nystrom preconditioning.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import aslinearoperator

from krylovh.applications.training.curvature import Curvature
from krylovh.krylov import DiagonalPreconditioner, NystromPreconditioner
from krylovh.objective import Objective
from krylovh.operators import CurvatureOperator, GaussNewtonOperator, KFACOperator
from krylovh.operators.kfac import positions_of_layer
from krylovh.operators.samples import tiles
from krylovh.recording import generator_state, restored

Array = NDArray[np.float64]
Product = Callable[[Array], NDArray[Any]]
Preconditioner = Literal["none", "fisher", "kfac", "nystrom"] | Callable[[Objective, float], Any]

NAMES = ("none", "fisher", "kfac", "nystrom")
EXPONENT = 0.75  # of Martens' diagonal
NYSTROM_RANK = 40
AMORTIZED = 1  # products to be made with a preconditioner, in units of what it costs, before it is renewed
RIDGE = 1e-4  # where neither damping nor l2 makes Kronecker factors invertible: relative to the mean eigenvalue

__all__ = ["Preconditioner", "Preconditioning", "empirical_fisher_diagonal"]


class Preconditioning:
    """Makes the preconditioners that a method asks for, and says when a new one is worth its price.

    Parameters
    ----------
    choice : {"none", "fisher", "kfac", "nystrom"} or callable
        A function of (objective, damping) returns an operator of its own.
    rng : numpy.random.Generator
        For ``"nystrom"``.
    """

    def __init__(self, choice: Preconditioner, rng: np.random.Generator) -> None:
        if not callable(choice) and choice not in NAMES:
            raise ValueError(f"preconditioner must be one of {', '.join(NAMES)} or a callable, got {choice!r}")
        self.choice = choice
        self._rng = rng
        self._kfac: KFACOperator | None = None
        self.num_products = 0  # spent on preconditioners
        #: what the present one was made from: theta, rows of the batch, damping, random numbers
        self._origin: tuple[Array, NDArray[Any] | None, float, str] | None = None

    @property
    def price(self) -> int:
        """Products that a preconditioner takes."""
        return NYSTROM_RANK + 1 if self.choice == "nystrom" else 0

    def worth_renewing(self, objective: Objective, products: int) -> bool:
        """Return whether so many products were made with the present one that a new one cannot cost much beside them.

        Exact Kronecker factors take a backward pass for each output, about as long as two products.
        """
        outputs = objective.net.widths[-1]
        cost = {"kfac": 2 * outputs, "nystrom": self.price}.get(str(self.choice), 1)
        return products >= AMORTIZED * cost

    def state(self) -> dict[str, Any]:
        """Return what the present preconditioner was made from, which takes less room than what was made."""
        theta, rows, damping, rng = self._origin or (None, None, 0.0, "")
        origin = {"origin_theta": theta, "origin_rows": rows, "origin_damping": damping, "origin_rng": rng}
        return {**origin, "rng": generator_state(self._rng), "preconditioner_products": self.num_products}

    def restore(self, state: dict[str, Any], objective: Objective, curvature: Curvature) -> Any:
        """Make the preconditioner of a run before once more, and return it; None if there was none."""
        found = None
        if state["origin_theta"] is not None and self.choice != "none":
            restored(self._rng, state["origin_rng"])
            point = objective.at(state["origin_theta"])
            rows = state["origin_rows"]
            operator = GaussNewtonOperator(curvature.samples(point, rows))
            found = self.at(point, operator, state["origin_damping"], rows=rows)
        restored(self._rng, state["rng"])
        self.num_products = state["preconditioner_products"]
        return found

    def at(
        self,
        objective: Objective,
        operator: CurvatureOperator,
        damping: float,
        *,
        renew: bool = True,
        rows: NDArray[Any] | None = None,
    ) -> Any:
        """Return an approximate inverse of the curvature plus ``damping``; None for ``"none"``.

        Parameters
        ----------
        objective : Objective
            At the current point, all samples.
        operator : CurvatureOperator
            What is solved with.
        damping : float
        renew : bool
            Whether Kronecker factors are made anew; otherwise those of before are used again, with the new damping.
        rows : ndarray, optional
            The batch that ``operator`` is on.
        """
        if renew or self._origin is None:
            self._origin = objective.net.theta, rows, damping, generator_state(self._rng)
        if callable(self.choice):
            return aslinearoperator(self.choice(objective, damping))
        if self.choice == "none":
            return None
        samples = operator.objective
        if self.choice == "fisher":
            diagonal = empirical_fisher_diagonal(samples)
            floor = damping + RIDGE * float(diagonal.mean()) * (damping == 0)
            return DiagonalPreconditioner((diagonal + (floor or 1.0)) ** EXPONENT)
        if self.choice == "kfac":
            if renew or self._kfac is None:
                self._kfac = KFACOperator(samples)
            l2 = samples.l2
            invertible = damping > 0 or (l2.size > 0 and float(np.min(l2)) > 0)
            mean = self._kfac.trace() / samples.num_parameters
            return self._kfac.inverse(damping if invertible else RIDGE * mean or 1.0)
        semidefinite = GaussNewtonOperator(samples)  # whatever the curvature is
        rank = min(NYSTROM_RANK, samples.num_parameters)
        probe = self._rng.standard_normal(samples.num_parameters)
        scale = float(np.linalg.norm(semidefinite.matvec(probe)) / np.linalg.norm(probe))
        shift = damping or 1e-2 * scale or 1.0
        found = NystromPreconditioner(semidefinite, shift, rank, rng=self._rng)
        self.num_products += semidefinite.num_products
        return found


def empirical_fisher_diagonal(objective: Objective) -> Array:
    """Return the diagonal of the empirical Fisher matrix ``(1/total) sum_n w_n g_n g_n'``, regulariser included, (P,).

    The square of the gradient of one weight is that of its unit's times that of its input, so the sum over samples is
    one matrix product for each layer.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> empirical_fisher_diagonal(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    array([225., 100.])
    """
    net = objective.net
    diagonal = np.zeros(objective.num_parameters)
    layout = [(l, positions_of_layer(net, l)) for l in range(1, net.depth + 1)]

    def over_own_samples(diagonal: Array) -> None:
        for samples in tiles(objective, 1, own=True):
            for l, positions in layout:
                if positions.size:
                    g = samples.g[l]  # of w_n l_n, and w_n g_n^2 is wanted
                    squares = np.divide(
                        g * g, samples.weights[:, None], out=np.zeros_like(g), where=samples.weights[:, None] > 0
                    )
                    diagonal[positions] += squares.T @ samples.inputs(l) ** 2

    objective.sum_over_ranks(diagonal, over_own_samples)
    diagonal /= objective.total
    return np.asarray(diagonal + objective.l2) if objective.l2.size else diagonal
