"""Losses at extreme logits: one sample whose input is 1 makes theta the logits and the gradient dloss/dz."""

import math

import mpmath as mp
import numpy as np
import pytest
from krylovh.kernels import LOSSES

from krylovh import HessianOperator, Network, Objective

RELATIVE = {np.float64: 1e-13, np.float32: 1e-5}
TINY = {np.float64: 1e-300, np.float32: 1e-37}  # where numbers lose digits by underflow
HUGE = {np.float64: 1e4, np.float32: 90.0}
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def at_logits(logits, y, loss, **options):
    logits = np.asarray(logits)
    net = Network((1, logits.size), ["identity"], logits, bias=False)
    return Objective(net, [[1.0]], y, loss=loss, **options)


def softmax_reference(z, y):
    with mp.workdps(60):
        z, y = [mp.mpf(float(x)) for x in z], [mp.mpf(float(x)) for x in y]
        top = max(z)
        total = sum(mp.exp(x - top) for x in z)
        value = sum(t * (mp.log(total) + top - x) for x, t in zip(z, y, strict=True))
        gradient = [sum(y) * mp.exp(x - top) / total - t for x, t in zip(z, y, strict=True)]
        return float(value), np.array([float(g) for g in gradient])


def binary_reference(z, y):
    with mp.workdps(200):
        z, y = mp.mpf(float(z)), mp.mpf(float(y))
        e = mp.exp(-abs(z))
        p, complement = (1 / (1 + e), e / (1 + e)) if z > 0 else (e / (1 + e), 1 / (1 + e))
        value = max(z, mp.mpf(0)) + mp.log1p(e) - y * z
        return float(value), float((1 - y) * p - y * complement)


@DTYPES
@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("form", ["labels", "rows"])
def test_softmax_at_huge_logits_is_finite_and_right(form, label, dtype):
    logits = np.array([1.0, -1.0, 0.999], dtype) * dtype(HUGE[dtype])
    one_hot = np.eye(3)[label]
    objective = at_logits(logits, [label] if form == "labels" else [one_hot], "softmax_cross_entropy")
    value, gradient = softmax_reference(logits, one_hot)
    assert objective.value() == pytest.approx(value, rel=RELATIVE[dtype], abs=TINY[dtype])
    assert np.allclose(objective.gradient(), gradient, rtol=RELATIVE[dtype], atol=TINY[dtype])


@DTYPES
@pytest.mark.parametrize("y", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("size", [1.0, 1e-2, 0.0])
def test_binary_cross_entropy_at_huge_logits_is_finite_and_right(size, sign, y, dtype):
    logit = dtype(sign * size * HUGE[dtype])
    objective = at_logits([logit], [[y]], "binary_cross_entropy", dtype=dtype)
    value, gradient = binary_reference(logit, y)
    assert objective.value() == pytest.approx(value, rel=RELATIVE[dtype], abs=TINY[dtype])
    assert objective.gradient()[0] == pytest.approx(gradient, rel=RELATIVE[dtype], abs=TINY[dtype])


@DTYPES
def test_squared_error_and_huber_at_huge_outputs(dtype):
    z = dtype(HUGE[dtype])
    squared, huber = (at_logits([z], [[-z]], loss, dtype=dtype) for loss in ("squared_error", "huber"))
    assert squared.value() == pytest.approx(2 * HUGE[dtype] ** 2, rel=RELATIVE[dtype])
    assert squared.gradient()[0] == pytest.approx(2 * HUGE[dtype], rel=RELATIVE[dtype])
    assert huber.value() == pytest.approx(2 * HUGE[dtype] - 0.5, rel=RELATIVE[dtype])
    assert huber.gradient()[0] == 1.0


@DTYPES
def test_poisson_at_hugely_negative_rates_and_its_overflow(dtype):
    low = at_logits([dtype(-HUGE[dtype])], [[3.0]], "poisson", dtype=dtype)
    assert low.value() == pytest.approx(3 * HUGE[dtype], rel=RELATIVE[dtype])
    assert low.gradient()[0] == -3.0
    high = at_logits([1e4], [[3.0]], "poisson")
    assert high.value() == math.inf


@DTYPES
@pytest.mark.parametrize("margin", [20.0, 40.0, 80.0])
def test_a_confident_net_keeps_the_digits_of_one_minus_p(margin, dtype):
    softmax = at_logits(np.array([margin, 0.0, 0.5], dtype), [0], "softmax_cross_entropy")
    value, gradient = softmax_reference([margin, 0.0, 0.5], [1, 0, 0])
    assert value < 1e-7
    assert softmax.value() == pytest.approx(value, rel=RELATIVE[dtype])
    assert np.allclose(softmax.gradient(), gradient, rtol=RELATIVE[dtype], atol=0)
    binary = at_logits([dtype(margin)], [[1.0]], "binary_cross_entropy", dtype=dtype)
    value, slope = binary_reference(margin, 1.0)
    assert binary.value() == pytest.approx(value, rel=RELATIVE[dtype])
    assert binary.gradient()[0] == pytest.approx(slope, rel=RELATIVE[dtype])


def test_curvature_of_binary_cross_entropy_keeps_its_digits():
    for logit in (-50.0, -3.0, 3.0, 50.0, 700.0):
        H = HessianOperator(at_logits([logit], [[0.5]], "binary_cross_entropy")) @ np.ones(1)
        e = mp.exp(-abs(mp.mpf(logit)))
        assert H[0] == pytest.approx(float(e / (1 + e) ** 2), rel=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_huge_weights_of_samples_do_not_matter_to_a_mean(loss):
    z = np.array([[0.5, -1.5, 2.0]])
    y = [2] if loss == "softmax_cross_entropy" else np.abs(z) / 2
    plain = at_logits(z.ravel(), y, loss)
    for scale in (1e150, 1e-150):
        weighted = at_logits(z.ravel(), y, loss, sample_weight=[scale])
        assert weighted.value() == pytest.approx(plain.value(), rel=1e-15)
        assert np.allclose(weighted.gradient(), plain.gradient(), rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("spread", [0.0, 3e4])
def test_a_million_losses_are_added_without_losing_digits(spread, threads):
    """Losses exp(10) - 10 y, all positive or of alternating signs; their sum must be that of math.fsum."""
    N, z = 10**6, 10.0
    y = np.abs(spread * np.random.default_rng(0).standard_normal(N)) / 10 + np.random.default_rng(1).random(N)
    net = Network((1, 1), ["identity"], [1.0], bias=False)
    objective = Objective(net, np.full((N, 1), z), y, loss="poisson", reduction="sum", threads=threads)
    losses = math.exp(z) - y * z
    bound = 2 * np.finfo(float).eps * math.fsum(np.abs(losses))
    assert abs(objective.value() - math.fsum(losses)) <= bound
