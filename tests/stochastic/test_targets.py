"""Targets, budgets, and batches that confirm each other."""

import math

import pytest

from krylovh import Status
from krylovh.krylov.symmetric import BudgetSpent, NonFiniteProduct
from krylovh.stochastic.stopping import NotPositive, stopping
from krylovh.stochastic.targets import Target, checked_budget, confirmed_batches


def test_the_larger_of_both_tolerances_counts():
    target = Target.of(rtol=0.1, atol=2.0)
    assert target.half_width(-100.0) == 10.0
    assert target.half_width(1.0) == 2.0
    assert target.reached(1.0, (-1.0, 3.0))
    assert not target.reached(1.0, (-1.0, 3.1))
    assert not target.reached(1.0, (-math.inf, math.inf))
    assert Target.of(None, 1.0).half_width(1e9) == 1.0
    assert Target.of(None, None) is None


@pytest.mark.parametrize("bad", [0, -1.0, math.inf, math.nan])
def test_tolerances_are_positive_and_finite(bad):
    with pytest.raises(ValueError, match="rtol must be positive and finite"):
        Target.of(bad, None)
    with pytest.raises(ValueError, match="atol must be positive and finite"):
        Target.of(None, bad)


def test_a_budget_is_a_hundred_products_or_none_for_a_target():
    target = Target.of(0.1, None)
    assert checked_budget(None, None, 3) == 100
    assert checked_budget(None, target, 3) is None
    assert checked_budget(7, target, 3) == 7
    with pytest.raises(ValueError, match="num_products must be at least 3, got 2"):
        checked_budget(2, None, 3)


class Batches:
    """Batches of a size that reach the target where ``reaching`` says so; every probe costs one of a budget."""

    def __init__(self, budget, reaching):
        self.left, self.reaching, self.made = budget, reaching, []

    def __call__(self, first, size):
        self.made.append((first, size))
        self.left -= size
        assert self.left >= 0
        return self.reaching(len(self.made), size)

    def run(self, **options):
        return confirmed_batches(self, 16, 2, lambda: self.left, **options)


def test_the_batch_that_is_kept_did_not_decide_to_stop():
    batches = Batches(10_000, lambda number, size: size >= 50)
    assert batches.run()
    assert batches.made == [(0, 16), (16, 32), (48, 64), (112, 64)]


def test_a_batch_that_only_seemed_to_reach_the_target_is_followed_by_larger_ones():
    batches = Batches(10_000, lambda number, size: number in (1, 3, 4))
    assert batches.run()
    assert batches.made == [(0, 16), (16, 16), (32, 32), (64, 32)]


@pytest.mark.parametrize(
    ("budget", "made"), [(1, []), (5, [(0, 5)]), (20, [(0, 16)]), (40, [(0, 16), (16, 24)]), (60, [(0, 16), (16, 32)])]
)
def test_a_budget_is_spent_on_the_largest_batch_that_is_left(budget, made):
    batches = Batches(budget, lambda number, size: False)
    assert not batches.run()
    assert batches.made == made
    saving = Batches(budget, lambda number, size: False)
    assert not saving.run(spends_rest=lambda: False)
    assert saving.made == [batch for batch in made if batch != (16, 24)]


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (BudgetSpent(), Status.BUDGET),
        (KeyboardInterrupt(), Status.INTERRUPTED),
        (NonFiniteProduct(), Status.NONFINITE),
        (NotPositive(), Status.NEGATIVE_CURVATURE),
    ],
)
def test_what_stops_a_computation_becomes_its_status(stop, status):
    with stopping() as outcome:
        raise stop
    assert outcome.status is status


def test_errors_are_no_outcomes():
    with pytest.raises(ZeroDivisionError), stopping():
        raise ZeroDivisionError
    with stopping() as outcome:
        outcome.missed(reached=False)
    assert outcome.status is Status.BUDGET
