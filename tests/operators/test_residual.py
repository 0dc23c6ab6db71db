"""H = G + S, and quadratic forms without a backward pass."""

import numpy as np
import pytest
from krylovh.kernels import LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import (
    EmpiricalFisherOperator,
    GaussNewtonOperator,
    HessianOperator,
    Network,
    Objective,
    ResidualOperator,
    trace,
)

EPS = {np.float64: np.finfo(np.float64).eps, np.float32: np.finfo(np.float32).eps}
MATRICES = [HessianOperator, GaussNewtonOperator, ResidualOperator, EmpiricalFisherOperator]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_hessian_is_gauss_newton_plus_residual(loss, topology, dtype):
    objective, arguments, settings = problem(topology, "softplus", loss, weighted=True, ridge=True, dtype=dtype)
    V = np.random.default_rng(0).standard_normal((objective.num_parameters, 4)).astype(dtype)
    H, G, S = (matrix(objective) @ V for matrix in (HessianOperator, GaussNewtonOperator, ResidualOperator))
    norm = np.linalg.norm(oracles.complex_step_hessian(*arguments, **settings), 2)
    assert (np.linalg.norm(H - G - S, axis=0) <= 10 * EPS[dtype] * norm * np.linalg.norm(V, axis=0)).all()
    difference = oracles.complex_step_hessian(*arguments, **settings) - oracles.gauss_newton_matrix(
        *arguments, **settings
    )
    assert np.abs(S - difference @ V).max() <= 50 * EPS[dtype] * norm * np.abs(V).sum(axis=0).max()


def test_the_residual_vanishes_for_a_linear_net_and_where_residuals_are_zero():
    rng = np.random.default_rng(1)
    linear, *_ = problem("chain", "identity", "poisson")
    flat = Network((5, 4), "identity", rng.standard_normal(24))
    objective = Objective(flat, rng.standard_normal((9, 5)), rng.poisson(1.0, (9, 4)), loss="poisson", l2=0.3)
    assert not (ResidualOperator(objective) @ np.eye(24)).any()  # no regulariser either
    assert (ResidualOperator(linear) @ np.eye(linear.num_parameters)).any()  # deep linear nets are not linear in theta
    net, X = linear.net, rng.standard_normal((9, 5))
    exact_fit = Objective(net, X, net.forward(X), loss="squared_error")
    assert not (ResidualOperator(exact_fit) @ np.eye(net.num_parameters)).any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("limit", [None, 0])
@pytest.mark.parametrize("matrix", MATRICES, ids=lambda matrix: matrix.__name__)
def test_quadratic_forms_equal_products(matrix, limit, topology, dtype):
    objective, *_ = problem(
        topology, "silu", weighted=True, ridge=True, dtype=dtype, memory_limit=limit, output="tanh",
        loss="squared_error",
    )  # fmt: skip
    A = matrix(objective)
    for k in (1, 5, 20):
        V = np.random.default_rng(k).standard_normal((objective.num_parameters, k)).astype(dtype)
        expected = np.einsum("pk,pk->k", V, A @ V, dtype=np.float64)
        found = A.quadratic_form(V)
        assert found.shape == (k,)
        assert found.dtype == np.float64
        magnitude = np.einsum("pk,pk->k", np.abs(V), np.abs(A @ V))
        assert (np.abs(found - expected) <= 50 * EPS[dtype] * magnitude).all()
        damped = A.damped(0.5).quadratic_form(V)
        assert np.allclose(damped, found + 0.5 * (V.astype(float) ** 2).sum(axis=0), rtol=20 * EPS[dtype])
    assert A.num_products == 3 * 26 + 26  # quadratic forms, those of the damped operator, and two products each


def test_the_trace_estimator_asks_for_quadratic_forms(monkeypatch):
    objective, *_ = problem()
    H = HessianOperator(objective)
    by_products = trace(H + 0.0 * H, num_products=40, rng=0)
    monkeypatch.setattr(HessianOperator, "_matmat", lambda *_: pytest.fail("a product was computed"))
    by_forms = trace(H, num_products=40, rng=0)
    assert by_forms.value == pytest.approx(by_products.value, rel=1e-12)
    assert by_forms.num_products == 40


@pytest.mark.parametrize("V", [np.ones(3), np.ones((3, 2)), np.ones((2, 2, 2))])
def test_quadratic_forms_refuse_other_shapes(V):
    objective, *_ = problem()
    with pytest.raises(ValueError, match=rf"V must have shape \({objective.num_parameters}, k\), got"):
        HessianOperator(objective).quadratic_form(V)


def test_quadratic_forms_refuse_complex_vectors():
    objective, *_ = problem()
    with pytest.raises(TypeError, match="real numbers"):
        HessianOperator(objective).quadratic_form(np.ones((objective.num_parameters, 1), complex))


@pytest.mark.parametrize("accumulation", [np.float16, np.float32, "int64"])
def test_accumulation_is_the_dtype_or_float64(accumulation):
    objective, *_ = problem()
    with pytest.raises(ValueError, match="accumulation must be float64 or float64, got"):
        HessianOperator(objective, accumulation=accumulation)


def test_float64_sums_keep_the_accuracy_of_float32_for_many_samples():
    objective, arguments, settings = problem("chain", "tanh", dtype=np.float32, num_samples=60_000, ridge=True)
    V = np.random.default_rng(0).standard_normal((objective.num_parameters, 3)).astype(np.float32)
    expected = np.array(
        [oracles.complex_step_product(*arguments[:2], v, *arguments[2:], **settings) for v in V.T.astype(float)]
    ).T
    errors = []
    for accumulation in (None, np.float64):
        product = HessianOperator(objective, accumulation=accumulation) @ V
        assert product.dtype == np.float32
        errors.append(np.linalg.norm(product - expected) / np.linalg.norm(expected))
    assert errors[1] <= 5e-7
    assert errors[1] < errors[0]
