"""Functions of one number that a graph spells out in arithmetic, and the activations that they are.

Exporters write GELU as ``0.5 x (1 + erf(x / sqrt 2))``, SiLU as ``x sigmoid(x)``, softplus as ``log(1 + exp(x))``, each
in several orders of the same operations.  Instead of a list of patterns the expression is evaluated, and compared with
every activation of :class:`krylovh.Network` over many scales of its argument.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Array = NDArray[Any]
Function = Callable[[Array], Array]

__all__ = ["Form", "activation_function", "recognize"]

# Constants of exporters are float32: sqrt(2) is off by 3e-8.  The two forms of GELU differ by 5e-4.
_TOLERANCE = 2e-6
_NEAR = np.concatenate([np.linspace(-8.0, 8.0, 129), [-1e-3, -1e-6, 1e-6, 1e-3]])
_FAR = np.concatenate([sign * np.array([12.0, 20.0, 50.0, 1e2, 1e3, 1e4, 1e6, 1e9]) for sign in (-1.0, 1.0)])
_POINTS = np.concatenate([_NEAR, _FAR])


class Form(NamedTuple):
    """``scale * activation(x) + shift``."""

    activation: str
    scale: float
    shift: float


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _logistic(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


def _selu(x: Array) -> Array:
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


_FUNCTIONS: dict[str, Function] = {
    "identity": lambda x: x,
    "logistic": _logistic,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": _elu,
    "selu": _selu,
    "softplus": _softplus,
    "gelu": lambda x: 0.5 * x * (1.0 + erf(x / math.sqrt(2.0))),
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _logistic(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "sin": np.sin,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "exp": np.exp,
}


def activation_function(name: str) -> Function:
    """Return an activation by its name, on arrays.

    Examples
    --------
    >>> activation_function("relu")(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return _FUNCTIONS[name]


def recognize(function: Function) -> Form | None:
    """Return which activation a function is, up to a scale and a shift; None if it is none.

    Examples
    --------
    >>> recognize(lambda x: x / (1 + np.exp(-x)))
    Form(activation='silu', scale=1.0, shift=0.0)
    >>> recognize(lambda x: np.clip(x, 0, 6)) is None
    True
    """
    found = _evaluate(function)
    usable = np.isfinite(found)
    if not usable[np.abs(_POINTS) <= 8.0].all():
        return None
    known = {name: _evaluate(candidate) for name, candidate in _FUNCTIONS.items()}
    for name, values in known.items():
        if _agree(found, values, usable):
            return Form(name, 1.0, 0.0)
    near = np.abs(_POINTS) <= 8.0
    for name, values in known.items():
        design = np.stack([values[near], np.ones(near.sum())], axis=1)
        (scale, shift), *_ = np.linalg.lstsq(design, found[near], rcond=None)
        scale, shift = _rounded(scale), _rounded(shift)
        with np.errstate(over="ignore", invalid="ignore"):
            if scale != 0.0 and _agree(found, scale * values + shift, usable):
                return Form(name, scale, shift)
    return None


def _evaluate(function: Function) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(function(_POINTS.copy()), np.float64)


def _agree(found: Array, values: Array, usable: Array) -> bool:
    """Compare where both are finite; an expression may overflow far out where the activation does not."""
    both = usable & np.isfinite(values)
    # functions that pass through zero are compared on the scale of their argument's neighbourhood
    scale = np.maximum(np.abs(values[both]), np.minimum(1.0, np.abs(_POINTS[both])))
    return bool(np.all(np.abs(found[both] - values[both]) <= _TOLERANCE * scale))


def _rounded(value: Any) -> float:
    """Return a fitted number without the rounding of the fit where it is a short one."""
    short = float(f"{float(value):.9g}")
    return short if abs(short - value) <= 1e-9 * max(1.0, abs(short)) else float(value)
