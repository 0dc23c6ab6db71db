"""Matrices written out in full."""

import numpy as np
import pytest
from krylovh.kernels import LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import hessian_matrix
from krylovh.exact.matrix import BLOCK, gauss_newton_matrix

TOLERANCE = {np.float64: 1e-13, np.float32: 5e-6}
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])
MATRICES = {hessian_matrix: oracles.complex_step_hessian, gauss_newton_matrix: oracles.gauss_newton_matrix}


@DTYPES
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("matrix", MATRICES, ids=lambda matrix: matrix.__name__)
def test_matrix_equals_the_oracle_and_is_symmetric_to_the_bit(matrix, loss, topology, dtype):
    objective, arguments, settings = problem(topology, "silu", loss, weighted=True, ridge=True, dtype=dtype)
    found = matrix(objective)
    expected = MATRICES[matrix](*arguments, **settings)
    assert found.dtype == dtype
    assert np.array_equal(found, found.T)
    assert np.linalg.norm(found - expected, 2) <= TOLERANCE[dtype] * np.linalg.norm(expected, 2)


@pytest.mark.parametrize("matrix", MATRICES, ids=lambda matrix: matrix.__name__)
def test_progress_counts_columns_up_to_the_last(matrix):
    objective, *_ = problem()
    seen = []
    watched = matrix(objective, method="products", progress=lambda done, total: seen.append((done, total)))
    n = objective.num_parameters
    assert seen == [(min(n, done), n) for done in range(BLOCK, n + BLOCK, BLOCK)]
    assert np.array_equal(watched, matrix(objective, method="products"))


def test_gauss_newton_matrix_is_positive_semidefinite_and_the_hessian_is_not():
    objective, *_ = problem("skip", "tanh", "squared_error")
    G, H = np.linalg.eigvalsh(gauss_newton_matrix(objective)), np.linalg.eigvalsh(hessian_matrix(objective))
    assert G[0] >= -1e-14 * G[-1]
    assert H[0] < -1e-3 * H[-1]
