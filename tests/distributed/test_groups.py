"""A second level: groups of ranks share out what is independent."""

import numpy as np
import pytest

from cases import problem
from fake_mpi import run
from krylovh import DistributedObjective, HessianOperator, cg, spectral_density, trace
from krylovh.distributed import RankGroups


def group_of(comm, num_groups, objective):
    groups = RankGroups(comm, num_groups)
    there = DistributedObjective(
        objective.net, objective.X, objective.y, loss=objective.loss, l2=0.1, comm=groups.comm, threads=1
    )
    return groups, there


@pytest.mark.parametrize(("size", "num_groups"), [(1, 1), (2, 2), (3, 2), (4, 2), (7, 3)])
def test_dampings_are_shared_out_and_all_ranks_get_all_results(size, num_groups):
    objective, _, _ = problem(num_samples=9, ridge=False, threads=1)
    b = np.ones(objective.num_parameters)
    dampings = [1.0, 3.0, 9.0, 27.0, 81.0]

    def program(comm):
        groups, there = group_of(comm, num_groups, objective)
        H = HessianOperator(there)
        found = groups.map(lambda damping: cg(H.damped(damping), b, rtol=1e-12).x, dampings)
        return np.array(found), H.num_products

    results = run(size, program)
    serial = HessianOperator(objective)
    for damping, x in zip(dampings, results[0][0], strict=True):
        expected = cg(serial.damped(damping + 0.1), b, rtol=1e-12).x
        assert np.abs(x - expected).max() <= 1e-9 * np.abs(expected).max()
    for other, _ in results[1:]:
        np.testing.assert_array_equal(other, results[0][0])
    if num_groups > 1:
        assert len({count for _, count in results}) > 1  # no group did all


@pytest.mark.parametrize("size", [2, 4, 5])
def test_probes_are_shared_out_and_give_the_bits_of_one_group(size):
    objective, _, _ = problem(num_samples=9, threads=1)
    options = {"num_probes": 6, "num_steps": 7, "rng": 0}

    def alone(comm):  # one group, on as many ranks as a group of the other run has: probes in blocks of three
        _, there = group_of(comm, 1, objective)
        H = HessianOperator(there)
        return spectral_density(H, block_size=3, **options), trace(H, num_products=12, block_size=3, rng=1).value

    def shared(comm):
        groups, there = group_of(comm, 2, objective)
        H = groups.operator(HessianOperator(there))
        density = spectral_density(H, block_size=6, **options)
        return density, trace(H, num_products=12, block_size=6, rng=1, method="hutchinson").value, H.num_products

    if size % 2 == 0:
        expected = run(size // 2, alone)[0][0]
        for density, _, count in run(size, shared):
            np.testing.assert_array_equal(density.nodes, expected.nodes)
            np.testing.assert_array_equal(density.weights, expected.weights)
            assert count < density.num_products
    else:
        results = run(size, shared)
        for density, estimate, _ in results[1:]:
            np.testing.assert_array_equal(density.nodes, results[0][0].nodes)
            assert estimate == results[0][1]


def test_a_failure_in_one_group_is_raised_by_all():
    objective, _, _ = problem(num_samples=9, threads=1)

    def program(comm):
        groups, _ = group_of(comm, 2, objective)
        groups.map(lambda item: 1 / item, [1, 0, 2])

    with pytest.raises(ZeroDivisionError, match="rank 2: division by zero"):
        run(4, program)


def test_a_group_and_then_the_world():
    objective, _, _ = problem(num_samples=9, threads=1)
    v = np.ones(objective.num_parameters)
    expected = HessianOperator(objective) @ v + 0.1

    def program(comm):
        _, there = group_of(comm, 2, objective)
        everywhere = DistributedObjective(
            objective.net, objective.X, objective.y, loss=objective.loss, l2=0.1, comm=comm
        )
        return HessianOperator(there) @ v, HessianOperator(everywhere) @ v

    for small, large in run(5, program):
        for found in (small, large):
            assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()


def test_too_many_groups_are_refused():
    with pytest.raises(ValueError, match=r"num_groups must be in \[1, 2\], got 3"):
        run(2, lambda comm: RankGroups(comm, 3))
