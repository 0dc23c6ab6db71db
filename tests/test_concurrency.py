"""Operators shared by Python threads, forked and spawned workers, and every layer of threads that Numba has."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from cases import problem
from krylovh import GaussNewtonOperator, HessianOperator, JacobianOperator, cg, eigsh, trace

TESTS = str(Path(__file__).parent)
WATCHDOG = 300.0  # seconds; kernels may have to be compiled within them


def all_of(objective):
    """Return one of each operator that products can be taken with at the same time."""
    H = HessianOperator(objective)
    return [H, GaussNewtonOperator(objective), JacobianOperator(objective), H.damped(0.1), H.block(1, 2),
            H.submatrix(np.arange(0, H.shape[0], 3))]  # fmt: skip


def test_eight_threads_share_every_operator():
    operators = all_of(problem("skip", num_samples=200, threads=2)[0])
    vectors = [np.random.default_rng(i).standard_normal((A.shape[1], 2)) for i, A in enumerate(operators)]
    expected = [A @ V for A, V in zip(operators, vectors, strict=True)]

    def work(number):
        order = np.random.default_rng(number).permutation(len(operators))
        return all(np.array_equal(operators[i] @ vectors[i], expected[i]) for i in np.tile(order, 5))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16), timeout=WATCHDOG))


def test_products_are_counted_rightly_by_threads():
    H = HessianOperator(problem(num_samples=20, threads=1)[0])
    before = H.num_products
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: H @ np.ones((H.shape[0], 3)), range(200), timeout=WATCHDOG))
    assert H.num_products - before == 600


def test_eight_threads_run_whole_algorithms_on_one_operator():
    H = HessianOperator(problem(ridge=True, num_samples=50, threads=1)[0])
    shifted = H.damped(10.0)
    b = np.ones(H.shape[0])
    jobs = [
        lambda: eigsh(H, 3, rng=0).eigenvalues,
        lambda: cg(shifted, b).x,
        lambda: np.array([trace(H, num_products=20, rng=0).value]),
    ]
    expected = [job() for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: jobs[i % 3](), range(24), timeout=WATCHDOG))
    assert all(np.array_equal(found[i], expected[i % 3]) for i in range(24))


def test_an_exception_in_one_thread_harms_no_other():
    H = HessianOperator(problem(num_samples=50, threads=2)[0])
    v = np.ones(H.shape[0])
    expected = H @ v

    def work(number):
        if number % 3 == 0:
            with pytest.raises(ValueError, match=r"dimension mismatch|shape"):
                H @ np.ones(H.shape[0] + 1)
            return True
        return np.array_equal(H @ v, expected)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(60), timeout=WATCHDOG))


def product_in_a_worker(number):
    """Return a product and how many threads the worker's BLAS uses while idle; with BLAS used before."""
    A = np.random.default_rng(number).standard_normal((200, 200))
    np.linalg.eigvalsh(A @ A.T)
    H = HessianOperator(problem(num_samples=60, threads=2)[0])
    return H @ np.ones(H.shape[0])


def expected_product():
    H = HessianOperator(problem(num_samples=60, threads=2)[0])
    return H @ np.ones(H.shape[0])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_pool_of_forked_workers_after_blas_and_products_in_the_parent():
    np.linalg.svd(np.random.default_rng(0).standard_normal((300, 300)))
    expected = expected_product()
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        for found in pool.map(product_in_a_worker, range(6), timeout=WATCHDOG):
            assert np.array_equal(found, expected)
    assert np.array_equal(expected_product(), expected)


LAYER = f"""
import sys
sys.path.insert(0, {TESTS!r})
from concurrent.futures import ThreadPoolExecutor
import numba, numpy as np
from cases import problem
from krylovh import HessianOperator
H = HessianOperator(problem(num_samples=300, threads=2)[0])
v = np.random.default_rng(0).standard_normal(H.shape[0])
expected = H @ v
with ThreadPoolExecutor(4) as pool:
    assert all(np.array_equal(H @ v, expected) for _ in range(3))
    assert all(np.array_equal(found, expected) for found in pool.map(lambda _: H @ v, range(40)))
print(numba.threading_layer())
print(expected.tobytes().hex())
"""


def run_python(code, timeout=WATCHDOG, **variables):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")} | variables
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_every_layer_of_threads_gives_the_same_bits(layer):
    finished = run_python(LAYER, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    if finished.returncode and "No threading layer could be loaded" in finished.stderr:
        pytest.skip(f"Numba's {layer} layer is not installed")
    assert finished.returncode == 0, finished.stderr[-2000:]
    name, bits = finished.stdout.split()
    assert name == layer
    H = HessianOperator(problem(num_samples=300, threads=2)[0])
    expected = H @ np.random.default_rng(0).standard_normal(H.shape[0])
    assert bits == expected.tobytes().hex()


THREADS = "from krylovh.threads import *; print(available_threads(), num_lanes(None, 10**7, 10**6))"


@pytest.mark.parametrize("value", ["0", "-1"])
def test_no_threads_at_all_are_an_error(value):
    finished = run_python(THREADS, NUMBA_NUM_THREADS=value)
    assert finished.returncode == 1
    assert "Number of threads specified must be > 0" in finished.stderr


@pytest.mark.parametrize("value", ["abc", "1.5"])
def test_a_number_of_threads_that_is_no_number_is_named_and_left_out(value):
    finished = run_python(THREADS, NUMBA_NUM_THREADS=value)
    assert finished.returncode == 0
    assert "'NUMBA_NUM_THREADS'" in finished.stderr
    assert {int(number) for number in finished.stdout.split()} == {len(os.sched_getaffinity(0))}


def test_a_million_threads_become_those_of_the_machine():
    finished = run_python(THREADS, NUMBA_NUM_THREADS="1000000")
    assert finished.returncode == 0, finished.stderr
    assert {int(number) for number in finished.stdout.split()} == {len(os.sched_getaffinity(0))}
