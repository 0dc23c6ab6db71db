"""Retraining against closed forms, its certificate, and the switch to full retraining."""

from dataclasses import fields

import numpy as np
import pytest

from krylovh import HessianOperator, Network, Objective, ResultStore, Status, eigsh, retrain
from krylovh.applications.influence.newton import Descent, newton_cg


def regression(lam=0.1, num_samples=40):
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((num_samples, 4)), rng.standard_normal(num_samples)
    theta = minimum(X, y, lam)
    return Objective(Network((4, 1), "identity", theta, bias=False), X, y, loss="squared_error", l2=lam), X, y


def minimum(X, y, lam=0.1, w=None):
    w = np.ones(len(X)) if w is None else w
    return np.linalg.solve((X.T * w) @ X / w.sum() + lam * np.eye(X.shape[1]), (X.T * w) @ y / w.sum())


def trained_net():
    """A small tanh net with ridge at a minimum."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((60, 3))
    y = np.tanh(X @ [1.0, -2.0, 0.5]) + 0.1 * rng.standard_normal(60)
    net = Network((3, 3, 1), "tanh")
    objective = Objective(net.with_theta(net.random_theta(0)), X, y, loss="squared_error", l2=3e-2)
    descent = Descent.at(objective, objective.net.theta)
    assert newton_cg(descent, 1e-11) is Status.CONVERGED
    return objective.at(descent.theta), objective.net.theta


def test_samples_that_go_and_come_lead_to_the_minimum_on_what_is_there():
    objective, X, y = regression()
    new_X, new_y, weight = np.eye(4)[:2], np.array([1.0, -1.0]), np.array([2.0, 0.5])
    cases = {
        "remove": ({"remove": [0, 5]}, minimum(np.delete(X, [0, 5], 0), np.delete(y, [0, 5]))),
        "add": ({"add": (new_X, new_y)}, minimum(np.vstack([X, new_X]), np.append(y, new_y))),
        "both": (
            {"remove": [3], "add": (new_X, new_y, weight)},
            minimum(
                np.vstack([np.delete(X, 3, 0), new_X]),
                np.append(np.delete(y, 3), new_y),
                w=np.append(np.ones(39), weight),
            ),
        ),
    }
    for arguments, expected in cases.values():
        result = retrain(objective, tol=1e-10, **arguments)
        assert result.status is Status.CONVERGED
        assert not result.switched
        distance = np.linalg.norm(result.theta - expected)
        assert distance <= result.distance_bound <= 1e-8
        assert result.gradient_norm <= 10 * result.distance_bound * result.curvature_bound


def test_the_certificate_of_a_net_holds_and_names_its_assumption():
    objective, _ = trained_net()
    result = retrain(objective, remove=[0, 1, 2], tol=1e-6, rng=0)
    truth = retrain(objective, remove=[0, 1, 2], tol=1e-12, certify=False)
    H = HessianOperator(objective.subset(slice(3, None)).at(result.theta)) @ np.eye(objective.num_parameters)
    assert 0 < result.curvature_bound <= np.linalg.eigvalsh(H)[0] * (1 + 1e-9)
    assert np.linalg.norm(result.theta - truth.theta) <= result.distance_bound < 1e-3
    assert result.hessian_lipschitz > 0
    assert "Lanczos" in result.assumption
    assert result.num_products > result.certificate_products > 0


def test_known_eigenpairs_save_products_and_the_comparison_says_so():
    objective, start = trained_net()
    pairs = eigsh(HessianOperator(objective), 6, rng=0)
    result = retrain(objective, remove=[4], eigenpairs=pairs, certify=False, compare_start=start)
    plain = retrain(objective, remove=[4], certify=False)
    assert result.num_products < plain.num_products < result.products_from_start
    assert f"from the start {result.products_from_start}" in str(result)


def test_a_step_that_is_too_long_is_left_to_the_trust_region():
    objective, start = trained_net()
    result = retrain(objective, remove=[0], max_step=1e-9, certify=False)
    assert result.switched
    assert "longer than max_step" in result.reason
    assert result.status is Status.CONVERGED
    far = retrain(objective.at(start), remove=[0], certify=False)
    assert far.switched
    assert far.status is Status.CONVERGED


def test_from_a_saddle_the_trust_region_leaves_along_negative_curvature():
    net = Network((1, 1, 1), "identity", [1e-3, -0.9e-3], bias=False)
    objective = Objective(net, [[1.0]], [1.0], loss="squared_error")
    descent = Descent.at(objective, net.theta)
    assert newton_cg(descent, 1e-10) is Status.CONVERGED
    assert descent.objective.value() < 1e-15
    assert descent.theta[0] * descent.theta[1] == pytest.approx(1.0, rel=1e-8)


def test_the_budget_is_kept_and_an_interruption_keeps_theta():
    objective, _ = trained_net()
    result = retrain(objective, remove=[0], max_products=5)
    assert result.status is Status.BUDGET
    assert result.num_products <= 5

    def interrupt(done, total):
        raise KeyboardInterrupt

    result = retrain(objective, remove=[0], progress=interrupt)
    assert result.status is Status.INTERRUPTED
    assert len(result.step_history) == 1
    assert np.isnan(result.distance_bound)


def test_a_result_is_stored_and_found_again(tmp_path):
    result = retrain(regression()[0], remove=[0])
    store = ResultStore(tmp_path / "results.h5")
    store.save("retrained", result)
    loaded = store.load("retrained")
    for field in fields(result):
        np.testing.assert_equal(getattr(loaded, field.name), getattr(result, field.name))


def test_samples_in_a_file_are_removed_by_their_weight(tmp_path):
    objective, X, y = regression()
    np.save(tmp_path / "X.npy", X)
    mapped = Objective(objective.net, np.load(tmp_path / "X.npy", mmap_mode="r"), y, loss="squared_error", l2=0.1)
    expected = minimum(np.delete(X, 7, 0), np.delete(y, 7))
    np.testing.assert_allclose(retrain(mapped, remove=[7], tol=1e-12).theta, expected, atol=1e-11)
    with pytest.raises(ValueError, match="append them to the file"):
        retrain(mapped, add=(X[:1], y[:1]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "nothing changes"),
        ({"remove": range(40)}, ValueError, "at least one sample"),
        ({"remove": [0], "tol": 1.0}, ValueError, "tol must be in"),
        ({"remove": [0], "max_step": 0.0}, ValueError, "max_step must be positive"),
        ({"add": np.ones(3)}, TypeError, "add must be a tuple"),
        ({"add": (np.ones((1, 3)), [1.0])}, ValueError, "add does not fit"),
        ({"remove": [0], "compare_start": [1.0]}, ValueError, "compare_start must have shape"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        retrain(regression()[0], **arguments)
