"""Fisher matrices: sums of outer products of gradients, which need no second derivatives.

    empirical     F = (1/total) sum_n w_n g_n g_n',                   g_n = gradient of sample n's loss at its target
    Monte Carlo   F = (1/total) sum_n w_n (1/S) sum_s g_ns g_ns',     the same at targets drawn from the model

Both have the form of the Gauss-Newton matrix, ``sum_n J_n' Q_n J_n``, with other matrices Q_n of order C, so a product
costs the same 4 matrix products per dense edge.  The expectation of the Monte Carlo Fisher matrix is the Fisher
information of the model.  Where the loss is the negative log-likelihood of an exponential family in its natural
parameter, and the outputs have no activation, that is the Gauss-Newton matrix: squared error (normal, variance 1),
softmax and binary cross-entropy, Poisson.  The empirical one has no such limit: it equals Gauss-Newton only where the
residuals happen to have the model's own second moments (Kunstner, Balles and Hennig 2019).
"""

import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import expit, ndtr, ndtri, pdtr, pdtrik, softmax

import krylovh.kernels as kernels
from krylovh.checks import whole_number
from krylovh.objective import Chunk, Objective
from krylovh.operators.curvature import CurvatureOperator
from krylovh.operators.passes import OutputCurvature

Array = NDArray[Any]

__all__ = ["EmpiricalFisherOperator", "MonteCarloFisherOperator"]


def output_layer(objective: Objective, kept: Array, chunk: Chunk) -> Array:
    """Return the last layer of one of a chunk's kept arrays, shape (rows, C), as a view."""
    outputs = objective.net.widths[-1]
    start = chunk.num_rows * (objective.net.num_units - outputs)
    return kept[start : start + chunk.num_rows * outputs].reshape(chunk.num_rows, outputs)


class EmpiricalFisherOperator(CurvatureOperator):
    """The empirical Fisher matrix, regulariser included: outer products of the samples' own gradients.

    Parameters
    ----------
    objective : Objective
    accumulation : float32 or float64, optional
        See :class:`HessianOperator`.

    References
    ----------
    Kunstner, Balles and Hennig (2019), Limitations of the empirical Fisher approximation for natural gradient descent.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> F = EmpiricalFisherOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"))
    >>> F @ np.eye(2)
    array([[225., 150.],
           [150., 100.]])
    """

    _gauss_newton = True

    def _output_curvature(self, chunk: Chunk) -> OutputCurvature:
        weights = self.objective.sample_weight
        scale = np.ones(chunk.num_rows, self.dtype)
        if weights is not None:  # the kept gradients are those of w_n l_n
            w = weights[chunk.start : chunk.stop]
            np.divide(1.0, w, out=scale, where=w > 0)
            scale[w == 0] = 0.0
        gradients = output_layer(self.objective, chunk.linearization[3], chunk)
        return kernels.OUTER_PRODUCTS, gradients.ravel(), scale


class MonteCarloFisherOperator(CurvatureOperator):
    """The Fisher matrix with targets drawn from the model, regulariser included.

    The draws are made at the first product and kept (N * samples * C numbers), so that all products are of one matrix.

    Parameters
    ----------
    objective : Objective
    samples : int
        Draws for each sample of the data.
    rng : int, numpy.random.Generator or None
        Seed of the draws.
    accumulation : float32 or float64, optional
        See :class:`HessianOperator`.

    Notes
    -----
    The model's distribution, given the outputs z: normal with mean z and variance 1 (squared error), the density
    proportional to exp(-huber(y - z)) (huber), softmax(z), independent Bernoulli with logits z, Poisson with log rate
    z.

    References
    ----------
    Martens (2020), New insights and perspectives on the natural gradient method.

    Examples
    --------
    >>> from krylovh import GaussNewtonOperator, Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> objective = Objective(net, np.ones((1, 1)), [1.0], loss="squared_error")
    >>> F = MonteCarloFisherOperator(objective, samples=100_000, rng=0)
    >>> (F @ np.eye(2)).round(1), GaussNewtonOperator(objective) @ np.eye(2)
    (array([[9., 6.],
           [6., 4.]]), array([[9., 6.],
           [6., 4.]]))
    """

    _gauss_newton = True

    def __init__(
        self,
        objective: Objective,
        samples: int = 1,
        *,
        rng: int | np.random.Generator | None = None,
        accumulation: DTypeLike | None = None,
    ) -> None:
        super().__init__(objective, accumulation=accumulation)
        self.samples = whole_number("samples", samples, 1)
        self.seed = objective.agree(rng if isinstance(rng, int) else int(np.random.default_rng(rng).integers(2**63)))
        self._gradients: Array | None = None
        self._drawing = threading.Lock()

    def _output_curvature(self, chunk: Chunk) -> OutputCurvature:
        weights = self.objective.sample_weight
        with self._drawing:
            if self._gradients is None:
                self._gradients = self._draw()
        w = np.ones(chunk.num_rows) if weights is None else weights[chunk.start : chunk.stop]
        scale = (w / self.samples).astype(self.dtype)
        return kernels.OUTER_PRODUCTS, self._gradients[chunk.start : chunk.stop].ravel(), scale

    def _draw(self) -> Array:
        """Return gradients with respect to the outputs' pre-activations at drawn targets, (N, samples, C)."""
        objective = self.objective
        C, bits = objective.net.widths[-1], np.random.PCG64(self.seed)
        elsewhere = objective.first_own_sample * self.samples * numbers_per_draw(objective.loss, C)
        generator = np.random.Generator(bits.advance(elsewhere))  # past the draws of samples before the own
        gradients = np.empty((objective.num_own_samples, self.samples, C), self.dtype)
        for chunk in objective.own_chunks():
            z, s1 = (output_layer(objective, kept, chunk) for kept in chunk.linearization[:2])
            drawn = drawn_gradients(
                objective.loss, z.astype(np.float64), self.samples, objective.targets.delta, generator
            )
            gradients[chunk.start : chunk.stop] = s1[:, None] * drawn
        return gradients

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_drawing": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._drawing = threading.Lock()


def drawn_gradients(
    loss: str, z: NDArray[np.float64], samples: int, delta: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return dl/dz at ``samples`` targets drawn for each row of outputs ``z`` (rows, C): shape (rows, samples, C).

    Every row takes as many uniform numbers as any other, in turn, so the draws do not depend on how rows are batched.
    """
    shape = (len(z), samples, z.shape[1])
    if loss == "softmax_cross_entropy":
        p = softmax(z, axis=1)
        uniform = generator.random((len(z), samples, 1)) * p.sum(axis=1)[:, None, None]
        label = (np.cumsum(p, axis=1)[:, None, :-1] <= uniform).sum(axis=2)
        return np.asarray(p[:, None] - (label[..., None] == np.arange(shape[2])))
    if loss == "binary_cross_entropy":
        p = np.broadcast_to(expit(z)[:, None], shape)
        return np.asarray(p - (generator.random(shape) < p))
    if loss == "poisson":
        rate = np.broadcast_to(np.exp(z)[:, None], shape)
        return np.asarray(rate - poisson_quantile(generator.random(shape), rate))
    if loss == "huber":
        return drawn_huber_slopes(delta, shape, generator)
    return np.asarray(ndtri(np.maximum(generator.random(shape), 2.0**-54)))


def numbers_per_draw(loss: str, num_outputs: int) -> int:
    """Return how many uniform numbers :func:`drawn_gradients` takes for one draw of one row."""
    return {"softmax_cross_entropy": 1, "huber": 2 * num_outputs}.get(loss, num_outputs)


def poisson_quantile(u: NDArray[np.float64], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least count whose cumulative probability is at least ``u``.

    Examples
    --------
    >>> poisson_quantile(np.array([0.0, 0.3, 0.4, 0.9]), np.ones(4))
    array([0., 0., 1., 2.])
    """
    count = np.ceil(pdtrik(u, rate))
    before = np.maximum(count - 1, 0)
    return np.asarray(np.where(pdtr(before, rate) >= u, before, count))


def drawn_huber_slopes(delta: float, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw the slope of huber's loss at residuals of density ~ exp(-huber): normal within delta, else +-delta."""
    inside = np.sqrt(2 * np.pi) * (ndtr(delta) - ndtr(-delta))
    tails = 2.0 / delta * np.exp(-0.5 * delta * delta)
    u, v = np.moveaxis(generator.random((*shape, 2)), -1, 0)
    core = ndtri(ndtr(-delta) + u * (ndtr(delta) - ndtr(-delta)))
    is_tail = v < tails / (inside + tails)
    return np.asarray(np.where(is_tail, np.where(u < 0.5, -delta, delta), np.clip(core, -delta, delta)))
