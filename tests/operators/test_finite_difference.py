"""Finite differences against exact products: attainable accuracy, honest errors, and the powers of the step."""

import pickle

import numpy as np
import pytest

from cases import problem
from krylovh import FiniteDifferenceOperator, HessianOperator, Network, Objective
from krylovh.operators.finite_difference import noise_level

ORDERS = pytest.mark.parametrize("order", [2, 4])
# median relative error that the best step attains, with a margin of 10: eps^(2/3) and eps^(4/5)
ATTAINABLE = {(np.float64, 2): 4e-10, (np.float64, 4): 3e-12, (np.float32, 2): 2.4e-4, (np.float32, 4): 3e-5}


@ORDERS
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("topology", "activation", "loss"),
    [("chain", "tanh", "softmax_cross_entropy"), ("skip", "sin", "squared_error"), ("residual", "exp", "poisson")],
)
def test_error_is_attainable_and_within_the_reported_one(topology, activation, loss, dtype, order):
    objective, *_ = problem(topology, activation, loss, ridge=True, dtype=dtype)
    D, H = FiniteDifferenceOperator(objective, order=order, rng=0), HessianOperator(objective)
    rng, n = np.random.default_rng(1), objective.num_parameters
    directions = [*rng.standard_normal((10, n)), *np.eye(n)[rng.choice(n, 10, replace=False)]]
    errors, reported, norms = np.empty((3, len(directions)))
    for i, v in enumerate(directions):
        found, reported[i] = D.product_with_error(v)
        exact = H @ v.astype(dtype)
        assert found.dtype == dtype
        errors[i], norms[i] = np.linalg.norm(found - exact), np.linalg.norm(exact)
    assert np.count_nonzero(errors <= reported) >= 18
    assert np.median(errors / norms) <= ATTAINABLE[dtype, order]
    assert np.median(reported / norms) <= 10 * ATTAINABLE[dtype, order]


@ORDERS
def test_error_of_a_fixed_step_falls_like_its_power(order):
    objective, *_ = problem("skip", "tanh")
    exact = HessianOperator(objective) @ (v := np.ones(objective.num_parameters))
    steps = np.array([0.2, 0.1, 0.05])
    errors = [np.linalg.norm(FiniteDifferenceOperator(objective, order=order, step=h) @ v - exact) for h in steps]
    slopes = np.diff(np.log(errors)) / np.diff(np.log(steps))
    assert np.allclose(slopes, order, atol=0.2)


@ORDERS
def test_reported_error_of_a_fixed_step_is_that_of_the_step(order):
    objective, *_ = problem()
    v = np.random.default_rng(0).standard_normal(objective.num_parameters)
    exact = HessianOperator(objective) @ v
    for step in (1e-1, 1e-9):  # errors of the formula, and of the noise
        found, error = FiniteDifferenceOperator(objective, order=order, step=step, rng=0).product_with_error(v)
        assert error / 10 <= np.linalg.norm(found - exact) <= 1.2 * error


@ORDERS
@pytest.mark.parametrize("exponent", [-300, -40, 7, 900])
def test_powers_of_two_scale_products_and_errors_exactly(exponent, order):
    objective, *_ = problem()
    D = FiniteDifferenceOperator(objective, order=order, rng=0)
    v = np.random.default_rng(0).standard_normal(objective.num_parameters)
    product, error = D.product_with_error(v)
    scaled_product, scaled_error = D.product_with_error(np.ldexp(v, exponent))
    assert np.array_equal(scaled_product, np.ldexp(product, exponent))
    assert scaled_error == np.ldexp(error, exponent)


def test_zero_costs_nothing_and_gradients_are_counted():
    objective, *_ = problem()
    n = objective.num_parameters
    D = FiniteDifferenceOperator(objective, rng=0)
    product, error = D.product_with_error(np.zeros(n))
    assert (product.any(), error, D.num_gradients, D.num_products) == (False, 0.0, 0, 0)
    fixed = FiniteDifferenceOperator(objective, order=4, step=1e-3)
    fixed @ np.eye(n)[:, :3]
    assert (fixed.num_products, fixed.num_gradients) == (3, 12)


def test_quadratic_objective_takes_the_longest_step_and_is_nearly_exact():
    rng = np.random.default_rng(0)
    net = Network((4, 1), "identity", rng.standard_normal(5))
    objective = Objective(net, rng.standard_normal((30, 4)), rng.standard_normal(30), loss="squared_error")
    v = rng.standard_normal(5)
    exact = HessianOperator(objective) @ v
    found, error = FiniteDifferenceOperator(objective, rng=0).product_with_error(v)
    assert np.linalg.norm(found - exact) <= error <= 1e-14 * np.linalg.norm(exact)


def test_direction_that_changes_nothing_has_an_error_of_the_size_of_the_noise():
    net = Network((2, 3, 2), "tanh", np.ones(17))
    X = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])  # the weights of the first input are never used
    objective = Objective(net, X, [0, 1, 1], loss="softmax_cross_entropy")
    found, error = FiniteDifferenceOperator(objective, rng=0).product_with_error(np.eye(17)[0])
    assert np.linalg.norm(found) <= error <= 1e-14


def test_kink_within_the_steps_is_reported_as_a_large_error():
    net = Network((1, 1, 1), ["relu", "identity"], [1.0, 1.0], bias=False)
    objective = Objective(net, [[1e-3], [2.0]], [0.0, 1.0], loss="huber", loss_options={"delta": 1.0 + 1e-7})
    v = np.array([1.0, 0.0])
    found, error = FiniteDifferenceOperator(objective, rng=0).product_with_error(v)
    assert np.linalg.norm(found - HessianOperator(objective) @ v) <= error


def test_noise_of_independent_errors_is_found_under_a_smooth_function():
    noise = 1e-6 * np.random.default_rng(0).standard_normal((7, 5000))
    smooth = np.exp(np.linspace(0, 1e-3, 7))[:, None]
    level, is_noise = noise_level(smooth + noise)
    assert is_noise
    assert np.isclose(level, 1e-6 * np.sqrt(5000), rtol=0.1)
    assert not noise_level(np.exp(np.linspace(0, 2, 7))[:, None] * np.ones(3))[1]


def test_same_seed_gives_the_same_bits_and_order_of_calls_does_not_matter():
    objective, *_ = problem()
    V = np.random.default_rng(0).standard_normal((objective.num_parameters, 3))
    first, second = (FiniteDifferenceOperator(objective, rng=4) for _ in range(2))
    assert np.array_equal(first @ V, (second @ V[:, ::-1])[:, ::-1])
    assert np.array_equal(pickle.loads(pickle.dumps(first)) @ V, first @ V)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 3}, r"order must be one of \(2, 4\), got 3"),
        ({"step": 0.0}, "step must be finite and above 0, got 0.0"),
        ({"step": np.inf}, "step must be finite and above 0, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    objective, *_ = problem()
    with pytest.raises(ValueError, match=message):
        FiniteDifferenceOperator(objective, **options)


def test_vectors_that_are_not_finite_or_do_not_fit_are_refused():
    objective, *_ = problem()
    D = FiniteDifferenceOperator(objective, rng=0)
    with pytest.raises(ValueError, match=r"v must be finite .* at index 3"):
        D @ np.where(np.arange(D.shape[0]) == 3, np.nan, 1.0)
    with pytest.raises(ValueError, match="v must have shape"):
        D.product_with_error(np.ones(2))
