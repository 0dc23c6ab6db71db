"""Claims about eigsh; the checkers use closed forms, LAPACK and products in float64, never the solver."""

import itertools
import threading

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import zoo
from krylovh import Status, eigsh
from krylovh.krylov.factorization import LanczosFactorization
from krylovh.krylov.symmetry import check_symmetry

ALL_ENDS = ("LA", "SA", "LM", "BE")
TOLERANCE = {np.float64: 1e-8, np.float32: 1e-5}


# -- the checker ----------------------------------------------------------------------------------------------------


def wanted(values, k, which):
    """The k wanted of all eigenvalues; magnitudes for LM and SM, where signs may tie."""
    values = np.sort(values)
    low = {"LA": 0, "SA": k, "BE": k // 2}.get(which)
    if low is not None:
        return np.concatenate([values[:low], values[values.size - (k - low) :]])
    magnitudes = np.sort(np.abs(values))
    return magnitudes[-k:] if which == "LM" else magnitudes[:k]


def match_distinct_eigenvalues(found, values, tolerance):
    """Whether found values are within the tolerance of distinct eigenvalues, both ascending: greedy is optimal."""
    position = 0
    for value in found:
        while position < values.size and values[position] < value - tolerance:
            position += 1
        if position == values.size or values[position] > value + tolerance:
            return False
        position += 1
    return True


def check(result, reference, k, which, tol, eps):
    bound = (tol + 10 * eps) * reference.norm
    X, theta = result.eigenvectors, result.eigenvalues
    assert (result.status, result.set_verified) == (Status.CONVERGED, True)
    assert X.shape == (reference.n, k)
    assert (np.diff(theta) >= 0).all()
    true_residuals = np.linalg.norm(reference.apply(X) - X * theta, axis=0)
    assert (true_residuals <= bound).all()
    error = np.abs(result.residual_norms - true_residuals)
    assert (error <= np.maximum(2 * true_residuals, 10 * eps * reference.norm)).all()
    assert np.abs(X.T @ X - np.eye(k)).max() <= 1e-13
    found = np.sort(np.abs(theta)) if which in ("LM", "SM") else theta
    assert np.abs(found - wanted(reference.eigenvalues, k, which)).max() <= bound, "wrong set"
    assert match_distinct_eigenvalues(theta, reference.eigenvalues, bound), "wrong signs or copies"


def operator_of(f, n, dtype=np.float64):
    """An operator from a function of one vector of shape (n,)."""
    return LinearOperator((n, n), matvec=lambda v: f(v.ravel()), dtype=dtype)


def strakos_bottom(name, which):
    """Eigenvalues that crowd together geometrically: nobody's Krylov method resolves them."""
    return name in ("strakos", "minimum") and which in ("SA", "BE")


# -- the zoo --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 20, 100])
def test_every_small_operator_gets_its_right_set(n):
    for reference in zoo.zoo(n):
        for k, which, dtype in itertools.product(sorted({1, 2, n - 1, n}), (*ALL_ENDS, "SM"), TOLERANCE):
            if not 1 <= k <= n:
                continue
            tol = TOLERANCE[dtype]
            result = eigsh(reference.operator(dtype), k, which=which, tol=tol, rng=n)
            check(result, reference, k, which, tol, np.finfo(dtype).eps)
            assert n + k <= result.num_products <= n + k + 1


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
@pytest.mark.parametrize("name", zoo.CATALOGUE)
@pytest.mark.parametrize(("n", "ncv"), [(9, 8), (16, 12), (64, 25)])
def test_iteration_finds_the_right_set_in_a_small_basis(name, n, ncv, dtype):
    reference = zoo.CATALOGUE[name](n)
    if reference is None:
        pytest.skip(f"{name} does not exist at order {n}")
    tol = TOLERANCE[dtype]
    for k, which in itertools.product((1, 2, 5), ALL_ENDS):
        if n == 64 and strakos_bottom(name, which):
            continue
        if which == "BE" and ncv < 3 * k:
            continue
        result = eigsh(reference.operator(dtype), k, which=which, tol=tol, ncv=ncv, rng=k)
        check(result, reference, k, which, tol, np.finfo(dtype).eps)


@pytest.mark.parametrize("which", ALL_ENDS)
@pytest.mark.parametrize("name", zoo.CATALOGUE)
def test_the_right_set_of_a_thousand_is_found(name, which):
    n = 1024 if name in ("hadamard", "square_laplacian") else 1000
    if strakos_bottom(name, which):
        pytest.skip("eigenvalues crowd together geometrically: see the test of truthful failure")
    reference = zoo.CATALOGUE[name](n)
    result = eigsh(reference.operator(), 5, which=which, rng=1)
    check(result, reference, 5, which, 1e-8, 2.0**-52)


@pytest.mark.parametrize("name", ["minimum", "strakos"])
def test_a_set_that_cannot_be_found_is_not_claimed(name):
    reference = zoo.CATALOGUE[name](1000)
    result = eigsh(reference.operator(), 5, which="SA", rng=1, max_restarts=20)
    true_residuals = np.linalg.norm(
        reference.apply(result.eigenvectors) - result.eigenvectors * result.eigenvalues, axis=0
    )
    assert result.status == Status.BUDGET
    assert not result.set_verified
    np.testing.assert_allclose(result.residual_norms, true_residuals, rtol=1e-3)
    assert (result.converged == (true_residuals <= 1e-8 * result.operator_norm)).all()


@pytest.mark.parametrize("delta", [7e-5, 1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("ncv", [20, 40])
def test_a_cluster_keeps_all_its_members_for_every_seed(delta, ncv):
    reference = zoo.cluster(200, delta)
    for seed in range(13):
        result = eigsh(reference.operator(), 8, tol=1e-6, ncv=ncv, rng=seed)
        check(result, reference, 8, "LA", 1e-6, 2.0**-52)


@pytest.mark.parametrize("n", [21, 201])
def test_wilkinson_pairs_are_both_found_and_orthogonal(n):
    reference = zoo.wilkinson(n)
    result = eigsh(reference.operator(), 4, ncv=20, tol=1e-10, rng=0)
    check(result, reference, 4, "LA", 1e-10, 2.0**-52)
    if n == 21:
        assert result.eigenvalues[2:] == pytest.approx([10.746194182903393] * 2, abs=1e-12)


@pytest.mark.parametrize("verify", [True, False])
def test_only_verification_vouches_for_a_multiple_eigenvalue(verify):
    values = np.concatenate([np.linspace(0, 1, 395), [2.0, 2.0, 2.0, 3.0, 3.0]])
    reference = zoo.diagonal(values)
    result = eigsh(reference.operator(), 4, verify=verify, rng=0)
    assert result.status == Status.CONVERGED
    assert result.set_verified == verify
    if verify:
        assert result.eigenvalues == pytest.approx([2, 2, 3, 3], abs=1e-8)


def test_verification_of_outliers_costs_few_products():
    reference = zoo.outliers(3466)
    cost = {verify: eigsh(reference.operator(), 10, verify=verify, rng=0).num_products for verify in (False, True)}
    assert cost[True] - cost[False] <= 25
    assert cost[True] <= 60


@pytest.mark.parametrize("value", [1.0, -3.0, 0.0])
def test_a_multiple_of_the_identity_is_exact_for_every_seed(value):
    for seed in range(20):
        result = eigsh(operator_of(lambda v: value * v, 300), 6, rng=seed)
        assert result.eigenvalues == pytest.approx([value] * 6, abs=1e-14)
        assert result.set_verified
        assert result.num_products <= 20


def test_a_trapped_start_vector_does_not_hide_the_other_block():
    n = 400
    d = np.concatenate([np.linspace(1, 2, n // 2), np.linspace(3, 4, n // 2)])
    v0 = np.concatenate([np.ones(n // 2), np.zeros(n // 2)])
    result = eigsh(np.diag(d), 3, v0=v0, rng=0)
    check(result, zoo.Reference("blocks", lambda x: (d * x.T).T, d), 3, "LA", 1e-8, 2.0**-52)


# -- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, r"k must be in \[1, 5\], got 0"),
        ({"k": -1}, ValueError, "got -1"),
        ({"k": 6}, ValueError, r"k must be in \[1, 5\], got 6"),
        ({"k": 2.0}, TypeError, r"k must be an integer, in \[1, 5\], got 2.0"),
        ({"k": "all"}, TypeError, "k must be an integer"),
        ({"which": "LR"}, ValueError, "which must be one of"),
        ({"tol": -1e-3}, ValueError, "tol must be in"),
        ({"tol": np.nan}, ValueError, "tol must be in"),
        ({"ncv": 2}, ValueError, "ncv must be in"),
        ({"ncv": 6}, ValueError, "ncv must be in"),
        ({"v0": np.zeros(5)}, ValueError, "v0 must not be zero"),
        ({"v0": np.full(5, np.nan)}, ValueError, "v0 must be finite"),
        ({"v0": np.ones(4)}, ValueError, r"v0 must have shape \(5,\), got \(4,\)"),
        ({"v0": np.ones(5) * 1j}, ValueError, "v0 must be real"),
        ({"rng": -1}, ValueError, "rng must be"),
        ({"max_products": -1}, ValueError, "max_products must be"),
        ({"max_restarts": -1}, ValueError, "max_restarts must be"),
    ],
)
def test_misuse_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        eigsh(np.eye(5), **{"k": 2, **arguments})


def test_an_empty_operator_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        eigsh(operator_of(lambda v: v, 0), 1)


def test_a_rectangular_or_complex_operator_is_refused():
    with pytest.raises(ValueError, match="square"):
        eigsh(np.ones((3, 4)), 1)
    with pytest.raises(TypeError, match="real"):
        eigsh(np.eye(3) * 1j, 1)


def test_interior_eigenvalues_of_a_large_operator_are_refused_with_advice():
    with pytest.raises(ValueError, match=r"'SM' must have n <= 4000, got n = 5000.*inverse"):
        eigsh(operator_of(lambda v: v, 5000), 2, which="SM")


def test_interior_eigenvalues_of_a_medium_operator_come_from_the_whole_spectrum():
    reference = zoo.goe(300)
    result = eigsh(reference.operator(), 5, which="SM")
    check(result, reference, 5, "SM", 1e-8, 2.0**-52)
    assert result.num_products == 305


# -- symmetry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("size", [1.0, 1e-8])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_single_wrong_entry_is_noticed(n, size, dtype):
    if size < 1e-5 and dtype == np.float32:
        pytest.skip("below the rounding of float32")
    M = zoo.goe(n).matrix()
    M[3, 7] += size * M.max()
    with pytest.raises(ValueError, match=r"A must be symmetric: .* differ by"):
        eigsh(M.astype(dtype), 3, rng=0)


@pytest.mark.parametrize("n", [20, 300])
def test_a_random_matrix_and_a_kahan_matrix_are_refused(n):
    s = 0.99
    kahan = np.diag(s ** np.arange(n)) @ (np.eye(n) - 0.1 * np.triu(np.ones((n, n)), 1))
    for M in (np.random.default_rng(0).standard_normal((n, n)), kahan):
        for v0 in (None, np.eye(n)[0]):
            with pytest.raises(ValueError, match="A must be symmetric"):
                eigsh(M, 2, v0=v0, rng=0)


def test_an_asymmetry_that_probes_cannot_see_shows_in_the_residuals():
    n = 300
    M = np.diag(np.linspace(0, 1, n))
    M[-1, -2] = 1e-3
    check_symmetry(M.dot, np.eye(n)[:, :2], M[:, :2], 2.0**-52)  # blind probes
    M[-1, -2] = 1e-13
    result = eigsh(M, 2, tol=1e-16, rng=0)
    X = result.eigenvectors
    true_residuals = np.linalg.norm(M @ X - X * result.eigenvalues, axis=0)
    assert np.abs(result.residual_norms - true_residuals).max() <= 1e-15


# -- scaling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-900, -40, 1, 900])
@pytest.mark.parametrize(("n", "which"), [(50, "LA"), (300, "BE"), (300, "LM")])
def test_powers_of_two_scale_the_answer_exactly(n, which, exponent):
    M = zoo.wishart(n).matrix()
    M = (M + M.T) / 2
    one, other = eigsh(M, 4, which=which, rng=0), eigsh(np.ldexp(M, exponent), 4, which=which, rng=0)
    assert (np.ldexp(one.eigenvalues, exponent) == other.eigenvalues).all()
    assert (one.eigenvectors == other.eigenvectors).all()
    assert (np.ldexp(one.residual_norms, exponent) == other.residual_norms).all()
    assert (one.num_products, one.num_restarts) == (other.num_products, other.num_restarts)


@pytest.mark.parametrize("n", [61, 601])
def test_six_hundred_orders_of_magnitude_do_not_overflow(n):
    d = np.logspace(-300, 300, n)
    result = eigsh(operator_of(lambda v: d * v, n), 4, rng=0)
    np.testing.assert_allclose(result.eigenvalues, d[-4:], rtol=1e-14, atol=np.finfo(float).eps * d[-1])
    assert result.status == Status.CONVERGED
    assert result.set_verified


@pytest.mark.parametrize("which", ALL_ENDS)
def test_shift_mirror_and_similarity_move_the_spectrum_as_they_should(which):
    reference = zoo.diagonal(np.concatenate([np.linspace(-1, 1, 190), [-3.0, -2.5, -2.0, 2.2, 2.7, 3.1, 4.0]]))
    one = eigsh(reference.operator(), 4, which=which, rng=0)
    bound = 1e-7 * reference.norm
    if which != "LM":
        shifted = eigsh(reference.shifted(10.0).operator(), 4, which=which, rng=0)
        assert np.abs(shifted.eigenvalues - 10 - one.eigenvalues).max() <= bound
    mirror = {"LA": "SA", "SA": "LA"}.get(which, which)
    mirrored = eigsh(reference.scaled(-1.0).operator(), 4, which=mirror, rng=0)
    assert np.abs(np.sort(-mirrored.eigenvalues) - one.eigenvalues).max() <= bound
    similar = zoo.embed("similar", reference.apply, reference.eigenvalues, seed=5)
    assert np.abs(eigsh(similar.operator(), 4, which=which, rng=0).eigenvalues - one.eigenvalues).max() <= bound


@pytest.mark.parametrize("which", ALL_ENDS)
def test_one_pair_more_contains_the_set(which):
    reference = zoo.wishart(300)
    sets = [eigsh(reference.operator(), k, which=which, rng=0).eigenvalues for k in (4, 5)]
    assert match_distinct_eigenvalues(sets[0], sets[1], 1e-7)


@pytest.mark.parametrize("ncv", [8, 15, 60, 300])
def test_the_size_of_the_basis_does_not_change_the_values(ncv):
    reference = zoo.outliers(300)
    result = eigsh(reference.operator(), 4, ncv=ncv, tol=1e-10, rng=0)
    assert result.eigenvalues == pytest.approx([7, 8, 9, 10], abs=1e-13 * 10)


# -- budgets, noise, precision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_products", [0, 1, 5, 9, 20, 47, 100])
def test_a_budget_is_never_exceeded_and_what_was_found_is_true(max_products):
    reference = zoo.chebyshev(500)
    calls = []
    A = operator_of(lambda v: calls.append(1) or reference.apply(v), 500)
    result = eigsh(A, 4, max_products=max_products, rng=0)
    assert len(calls) == result.num_products <= max_products
    assert (result.status, result.set_verified) == (Status.BUDGET, False)
    X = result.eigenvectors
    true_residuals = np.linalg.norm(reference.apply(X) - X * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, true_residuals, rtol=1e-10)
    assert (result.eigenvalues.size == 4) == (max_products >= 9)


def test_a_budget_that_ends_during_verification_leaves_converged_pairs():
    reference = zoo.outliers(800)
    without = eigsh(reference.operator(), 5, verify=False, rng=0).num_products
    result = eigsh(reference.operator(), 5, max_products=without + 5, rng=0)
    assert (result.status, result.set_verified) == (Status.CONVERGED, False)
    assert result.num_products <= without + 5


def test_a_budget_of_seconds_ends_the_search_with_true_residuals():
    reference = zoo.strakos(1000)
    result = eigsh(reference.operator(), 4, which="SA", max_seconds=0.05, rng=0)
    assert result.status == Status.BUDGET
    assert result.residual_norms.size == 4
    assert np.isfinite(result.residual_norms).all()


@pytest.mark.parametrize("n", [50, 400])
@pytest.mark.parametrize("kind", ["random", "rounded"])
def test_noise_ends_in_stagnation_after_a_bounded_number_of_products(n, kind):
    reference = zoo.outliers(n)
    rng = np.random.default_rng(0)

    def product(v):
        y = reference.apply(v)
        if kind == "random":
            return y * (1 + 1e-3 * rng.standard_normal(n))
        return y.astype(np.float16).astype(np.float64)

    result = eigsh(operator_of(product, n), 4, rng=0)
    assert result.status == Status.STAGNATED
    assert result.num_products <= 300
    assert not result.converged.any()
    assert result.eigenvalues == pytest.approx([7, 8, 9, 10], rel=1e-2)


@pytest.mark.parametrize("which", ALL_ENDS)
@pytest.mark.parametrize("n", [80, 500])
def test_a_tolerance_below_float32_stagnates_at_rounding(n, which):
    reference = zoo.wishart(n)
    result = eigsh(reference.operator(np.float32), 4, which=which, rng=0)
    X = result.eigenvectors
    true_residuals = np.linalg.norm(reference.apply(X) - X * result.eigenvalues, axis=0)
    assert result.status == Status.STAGNATED
    assert (true_residuals <= 50 * np.finfo(np.float32).eps * reference.norm).all()
    assert result.num_products < 1000


@pytest.mark.parametrize("tol", [0.0, 1e-16])
def test_a_tolerance_below_float64_stagnates_at_rounding(tol):
    reference = zoo.wishart(300)
    result = eigsh(reference.operator(), 4, tol=tol, rng=0)
    assert result.status == Status.STAGNATED
    assert (result.residual_norms <= 50 * 2.0**-52 * reference.norm).all()
    assert result.num_products < 1000


# -- operators that misbehave ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda v: None, TypeError, "a product with A must be a real array, got NoneType"),
        (lambda v: [None] * len(v), TypeError, "real array, got list"),
        (lambda v: v[:-1], ValueError, "a product with A must have shape"),
        (lambda v: v * 1j, TypeError, "real array, got ndarray of complex128"),
        (lambda v: "v", TypeError, "real array, got str"),
    ],
)
def test_a_product_of_the_wrong_kind_is_refused_by_name(n, bad, error, message):
    with pytest.raises(error, match=message):
        eigsh(operator_of(bad, n), 2)


@pytest.mark.parametrize("n", [50, 400])
def test_an_operator_that_scribbles_on_its_input_or_reuses_its_output_does_no_harm(n):
    reference = zoo.outliers(n)
    buffer = np.empty(n)

    def product(v):
        buffer[:] = reference.apply(v)
        v[:] = np.nan
        return buffer

    check(eigsh(operator_of(product, n), 4, rng=0), reference, 4, "LA", 1e-8, 2.0**-52)


def test_the_operator_may_call_the_solver():
    reference, inner = zoo.outliers(300), zoo.wishart(150)

    def product(v):
        eigsh(inner.operator(), 2, rng=0)
        return reference.apply(v)

    plain, nested = eigsh(reference.operator(), 3, rng=0), eigsh(operator_of(product, 300), 3, rng=0)
    np.testing.assert_allclose(plain.eigenvalues, nested.eigenvalues, rtol=1e-14)


@pytest.mark.parametrize("n", [50, 400])
@pytest.mark.parametrize("at", [1, 2, 12, 30])
def test_nan_in_a_product_ends_the_search_by_name(n, at):
    reference, calls = zoo.chebyshev(n), []

    def product(v):
        calls.append(1)
        return reference.apply(v) * (np.nan if len(calls) >= at else 1.0)

    result = eigsh(operator_of(product, n), 3, rng=0)
    assert result.status == Status.NONFINITE
    assert not result.converged.any()
    assert np.isnan(result.residual_norms).all()


@pytest.mark.parametrize("at", [1, 12, 30, 75])
def test_an_interruption_keeps_what_was_found(at):
    reference, calls = zoo.outliers(400), []

    def product(v):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return reference.apply(v)

    result = eigsh(operator_of(product, 400), 20, ncv=60, rng=0)
    X = result.eigenvectors
    assert result.status == Status.INTERRUPTED
    assert result.eigenvalues.size == {1: 0, 12: 10, 30: 20, 75: 20}[at]
    true_residuals = np.linalg.norm(reference.apply(X) - X * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, true_residuals, rtol=1e-6, atol=1e-13)


def test_an_error_of_the_operator_is_not_swallowed():
    def product(v):
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="the disk is on fire"):
        eigsh(operator_of(product, 200), 2)


# -- randomness -----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_the_global_state_is_left_alone():
    reference = zoo.wishart(300)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (eigsh(reference.operator(), 4, rng=11) for _ in range(2))
    assert (first.eigenvectors == second.eigenvectors).all()
    assert (first.eigenvalues == second.eigenvalues).all()
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    again = eigsh(reference.operator(), 4, rng=np.random.default_rng(3))
    assert (eigsh(reference.operator(), 4, rng=again.seed).eigenvectors == again.eigenvectors).all()


def test_every_seed_gives_the_same_values():
    reference = zoo.periodic_laplacian(150)
    for seed in range(30):
        check(eigsh(reference.operator(), 4, rng=seed), reference, 4, "LA", 1e-8, 2.0**-52)


def test_threads_do_not_disturb_each_other():
    reference, results = zoo.outliers(300), {}

    def solve(i):
        results[i] = eigsh(reference.operator(), 4, rng=0)

    threads = [threading.Thread(target=solve, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        np.testing.assert_allclose(result.eigenvalues, [7, 8, 9, 10], rtol=1e-13)


def test_progress_is_reported():
    seen = []
    eigsh(zoo.wishart(300).operator(), 4, rng=0, progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert all(0 <= done <= total == 4 for done, total in seen)


# -- the factorisation under the solver -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["laplacian", "two_point", "identity", "zero", "cluster_1e-9", "goe", "ladder"])
@pytest.mark.parametrize("locked", [0, 3])
def test_the_factorisation_holds_after_every_step_and_restart(name, locked):
    n, capacity = 60, 12
    M = zoo.CATALOGUE[name](n).matrix()
    X = np.linalg.eigh(M)[1][:, n - locked :]
    rng = np.random.default_rng(0)
    start = rng.standard_normal(n)
    start -= X @ (X.T @ start)
    f = LanczosFactorization(M.dot, n, capacity, start / np.linalg.norm(start), locked=X if locked else None, rng=rng)
    bound = 50 * 2.0**-52 * max(np.abs(M).sum(axis=0).max(), 1e-300)
    for _ in range(100):
        if f.size == f.capacity:
            f.restart(f.ritz(), np.array([0, 1, 9, 10, 11]))
            assert f.size == 5
        else:
            f.extend()
        V, r = f.V, f.residual
        deflated = M @ V - X @ (X.T @ (M @ V))
        assert np.abs(deflated - V @ f.T - np.outer(r, f.coupling)).max() <= bound
        assert np.abs(V.T @ V - np.eye(f.size)).max() <= 1e-14
        assert np.abs(X.T @ V).max(initial=0.0) <= 1e-14
        assert f.beta == pytest.approx(np.linalg.norm(r), rel=1e-12, abs=bound)
        assert np.abs(V.T @ r).max() <= bound
        ritz = f.ritz()
        Y = V @ ritz.coordinates
        true = np.linalg.norm(M @ Y - X @ (X.T @ (M @ Y)) - Y * ritz.values, axis=0)
        assert np.abs(true - ritz.residual_norms).max() <= bound
