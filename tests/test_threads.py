"""Threads: results, BLAS, forks and Python threads."""

import os
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from threadpoolctl import ThreadpoolController, threadpool_limits

from cases import problem
from krylovh import (
    HessianOperator,
    Objective,
    block_cg,
    cg,
    eigsh,
    kernels,
    lanczos,
    matrix_function,
    minres,
    shifted_cg,
)
from krylovh.blas import blas_threads_of_caller, one_blas_thread
from krylovh.threads import available_threads, num_lanes, parallel_region, thread_info

WATCHDOG = 60.0


def blas_threads():
    return [library["num_threads"] for library in ThreadpoolController().select(user_api="blas").info()]


@pytest.fixture
def two_blas_threads():
    HessianOperator(problem()[0]) @ np.ones(problem()[0].num_parameters)  # every BLAS is loaded
    with threadpool_limits(2, user_api="blas"):
        assert set(blas_threads()) == {2}
        yield


def test_a_kernel_runs_with_one_blas_thread_and_gives_the_others_back(two_blas_threads, monkeypatch):
    objective, *_ = problem(threads=2)
    H, inside = HessianOperator(objective), []
    compiled = kernels.product

    def watched(*arguments):
        inside.extend(blas_threads())
        return compiled(*arguments)

    monkeypatch.setattr(kernels, "product", watched)
    H @ np.ones(H.shape[0])
    assert set(inside) == {1}
    assert set(blas_threads()) == {2}


def test_blas_threads_are_given_back_when_a_kernel_raises(two_blas_threads, monkeypatch):
    objective, *_ = problem(threads=2)
    H = HessianOperator(objective)
    v = np.ones(H.shape[0])
    expected = H @ v
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "product", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            H @ v
    assert set(blas_threads()) == {2}
    assert np.array_equal(H @ v, expected)


def test_nested_and_overlapping_regions_restore_blas_once(two_blas_threads):
    with parallel_region(2), parallel_region(2):
        assert set(blas_threads()) == {1}
    with ThreadPoolExecutor(4) as pool:

        def inside(_):
            with parallel_region(2):
                time.sleep(0.01)

        list(pool.map(inside, range(16)))
    assert set(blas_threads()) == {2}


def test_every_python_thread_may_be_the_first_to_limit_the_blas(two_blas_threads):
    def inside():
        with parallel_region(2):
            return blas_threads()

    assert set(inside()) == {1}  # here, in a thread that goes on to live
    with ThreadPoolExecutor(1) as pool:
        assert set(pool.submit(inside).result()) == {1}
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize(("threads", "rows", "lanes"), [(1, 100, 1), (3, 100, 3), (64, 5, 5), (2, 1, 1), (2, 0, 1)])
def test_lanes_are_at_least_one_and_none_of_them_is_empty(threads, rows, lanes):
    assert num_lanes(threads, rows, 1) == lanes


def test_lanes_by_default_are_the_available_threads_and_each_has_work(monkeypatch):
    assert num_lanes(None, 10**6, 1000) == available_threads() >= 1
    monkeypatch.setattr("krylovh.threads.available_threads", lambda: 4)
    assert [num_lanes(None, rows, 2**13) for rows in (1, 7, 8, 15, 16, 1000)] == [1, 1, 2, 3, 4, 4]


def test_no_more_threads_are_woken_than_there_are_lanes():
    before = numba.get_num_threads()
    with parallel_region(1):
        assert numba.get_num_threads() == 1
        with parallel_region(2):  # which takes no more than those around leave
            assert numba.get_num_threads() == 1
    assert numba.get_num_threads() == before
    with parallel_region(before + 1):
        assert numba.get_num_threads() == before

    assert available_threads() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("threads", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError),
                                                ("2", TypeError)])  # fmt: skip
def test_numbers_of_threads_that_are_refused(threads, error):
    with pytest.raises(error, match=r"threads must be .*at least 1, got"):
        num_lanes(threads, 10, 1)


def test_thread_info_names_layer_and_blas():
    objective, *_ = problem(threads=2)
    HessianOperator(objective) @ np.ones(objective.num_parameters)
    info = thread_info()
    assert info["layer"] in ("omp", "tbb", "workqueue")
    assert info["threads"] == available_threads()
    assert info["blas"]


def test_threads_agree_to_rounding_and_repeat_to_the_bit():
    plain, (net, _, X, y), settings = problem("skip", weighted=True, ridge=True, num_samples=700)
    V = np.random.default_rng(0).standard_normal((plain.num_parameters, 3))
    expected = None
    for threads in (1, 2, 3, 4):
        H = HessianOperator(Objective(net, X, y, threads=threads, **settings))
        product = H @ V
        for _ in range(20):
            again = HessianOperator(Objective(net, X, y, threads=threads, **settings))
            assert np.array_equal(again @ V, product)
        if expected is None:
            expected = product
            norm = np.linalg.norm(H @ np.eye(H.shape[0]), 2)
        assert (np.linalg.norm(product - expected, axis=0) <= 1e-12 * norm * np.linalg.norm(V, axis=0)).all()


def test_eight_python_threads_build_and_use_objectives_at_once():
    plain, (net, _, X, y), settings = problem("residual", num_samples=300, threads=2)
    expected = HessianOperator(plain) @ np.ones(plain.num_parameters)
    shared = Objective(net, X, y, threads=2, **settings)  # not yet evaluated

    def work(number):
        objective = shared if number % 2 else Objective(net, X, y, threads=2, **settings)
        return HessianOperator(objective) @ np.ones(objective.num_parameters)

    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(found, expected) for found in pool.map(work, range(64), timeout=WATCHDOG))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_computes_the_same_product():
    objective, (net, _, X, y), settings = problem(num_samples=300, threads=2)
    H = HessianOperator(objective)
    v = np.random.default_rng(1).standard_normal(H.shape[0])
    expected = H @ v  # a parallel product in the parent
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            products = [H @ v, HessianOperator(Objective(net, X, y, threads=2, **settings)) @ v]
            os.write(writing, np.concatenate(products).tobytes())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], WATCHDOG)
        assert ready, "the child hangs"
        with os.fdopen(reading, "rb") as pipe:
            found = np.frombuffer(pipe.read())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert np.array_equal(found, np.tile(expected, 2))
    assert np.array_equal(H @ v, expected)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no /proc")
def test_two_thousand_products_do_not_leak():
    objective, *_ = problem("skip", num_samples=100, threads=1)
    H = HessianOperator(objective)
    vectors = [np.ones(H.shape[0]), np.ones((H.shape[0], 3))]
    for number in range(200):
        H @ vectors[number % 2]
    before = resident_bytes()
    for number in range(2000):
        H @ vectors[number % 2]
    assert resident_bytes() - before < 5e6


WORKQUEUE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from concurrent.futures import ThreadPoolExecutor
import numpy as np, numba
from cases import problem
from krylovh import HessianOperator
H = HessianOperator(problem(num_samples=300, threads=2)[0])
V = np.random.default_rng(0).standard_normal((20, H.shape[0]))
expected = [H @ v for v in V]
assert numba.threading_layer() == "workqueue", numba.threading_layer()
with ThreadPoolExecutor(4) as pool:
    for found in pool.map(lambda _: [H @ v for v in V], range(4)):
        assert all(map(np.array_equal, found, expected))
"""


def test_four_python_threads_do_not_abort_the_workqueue_layer():
    environment = os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    finished = subprocess.run(
        [sys.executable, "-c", WORKQUEUE], env=environment, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr


def test_an_operator_inside_of_a_limit_has_the_threads_of_its_caller(two_blas_threads):
    with one_blas_thread(), one_blas_thread():
        with blas_threads_of_caller():
            assert set(blas_threads()) == {2}
            with one_blas_thread():
                assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize(("solve", "arguments"), [
    (cg, (np.ones(50),)), (minres, (np.ones(50),)), (block_cg, (np.ones((50, 1)),)), (lanczos, (np.ones(50), 5)),
    (eigsh, (1,)), (shifted_cg, (np.ones(50), [1.0])), (matrix_function, (np.sqrt, np.ones(50))),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_threads_are_the_operators_and_not_those_of_vector_work(solve, arguments, two_blas_threads):
    products, between = set(), set()

    def matvec(v):
        products.update(blas_threads())
        return np.linspace(1, 2, 50) * v

    solve(LinearOperator((50, 50), matvec, dtype=float), *arguments, progress=lambda *_: between.update(blas_threads()))
    assert (products, between) == ({2}, {1})
    assert set(blas_threads()) == {2}
