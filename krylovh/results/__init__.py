"""What every computation returns: a value, its error, its cost in products and a status.

Results are frozen dataclasses of plain arrays.  Whether an algorithm succeeded is data, not an exception: ``status``
says how it ended, and the partial result is there in any case.  ``num_products`` counts every application of the
operator to one vector, those of verification included.
"""

from krylovh.results.chebyshev import ChebyshevDensity
from krylovh.results.check import OperatorCheck
from krylovh.results.density import Scale, SpectralDensity, signed_log
from krylovh.results.eigen import EigenResult, Tridiagonalization
from krylovh.results.estimate import DiagonalEstimate, Estimate
from krylovh.results.function import InverseDiagonal, MatrixFunctionResult
from krylovh.results.influence import InfluenceResult, LeaveOneOutResult, RetrainResult
from krylovh.results.landscape import LossCurves, SpectrumTrack
from krylovh.results.laplace import HyperparameterHistory, LaplaceResult, ModelComparison, Prediction
from krylovh.results.pruning import PruningResult
from krylovh.results.solve import BlockSolveResult, SolveResult
from krylovh.results.status import Status
from krylovh.results.training import TrainingHistory, TrainingResult

__all__ = [
    "BlockSolveResult",
    "ChebyshevDensity",
    "DiagonalEstimate",
    "EigenResult",
    "Estimate",
    "HyperparameterHistory",
    "InfluenceResult",
    "InverseDiagonal",
    "LaplaceResult",
    "LeaveOneOutResult",
    "LossCurves",
    "MatrixFunctionResult",
    "ModelComparison",
    "OperatorCheck",
    "Prediction",
    "PruningResult",
    "RetrainResult",
    "Scale",
    "SolveResult",
    "SpectralDensity",
    "SpectrumTrack",
    "Status",
    "TrainingHistory",
    "TrainingResult",
    "Tridiagonalization",
    "signed_log",
]
