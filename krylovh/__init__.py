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
    "ChebyshevDensity": "results",
    "EigenResult": "results",
    "SolveResult": "results",
    "BlockSolveResult": "results",
    "Estimate": "results",
    "DiagonalEstimate": "results",
    "SpectralDensity": "results",
    "lanczos": "krylov",
    "eigsh": "krylov",
    "cg": "krylov",
    "shifted_cg": "krylov",
    "block_cg": "krylov",
    "minres": "krylov",
    "refine_eigenpairs": "krylov",
    "trace": "stochastic",
    "diagonal": "stochastic",
    "squared_diagonal_sum": "stochastic",
    "frobenius_norm": "stochastic",
    "participation_ratio": "stochastic",
    "logdet": "stochastic",
    "condition_number": "stochastic",
    "effective_dimension": "stochastic",
    "eigenvalue_count": "stochastic",
    "trace_function": "stochastic",
    "NonPositiveSpectrumError": "stochastic",
    "kernel_polynomial_density": "stochastic",
    "spectral_density": "stochastic",
    "ResultStore": "storage",
    "load_network": "storage",
    "load_data": "storage",
}

__all__ = [
    "ApproximationReport",
    "BlockSolveResult",
    "ChebyshevDensity",
    "DiagonalEstimate",
    "EigenResult",
    "EmpiricalFisherOperator",
    "Estimate",
    "FiniteDifferenceOperator",
    "GaussNewtonOperator",
    "GaussNewtonSpectrum",
    "HessianOperator",
    "JacobianOperator",
    "KFACOperator",
    "MonteCarloFisherOperator",
    "Network",
    "NonPositiveSpectrumError",
    "Objective",
    "ResidualOperator",
    "ResultStore",
    "SolveResult",
    "SpectralDensity",
    "Status",
    "Tridiagonalization",
    "activation_hessian",
    "approximation_report",
    "block_cg",
    "cg",
    "condition_number",
    "diagonal",
    "effective_dimension",
    "eigenvalue_count",
    "eigsh",
    "frobenius_norm",
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
    "kernel_polynomial_density",
    "lanczos",
    "load_data",
    "load_network",
    "logdet",
    "minres",
    "obd_diagonal",
    "operator_matrix",
    "outer_product_inverse",
    "participation_ratio",
    "refine_eigenpairs",
    "shifted_cg",
    "spectral_density",
    "squared_diagonal_sum",
    "trace",
    "trace_function",
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
    from krylovh.krylov import block_cg, cg, eigsh, lanczos, minres, refine_eigenpairs, shifted_cg
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
        ChebyshevDensity,
        DiagonalEstimate,
        EigenResult,
        Estimate,
        SolveResult,
        SpectralDensity,
        Status,
        Tridiagonalization,
    )
    from krylovh.stochastic import (
        NonPositiveSpectrumError,
        condition_number,
        diagonal,
        effective_dimension,
        eigenvalue_count,
        frobenius_norm,
        kernel_polynomial_density,
        logdet,
        participation_ratio,
        spectral_density,
        squared_diagonal_sum,
        trace,
        trace_function,
    )
    from krylovh.storage import ResultStore, load_data, load_network


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"krylovh.{_HOME[name]}"), name)
    raise AttributeError(f"module 'krylovh' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
