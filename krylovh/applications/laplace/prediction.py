"""Predictions of a posterior: outputs linearised in the parameters, tile by tile, or samples of parameters."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.laplace.predictive import checked_method, mean_and_variance, of_samples
from krylovh.checks import whole_number
from krylovh.exact.inverse import factor_rows
from krylovh.exact.second_derivatives import WORK_BYTES, tiles
from krylovh.krylov.symmetric import resolve_seed
from krylovh.objective import Objective
from krylovh.operators import JacobianOperator
from krylovh.progress import Progress, reporting
from krylovh.results import Prediction, Status

if TYPE_CHECKING:
    from krylovh.applications.laplace.posterior import Laplace

Array = NDArray[np.float64]

__all__ = ["predictive"]


def predictive(
    laplace: "Laplace", X: ArrayLike, method: str | None, num_samples: int, rng: Any, progress: Progress
) -> Prediction:
    """Return mean and variance of the targets at X; see :meth:`Laplace.predict`."""
    chosen = checked_method(method, laplace.objective.loss)
    net = laplace.objective.net
    f = net.forward(X).astype(np.float64)
    outputs = Objective(
        net, X, np.zeros((len(f), net.widths[-1])), loss="squared_error", reduction="sum", dtype=np.float64,
        threads=laplace.objective.threads,
    )  # fmt: skip
    if chosen in ("monte_carlo", "network"):
        return _by_samples(laplace, chosen, outputs, f, num_samples, rng, progress)
    return _linearized(laplace, chosen, outputs, f, progress)


def _linearized(laplace: "Laplace", method: str, outputs: Objective, f: Array, progress: Progress) -> Prediction:
    """Return what the exact covariance of the linearised outputs says; rows that were not done are NaN."""
    net, k = outputs.net, laplace.num_parameters
    V = np.full((*f.shape, f.shape[1]), np.nan)
    status, done, before = Status.CONVERGED, 0, laplace.num_products
    rows = max(1, min(256, WORK_BYTES // (net.widths[-1] * net.num_parameters * 8)))
    with reporting(progress, "predictions") as report:
        try:
            for tile in tiles(outputs, rows):
                J = factor_rows(tile, 1.0)[:, :, laplace.positions]
                spread = laplace.apply_covariance(J.reshape(-1, k).T)
                V[done : done + len(J)] = np.einsum("ncp,pnd->ncd", J, spread.reshape(-1, *J.shape[:2]))
                done += len(J)
                report(done, len(f))
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
    mean, variance = np.full((2, *f.shape), np.nan)
    mean[:done], variance[:done] = mean_and_variance(
        laplace.objective.loss, method, f[:done], V[:done], laplace.noise_precision
    )
    return Prediction(mean, variance, f, V, method, laplace.num_products - before, laplace.seed, status)


def _by_samples(
    laplace: "Laplace", method: str, outputs: Objective, f: Array, num: int, rng: Any, progress: Progress
) -> Prediction:
    """Return moments over parameter vectors that are drawn one by one; interrupted, over those that were drawn."""
    num = whole_number("num_samples", num, 2)
    seed, before = laplace.seed if rng is None else resolve_seed(rng), laplace.num_products
    generator, center = np.random.default_rng(seed), outputs.net.theta.astype(np.float64)
    drawn, status = [], Status.CONVERGED
    J = JacobianOperator(outputs)
    with reporting(progress, "samples") as report:
        try:
            for i in range(num):
                theta = laplace.sample(1, generator)[0]
                if method == "network":
                    drawn.append(outputs.net.with_theta(theta).forward(np.asarray(outputs.X)).astype(np.float64))
                else:
                    drawn.append(f + (J @ (theta - center)).reshape(f.shape))
                report(i + 1, num)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
    products = laplace.num_products - before
    if len(drawn) < 2:
        nothing = np.full(f.shape, np.nan)
        V = np.full((*f.shape, f.shape[1]), np.nan)
        return Prediction(nothing, nothing, f, V, method, products, seed, status)
    samples = np.array(drawn)
    mean, variance = of_samples(laplace.objective.loss, samples, laplace.noise_precision)
    centred = samples - samples.mean(axis=0)
    V = np.einsum("snc,snd->ncd", centred, centred) / (len(drawn) - 1)
    return Prediction(mean, variance, samples.mean(axis=0), V, method, products, seed, status)
