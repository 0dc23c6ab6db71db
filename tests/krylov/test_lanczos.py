"""Claims about the Lanczos process, checked against LAPACK and closed forms."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import zoo
from krylovh import Status, lanczos
from krylovh.krylov.orthogonalize import fresh_direction, orthogonalize


def start(n, seed=0):
    return np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 20, 100])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_lanczos_relation_holds_over_the_zoo(n, dtype):
    for reference in zoo.zoo(n):
        M = reference.matrix()
        for m in sorted({1, (n + 1) // 2, n}):
            t = lanczos(reference.operator(dtype), start(n), m)
            steps = t.alphas.size
            bound = 50 * np.finfo(dtype).eps * reference.norm
            relation = M @ t.Q - t.Q @ t.dense()
            relation[:, -1] -= t.residual
            assert np.linalg.norm(relation, axis=0).max() <= bound, reference.name
            assert np.abs(t.Q.T @ t.Q - np.eye(steps)).max() <= 1e-13, reference.name
            assert np.linalg.norm(t.Q.T @ t.residual) <= 1e-13 * reference.norm
            assert t.residual_norm == pytest.approx(np.linalg.norm(t.residual), rel=1e-12)
            assert t.status == (Status.CONVERGED if steps == m else Status.BREAKDOWN)
            assert t.num_products == steps


def test_n_steps_give_the_whole_spectrum():
    reference = zoo.goe(60)
    t = lanczos(reference.operator(), start(60), 60)
    np.testing.assert_allclose(np.linalg.eigvalsh(t.dense()), reference.eigenvalues, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "steps"), [("identity", 1), ("zero", 1), ("two_point", 2), ("shifted_ones", 2), ("rank_5", 6)]
)
def test_the_process_ends_where_the_space_is_invariant(name, steps):
    reference = zoo.CATALOGUE[name](80)
    t = lanczos(reference.operator(), start(80), 50)
    assert t.status == Status.BREAKDOWN
    assert steps <= t.alphas.size == t.num_products <= steps + 1  # one more where rounding exceeds the threshold
    assert t.residual_norm <= 1e-14 * reference.norm
    distance = np.abs(np.subtract.outer(np.linalg.eigvalsh(t.dense()), reference.eigenvalues)).min(axis=1)
    assert distance.max() <= 1e-14 * reference.norm


@pytest.mark.parametrize("rho", [0.65, 0.8, 0.9])
def test_orthogonality_keeps_ghosts_away_and_its_lack_invites_them(rho):
    reference = zoo.strakos(24, rho)
    full = lanczos(reference.operator(), start(24), 24)
    assert (np.abs(np.linalg.eigvalsh(full.dense()) - reference.eigenvalues) <= 1e-12 * reference.norm).all()
    operator = zoo.strakos(200, rho).operator()
    copies = {
        mode: np.count_nonzero(
            np.linalg.eigvalsh(lanczos(operator, start(200), 150, reorthogonalize=mode).dense()) > 99.99
        )
        for mode in ("full", "none")
    }
    assert copies["full"] == 1
    assert copies["none"] > 1


def test_both_modes_agree_as_long_as_nothing_has_converged():
    reference = zoo.chebyshev(400)
    one, other = (lanczos(reference.operator(), start(400), 20, reorthogonalize=mode) for mode in ("full", "none"))
    np.testing.assert_allclose(one.alphas, other.alphas, atol=1e-13)
    np.testing.assert_allclose(one.betas, other.betas, atol=1e-13)
    np.testing.assert_allclose(one.residual, other.residual, atol=1e-12)
    assert other.Q is None


@pytest.mark.parametrize("exponent", [-900, -3, 900])
@pytest.mark.parametrize("mode", ["full", "none"])
def test_powers_of_two_scale_the_result_exactly(exponent, mode):
    M = zoo.wishart(100).matrix()
    one = lanczos(M, start(100), 30, reorthogonalize=mode)
    other = lanczos(np.ldexp(M, exponent), np.ldexp(start(100), -exponent), 30, reorthogonalize=mode)
    assert (np.ldexp(one.alphas, exponent) == other.alphas).all()
    assert (np.ldexp(one.betas, exponent) == other.betas).all()
    assert (np.ldexp(one.residual, exponent) == other.residual).all()
    assert np.ldexp(one.residual_norm, exponent) == other.residual_norm


def test_the_callers_arrays_are_not_touched():
    v0 = start(50)
    before = v0.copy()
    t = lanczos(zoo.goe(50).operator(), v0, 5)
    assert (v0 == before).all()
    assert not np.shares_memory(t.Q, v0)
    assert not np.shares_memory(t.residual, v0)


@pytest.mark.parametrize(
    ("v0", "num_steps", "mode", "error", "message"),
    [
        (np.zeros(5), 2, "full", ValueError, "v0 must not be zero"),
        ([1, np.inf, 0, 0, 0], 2, "full", ValueError, "v0 must be finite, got inf at index 1"),
        (np.ones(6), 2, "full", ValueError, r"v0 must have shape \(5,\), got \(6,\)"),
        (np.ones(5, dtype=complex), 2, "full", ValueError, "v0 must be real"),
        (np.ones(5), 0, "full", ValueError, r"num_steps must be in \[1, 5\], got 0"),
        (np.ones(5), 6, "full", ValueError, r"num_steps must be in \[1, 5\], got 6"),
        (np.ones(5), 2.5, "full", TypeError, r"num_steps must be an integer, in \[1, 5\], got 2.5"),
        (np.ones(5), 2, "selective", ValueError, "reorthogonalize must be 'full' or 'none', got 'selective'"),
    ],
)
def test_misuse_is_refused_by_name(v0, num_steps, mode, error, message):
    with pytest.raises(error, match=message):
        lanczos(np.eye(5), v0, num_steps, reorthogonalize=mode)


@pytest.mark.parametrize("mode", ["full", "none"])
@pytest.mark.parametrize("max_products", [0, 1, 7])
def test_a_budget_leaves_a_valid_shorter_process(mode, max_products):
    M = zoo.goe(40).matrix()
    t = lanczos(M, start(40), 20, reorthogonalize=mode, max_products=max_products)
    whole = lanczos(M, start(40), 20, reorthogonalize=mode)
    assert t.status == Status.BUDGET
    assert t.num_products == t.alphas.size == max_products
    assert (t.alphas == whole.alphas[:max_products]).all()
    if max_products:
        assert t.residual_norm == whole.betas[max_products - 1]


@pytest.mark.parametrize("mode", ["full", "none"])
@pytest.mark.parametrize("fault", ["nan", "interrupt"])
@pytest.mark.parametrize("at", [1, 4])
def test_a_fault_in_a_product_leaves_the_steps_before_it(mode, fault, at):
    M, calls = zoo.goe(40).matrix(), []

    def product(v):
        calls.append(1)
        if len(calls) == at and fault == "interrupt":
            raise KeyboardInterrupt
        return M @ v.ravel() * (np.nan if len(calls) == at else 1.0)

    A = LinearOperator((40, 40), matvec=product, dtype=np.float64)
    t = lanczos(A, start(40), 20, reorthogonalize=mode)
    assert t.status == (Status.NONFINITE if fault == "nan" else Status.INTERRUPTED)
    assert t.alphas.size == at - 1
    assert t.betas.size == max(at - 2, 0)


def test_progress_is_reported_once_per_step():
    seen = []
    lanczos(zoo.goe(30).operator(), start(30), 6, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_orthogonalising_twice_is_enough_for_a_vector_almost_in_the_span():
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 10)))[0]
    w = Q @ np.ones(10) + 1e-12 * start(100)
    before = w.copy()
    coefficients, norm = orthogonalize(Q, w)
    assert np.abs(Q.T @ w).max() <= 1e-15 * norm
    assert np.abs(before - Q @ coefficients - w).max() <= 1e-14
    assert orthogonalize(Q, Q @ np.ones(10))[1] <= 1e-15


def test_a_fresh_direction_is_orthogonal_even_in_the_last_dimension():
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 49)))[0]
    direction = fresh_direction(Q, np.random.default_rng(1))
    assert np.abs(Q.T @ direction).max() <= 1e-15
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-15)
