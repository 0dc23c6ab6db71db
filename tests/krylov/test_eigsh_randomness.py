"""Seeds, threads and progress; the checkers use closed forms, LAPACK and products in float64, never the solver."""

import threading

import numpy as np

import zoo
from eigenpairs import check
from krylovh import eigsh


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
