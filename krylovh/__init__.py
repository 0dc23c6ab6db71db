"""krylovh: the Hessian of dense feed-forward nets, seen through products alone.

Names are loaded on first use, so that ``import krylovh`` and the command line's ``--help`` cost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Network": "network",
    "Objective": "objective",
    "HessianOperator": "operators",
    "GaussNewtonOperator": "operators",
    "ResidualOperator": "operators",
    "EmpiricalFisherOperator": "operators",
    "MonteCarloFisherOperator": "operators",
    "JacobianOperator": "operators",
    "KFACOperator": "operators",
    "FiniteDifferenceOperator": "operators",
    "activation_hessian": "operators",
    "input_hessian": "operators",
    "gauss_newton_matrix": "exact",
    "hessian_matrix": "exact",
    "Status": "results",
    "Tridiagonalization": "results",
    "EigenResult": "results",
    "Estimate": "results",
    "SpectralDensity": "results",
    "lanczos": "krylov",
    "eigsh": "krylov",
    "trace": "stochastic",
    "spectral_density": "stochastic",
    "ResultStore": "storage",
    "load_network": "storage",
    "load_data": "storage",
}

__all__ = [
    "EigenResult",
    "EmpiricalFisherOperator",
    "Estimate",
    "FiniteDifferenceOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "JacobianOperator",
    "KFACOperator",
    "MonteCarloFisherOperator",
    "Network",
    "Objective",
    "ResidualOperator",
    "ResultStore",
    "SpectralDensity",
    "Status",
    "Tridiagonalization",
    "activation_hessian",
    "eigsh",
    "gauss_newton_matrix",
    "hessian_matrix",
    "input_hessian",
    "lanczos",
    "load_data",
    "load_network",
    "spectral_density",
    "trace",
]

if TYPE_CHECKING:
    from krylovh.exact import gauss_newton_matrix, hessian_matrix
    from krylovh.krylov import eigsh, lanczos
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
    from krylovh.results import EigenResult, Estimate, SpectralDensity, Status, Tridiagonalization
    from krylovh.stochastic import spectral_density, trace
    from krylovh.storage import ResultStore, load_data, load_network


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"krylovh.{_HOME[name]}"), name)
    raise AttributeError(f"module 'krylovh' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
