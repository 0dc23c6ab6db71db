"""How products are spread over threads, and what their accumulators may take."""

import numpy as np
import pytest

from cases import problem
from krylovh import HessianOperator, Network, Objective, memory


def wide(threads, limit=None):
    net = Network((30, 200, 200, 5), "tanh")
    rng = np.random.default_rng(0)
    net = net.with_theta(net.random_theta(rng))
    return Objective(
        net, rng.standard_normal((700, 30)), rng.integers(0, 5, 700), loss="softmax_cross_entropy", threads=threads,
        memory_limit=limit,
    )  # fmt: skip


@pytest.mark.parametrize(("budget", "lanes", "block", "threaded_blas"), [
    (2**30, 64, 16, False),  # everything fits
    (64 * 4 * 8 * (47405 + 41000), 64, 4, False),  # narrower blocks first
    (40 * 4 * 8 * (47405 + 41000), 40, 4, False),  # then fewer lanes
    (3 * 4 * 8 * (47405 + 41000), 1, 4, True),  # and where most threads would be idle, a threaded BLAS
    (1, 1, 4, True),
])  # fmt: skip
def test_sixty_four_threads_do_not_multiply_memory(budget, lanes, block, threaded_blas, monkeypatch):
    monkeypatch.setattr(memory, "ACCUMULATOR_BYTES", budget)
    objective = wide(64, limit=0)
    H = HessianOperator(objective)
    spread = H._passes.spread(block)
    assert (H._passes.block, spread.lanes, spread.threaded_blas) == (block, lanes, threaded_blas)
    V = np.random.default_rng(1).standard_normal((objective.num_parameters, 6))
    expected = HessianOperator(wide(2)) @ V
    found = H @ V
    assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()
    assert np.array_equal(found, H @ V)
    [work] = H._passes._idle[6 % block or block]
    one_lane = block * 8 * objective.num_parameters
    assert work.direct.nbytes + work.cross.nbytes <= max(budget, 2 * one_lane)
    plan = objective.plan(block)
    taken = [work.packed, work.twin, work.direct, work.cross, work.ra, work.rz, work.rg]
    assert sum(array.nbytes for array in taken) <= plan.product


def test_single_threads_and_small_data_never_use_a_threaded_blas():
    assert not HessianOperator(problem(threads=1)[0])._passes.spread(1).threaded_blas
    assert not HessianOperator(problem(threads=64, num_samples=1)[0])._passes.spread(16).threaded_blas
