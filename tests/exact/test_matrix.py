"""Matrices written out in full."""

import h5py
import krylovh.kernels as kernels
import numpy as np
import pytest
from krylovh.kernels import LOSSES
from scipy.sparse.linalg import aslinearoperator

import oracles
from cases import TOPOLOGIES, problem
from krylovh import (
    GaussNewtonOperator,
    HessianOperator,
    Objective,
    gauss_newton_blocks,
    gauss_newton_matrix,
    hessian_blocks,
    hessian_matrix,
    operator_matrix,
)
from krylovh.exact import assembly, second_derivatives
from krylovh.exact.matrix import BLOCK

DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])
ORACLES = {hessian_matrix: oracles.complex_step_hessian, gauss_newton_matrix: oracles.gauss_newton_matrix}
OPERATORS = {hessian_matrix: HessianOperator, gauss_newton_matrix: GaussNewtonOperator}
MATRICES = pytest.mark.parametrize("matrix", ORACLES, ids=lambda matrix: matrix.__name__)
METHODS = pytest.mark.parametrize("method", ["structure", "products"])


def tolerance(dtype):
    return 1e-13 if dtype == np.float64 else 40 * np.finfo(np.float32).eps


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.fixture
def small_pieces(monkeypatch):
    """Tiles, parts and slabs of a few samples and units, so that small problems are cut as large ones are."""
    monkeypatch.setattr(assembly, "TILE_ROWS", 7)
    monkeypatch.setattr(assembly, "PART_ROWS", 3)
    monkeypatch.setattr(assembly, "WORK_BYTES", 100_000)
    monkeypatch.setattr(assembly, "SLAB_BYTES", 20_000)


@DTYPES
@METHODS
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("loss", LOSSES)
@MATRICES
def test_matrix_equals_the_oracle_and_is_symmetric_to_the_bit(matrix, loss, topology, method, dtype):
    objective, arguments, settings = problem(topology, "silu", loss, weighted=True, ridge=True, dtype=dtype)
    found = matrix(objective, method=method)
    assert found.dtype == dtype
    assert np.array_equal(found, found.T)
    assert distance(found, ORACLES[matrix](*arguments, **settings)) <= tolerance(dtype)


@pytest.mark.parametrize("output", ["tanh", "softplus", "exp"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@MATRICES
def test_curved_outputs(matrix, topology, output):
    objective, arguments, settings = problem(topology, "sin", "softmax_cross_entropy", output=output, reduction="sum")
    assert distance(matrix(objective), ORACLES[matrix](*arguments, **settings, reduction="sum")) <= 1e-13


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("topology", TOPOLOGIES)
@MATRICES
def test_any_cut_into_tiles_and_slabs_gives_the_same_matrix(matrix, topology):
    objective, *_ = problem(topology, "gelu", "softmax_cross_entropy", weighted=True, ridge=True)
    whole = matrix(objective)
    assert distance(whole, operator_matrix(OPERATORS[matrix](objective))) <= 1e-13
    out = np.full(whole.shape, np.nan, order="F")  # no rows of it can be filled in place
    assert matrix(objective, out=out) is out
    assert np.array_equal(out, out.T)
    assert distance(out, whole) <= 1e-14


def test_large_faces_are_cut_into_blocks():
    rng = np.random.default_rng(3)
    n, a, k, d, w = 300, 40, 45, 3, 14
    z, y, F = rng.standard_normal((n, a)), rng.standard_normal((n, k)), rng.standard_normal((n, d, w))
    g, P = rng.standard_normal((n, w)), rng.standard_normal((n, d, k))
    rows, cols = rng.permutation(d * a).reshape(d, a), rng.permutation(w * k).reshape(w, k)
    first, second = np.triu_indices(d)
    for lanes in (1, 3):
        out = np.zeros((d * a, w * k))
        kernels.add_face_products(True, lanes, n, z.ravel(), a, y.ravel(), k, F.ravel(), d, w, rows, cols, out)
        expected = np.einsum("ni,np,njq->jiqp", z, y, F)
        assert distance(out[rows[:, :, None, None], cols], expected) <= 1e-14
        kernels.add_mixed_products(
            True, lanes, n, z.ravel(), a, y.ravel(), k, F.ravel(), d, w, g.ravel(), P.ravel(), rows, cols, out
        )
        expected = 2 * expected + np.einsum("ni,nq,njp->jiqp", z, g, P)
        assert distance(out[rows[:, :, None, None], cols], expected) <= 1e-14
        square = np.zeros((d * a, d * a))
        pairs = rng.standard_normal((n, len(first)))
        kernels.add_face_squares(True, lanes, n, z.ravel(), a, pairs.ravel(), first, second, rows, rows, square)
        kernels.mirror_face_squares(True, lanes, 0, rows, rows, square)
        full = np.empty((n, d, d))
        full[:, first, second] = full[:, second, first] = pairs
        assert distance(square[rows[:, :, None, None], rows], np.einsum("ni,nk,njq->jiqk", z, z, full)) <= 1e-14


@pytest.mark.parametrize("topology", TOPOLOGIES)
@MATRICES
def test_nothing_changes_where_the_linearization_is_not_kept(matrix, topology, monkeypatch):
    monkeypatch.setattr("krylovh.objective.CHUNK_BYTES", 4096)
    kept, *_ = problem(topology, "mish", "poisson", weighted=True)
    monkeypatch.setattr(Objective, "_best_tile", 5)
    anew, *_ = problem(topology, "mish", "poisson", weighted=True, memory_limit=0, threads=1)
    assert len(list(anew.chunks())) > 1
    assert distance(matrix(anew), matrix(kept)) <= 1e-14


def test_same_threads_same_bits_and_other_threads_the_same_to_rounding():
    one, *_ = problem("skip", "tanh", num_samples=300, threads=1)
    three, *_ = problem("skip", "tanh", num_samples=300, threads=3)
    assert np.array_equal(hessian_matrix(three), hessian_matrix(three))
    assert distance(hessian_matrix(three), hessian_matrix(one)) <= 1e-15


@METHODS
@pytest.mark.parametrize("topology", TOPOLOGIES)
@MATRICES
def test_some_layers_give_the_square_of_their_parameters(matrix, topology, method):
    objective, *_ = problem(topology, "tanh", "binary_cross_entropy", ridge=True)
    net, whole = objective.net, matrix(objective)
    layer_of = np.concatenate([np.full(block.stop - block.start, block.layer) for block in net.blocks])
    for layers in ([1], [net.depth], [3, 1]):
        chosen = np.flatnonzero(np.isin(layer_of, layers))
        part = matrix(objective, layers=layers, method=method)
        assert distance(part, whole[np.ix_(chosen, chosen)]) <= 1e-14


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_blocks_are_the_layers_squares(topology):
    objective, *_ = problem(topology, "tanh", "squared_error", ridge=True)
    for blocks, matrix in ((hessian_blocks, hessian_matrix), (gauss_newton_blocks, gauss_newton_matrix)):
        found = blocks(objective)
        whole, start = matrix(objective), 0
        assert len(found) == objective.net.depth
        for block in found:
            stop = start + len(block)
            assert np.allclose(block, whole[start:stop, start:stop], rtol=0, atol=1e-14 * np.linalg.norm(whole))
            start = stop
        assert start == objective.num_parameters


@pytest.mark.usefixtures("small_pieces")
@METHODS
@MATRICES
def test_out_may_be_a_dataset_or_a_memory_map(matrix, method, tmp_path):
    objective, *_ = problem("skip", "silu", weighted=True, ridge=True)
    whole, n = matrix(objective, method=method), objective.num_parameters
    mapped = np.memmap(tmp_path / "matrix", np.float64, "w+", shape=(n, n))
    assert matrix(objective, method=method, out=mapped) is mapped
    assert np.array_equal(mapped, whole)
    with h5py.File(tmp_path / "matrix.h5", "w") as file:
        dataset = file.create_dataset("H", (n, n), np.float64)
        assert matrix(objective, method=method, out=dataset) is dataset
        stored = dataset[:]
        copied = operator_matrix(OPERATORS[matrix](objective), out=file.create_dataset("columns", (n, n), np.float64))[
            :
        ]
    assert np.array_equal(stored, stored.T)
    assert distance(stored, whole) <= 1e-14
    assert distance(copied, whole) <= 1e-13


def test_only_some_rows_are_held_where_the_matrix_lies_elsewhere(small_pieces):
    objective, *_ = problem("chain", "silu")
    n = objective.num_parameters
    written = []

    class Elsewhere:
        shape, dtype = (n, n), np.dtype(float)

        def __init__(self):
            self.held = np.full((n, n), np.nan)

        def __getitem__(self, key):
            assert np.isfinite(self.held[key]).all()  # nothing is read before it was written
            return self.held[key]

        def __setitem__(self, key, value):
            written.append(value.nbytes)
            self.held[key] = value

    out = hessian_matrix(objective, out=Elsewhere())
    assert distance(out.held, hessian_matrix(objective)) <= 1e-14
    assert max(written) <= assembly.SLAB_BYTES
    assert sum(written) == 8 * n * n


@MATRICES
def test_progress_reaches_the_whole(matrix):
    objective, *_ = problem()
    n = objective.num_parameters
    for method, expected in (
        ("products", [(min(n, done), n) for done in range(BLOCK, n + BLOCK, BLOCK)]),
        (None, None),
    ):
        seen = []
        found = matrix(
            objective, method=method or "structure", progress=lambda done, total, to=seen: to.append((done, total))
        )
        assert np.array_equal(found, matrix(objective, method=method or "structure"))
        assert expected in (None, seen)
        assert seen == sorted(seen)
        assert len({total for _, total in seen}) == 1
        assert seen[-1][0] == seen[-1][1]


def test_operator_matrix_holds_what_any_operator_gives():
    rectangular = np.random.default_rng(0).standard_normal((7, 40))
    assert np.array_equal(operator_matrix(aslinearoperator(rectangular)), rectangular)


def test_gauss_newton_matrix_is_positive_semidefinite_and_the_hessian_is_not():
    objective, *_ = problem("skip", "tanh", "squared_error")
    G, H = np.linalg.eigvalsh(gauss_newton_matrix(objective)), np.linalg.eigvalsh(hessian_matrix(objective))
    assert G[0] >= -1e-14 * G[-1]
    assert H[0] < -1e-3 * H[-1]


def test_linear_softmax_has_its_closed_form():
    objective, (_, _, X, _), _ = problem("chain", "identity", num_samples=11)
    p = oracles.softmax(objective.net.forward(X))
    last = hessian_matrix(objective, layers=[objective.net.depth])
    z = oracles.outputs_and_slopes(objective.net, objective.net.theta, X)[0][-2]
    Q = np.einsum("nc,cd->ncd", p, np.eye(p.shape[1])) - np.einsum("nc,nd->ncd", p, p)
    weights = np.einsum("ncd,ni,nk->cidk", Q, z, z) / len(X)
    size = p.shape[1] * z.shape[1]
    assert distance(last[:size, :size], weights.reshape(size, size)) <= 50 * np.finfo(float).eps


def test_layers_that_are_not_behind_one_another_are_found():
    objective, *_ = problem("identity_only")
    assert second_derivatives.layers_behind(objective.net, 1) == {2, 3, 4}
    assert second_derivatives.layers_behind(objective.net, 4) == set()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "columns"}, "method must be 'structure' or 'products', got 'columns'"),
        ({"layers": []}, "layers must be different numbers from 1 to 3, at least one"),
        ({"layers": [1, 1]}, "layers must be different"),
        ({"layers": [0]}, r"layers\[0\] must be in \[1, 3\], got 0"),
        ({"out": np.empty((3, 3))}, r"out must have shape \(118, 118\), got \(3, 3\)"),
        ({"out": np.empty((118, 118), np.float32)}, "out must have dtype float64, got float32"),
    ],
)
def test_misuse_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        hessian_matrix(problem()[0], **options)
