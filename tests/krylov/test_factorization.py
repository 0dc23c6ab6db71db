"""The factorisation under eigsh; the checkers use closed forms, LAPACK and products in float64, never the solver."""

import numpy as np
import pytest

import zoo
from krylovh.krylov.factorization import LanczosFactorization


@pytest.mark.parametrize("name", ["laplacian", "two_point", "identity", "zero", "cluster_1e-9", "goe", "ladder"])
@pytest.mark.parametrize("locked", [0, 3])
def test_the_factorisation_holds_after_every_step_and_restart(name, locked):
    n, capacity = 60, 12
    M = zoo.CATALOGUE[name](n).matrix()
    X = np.linalg.eigh(M)[1][:, n - locked :]
    rng = np.random.default_rng(0)
    start = rng.standard_normal(n)
    start -= X @ (X.T @ start)
    f = LanczosFactorization(M.dot, n, capacity, start / np.linalg.norm(start), locked=X if locked else None, rng=rng)
    bound = 50 * 2.0**-52 * max(np.abs(M).sum(axis=0).max(), 1e-300)
    for _ in range(100):
        if f.size == f.capacity:
            f.restart(f.ritz(), np.array([0, 1, 9, 10, 11]))
            assert f.size == 5
        else:
            f.extend()
        V, r = f.V, f.residual
        deflated = M @ V - X @ (X.T @ (M @ V))
        assert np.abs(deflated - V @ f.T - np.outer(r, f.coupling)).max() <= bound
        assert np.abs(V.T @ V - np.eye(f.size)).max() <= 1e-14
        assert np.abs(X.T @ V).max(initial=0.0) <= 1e-14
        assert f.beta == pytest.approx(np.linalg.norm(r), rel=1e-12, abs=bound)
        assert np.abs(V.T @ r).max() <= bound
        ritz = f.ritz()
        Y = V @ ritz.coordinates
        true = np.linalg.norm(M @ Y - X @ (X.T @ (M @ Y)) - Y * ritz.values, axis=0)
        assert np.abs(true - ritz.residual_norms).max() <= bound
