"""What the Laplace approximation says: the posterior in numbers, predictions, and which model the data prefer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]

__all__ = ["HyperparameterHistory", "LaplaceResult", "ModelComparison", "Prediction"]


@dataclass(frozen=True)
class LaplaceResult(Displayed):
    """A Gaussian posterior around a mode, with the pieces of its log evidence.

    ``log_evidence = log_likelihood + log_prior + (k/2) log 2 pi - log_determinant / 2`` for k parameters.

    Examples
    --------
    >>> names = ("gauss_newton", "full")
    >>> print(LaplaceResult(*names, np.zeros(2), np.ones(2), 1.0, -3.0, -2.0, 1.0, -4.0, 0.0, (-4.0, -4.0), 1.5, 0.0,
    ...                     1e-9, 0, 7, Status.CONVERGED))
    Laplace posterior of 2 parameters (gauss_newton, full): log evidence -4 +- 0, 1.5 effective parameters, converged
    """

    curvature: str
    structure: str
    mode: Array  # (k,): the parameters that the posterior is over
    prior_precision: Array  # (k,)
    noise_precision: float
    log_likelihood: float  # at the mode
    log_prior: float  # at the mode
    log_determinant: float  # of the posterior precision
    log_evidence: float
    standard_error: float  # of the log evidence; 0 where the determinant is exact
    interval: tuple[float, float]  # 95 %, of the log evidence
    effective_parameters: float
    effective_parameters_error: float
    gradient_norm: float  # of the negative log posterior at the mode
    num_products: int
    seed: int
    status: Status

    def __str__(self) -> str:
        head = f"Laplace posterior of {self.mode.size} parameters ({self.curvature}, {self.structure})"
        evidence = f"log evidence {self.log_evidence:.6g} +- {self.standard_error:.2g}"
        return f"{head}: {evidence}, {self.effective_parameters:.4g} effective parameters, {self.status}"


@dataclass(frozen=True)
class Prediction(Displayed):
    """Predictive mean and variance of the targets, and what the posterior says of the net's outputs.

    The rows that were not reached before an interruption are NaN.

    Examples
    --------
    >>> one = np.ones((3, 1))
    >>> print(Prediction(one, one, one, one[:, None], "linearized", 0, 7, Status.CONVERGED))
    3 predictions of 1 outputs (linearized), converged, 0 products
    """

    mean: Array  # (N, C): of the targets; for a classification their probabilities
    variance: Array  # (N, C): of the targets, the noise included
    output_mean: Array  # (N, C): of the net's outputs (logits, log rates), without noise
    output_covariance: Array  # (N, C, C): of the net's outputs, without noise
    method: str
    num_products: int
    seed: int
    status: Status

    def __str__(self) -> str:
        count = f"{len(self.mean)} predictions of {self.mean.shape[1]} outputs"
        return f"{count} ({self.method}), {self.status}, {self.num_products} products"


@dataclass(frozen=True)
class HyperparameterHistory(Displayed):
    """How prior and noise precision were re-estimated; row 0 is the start.

    Examples
    --------
    >>> print(HyperparameterHistory(np.ones((2, 1)), np.ones(2), np.ones(2), np.arange(2.0), np.zeros(2),
    ...                             np.zeros(2, int), Status.CONVERGED))
    1 re-estimations, converged: log evidence 0 -> 1, alpha 1, beta 1, gamma 1
    """

    prior_precisions: Array  # (steps + 1, groups)
    noise_precisions: Array  # (steps + 1,)
    effective_parameters: Array  # (steps + 1,)
    log_evidences: Array  # (steps + 1,)
    gradient_norms: Array  # (steps + 1,): of the negative log posterior
    groups: NDArray[np.int64]  # (k,): which alpha belongs to which parameter
    status: Status

    def __str__(self) -> str:
        evidence = f"log evidence {self.log_evidences[0]:.6g} -> {self.log_evidences[-1]:.6g}"
        alpha = ", ".join(f"{a:.4g}" for a in self.prior_precisions[-1])
        last = f"beta {self.noise_precisions[-1]:.4g}, gamma {self.effective_parameters[-1]:.4g}"
        return f"{len(self.noise_precisions) - 1} re-estimations, {self.status}: {evidence}, alpha {alpha}, {last}"


@dataclass(frozen=True)
class ModelComparison(Displayed):
    r"""Log evidences of several models of the same data, and their probabilities under equal prior odds.

    Examples
    --------
    >>> print(ModelComparison("narrow\nwide", np.array([-3.0, -1.0]), np.zeros(2), np.array([2.0, 4.0]),
    ...                       np.array([5, 9]), np.zeros(2), Status.CONVERGED))
    model   log evidence  error  probability  gamma  parameters  |gradient|
    narrow            -3      0        0.119      2           5           0
    wide              -1      0        0.881      4           9           0
    """

    labels: str  # one name per line
    log_evidences: Array  # (m,)
    standard_errors: Array  # (m,)
    effective_parameters: Array  # (m,)
    num_parameters: NDArray[np.int64]  # (m,)
    gradient_norms: Array  # (m,)
    status: Status

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, (m,)."""
        return tuple(self.labels.split("\n")) if self.labels else ()

    @property
    def probabilities(self) -> Array:
        """Posterior probabilities of the models under equal prior odds, (m,)."""
        if not self.log_evidences.size:
            return np.zeros(0)
        weights = np.exp(self.log_evidences - self.log_evidences.max())
        return np.asarray(weights / weights.sum())

    @property
    def best(self) -> str:
        """Name of the model of largest evidence."""
        if not self.labels:
            raise ValueError(f"no model was compared (status {self.status})")
        return self.names[int(self.log_evidences.argmax())]

    def table(self) -> dict[str, Any]:
        """Return the models with evidence, error and probability."""
        return {
            "model": self.names, "log evidence": self.log_evidences, "standard error": self.standard_errors,
            "probability": self.probabilities, "effective parameters": self.effective_parameters,
            "parameters": self.num_parameters, "gradient norm": self.gradient_norms,
        }  # fmt: skip

    def __str__(self) -> str:
        width = max(map(len, ("model", *self.names)))
        rows = [
            f"{name:<{width}}  {value:>12.6g}  {error:>5.2g}  {p:>11.3g}  {gamma:>5.4g}  {count:>10}  {gradient:>10.2g}"
            for name, value, error, p, gamma, count, gradient in zip(
                self.names, self.log_evidences, self.standard_errors, self.probabilities, self.effective_parameters,
                self.num_parameters, self.gradient_norms, strict=True,
            )
        ]  # fmt: skip
        head = f"{'model':<{width}}  log evidence  error  probability  gamma  parameters  |gradient|"
        return "\n".join([head, *rows])
