"""Activations: value, first and second derivative at one point, in double precision whatever the net's dtype.

Each formula is arranged so that the derivatives keep their relative accuracy far out in the tails, where ``1 - z*z``
would have cancelled, and neither overflow nor NaN appears for any finite argument (``exp`` alone overflows, as it
must).  At a kink: relu'(0) = 0, leaky_relu'(0), elu'(0) and selu'(0) are those of the negative side, and relu'' is 0.
"""

import math

from .jit import exact_subroutine, subroutine

__all__ = ["ACTIVATIONS", "activate"]

ACTIVATIONS = (
    "identity", "logistic", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus",
    "gelu", "gelu_tanh", "silu", "mish", "sin", "softsign", "exp",
)  # fmt: skip
(
    IDENTITY, LOGISTIC, TANH, RELU, LEAKY_RELU, ELU, SELU, SOFTPLUS,
    GELU, GELU_TANH, SILU, MISH, SIN, SOFTSIGN, EXP,
) = range(len(ACTIVATIONS))  # fmt: skip

LEAKY_SLOPE = 0.01
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

INV_SQRT2_HIGH, INV_SQRT2_LOW = 0.7071067811865476, -4.833646656726457e-17  # 1/sqrt(2) in two doubles
INV_SQRT_2PI = 0.3989422804014327
SQRT_2_OVER_PI = 0.7978845608028654
GELU_CUBIC = 0.044715
SPLITTER = 134217729.0  # 2^27 + 1


@exact_subroutine
def leading_half(x):
    """Return x rounded to 26 bits, so that its square is exact (Veltkamp)."""
    t = SPLITTER * x
    return t - (t - x)


@exact_subroutine
def normal_density(a):
    """Return exp(-a^2/2)/sqrt(2 pi) without the amplified rounding error of a^2."""
    if abs(a) > 40.0:
        return 0.0
    high = leading_half(a)
    return INV_SQRT_2PI * math.exp(-0.5 * high * high) * math.exp(-0.5 * (a - high) * (a + high))


@exact_subroutine
def normal_distribution(a):
    """Return P(Z <= a), accurate relative to itself in the left tail."""
    if a < -40.0:
        return 0.0
    if a > 10.0:
        return 1.0
    t = -a * INV_SQRT2_HIGH
    # what the rounding of a/sqrt(2) lost, put back to first order: erfc'(t) = -2/sqrt(pi) exp(-t^2)
    a_high, c_high = leading_half(-a), leading_half(INV_SQRT2_HIGH)
    a_low, c_low = -a - a_high, INV_SQRT2_HIGH - c_high
    lost = ((a_high * c_high - t) + a_high * c_low + a_low * c_high) + a_low * c_low - a * INV_SQRT2_LOW
    return 0.5 * math.erfc(t) - lost * normal_density(a) * math.sqrt(2.0)


@exact_subroutine
def decay(t):
    """Return ``exp(-t)`` and ``1 - exp(-t)`` for t >= 0, each accurate relative to itself, by one library call."""
    if t > 0.7:  # exp(-t) < 1/2
        e = math.exp(-t)
        return e, 1.0 - e
    m = -math.expm1(-t)
    return 1.0 - m, m


@exact_subroutine
def logistic(a):
    """Return the logistic function with its first and second derivative."""
    e, m = decay(abs(a))
    upper = 1.0 / (1.0 + e)
    lower = e * upper
    slope = upper * lower
    tilt = m * upper  # |tanh(a/2)|
    if a >= 0.0:
        return upper, slope, -slope * tilt
    return lower, slope, slope * tilt


@exact_subroutine
def tanh(a):
    e, m = decay(2.0 * abs(a))
    r = 1.0 / (1.0 + e)
    z = math.copysign(m * r, a)
    slope = 4.0 * e * r * r
    return z, slope, -2.0 * z * slope


@exact_subroutine
def softplus(a):
    s, slope, _ = logistic(a)
    return max(a, 0.0) + math.log1p(math.exp(-abs(a))), s, slope


@exact_subroutine
def elu(a):
    if a > 0.0:
        return a, 1.0, 0.0
    e, m = decay(-a)
    return -m, e, e


@exact_subroutine
def gelu(a):
    """A Phi(a) and its derivatives Phi + a phi, (2 - a^2) phi."""
    phi, Phi = normal_density(a), normal_distribution(a)
    if phi == 0.0:  # so far out that a^2 could overflow
        return a * Phi, Phi, 0.0
    return a * Phi, Phi + a * phi, (2.0 - a * a) * phi


@exact_subroutine
def gelu_tanh(a):
    """a/2 (1 + tanh(w)) = a logistic(2w) with w = sqrt(2/pi) (a + 0.044715 a^3)."""
    if abs(a) > 1e3:  # beyond all rounding; a^3 could overflow
        return (a, 1.0, 0.0) if a > 0.0 else (-0.0, 0.0, 0.0)
    w = 2.0 * SQRT_2_OVER_PI * (a + GELU_CUBIC * a * a * a)
    w1 = 2.0 * SQRT_2_OVER_PI * (1.0 + 3.0 * GELU_CUBIC * a * a)
    w2 = 12.0 * SQRT_2_OVER_PI * GELU_CUBIC * a
    s, s1, s2 = logistic(w)
    first, second = s1 * w1, s2 * w1 * w1 + s1 * w2
    return a * s, s + a * first, 2.0 * first + a * second


@exact_subroutine
def silu(a):
    s, s1, s2 = logistic(a)
    if s1 == 0.0:
        return a * s, s, 0.0
    return a * s, s + a * s1, 2.0 * s1 + a * s2


@exact_subroutine
def mish(a):
    """A tanh(softplus(a)), written in e = exp(-|a|) on both sides so that nothing overflows."""
    e = math.exp(-abs(a))
    if e == 0.0:
        return (a, 1.0, 0.0) if a > 0.0 else (-0.0, 0.0, 0.0)
    if a > 0.0:
        d = 1.0 + 2.0 * e * (1.0 + e)
        r = e / d
        t = (1.0 + 2.0 * e) / d
        t1 = 4.0 * r * r * (1.0 + e)
        t2 = 4.0 * r * r * (2.0 * e * e * (1.0 + e) - (2.0 + 3.0 * e)) / d
    else:
        d = 2.0 + e * (2.0 + e)
        r = e / d
        t = r * (2.0 + e)
        t1 = 4.0 * r * (1.0 + e) / d
        t2 = 4.0 * r * (2.0 * (1.0 + e) - e * e * (3.0 + 2.0 * e)) / (d * d)
    return a * t, t + a * t1, 2.0 * t1 + a * t2


@exact_subroutine
def softsign(a):
    r = 1.0 / (1.0 + abs(a))
    return a * r, r * r, -2.0 * math.copysign(r * r * r, a) if a != 0.0 else 0.0


@exact_subroutine
def relu(a):
    return max(a, 0.0 * a), 1.0 if a > 0.0 else 0.0, 0.0


@exact_subroutine
def leaky_relu(a):
    slope = 1.0 if a > 0.0 else LEAKY_SLOPE
    return slope * a, slope, 0.0


@exact_subroutine
def selu(a):
    value, first, second = elu(a)
    scale = SELU_SCALE if a > 0.0 else SELU_SCALE * SELU_ALPHA
    return scale * value, scale * first, scale * second


@exact_subroutine
def sin(a):
    s = math.sin(a)
    return s, math.cos(a), -s


@exact_subroutine
def exp(a):
    e = math.exp(a)
    return e, e, e


def applied(function):
    """Return a function that replaces ``z[start:start+count]`` by values, with both derivatives beside them."""

    @subroutine
    def loop(z, s1, s2, start, count):
        for i in range(start, start + count):
            z[i], s1[i], s2[i] = function(float(z[i]))

    return loop


to_logistic, to_tanh, to_relu, to_leaky_relu = applied(logistic), applied(tanh), applied(relu), applied(leaky_relu)
to_elu, to_selu, to_softplus, to_gelu = applied(elu), applied(selu), applied(softplus), applied(gelu)
to_gelu_tanh, to_silu, to_mish, to_sin = applied(gelu_tanh), applied(silu), applied(mish), applied(sin)
to_softsign, to_exp = applied(softsign), applied(exp)


@subroutine
def activate(code, z, s1, s2, start, count):
    """Replace pre-activations ``z[start:start+count]`` by values; write both derivatives beside them."""
    if code == IDENTITY:
        for i in range(start, start + count):
            s1[i] = 1.0
            s2[i] = 0.0
    elif code == LOGISTIC:
        to_logistic(z, s1, s2, start, count)
    elif code == TANH:
        to_tanh(z, s1, s2, start, count)
    elif code == RELU:
        to_relu(z, s1, s2, start, count)
    elif code == LEAKY_RELU:
        to_leaky_relu(z, s1, s2, start, count)
    elif code == ELU:
        to_elu(z, s1, s2, start, count)
    elif code == SELU:
        to_selu(z, s1, s2, start, count)
    elif code == SOFTPLUS:
        to_softplus(z, s1, s2, start, count)
    elif code == GELU:
        to_gelu(z, s1, s2, start, count)
    elif code == GELU_TANH:
        to_gelu_tanh(z, s1, s2, start, count)
    elif code == SILU:
        to_silu(z, s1, s2, start, count)
    elif code == MISH:
        to_mish(z, s1, s2, start, count)
    elif code == SIN:
        to_sin(z, s1, s2, start, count)
    elif code == SOFTSIGN:
        to_softsign(z, s1, s2, start, count)
    else:
        to_exp(z, s1, s2, start, count)
