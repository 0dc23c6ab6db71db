"""The Laplace approximation: the posterior over parameters as a Gaussian around a mode.

With ``M(theta) = beta sum_n l_n + 1/2 theta' diag(alpha) theta``, the negative log posterior up to a constant, the
posterior is ``N(theta*, A^-1)`` at a minimum theta*, with A the Hessian of M or its Gauss-Newton part, and

    log p(D) = log p(D | theta*) + log p(theta*) + (W/2) log 2 pi - 1/2 log det A.
"""

import math
import warnings
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.laplace.likelihood import checked_noise_precision, log_likelihood, prior_of
from krylovh.applications.laplace.precision import (
    DensePrecision,
    DiagonalPrecision,
    IndefiniteError,
    KroneckerPrecision,
    KrylovPrecision,
    Precision,
)
from krylovh.applications.laplace.predictive import Method, checked_method, mean_and_variance, of_samples
from krylovh.checks import finite_array, whole_number
from krylovh.exact import gauss_newton_diagonal, gauss_newton_matrix, hessian_diagonal, hessian_matrix
from krylovh.exact.inverse import factor_rows
from krylovh.exact.second_derivatives import WORK_BYTES, tiles
from krylovh.krylov.symmetric import resolve_seed
from krylovh.objective import Objective
from krylovh.operators import GaussNewtonOperator, HessianOperator, JacobianOperator, KFACOperator
from krylovh.operators.kfac import KroneckerBlock
from krylovh.progress import Progress, reporting
from krylovh.results import Estimate, HyperparameterHistory, LaplaceResult, Prediction, Status

Array = NDArray[np.float64]
Curvature = Literal["gauss_newton", "hessian"]
Structure = Literal["full", "krylov", "kfac", "diagonal", "last_layer"]

__all__ = ["Curvature", "Laplace", "Structure"]


class Laplace:
    """A Gaussian posterior over the parameters of a net, around its present parameters.

    Parameters
    ----------
    objective : Objective
        At a minimum.  Its loss is the negative log likelihood: squared error that of noise of precision
        ``noise_precision``, cross entropies and "poisson" as they are; "huber" is refused.
    curvature : "gauss_newton" or "hessian"
    structure : "full", "krylov", "kfac", "diagonal" or "last_layer"
        A by Cholesky factors (8 W^2 bytes); through products alone, for large W; Kronecker factors for each layer; the
        exact diagonal; or all of A for the last layer's parameters, the others fixed.
    noise_precision : float
        beta, for squared error.
    prior_precision : float or array_like, shape (num_parameters,), optional
        alpha; by default the objective's l2, times the total weight for ``reduction="mean"``.  With
        ``beta * total * l2`` a minimum of the objective is one of M for any beta.
    fallback : None or "gauss_newton"
        What to take, with a warning, where the Hessian makes A indefinite; refused if None.
    separate_bias : bool
        With "kfac", whether weights and biases of a layer have a block each, ``B (x) E[z z']`` and ``B``, or one of
        inputs with a 1 appended.
    stationarity_tol : float
        A warning tells where ``|grad M|`` exceeds this times ``|beta grad E_D| + |alpha theta|``, which at a minimum
        are equal and opposite.
    num_probes, num_steps : int, optional
        Of the quadrature for "krylov"; see :func:`krylovh.logdet`.
    rng : int, numpy.random.Generator or None
    progress : bool or callable
        For building the curvature.

    Attributes
    ----------
    positions : ndarray, shape (k,)
        The parameters that the posterior is over.
    mode, prior_precision : ndarray, shape (k,)
    gradient_norm : float
        ``|grad M|`` on these parameters.
    curvature : str
        What was used: "gauss_newton" after a fallback.
    history : HyperparameterHistory or None
        Of :meth:`optimize_hyperparameters`.

    Raises
    ------
    ValueError
        For arguments out of range, a loss that is no likelihood, and a precision that is not positive definite; the
        message has the smallest eigenvalue.
    FloatingPointError
        If loss or gradient are not finite at theta.

    Warns
    -----
    RuntimeWarning
        Away from a stationary point, and where the fallback was taken.

    References
    ----------
    MacKay (1992), A practical Bayesian framework for backpropagation networks.
    Bishop (2006), Pattern Recognition and Machine Learning, 5.7.

    Examples
    --------
    The slope of a line through the origin, x = 1, y = 2, sigma = 1 and prior N(0, 1): mean 1, variance 1/2.

    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [1.0], bias=False)
    >>> posterior = Laplace(Objective(net, [[1.0]], [2.0], loss="squared_error", l2=1.0))
    >>> posterior.covariance().round(12)
    array([[0.5]])
    >>> posterior.log_evidence().value, posterior.effective_parameters().value  # doctest: +ELLIPSIS
    (-2.26551..., 0.5...)
    >>> prediction = posterior.predict([[2.0]])
    >>> prediction.mean.round(12), prediction.variance.round(12)
    (array([[2.]]), array([[3.]]))
    """

    def __init__(
        self,
        objective: Objective,
        *,
        curvature: Curvature = "gauss_newton",
        structure: Structure = "full",
        noise_precision: float = 1.0,
        prior_precision: ArrayLike | None = None,
        fallback: Literal["gauss_newton"] | None = None,
        separate_bias: bool = True,
        stationarity_tol: float = 1e-3,
        num_probes: int | None = None,
        num_steps: int | None = None,
        rng: int | np.random.Generator | None = None,
        progress: Progress = False,
    ) -> None:
        if curvature not in get_args(Curvature):
            raise ValueError(f"curvature must be one of {get_args(Curvature)}, got {curvature!r}")
        if structure not in get_args(Structure):
            raise ValueError(f"structure must be one of {get_args(Structure)}, got {structure!r}")
        if fallback not in (None, "gauss_newton"):
            raise ValueError(f"fallback must be None or 'gauss_newton', got {fallback!r}")
        if structure == "kfac" and curvature != "gauss_newton":
            raise ValueError("structure 'kfac' must go with curvature 'gauss_newton', which it approximates")
        if not (math.isfinite(stationarity_tol) and stationarity_tol > 0):
            raise ValueError(f"stationarity_tol must be positive and finite, got {stationarity_tol}")
        self.objective = objective
        self.noise_precision = checked_noise_precision(objective, noise_precision)
        self.curvature: str = curvature
        self.structure: str = structure
        self.seed = resolve_seed(rng)
        self.history: HyperparameterHistory | None = None
        self.positions = self._chosen_positions()
        alpha = prior_of(objective) if prior_precision is None else _checked_prior(prior_precision, objective)
        self.prior_precision = np.array(alpha, dtype=np.float64)[self.positions]
        self.mode = objective.net.theta.astype(np.float64)[self.positions]
        self._options: dict[str, Any] = {
            "fallback": fallback, "separate_bias": separate_bias, "stationarity_tol": stationarity_tol,
            "num_probes": num_probes, "num_steps": num_steps,
        }  # fmt: skip
        self.gradient_norm = self._check_stationarity(stationarity_tol)
        try:
            self._precision = self._make_precision(curvature, progress)
        except IndefiniteError as error:
            if curvature == "gauss_newton":
                raise ValueError(
                    "the posterior is improper: the smallest eigenvalue of its precision must be positive, got "
                    f"{error.smallest:.6g}; set l2, or prior_precision, on the parameters that data do not determine"
                ) from None
            if fallback is None:
                raise
            warnings.warn(
                f"the Hessian has the eigenvalue {error.smallest:.6g}: the Gauss-Newton matrix is used instead",
                RuntimeWarning,
                stacklevel=2,
            )
            self.curvature = "gauss_newton"
            self._precision = self._make_precision("gauss_newton", progress)
        self._logdet: Estimate | None = None
        self._gamma: Estimate | None = None

    @property
    def num_parameters(self) -> int:
        """How many parameters k the posterior is over."""
        return int(self.positions.size)

    @property
    def num_products(self) -> int:
        """Products with the curvature so far; 0 for structures that need none."""
        return self._precision.num_products

    def covariance(self) -> Array:
        """Return the posterior covariance, (k, k): 8 k^2 bytes, and for "krylov" as many systems as parameters."""
        inverse = self._precision.solve(np.eye(self.num_parameters))
        return np.asarray((inverse + inverse.T) / 2)

    def log_likelihood(self) -> float:
        """Return ``log p(D | theta*)``."""
        return log_likelihood(self.objective, self.noise_precision)

    def log_prior(self) -> float:
        """Return ``log p(theta*)``; ValueError where the prior is improper."""
        alpha = self.prior_precision
        if alpha.min() <= 0:
            raise ValueError(
                f"l2, or prior_precision, must be positive on every parameter for the evidence, got 0 on "
                f"{np.count_nonzero(alpha <= 0)} of {alpha.size}: an improper prior has no evidence"
            )
        return float(0.5 * np.sum(np.log(alpha / (2 * np.pi))) - 0.5 * alpha @ np.square(self.mode))

    def log_determinant(self, *, progress: Progress = False) -> Estimate:
        """Return ``log det A``, with an error bar where it comes from quadrature."""
        if self._logdet is None or self._logdet.status is not Status.CONVERGED:
            self._logdet = self._precision.logdet(progress)
        return self._logdet

    def log_evidence(self, *, progress: Progress = False) -> Estimate:
        """Return ``log p(D)``, natural logarithm; standard error 0 unless the determinant is estimated.

        Raises
        ------
        ValueError
            Where a parameter has no prior.
        """
        fixed = self.log_likelihood() + self.log_prior() + self.num_parameters / 2 * math.log(2 * math.pi)
        found = self.log_determinant(progress=progress)
        low, high = found.interval
        return Estimate(
            fixed - found.value / 2, found.standard_error / 2, (fixed - high / 2, fixed - low / 2), found.num_products,
            found.seed, found.status, found.method, found.quadrature_error / 2,
        )  # fmt: skip

    def effective_parameters(self, *, progress: Progress = False) -> Estimate:
        """Return gamma, how many parameters the data determine: ``k - tr(A^-1 diag(alpha))``."""
        if self._gamma is None or self._gamma.status is not Status.CONVERGED:
            self._gamma = self._precision.gamma(progress)
        return self._gamma

    def summary(self, *, progress: Progress = False) -> LaplaceResult:
        """Return the posterior in numbers, to be shown and stored."""
        evidence = self.log_evidence(progress=progress)
        gamma = self.effective_parameters(progress=progress)
        return LaplaceResult(
            curvature=self.curvature,
            structure=self.structure,
            mode=self.mode.copy(),
            prior_precision=self.prior_precision.copy(),
            noise_precision=self.noise_precision,
            log_likelihood=self.log_likelihood(),
            log_prior=self.log_prior(),
            log_determinant=self.log_determinant().value,
            log_evidence=evidence.value,
            standard_error=evidence.standard_error,
            interval=evidence.interval,
            effective_parameters=gamma.value,
            effective_parameters_error=gamma.standard_error,
            gradient_norm=self.gradient_norm,
            num_products=self.num_products,
            seed=self.seed,
            status=gamma.status if evidence.status is Status.CONVERGED else evidence.status,
        )

    def sample(self, num: int, rng: int | np.random.Generator | None = None, *, progress: Progress = False) -> Array:
        """Draw parameter vectors from the posterior, shape (num, num_parameters of the net).

        Parameters outside of the last layer stay at the mode with "last_layer".  With "krylov" a sample costs one run
        of Lanczos, for ``A^-1/2 z``.

        Examples
        --------
        >>> from krylovh import Network
        >>> net = Network((1, 1), "identity", [1.0], bias=False)
        >>> posterior = Laplace(Objective(net, [[1.0]], [2.0], loss="squared_error", l2=1.0))
        >>> posterior.sample(2000, rng=0).var().round(1)
        np.float64(0.5)
        """
        num = whole_number("num", num, 1)
        generator = np.random.default_rng(self.seed if rng is None else rng)
        Z = generator.standard_normal((num, self.num_parameters)).T
        thetas = np.tile(self.objective.net.theta.astype(np.float64), (num, 1))
        thetas[:, self.positions] += self._precision.root(Z, progress).T
        return thetas

    def predict(
        self,
        X: ArrayLike,
        *,
        method: Method | None = None,
        num_samples: int = 100,
        rng: int | np.random.Generator | None = None,
        progress: Progress = False,
    ) -> Prediction:
        """Return predictive mean and variance of the targets.

        Parameters
        ----------
        X : array_like, shape (N, d_0)
        method : "probit", "bridge", "monte_carlo", "network" or None
            For classifications "probit", the default, or the Laplace bridge (softmax only), from outputs linearised in
            the parameters; samples of the linearised outputs; or of the net itself.  None for regression and rates:
            what is exact in the linearised model.
        num_samples : int
            Parameter vectors for the last two methods, at least 2.
        rng : int, numpy.random.Generator or None
            For these samples.
        progress : bool or callable
            Counts rows, or samples.

        Returns
        -------
        Prediction
            Interrupted, it holds the rows (or is of the samples) that were done.

        References
        ----------
        Immer, Korzepa and Bauer (2021), Improving predictions of Bayesian neural nets via local linearization.
        """
        chosen = checked_method(method, self.objective.loss)
        net = self.objective.net
        f = net.forward(X).astype(np.float64)
        outputs = Objective(
            net, X, np.zeros((len(f), net.widths[-1])), loss="squared_error", reduction="sum", dtype=np.float64,
            threads=self.objective.threads,
        )  # fmt: skip
        if chosen in ("monte_carlo", "network"):
            return self._predict_by_samples(chosen, outputs, f, num_samples, rng, progress)
        V = np.full((*f.shape, f.shape[1]), np.nan)
        status, done, before = Status.CONVERGED, 0, self.num_products
        rows = max(1, min(256, WORK_BYTES // (net.widths[-1] * net.num_parameters * 8)))
        with reporting(progress, "predictions") as report:
            try:
                for tile in tiles(outputs, rows):
                    J = factor_rows(tile, 1.0)[:, :, self.positions]
                    spread = self._precision.solve(J.reshape(-1, self.num_parameters).T)
                    V[done : done + len(J)] = np.einsum("ncp,pnd->ncd", J, spread.reshape(-1, *J.shape[:2]))
                    done += len(J)
                    report(done, len(f))
            except KeyboardInterrupt:
                status = Status.INTERRUPTED
        mean, variance = mean_and_variance(self.objective.loss, chosen, f, V, self.noise_precision)
        mean[done:] = np.nan
        return Prediction(mean, variance, f, V, chosen, self.num_products - before, self.seed, status)

    def _predict_by_samples(
        self, method: str, outputs: Objective, f: Array, num: int, rng: Any, progress: Progress
    ) -> Prediction:
        num = whole_number("num_samples", num, 2)
        seed, before = self.seed if rng is None else resolve_seed(rng), self.num_products
        generator, center = np.random.default_rng(seed), outputs.net.theta.astype(np.float64)
        drawn, status = [], Status.CONVERGED
        J = JacobianOperator(outputs)
        with reporting(progress, "samples") as report:
            try:
                for i in range(num):
                    theta = self.sample(1, generator)[0]
                    if method == "network":
                        drawn.append(outputs.net.with_theta(theta).forward(np.asarray(outputs.X)).astype(np.float64))
                    else:
                        drawn.append(f + (J @ (theta - center)).reshape(f.shape))
                    report(i + 1, num)
            except KeyboardInterrupt:
                status = Status.INTERRUPTED
        if len(drawn) < 2:
            nothing = np.full(f.shape, np.nan)
            return Prediction(
                nothing, nothing, f, np.full((*f.shape, f.shape[1]), np.nan), method, self.num_products - before, seed,
                status,
            )  # fmt: skip
        samples = np.array(drawn)
        mean, variance = of_samples(self.objective.loss, samples, self.noise_precision)
        centred = samples - samples.mean(axis=0)
        V = np.einsum("snc,snd->ncd", centred, centred) / (len(drawn) - 1)
        return Prediction(mean, variance, samples.mean(axis=0), V, method, self.num_products - before, seed, status)

    def optimize_hyperparameters(
        self,
        *,
        groups: ArrayLike | None = None,
        max_iterations: int = 100,
        tol: float = 1e-4,
        progress: Progress = False,
    ) -> "Laplace":
        """Re-estimate alpha, and beta for squared error, by MacKay's fixed point; return the posterior at the new mode.

        In turn ``alpha_g = gamma_g / |theta_g|^2`` and ``beta = (N C - gamma) / (2 E_D)`` are taken from the present
        posterior, and theta is fitted again.  Each step is one Newton-CG minimisation and one new curvature.

        Parameters
        ----------
        groups : array_like of int, shape (k,), optional
            Number of the alpha that each parameter has, from 0 on; one for all if not given.
        max_iterations : int
        tol : float
            Converged when no precision changes by more than this, relative to itself.
        progress : bool or callable
            Counts re-estimations.

        Returns
        -------
        Laplace
            With ``history``; the present one is left as it is.  Interrupted, that of the last complete step.

        Raises
        ------
        ValueError
            For improper priors, groups that are not 0, 1, ..., and several groups with structure "krylov".

        References
        ----------
        MacKay (1992), Bayesian interpolation.
        """
        from krylovh.applications.laplace.hyperparameters import reestimate

        return reestimate(self, groups, max_iterations, tol, progress)

    def variances(self) -> Array:
        """Return the diagonal of the posterior covariance, (k,)."""
        k, out = self.num_parameters, np.empty(self.num_parameters)
        for start in range(0, k, 256):
            units = np.eye(k, min(256, k - start), -start)
            out[start : start + 256] = np.einsum("km,km->m", units, self._precision.solve(units))
        return out

    def _chosen_positions(self) -> NDArray[np.intp]:
        net = self.objective.net
        if self.structure != "last_layer":
            return np.arange(net.num_parameters)
        chosen = [np.arange(block.start, block.stop) for block in net.blocks if block.layer == net.depth]
        if not chosen:
            raise ValueError("structure 'last_layer' needs a last layer with parameters, got identity edges alone")
        return np.concatenate(chosen)

    def _check_stationarity(self, tol: float) -> float:
        """Return ``|grad M|``, and warn where it is not near zero."""
        theta = self.objective.net.theta.astype(np.float64)[self.positions]
        l2 = prior_of(self.objective)[self.positions]
        data = self.noise_precision * (
            self.objective.gradient().astype(np.float64)[self.positions] * self.objective.total - l2 * theta
        )
        prior = self.prior_precision * theta
        norm = float(np.linalg.norm(data + prior))
        scale = float(np.linalg.norm(data) + np.linalg.norm(prior))
        if norm > tol * scale:
            warnings.warn(
                f"theta is no stationary point of the posterior: |grad| = {norm:.3g} is above {tol:g} times "
                f"{scale:.3g}, the size of its terms. Train further; with noise_precision beta a minimum of the "
                "objective is one of the posterior for prior_precision = beta * total * l2",
                RuntimeWarning,
                stacklevel=3,
            )
        return norm

    def _make_precision(self, curvature: str, progress: Progress) -> Precision:
        objective, alpha, structure = self.objective, self.prior_precision, self.structure
        scale = self.noise_precision * objective.total
        l2 = (prior_of(objective) / objective.total)[self.positions]
        gauss_newton = curvature == "gauss_newton"
        if structure == "krylov":
            operator = (GaussNewtonOperator if gauss_newton else HessianOperator)(objective)
            options = {name: self._options[name] for name in ("num_probes", "num_steps")}
            return KrylovPrecision(operator, scale, alpha, definite=gauss_newton, options=options, seed=self.seed)
        if structure == "kfac":
            blocks = KFACOperator(objective).blocks
            if self._options["separate_bias"]:
                blocks = tuple(part for block in blocks for part in _split(block, objective))
            scaled = [KroneckerBlock(b.layer, b.A, scale * b.B, b.positions) for b in blocks]
            return KroneckerPrecision(scaled, alpha, self.seed)
        if structure == "diagonal":
            diagonal = (gauss_newton_diagonal if gauss_newton else hessian_diagonal)(objective).astype(np.float64)
            return DiagonalPrecision(scale * (diagonal - l2) + alpha, alpha, self.seed)
        layers = [objective.net.depth] if structure == "last_layer" else None
        build = gauss_newton_matrix if gauss_newton else hessian_matrix
        A = build(objective, layers=layers, progress=progress).astype(np.float64)
        A *= scale
        A[np.diag_indices(len(A))] += alpha - scale * l2
        return DensePrecision(A, alpha, self.seed)

    def __repr__(self) -> str:
        return f"<Laplace ({self.curvature}, {self.structure}) of {self.objective!r}>"


def _checked_prior(prior_precision: ArrayLike, objective: Objective) -> Array:
    alpha = finite_array("prior_precision", prior_precision, np.float64)
    if alpha.shape not in ((), (objective.num_parameters,)):
        raise ValueError(
            f"prior_precision must be a scalar or have shape ({objective.num_parameters},), got {alpha.shape}"
        )
    if alpha.min() < 0:
        raise ValueError(f"prior_precision must be at least 0, got {alpha.min()}")
    return np.broadcast_to(alpha, objective.num_parameters)


def _split(block: KroneckerBlock, objective: Objective) -> list[KroneckerBlock]:
    """Return the blocks of the weights and of the bias of a layer."""
    if not objective.net.bias[block.layer - 1]:
        return [block]
    parts = [KroneckerBlock(block.layer, block.A[-1:, -1:], block.B, block.positions[:, -1:])]
    if block.A.shape[0] > 1:
        parts.insert(0, KroneckerBlock(block.layer, block.A[:-1, :-1], block.B, block.positions[:, :-1]))
    return parts
