"""A checkpoint belongs to the run, not to the ranks: others go on with it, or one process alone."""

import numpy as np
import pytest

from fake_mpi import run
from krylovh import (
    Checkpoint,
    CheckpointMismatchError,
    DistributedObjective,
    HessianOperator,
    Network,
    Objective,
    Status,
    eigsh,
    minimize,
    resume,
    trace,
)
from krylovh.storage.errors import FileLockedError
from krylovh.storage.lock import locked
from resumed import differing, often

RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((23, 4)), RNG.integers(0, 3, 23)
NET = Network((4, 12, 8, 3), "tanh")
NET = NET.with_theta(NET.random_theta(1))
OPTIONS = {"loss": "softmax_cross_entropy", "l2": 1e-2, "threads": 1}
ALONE = Objective(NET, X, Y, **OPTIONS)


def spread(comm, X=X):
    return DistributedObjective(NET, X, Y, comm=comm, **OPTIONS)


def test_four_ranks_begin_two_go_on_and_one_process_ends(tmp_path):
    file = tmp_path / "run.h5"
    whole = eigsh(HessianOperator(ALONE), 3, tol=1e-11, rng=0)
    begun = run(4, lambda comm: eigsh(
        HessianOperator(spread(comm)), 3, tol=1e-11, rng=0, max_products=12, checkpoint=often(file)
    ))  # fmt: skip
    assert {result.status for result in begun} == {Status.BUDGET}
    more = run(2, lambda comm: resume(file, HessianOperator(spread(comm)), max_products=20))
    assert {result.status for result in more} == {Status.BUDGET}
    assert {result.num_products for result in more} == {20}
    assert differing(*more) == []
    assert Checkpoint(file).describe().num_products >= 17  # the last three are for residuals
    ended = resume(file, HessianOperator(ALONE), max_products=None)
    assert ended.status is Status.CONVERGED
    assert ended.num_products < whole.num_products + 6
    np.testing.assert_allclose(ended.eigenvalues, whole.eigenvalues, rtol=1e-10)


def test_a_run_that_has_ended_is_handed_out_on_every_rank(tmp_path):
    file = tmp_path / "run.h5"
    estimate = trace(HessianOperator(ALONE), num_products=20, checkpoint=file)  # a seed of its own

    def program(comm):
        H = HessianOperator(spread(comm))
        found = trace(H, num_products=20, checkpoint=file)
        assert H.num_products == 0
        return found

    assert all(differing(found, estimate) == [] for found in run(3, program))


def test_samples_of_any_share_continue_a_training(tmp_path):
    file = tmp_path / "run.h5"
    whole = minimize(ALONE, max_iterations=6, rng=0)
    run(3, lambda comm: minimize(spread(comm), max_iterations=2, rng=0, checkpoint=file))
    ended = resume(file, ALONE, max_iterations=6)
    assert ended.fun == pytest.approx(whole.fun, rel=1e-9)
    assert (ended.nit, ended.num_products) == (whole.nit, whole.num_products)


def test_other_data_are_refused_on_every_rank(tmp_path):
    file = tmp_path / "run.h5"
    trace(HessianOperator(ALONE), num_products=5, rng=0, checkpoint=file)
    other = X.copy()
    other[[3, 17]] = other[[17, 3]]  # the same samples, in another order

    def program(comm):
        with pytest.raises(CheckpointMismatchError, match="its data is"):
            trace(HessianOperator(spread(comm, other)), num_products=5, rng=0, checkpoint=file)
        return trace(HessianOperator(spread(comm)), num_products=5, rng=0, checkpoint=file).value

    assert len(set(run(3, program))) == 1


def test_a_file_that_another_process_has_is_told_on_every_rank(tmp_path):
    file = tmp_path / "run.h5"

    def program(comm):
        with pytest.raises(FileLockedError):
            trace(HessianOperator(spread(comm)), num_products=5, checkpoint=Checkpoint(file, timeout=0.05))

    with locked(file):
        run(2, program)
