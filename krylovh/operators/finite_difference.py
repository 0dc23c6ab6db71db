"""Products with the Hessian from differences of gradients: slower and less accurate than the exact ones, but simple.

For a unit vector d, ``H d`` is the derivative of ``g(t) = gradient(theta + t d)`` at 0, and central differences give

    order 2    (g(h) - g(-h)) / 2h                                  error  h^2 |g'''| / 6   + noise / sqrt(2) h
    order 4    (8 (g(h) - g(-h)) - (g(2h) - g(-2h))) / 12h          error  h^4 |g^(5)| / 30 + 0.95 noise / h

A short step drowns in the noise of rounded gradients, a long one sees higher derivatives.  Both parts are measured: the
noise once, from a table of differences of gradients at close points, where what is left after some orders is noise; and
the other part for each direction, from differences with two steps, H and 2H.  The step that is used makes their sum
least, and the sum is the error that is reported.  With the best step, errors of about eps^(2/3) and eps^(4/5) remain:
relative to |H d| some 4e-11 and 5e-13 in float64, 2e-5 and 5e-6 in float32, for nets with parameters of order 1.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import finite_array
from krylovh.objective import Objective
from krylovh.operators.real_symmetric import RealSymmetricOperator

Array = NDArray[np.float64]
T = TypeVar("T")
Difference = Callable[[float], Array]  # t -> g(t) - g(-t)

# order -> weights of the differences with steps h, 2h, ...
STENCILS = {2: (1 / 2,), 4: (2 / 3, -1 / 12)}

NUM_NOISE_POINTS = 7
NOISE_RATIO = 4.0  # noise levels from three successive orders of differences agree within this factor (More and Wild)
NOISE_SPACINGS = (1.0, 2.0**-4, 2.0**-8)  # tried one after the other, relative to sqrt(eps) |theta|
LARGEST_RELATIVE_ERROR = 0.1  # of a difference whose error is taken to shrink like a power of the step
MAX_PILOT_STEPS = 60
SIGMAS = 2.0  # of noise in the reported error

__all__ = ["FiniteDifferenceOperator"]


class Pilot(NamedTuple):
    """A step, the difference quotient with it, and the two parts of its error."""

    step: float
    quotient: Array
    truncation: float
    rounding: float


class FiniteDifferenceOperator(RealSymmetricOperator):
    """The Hessian of an objective by central differences of its gradient, with an estimate of each error.

    Symmetric up to that error.  A product takes 6 (order 2) or 10 gradients (order 4), rarely twice as many, and the
    first one about 15 more to measure the noise.  Errors are estimates that assume ``order + 2`` derivatives: a kink of
    relu or of the huber loss within the steps is mostly noticed, and then reported as a large error; many kinks may not
    be.

    Parameters
    ----------
    objective : Objective
    order : {2, 4}
        Power of the step in the error.
    step : float, optional
        A fixed step along unit vectors instead of the chosen one: a product is then 2 or 4 gradients.
    rng : int, numpy.random.Generator or None
        Seed of the direction along which the noise is measured.

    References
    ----------
    Moré and Wild (2011), Estimating computational noise.
    Moré and Wild (2012), Estimating derivatives of noisy simulations.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> D = FiniteDifferenceOperator(Objective(net, [[1.0]], [1.0], loss="squared_error"), rng=0)
    >>> product, error = D.product_with_error([1.0, 0.0])
    >>> product.round(6), error < 1e-6
    (array([ 9., 11.]), True)
    """

    def __init__(
        self,
        objective: Objective,
        *,
        order: int = 2,
        step: float | None = None,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        if order not in STENCILS:
            raise ValueError(f"order must be one of {tuple(STENCILS)}, got {order!r}")
        if step is not None and not (np.isfinite(step) and step > 0):
            raise ValueError(f"step must be finite and above 0, got {step}")
        super().__init__(objective.dtype, objective.num_parameters)
        self.objective = objective
        self.order = order
        self.step = None if step is None else float(step)
        self.seed = objective.agree(rng if isinstance(rng, int) else int(np.random.default_rng(rng).integers(2**63)))
        self._theta = objective.network_arguments[2].astype(np.float64)
        self._num_gradients = 0

    def agree(self, value: T) -> T:
        """Return what :meth:`krylovh.Objective.agree` makes of a value."""
        return self.objective.agree(value)

    @property
    def num_gradients(self) -> int:
        """Gradients computed so far, those that measured the noise included."""
        return self._num_gradients

    def product_with_error(self, v: ArrayLike) -> tuple[NDArray[Any], float]:
        """Return ``H v``, shape (P,), and an estimate of the 2-norm of its error.

        Raises
        ------
        ValueError, TypeError
            For a ``v`` of another shape, not real, NaN or infinite.
        FloatingPointError
            If the gradient is not finite at theta or close to it.
        """
        direction, length = unit_vector(self._checked(v))
        if length == 0.0:
            return np.zeros(self.shape[0], self.dtype), 0.0
        difference = self._differences_along(direction)
        pilot = self._pilot(difference, self._start if self.step is None else self.step, is_fixed=self.step is not None)
        quotient, truncation, rounding = pilot.quotient, pilot.truncation, pilot.rounding
        if self.step is None and self.order * truncation > rounding:
            ratio = (rounding / (self.order * truncation)) ** (1 / (self.order + 1))
            quotient = self._quotient(difference, ratio * pilot.step)
            # where the error has not shrunk like a power of the step, it is what the quotient has moved by
            excess = float(np.linalg.norm(quotient - pilot.quotient)) - truncation - SIGMAS * rounding
            truncation, rounding = ratio**self.order * truncation, rounding / ratio
            truncation = max(truncation, excess)
        return (length * quotient).astype(self.dtype), length * (truncation + SIGMAS * rounding)

    @cached_property
    def noise(self) -> float:
        """The 2-norm of the rounding errors of one gradient near theta, as they show in its differences."""
        direction, _ = unit_vector(np.random.default_rng(self.seed).standard_normal(self.shape[0]))
        spacing = math.sqrt(np.finfo(self.dtype).eps) * self._scale
        for factor in NOISE_SPACINGS:
            offsets = (np.arange(NUM_NOISE_POINTS) - NUM_NOISE_POINTS // 2) * factor * spacing
            table = np.array([self._gradient_at(t, direction) for t in offsets])
            if not np.isfinite(table).all():
                raise FloatingPointError(f"the gradient is not finite close to theta in {self.dtype}")
            level, is_noise = noise_level(table)
            if is_noise:
                break
        # at least half an ulp: integers may be exact at the points of the table, and nowhere else
        return max(level, 0.5 * float(np.finfo(self.dtype).eps * np.linalg.norm(table[NUM_NOISE_POINTS // 2])))

    @cached_property
    def _start(self) -> float:
        """The step that suits the direction of the noise, from which other directions start."""
        direction, _ = unit_vector(np.random.default_rng(self.seed).standard_normal(self.shape[0]))
        first = float(np.finfo(self.dtype).eps) ** (1 / (self.order + 1)) * self._scale
        return self._pilot(self._differences_along(direction), first).step

    @property
    def _scale(self) -> float:
        return float(np.linalg.norm(self._theta)) or 1.0

    def _pilot(self, difference: Difference, step: float, *, is_fixed: bool = False) -> Pilot:
        """Look for a step with an error that is above the noise and shrinks like a power of the step.

        Where there is no such step the one where noise takes over is as good as any.
        """
        was_short = was_long = False
        noise_factor = math.sqrt(2 * sum(weight * weight for weight in STENCILS[self.order]))
        for _ in range(MAX_PILOT_STEPS):
            with np.errstate(over="ignore", invalid="ignore"):  # a long step may leave the range of numbers
                fine, coarse = (self._quotient(difference, h) for h in (step, 2 * step))
                truncation = float(np.linalg.norm(coarse - fine)) / (2**self.order - 1)
            rounding = noise_factor * self.noise / step
            pilot = Pilot(step, fine, truncation, rounding)
            if is_fixed:
                break
            if truncation <= SIGMAS * rounding:
                if was_long or 2 * step > self._scale:
                    break
                was_short, step = True, 2 * step
            elif not truncation <= LARGEST_RELATIVE_ERROR * np.linalg.norm(fine):  # NaN is too long as well
                if was_short:
                    break
                was_long, step = True, step / 2
            else:
                break
        return pilot

    def _quotient(self, difference: Difference, step: float) -> Array:
        terms = [weight * difference(i * step) for i, weight in enumerate(STENCILS[self.order], start=1)]
        return np.asarray(sum(terms[1:], terms[0]) / step)

    def _differences_along(self, direction: Array) -> Difference:
        known: dict[float, Array] = {}

        def difference(t: float) -> Array:
            if t not in known:
                known[t] = self._gradient_at(t, direction) - self._gradient_at(-t, direction)
            return known[t]

        return difference

    def _gradient_at(self, t: float, direction: Array) -> Array:
        with self._lock:
            self._num_gradients += 1
        return self.objective.at(self._theta + t * direction).gradient().astype(np.float64)

    def _multiply(self, V: NDArray[Any]) -> NDArray[Any]:
        out = np.empty(V.shape, self.dtype, order="F")
        for j in range(V.shape[1]):
            if self.step is None:
                out[:, j] = self.product_with_error(V[:, j])[0]
            else:
                direction, length = unit_vector(self._checked(V[:, j]))
                out[:, j] = length * self._quotient(self._differences_along(direction), self.step)
        return out

    def _checked(self, v: ArrayLike) -> Array:
        vector = finite_array("v", v, np.float64)
        if vector.shape != self.shape[:1]:
            raise ValueError(f"v must have shape {self.shape[:1]}, got {vector.shape}")
        return vector

    def __repr__(self) -> str:
        return f"<FiniteDifferenceOperator of order {self.order} of {self.objective!r}>"


def unit_vector(v: Array) -> tuple[Array, float]:
    """Return ``v / |v|`` and |v|; exact under powers of two, and safe from overflow.  Zeros stay zeros.

    Examples
    --------
    >>> unit_vector(np.array([3e300, 4e300]))
    (array([0.6, 0.8]), 5e+300)
    """
    largest = float(np.abs(v).max(initial=0.0))
    if largest == 0.0:
        return v, 0.0
    exponent = math.frexp(largest)[1]
    mantissa = np.ldexp(v, -exponent)
    norm = float(np.linalg.norm(mantissa))
    return mantissa / norm, math.ldexp(norm, exponent)


def noise_level(table: Array) -> tuple[float, bool]:
    """Return the noise in a vector from its values at equidistant points (points, n), and whether it shows as such.

    Differences of order k of independent errors with deviation s have variance s^2 (2k)! / (k!)^2, while those of a
    smooth function vanish with rising k.  Levels from three successive orders that agree are noise; the last order
    bounds it otherwise.

    Examples
    --------
    >>> noise = 1e-3 * np.random.default_rng(0).standard_normal((7, 10_000))
    >>> level, is_noise = noise_level(np.linspace(0, 1e-2, 7)[:, None] ** 2 + noise)
    >>> round(level, 3), is_noise
    (0.1, True)
    """
    levels, differences = [], table
    for k in range(1, len(table)):
        differences = np.diff(differences, axis=0)
        levels.append(math.sqrt(float(np.sum(differences**2)) / len(differences) / math.comb(2 * k, k)))
    for k in range(len(levels) - 2):
        chosen = levels[k : k + 3]
        if max(chosen) <= NOISE_RATIO * min(chosen):
            return chosen[0], True
    return levels[-1], False
