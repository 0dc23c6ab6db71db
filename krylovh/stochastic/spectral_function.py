"""Functions on a spectrum, and Gauss and Gauss-Radau rules that bracket their integrals.

m Lanczos steps from a unit vector v give the Gauss rule of m nodes for the measure with weight ``(v'u_i)^2`` at
eigenvalue ``lambda_i``.  Its error for a function f is ``f^(2m)(xi) / (2m)!`` times something positive, and that of the
Gauss-Radau rule of m + 1 nodes, one of them prescribed at or below all eigenvalues, ``f^(2m+1)(xi) / (2m+1)!`` times
something positive (Golub and Meurant 1994).  Where the even derivatives of f have one sign and the odd ones the other,
as for log, 1/x, the root, and x/(x + damping), the two rules bracket ``v'f(A)v``.

Otherwise, or where no bound of the spectrum is known, the error is judged from rules of different depth.  The
difference of the rules with m and 3m/4 nodes, three times over, is at least the error of the former if errors decay as
``1/m`` or faster; they decay geometrically for functions that are smooth on the spectrum.  It is a judgement and no
bound: in the first few steps, as long as they find outliers only, the rules may agree on what is wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.scaling import ldexp
from krylovh.stochastic.density import gauss_rule

Array = NDArray[np.float64]

__all__ = ["NonPositiveSpectrumError", "SpectralFunction", "bracket", "radau_rule"]

#: How often the difference of two depths is taken for the error.
_SAFETY = 3.0


class NonPositiveSpectrumError(ValueError):
    """An eigenvalue is zero to rounding, or negative, where the function needs positive ones.

    Examples
    --------
    >>> from krylovh import logdet
    >>> logdet(np.diag([1.0, 2.0, -3.0]), rng=0)
    Traceback (most recent call last):
    krylovh.stochastic.spectral_function.NonPositiveSpectrumError: log needs eigenvalues above 0, but one is at most -3
    """


@dataclass(frozen=True)
class SpectralFunction:
    """A function of eigenvalues.

    ``bracketing`` says that all even derivatives have one sign and all odd ones the other, above ``pole``.

    Examples
    --------
    >>> SpectralFunction.of("inverse")(np.array([2.0, 4.0]))
    array([0.5 , 0.25])
    """

    name: str
    function: Callable[[Array], Any]
    pole: float | None = None  # eigenvalues must lie above
    bracketing: bool = False

    @classmethod
    def of(cls, f: "str | Callable[[Array], Any] | SpectralFunction") -> "SpectralFunction":
        """Return a function by its name, or a callable as a function that nothing is known about."""
        if isinstance(f, SpectralFunction):
            return f
        if isinstance(f, str):
            if f not in NAMED:
                raise ValueError(f"f must be a function or one of {tuple(NAMED)}, got {f!r}")
            return NAMED[f]
        if not callable(f):
            raise TypeError(f"f must be a function or one of {tuple(NAMED)}, got {f!r}")
        return cls(getattr(f, "__name__", "f"), f)

    @classmethod
    def resolvent_part(cls, damping: float) -> "SpectralFunction":
        """Return ``x / (x + damping)``."""
        return cls("x / (x + damping)", lambda x: x / (x + damping), -damping, bracketing=True)

    def check(self, nodes: Array, tolerance: float) -> None:
        """Refuse nodes that are not above the pole by more than rounding."""
        if self.pole is not None and nodes.size and not nodes.min() > self.pole + tolerance:
            least = float(nodes.min())
            raise NonPositiveSpectrumError(
                f"{self.name} needs eigenvalues above {self.pole:g}, but one is at most {least:.4g}"
                + (f", which is {self.pole:g} to rounding" if least > self.pole else "")
            )

    def __call__(self, x: Array) -> Array:
        """Return the values, finite and of the shape of ``x``."""
        with np.errstate(all="ignore"):  # what is not finite is refused by its argument
            values = np.asarray(self.function(x))
        if values.shape != x.shape or values.dtype.kind not in "fiu":
            raise ValueError(f"f must return {x.size} real values for {x.size}, got {values.dtype} {values.shape}")
        finite = np.isfinite(values)
        if not finite.all():
            at = int(np.argmin(finite))
            raise ValueError(f"f must be finite on the spectrum, got {values[at]} at the Ritz value {x[at]:.6g}")
        return values.astype(np.float64)


NAMED = {
    "log": SpectralFunction("log", np.log, 0.0, bracketing=True),
    "inverse": SpectralFunction("inverse", lambda x: 1 / x, 0.0, bracketing=True),
    "sqrt": SpectralFunction("sqrt", np.sqrt, 0.0, bracketing=True),
    "exp": SpectralFunction("exp", np.exp),
}


def bracket(
    f: SpectralFunction,
    alphas: Array,
    betas: Array,
    exponent: int,
    invariant: bool,
    lower: float | None,
    tolerance: float,
) -> tuple[float, float, float]:
    """Return the middle and half of the width of a bracket of ``v'f(A)v``, and what rounding may add.

    Parameters
    ----------
    f : SpectralFunction
    alphas, betas : ndarray, shape (m,)
        Diagonal and off-diagonal of T of ``2**-exponent A``; the last entry of ``betas`` is the norm of the residual.
    exponent : int
    invariant : bool
        The space is invariant: the rule is exact.
    lower : float, optional
        A number that is at most every eigenvalue of A.
    tolerance : float
        Rounding of the nodes, relative to the largest.

    Examples
    --------
    The measure with weights 1/2 at 1 and 3, from one step: the mean of 1/x is 2/3.

    >>> middle, half, _ = bracket(NAMED["inverse"], np.array([2.0]), np.array([1.0]), 0, False, 0.5, 1e-15)
    >>> round(middle - half, 3), round(middle + half, 3)
    (0.5, 0.875)
    """
    m = alphas.size
    nodes, weights = gauss_rule(alphas, betas[: m - 1])
    unscaled = ldexp(nodes, exponent)
    shift = tolerance * float(np.abs(unscaled).max())
    f.check(unscaled, shift)
    values = f(unscaled)
    gauss = float(weights @ values)
    rounding = float(weights @ np.abs(f(unscaled + shift) - values)) + 2.0**-50 * float(weights @ np.abs(values))
    if invariant:
        return gauss, 0.0, rounding
    if lower is not None and unscaled[0] < lower - shift:
        raise ValueError(
            f"lower_bound must be at most every eigenvalue, got {lower!r}, but one is at most {unscaled[0]:.6g}"
        )
    if f.bracketing and lower is not None and lower - shift > (f.pole if f.pole is not None else -np.inf):
        other = _radau(f, alphas, betas, exponent, lower - shift)
        return (gauss + other) / 2, abs(gauss - other) / 2, rounding
    shallow = m - max(1, m // 4)
    if shallow < 1:
        return gauss, np.inf, rounding
    nodes, weights = gauss_rule(alphas[:shallow], betas[: shallow - 1])
    return gauss, _SAFETY * abs(gauss - float(weights @ f(ldexp(nodes, exponent)))), rounding


def radau_rule(alphas: Array, betas: Array, node: float) -> tuple[Array, Array]:
    """Return nodes and weights of the rule of m + 1 nodes that has one of them at ``node``: Golub (1973).

    Parameters
    ----------
    alphas, betas : ndarray, shape (m,)
        As for :func:`bracket`, with ``exponent`` 0.
    node : float
        No node of the Gauss rule of m nodes.

    Examples
    --------
    >>> nodes, weights = radau_rule(np.array([2.0]), np.array([1.0]), 1.0)  # the measure with weights 1/2 at 1 and 3
    >>> nodes.round(12), weights.round(12)
    (array([1., 3.]), array([0.5, 0.5]))
    """
    m = alphas.size
    T = np.diag(alphas - node) + np.diag(betas[: m - 1], -1) + np.diag(betas[: m - 1], 1)
    unit = np.zeros(m)
    unit[-1] = betas[m - 1] ** 2
    return gauss_rule(np.append(alphas, node + np.linalg.solve(T, unit)[-1]), betas)


def _radau(f: SpectralFunction, alphas: Array, betas: Array, exponent: int, lower: float) -> float:
    a = ldexp(lower, -exponent)
    nodes, weights = radau_rule(alphas, betas, a)
    nodes[0] = max(nodes[0], a)  # it is a, up to rounding
    return float(weights @ f(ldexp(nodes, exponent)))
