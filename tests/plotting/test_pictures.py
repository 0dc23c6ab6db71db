"""Pictures: what is drawn, read back from the axes."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import krylovh as kh
from krylovh import plotting
from krylovh.plotting.style import CYCLE

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def best():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    y = np.tanh(X @ [1.0, -2.0]) + 0.1 * rng.standard_normal(30)
    net = kh.Network((2, 3, 1), "tanh")
    objective = kh.Objective(net.with_theta(net.random_theta(0)), X, y, loss="squared_error", l2=0.05)
    return objective.at(kh.minimize(objective, tol=1e-10).x)


def results(best):
    H = kh.HessianOperator(best)
    yield kh.cg(H.damped(0.1), np.ones(13))
    yield kh.block_cg(H.damped(0.1), np.eye(13, 3))
    yield kh.minimize(best.at(best.net.theta + 0.1))
    yield kh.retrain(best, remove=[0], max_step=10.0)
    yield kh.eigsh(H, 3, rng=0)
    yield kh.spectral_density(H, rng=0)
    yield kh.track_spectrum(best, [best.net.theta, best.net.theta + 0.1], k=2, rng=0)
    yield kh.loss_along(best, kh.eigsh(H, 2, rng=0), np.linspace(-1, 1, 5))
    yield kh.prune(best, num_remove=4)
    yield kh.leave_one_out(best, range(4), on="loss", X_test=best.X[:1], y_test=best.y[:1])
    yield kh.layer_block_norms(H, best.net)


@pytest.fixture(scope="module")
def all_results(best):
    return list(results(best))


@pytest.mark.parametrize("i", range(11))
def test_every_picture_takes_and_returns_its_axes(all_results, i):
    ax = Figure().subplots()
    assert plotting.plot_result(all_results[i], ax) is ax
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert plotting.plot_result(all_results[i]) is not ax
    assert ax.has_data()


def test_a_figure_has_a_panel_for_each_result(all_results):
    figure = plotting.plot_results({str(i): all_results[i] for i in (0, 4, 8)}, title="run")
    assert [ax.get_title() for ax in figure.axes] == ["0", "4", "8"]
    assert plotting.plot_results({"trace": kh.trace(np.eye(3), num_products=3, rng=0)}) is None


def test_the_true_residual_is_marked_beside_the_recurrence():
    solution = kh.cg(np.diag(np.geomspace(1, 1e8, 40)), np.ones(40), rtol=1e-14, max_iterations=300)
    lines = plotting.plot_convergence(solution).get_lines()
    assert lines[-1].get_ydata()[0] == solution.residual_norm
    assert (lines[0].get_ydata() > 0).all()


def test_predictions_of_pruning_start_from_the_loss_before_each_step(best):
    result = kh.prune(best, num_remove=3)
    objective, predicted = plotting.plot_pruning(result).get_lines()
    assert list(objective.get_xdata()) == [13, 12, 11, 10]
    assert np.allclose(predicted.get_ydata(), result.losses[:-1] + result.predicted)


def test_layer_blocks_of_norm_zero_are_drawn_and_negative_ones_refused():
    ax = plotting.plot_layer_blocks(np.array([[1.0, 0.0], [0.0, 0.0]]), names=["in", "out"])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["in", "out"]
    with pytest.raises(ValueError, match="norms must be at least 0"):
        plotting.plot_layer_blocks([[-1.0]])
    with pytest.raises(ValueError, match=r"norms must have shape \(L, L\)"):
        plotting.plot_layer_blocks(np.ones((2, 3)))


def test_layer_block_norms_are_those_of_the_matrix(best):
    H = kh.hessian_matrix(best)
    truth = [[np.linalg.norm(H[a, b]) for b in (slice(9), slice(9, 13))] for a in (slice(9), slice(9, 13))]
    assert np.allclose(kh.layer_block_norms(kh.HessianOperator(best), best.net), truth, rtol=1e-12)
    with pytest.raises(ValueError, match=r"A must have shape \(13, 13\)"):
        kh.layer_block_norms(np.eye(3), best.net)


def test_colours_are_distinct_for_colour_blind_readers():
    """Pairs stay apart where red and green cones see the same (Vienot, Brettel and Mollon 1999)."""
    cones = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    blind = {
        "protan": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
        "deutan": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
    }
    linear = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in CYCLE[:4]]) ** 2.2
    for kind in blind.values():
        seen = np.clip(linear @ cones.T @ kind.T @ np.linalg.inv(cones).T, 0, 1) ** (1 / 2.2)
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(4, 1)]
        assert distances.min() > 0.2
