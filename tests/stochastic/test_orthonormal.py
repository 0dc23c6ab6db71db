"""Orthonormal bases of blocks of any condition."""

import numpy as np
import pytest

from krylovh.stochastic.orthonormal import divided_by, thin_qr


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6, 1e9, 1e14, np.inf])
@pytest.mark.parametrize("shape", [(1, 1), (50, 1), (50, 20), (20, 20)])
@pytest.mark.parametrize("order", "CF")
def test_columns_are_orthonormal_and_reproduce_the_block(condition, shape, order):
    n, p = shape
    rng = np.random.default_rng(0)
    U, V = np.linalg.qr(rng.standard_normal((n, p)))[0], np.linalg.qr(rng.standard_normal((p, p)))[0]
    sigma = np.geomspace(1, 1 / condition, p) if np.isfinite(condition) else np.append(np.linspace(1, 0.5, p - 1), 0.0)
    Y = np.array((U * sigma) @ V, order=order)
    before = Y.copy()
    Q, R = thin_qr(Y)
    np.testing.assert_array_equal(Y, before)
    np.testing.assert_allclose(Q.T @ Q, np.eye(p), atol=1e-13)
    np.testing.assert_allclose(Q @ R, Y, atol=1e-14)
    np.testing.assert_array_equal(R, np.triu(R))
    assert Q.flags.f_contiguous


def test_a_division_by_a_triangle_is_undone_by_a_product():
    rng = np.random.default_rng(0)
    Y, R = rng.standard_normal((30, 5)), np.triu(rng.standard_normal((5, 5))) + 3 * np.eye(5)
    np.testing.assert_allclose(divided_by(Y, R) @ R, Y, rtol=1e-12)
