"""Blocks, warm starts, deflation, and bases in files: other spaces, the same set."""

import itertools
import tempfile

import numpy as np
import pytest

import zoo
from eigenpairs import ALL_ENDS, check
from krylovh import Status, eigsh
from krylovh.krylov.block import BlockLanczosFactorization

EPS = 2.0**-52


# -- blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [2, 3, 8])
@pytest.mark.parametrize(
    "name", ["ladder", "goe", "identity", "two_point", "outliers", "rank_5", "householder", "zero"]
)
def test_blocks_find_the_same_set(name, block_size):
    reference = zoo.CATALOGUE[name](256)
    for k, which in itertools.product((1, 5), ALL_ENDS):
        result = eigsh(reference.operator(), k, which=which, block_size=block_size, rng=1)
        check(result, reference, k, which, 1e-8, EPS)


def test_a_block_sees_all_copies_without_verification():
    reference = zoo.ladder(400)
    result = eigsh(reference.operator(), 10, block_size=5, verify=False, rng=0)
    assert result.eigenvalues == pytest.approx(np.repeat([0.9, 0.95, 1.0], [5, 3, 2]), abs=1e-8)


@pytest.mark.parametrize("block_size", [1, 3, 8, 20, 40])
def test_a_block_may_have_up_to_n_columns(block_size):
    reference = zoo.goe(20)
    result = eigsh(reference.operator(), 3, block_size=min(block_size, 20), ncv=19 if block_size < 17 else 20, rng=0)
    check(result, reference, 3, "LA", 1e-8, EPS)


@pytest.mark.parametrize("name", ["laplacian", "two_point", "identity", "zero", "cluster_1e-9", "goe", "ladder"])
@pytest.mark.parametrize("locked", [0, 3])
@pytest.mark.parametrize("block", ["independent", "duplicate", "zero", "invariant"])
def test_the_block_factorisation_holds_after_every_step_and_restart(name, locked, block):
    n, capacity = 60, 15
    M = zoo.CATALOGUE[name](n).matrix()
    vectors = np.linalg.eigh(M)[1]
    X = vectors[:, n - locked :]
    rng = np.random.default_rng(0)
    start = rng.standard_normal((n, 4))
    start[:, 3] = {"independent": start[:, 3], "duplicate": start[:, 0] - start[:, 1], "zero": 0.0}.get(block, 1.0)
    if block == "invariant":
        start = vectors[:, :4]
    f = BlockLanczosFactorization(M.dot, n, capacity, start, locked=X, rng=rng)
    assert f.Q.shape[1] == (3 if block in ("duplicate", "zero") else 4)
    bound = 100 * EPS * max(np.abs(M).sum(axis=0).max(), 1e-300)
    for _ in range(40):
        if f.full:
            f.restart(f.ritz(), np.array([0, 1, f.size - 3, f.size - 2, f.size - 1]))
            assert f.size == 5
        else:
            f.extend()
        V = f.V
        deflated = M @ V - X @ (X.T @ (M @ V))
        assert np.abs(deflated - V @ f.T - f.Q @ f.S).max() <= bound
        assert np.abs(M @ V - f.products(np.eye(f.size))).max() <= bound
        assert np.abs(V.T @ V - np.eye(f.size)).max() <= 1e-13
        assert np.abs(X.T @ V).max(initial=0.0) <= 1e-13
        assert np.abs(V.T @ f.Q).max(initial=0.0) <= 1e-13
        assert f.size + locked <= n


# -- warm starts ----------------------------------------------------------------------------------------------------


def test_eigenvectors_of_an_earlier_run_are_a_start_that_costs_their_products_alone():
    reference = zoo.outliers(600)
    first = eigsh(reference.operator(), 5, tol=1e-10, rng=0)
    again = eigsh(reference.operator(), 5, v0=first.eigenvectors, rng=1)
    check(again, reference, 5, "LA", 1e-8, EPS)
    assert again.num_products <= first.num_products
    unverified = eigsh(reference.operator(), 5, v0=first.eigenvectors, rng=1, verify=False)
    assert unverified.num_products == 5 + 2 + 1  # with probes of symmetry and a confirmation


@pytest.mark.parametrize("which", ALL_ENDS)
@pytest.mark.parametrize("distance", [1e-6, 1e-2, 1.0])
def test_vectors_nearby_lead_to_the_right_set(which, distance):
    reference = zoo.diagonal(np.concatenate([np.linspace(-1, 1, 290), [-3.0, -2.5, -2.0, 2.2, 2.7, 2.7, 3.1, 4.0]]))
    vectors = eigsh(reference.operator(), 4, which=which, rng=0).eigenvectors
    noise = np.random.default_rng(0).standard_normal(vectors.shape) / reference.n**0.5
    v0 = np.column_stack([vectors + distance * noise, vectors[:, 0] - noise[:, 1], np.zeros(reference.n)])
    before = v0.copy()
    check(eigsh(reference.operator(), 4, which=which, v0=v0, rng=0), reference, 4, which, 1e-8, EPS)
    assert (v0 == before).all()


def test_a_start_of_wrong_eigenvectors_is_not_believed():
    reference = zoo.outliers(300)
    vectors = eigsh(reference.operator(), 4, which="SA", rng=0).eigenvectors
    check(eigsh(reference.operator(), 3, v0=vectors, rng=0), reference, 3, "LA", 1e-8, EPS)


# -- deflation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [40, 400])
@pytest.mark.parametrize("block_size", [1, 3])
def test_known_eigenvectors_are_not_found_again(n, block_size):
    reference = zoo.outliers(n)
    known = eigsh(reference.operator(), 4, tol=1e-14, rng=0)
    rest = eigsh(reference.operator(), 3, deflate=2.0 * known.eigenvectors, block_size=block_size, rng=1)
    assert (rest.status, rest.set_verified) == (Status.CONVERGED, True)
    assert rest.eigenvalues == pytest.approx([4, 5, 6], abs=1e-7)
    assert np.abs(known.eigenvectors.T @ rest.eigenvectors).max() <= 1e-13
    truth = np.linalg.norm(reference.apply(rest.eigenvectors) - rest.eigenvectors * rest.eigenvalues, axis=0)
    np.testing.assert_allclose(rest.residual_norms, truth, rtol=1e-6, atol=1e-14)


def test_vectors_that_are_no_eigenvectors_show_in_the_residuals():
    reference = zoo.outliers(400)
    W = np.random.default_rng(0).standard_normal((400, 2))
    result = eigsh(reference.operator(), 3, deflate=W, rng=0, max_restarts=50)
    X = result.eigenvectors
    truth = np.linalg.norm(reference.apply(X) - X * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, truth, rtol=1e-6)
    assert not result.converged.any()
    assert result.status == Status.STAGNATED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"deflate": np.ones(4)}, r"deflate must have shape \(200, m\)"),
        ({"deflate": np.zeros((200, 1))}, "deflate must not have zero columns"),
        ({"deflate": np.ones((200, 2))}, "deflate must have linearly independent columns"),
        ({"deflate": np.full((200, 1), np.nan)}, "deflate must be finite"),
        ({"deflate": np.ones((200, 1)), "v0": np.ones(200)}, "v0 must not lie in the span of deflate"),
        ({"deflate": np.eye(200)[:, :150], "k": 60}, r"k must be in \[1, 50\], got 60"),
        ({"v0": np.zeros((200, 2))}, "v0 must not be zero"),
        ({"v0": np.ones((199, 2))}, r"v0 must have shape \(200,\) or \(200, m\)"),
        ({"block_size": 0}, r"block_size must be in \[1, 200\], got 0"),
        ({"block_size": 201}, r"block_size must be in \[1, 200\], got 201"),
        ({"memory_limit": -1}, "memory_limit must be at least 0, got -1"),
        ({"basis_path": "/no/such/folder"}, "basis_path must be a folder"),
    ],
)
def test_misuse_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        eigsh(np.diag(np.arange(200.0)), **{"k": 2, **arguments})


# -- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ALL_ENDS)
@pytest.mark.parametrize("n", [60, 500])
def test_angles_are_within_their_bounds_and_gaps_below_the_true_ones(which, n):
    values = np.concatenate([np.linspace(-1, 1, n - 8), [-4.0, -3.0, -2.9, 2.2, 2.7, 2.7001, 3.1, 5.0]])
    reference = zoo.diagonal(values)
    exact, vectors = np.linalg.eigh(reference.matrix())
    for tol in (1e-2, 1e-5, 1e-10):
        result = eigsh(reference.operator(), 4, which=which, tol=tol, rng=0)
        for value, x, gap, bound in zip(
            result.eigenvalues, result.eigenvectors.T, result.gaps, result.angle_bounds, strict=True
        ):
            i = np.abs(exact - value).argmin()
            sine = np.linalg.norm(x - vectors[:, i] * (vectors[:, i] @ x))
            assert sine <= bound + 1e-12
            assert gap <= np.abs(np.delete(exact, i) - value).min() + 1e-12
    assert (result.angle_bounds <= 1e-4).all()
    assert (result.value_bounds <= 1e-12).all()


def test_nothing_is_known_of_gaps_without_verification():
    result = eigsh(zoo.outliers(300).operator(), 3, verify=False, rng=0)
    assert (result.gaps == 0).all()
    assert (result.angle_bounds == 1).all()
    assert (result.value_bounds == result.residual_norms + result.rounding).all()


def test_each_pair_has_a_status():
    reference = zoo.strakos(1000)
    result = eigsh(reference.operator(), 6, which="BE", tol=1e-9, max_products=100, rng=0)
    assert result.status == Status.BUDGET
    assert result.converged.any()
    assert result.statuses == tuple(Status.CONVERGED if c else Status.BUDGET for c in result.converged)


# -- bases in files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [1, 2])
def test_a_basis_in_a_file_gives_the_same_bits_and_leaves_nothing_behind(tmp_path, block_size):
    reference = zoo.wishart(300)
    one = eigsh(reference.operator(), 4, rng=0, block_size=block_size)
    other = eigsh(reference.operator(), 4, rng=0, block_size=block_size, basis_path=tmp_path)
    assert (one.eigenvectors == other.eigenvectors).all()
    assert one.num_products == other.num_products
    assert not list(tmp_path.iterdir())


def test_a_basis_above_the_limit_goes_to_the_folder_of_temporary_files(monkeypatch, tmp_path):
    opened = []
    original = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **k: opened.append(k["dir"]) or original(**k))
    reference = zoo.outliers(300)
    small = eigsh(reference.operator(), 4, rng=0, memory_limit=10**7)
    assert not opened
    assert (eigsh(reference.operator(), 4, rng=0, memory_limit=1000).eigenvalues == small.eigenvalues).all()
    eigsh(reference.operator(), 4, rng=0, memory_limit=1000, basis_path=tmp_path)
    assert set(opened) == {None, tmp_path}
