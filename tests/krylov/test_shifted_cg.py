"""Claims about shifted_cg; the checkers use LAPACK and products in float64, never the solver."""

import numpy as np
import pytest

import zoo
from krylovh import Status, cg, shifted_cg
from solves import EPS, check, operator_of, right_hand_side


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 40])
def test_every_operator_and_shift_gets_an_answer_that_can_be_believed(n, dtype):
    for reference in zoo.zoo(n):
        b = right_hand_side(n, n)
        size = reference.norm or 1.0
        shifts = size * np.array([-0.7, 0.0, 1e-3, 0.1, 10.0])
        result = shifted_cg(reference.operator(dtype), b, shifts)
        assert result.num_products <= result.num_iterations + shifts.size
        for i, shift in enumerate(shifts):
            shifted = reference.shifted(shift)
            check(result[i], shifted, b, 1e-6, dtype)
            low = shifted.eigenvalues[0] / size
            if low > 1e4 * EPS[dtype]:
                assert result.statuses[i] in (Status.CONVERGED, Status.STAGNATED), (reference.name, shift)
                assert dtype == np.float32 or result.statuses[i] == Status.CONVERGED
            elif low < -1e-2 and n > 5 and "LAPACK mode 4" not in reference.name:
                assert result.statuses[i] == Status.NEGATIVE_CURVATURE, (reference.name, shift)


def test_a_family_costs_what_its_hardest_member_costs():
    reference, b = zoo.laplacian(300), right_hand_side(300)
    shifts = np.logspace(-4, 1, 12)
    result = shifted_cg(reference.operator(), b, shifts)
    assert result.status == Status.CONVERGED
    hardest = cg(reference.shifted(1e-4).operator(), b)
    assert abs(result.num_iterations - hardest.num_iterations) <= 2
    assert result.num_products == result.num_iterations + 12
    matrix, lowest = reference.matrix(), reference.eigenvalues[0]
    for i, shift in enumerate(shifts):
        truth = np.linalg.solve(matrix + shift * np.eye(300), b)
        assert np.linalg.norm(result.x[:, i] - truth) <= 1e-6 * np.linalg.norm(b) / (lowest + shift)


def test_iterates_are_those_of_conjugate_gradients():
    reference, b = zoo.wishart(60), right_hand_side(60)
    for steps in (1, 3, 7):
        result = shifted_cg(reference.operator(), b, [0.05, 1.0], max_iterations=steps, rtol=1e-12)
        for i, shift in enumerate((0.05, 1.0)):
            seen = []
            cg(reference.shifted(shift).operator(), b, max_iterations=steps, rtol=1e-12, callback=seen.append)
            if result.residual_norms[i] < np.linalg.norm(b):
                np.testing.assert_allclose(result.x[:, i], seen[-1], atol=1e-11)


def test_negative_curvature_is_told_for_each_shift():
    reference, b = zoo.outliers(200), right_hand_side(200)
    lowest = reference.eigenvalues[0]
    shifts = -lowest + np.array([-1e-2, -1e-3, 1e-3, 1e-2])
    result = shifted_cg(reference.operator(), b, shifts)
    assert result.statuses == (Status.NEGATIVE_CURVATURE,) * 2 + (Status.CONVERGED,) * 2
    assert np.isfinite(result.negative_curvature).all(axis=0).tolist() == [True, True, False, False]
    for i in range(4):
        check(result[i], reference.shifted(shifts[i]), b, 1e-6)


def test_singular_members_are_told():
    reference, b = zoo.neumann_laplacian(50), right_hand_side(50)
    result = shifted_cg(reference.operator(), b, [0.0, 0.1])
    assert result.statuses == (Status.INCONSISTENT, Status.CONVERGED)


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
def test_scaling_by_powers_of_two_is_exact(dtype):
    reference, b = zoo.strakos(50), right_hand_side(50)
    shifts = np.array([-3.0, 0.0, 1.0])
    plain = shifted_cg(reference.operator(dtype), b, shifts)
    for e, f in [(-100, 0), (100, 700), (60, -800)]:
        result = shifted_cg(reference.scaled(2.0**e).operator(dtype), np.ldexp(b, f), np.ldexp(shifts, e))
        assert (result.statuses, result.num_products) == (plain.statuses, plain.num_products)
        np.testing.assert_array_equal(result.x, np.ldexp(plain.x, f - e))


@pytest.mark.parametrize("budget", [0, 2, 3, 4, 9])
def test_the_budget_is_kept(budget):
    reference, b = zoo.strakos(60), right_hand_side(60)
    result = shifted_cg(reference.operator(), b, [0.0, 0.1, 1e-3], max_products=budget)
    assert result.num_products <= budget
    assert result.status == Status.BUDGET
    for i, shift in enumerate([0.0, 0.1, 1e-3]):
        check(result[i], reference.shifted(shift), b, 1e-6)


def test_zero_nan_and_nothing():
    result = shifted_cg(np.eye(5), np.zeros(5), [0.0, 1.0])
    assert (result.status, result.num_products) == (Status.CONVERGED, 0)
    result = shifted_cg(operator_of(lambda v: v * np.nan, 5), np.ones(5), [1.0])
    assert (result.status, result.num_products) == (Status.NONFINITE, 1)
    assert len(shifted_cg(np.eye(5), np.ones(5), [])) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shifts": 1.0}, r"shifts must have shape \(k,\), got \(\)"),
        ({"shifts": [np.nan]}, "shifts must be finite"),
        ({"A": np.triu(np.ones((5, 5)))}, "A must be symmetric"),
    ],
)
def test_misuse_is_named(arguments, message):
    values = {"A": np.eye(5), "b": np.arange(5.0), "shifts": [1.0]} | arguments
    with pytest.raises(ValueError, match=message):
        shifted_cg(values["A"], values["b"], values["shifts"])


def test_few_iterations_already_help():
    reference, b = zoo.minimum(100), right_hand_side(100)
    result = shifted_cg(reference.operator(), b, [0.0, 1e-3], max_iterations=3)
    assert result.status == Status.BUDGET
    for i in range(2):
        assert result.x[:, i] @ reference.apply(result.x[:, i]) / 2 < b @ result.x[:, i]
