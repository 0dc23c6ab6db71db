"""Blocks of a matrix are the matrix's own, and cost only the passes that they need."""

import numpy as np
import pytest
import scipy.sparse.linalg as spla
from krylovh.kernels import layout

import oracles
from cases import TOPOLOGIES, problem
from krylovh import EmpiricalFisherOperator, GaussNewtonOperator, HessianOperator, Network, ResidualOperator
from krylovh.operators.blocks import parameters_of_layer, tables_of_block

MATRICES = [HessianOperator, GaussNewtonOperator, ResidualOperator, EmpiricalFisherOperator]


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("matrix", MATRICES, ids=lambda matrix: matrix.__name__)
@pytest.mark.parametrize("limit", [None, 0])
def test_blocks_of_layers(limit, matrix, topology):
    objective, *_ = problem(topology, "tanh", "poisson", weighted=True, ridge=True, memory_limit=limit, output="tanh")
    A = matrix(objective)
    whole = A @ np.eye(len(A.shape) and A.shape[0])
    norm = np.linalg.norm(whole, 2)
    for a in range(1, objective.net.depth + 1):
        for b in range(1, objective.net.depth + 1):
            rows, columns = (parameters_of_layer(objective.net, layer) for layer in (a, b))
            block, expected = A.block(a, b), whole[np.ix_(rows, columns)]
            assert block.shape == expected.shape
            if expected.size == 0:
                assert (block @ np.ones(len(columns))).shape == (len(rows),)
                continue
            assert np.abs(block @ np.eye(len(columns)) - expected).max() <= 1e-14 * norm
            assert np.abs(block @ np.ones(len(columns)) - expected.sum(axis=1)).max() <= 1e-13 * norm
            assert np.abs(block.T @ np.ones(len(rows)) - expected.sum(axis=0)).max() <= 1e-13 * norm
            assert np.abs(block.H @ np.eye(len(rows)) - expected.T).max() <= 1e-14 * norm


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_submatrices_of_any_parameters(topology):
    objective, arguments, settings = problem(topology, "gelu", weighted=True, ridge=True)
    expected = oracles.complex_step_hessian(*arguments, **settings)
    H, n = HessianOperator(objective), len(expected)
    rng = np.random.default_rng(0)
    for size in (1, 2, n // 2, n):
        index = rng.permutation(n)[:size]
        sub = H.submatrix(index)
        chosen = expected[np.ix_(index, index)]
        assert np.abs(sub @ np.eye(size) - chosen).max() <= 1e-13 * np.linalg.norm(expected, 2)
        mask = np.zeros(n, bool)
        mask[index] = True
        index = np.flatnonzero(mask)
        assert np.abs(H.submatrix(mask) @ np.ones(size) - expected[np.ix_(index, index)].sum(axis=1)).max() <= 1e-13
    top = spla.eigsh(H.submatrix(range(9)), 1, return_eigenvectors=False, rng=np.random.default_rng(0))
    assert np.isclose(top[0], max(np.linalg.eigvalsh(expected[:9, :9]), key=abs))


def test_only_the_passes_that_are_needed():
    net = Network((5, 7, 6, 4), "tanh")
    last, first = parameters_of_layer(net, 3), parameters_of_layer(net, 1)
    top, cross = tables_of_block(net, last, last), tables_of_block(net, last, first)
    assert top.layers[1:4, layout.REACHED].tolist() == [0, 0, 1]
    assert top.layers[1:4, layout.NEEDED].tolist() == [0, 0, 1]
    assert top.edges[:, layout.MOVED].tolist() == [0, 0, 1]
    assert cross.layers[1:4, layout.REACHED].tolist() == [1, 1, 1]
    assert cross.layers[1:4, layout.NEEDED].tolist() == [0, 0, 1]
    assert cross.edges[:, layout.WANTED].tolist() == [0, 0, 1]
    assert cross.edges[:, layout.MOVED].tolist() == [1, 0, 0]


def test_products_of_blocks_count_and_complex_vectors_keep_their_imaginary_part():
    objective, *_ = problem()
    H = HessianOperator(objective)
    block = H.block(2, 3)
    v = np.arange(block.shape[1]) * (1 - 1j)
    assert np.allclose(block @ v, block @ v.real + 1j * (block @ v.imag))
    assert H.num_products == block.num_products == 4


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 151], r"index must be in \[0, 129\), got 151 at 1"),
        ([-1], "got -1 at 0"),
        ([1, 2, 1], "must not hold a position twice, got 1"),
        ([0.5], "must be a mask or a list of integers, got float64"),
        ([True, False], r"as a mask must have shape \(129,\), got \(2,\)"),
        ([[0]], r"got int64 of shape \(1, 1\)"),
    ],
)
def test_bad_indices(index, message):
    objective, *_ = problem()
    n = objective.num_parameters
    with pytest.raises(ValueError, match=message.replace("129", str(n))):
        HessianOperator(objective).submatrix(index)


@pytest.mark.parametrize("layer", [0, 4])
def test_layers_out_of_range(layer):
    objective, *_ = problem()
    with pytest.raises(ValueError, match=rf"layer must be in \[1, 3\], got {layer}"):
        HessianOperator(objective).block(1, layer)
