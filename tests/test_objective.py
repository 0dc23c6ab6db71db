"""Value and gradient against an independent gradient, what an objective keeps, and what it refuses."""

import itertools
import math
import pickle

import numpy as np
import pytest
from krylovh.kernels import LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import GaussNewtonOperator, HessianOperator, Network, Objective

TOLERANCE = {np.float64: 1e-13, np.float32: 5e-6}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_value_and_gradient_equal_the_oracle(loss, topology, reduction, dtype):
    for weighted, ridge, limit in itertools.product([False, True], [False, True], [None, 0]):
        objective, arguments, settings = problem(
            topology, "gelu", loss, weighted=weighted, ridge=ridge, dtype=dtype, reduction=reduction, memory_limit=limit
        )
        value, gradient = oracles.value_and_gradient(*arguments, reduction=reduction, **settings)
        assert objective.value() == pytest.approx(value, rel=TOLERANCE[dtype])
        assert objective.gradient().dtype == dtype
        assert np.linalg.norm(objective.gradient() - gradient) <= TOLERANCE[dtype] * np.linalg.norm(gradient)


def test_a_scalar_ridge_covers_every_parameter():
    objective, (net, theta, X, y), settings = problem()
    ridge = Objective(net, X, y, l2=0.5, **settings)
    assert ridge.value() == pytest.approx(objective.value() + 0.25 * theta @ theta, rel=1e-15)
    assert np.allclose(ridge.gradient(), objective.gradient() + 0.5 * theta, rtol=0, atol=1e-15)
    sparing = Objective(net, X, y, l2=0.5 * net.weight_mask(), **settings)
    expected = objective.gradient() + 0.5 * theta * net.weight_mask()
    assert np.allclose(sparing.gradient(), expected, rtol=0, atol=1e-15)


def test_the_delta_of_huber_is_used():
    net = Network((1, 1), ["identity"], [1.0], bias=False)
    for delta, value, slope in [(0.5, 0.5 * (3 - 0.25), 0.5), (3.0, 4.5, 3.0), (5.0, 4.5, 3.0)]:
        objective = Objective(net, [[3.0]], [0.0], loss="huber", loss_options={"delta": delta})
        assert (objective.value(), objective.gradient()[0]) == (value, 3 * slope)
        assert objective.at([1.0]).value() == value  # the option goes along


def test_at_and_subset_are_new_objectives():
    objective, (net, theta, X, y), settings = problem(weighted=True, ridge=True, memory_limit=0, threads=3)
    other = objective.at(theta + 0.1)
    value, gradient = oracles.value_and_gradient(net, theta + 0.1, X, y, **settings)
    assert other.value() == pytest.approx(value, rel=1e-13)
    assert np.allclose(other.gradient(), gradient, rtol=0, atol=1e-13)
    assert (other.memory_limit, other.threads) == (0, 3)
    assert np.array_equal(objective.net.theta, theta)
    for rows in (slice(3, 9), np.arange(23) % 2 == 0, [5, 5, 1]):
        settings_of_rows = settings | {"sample_weight": settings["sample_weight"][rows]}
        value, gradient = oracles.value_and_gradient(net, theta, X[rows], y[rows], **settings_of_rows)
        part = objective.subset(rows)
        assert part.value() == pytest.approx(value, rel=1e-13)
        assert np.allclose(part.gradient(), gradient, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="empty data set"):
        objective.subset([])
    with pytest.raises(ValueError, match="theta must have shape"):
        objective.at(theta[1:])
    with pytest.raises(TypeError, match="theta must be a real array"):
        objective.at(theta + 0j)


def test_parts_of_the_data_add_up_to_the_whole():
    objective, *_ = problem(reduction="sum", num_samples=101)
    parts = [objective.subset(slice(start, start + 13)) for start in range(0, 101, 13)]
    assert sum(part.value() for part in parts) == pytest.approx(objective.value(), rel=1e-14)
    assert np.allclose(sum(part.gradient() for part in parts), objective.gradient(), rtol=0, atol=1e-12)


def test_the_digest_is_equal_for_equal_objectives_alone():
    objective, (net, theta, X, y), settings = problem(weighted=True, ridge=True)
    assert objective.digest() == problem(weighted=True, ridge=True)[0].digest() == objective.at(theta).digest()
    assert objective.digest() == Objective(net, X, y, threads=1, memory_limit=0, **settings).digest()
    nudged = X.copy()
    nudged[3, 2] = np.nextafter(nudged[3, 2], 9)
    tanh = Network(net.widths, ["logistic", *net.activations[1:]], theta)
    different = [
        objective.at(theta + 1e-16 + theta * 1e-15), objective.subset(slice(0, 22)), Objective(tanh, X, y, **settings),
        Objective(net, nudged, y, **settings), Objective(net, X, np.roll(y, 1), **settings),
        Objective(net, X, y, **settings | {"l2": 0.1}), Objective(net, X, y, **settings | {"sample_weight": None}),
        Objective(net, X, y, reduction="sum", **settings), Objective(net, X, y, dtype=np.float32, **settings),
        Objective(net, X, np.eye(4)[y], **settings), Objective(net, X, np.eye(4)[y], **settings | {"loss": "huber"}),
        Objective(net, X, np.eye(4)[y], **settings | {"loss": "huber"}, loss_options={"delta": 2}),
    ]  # fmt: skip
    assert len({objective.digest(), *(other.digest() for other in different)}) == 1 + len(different)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": "squared_error"}, "(1/N) sum_n 1/2 |z_n - y_n|^2, N = 3"),
        ({"loss": "squared_error", "reduction": "sum"}, "sum_n 1/2 |z_n - y_n|^2, N = 3"),
        ({"loss": "poisson", "sample_weight": [1, 2, 3]},
         "(1/sum_n w_n) sum_n w_n sum_c (exp(z_nc) - y_nc z_nc), N = 3"),
        ({"loss": "huber", "loss_options": {"delta": 0.5}, "l2": 0.25},
         "(1/N) sum_n sum_c huber(z_nc - y_nc; delta = 0.5), N = 3 + sum_i (0.25/2) theta_i^2"),
        ({"loss": "binary_cross_entropy", "l2": [0.5, 0.5, 0]},
         "(1/N) sum_n sum_c (log(1 + exp(z_nc)) - y_nc z_nc), N = 3 "
         "+ sum_i (l2_i/2) theta_i^2, l2 = 0 on 1, 0.5 on 2 parameters"),
    ],
)  # fmt: skip
def test_the_formula_says_what_is_computed(options, text):
    assert Objective(Network((2, 1), "tanh"), np.ones((3, 2)), np.ones(3), **options).formula() == text


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("read_only", [False, True])
def test_the_callers_arrays_are_neither_kept_nor_written(read_only, dtype):
    _, (net, _, X, _), _ = problem(dtype=dtype)
    arrays = {"X": X, "y": X[:, :4].copy(), "sample_weight": 1 + X[:, 0] ** 2, "l2": np.full(net.num_parameters, 0.1)}
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    before = {name: array.copy() for name, array in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = not read_only
    objective = Objective(net, loss="squared_error", **arrays)
    twin = Objective(net, loss="squared_error", **before)
    v = np.arange(objective.num_parameters, dtype=dtype)
    if not read_only:
        for array in arrays.values():
            array *= 2
    assert (objective.value(), objective.digest()) == (twin.value(), twin.digest())
    assert np.array_equal(HessianOperator(objective) @ v, HessianOperator(twin) @ v)
    for name, array in arrays.items():
        assert np.array_equal(array, before[name] if read_only else 2 * before[name])
    objective.gradient()[:] = 7  # a copy, too
    assert np.array_equal(objective.gradient(), twin.gradient())
    for array in (objective.X, objective.y, objective.sample_weight, objective.l2):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def with_entry(array, index, value):
    array = np.array(array, float)
    array[index] = value
    return array


X, Y = np.ones((3, 2)), np.ones((3, 2))
CROSS = {"loss": "softmax_cross_entropy"}
REFUSED = {
    "no samples": (X[:0], Y[:0], {}, "X is an empty data set: at least one sample is needed"),
    "too many columns": (np.ones((3, 4)), Y, {}, r"X must have shape \(N, 2\), got \(3, 4\)"),
    "a vector": (X[:, 0], Y, {}, r"X must have shape \(N, 2\), got \(3,\)"),
    "fewer targets": (X, Y[:2], {}, r"y must have shape \(3, 2\) for loss 'squared_error', got \(2, 2\)"),
    "fewer outputs": (X, Y[:, 0], {}, r"y must have shape \(3, 2\) for loss 'squared_error', got \(3,\)"),
    "nan in X": (with_entry(X, (1, 0), np.nan), Y, {}, r"X must be finite .* found nan at index \(1, 0\)"),
    "inf in y": (X, with_entry(Y, (2, 1), -np.inf), {}, r"y must be finite .* found -inf at index \(2, 1\)"),
    "nan in weights": (X, Y, {"sample_weight": [1, np.nan, 1]}, "sample_weight must be finite .* nan at index 1"),
    "nan in l2": (X, Y, {"l2": np.nan}, "l2 must be finite"),
    "negative weight": (X, Y, {"sample_weight": [1, 2, -0.5]}, "sample_weight must be at least 0, got -0.5 at index 2"),
    "no weight": (X, Y, {"sample_weight": [0, 0, 0]}, "sample_weight must not be 0 on every sample"),
    "weights missing": (X, Y, {"sample_weight": [1, 2]}, r"sample_weight must have shape \(3,\), got \(2,\)"),
    "no weights at all": (X, Y, {"sample_weight": []}, r"sample_weight must have shape \(3,\), got \(0,\)"),
    "negative l2": (X, Y, {"l2": -0.1}, "l2 must be at least 0, got -0.1"),
    "negative entry": (X, Y, {"l2": [0, 0, 0, -2, 0, 0]}, "l2 must be at least 0, got -2"),
    "l2 too short": (X, Y, {"l2": [1, 2]}, r"l2 must be a scalar or have shape \(6,\), got \(2,\)"),
    "l2 of one entry": (X, Y, {"l2": [1]}, r"l2 must be a scalar or have shape \(6,\), got \(1,\)"),
    "empty l2": (X, Y, {"l2": []}, r"l2 must be a scalar or have shape \(6,\), got \(0,\)"),
    "loss": (X, Y, {"loss": "hinge"}, "unknown loss 'hinge'; known are squared_error, softmax_cross_entropy"),
    "reduction": (X, Y, {"reduction": "none"}, "reduction must be 'mean' or 'sum', got 'none'"),
    "dtype": (X, Y, {"dtype": np.int32}, "dtype must be float32 or float64, got int32"),
    "half": (X, Y, {"dtype": np.float16}, "dtype must be float32 or float64, got float16"),
    "option": (X, Y, {"loss_options": {"delta": 1}}, r"loss_options \['delta'\] do not belong to loss 'squared_error'"),
    "other option": (X, Y, {"loss": "huber", "loss_options": {"beta": 1}}, r"\['beta'\] do not belong to loss 'huber'"),
    "delta 0": (X, Y, {"loss": "huber", "loss_options": {"delta": 0}}, "delta must be positive and finite, got 0"),
    "delta nan": (X, Y, {"loss": "huber", "loss_options": {"delta": np.nan}}, "delta must be positive and finite"),
    "delta inf": (X, Y, {"loss": "huber", "loss_options": {"delta": np.inf}}, "delta must be positive and finite"),
    "memory": (X, Y, {"memory_limit": -1}, "memory_limit must be at least 0 bytes, got -1"),
    "threads": (X, Y, {"threads": 0}, "threads must be at least 1, got 0"),
    "label too large": (X, [0, 2, 1], CROSS, r"labels in y must be in \[0, 2\), got 2 at index 1"),
    "negative label": (X, [0, 1, -1], CROSS, r"labels in y must be in \[0, 2\), got -1 at index 2"),
    "labels missing": (X, [0, 1], CROSS, r"y must have shape \(3,\) as X has 3 rows, got \(2,\)"),
    "no distribution": (X, [[1, 0], [0.5, 0.4], [0, 1]], CROSS, "rows .* in y must add up to 1, got 0.9 in row 1"),
    "negative probability": (X, [[1, 0], [1.5, -0.5], [0, 1]], CROSS, r"must be in \[0, 1\] .* 1.5 at index \(1, 0\)"),
    "no probability": (X, 2 * Y, {"loss": "binary_cross_entropy"}, r"must be in \[0, 1\] .* got 2.0 at index \(0, 0\)"),
    "negative count": (X, -Y, {"loss": "poisson"}, r"y must be in \[0, inf\] for loss 'poisson', got -1.0"),
    "beyond float32": (with_entry(X, (2, 0), 1e39), Y, {"dtype": np.float32}, "X must be finite in float32"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named_with_value_and_bound(case):
    x, y, options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        Objective(Network((2, 2), "tanh"), x, y, **{"loss": "squared_error"} | options)


MASKED = np.ma.masked_array(np.ones((3, 2)), mask=False)
WRONG_TYPES = {
    "masked X": (MASKED, Y, {}, "X must not be a masked array"),
    "masked y": (X, MASKED, {}, "y must not be a masked array"),
    "masked labels": (X, np.ma.masked_array([0, 1, 1], mask=[0, 1, 0]), CROSS, "y must not be a masked array"),
    "masked weights": (X, Y, {"sample_weight": MASKED[:, 0]}, "sample_weight must not be a masked array"),
    "complex X": (1j * X, Y, {}, "X must be a real array, got dtype complex128"),
    "text": (X, np.full((3, 2), "a"), {}, "y must be a real array, got dtype <U1"),
    "fractional labels": (X, [0, 0.5, 1], CROSS, "y must hold integer labels .* got dtype float64"),
    "text labels": (X, ["a", "b", "a"], CROSS, "y must hold integer labels .* got dtype <U1"),
    "nan label": (X, [0, np.nan, 1], CROSS, "y must hold integer labels"),
    "half a thread": (X, Y, {"threads": 1.5}, "threads must be an integer, at least 1, got 1.5"),
}


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_wrong_types_are_refused_by_name(case):
    x, y, options, message = WRONG_TYPES[case]
    with pytest.raises(TypeError, match=message):
        Objective(Network((2, 2), "tanh"), x, y, **{"loss": "squared_error"} | options)


def test_labels_of_other_types_are_the_same_labels():
    net = Network((2, 2), "tanh", [0.1, 0.2, 0.3, -0.4, 0.5, 0.6])
    expected = Objective(net, X, [0, 1, 1], **CROSS).digest()
    for labels in (np.array([0, 1, 1], np.uint8), [0.0, 1.0, 1.0], [False, True, True], (0, 1, 1)):
        assert Objective(net, X, labels, **CROSS).digest() == expected


def test_one_sample_one_output_and_targets_without_a_second_axis():
    net = Network((1, 1), ["identity"], [2.0, 1.0])
    flat, column = (Objective(net, [[3.0]], y, loss="squared_error") for y in ([5.0], [[5.0]]))
    assert (flat.value(), column.value()) == (2.0, 2.0)
    assert np.array_equal(flat.gradient(), [6.0, 2.0])


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
def test_overflow_at_theta_is_an_infinite_value_and_no_operator(operator):
    net = Network((1, 1), ["identity"], [1000.0], bias=False)
    objective = Objective(net, [[1.0]], [1.0], loss="poisson")
    assert objective.value() == math.inf
    with pytest.raises(FloatingPointError, match="the loss is inf at theta"):
        operator(objective) @ np.ones(1)
    steep = Objective(net.with_theta([700.0]), [[1e10]], [1.0], loss="huber", l2=1e308)
    with pytest.raises(FloatingPointError, match="at theta"):
        operator(steep) @ np.ones(1)


@pytest.mark.parametrize("loss", LOSSES)
def test_overflow_of_the_net_is_never_a_finite_value(loss):
    net = Network((1, 2), ["identity"], [1e200, -1e200], bias=False)
    y = [0] if loss == "softmax_cross_entropy" else [[0.0, 1.0]]
    objective = Objective(net, [[1e200]], y, loss=loss)
    assert not math.isfinite(objective.value())
    with pytest.raises(FloatingPointError, match="at theta"):
        HessianOperator(objective) @ np.ones(2)


def test_pickles_have_the_same_bits_before_and_after_evaluation():
    objective, *_ = problem(weighted=True, ridge=True)
    fresh = pickle.loads(pickle.dumps(objective))
    assert objective.value() == fresh.value()
    used = pickle.loads(pickle.dumps(objective))
    assert len(pickle.dumps(used)) < 2 * len(pickle.dumps(fresh.X)) + 20_000  # without the linearisation
    assert np.array_equal(used.gradient(), objective.gradient())
    assert used.digest() == objective.digest()


def test_repr_evaluates_nothing(monkeypatch):
    objective, *_ = problem()
    monkeypatch.setattr("krylovh.kernels.linearize", lambda *_: pytest.fail("the net was evaluated"))
    assert repr(objective).startswith("Objective(Network(5-7-6-4, 118 parameters), (1/N) sum_n -log softmax")
    assert objective.formula()
    assert objective.digest()
