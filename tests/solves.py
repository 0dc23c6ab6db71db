"""Checks of solutions that share no code with the library: products in float64 by the formula of the operator."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from krylovh import Status

EPS = {np.float64: 2.0**-52, np.float32: 2.0**-23}


def right_hand_side(n, seed=0):
    return np.random.default_rng(seed).standard_normal(n)


def operator_of(f, n, dtype=np.float64):
    return LinearOperator((n, n), matvec=lambda v: f(v.ravel()), dtype=dtype)


def check(result, reference, b, rtol, dtype=np.float64):
    """Whatever the status, what the result says of itself is true."""
    norm = np.linalg.norm(b)
    true = np.linalg.norm(b - reference.apply(result.x))
    rounding = 20 * EPS[dtype] * (reference.norm * np.linalg.norm(result.x) + norm)
    assert abs(result.residual_norm - true) <= max(true, rounding)
    assert result.relative_residual == pytest.approx(result.residual_norm / norm, rel=1e-12)
    assert len(result.residual_history) == result.num_iterations + 1
    if result.status == Status.CONVERGED:
        assert true <= rtol * norm + rounding, "false 'converged'"
    assert (result.negative_curvature is not None) == (result.status == Status.NEGATIVE_CURVATURE)
    if result.negative_curvature is not None:
        d = result.negative_curvature
        assert np.linalg.norm(d) == pytest.approx(1, abs=1e-12)
        assert d @ reference.apply(d) <= 0
        assert d @ (b - reference.apply(result.x)) >= -rounding


def graded(reference, dtype):
    """Whether eigenvalues lie between zero and what rounding can tell from it: neither singular nor regular."""
    levels = np.abs(reference.eigenvalues) / (reference.norm or 1)
    return bool(np.any((levels > 100 * np.finfo(np.float64).eps) & (levels < 1e4 * EPS[dtype])))
