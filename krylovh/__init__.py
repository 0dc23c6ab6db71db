"""krylovh: the Hessian of dense feed-forward nets, seen through products alone.

Names are loaded on first use, so that ``import krylovh`` and the command line's ``--help`` cost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ApproximationReport": "approximations",
    "approximation_report": "approximations",
    "Network": "network",
    "Objective": "objective",
    "HessianOperator": "operators",
    "GaussNewtonOperator": "operators",
    "ResidualOperator": "operators",
    "EmpiricalFisherOperator": "operators",
    "MonteCarloFisherOperator": "operators",
    "JacobianOperator": "operators",
    "KFACOperator": "operators",
    "GaussNewtonSpectrum": "exact",
    "gauss_newton_blocks": "exact",
    "gauss_newton_diagonal": "exact",
    "FiniteDifferenceOperator": "operators",
    "activation_hessian": "operators",
    "input_hessian": "operators",
    "gauss_newton_matrix": "exact",
    "gauss_newton_spectrum": "exact",
    "gauss_newton_trace": "exact",
    "hessian_blocks": "exact",
    "hessian_diagonal": "exact",
    "hessian_matrix": "exact",
    "hessian_trace": "exact",
    "obd_diagonal": "exact",
    "operator_matrix": "exact",
    "outer_product_inverse": "exact",
    "Status": "results",
    "Tridiagonalization": "results",
    "EigenResult": "results",
    "SolveResult": "results",
    "BlockSolveResult": "results",
    "Estimate": "results",
    "SpectralDensity": "results",
    "lanczos": "krylov",
    "eigsh": "krylov",
    "cg": "krylov",
    "shifted_cg": "krylov",
    "InverseDiagonal": "results",
    "inverse_diagonal": "stochastic",
    "DiagonalPreconditioner": "krylov",
    "InverseOperator": "krylov",
    "NystromPreconditioner": "krylov",
    "RitzDeflation": "krylov",
    "SolveFailed": "krylov",
    "SolveFailedWarning": "krylov",
    "SpectralPreconditioner": "krylov",
    "check_operator": "krylov",
    "matrix_function": "krylov",
    "MatrixFunctionResult": "results",
    "OperatorCheck": "results",
    "block_cg": "krylov",
    "minres": "krylov",
    "trace": "stochastic",
    "spectral_density": "stochastic",
    "ResultStore": "storage",
    "load_network": "storage",
    "load_data": "storage",
}

__all__ = [
    "ApproximationReport",
    "BlockSolveResult",
    "DiagonalPreconditioner",
    "EigenResult",
    "EmpiricalFisherOperator",
    "Estimate",
    "FiniteDifferenceOperator",
    "GaussNewtonOperator",
    "GaussNewtonSpectrum",
    "HessianOperator",
    "InverseDiagonal",
    "InverseOperator",
    "JacobianOperator",
    "KFACOperator",
    "MatrixFunctionResult",
    "MonteCarloFisherOperator",
    "Network",
    "NystromPreconditioner",
    "Objective",
    "OperatorCheck",
    "ResidualOperator",
    "ResultStore",
    "RitzDeflation",
    "SolveFailed",
    "SolveFailedWarning",
    "SolveResult",
    "SpectralDensity",
    "SpectralPreconditioner",
    "Status",
    "Tridiagonalization",
    "activation_hessian",
    "approximation_report",
    "block_cg",
    "cg",
    "check_operator",
    "eigsh",
    "gauss_newton_blocks",
    "gauss_newton_diagonal",
    "gauss_newton_matrix",
    "gauss_newton_spectrum",
    "gauss_newton_trace",
    "hessian_blocks",
    "hessian_diagonal",
    "hessian_matrix",
    "hessian_trace",
    "input_hessian",
    "inverse_diagonal",
    "lanczos",
    "load_data",
    "load_network",
    "matrix_function",
    "minres",
    "obd_diagonal",
    "operator_matrix",
    "outer_product_inverse",
    "shifted_cg",
    "spectral_density",
    "trace",
]

if TYPE_CHECKING:
    from krylovh.approximations import ApproximationReport, approximation_report
    from krylovh.exact import (
        GaussNewtonSpectrum,
        gauss_newton_blocks,
        gauss_newton_diagonal,
        gauss_newton_matrix,
        gauss_newton_spectrum,
        gauss_newton_trace,
        hessian_blocks,
        hessian_diagonal,
        hessian_matrix,
        hessian_trace,
        obd_diagonal,
        operator_matrix,
        outer_product_inverse,
    )
    from krylovh.krylov import (
        DiagonalPreconditioner,
        InverseOperator,
        NystromPreconditioner,
        RitzDeflation,
        SolveFailed,
        SolveFailedWarning,
        SpectralPreconditioner,
        block_cg,
        cg,
        check_operator,
        eigsh,
        lanczos,
        matrix_function,
        minres,
        shifted_cg,
    )
    from krylovh.network import Network
    from krylovh.objective import Objective
    from krylovh.operators import (
        EmpiricalFisherOperator,
        FiniteDifferenceOperator,
        GaussNewtonOperator,
        HessianOperator,
        JacobianOperator,
        KFACOperator,
        MonteCarloFisherOperator,
        ResidualOperator,
        activation_hessian,
        input_hessian,
    )
    from krylovh.results import (
        BlockSolveResult,
        EigenResult,
        Estimate,
        InverseDiagonal,
        MatrixFunctionResult,
        OperatorCheck,
        SolveResult,
        SpectralDensity,
        Status,
        Tridiagonalization,
    )
    from krylovh.stochastic import inverse_diagonal, spectral_density, trace
    from krylovh.storage import ResultStore, load_data, load_network


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"krylovh.{_HOME[name]}"), name)
    raise AttributeError(f"module 'krylovh' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
