"""Products against complex steps of an independent gradient, closed forms, and the laws of a symmetric operator."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg as spla
from krylovh.kernels import ACTIVATIONS, LOSSES

import oracles
from cases import problem
from krylovh import GaussNewtonOperator, HessianOperator, Network, Objective

EPS = np.finfo(np.float64).eps
TOLERANCE = {np.float64: 1e-13, np.float32: 5e-6}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("weighted", "ridge"), [pytest.param(False, False, marks=pytest.mark.full), (True, True)], ids=["plain", "weighted"]
)
@pytest.mark.parametrize("topology", ["chain", "skip", "residual", "identity_only"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hessian_products_equal_complex_steps(activation, loss, topology, weighted, ridge, dtype):
    objective, arguments, settings = problem(topology, activation, loss, weighted=weighted, ridge=ridge, dtype=dtype)
    V = np.random.default_rng(1).standard_normal((objective.num_parameters, 3)).astype(dtype)
    expected = np.array(
        [oracles.complex_step_product(*arguments[:2], v, *arguments[2:], **settings) for v in V.T.astype(float)]
    ).T
    H = HessianOperator(objective)
    for product in (H @ V, np.column_stack([H @ v for v in V.T])):
        assert product.dtype == dtype
        error = np.linalg.norm(product - expected, axis=0)
        assert (error <= TOLERANCE[dtype] * np.linalg.norm(expected, axis=0)).all()


@pytest.mark.parametrize("output", ["logistic", "tanh", "softplus"])
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_hessian_with_an_output_activation(output, loss):
    objective, arguments, settings = problem(loss=loss, output=output, weighted=True)
    expected = oracles.complex_step_hessian(*arguments, **settings)
    assert np.allclose(HessianOperator(objective) @ np.eye(len(expected)), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("topology", ["chain", "skip", "residual", "identity_only"])
@pytest.mark.parametrize("loss", LOSSES)
def test_gauss_newton_products_equal_the_outer_products(loss, topology):
    objective, arguments, settings = problem(topology, "gelu", loss, weighted=True, ridge=True)
    expected = oracles.gauss_newton_matrix(*arguments, **settings)
    G = GaussNewtonOperator(objective)
    scale = np.linalg.norm(expected, 2)
    assert np.abs(G @ np.eye(len(expected)) - expected).max() <= 1e-13 * scale
    v = np.random.default_rng(3).standard_normal(len(expected))
    assert np.abs(G @ v - expected @ v).max() <= 1e-13 * scale * np.linalg.norm(v)
    assert v @ (G @ v) >= 0


def test_probability_rows_equal_labels():
    objective, (net, _, X, y), _ = problem()
    rows = Objective(net, X, np.eye(4)[y], loss="softmax_cross_entropy")
    v = np.arange(objective.num_parameters, dtype=float)
    assert objective.value() == pytest.approx(rows.value(), rel=4 * EPS)
    assert np.allclose(HessianOperator(objective) @ v, HessianOperator(rows) @ v, rtol=0, atol=1e-13)


def test_linear_regression_closed_form():
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((40, 6)), rng.standard_normal((40, 3))
    net = Network((6, 3), ["identity"], rng.standard_normal(18), bias=False)
    expected = np.kron(np.eye(3), X.T @ X / 40)
    H = HessianOperator(Objective(net, X, Y, loss="squared_error")) @ np.eye(18)
    assert np.abs(H - expected).max() <= 50 * EPS * np.linalg.norm(expected, 2)


def test_softmax_regression_closed_form_and_its_null_vector():
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((30, 5)), rng.integers(0, 4, 30)
    net = Network((5, 4), ["identity"], rng.standard_normal(24))
    weights, biases = oracles.split(net, net.theta)
    p = oracles.softmax(X @ weights[1, 0].T + biases[1])
    x = np.column_stack([X, np.ones(30)])
    blocks = np.einsum("nc,cd->ncd", p, np.eye(4)) - p[:, :, None] * p[:, None, :]
    full = np.einsum("ncd,ni,nj->cidj", blocks, x, x).reshape(24, 24) / 30
    order = np.array([c * 6 + i for c in range(4) for i in range(5)] + [c * 6 + 5 for c in range(4)])
    expected = full[np.ix_(order, order)]
    H = HessianOperator(Objective(net, X, y, loss="softmax_cross_entropy"))
    assert np.abs(H @ np.eye(24) - expected).max() <= 50 * EPS * np.linalg.norm(expected, 2)
    constant = np.concatenate([np.zeros(20), np.ones(4)])
    assert np.linalg.norm(H @ constant) <= 10 * EPS * np.linalg.norm(expected, 2) * 2


def test_logistic_regression_closed_form():
    rng = np.random.default_rng(4)
    X, y = rng.standard_normal((30, 5)), rng.integers(0, 2, 30).astype(float)
    theta = rng.standard_normal(5)
    s = oracles.sigmoid(X @ theta)
    expected = X.T @ (X * (s * (1 - s))[:, None]) / 30
    net = Network((5, 1), ["identity"], theta, bias=False)
    H = HessianOperator(Objective(net, X, y, loss="binary_cross_entropy")) @ np.eye(5)
    assert np.abs(H - expected).max() <= 50 * EPS * np.linalg.norm(expected, 2)


@pytest.mark.parametrize("t", [1.0, -2.0])
def test_product_of_two_weights_closed_form(t):
    a, b = 2.0, 3.0
    net = Network((1, 1, 1), "identity", [a, b], bias=False)
    H = HessianOperator(Objective(net, [[1.0]], [t], loss="squared_error")) @ np.eye(2)
    expected = np.array([[b * b, 2 * a * b - t], [2 * a * b - t, a * a]])
    assert np.abs(H - expected).max() <= 50 * EPS * np.linalg.norm(expected, 2)


def test_chain_of_weights_at_its_minimum_has_rank_one():
    w = np.array([2.0, 0.5, -4.0, -0.25])
    net = Network((1,) * 5, "identity", w, bias=False)
    H = HessianOperator(Objective(net, [[1.0]], [1.0], loss="squared_error")) @ np.eye(4)
    expected = np.outer(1 / w, 1 / w)
    assert np.abs(H - expected).max() <= 50 * EPS * np.linalg.norm(expected, 2)


def test_two_linear_layers_at_zero_have_a_balanced_indefinite_spectrum():
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((20, 4)), rng.standard_normal(20)
    net = Network((4, 3, 1), "identity", bias=False)
    H = HessianOperator(Objective(net, X, y, loss="squared_error")) @ np.eye(15)
    c = np.linalg.norm(X.T @ y / 20)
    assert np.allclose(np.linalg.eigvalsh(H), [-c] * 3 + [0] * 9 + [c] * 3, rtol=0, atol=50 * EPS * c)


def norm_of(H):
    return np.linalg.norm(H @ np.eye(H.shape[0], dtype=H.dtype), 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("loss", LOSSES)
def test_products_are_symmetric(loss, dtype):
    objective, *_ = problem("skip", "silu", loss, dtype=dtype)
    H = HessianOperator(objective)
    bound = 10 * np.finfo(dtype).eps * norm_of(H)
    rng = np.random.default_rng(6)
    for _ in range(100):
        u, v = rng.standard_normal((2, H.shape[0])).astype(dtype)
        difference = np.dot(u.astype(float), H @ v) - np.dot(v.astype(float), H @ u)
        assert abs(difference) <= bound * np.linalg.norm(u) * np.linalg.norm(v)


def test_products_are_linear_zero_on_zero_and_exact_under_powers_of_two():
    objective, *_ = problem()
    H = HessianOperator(objective)
    u, v = np.random.default_rng(7).standard_normal((2, H.shape[0]))
    assert not np.any(H @ np.zeros(H.shape[0]))
    assert np.array_equal(H @ (2.0**40 * v), 2.0**40 * (H @ v))
    difference = H @ (0.3 * u - 2 * v) - (0.3 * (H @ u) - 2 * (H @ v))
    assert np.linalg.norm(difference) <= 10 * EPS * norm_of(H) * (np.linalg.norm(u) + 2 * np.linalg.norm(v))


def test_quadratic_model_has_a_cubic_remainder():
    objective, *_ = problem("skip", "softplus", ridge=True)
    H, theta = HessianOperator(objective), objective.net.theta
    v = np.random.default_rng(8).standard_normal((40, len(theta)))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    change = [(HessianOperator(objective.at(theta + 1e-3 * w)) @ w - H @ w) @ w for w in v]
    v = v[np.argmax(np.abs(change))]  # of 40 directions the one with the largest third derivative
    steps = np.geomspace(0.05, 0.005, 5)
    value, slope, curvature = objective.value(), objective.gradient() @ v, v @ (H @ v)
    remainder = [abs(objective.at(theta + t * v).value() - (value + t * slope + t * t / 2 * curvature)) for t in steps]
    assert min(remainder) >= 1e5 * EPS * value  # not rounding
    assert abs(np.polyfit(np.log(steps), np.log(remainder), 1)[0] - 3) <= 0.1


def test_sample_weights_are_repetitions_and_order_does_not_matter():
    objective, (net, _, X, y), settings = problem()
    counts = np.random.default_rng(9).integers(1, 4, len(X))
    repeated = Objective(net, np.repeat(X, counts, axis=0), np.repeat(y, counts), **settings)
    weighted = Objective(net, X, y, sample_weight=counts.astype(float), **settings)
    shuffled = objective.subset(np.random.default_rng(10).permutation(len(X)))
    v = np.random.default_rng(11).standard_normal(net.num_parameters)
    assert np.allclose(HessianOperator(repeated) @ v, HessianOperator(weighted) @ v, rtol=0, atol=1e-14)
    assert np.allclose(HessianOperator(shuffled) @ v, HessianOperator(objective) @ v, rtol=0, atol=1e-14)
    summed = Objective(net, X, y, reduction="sum", **settings)
    assert np.allclose(HessianOperator(summed) @ v, len(X) * (HessianOperator(objective) @ v), rtol=0, atol=1e-13)


def test_ridge_shifts_regularised_entries_only():
    objective, (net, _, X, y), settings = problem()
    ridge = Objective(net, X, y, l2=0.25 * net.weight_mask(), **settings)
    eye = np.eye(net.num_parameters)
    difference = HessianOperator(ridge) @ eye - HessianOperator(objective) @ eye
    assert np.allclose(difference, np.diag(0.25 * net.weight_mask()), rtol=0, atol=1e-15)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 97, 700])
@pytest.mark.parametrize("options", [{"memory_limit": 0}, {"threads": 1}, {"threads": 5}, {"threads": 64}])
def test_chunks_and_lanes_change_nothing_but_rounding(num_samples, options, monkeypatch):
    monkeypatch.setattr("krylovh.objective.CHUNK_BYTES", 4096)  # many chunks, even of few samples
    plain, (net, _, X, y), settings = problem("skip", weighted=True, num_samples=num_samples)
    other = Objective(net, X, y, **settings, **options)
    V = np.random.default_rng(12).standard_normal((net.num_parameters, 5))
    assert other.value() == pytest.approx(plain.value(), rel=1e-14)
    assert np.allclose(other.gradient(), plain.gradient(), rtol=0, atol=1e-14)
    for operator in (HessianOperator, GaussNewtonOperator):
        expected = operator(plain) @ V
        assert np.allclose(operator(other) @ V, expected, rtol=0, atol=1e-13)
        assert np.allclose(operator(other) @ V[:, 0], expected[:, 0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("k", [0, 1, 2, 15, 16, 17, 33])
def test_blocks_of_any_width_equal_single_products(k):
    objective, *_ = problem("residual")
    H = HessianOperator(objective)
    V = np.random.default_rng(13).standard_normal((H.shape[0], k))
    product = H @ V
    assert product.shape == V.shape
    assert H.num_products == k
    for j in range(k):
        assert np.allclose(product[:, j], H @ V[:, j], rtol=0, atol=1e-14)


def test_layout_and_type_of_the_vector_do_not_matter():
    objective, *_ = problem()
    H = HessianOperator(objective)
    n = H.shape[0]
    v = np.random.default_rng(14).standard_normal(n)
    expected = H @ v
    backwards = v[::-1].copy()[::-1]
    strided = np.zeros(3 * n)[::3]
    strided[:] = v
    frozen = v.copy()
    frozen.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + v.tobytes(), dtype=np.uint8)[1:].view(np.float64)
    for variant in (backwards, strided, frozen, unaligned):
        assert np.array_equal(H @ variant, expected)
    assert np.array_equal(H @ v.reshape(-1, 1), expected.reshape(-1, 1))
    V = np.random.default_rng(15).standard_normal((n, 4))
    assert np.array_equal(H @ np.asfortranarray(V), H @ V)
    assert np.array_equal(H.rmatvec(v), expected)
    assert np.array_equal(H.T @ v, expected)
    assert np.array_equal(H.H @ v, expected)
    ints = np.arange(n)
    for kind in (np.int8, np.int64, np.float16, np.float32, np.uint8):
        small = ints.astype(kind)
        assert np.array_equal(H @ small, H @ small.astype(float))
    w = v + 1j * np.roll(v, 1)
    assert np.array_equal(H @ w, expected + 1j * (H @ np.roll(v, 1)))
    with pytest.raises(TypeError, match="object"):
        H @ v.astype(object)
    for wrong in (np.ones(n + 1), np.ones((n + 1, 2)), np.ones((2, n))):
        with pytest.raises(ValueError, match="dimension mismatch"):
            H @ wrong


def test_results_are_the_callers_own():
    objective, *_ = problem()
    H = HessianOperator(objective)
    v = np.random.default_rng(16).standard_normal(H.shape[0])
    before = v.copy()
    first = H @ v
    kept = first.copy()
    H @ np.roll(v, 1)
    assert np.array_equal(v, before)
    assert np.array_equal(first, kept)
    assert not np.shares_memory(first, v)


def test_nan_in_the_vector_reaches_the_result():
    objective, *_ = problem()
    v = np.zeros(objective.num_parameters)
    v[3] = np.nan
    assert np.isnan(HessianOperator(objective) @ v).any()


def test_building_the_operator_asks_for_no_product(monkeypatch):
    objective, *_ = problem()
    monkeypatch.setattr("krylovh.kernels.product", lambda *_: pytest.fail("a product was computed"))
    H = HessianOperator(objective)
    assert H.dtype == np.float64
    assert H.num_products == 0
    assert "HessianOperator" in repr(H)


def test_the_same_product_has_the_same_bits():
    objective, *_ = problem(num_samples=500)
    H = HessianOperator(objective)
    V = np.random.default_rng(17).standard_normal((H.shape[0], 3))
    first = H @ V
    assert all(np.array_equal(H @ V, first) for _ in range(50))


def test_copies_and_pickles_give_the_same_bits():
    objective, *_ = problem(weighted=True, ridge=True)
    H = HessianOperator(objective)
    v = np.random.default_rng(18).standard_normal(H.shape[0])
    expected = H @ v
    for twin in (pickle.loads(pickle.dumps(H)), copy.deepcopy(H)):
        assert np.array_equal(twin @ v, expected)


def test_threads_can_share_an_operator():
    objective, *_ = problem(num_samples=300)
    H = HessianOperator(objective)
    V = np.random.default_rng(19).standard_normal((H.shape[0], 32))
    expected = [H @ v for v in V.T]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert all(map(np.array_equal, pool.map(lambda v: H @ v, V.T), expected))


def test_hidden_units_can_be_permuted():
    objective, (net, theta, X, y), settings = problem()
    weights, biases = oracles.split(net, np.arange(len(theta)))
    order = np.random.default_rng(20).permutation(7)
    index = np.concatenate(
        [
            weights[1, 0][order].ravel(),
            biases[1][order],
            weights[2, 1][:, order].ravel(),
            biases[2],
            weights[3, 2].ravel(),
            biases[3],
        ]
    )
    H = HessianOperator(objective) @ np.eye(len(theta))
    permuted = HessianOperator(Objective(net.with_theta(theta[index]), X, y, **settings)) @ np.eye(len(theta))
    assert np.allclose(permuted, H[np.ix_(index, index)], rtol=0, atol=1e-14)


def test_damping_shifts_the_operator():
    objective, *_ = problem()
    H = HessianOperator(objective)
    v = np.random.default_rng(21).standard_normal(H.shape[0])
    A = H.damped(0.5)
    assert np.allclose(A @ v, H @ v + 0.5 * v, rtol=0, atol=1e-15)
    assert A.num_products == H.num_products == 2
    assert np.array_equal(A.T @ v, A @ v)
    with pytest.raises(ValueError, match="damping must be finite"):
        H.damped(np.nan)


class TestSciPy:
    """The operator goes unchanged into SciPy's solvers."""

    @pytest.fixture
    def operator(self):
        objective, *_ = problem("skip", num_samples=60, ridge=True)
        return HessianOperator(objective)

    def test_eigsh(self, operator):
        dense = np.linalg.eigvalsh(operator @ np.eye(operator.shape[0]))
        assert np.allclose(spla.eigsh(operator, k=4, which="LA", rng=1)[0], dense[-4:], rtol=0, atol=1e-10)
        assert np.allclose(spla.eigsh(operator, k=3, which="SA", rng=1)[0], dense[:3], rtol=0, atol=1e-10)

    def test_lobpcg(self, operator):
        dense = np.linalg.eigvalsh(operator @ np.eye(operator.shape[0]))
        start = np.random.default_rng(0).standard_normal((operator.shape[0], 3))
        values, _ = spla.lobpcg(operator, start, largest=True, tol=1e-8, maxiter=200)
        assert np.allclose(np.sort(values), dense[-3:], rtol=0, atol=1e-9)

    def test_svds(self, operator):
        dense = np.linalg.svd(operator @ np.eye(operator.shape[0]), compute_uv=False)
        assert np.allclose(np.sort(spla.svds(operator, k=3, rng=1)[1])[::-1], dense[:3], rtol=0, atol=1e-9)

    @pytest.mark.parametrize("solve", [spla.cg, spla.minres])
    def test_solvers(self, operator, solve):
        A = operator.damped(1.0)
        b = np.random.default_rng(2).standard_normal(operator.shape[0])
        x, info = solve(A, b, rtol=1e-10)
        assert info == 0
        assert np.linalg.norm(A @ x - b) <= 1e-8 * np.linalg.norm(b)

    def test_minimize_with_hessp(self):
        objective, (_, theta, *_), _ = problem(num_samples=60, ridge=True)
        result = scipy.optimize.minimize(
            lambda t: objective.at(t).value(),
            theta,
            jac=lambda t: objective.at(t).gradient(),
            hessp=lambda t, v: HessianOperator(objective.at(t)) @ v,
            method="trust-ncg",
            options={"gtol": 1e-6},
        )
        assert result.success
        assert np.linalg.norm(objective.at(result.x).gradient()) <= 1e-6
