"""What takes long: workers of joblib, cold caches, and ten thousand products."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import krylovh
from cases import problem
from krylovh import HessianOperator
from krylovh.threads import available_threads
from test_concurrency import TESTS, expected_product, product_in_a_worker

pytestmark = pytest.mark.faults


def threads_in_a_worker(number):
    product = product_in_a_worker(number)
    blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    return product, max(blas), available_threads()


def test_workers_of_joblib_give_the_same_bits_and_do_not_multiply_threads():
    joblib = pytest.importorskip("joblib")
    expected = expected_product()
    found = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(threads_in_a_worker)(i) for i in range(8))
    for product, blas, lanes in found:
        assert np.array_equal(product, expected)
        assert 2 * max(blas, 1) <= max(2, os.cpu_count())
        assert lanes <= os.cpu_count()
    threaded = joblib.Parallel(n_jobs=4, backend="threading")(joblib.delayed(product_in_a_worker)(i) for i in range(8))
    assert all(np.array_equal(product, expected) for product in threaded)


COLD = f"""
import sys
sys.path.insert(0, {TESTS!r})
import numpy as np
from cases import problem
from krylovh import HessianOperator
H = HessianOperator(problem(num_samples=20, threads=1)[0])
print((H @ np.ones(H.shape[0])).tobytes().hex())
"""


@pytest.mark.full  # all kernels are compiled twice, on all processors
def test_two_processes_that_compile_at_once_disturb_neither(tmp_path):
    """Both begin with an empty cache, and write into it at the same time."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "1"}
    children = [
        subprocess.Popen([sys.executable, "-c", COLD], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = {child.communicate(timeout=600)[0].strip() for child in children}
    assert [child.returncode for child in children] == [0, 0]
    H = HessianOperator(problem(num_samples=20, threads=1)[0])
    assert answers == {(H @ np.ones(H.shape[0])).tobytes().hex()}


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no /proc")
def test_ten_thousand_products_do_not_leak():
    H = HessianOperator(problem("skip", num_samples=100, threads=2)[0])
    vectors = [np.ones(H.shape[0]), np.ones((H.shape[0], 3))]
    for number in range(1000):
        H @ vectors[number % 2]
    before = resident_bytes()
    for number in range(10_000):
        H @ vectors[number % 2]
    assert resident_bytes() - before < 5e6


def test_a_thousand_saves_do_not_leak(tmp_path):
    store = krylovh.ResultStore(tmp_path / "run.h5")
    for number in range(200):
        store.save("a", np.full(1000, number), overwrite=True)
    before = resident_bytes()
    for number in range(1000):
        store.save("a", np.full(1000, number), overwrite=True)
    assert resident_bytes() - before < 5e6
