"""Samples spread over ranks: any number of ranks gives the answer of one, to rounding, at one reduction per product."""

import re

import h5py
import numpy as np
import pytest

from cases import problem
from fake_mpi import run
from krylovh import (
    DiagonalPreconditioner,
    DistributedObjective,
    EmpiricalFisherOperator,
    FiniteDifferenceOperator,
    GaussNewtonOperator,
    HessianOperator,
    JacobianOperator,
    KFACOperator,
    MonteCarloFisherOperator,
    Network,
    Objective,
    ResidualOperator,
    Status,
    cg,
    eigsh,
    hessian_matrix,
    influence,
    minimize,
    spectral_density,
    trace,
)
from krylovh.applications.training.preconditioning import empirical_fisher_diagonal

SIZES = (1, 2, 3, 4, 7)
EPS = 2.0**-52
SOLVED = {"forcing": 1e-12, "preconditioner": "kfac"}  # inner solves to the end: rounding should not decide when


def spread(comm, objective, **options):
    """The same objective with its samples spread over ranks."""
    settings = {
        "loss": objective.loss,
        "reduction": objective.reduction,
        "l2": objective.l2 if objective.l2.size > 1 else float(objective.l2.sum()),
        "sample_weight": objective.sample_weight,
        "loss_options": {"delta": objective.targets.delta} if objective.loss == "huber" else None,
        "threads": 1,
    }
    return DistributedObjective(objective.net, objective.X, objective.y, comm=comm, **(settings | options))


def on_ranks(size, program):
    """Run on all ranks, which must all find the same bits; return what they found."""
    results = run(size, program)
    whole, *others = [result if isinstance(result, tuple) else (result,) for result in results]
    for other in others:
        for mine, first in zip(other, whole, strict=True):
            np.testing.assert_array_equal(mine, first)
    return results[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("num_samples", [1, 3, 23])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_value_gradient_and_products_are_those_of_one_rank(size, num_samples, reduction):
    objective, _, _ = problem(num_samples=num_samples, weighted=True, ridge=True, reduction=reduction, threads=1)
    V = np.random.default_rng(1).standard_normal((objective.num_parameters, 3))

    def program(comm):
        there = spread(comm, objective)
        H = HessianOperator(there)
        return there.value(), there.gradient(), H @ V, H @ V[:, 0], H.quadratic_form(V)

    value, gradient, block, single, forms = run(size, program)[0]
    H = HessianOperator(objective)
    for found, expected in (
        (value, objective.value()),
        (gradient, objective.gradient()),
        (block, H @ V),
        (single, H @ V[:, 0]),
        (forms, H.quadratic_form(V)),
    ):
        assert np.abs(found - expected).max() <= 100 * EPS * np.abs(expected).max()


OPERATORS = {
    "hessian": HessianOperator,
    "gauss_newton": GaussNewtonOperator,
    "residual": ResidualOperator,
    "fisher": EmpiricalFisherOperator,
    "kfac": KFACOperator,
    "kfac_empirical": lambda objective: KFACOperator(objective, factors="empirical"),
    "jacobian": JacobianOperator,
    "block": lambda objective: HessianOperator(objective).block(1, 2),
    "submatrix": lambda objective: GaussNewtonOperator(objective).submatrix([3, 1, 60]),
    "damped": lambda objective: HessianOperator(objective).damped(0.5),
    "finite_difference": lambda objective: FiniteDifferenceOperator(objective, step=1e-3, rng=0),
    "fisher_diagonal": lambda objective: DiagonalPreconditioner(empirical_fisher_diagonal(objective)),
    "float64_sums": lambda objective: HessianOperator(objective.astype(np.float32), accumulation=np.float64),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_adds_up_over_ranks(name):
    objective, _, _ = problem(num_samples=5, weighted=True, ridge=True, threads=1)
    serial = OPERATORS[name](objective)
    V = np.random.default_rng(1).standard_normal((serial.shape[1], 3))

    def program(comm):
        A = OPERATORS[name](spread(comm, objective))
        return A @ V, A.T @ (A @ V)

    product, squared = run(3, program)[0]
    eps = {"float64_sums": 2.0**-23, "finite_difference": 1e-11}.get(name, EPS)
    assert np.abs(product - serial @ V).max() <= 100 * eps * np.abs(product).max()
    assert np.abs(squared - serial.T @ (serial @ V)).max() <= 200 * eps * np.abs(squared).max()


@pytest.mark.parametrize("name", ["hessian", "gauss_newton", "block"])
def test_one_reduction_per_product_and_per_block(name):
    objective, _, _ = problem(num_samples=9, threads=1)

    def program(comm):
        A = OPERATORS[name](spread(comm, objective))
        A @ np.ones((A.shape[1], 1))
        counts = []
        for k in (1, 5, 40):
            comm._meeting.barrier.wait()
            before = comm.num_reductions
            comm._meeting.barrier.wait()
            A @ np.ones((A.shape[1], k))
            comm._meeting.barrier.wait()
            counts.append(comm.num_reductions - before)
        return counts

    assert run(3, program) == [[1, 1, 1]] * 3


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy", "poisson", "squared_error", "huber"])
def test_draws_of_the_monte_carlo_fisher_matrix_do_not_depend_on_the_ranks(loss):
    objective, _, _ = problem(loss=loss, num_samples=7, threads=1)
    v = np.random.default_rng(1).standard_normal(objective.num_parameters)
    serial = MonteCarloFisherOperator(objective, samples=2, rng=3) @ v
    for size in (2, 4):
        found = run(size, lambda comm: MonteCarloFisherOperator(spread(comm, objective), samples=2, rng=3) @ v)
        assert np.abs(found[0] - serial).max() <= 100 * EPS * np.abs(serial).max()


@pytest.mark.parametrize("size", SIZES)
def test_eigenvalues_are_those_of_one_rank_and_the_same_bits_each_time(size):
    objective, _, _ = problem(num_samples=23, ridge=True, threads=1)
    serial = eigsh(HessianOperator(objective), 4, tol=1e-12, rng=0).eigenvalues
    exact = np.linalg.eigvalsh(hessian_matrix(objective))

    def program(comm):
        return eigsh(HessianOperator(spread(comm, objective)), 4, tol=1e-12, rng=0).eigenvalues

    first, second = on_ranks(size, program), on_ranks(size, program)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - serial).max() <= 10 * EPS * np.abs(exact).max()
    assert np.abs(first - exact[-4:]).max() <= 20 * EPS * np.abs(exact).max()  # and the rounding of LAPACK


def test_estimates_and_solves_are_the_same_on_all_ranks():
    objective, _, _ = problem(num_samples=23, ridge=True, threads=1)
    b = np.random.default_rng(2).standard_normal(objective.num_parameters)
    serial = HessianOperator(objective)

    def program(comm):
        H = HessianOperator(spread(comm, objective))
        density = spectral_density(H, num_probes=3, num_steps=8, rng=5)
        return (
            trace(H, num_products=20, rng=4).value, density.nodes, density.weights,
            cg(H.damped(3.0), b, rtol=1e-10).x,
        )  # fmt: skip

    estimate, nodes, weights, x = run(3, program)[1]
    assert estimate == pytest.approx(trace(serial, num_products=20, rng=4).value, rel=1e-11)
    density = spectral_density(serial, num_probes=3, num_steps=8, rng=5)
    assert np.abs(nodes - density.nodes).max() <= 1e-10 * np.abs(density.nodes).max()
    assert np.abs(weights - density.weights).max() <= 1e-8
    assert np.abs(x - cg(serial.damped(3.0), b, rtol=1e-10).x).max() <= 1e-8 * np.abs(x).max()


def test_a_seed_that_is_not_given_is_that_of_rank_0():
    objective, _, _ = problem(num_samples=5, threads=1)

    def program(comm):
        H = HessianOperator(spread(comm, objective))
        generator = np.random.default_rng(comm.Get_rank())
        return (
            trace(H, num_products=6).seed, eigsh(H, 2).seed, spectral_density(H, num_probes=1, num_steps=3).seed,
            trace(2 * H, num_products=6).seed, trace(H, num_products=6, rng=generator).seed,
            MonteCarloFisherOperator(H.objective).seed, trace(H.damped(1.0), num_products=6).seed,
        )  # fmt: skip

    results = run(3, program)
    assert len(set(results)) == 1
    assert len(set(results[0])) == 7


def test_time_budgets_are_told_by_the_clock_of_rank_0():
    objective, _, _ = problem(num_samples=5, threads=1)
    b = np.ones(objective.num_parameters)

    def program(comm):
        H = HessianOperator(spread(comm, objective))
        seconds = 3600.0 if comm.Get_rank() == 0 else 0.0  # the clocks differ
        result = cg(H.damped(10.0), b, rtol=1e-10, max_seconds=seconds)
        return result.status, result.num_products

    results = run(3, program)
    assert results[0] == results[1] == results[2]
    assert results[0][0] == Status.CONVERGED

    def no_time(comm):
        H = HessianOperator(spread(comm, objective))
        return eigsh(H, 2, max_seconds=0.0 if comm.Get_rank() == 0 else 1e9).status

    assert run(2, no_time) == [Status.BUDGET] * 2


def test_an_interrupt_of_one_rank_ends_the_same_product_on_all(monkeypatch):
    from krylovh.distributed import job

    objective, _, _ = problem(num_samples=5, threads=1)

    def program(comm):
        H = HessianOperator(spread(comm, objective))
        H @ np.ones(H.shape[0])
        comm._meeting.barrier.wait()
        if comm.Get_rank() == 1:
            job.interrupts.pending = True
        comm._meeting.barrier.wait()
        result = eigsh(H, 3, rng=0)
        return result.status, result.num_products, eigsh(H, 3, rng=0).status

    results = run(3, program)
    assert {status for status, _, _ in results} == {Status.INTERRUPTED}
    assert len({count for _, count, _ in results}) == 1
    assert {after for _, _, after in results} == {Status.CONVERGED}


@pytest.mark.parametrize("kind", ["memmap", "hdf5"])
def test_rows_of_a_file_are_read_by_the_rank_that_owns_them(tmp_path, kind):
    objective, _, _ = problem(num_samples=23, weighted=True, threads=1)
    v = np.random.default_rng(1).standard_normal(objective.num_parameters)
    if kind == "memmap":
        stored = np.memmap(tmp_path / "X.bin", np.float64, "w+", shape=objective.X.shape)
        stored[:] = objective.X
        stored.flush()
    else:
        with h5py.File(tmp_path / "data.h5", "w") as file:
            file["X"], file["y"], file["w"] = objective.X, objective.y, objective.sample_weight

    def program(comm):
        if kind == "memmap":
            X = np.memmap(tmp_path / "X.bin", np.float64, "r", shape=objective.X.shape)
            return HessianOperator(spread_of(comm, X, objective.y, objective.sample_weight)) @ v
        with h5py.File(tmp_path / "data.h5", "r") as file:
            return HessianOperator(spread_of(comm, file["X"], file["y"], file["w"])) @ v

    def spread_of(comm, X, y, w):
        return DistributedObjective(objective.net, X, y, sample_weight=w, loss=objective.loss, comm=comm, threads=1)

    expected = HessianOperator(objective) @ v
    assert np.abs(on_ranks(4, program) - expected).max() <= 100 * EPS * np.abs(expected).max()


def test_rows_that_are_split_already_may_be_any_number():
    objective, _, _ = problem(num_samples=6, threads=1)
    cuts = [slice(0, 0), slice(0, 5), slice(5, 6)]
    v = np.ones(objective.num_parameters)

    def program(comm):
        rows = cuts[comm.Get_rank()]
        there = DistributedObjective(
            objective.net, objective.X[rows], objective.y[rows], loss=objective.loss, comm=comm, is_split=True,
            l2=0.5, threads=1,
        )  # fmt: skip
        return there.num_samples, there.first_own_sample, HessianOperator(there) @ v

    results = run(3, program)
    expected = HessianOperator(objective) @ v + 0.5
    assert [(n, first) for n, first, _ in results] == [(6, 0), (6, 0), (6, 5)]
    assert np.abs(results[0][2] - expected).max() <= 100 * EPS * np.abs(expected).max()


def test_subsets_other_parameters_and_training():
    objective, _, _ = problem(loss="squared_error", num_samples=23, l2=0.01, threads=1)

    def program(comm):
        there = spread(comm, objective)
        part = there.subset([20, 3, 4, 11])
        moved = there.at(0.5 * objective.net.theta)
        trained = minimize(there, method="gauss-newton", batch_size=9, max_iterations=1, rng=0, **SOLVED)
        return part.num_samples, part.value(), moved.gradient(), trained.fun

    count, value, gradient, reached = on_ranks(3, program)
    assert count == 4
    assert value == pytest.approx(objective.subset([3, 4, 11, 20]).value(), rel=1e-13)
    expected = objective.at(0.5 * objective.net.theta).gradient()
    assert np.abs(gradient - expected).max() <= 100 * EPS * np.abs(expected).max()
    serial = minimize(objective, method="gauss-newton", batch_size=9, max_iterations=1, rng=0, **SOLVED)
    assert reached == pytest.approx(serial.fun, rel=1e-8)


# -- what must not go wrong ------------------------------------------------------------------------------------------


def test_nan_in_one_shard_names_the_rank_and_its_rows():
    objective, _, _ = problem(num_samples=12, threads=1)
    X = objective.X.copy()
    X[7, 2] = np.nan

    def program(comm):
        DistributedObjective(objective.net, X, objective.y, loss=objective.loss, comm=comm)

    with pytest.raises(ValueError, match=re.escape("rank 2 (rows 6:9): X must be finite in float64, found nan")):
        run(4, program)


def test_nan_in_a_file_names_the_rank_when_it_is_read(tmp_path):
    objective, _, _ = problem(num_samples=12, threads=1)
    stored = np.memmap(tmp_path / "X.bin", np.float64, "w+", shape=objective.X.shape)
    stored[:] = objective.X
    stored[7, 2] = np.nan

    def program(comm):
        there = DistributedObjective(objective.net, stored, objective.y, loss=objective.loss, comm=comm, threads=1)
        there.value()

    with pytest.raises(ValueError, match="rank 2: X must be finite in float64, found nan"):
        run(4, program)


def test_what_one_rank_raises_in_a_product_is_raised_on_all_with_its_traceback(monkeypatch):
    objective, _, _ = problem(num_samples=12, threads=1)

    def program(comm):
        H = HessianOperator(spread(comm, objective))
        H @ np.ones(H.shape[0])
        if comm.Get_rank() == 1:
            H._passes.multiply = break_down
        return H @ np.ones(H.shape[0])

    def break_down(*_):
        raise MemoryError("no room for 3 GiB")

    with pytest.raises(MemoryError, match="rank 1: no room for 3 GiB") as caught:
        run(3, program)
    assert "in break_down" in caught.value.__notes__[0]
    assert "on rank 1 of 3" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "field", ["theta", "l2", "loss", "activations", "reduction", "dtype", "y", "X", "sample_weight", "memory_limit"]
)
def test_ranks_with_different_nets_data_or_settings_are_refused(field):
    objective, _, _ = problem(loss="squared_error", num_samples=12, weighted=True, threads=1)
    net, X, y = objective.net, objective.X, objective.y
    other = {
        "theta": {"net": net.with_theta(net.theta + 1e-15)},
        "activations": {"net": Network(net.widths, "relu", net.theta)},
        "y": {"y": np.where(np.arange(12)[:, None] == 11, y + 1e-12, y)},
        "X": {"X": np.where(np.arange(12)[:, None] == 0, 2 * X, X)},
        "loss": {"loss": "huber"},
        "sample_weight": {"sample_weight": None},
        "l2": {"l2": 0.1},
        "reduction": {"reduction": "sum"},
        "dtype": {"dtype": np.float32},
        "memory_limit": {"memory_limit": 10**6},
    }[field]

    def program(comm):
        arguments = {"net": net, "X": X, "y": y, "loss": "squared_error", "sample_weight": objective.sample_weight}
        if comm.Get_rank() == 2:
            arguments |= other
        DistributedObjective(**arguments, comm=comm)

    with pytest.raises(ValueError, match=rf"ranks differ in {field}: .* on ranks 0, 1, 3; .* on rank 2"):
        run(4, program)


def test_data_that_are_missing_on_all_ranks_are_refused():
    net = Network((1, 1), "identity")

    def empty(comm):
        DistributedObjective(net, np.empty((0, 1)), np.empty((0, 1)), loss="squared_error", comm=comm)

    def weightless(comm):
        DistributedObjective(
            net, np.ones((3, 1)), np.ones(3), loss="squared_error", sample_weight=np.zeros(3), comm=comm
        )

    def uneven(comm):
        DistributedObjective(net, np.ones((3, 1)), np.ones(2), loss="squared_error", comm=comm)

    with pytest.raises(ValueError, match="X is an empty data set on every rank"):
        run(2, empty)
    with pytest.raises(ValueError, match="sample_weight must not be 0 on every sample"):
        run(2, weightless)
    with pytest.raises(ValueError, match="rank 0: y must have 3 rows as X has, got 2"):
        run(2, uneven)


def test_a_loss_that_overflows_anywhere_is_told_by_all():
    net = Network((1, 1), "identity", [1.0, 0.0])

    def program(comm):
        there = DistributedObjective(net, [[1.0], [1000.0]], [1.0, 1.0], loss="poisson", comm=comm, threads=1)
        return HessianOperator(there) @ np.ones(2)

    with pytest.raises(FloatingPointError, match="the loss is inf at theta"):
        run(2, program)


@pytest.mark.parametrize(
    "use", [hessian_matrix, lambda o: influence(o, [0]), lambda o: o.X, lambda o: o.y, lambda o: next(o.chunks())]
)
def test_what_needs_all_samples_in_one_place_refuses(use):
    objective, _, _ = problem(num_samples=5, ridge=True, threads=1)
    with pytest.raises(TypeError, match="samples of a DistributedObjective are spread over 2 ranks"):
        run(2, lambda comm: use(spread(comm, objective)))


def test_messages_longer_than_mpi_can_count_are_cut(monkeypatch):
    from krylovh.distributed import ranks

    monkeypatch.setattr(ranks, "MAX_COUNT", 10)
    objective, _, _ = problem(num_samples=5, threads=1)
    v = np.ones(objective.num_parameters)

    def program(comm):
        return HessianOperator(spread(comm, objective)) @ v, comm.largest_message

    product, largest = run(2, program)[0]
    expected = HessianOperator(objective) @ v
    assert np.abs(product - expected).max() <= 100 * EPS * np.abs(expected).max()
    assert largest == 10


def test_digest_and_facts_are_the_same_on_all_ranks_and_change_with_the_data():
    objective, _, _ = problem(num_samples=5, threads=1)
    from krylovh.storage.provenance import provenance_of

    def program(comm, X):
        there = DistributedObjective(objective.net, X, objective.y, loss=objective.loss, comm=comm)
        return there.digest(), there.at(2 * objective.net.theta).digest(), provenance_of(there)["num_samples"]

    first = run(2, lambda comm: program(comm, objective.X))
    other = run(2, lambda comm: program(comm, objective.X + 1e-12))
    assert first[0] == first[1]
    assert first[0][2] == 5
    assert len({*first[0][:2], *other[0][:2]}) == 4


def test_serial_objectives_are_untouched():
    objective, _, _ = problem(num_samples=5, threads=1)
    assert (objective.num_samples, objective.first_own_sample, objective.adds_ridge) == (5, 0, True)
    assert objective.agree("mine") == "mine"
    assert isinstance(objective, Objective)
