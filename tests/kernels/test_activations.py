"""Every activation and its two derivatives against 50 digits of mpmath, from 1e-300 to 1e308."""

import math

import mpmath as mp
import numba
import numpy as np
import pytest
from krylovh.kernels import ACTIVATIONS
from krylovh.kernels.activations import activate
from krylovh.kernels.jit import JIT_DISABLED

EPS = np.finfo(np.float64).eps
ULPS = 4
UNDERFLOW = mp.mpf("1e-300")
FAR = [1e-300, 1e-8, 700.0, 745.0, 1e3, 1e154, 1e308]
POINTS = np.concatenate([np.linspace(-40, 40, 961), np.linspace(-1.3, 1.3, 101), [0.0], FAR, -np.array(FAR)])


# A reference returns three lists of terms.  Its number is the sum of a list; the rounding error that a formula in
# double precision must be granted is relative to the sum of the magnitudes: one term means full relative accuracy.
def logistic_parts(a):
    e = mp.exp(-abs(a))
    s = 1 / (1 + e) if a >= 0 else e / (1 + e)
    slope = e / (1 + e) ** 2
    return s, slope, -mp.sign(a) * slope * -mp.expm1(-abs(a)) / (1 + e)


def logistic(a):
    return [[part] for part in logistic_parts(a)]


def tanh(a):
    e = mp.exp(-2 * abs(a))
    z, slope = -mp.sign(a) * mp.expm1(-2 * abs(a)) / (1 + e), 4 * e / (1 + e) ** 2
    return [z], [slope], [-2 * z * slope]


def softplus(a):
    s, slope, _ = logistic_parts(a)
    return [max(a, mp.mpf(0)) + mp.log1p(mp.exp(-abs(a)))], [s], [slope]


def elu(a, scale=1, alpha=1):
    if a > 0:
        return [scale * a], [mp.mpf(scale)], [mp.mpf(0)]
    e = scale * alpha * mp.exp(a)
    return [scale * alpha * mp.expm1(a)], [e], [e]


def selu(a):
    return elu(a, mp.mpf("1.0507009873554804934193349852946"), mp.mpf("1.6732632423543772848170429916717"))


def gelu(a):
    if abs(a) > 60:
        return [max(a, mp.mpf(0))], [mp.mpf(a > 0)], [mp.mpf(0)]
    phi = mp.exp(-a * a / 2) / mp.sqrt(2 * mp.pi)
    Phi = mp.erfc(-a / mp.sqrt(2)) / 2
    return [a * Phi], [Phi, a * phi], [2 * phi, -a * a * phi]


def times(a, t, t1, t2):
    """A t(a) for a function t whose derivatives are t1 and the sum of t2."""
    return [a * t], [t, a * t1], [2 * t1, *(a * term for term in t2)]


def gelu_tanh(a):
    c = mp.sqrt(2 / mp.pi) * mp.mpf("0.044715")
    w = 2 * (mp.sqrt(2 / mp.pi) * a + c * a**3)
    w1, w2 = 2 * (mp.sqrt(2 / mp.pi) + 3 * c * a * a), 12 * c * a
    s, s1, s2 = logistic_parts(w)
    # w carries a relative error of some ulp, and exp(w) turns it into w times as much
    return [[(1 + abs(w)) * x for x in terms] for terms in times(a, s, s1 * w1, [s2 * w1**2, s1 * w2])]


def silu(a):
    s, s1, s2 = logistic_parts(a)
    return times(a, s, s1, [s2])


def mish(a):
    s, s1, _ = logistic_parts(a)
    e = mp.exp(-abs(a))
    if a > 0:
        t, sech2 = (1 + 2 * e) / (1 + 2 * e + 2 * e * e), 4 * e * e * (1 + e) ** 2 / (1 + 2 * e + 2 * e * e) ** 2
    else:
        t, sech2 = e * (2 + e) / (2 + 2 * e + e * e), 4 * (1 + e) ** 2 / (2 + 2 * e + e * e) ** 2
    return times(a, t, sech2 * s, [sech2 * s1, -2 * sech2 * t * s * s])


def sin(a):
    return [mp.sin(a)], [mp.cos(a)], [-mp.sin(a)]


def softsign(a):
    r = 1 / (1 + abs(a))
    return [a * r], [r * r], [-2 * mp.sign(a) * r**3]


def exp(a):
    return [mp.exp(a)], [mp.exp(a)], [mp.exp(a)]


def leaky_relu(a):
    slope = mp.mpf(1) if a > 0 else mp.mpf("0.01")
    return [slope * a], [slope], [mp.mpf(0)]


def relu(a):
    return [max(a, mp.mpf(0))], [mp.mpf(a > 0)], [mp.mpf(0)]


def identity(a):
    return [a], [mp.mpf(1)], [mp.mpf(0)]


compiled = activate if JIT_DISABLED else numba.njit(lambda *arguments: activate(*arguments))


def evaluate(name, points):
    """Return value and both derivatives at each point, shape (N, 3)."""
    columns = np.array(points, dtype=np.float64), np.empty(len(points)), np.empty(len(points))
    compiled(ACTIVATIONS.index(name), *columns, 0, len(points))
    return np.column_stack(columns)


REFERENCES = {name: globals()[name] for name in ACTIVATIONS}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_derivatives_equal_mpmath(name):
    with mp.workdps(50):
        for point, computed in zip(POINTS, evaluate(name, POINTS), strict=True):
            expected = REFERENCES[name](mp.mpf(float(point)))
            for order, (found, terms) in enumerate(zip(computed, expected, strict=True)):
                scale = sum(map(abs, terms))
                number = sum(terms)
                if name == "gelu_tanh":
                    number /= 1 + abs(
                        2 * mp.sqrt(2 / mp.pi) * (mp.mpf(point) + mp.mpf("0.044715") * mp.mpf(point) ** 3)
                    )
                where = f"derivative {order} at {point!r}: {found!r}, expected {mp.nstr(number, 17)}"
                if name == "exp" and number > np.finfo(np.float64).max:
                    assert found == math.inf, where
                    continue
                assert math.isfinite(found), where
                assert abs(found - number) <= ULPS * EPS * scale + UNDERFLOW, where


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_at_zero_are_those_documented(name):
    ((_, first, second),) = evaluate(name, [0.0])
    negative_side = {"relu": (0.0, 0.0), "leaky_relu": (0.01, 0.0), "softsign": (1.0, 0.0), "elu": (1.0, 1.0)}
    if name in negative_side:
        assert (first, second) == negative_side[name]
    with mp.workdps(50):
        _, *expected = REFERENCES[name](mp.mpf(0))
    assert (first, second) == pytest.approx([float(sum(terms)) for terms in expected], rel=ULPS * EPS, abs=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_nan(name):
    assert math.isnan(evaluate(name, [math.nan])[0, 0])
