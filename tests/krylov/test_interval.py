"""All eigenpairs in an interval, and the filter that finds them."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import zoo
from krylovh import Status, eigsh
from krylovh.krylov.chebyshev_filter import chebyshev_filter


@pytest.mark.parametrize("name", ["goe", "wishart", "chebyshev", "ladder", "clement", "outliers", "block_diagonal"])
@pytest.mark.parametrize("share", [(0.3, 0.33), (0.02, 0.05), (0.985, 1.2), (-0.5, 0.01)])
def test_every_eigenvalue_in_the_interval_is_found_once(name, share):
    reference = zoo.CATALOGUE[name](300)
    low, high = reference.eigenvalues[[0, -1]]
    a, b = (low + s * (high - low) for s in share)
    expected = reference.eigenvalues[(reference.eigenvalues >= a) & (reference.eigenvalues <= b)]
    if expected.size > 60:
        pytest.skip("a bulk")
    result = eigsh(reference.operator(), 60, which=(a, b), rng=0)
    assert (result.status, result.set_verified) == (Status.CONVERGED, True)
    assert result.eigenvalues.size == expected.size
    if expected.size:
        assert np.abs(result.eigenvalues - expected).max() <= 1e-8 * reference.norm
    X = result.eigenvectors
    truth = np.linalg.norm(reference.apply(X) - X * result.eigenvalues, axis=0)
    assert (truth <= 1e-8 * reference.norm).all()
    np.testing.assert_allclose(result.residual_norms, truth, rtol=1e-6, atol=1e-14 * reference.norm)
    assert result.orthogonality <= 1e-13


def test_eigenvalues_on_the_ends_belong_to_the_interval():
    reference = zoo.diagonal(np.repeat(np.arange(100.0), 2))
    result = eigsh(reference.operator(), 20, which=(30.0, 33.0), rng=0)
    assert result.eigenvalues == pytest.approx(np.repeat([30, 31, 32, 33], 2), abs=1e-6)
    assert result.set_verified


@pytest.mark.parametrize("n", [1, 2, 13, 90])
@pytest.mark.parametrize("exponent", [-400, 0, 400])
def test_small_orders_take_the_whole_spectrum(n, exponent):
    eigenvalues = np.ldexp(np.arange(n) - 3.0, exponent)
    ends = tuple(np.ldexp([-1.5, 4.0], exponent))
    result = eigsh(np.diag(eigenvalues), n, which=ends, rng=0)
    expected = eigenvalues[(eigenvalues >= ends[0]) & (eigenvalues <= ends[1])]
    assert (result.eigenvalues == expected).all()
    assert (result.status, result.set_verified) == (Status.CONVERGED, True)
    assert result.num_products == n + expected.size
    if expected.size > 1:
        few = eigsh(np.diag(eigenvalues), expected.size - 1, which=ends, rng=0)
        assert (few.status, few.set_verified, few.eigenvalues.size) == (Status.BUDGET, False, expected.size - 1)


def test_the_complement_of_known_vectors_in_an_interval():
    result = eigsh(np.diag(np.arange(20.0)), 10, which=(2.5, 6.5), rng=0, deflate=np.eye(20)[:, [4]])
    assert result.eigenvalues == pytest.approx([3.0, 5.0, 6.0])


def test_more_eigenvalues_than_asked_for_are_not_a_complete_set():
    reference = zoo.clement(200)
    result = eigsh(reference.operator(), 3, which=(-20.0, 20.0), rng=0)
    assert (result.status, result.set_verified) == (Status.BUDGET, False)
    assert result.eigenvalues.size == 3


def test_a_budget_is_kept_and_nothing_false_is_said():
    reference, calls = zoo.goe(400), []
    M = reference.matrix()
    for budget in (0, 30, 300, 1000):
        calls.clear()

        def product(x):
            calls.append(1 if x.ndim == 1 else x.shape[1])
            return M @ x

        A = LinearOperator(M.shape, matvec=product, matmat=product, dtype=np.float64)
        result = eigsh(A, 6, which=(0.0, 0.05), rng=0, max_products=budget)
        assert sum(calls) == result.num_products <= budget
        assert not result.set_verified
        assert result.status == Status.BUDGET


@pytest.mark.parametrize("exponent", [-500, 7, 500])
def test_powers_of_two_scale_an_interval_exactly(exponent):
    M = zoo.goe(200).matrix()
    one = eigsh(M, 20, which=(0.0, 0.1), rng=0)
    other = eigsh(np.ldexp(M, exponent), 20, which=(0.0, float(np.ldexp(0.1, exponent))), rng=0)
    assert (np.ldexp(one.eigenvalues, exponent) == other.eigenvalues).all()
    assert one.num_products == other.num_products


def test_an_interval_without_eigenvalues_is_empty_and_says_so():
    reference = zoo.outliers(300)
    for interval in ((1.2, 1.8), (20.0, 30.0), (-9.0, -5.0)):
        result = eigsh(reference.operator(), 5, which=interval, rng=0)
        assert result.eigenvalues.size == 0
        assert (result.status, result.set_verified) == (Status.CONVERGED, True)


@pytest.mark.parametrize("interval", [(0.1, 0.12), (-1.0, -0.9), (0.7, 1.0), (-0.5, 0.5), (0.0, 0.005)])
def test_a_filter_separates_its_interval(interval):
    a, b = interval
    p = chebyshev_filter(-1.0, 1.0, a, b)
    t = np.linspace(-1, 1, 20001)
    inside, beyond = (t >= a) & (t <= b), (t < a - 1e-3 * (b - a)) | (t > b + 1e-3 * (b - a))
    assert p(t[inside]).min() >= p.level > p(t[beyond]).max()
    assert p(t).max() <= 1 + 1e-9
    assert p(t).min() >= -1e-9


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ((1.0, 0.0), "which must be an interval"),
        ((0.0, np.inf), "both finite"),
        ((1.0,), "which must be one of"),
        (3, "which must be one of"),
        ("LR", "which must be one of"),
    ],
)
def test_misuse_is_refused_by_name(which, message):
    with pytest.raises(ValueError, match=message):
        eigsh(np.eye(200), 2, which=which)
    with pytest.raises(ValueError, match="v0 and block_size must not be given"):
        eigsh(np.eye(200), 2, which=(0.0, 1.0), block_size=2)
