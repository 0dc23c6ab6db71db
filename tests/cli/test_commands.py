"""Every command: the same numbers as the Python functions, in the file and as JSON."""

import numpy as np
import pytest

import krylovh as kh
from krylovh import Network, Objective, ResultStore, Status
from krylovh.cli.failures import Failure
from krylovh.cli.spectra import _which


@pytest.fixture
def objective(trained):
    X, y, _ = kh.load_data(trained / "data.npz")
    return Objective(Network.load(trained / "net.npz"), X, y, loss="squared_error", l2=0.05)


@pytest.fixture
def spectrum(objective):
    return np.linalg.eigvalsh(kh.hessian_matrix(objective))


def stored(name, path="run.h5"):
    return ResultStore(path, "r").load(name)


def test_train_reaches_the_minimum_that_minimize_reaches(answer):
    words = ("train", "data.npz", "--widths", "2,3,1", "--tol", "1e-10", "--save-net", "new.npz", "--rng", 3)
    found = answer(*words)["training"]
    X, y, _ = kh.load_data("data.npz")
    net = Network((2, 3, 1), "tanh")
    start = Objective(net.with_theta(net.random_theta(3)), X, y, loss="squared_error", l2=0.05)
    assert found["fun"] == kh.minimize(start, tol=1e-10, rng=3).fun
    assert np.array_equal(Network.load("new.npz").theta, stored("training").x)


def test_a_file_of_weights_alone_needs_activations(krylovh, objective):
    net = objective.net
    layers = {
        f"layers.{l}.{kind}": getattr(net, {"weight": "weights", "bias": "biases"}[kind])(l + 1)
        for l in (0, 1)
        for kind in ("weight", "bias")
    }
    np.savez("weights.npz", **layers)
    assert krylovh("eigs", "weights.npz", "data.npz")[0] == 4
    assert krylovh("eigs", "weights.npz", "data.npz", "--activations", "tanh,identity", "-k", 1)[0] == 0
    assert np.allclose(stored("eigenvalues").eigenvalues, np.linalg.eigvalsh(kh.hessian_matrix(objective))[-1])


def test_train_goes_on_from_a_net(answer):
    found = answer("train", "data.npz", "--net", "net.npz", "--gtol", "1e-6")["training"]
    assert found["status"] == "converged"
    assert found["nit"] <= 1


def test_eigs_at_both_ends_and_of_another_matrix(answer, spectrum, objective):
    largest = answer("eigs", "net.npz", "data.npz", "-k", 2)["eigenvalues"]
    assert np.allclose(largest["eigenvalues"], spectrum[-2:], atol=1e-10)
    lowest = answer("eigs", "net.npz", "data.npz", "--which", "SA", "--output", "b.h5")["eigenvalues"]
    assert np.allclose(lowest["eigenvalues"], spectrum[:6], atol=1e-10)
    words = ("--matrix", "gauss_newton", "--damping", "0.5", "-k", 1, "-o", "c.h5")
    damped = answer("eigs", "net.npz", "data.npz", *words)["eigenvalues"]
    truth = np.linalg.eigvalsh(kh.gauss_newton_matrix(objective))[-1] + 0.5
    assert np.allclose(damped["eigenvalues"], truth, atol=1e-10)


def test_an_interval_is_two_numbers():
    assert _which("0.5,2") == (0.5, 2.0)
    for wrong in ("0.5,2,3", "a,b", "XX"):
        with pytest.raises(Failure, match="--which must be"):
            _which(wrong)


def test_density_with_outliers_and_the_exact_spectrum(answer, spectrum):
    found = answer("density", "net.npz", "data.npz", "--num-outliers", 2, "--num-probes", 3, "--exact")
    assert np.allclose(found["density"]["outliers"], spectrum[-2:], atol=1e-10)
    assert np.allclose(found["exact"], spectrum, atol=1e-12)
    assert "eigenvectors" not in found["largest"]


def test_trace_is_that_of_python_for_the_same_seed(answer, objective):
    found = answer("trace", "net.npz", "data.npz", "--method", "hutch++", "--num-products", 9, "--rng", 5)["trace"]
    truth = kh.trace(kh.HessianOperator(objective), method="hutch++", num_products=9, rng=5)
    assert (found["value"], found["seed"]) == (truth.value, 5)


@pytest.mark.parametrize("preconditioner", ["none", "diagonal", "kfac", "nystrom"])
def test_solve_gives_the_newton_step(krylovh, objective, preconditioner):
    words = ("--damping", "0.1", "--rtol", "1e-10", "--preconditioner", preconditioner, "--rank", 4)
    assert krylovh("solve", "net.npz", "data.npz", *words)[0] == 0
    matrix = kh.hessian_matrix(objective) + 0.1 * np.eye(objective.num_parameters)
    assert np.allclose(
        matrix @ stored("solution").x, -objective.gradient(), atol=1e-9 * np.linalg.norm(objective.gradient()) + 1e-18
    )


def test_solve_takes_a_right_hand_side(krylovh, objective):
    b = np.arange(1.0, 14.0)
    np.savez("b.npz", b=b)
    assert krylovh("solve", "net.npz", "data.npz", "--solver", "minres", "--rhs", "b.npz", "--rtol", "1e-10")[0] == 0
    assert np.allclose(kh.hessian_matrix(objective) @ stored("solution").x, b, atol=1e-7)


def test_prune_writes_the_smaller_net(answer, objective):
    words = ("--num-remove", 3, "--save-net", "small.npz", "--newton-step")
    found = answer("prune", "net.npz", "data.npz", *words)["pruning"]
    truth = kh.prune(objective, num_remove=3, newton_step=True)
    assert found["removed"] == truth.removed.tolist()
    assert np.array_equal(Network.load("small.npz").theta, truth.theta)


def test_influence_beside_the_truth(answer, objective):
    words = ("--rows", "0,3:5", "--on", "loss", "--test", "more.npz", "--leave-one-out")
    found = answer("influence", "net.npz", "data.npz", *words)
    X, y, _ = kh.load_data("more.npz")
    truth = kh.influence(objective, [0, 3, 4], on="loss", X_test=X, y_test=y)
    assert np.array_equal(found["influence"]["values"], truth.values)
    assert np.array_equal(found["leave_one_out"]["predicted"], truth.values)


def test_retrain_removes_and_adds(answer, objective):
    words = ("--remove", "0:2", "--add", "more.npz", "--max-step", "10", "--save-net", "new.h5")
    found = answer("retrain", "net.npz", "data.npz", *words)["retraining"]
    assert found["status"] == "converged"
    X, y, _ = kh.load_data("data.npz")
    more = kh.load_data("more.npz")
    net = Network.load("new.h5")
    changed = Objective(net, np.r_[X[2:], more.X], np.r_[y[2:], more.y], loss="squared_error", l2=0.05)
    assert np.linalg.norm(changed.gradient()) <= 1.01 * found["gradient_norm"] + 1e-15


def test_laplace_with_predictions_and_better_precisions(answer, objective):
    found = answer("laplace", "net.npz", "data.npz", "--predict", "more.npz")
    posterior = kh.Laplace(objective)
    assert found["posterior"]["log_evidence"] == posterior.log_evidence().value
    assert np.array_equal(found["prediction"]["variance"], posterior.predict(kh.load_data("more.npz").X).variance)
    words = ("--optimize", "--save-net", "best.npz", "-o", "best.h5")
    best = answer("laplace", "net.npz", "data.npz", *words)
    assert best["hyperparameters"]["status"] == "converged"
    assert best["posterior"]["log_evidence"] > found["posterior"]["log_evidence"]
    assert Network.load("best.npz").num_parameters == 13


def test_layer_blocks_are_the_norms_of_the_blocks(answer, objective):
    found = np.array(answer("spectrum", "net.npz", "data.npz", "--layer-blocks")["layer_blocks"])
    H = kh.hessian_matrix(objective)
    assert np.allclose(
        found, [[np.linalg.norm(H[a, b]) for b in (slice(9), slice(9, 13))] for a in (slice(9), slice(9, 13))]
    )


def test_compare_judges_differences_by_the_errors_of_both(krylovh):
    krylovh("spectrum", "net.npz", "data.npz", "-o", "a.h5")
    krylovh("spectrum", "net.npz", "data.npz", "-o", "b.h5", "--rng", 1)
    krylovh("spectrum", "net.npz", "data.npz", "-o", "c.h5", "--l2", "0.5", "--loss", "squared_error")
    code, out, _ = krylovh("compare", "a.h5", "b.h5", "--check")
    assert code == 0
    assert out.count("agrees") == 4
    assert "seed: 0 | 1" in out
    code, out, err = krylovh("compare", "a.h5", "c.h5", "--check")
    assert code == 7
    assert "differ by more than their errors: density, largest, smallest" in err
    assert "DIFFERS  largest: 0 of 10 eigenvalues within" in out


def test_the_command_that_is_stored_gives_the_same_file_again(krylovh):
    krylovh("trace", "net.npz", "data.npz", "--num-products", 4, "--rng", 2, "-o", "a.h5")
    command = ResultStore("a.h5", "r").provenance("trace")["command"]
    assert command.startswith("krylovh trace net.npz data.npz")
    assert krylovh(*command.split()[1:], "-o", "b.h5")[0] == 0
    with open("a.h5", "rb") as a, open("b.h5", "rb") as b:
        assert a.read() == b.read()


def test_what_is_drawn_alone_and_what_cannot_be(krylovh):
    krylovh("solve", "net.npz", "data.npz")
    assert krylovh("plot", "run.h5", "-o", "solve.svg")[0] == 0
    krylovh("trace", "net.npz", "data.npz", "-o", "trace.h5")
    code, _, err = krylovh("plot", "trace.h5", "-o", "trace.png")
    assert (code, "holds nothing that can be drawn, only trace" in err) == (4, True)
    assert krylovh("plot", "run.h5", "--name", "density", "-o", "d.png")[0] == 4


def test_a_budget_that_is_too_small_is_said_and_what_was_found_is_kept(krylovh):
    code, _, err = krylovh("train", "data.npz", "--widths", "2,3,1", "--max-iterations", 1)
    assert code == 3
    assert err == "krylovh: not converged (training: budget); the results are stored\n"
    assert stored("training").status == Status.BUDGET
