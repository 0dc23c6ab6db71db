"""Results as tables of notebooks."""

import re
from dataclasses import replace

import numpy as np
import pytest

import krylovh as kh
from krylovh.results.display import Displayed, facts_of, number, table_html

A = np.diag(np.arange(1.0, 101.0))


def results():
    """One result of each kind that a plain operator or a small net gives."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 2))
    net = kh.Network((2, 1), "identity", [1.0, 0.1, 0.0])
    objective = kh.Objective(net, X, X @ [1.0, 0.1], loss="squared_error", l2=0.1)
    trained = kh.minimize(objective)
    best = objective.at(trained.x)
    yield kh.eigsh(A, 3, rng=0)
    yield kh.trace(A, num_products=20, rng=0)
    yield kh.diagonal(A, num_products=20, rng=0)
    yield kh.spectral_density(A, num_probes=2, num_steps=10, rng=0)
    yield kh.kernel_polynomial_density(A, num_probes=2, num_steps=10, rng=0)
    yield kh.cg(A, np.ones(100))
    yield kh.shifted_cg(A, np.ones(100), [1.0, 2.0])
    yield kh.lanczos(A, np.ones(100), 5)
    yield kh.check_operator(A, rng=0)
    yield trained
    yield kh.prune(best, num_remove=1)
    yield kh.influence(best, [0, 1])
    yield kh.leave_one_out(best, [0, 1])
    yield kh.retrain(best, remove=[0])
    yield kh.loss_along(best, np.eye(3, 1), [-1.0, 0.0, 1.0])
    yield kh.Laplace(best).summary()
    yield kh.compare_models({"a<b>": best})


@pytest.fixture(scope="module", params=list(range(17)))
def result(request, all_results):
    return all_results[request.param]


@pytest.fixture(scope="module")
def all_results():
    return list(results())


def test_every_result_is_a_well_formed_table(result):
    shown = result._repr_html_()
    assert isinstance(result, Displayed)
    for tag in ("div", "table", "thead", "tbody", "tr", "th", "td", "strong"):
        assert len(re.findall(f"<{tag}[ >]", shown)) == shown.count(f"</{tag}>")
    assert "<b>" not in shown
    assert len(shown) < 10_000


def test_all_classes_of_results_are_displayed():
    from krylovh import results as module

    for name in module.__all__:
        member = getattr(module, name)
        if isinstance(member, type) and hasattr(member, "__dataclass_fields__"):
            assert issubclass(member, Displayed), name


def test_eigenvalues_stand_with_their_residuals_outermost_first():
    result = kh.eigsh(A, 2, rng=0)
    shown = result._repr_html_()
    assert shown.index("<td>100</td>") < shown.index("<td>99</td>")
    assert f"<td>{result.residual_norms[-1]:.1e}</td>" in shown
    assert "set verified" in shown


def test_what_did_not_converge_is_told():
    shown = replace(kh.eigsh(A, 2, rng=0), status=kh.Status.BUDGET, converged=np.zeros(2, bool))._repr_html_()
    assert shown.count("<td>budget</td>") == 2


def test_an_unknown_error_is_not_a_number():
    assert "unknown" in kh.trace(np.diag([1.0, 2.0, 4.0]) + 1, num_products=1, rng=0)._repr_html_().replace(
        "nan", "unknown"
    )
    assert number(np.nan) == "unknown"


def test_long_tables_show_their_ends():
    shown = table_html({"i": range(100)}, limit=10)
    assert "<td>0</td>" in shown
    assert "<td>99</td>" in shown
    assert "90 more" in shown
    assert "<td>50</td>" not in shown


def test_facts_leave_out_what_is_none():
    assert "negative curvature" not in facts_of(kh.cg(A, np.ones(100)))
