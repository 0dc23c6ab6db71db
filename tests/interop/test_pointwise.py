"""Activations spelled out in arithmetic are recognised, and what only resembles one is not."""

import math

import numpy as np
import pytest
from krylovh.kernels import ACTIVATIONS
from scipy.special import erf, expit

from krylovh.interop.pointwise import Form, activation_function, recognize

ROOT2 = float(np.float32(math.sqrt(2)))

SPELLED = {
    "silu": [lambda x: x * expit(x), lambda x: x / (1 + np.exp(-x))],
    "gelu": [
        lambda x: x * 0.5 * (1 + erf(x / ROOT2)),
        lambda x: (x * (erf(x * np.float32(0.70710677)) + 1)) * 0.5,
    ],
    "gelu_tanh": [lambda x: 0.5 * x * (1 + np.tanh(np.float32(0.7978846) * (x + 0.044715 * np.power(x, 3))))],
    "softplus": [lambda x: np.log(1 + np.exp(x)), lambda x: np.where(x > 20, x, np.log1p(np.exp(x)))],
    "mish": [lambda x: x * np.tanh(np.log1p(np.exp(x)))],
    "leaky_relu": [lambda x: np.maximum(x, np.float32(0.01) * x)],
    "relu": [lambda x: (x + np.abs(x)) / 2],
    "logistic": [lambda x: 0.5 * np.tanh(0.5 * x) + 0.5],
    "softsign": [lambda x: x / (np.abs(x) + 1)],
}


def test_every_activation_of_the_kernels_is_known():
    for name in ACTIVATIONS:
        assert recognize(activation_function(name)) == Form(name, 1.0, 0.0)


@pytest.mark.parametrize(("name", "function"), [(name, f) for name, fs in SPELLED.items() for f in fs])
def test_arithmetic_is_recognised(name, function):
    assert recognize(function) == Form(name, 1.0, 0.0)


def test_scale_and_shift_are_found():
    assert recognize(lambda x: 1 - expit(x)) == Form("logistic", -1.0, 1.0)
    assert recognize(lambda x: 3 * x - 0.25) == Form("identity", 3.0, -0.25)
    assert recognize(lambda x: 2 * np.tanh(x) + 0.5) == Form("tanh", 2.0, 0.5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.clip(x, 0, 6),
        lambda x: np.where(x > 0, x, 0.02 * x),
        lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0))),
        lambda x: x * expit(1.702 * x),
        lambda x: np.tanh(1.001 * x),
        lambda x: x**2,
        lambda x: np.clip(0.2 * x + 0.5, 0, 1),
        lambda x: np.cos(x),
        lambda x: np.log(x),
        lambda x: 0 * x,
    ],
)
def test_what_resembles_an_activation_is_none(function):
    assert recognize(function) is None
