"""The Jacobian of the outputs against complex steps."""

import copy

import numpy as np
import pytest
import scipy.sparse.linalg as spla

import oracles
from cases import TOPOLOGIES, problem
from krylovh import GaussNewtonOperator, JacobianOperator


def complex_step_jacobian(net, theta, X):
    rows = [
        oracles.outputs_and_slopes(net, theta + 1e-30j * e, X)[0][-1].imag.ravel() / 1e-30 for e in np.eye(len(theta))
    ]
    return np.array(rows).T


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("limit", [None, 0])
@pytest.mark.parametrize("output", ["identity", "softplus"])
def test_jacobian_equals_complex_steps(output, limit, topology, dtype):
    objective, (net, theta, X, _), _ = problem(
        topology, "gelu", "squared_error", weighted=True, dtype=dtype, memory_limit=limit, output=output
    )
    expected = complex_step_jacobian(net, theta, X)
    J = JacobianOperator(objective)
    assert J.shape == expected.shape
    tolerance = (1e-14 if dtype == np.float64 else 5e-6) * np.linalg.norm(expected, 2)
    rng = np.random.default_rng(0)
    for k in (1, 3, 19):
        V, U = rng.standard_normal((J.shape[1], k)), rng.standard_normal((J.shape[0], k))
        assert (J @ V).dtype == dtype
        assert np.abs(J @ V - expected @ V).max() <= 10 * tolerance
        assert np.abs(J.T @ U - expected.T @ U).max() <= 10 * tolerance
    assert np.abs(J @ V[:, 0] - expected @ V[:, 0]).max() <= 10 * tolerance
    assert np.abs(J.H @ U[:, 0] - expected.T @ U[:, 0]).max() <= 10 * tolerance
    assert J.num_products == 2 * (1 + 3 + 19) + (1 + 3 + 19) + 2


def test_gauss_newton_is_made_of_it():
    objective, *_ = problem("skip", "tanh", "squared_error", weighted=True)
    J, w = JacobianOperator(objective), objective.sample_weight
    v = np.random.default_rng(0).standard_normal(J.shape[1])
    by_hand = J.T @ (np.repeat(w, objective.net.widths[-1]) * (J @ v)) / w.sum()
    assert np.allclose(GaussNewtonOperator(objective) @ v, by_hand, rtol=1e-12)


def test_scipy_takes_it_for_least_squares_and_singular_values():
    objective, (net, theta, X, _), _ = problem("chain", "tanh", "squared_error")
    J = JacobianOperator(objective)
    dense = complex_step_jacobian(net, theta, X)
    found = spla.svds(J, k=3, return_singular_vectors=False, rng=np.random.default_rng(0))
    assert np.allclose(np.sort(found), np.sort(np.linalg.svd(dense, compute_uv=False))[-3:], rtol=1e-10)
    b = np.random.default_rng(1).standard_normal(J.shape[0])
    step = spla.lsmr(J, b, damp=0.1, atol=1e-13, btol=1e-13, maxiter=5000)[0]
    assert np.allclose(dense.T @ (dense @ step - b) + 0.01 * step, 0, atol=1e-9)


def test_complex_vectors_keep_their_imaginary_part_and_objects_are_refused():
    objective, *_ = problem()
    J = JacobianOperator(objective)
    v = np.arange(J.shape[1]) * (1 + 2j)
    assert np.allclose(J @ v, J @ v.real + 1j * (J @ v.imag), rtol=1e-14)
    with pytest.raises(TypeError, match="real or complex"):
        J @ np.array([None] * J.shape[1])
    with pytest.raises(ValueError, match="dimension mismatch"):
        J @ np.ones(J.shape[1] + 1)


def test_copies_give_the_same_bits_and_vectors_are_not_written():
    objective, *_ = problem()
    J = JacobianOperator(objective)
    u = np.ones(J.shape[0])
    u.flags.writeable = False
    before = J.T @ u
    assert np.array_equal(copy.deepcopy(J).T @ u, before)
    assert not np.shares_memory(J.T @ u, before)
    assert repr(J).startswith("<JacobianOperator of Objective(Network(5-7-6-4")
