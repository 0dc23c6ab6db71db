"""Posterior, evidence, predictions and re-estimation against closed forms and dense matrices made here."""

import numpy as np
import pytest
import scipy.linalg
from scipy.special import expit, softmax
from scipy.stats import multivariate_normal

from krylovh import Laplace, Network, Objective, ResultStore, Status, compare_models
from krylovh.applications.laplace.hyperparameters import _minimized

STRUCTURES = ("full", "krylov", "kfac", "diagonal", "last_layer")
ALPHA, BETA = 0.7, 4.0


def linear_gaussian(structure="full", reduction="mean", noise_precision=BETA, **options):
    """A linear model at its exact posterior mean; return it with X and y."""
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((12, 3)), np.array([1.0, -2.0, 0.5])
    y = X @ w + rng.standard_normal(12) / 2
    mean = np.linalg.solve(noise_precision * X.T @ X + ALPHA * np.eye(3), noise_precision * X.T @ y)
    net = Network((3, 1), "identity", mean, bias=False)
    l2 = ALPHA / 12 if reduction == "mean" else ALPHA
    objective = Objective(net, X, y, loss="squared_error", reduction=reduction, l2=l2)
    return Laplace(objective, structure=structure, noise_precision=noise_precision, rng=0, **options), X, y


def tanh_net(seed=1, loss="squared_error", outputs=1, samples=30, l2=0.1):
    """A 2-3-C net fitted by damped Newton steps on dense matrices of finite differences of the gradient."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((samples, 2))
    if loss == "squared_error":
        y = np.tanh(X @ rng.standard_normal((2, outputs))) + 0.1 * rng.standard_normal((samples, outputs))
    elif loss == "softmax_cross_entropy":
        y = rng.integers(0, outputs, samples)
    elif loss == "poisson":
        y = rng.poisson(2.0, (samples, outputs)).astype(float)
    else:
        y = (rng.random((samples, outputs)) < expit(3 * X[:, :1])).astype(float)
    net = Network((2, 3, outputs), "tanh")
    objective = Objective(net, X, y, loss=loss, l2=l2)
    theta = net.random_theta(rng)
    found = scipy.optimize.minimize(
        lambda t: objective.at(t).value(), theta, jac=lambda t: objective.at(t).gradient(), method="BFGS",
        options={"gtol": 1e-7, "maxiter": 2000},
    )  # fmt: skip
    return objective.at(found.x)


def jacobian(net, X, step=1e-6):
    """Derivatives of the outputs by central differences, (N, C, P)."""
    columns = []
    for unit in np.eye(net.num_parameters):
        high, low = (net.with_theta(net.theta + sign * step * unit).forward(X) for sign in (1, -1))
        columns.append((high - low) / (2 * step))
    return np.stack(columns, axis=2)


def gauss_newton(objective, X):
    """The Gauss-Newton matrix of the summed loss, from the Jacobian by differences."""
    J, f = jacobian(objective.net, X), objective.net.forward(X)
    if objective.loss == "softmax_cross_entropy":
        p = softmax(f, axis=1)
        Q = p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :]
    elif objective.loss == "binary_cross_entropy":
        Q = (expit(f) * expit(-f))[:, :, None] * np.eye(f.shape[1])
    elif objective.loss == "poisson":
        Q = np.exp(f)[:, :, None] * np.eye(f.shape[1])
    else:
        Q = np.tile(np.eye(f.shape[1]), (len(f), 1, 1))
    return np.einsum("ncp,ncd,ndq->pq", J, Q, J), J


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_linear_gaussian_covariance_and_evidence_are_exact(reduction):
    posterior, X, y = linear_gaussian(reduction=reduction)
    covariance = np.linalg.inv(BETA * X.T @ X + ALPHA * np.eye(3))
    np.testing.assert_allclose(posterior.covariance(), covariance, rtol=1e-10)
    marginal = multivariate_normal(np.zeros(12), X @ X.T / ALPHA + np.eye(12) / BETA).logpdf(y)
    evidence = posterior.log_evidence()
    np.testing.assert_allclose(evidence.value, marginal, rtol=1e-10)
    assert evidence.standard_error == 0.0
    gamma = BETA * np.trace(covariance @ X.T @ X)
    np.testing.assert_allclose(posterior.effective_parameters().value, gamma, rtol=1e-10)


def test_linear_gaussian_prediction_is_that_of_bayesian_regression():
    posterior, X, _ = linear_gaussian()
    new = np.random.default_rng(3).standard_normal((5, 3))
    covariance = np.linalg.inv(BETA * X.T @ X + ALPHA * np.eye(3))
    found = posterior.predict(new)
    np.testing.assert_allclose(found.mean[:, 0], new @ posterior.mode, rtol=1e-12)
    np.testing.assert_allclose(found.variance[:, 0], np.diag(new @ covariance @ new.T) + 1 / BETA, rtol=1e-10)


def test_krylov_agrees_with_the_dense_posterior():
    objective = tanh_net()
    dense, products = Laplace(objective), Laplace(objective, structure="krylov", rng=0)
    np.testing.assert_allclose(products.covariance(), dense.covariance(), rtol=1e-6, atol=1e-9)
    low, high = products.log_evidence().interval
    assert low <= dense.log_evidence().value <= high
    low, high = products.effective_parameters().interval
    assert low <= dense.effective_parameters().value <= high
    assert products.num_products > 0
    Z = np.random.default_rng(0).standard_normal((dense.num_parameters, 4))
    inverse_root = scipy.linalg.sqrtm(np.linalg.inv(np.linalg.inv(dense.covariance()) / 0.1 / 30))
    np.testing.assert_allclose(products._precision.root(Z), np.real(inverse_root) @ Z / np.sqrt(3.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [("squared_error", 2), ("softmax_cross_entropy", 3), ("binary_cross_entropy", 2), ("poisson", 1)],
)
def test_full_diagonal_and_last_layer_equal_dense_matrices_from_differences(loss, outputs):
    objective = tanh_net(loss=loss, outputs=outputs, l2=0.05)
    alpha = 0.05 * 30
    G, _ = gauss_newton(objective, objective.X)
    A = G + alpha * np.eye(len(G))
    last = np.arange(9, len(G))
    cases = {"full": A, "diagonal": np.diag(np.diag(A)), "last_layer": A[np.ix_(last, last)]}
    for structure, expected in cases.items():
        posterior = Laplace(objective, structure=structure)
        np.testing.assert_allclose(posterior.log_determinant().value, np.linalg.slogdet(expected)[1], rtol=1e-7)
        np.testing.assert_allclose(posterior.covariance(), np.linalg.inv(expected), rtol=1e-5, atol=1e-9)
        gamma = len(expected) - alpha * np.trace(np.linalg.inv(expected))
        np.testing.assert_allclose(posterior.effective_parameters().value, gamma, rtol=1e-6)
        theta = posterior.mode
        prior = 0.5 * theta.size * np.log(alpha / (2 * np.pi)) - 0.5 * alpha * theta @ theta
        np.testing.assert_allclose(posterior.log_prior(), prior, rtol=1e-12)


@pytest.mark.parametrize("separate_bias", [True, False])
def test_kfac_equals_kronecker_products_written_out(separate_bias):
    objective = tanh_net(loss="softmax_cross_entropy", outputs=3)
    alpha, X = 0.1 * 30, objective.X
    net = objective.net
    z1 = np.tanh(X @ net.weights(1).T + net.biases(1))
    p = softmax(net.forward(X), axis=1)
    Q = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None, :]
    D = net.weights(2)[None] * (1 - z1**2)[:, None, :]
    blocks = []
    for z, B in ((X, np.einsum("nci,ncd,ndj->ij", D, Q, D)), (z1, Q.sum(axis=0))):
        one = np.column_stack([z, np.ones(30)])
        if separate_bias:
            blocks += [np.kron(B, z.T @ z / 30), B]
        else:
            blocks.append(np.kron(B, one.T @ one / 30))
    A = scipy.linalg.block_diag(*blocks) + alpha * np.eye(net.num_parameters)
    posterior = Laplace(objective, structure="kfac", separate_bias=separate_bias)
    np.testing.assert_allclose(posterior.log_determinant().value, np.linalg.slogdet(A)[1], rtol=1e-10)
    gamma = len(A) - alpha * np.trace(np.linalg.inv(A))
    np.testing.assert_allclose(posterior.effective_parameters().value, gamma, rtol=1e-10)
    if separate_bias:
        np.testing.assert_allclose(posterior.covariance(), np.linalg.inv(A), atol=1e-12)


def test_the_variance_of_outputs_is_that_of_the_linearised_net():
    objective = tanh_net(loss="softmax_cross_entropy", outputs=3)
    new = np.random.default_rng(5).standard_normal((4, 2))
    J = jacobian(objective.net, new)
    for structure in STRUCTURES:
        posterior = Laplace(objective, structure=structure, rng=0)
        part = J[:, :, posterior.positions]
        expected = np.einsum("ncp,pq,ndq->ncd", part, posterior.covariance(), part)
        found = posterior.predict(new)
        np.testing.assert_allclose(found.output_covariance, expected, rtol=1e-5, atol=1e-8)
        kappa = 1 / np.sqrt(1 + np.pi / 8 * np.einsum("ncc->nc", expected))
        np.testing.assert_allclose(found.mean, softmax(kappa * objective.net.forward(new), axis=1), rtol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_samples_have_the_posterior_covariance(structure):
    posterior = Laplace(tanh_net(samples=10), structure=structure, rng=0)
    num = 100 if structure == "krylov" else 20000
    drawn = posterior.sample(num, rng=1)[:, posterior.positions] - posterior.mode
    inverse = np.linalg.inv(posterior.covariance())
    squares = np.einsum("sp,pq,sq->s", drawn, inverse, drawn)  # chi-squared with k degrees of freedom
    k = posterior.num_parameters
    assert abs(squares.mean() - k) <= 5 * np.sqrt(2 * k / num)


def test_monte_carlo_agrees_with_the_exact_moments_of_the_linearised_model():
    posterior = Laplace(tanh_net(), rng=0)
    new = np.random.default_rng(5).standard_normal((3, 2))
    exact, drawn = posterior.predict(new), posterior.predict(new, method="monte_carlo", num_samples=2000, rng=2)
    error = np.sqrt(np.einsum("ncc->nc", exact.output_covariance) / 2000)
    assert (np.abs(drawn.mean - exact.mean) <= 5 * error).all()
    np.testing.assert_allclose(drawn.output_covariance, exact.output_covariance, rtol=5 * np.sqrt(2 / 2000))
    network = posterior.predict(new, method="network", num_samples=5, rng=2)
    direct = [posterior.objective.net.with_theta(t).forward(new) for t in posterior.sample(5, rng=2)]
    assert network.method == "network"
    np.testing.assert_allclose(network.mean, np.mean(direct, axis=0), rtol=1e-10)


def test_an_indefinite_hessian_is_refused_by_its_smallest_eigenvalue_or_replaced():
    net = Network((1, 1, 1), "identity", [0.0, 0.0], bias=False)  # the saddle of a two-layer linear net
    objective = Objective(net, [[1.0]], [2.0], loss="squared_error", l2=0.5)
    for structure in ("full", "krylov"):
        with pytest.raises(ValueError, match=r"smallest eigenvalue .* must be positive, got -"):
            Laplace(objective, curvature="hessian", structure=structure, rng=0)
    with pytest.raises(ValueError, match=r"got -1\.5"):
        Laplace(objective, curvature="hessian")
    with pytest.warns(RuntimeWarning, match=r"eigenvalue -1\.5"):
        posterior = Laplace(objective, curvature="hessian", fallback="gauss_newton")
    assert posterior.curvature == "gauss_newton"


def test_a_point_that_is_no_mode_is_told_with_its_gradient_whatever_the_scale():
    for scale in (1e-6, 1.0, 1e6):
        net = Network((1, 1), "identity", [3.0 * scale], bias=False)
        objective = Objective(net, [[1.0]], [2.0 * scale], loss="squared_error", l2=1.0)
        with pytest.warns(RuntimeWarning, match=r"\|grad\| = .* above 0.001 times"):
            Laplace(objective)
        Laplace(objective.at([scale]))


def test_improper_priors_have_predictions_but_no_evidence():
    net = Network((1, 1), "identity", [2.0, 0.0])
    objective = Objective(net, [[-1.0], [1.0]], [-2.0, 2.0], loss="squared_error")
    posterior = Laplace(objective)
    np.testing.assert_allclose(posterior.covariance(), np.eye(2) / 2, rtol=1e-12)
    with pytest.raises(ValueError, match="0 on 2 of 2: an improper prior has no evidence"):
        posterior.log_evidence()
    with pytest.raises(ValueError, match="structure 'krylov', got 0 at parameter 0"):
        Laplace(objective, structure="krylov")
    with pytest.raises(ValueError, match="posterior is improper"):
        Laplace(Objective(net, [[0.0]], [0.0], loss="squared_error"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"structure": "low_rank"}, "structure must be one of"),
        ({"curvature": "fisher"}, "curvature must be one of"),
        ({"noise_precision": 0.0}, "noise_precision must be positive"),
        ({"prior_precision": -1.0}, "prior_precision must be at least 0, got -1"),
        ({"prior_precision": [1.0, 2.0]}, r"prior_precision must be a scalar or have shape \(13,\)"),
        ({"structure": "kfac", "curvature": "hessian"}, "kfac"),
        ({"fallback": "diagonal"}, "fallback must be"),
    ],
)
def test_bad_arguments_are_named(options, match):
    objective = tanh_net()
    with pytest.raises(ValueError, match=match):
        Laplace(objective, **options)


def test_losses_without_noise_have_no_noise_precision_and_huber_no_likelihood():
    with pytest.raises(ValueError, match="noise_precision must be 1 for loss 'binary_cross_entropy'"):
        Laplace(tanh_net(loss="binary_cross_entropy"), noise_precision=2.0)
    net = Network((1, 1), "identity")
    with pytest.raises(ValueError, match="huber"):
        Laplace(Objective(net, [[1.0]], [0.0], loss="huber", l2=1.0))


def test_reestimation_ends_at_the_maximum_of_the_linear_gaussian_evidence():
    posterior, X, y = linear_gaussian()
    best = posterior.optimize_hyperparameters(tol=1e-8)
    history = best.history
    assert history.status is Status.CONVERGED

    def minus_evidence(logs):
        alpha, beta = np.exp(logs)
        return -multivariate_normal(np.zeros(12), X @ X.T / alpha + np.eye(12) / beta).logpdf(y)

    truth = scipy.optimize.minimize(minus_evidence, np.zeros(2), method="Nelder-Mead", options={"fatol": 1e-12})
    np.testing.assert_allclose(history.log_evidences[-1], -truth.fun, rtol=1e-8)
    np.testing.assert_allclose([best.prior_precision[0], best.noise_precision], np.exp(truth.x), rtol=1e-3)
    assert posterior.history is None


def test_interrupted_work_keeps_what_it_has():
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    posterior, _, _ = linear_gaussian()
    best = posterior.optimize_hyperparameters(tol=1e-15, progress=stop)
    assert best.history.status is Status.INTERRUPTED
    assert len(best.history.log_evidences) == 3
    compared = compare_models({"a": posterior, "b": posterior, "c": posterior}, progress=stop)
    assert (compared.names, compared.status) == (("a", "b"), Status.INTERRUPTED)
    drawn = posterior.predict(np.ones((1, 3)), method="monte_carlo", progress=stop)
    assert drawn.status is Status.INTERRUPTED
    assert np.isfinite(drawn.mean).all()


def test_results_are_stored(tmp_path):
    posterior, X, _ = linear_gaussian()
    best = posterior.optimize_hyperparameters()
    results = {
        "posterior": posterior.summary(), "prediction": posterior.predict(X), "history": best.history,
        "comparison": compare_models({"before": posterior, "after": best}),
    }  # fmt: skip
    assert results["comparison"].best == "after"
    store = ResultStore(tmp_path / "laplace.h5")
    for name, result in results.items():
        store.save(name, result)
        loaded = store.load(name)
        for field, value in vars(result).items():
            np.testing.assert_array_equal(getattr(loaded, field), value)
        assert str(loaded) == str(result)


def test_the_laplace_bridge_is_the_mean_of_its_dirichlet_distribution():
    posterior = Laplace(tanh_net(loss="softmax_cross_entropy", outputs=3))
    found = posterior.predict(np.random.default_rng(5).standard_normal((4, 2)), method="bridge")
    for f, V, mean in zip(found.output_mean, found.output_covariance, found.mean, strict=True):
        f = f - V.sum(axis=1) * f.sum() / V.sum()
        V = V - np.outer(V.sum(axis=1), V.sum(axis=0)) / V.sum()
        c = np.diag(V).mean() / np.sqrt(3 / 2)
        f, v = f / np.sqrt(c), np.diag(V) / c
        counts = (1 - 2 / 3 + np.exp(f) * np.exp(-f).sum() / 9) / v
        np.testing.assert_allclose(mean, counts / counts.sum(), rtol=1e-10)


def test_noise_precision_keeps_a_minimum_of_the_objective_with_a_prior_of_the_same_ratio():
    objective = tanh_net()
    with pytest.warns(RuntimeWarning, match="prior_precision = beta"):
        Laplace(objective, noise_precision=9.0)
    posterior = Laplace(objective, noise_precision=9.0, prior_precision=9.0 * 30 * 0.1)
    G, _ = gauss_newton(objective, objective.X)
    expected = np.linalg.inv(9.0 * (G + 3.0 * np.eye(len(G))))
    np.testing.assert_allclose(posterior.covariance(), expected, rtol=1e-5, atol=1e-10)


def wide_posterior(**options):
    """A 3-40-3 net at a minimum, W = 283, as an objective and dense matrices; spectrum with outliers and a bulk."""
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((50, 3)), rng.integers(0, 3, 50)
    net = Network((3, 40, 3), "tanh")
    objective = Objective(net, X, y, loss="softmax_cross_entropy", l2=1e-3)
    found = scipy.optimize.minimize(
        lambda t: objective.at(t).value(), net.random_theta(2), jac=lambda t: objective.at(t).gradient(),
        method="L-BFGS-B", options={"ftol": 0.0, "gtol": 1e-8, "maxiter": 5000, "maxfun": 10000},
    )  # fmt: skip
    return objective.at(found.x)


def test_preconditioned_quadrature_holds_the_determinant_and_gamma_and_is_the_narrower_one():
    objective = wide_posterior()
    G, _ = gauss_newton(objective, objective.X)
    A = G + 0.05 * np.eye(len(G))
    exact = np.linalg.slogdet(A)[1], len(G) - 0.05 * np.trace(np.linalg.inv(A))
    widths = {}
    for rank in (0, 60):
        posterior = Laplace(objective, structure="krylov", rank=rank, num_probes=20, num_steps=20, rng=0)
        widths[rank] = []
        for estimate, value in zip((posterior.log_determinant(), posterior.effective_parameters()), exact, strict=True):
            low, high = estimate.interval
            assert low <= value <= high
            widths[rank].append(high - low)
        logdet = posterior.log_determinant()
        assert logdet.num_products == rank + 400
        assert posterior.num_products == logdet.num_products + posterior.effective_parameters().num_products
    assert widths[60][0] < widths[0][0] / 5
    assert widths[60][1] < widths[0][1] / 2


def test_intervals_of_the_preconditioned_determinant_cover_it():
    objective = wide_posterior()
    G, _ = gauss_newton(objective, objective.X)
    exact = np.linalg.slogdet(G + 0.05 * np.eye(len(G)))[1]
    held = 0
    for seed in range(40):
        posterior = Laplace(objective, structure="krylov", rank=30, num_probes=20, num_steps=15, rng=seed)
        low, high = posterior.log_determinant().interval
        held += low <= exact <= high
    assert held >= 34  # fewer have a probability of 0.3 % at 95 % coverage


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rank": -1}, "rank must be"),
        ({"rank": 14}, "rank must be"),
        ({"num_probes": 0}, "num_probes must be"),
        ({"num_steps": 14}, "num_steps must be"),
    ],
)
def test_bad_settings_of_quadrature_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        Laplace(tanh_net(), structure="krylov", **options)


def test_a_hessian_through_products_agrees_with_the_dense_one():
    objective = tanh_net(samples=40)
    dense = Laplace(objective, curvature="hessian")
    products = Laplace(objective, curvature="hessian", structure="krylov", rank=5, rng=0)
    for name in ("log_determinant", "effective_parameters"):
        low, high = getattr(products, name)().interval
        assert low <= getattr(dense, name)().value <= high
    V = np.random.default_rng(0).standard_normal((13, 3))
    np.testing.assert_allclose(products.apply_covariance(V), dense.covariance() @ V, rtol=1e-6)
    with pytest.raises(ValueError, match=r"V must have shape \(13, m\), got \(13,\)"):
        dense.apply_covariance(V[:, 0])


def stop_at(last):
    def stop(done, total):
        if done >= last:
            raise KeyboardInterrupt

    return stop


def test_interrupted_predictions_hold_the_rows_that_were_done():
    posterior = Laplace(tanh_net(loss="softmax_cross_entropy", outputs=3), rng=0)
    new = np.random.default_rng(0).standard_normal((300, 2))
    for method in ("probit", "bridge"):
        whole, part = posterior.predict(new, method=method), posterior.predict(new, method=method, progress=stop_at(1))
        done = int(np.isfinite(part.mean[:, 0]).sum())
        assert 0 < done < 300
        assert (whole.status, part.status) == (Status.CONVERGED, Status.INTERRUPTED)
        np.testing.assert_array_equal(part.mean[:done], whole.mean[:done])
        np.testing.assert_array_equal(part.output_covariance[:done], whole.output_covariance[:done])
        for values in (part.mean, part.variance, part.output_covariance):
            assert np.isnan(values[done:]).all()


def test_predictions_from_interrupted_samples_are_of_those_that_were_drawn():
    posterior = Laplace(tanh_net(), rng=0)
    new = np.random.default_rng(0).standard_normal((4, 2))
    for method in ("monte_carlo", "network"):
        few = posterior.predict(new, method=method, num_samples=5, rng=3)
        part = posterior.predict(new, method=method, num_samples=50, rng=3, progress=stop_at(5))
        assert part.status is Status.INTERRUPTED
        np.testing.assert_array_equal(part.mean, few.mean)
        np.testing.assert_array_equal(part.variance, few.variance)
        one = posterior.predict(new, method=method, rng=3, progress=stop_at(1))
        assert one.status is Status.INTERRUPTED
        assert np.isnan(one.mean).all()


def test_interrupted_samples_are_those_that_were_drawn():
    posterior = Laplace(tanh_net(), structure="krylov", rng=0)
    whole = posterior.sample(5, rng=1)
    with pytest.warns(RuntimeWarning, match="interrupted: 2 of 5 samples"):
        part = posterior.sample(5, rng=1, progress=stop_at(2))
    np.testing.assert_array_equal(part, whole[:2])


def test_an_interrupted_determinant_says_so_and_is_taken_up_again():
    posterior = Laplace(wide_posterior(), structure="krylov", rank=20, num_probes=40, num_steps=10, rng=0)
    part = posterior.log_determinant(progress=stop_at(200))
    assert part.status is Status.INTERRUPTED
    assert part.num_products < 20 + 400
    assert posterior.log_determinant().status is Status.CONVERGED


def test_an_interrupt_before_the_first_probe_leaves_no_number(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    posterior = Laplace(tanh_net(), structure="krylov", rng=0)
    with monkeypatch.context() as patch:
        patch.setattr(type(posterior._precision), "_preconditioner", interrupted)
        for part in (posterior.log_evidence(), posterior.effective_parameters()):
            assert part.status is Status.INTERRUPTED
            assert np.isnan(part.value)
            assert part.interval == (-np.inf, np.inf)
    assert posterior.log_evidence().status is Status.CONVERGED


def test_products_in_single_precision_hold_the_determinant():
    objective = tanh_net(loss="softmax_cross_entropy", outputs=3)
    single = Objective(
        objective.net, np.asarray(objective.X), np.asarray(objective.y), loss=objective.loss, l2=0.1, dtype=np.float32
    )
    for rank in (0, 5, None):
        double, found = (
            Laplace(one, structure="krylov", rank=rank, rng=0).log_determinant() for one in (objective, single)
        )
        low, high = found.interval  # of the same probes: what is between the two is rounding
        assert low <= double.value <= high
        np.testing.assert_allclose(found.value, double.value, rtol=1e-5)


def test_a_refit_reaches_its_mode_for_precisions_that_are_far_apart():
    objective = tanh_net(loss="softmax_cross_entropy", outputs=3)
    far = np.where(np.arange(objective.num_parameters) % 2, 1e2, 1e-4)
    regularised = objective.like(objective.X, objective.y, objective.sample_weight, l2=far)
    fitted = _minimized(regularised, np.arange(objective.num_parameters))
    gradient = regularised.at(fitted).gradient()
    assert np.linalg.norm(gradient) <= 1e-3 * np.linalg.norm(far * fitted)
