"""Kronecker factors against factors from complex steps, and the cases in which they are exact."""

import pickle

import numpy as np
import pytest
from krylovh.kernels import LOSSES
from scipy.sparse.linalg import cg

import oracles
from cases import TOPOLOGIES, problem
from krylovh import EmpiricalFisherOperator, GaussNewtonOperator, HessianOperator, KFACOperator, Network, Objective

TOLERANCE = {np.float64: 1e-13, np.float32: 5e-6}


def dense(operator):
    return operator @ np.eye(operator.shape[0])


def positions(net, layer):
    """Where the parameters of a layer are, as a matrix (units, inputs); by the documented order of theta."""
    numbered_weights, numbered_biases = oracles.split(net, np.arange(net.num_parameters))
    columns = [W for (l, _), W in numbered_weights.items() if l == layer]
    columns += [b[:, None] for l, b in numbered_biases.items() if l == layer]
    return np.hstack(columns)


def block_diagonal(net, factors, ridge):
    """Put each ``B (x) A`` where the parameters of its layer are."""
    matrix = np.diag(ridge * np.ones(net.num_parameters))
    for layer, (A, B) in factors.items():
        index = positions(net, layer).ravel()
        matrix[np.ix_(index, index)] += np.kron(B, A)
    return matrix


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_operator_is_block_diagonal_with_kronecker_products(loss, topology, dtype):
    objective, (net, *data), settings = problem(topology, "silu", loss, weighted=True, ridge=True, dtype=dtype)
    l2 = settings.pop("l2")
    expected = block_diagonal(net, oracles.kronecker_factors(net, *data, **settings), l2)
    K = KFACOperator(objective)
    assert np.abs(dense(K) - expected).max() <= TOLERANCE[dtype] * np.linalg.norm(expected, 2)
    assert np.allclose(K.diagonal(), np.diag(expected), rtol=100 * TOLERANCE[dtype])
    assert np.isclose(K.trace(), np.trace(expected), rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_linear_layer_with_squared_error_is_exact(weighted, reduction):
    rng = np.random.default_rng(0)
    net = Network((4, 3), "identity", rng.standard_normal(15))
    weights = rng.uniform(0.1, 2.0, 20) if weighted else None
    X, y = rng.standard_normal((20, 4)), rng.standard_normal((20, 3))
    objective = Objective(net, X, y, loss="squared_error", reduction=reduction, sample_weight=weights, l2=0.1)
    G = dense(GaussNewtonOperator(objective))
    assert np.abs(dense(KFACOperator(objective)) - G).max() <= 1e-13 * np.linalg.norm(G, 2)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(("activation", "num_samples"), [("identity", 15), ("tanh", 1)])
def test_layer_blocks_are_exact_for_linear_nets_and_for_one_sample(topology, activation, num_samples):
    loss = "squared_error" if activation == "identity" else "softmax_cross_entropy"
    objective, (net, *_), _ = problem(topology, activation, loss, weighted=True, num_samples=num_samples)
    G, K = dense(GaussNewtonOperator(objective)), dense(KFACOperator(objective))
    for layer in {block.layer for block in net.blocks}:
        own = positions(net, layer).ravel()
        others = np.setdiff1d(np.arange(net.num_parameters), own)
        assert np.abs((K - G)[np.ix_(own, own)]).max() <= 1e-13 * np.linalg.norm(G, 2)
        assert not K[np.ix_(own, others)].any()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_empirical_factors_of_one_sample_give_the_blocks_of_the_empirical_fisher(topology):
    objective, (net, *_), _ = problem(topology, num_samples=1, weighted=True)
    F, K = dense(EmpiricalFisherOperator(objective)), dense(KFACOperator(objective, factors="empirical"))
    for layer in {block.layer for block in net.blocks}:
        own = np.ix_(positions(net, layer).ravel(), positions(net, layer).ravel())
        assert np.abs((K - F)[own]).max() <= 1e-13 * np.linalg.norm(F, 2)


@pytest.mark.parametrize("factors", ["exact", "empirical"])
def test_samples_of_weight_zero_do_not_count(factors):
    whole, (net, _, X, y), settings = problem("skip")
    keep = np.arange(len(X)) % 3 > 0
    weighted = Objective(net, X, y, sample_weight=keep.astype(float), **settings)
    v = np.ones(net.num_parameters)
    found = KFACOperator(weighted, factors=factors) @ v
    assert np.allclose(found, KFACOperator(whole.subset(keep), factors=factors) @ v, rtol=1e-12, atol=1e-14)


def test_factors_do_not_depend_on_how_samples_are_batched():
    kept, *_ = problem("skip", weighted=True)
    streamed, *_ = problem("skip", weighted=True, memory_limit=0)
    assert np.allclose(dense(KFACOperator(kept)), dense(KFACOperator(streamed)), rtol=1e-12, atol=1e-15)


def ridges(net):
    """Scalars, l2 on weights alone, and one value for each input of a layer."""
    by_input = np.empty(net.num_parameters)
    for layer in {block.layer for block in net.blocks}:
        by_input[positions(net, layer)] = 0.01 * (1 + np.arange(positions(net, layer).shape[1]))
    return {"none": 0.0, "scalar": 0.03, "weights": 0.02 * net.weight_mask(), "by input": by_input}


@pytest.mark.parametrize("damping", [1e-3, 10.0])
@pytest.mark.parametrize("ridge", ["none", "scalar", "weights", "by input"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_inverse_determinant_and_eigenvalues_equal_those_of_the_dense_matrix(topology, ridge, damping):
    _, (net, _, X, y), settings = problem(topology)
    objective = Objective(net, X, y, l2=ridges(net)[ridge], **settings)
    K = KFACOperator(objective)
    matrix = dense(K)
    shifted = matrix + damping * np.eye(len(matrix))
    inverse = K.inverse(damping)
    condition = np.linalg.cond(shifted)
    assert np.abs(inverse @ shifted - np.eye(len(matrix))).max() <= 1e-14 * condition
    assert np.abs(dense(inverse) - dense(inverse).T).max() <= 1e-14 * condition / damping
    assert np.isclose(K.logdet(damping), np.linalg.slogdet(shifted)[1], rtol=1e-12, atol=1e-12)
    assert np.abs(K.eigenvalues() - np.linalg.eigvalsh(matrix)).max() <= 1e-13 * np.linalg.norm(matrix, 2)
    assert np.abs(dense(K.damped(damping)) - shifted).max() <= 1e-14 * np.linalg.norm(shifted, 2)


def test_ridge_alone_makes_the_inverse_exist():
    _, (net, _, X, y), settings = problem()
    K = KFACOperator(Objective(net, X, y, l2=0.1, **settings))
    assert np.allclose(K.inverse() @ dense(K), np.eye(net.num_parameters), atol=1e-12)


@pytest.mark.parametrize("call", [KFACOperator.inverse, KFACOperator.logdet, lambda K, _: K.eigenvalues()])
def test_ridge_that_differs_between_units_has_no_factors(call):
    objective, *_ = problem(ridge=True)
    with pytest.raises(ValueError, match=r"l2 must be the same for all units of a layer, .* layer 1"):
        call(KFACOperator(objective), 0.1)


@pytest.mark.parametrize("damping", [0.0, -1.0, np.nan, np.inf])
def test_damping_that_gives_no_inverse_is_refused(damping):
    objective, *_ = problem()
    with pytest.raises(ValueError, match=f"damping must be .* got {damping}"):
        KFACOperator(objective).inverse(damping)


def test_unknown_factors_are_refused():
    objective, *_ = problem()
    with pytest.raises(ValueError, match=r"factors must be one of .* got 'sampled'"):
        KFACOperator(objective, factors="sampled")


def test_inverse_saves_iterations_as_a_preconditioner(trained):
    damping = 1e-2
    H = HessianOperator(trained).damped(damping)
    b = np.random.default_rng(1).standard_normal(trained.num_parameters)
    counts = {}
    for name, M in {"plain": None, "kfac": KFACOperator(trained).inverse(damping)}.items():
        steps = []
        x, info = cg(H, b, rtol=1e-6, M=M, callback=steps.append)
        assert info == 0
        assert np.linalg.norm(H @ x - b) <= 1e-5 * np.linalg.norm(b)
        counts[name] = len(steps)
    assert counts["kfac"] < counts["plain"] / 2


def test_products_are_counted_and_vectors_of_any_form_are_taken():
    objective, *_ = problem()
    K = KFACOperator(objective)
    n = K.shape[0]
    assert K.num_products == 0
    V = np.random.default_rng(0).standard_normal((n, 6))
    expected = K @ V
    assert K.num_products == 6
    assert np.allclose(K @ V[:, 0], expected[:, 0], rtol=1e-12)
    assert np.allclose(K @ V[:, ::-2], expected[:, ::-2], rtol=1e-12)
    assert np.allclose(K.T @ (V[:, :2] + 1j * V[:, 2:4]), expected[:, :2] + 1j * expected[:, 2:4], rtol=1e-12)
    assert np.array_equal(K @ np.arange(n), K @ np.arange(float(n)))
    assert np.allclose(K.quadratic_form(V), np.einsum("pk,pk->k", V, expected))
    assert np.array_equal(pickle.loads(pickle.dumps(K)) @ V, expected)
    with pytest.raises(TypeError, match="real or complex"):
        K @ np.array(["a"] * n, dtype=object)
