"""Training, pruning and dense matrices that were stopped: the results of runs that were not, to the last bit."""

import numpy as np
import pytest

from krylovh import (
    Checkpoint,
    CheckpointMismatchError,
    Network,
    Objective,
    gauss_newton_matrix,
    hessian_matrix,
    minimize,
    prune,
    resume,
)
from tests.resumed import Stopped, calls_of_progress, differing, often, some, stopping_after


def make_objective(**changes):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3))
    y = np.tanh(X @ rng.standard_normal((3, 2))) + 0.1 * rng.standard_normal((40, 2))
    net = Network((3, 4, 2), "tanh")
    options = {"loss": "squared_error", "l2": 1e-3, "threads": 1, **changes}
    return Objective(net.with_theta(net.random_theta(0)), X, y, **options)


@pytest.fixture(scope="module")
def objective():
    return make_objective()


@pytest.fixture(scope="module")
def trained(objective):
    return objective.at(minimize(objective, tol=1e-8).x)


TRAINING = {
    "newton": {"max_iterations": 12},
    "kept preconditioner": {"max_iterations": 12, "preconditioner": "kfac"},
    "kept random preconditioner": {"max_iterations": 8, "preconditioner": "nystrom", "rng": 1},
    "gauss-newton first": {"max_iterations": 9, "gauss_newton_until": 0.1},
    "hessian-free": {"max_iterations": 9, "method": "hessian-free"},
    "batches": {"max_iterations": 8, "method": "hessian-free", "batch_size": 15, "rng": 3},
    "levenberg-marquardt": {"max_iterations": 8, "method": "levenberg-marquardt"},
}
PRUNING = {
    "surgeon": {"num_remove": 6},
    "surgeon, inverse kept": {"num_remove": 7, "recompute": 4, "damping": 1e-3},
    "surgeon, solves": {"num_remove": 4, "inverse": "cg", "curvature": "gauss_newton", "recompute": 3},
    "damage": {"num_remove": 6, "method": "obd", "recompute": None, "batch": 2},
    "retrained": {"num_remove": 3, "method": "magnitude", "retrain": "lbfgs", "retrain_iterations": 10},
}
MATRICES = {
    "structure": (hessian_matrix, {}),
    "products": (hessian_matrix, {"method": "products"}),
    "a layer": (gauss_newton_matrix, {"layers": [2]}),
}


def check_stops(function, objective, keywords, path, stops=2, but=()):
    expected, calls = calls_of_progress(function, objective, **keywords)
    for number, stop in enumerate(sorted({int(i) for i in np.linspace(1, calls, stops)})):
        file = path / f"{number}.h5"
        with pytest.raises(Stopped):
            function(objective, **keywords, progress=stopping_after(stop), checkpoint=often(file))
        assert differing(expected, resume(file, objective), but) == []
    again = function(objective, **keywords, checkpoint=file)
    assert differing(expected, again, but) == []


@pytest.mark.parametrize("case", some(TRAINING, {"newton", "gauss-newton first", "hessian-free"}))
def test_training_goes_on(case, objective, tmp_path):
    check_stops(minimize, objective, TRAINING[case], tmp_path, but=("seconds", "seconds_history"))


@pytest.mark.parametrize("case", PRUNING)
def test_pruning_goes_on(case, trained, tmp_path):
    check_stops(prune, trained, PRUNING[case], tmp_path)


@pytest.mark.parametrize("case", MATRICES)
def test_a_matrix_is_completed(case, objective, tmp_path):
    function, keywords = MATRICES[case]
    check_stops(function, objective, keywords, tmp_path)


def test_rows_of_a_matrix_are_not_computed_twice(objective, tmp_path, monkeypatch):
    expected = hessian_matrix(objective, checkpoint=tmp_path / "run.h5")
    monkeypatch.setattr("krylovh.exact.assembly._Slab.add", lambda *args: pytest.fail("derivatives of samples"))
    assert np.array_equal(hessian_matrix(objective, checkpoint=tmp_path / "run.h5"), expected)


def test_a_finished_training_costs_no_product(objective, tmp_path, monkeypatch):
    expected = minimize(objective, max_iterations=5, checkpoint=tmp_path / "run.h5")
    monkeypatch.setattr("krylovh.applications.training.descent.Descent.trial", lambda *args: pytest.fail("a trial"))
    assert differing(expected, minimize(objective, max_iterations=5, checkpoint=tmp_path / "run.h5")) == []


def test_more_iterations_and_more_removals_go_on(objective, trained, tmp_path):
    file, but = tmp_path / "train.h5", ("seconds", "seconds_history")
    minimize(objective, max_iterations=4, checkpoint=file)
    assert differing(minimize(objective, max_iterations=9), resume(file, objective, max_iterations=9), but) == []
    file = tmp_path / "prune.h5"
    prune(trained, num_remove=2, checkpoint=file)
    assert differing(prune(trained, num_remove=5), resume(file, trained, num_remove=5)) == []


def test_other_validation_data_are_refused(trained, tmp_path):
    data = trained.X[:5] + 1, trained.y[:5]
    keywords = {"num_remove": 2, "method": "obd", "checkpoint": tmp_path / "run.h5"}
    expected = prune(trained, validation=data, **keywords)
    with pytest.raises(CheckpointMismatchError, match="its validation is a tuple of other content"):
        prune(trained, validation=(data[0], data[1] + 1), **keywords)
    assert differing(expected, prune(trained, validation=data, **keywords)) == []
    assert Checkpoint(tmp_path / "run.h5").describe().missing == ("validation",)


def test_an_interrupt_keeps_the_last_iteration(objective, tmp_path):
    def interrupt(state):
        if state.nit == 4:
            raise KeyboardInterrupt

    file, but = tmp_path / "run.h5", ("seconds", "seconds_history")
    stopped = minimize(objective, max_iterations=8, callback=interrupt, checkpoint=file)
    assert stopped.status.value == "interrupted"
    assert differing(minimize(objective, max_iterations=8), resume(file, objective), but) == []
