"""The trace from random probes, against closed forms and against exactly summed samples."""

import math
import time

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from krylovh import Status, trace

SKETCHING = ["hutch++", "xtrace", "xnystrace"]
METHODS = ["hutchinson", *SKETCHING]


def random_symmetric(n, seed=0):
    G = np.random.default_rng(seed).standard_normal((n, n))
    return (G + G.T) / 2


def operator_of(matmat, n, dtype=np.float64):
    return LinearOperator((n, n), matvec=lambda v: matmat(v.reshape(n, 1))[:, 0], matmat=matmat, dtype=dtype)


class Failing:
    """A diagonal operator whose block product number ``at`` (from 1) raises or returns something else."""

    def __init__(self, n, at, failure):
        self.n, self.at, self.failure, self.calls = n, at, failure, 0

    def __call__(self, V):
        self.calls += 1
        if self.calls == self.at:
            if isinstance(self.failure, BaseException):
                raise self.failure
            return np.full_like(V, self.failure)
        return np.arange(self.n)[:, None] * V


@pytest.mark.parametrize("d", [np.arange(10.0), np.array([-3.0]), np.zeros(5), np.full(7, 0.1)])
def test_one_rademacher_probe_is_exact_for_a_diagonal_operator(d):
    result = trace(np.diag(d), num_products=1, rng=0)
    assert result.value == pytest.approx(math.fsum(d), rel=1e-15, abs=0)
    assert result.num_products == 1


def test_one_probe_admits_that_its_error_is_unknown():
    result = trace(random_symmetric(5), num_products=1, rng=0)
    assert math.isnan(result.standard_error)
    assert result.interval == (-np.inf, np.inf)


def test_the_interval_of_a_diagonal_operator_holds_the_trace_in_spite_of_rounding():
    rng = np.random.default_rng(0)
    for n in (1, 10, 333):
        d = rng.standard_normal(n)
        for dtype in (np.float64, np.float32):
            result = trace(np.diag(d.astype(dtype)), num_products=5, rng=1)
            low, high = result.interval
            assert low <= math.fsum(d.astype(dtype).astype(float)) <= high
            assert high - low <= 1e3 * np.finfo(dtype).eps * np.abs(d).sum()


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_the_variance_of_the_samples_is_the_known_one(distribution):
    """Also: the mean lies within four standard errors of the trace."""
    A = random_symmetric(15)
    spread = (A**2).sum() - (distribution == "rademacher") * (np.diag(A) ** 2).sum()
    result = trace(A, num_products=20_000, rng=5, distribution=distribution, block_size=1000)
    assert result.standard_error**2 * 20_000 == pytest.approx(2 * spread, rel=0.03)  # 4 sqrt(2 / 20000)
    assert abs(result.value - np.trace(A)) <= 4 * result.standard_error


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_mean_and_error_are_those_of_the_samples_summed_exactly(dtype):
    """A large mean with a small spread: one-pass sums of squares would lose the variance."""
    n = 12
    A = (1e4 * np.eye(n) + 0.1 * random_symmetric(n)).astype(dtype)
    samples = []

    def matmat(V):
        product = A @ V
        samples.extend(math.fsum(v.astype(float) * w) for v, w in zip(V.T, product.T, strict=True))
        return product

    result = trace(operator_of(matmat, n, dtype), num_products=10_000, rng=0, block_size=1000)
    mean = math.fsum(samples) / len(samples)
    variance = math.fsum((s - mean) ** 2 for s in samples) / (len(samples) - 1)
    assert len(samples) == result.num_products == 10_000
    assert result.value == pytest.approx(mean, rel=1e-14)
    assert result.standard_error == pytest.approx(math.sqrt(variance / len(samples)), rel=1e-6)


def positive(n, seed=0):
    G = np.random.default_rng(seed).standard_normal((n, n))
    return G @ G.T / n


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("block_size", [1, 3, 40, 1000])
def test_the_block_size_does_not_matter(block_size, method):
    options = {"num_products": 40, "rng": 2, "method": method}
    A = positive(60)
    a, b = trace(A, **options), trace(A, block_size=block_size, **options)
    np.testing.assert_allclose(
        [b.value, b.standard_error, *b.interval], [a.value, a.standard_error, *a.interval], 1e-10
    )
    assert b.num_products == 40


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [-970, -301, -1, 1, 40, 970])
def test_powers_of_two_scale_the_estimate_exactly(power, method):
    A = positive(30)
    for options in ({"num_products": 12}, {"rtol": 0.2, "num_products": 29}, {"num_products": 30}):
        a, b = (trace(M, rng=2, method=method, **options) for M in (A, np.ldexp(A, power)))
        expected = [math.ldexp(x, power) for x in (a.value, a.standard_error, *a.interval)]
        assert [b.value, b.standard_error, *b.interval] == expected
        assert (a.num_products, a.status) == (b.num_products, b.status)


def test_a_seed_gives_the_same_bits_and_is_reported():
    A = random_symmetric(9)
    assert trace(A, rng=7) == trace(A, rng=7)
    fresh = trace(A)
    assert trace(A, rng=fresh.seed) == fresh
    assert trace(A, rng=np.random.default_rng(1)) == trace(A, rng=np.random.default_rng(1))
    assert trace(A, rng=8).value != trace(A, rng=7).value


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()  # noqa: NPY002
    trace(np.eye(3))
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


class WithQuadraticForm(LinearOperator):
    """Knows ``v'Av`` without a product."""

    def __init__(self, A, values=None):
        super().__init__(A.dtype, A.shape)
        self.A, self.values = A, values

    def _matmat(self, V):
        raise AssertionError("a product was asked for")

    def quadratic_form(self, V):
        result = np.einsum("ik,ij,jk->k", V, self.A, V) if self.values is None else self.values
        V[:] = np.nan  # what is handed out is a copy
        return result


def test_a_quadratic_form_of_the_operator_is_used_and_counted():
    A = random_symmetric(8)
    a, b = trace(A, num_products=20, rng=0), trace(WithQuadraticForm(A), num_products=20, rng=0)
    assert b.value == pytest.approx(a.value, rel=1e-13)
    assert b.num_products == 20
    assert trace(WithQuadraticForm(A), num_products=20, rng=0, max_seconds=0).status is Status.BUDGET
    assert trace(WithQuadraticForm(A, np.full(16, np.inf)), rng=0).status is Status.NONFINITE
    with pytest.raises(ValueError, match=r"quadratic_form must return 16 real values, got float64 \(3,\)"):
        trace(WithQuadraticForm(A, np.ones(3)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("failure", "status"),
    [(KeyboardInterrupt(), Status.INTERRUPTED), (np.nan, Status.NONFINITE), (np.inf, Status.NONFINITE)],
)
def test_what_was_found_before_a_failure_is_kept(failure, status, method):
    """The first two blocks, of four Rademacher probes each, are exact for Hutchinson's method."""
    operator = operator_of(Failing(60, 8 if method == "hutch++" else 3, failure), 60)
    result = trace(operator, num_products=50, rng=0, block_size=4, method=method)
    assert result.status is status
    assert result.method == method
    assert math.isfinite(result.value)
    assert math.isfinite(result.standard_error)
    low, high = result.interval
    assert low <= 59 * 30 <= high
    if method == "hutchinson":
        assert result.value == pytest.approx(59 * 30, rel=1e-15)
        assert result.num_products in (8, 12)


def test_nothing_found_is_nan_and_not_zero():
    result = trace(operator_of(Failing(6, 1, np.nan), 6), rng=0)
    assert result.status is Status.NONFINITE
    assert math.isnan(result.value)
    assert result.interval == (-np.inf, np.inf)


def test_a_form_beyond_the_range_of_floats_is_nonfinite():
    assert trace(np.diag(np.full(20, 1e308)), rng=0).status is Status.NONFINITE


def test_the_time_limit_stops_the_probes():
    def slow(V):
        time.sleep(0.02)
        return V

    result = trace(operator_of(slow, 5), num_products=100_000, rng=0, block_size=1, max_seconds=0.1)
    assert result.status is Status.BUDGET
    assert 1 <= result.num_products <= 6
    assert result.value == 5.0


@pytest.mark.parametrize("method", METHODS)
def test_progress_ends_at_the_total(method):
    seen = []
    options = {"rng": 0, "method": method, "progress": lambda done, total: seen.append((done, total))}
    trace(positive(40), num_products=20, **options)
    assert seen[-1][0] == seen[-1][1]
    if method == "hutchinson":
        assert seen == [(16, 20), (20, 20)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "bekas"}, ValueError, r"method must be one of \('hutchinson', .*\), got 'bekas'"),
        ({"distribution": "sphere"}, ValueError, "distribution must be one of .*, got 'sphere'"),
        ({"num_products": 0}, ValueError, "num_products must be at least 1, got 0"),
        ({"num_products": 3, "method": "xtrace"}, ValueError, "num_products must be at least 4, got 3"),
        ({"num_products": 2, "method": "hutch++"}, ValueError, "num_products must be at least 3, got 2"),
        ({"num_products": 1, "method": "xnystrace"}, ValueError, "num_products must be at least 2, got 1"),
        ({"rtol": 0.0}, ValueError, "rtol must be positive and finite, got 0.0"),
        ({"atol": -1.0}, ValueError, "atol must be positive and finite, got -1.0"),
        ({"atol": np.nan}, ValueError, "atol must be positive and finite, got nan"),
        ({"num_products": 10.0}, TypeError, "num_products must be an integer, at least 1, got 10.0"),
        ({"num_products": True}, TypeError, "num_products must be an integer, at least 1, got True"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1, got 0"),
        ({"max_seconds": -1}, ValueError, "max_seconds must be at least 0, got -1"),
        ({"rng": -1}, ValueError, "rng must be"),
    ],
)
def test_arguments_out_of_range_are_named(options, error, message):
    with pytest.raises(error, match=message):
        trace(np.eye(3), **options)


def test_operators_that_are_not_square_and_real_are_refused():
    with pytest.raises(ValueError, match="square"):
        trace(np.ones((2, 3)))
    with pytest.raises(TypeError, match="real"):
        trace(np.eye(3) * 1j)


# -- sketches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "per_rank", "extra"), [("hutch++", 3, 3), ("xtrace", 2, 2), ("xnystrace", 1, 1)])
@pytest.mark.parametrize("rank", [1, 4, 17])
@pytest.mark.parametrize("n", [90, 400])
def test_an_operator_of_low_rank_is_exact(method, per_rank, extra, rank, n):
    """Hutch++ from m = 3 (r + 1) on, XTrace and XNysTrace from r + 1 probes on."""
    B = np.random.default_rng(rank).standard_normal((n, rank))
    signs = np.ones(rank) if method == "xnystrace" else (-1.0) ** np.arange(rank) * (1 + np.arange(rank))
    exact = math.fsum(np.einsum("ij,ij,j->i", B, B, signs))
    scale = np.einsum("ij,ij,j->", B, B, np.abs(signs))
    result = trace((B * signs) @ B.T, method=method, num_products=per_rank * rank + extra, rng=0)
    assert result.value == pytest.approx(exact, rel=0, abs=(1e-9 if method == "xnystrace" else 1e-12) * scale)
    low, high = result.interval
    assert low <= exact <= high
    assert high - low <= 1e-8 * scale


@pytest.mark.parametrize("method", SKETCHING)
@pytest.mark.parametrize("n", [1, 2, 5, 100])
def test_n_products_are_exact(method, n):
    A = positive(n)
    result = trace(A, method=method, rng=0)
    assert result.value == pytest.approx(math.fsum(np.diag(A)), rel=1e-14)
    assert result.standard_error == 0
    assert result.interval[0] <= math.fsum(np.diag(A)) <= result.interval[1]
    assert result.num_products == n
    assert result.status is Status.CONVERGED


@pytest.mark.parametrize("method", ["xtrace", "xnystrace"])
def test_a_multiple_of_the_identity_and_zero_are_exact(method):
    for c in (3.0, 1e-200, 0.0):
        result = trace(c * np.eye(60), method=method, num_products=30, rng=0)
        assert result.value == pytest.approx(60 * c, rel=1e-12, abs=0)
        assert result.interval[0] <= 60 * c <= result.interval[1]
        assert result.interval[1] - result.interval[0] <= 60 * c * 1e-9


def test_float32_products_are_trusted_to_float32_only():
    A = positive(80).astype(np.float32)
    for method in METHODS:
        result = trace(A, method=method, num_products=40, rng=1)
        assert abs(result.value - np.trace(A.astype(float))) <= 5 * result.standard_error
    B = np.random.default_rng(0).standard_normal((80, 3)).astype(np.float32)
    exact = (B.astype(float) ** 2).sum()
    for method in SKETCHING:
        result = trace(B @ B.T, method=method, num_products=30, rng=1)
        assert result.interval[0] <= exact <= result.interval[1]
        assert result.value == pytest.approx(exact, rel=1e-5)


def test_an_indefinite_operator_is_refused_by_nystrom():
    result = trace(random_symmetric(50), method="xnystrace", num_products=40, rng=0)
    assert result.status is Status.NEGATIVE_CURVATURE
    assert result.interval[0] <= np.trace(random_symmetric(50)) <= result.interval[1]


def test_a_singular_operator_is_not_taken_for_an_indefinite_one():
    """The rounding of products makes eigenvalues of W'AW of either sign."""
    B = np.random.default_rng(0).standard_normal((3000, 5))
    for scale in (1.0, 1e-150):
        result = trace(scale * B @ B.T, method="xnystrace", num_products=40, rng=0)
        assert result.status is Status.CONVERGED
        assert result.value == pytest.approx(scale * (B**2).sum(), rel=1e-9)


@pytest.mark.parametrize("method", SKETCHING)
def test_sketching_pays_where_the_spectrum_decays(method):
    d = 0.8 ** np.arange(200.0)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((200, 200)))[0]
    A = (Q * d) @ Q.T
    assert (
        trace(A, method=method, num_products=60, rng=0).standard_error
        < 0.1 * trace(A, num_products=60, rng=0).standard_error
    )


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_target_is_reached_or_the_trace_computed(method):
    A = positive(300)
    exact = np.trace(A)
    for target in ({"rtol": 0.05}, {"atol": 20.0}, {"rtol": 1e-9}, {"rtol": 1e-9, "atol": 20.0}):
        result = trace(A, method=method, rng=3, **target)
        assert result.status is Status.CONVERGED
        low, high = result.interval
        assert (high - low) / 2 <= max(target.get("rtol", 0) * abs(result.value), target.get("atol", 0.0))
        assert abs(result.value - exact) <= 2 * (high - low)
        if "atol" not in target and target["rtol"] < 1e-3:
            assert result.value == pytest.approx(exact, rel=1e-13)
            assert result.standard_error == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_target_out_of_the_budget_says_so(method):
    A = positive(300)
    for budget in (5, 20, 50, 97, 150, 299):
        result = trace(A, method=method, rng=3, rtol=1e-6, num_products=budget)
        assert result.status is Status.BUDGET
        assert 0.4 * budget <= result.num_products <= budget
        low, high = result.interval
        assert abs(result.value - np.trace(A)) <= high - low


def test_a_loose_target_costs_little():
    A = positive(2000)
    for method, most in (("hutchinson", 32), ("hutch++", 64), ("xtrace", 64), ("xnystrace", 32)):
        assert trace(A, method=method, rng=0, rtol=0.2).num_products <= most


def test_two_seeds_that_stop_at_different_numbers_are_prefixes_of_one_stream():
    """Samples are probes 0, 1, 2 ...; a later decision does not change the earlier ones."""
    A = positive(2000)
    a, b = (trace(A, rng=0, rtol=rtol) for rtol in (0.01, 0.005))
    assert a.num_products < b.num_products
    fixed = trace(A, rng=0, num_products=b.num_products)
    assert b.value == pytest.approx(fixed.value, rel=1e-13)
