"""The inverse of an operator as an operator: each product is a solve that has converged, or says that it has not."""

import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.block_cg import block_cg
from krylovh.krylov.cg import cg
from krylovh.krylov.linear_operator import SymmetricLinearOperator
from krylovh.krylov.minres import minres
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.krylov.system import checked_rtol
from krylovh.results import BlockSolveResult, SolveResult, Status

Array = NDArray[np.float64]
Solver = Literal["cg", "minres"]
OnFailure = Literal["raise", "warn"]

__all__ = ["InverseOperator", "SolveFailed", "SolveFailedWarning"]


class SolveFailed(RuntimeError):
    """A solve inside of an operator has not converged; ``result`` is what it found."""

    def __init__(self, message: str, result: SolveResult | BlockSolveResult) -> None:
        super().__init__(message)
        self.result = result


class SolveFailedWarning(UserWarning):
    """A solve inside of an operator has not converged, and its best x is used."""


class InverseOperator(SymmetricLinearOperator):
    """The inverse of a symmetric operator, by solves.

    As an argument of :func:`eigsh` it gives the eigenvalues of A nearest to zero, as that of a quadratic form the
    variances of a Laplace approximation.  Its symmetry holds to about ``rtol`` times the condition number of A.

    Attributes: ``num_solves``, and ``num_products`` with A, in all.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
    solver : {"cg", "minres"}
        "cg" needs a positive definite A and solves blocks of vectors out of one Krylov space; "minres" takes any A,
        one vector after the other.
    rtol : float
        Of every solve.
    on_failure : {"raise", "warn"}
        A solve that has not converged raises :class:`SolveFailed`, or warns and returns its best x.
    **options
        Of the solver: ``preconditioner``, ``max_iterations``, ``max_products``, ``max_seconds``, each for one solve.

    Examples
    --------
    >>> inverse = InverseOperator(np.diag([1.0, 2.0, 4.0]))
    >>> inverse @ np.ones(3)
    array([1.  , 0.5 , 0.25])
    >>> InverseOperator(np.diag([1.0, -1.0])) @ np.ones(2)
    Traceback (most recent call last):
    krylovh.krylov.inverse.SolveFailed: a solve in InverseOperator ended as negative_curvature ...
    """

    def __init__(
        self,
        A: Any,
        *,
        solver: Solver = "cg",
        rtol: float = 1e-10,
        on_failure: OnFailure = "raise",
        **options: Any,
    ) -> None:
        if solver not in get_args(Solver):
            raise ValueError(f"solver must be one of {get_args(Solver)}, got {solver!r}")
        if on_failure not in get_args(OnFailure):
            raise ValueError(f"on_failure must be one of {get_args(OnFailure)}, got {on_failure!r}")
        allowed = {"preconditioner", "max_iterations", "max_products", "max_seconds"}
        if not set(options) <= allowed:
            raise TypeError(f"options must be among {sorted(allowed)}, got {sorted(set(options) - allowed)}")
        super().__init__(SymmetricOperator(A).n)
        self.A = A
        self.solver = solver
        self.rtol = checked_rtol(rtol)
        self.on_failure = on_failure
        self.options = options
        self.num_solves = 0
        self.num_products = 0

    def _multiply(self, V: Array) -> Array:
        if self.solver == "cg" and V.shape[1] > 1:
            return self._checked(block_cg(self.A, V, rtol=self.rtol, **self.options))
        solve: Callable[..., SolveResult] = cg if self.solver == "cg" else minres
        X = np.empty_like(V)
        for i in range(V.shape[1]):
            X[:, i] = self._checked(solve(self.A, V[:, i], rtol=self.rtol, **self.options))
        return X

    def _checked(self, result: SolveResult | BlockSolveResult) -> Array:
        """Return x of a solve that has converged; complain of any other."""
        self.num_solves += len(result) if isinstance(result, BlockSolveResult) else 1
        self.num_products += result.num_products
        if result.status == Status.INTERRUPTED:
            raise KeyboardInterrupt
        if result.status != Status.CONVERGED:
            worst = float(np.max(getattr(result, "relative_residuals", getattr(result, "relative_residual", np.nan))))
            message = (
                f"a solve in InverseOperator ended as {result.status} after {result.num_products} products, with "
                f"relative residual {worst:.1e} where {self.rtol:.1e} is asked for"
            )
            if self.on_failure == "raise":
                raise SolveFailed(message, result)
            warnings.warn(message, SolveFailedWarning, stacklevel=4)
        return result.x

    def __repr__(self) -> str:
        return f"<InverseOperator of order {self.shape[0]} by {self.solver}, rtol {self.rtol:.1e}>"
