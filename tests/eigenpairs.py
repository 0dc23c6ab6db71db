"""The checker of eigenpairs: closed forms, LAPACK and products in float64, never the solver."""

import numpy as np
from scipy.sparse.linalg import LinearOperator

from krylovh import Status

ALL_ENDS = ("LA", "SA", "LM", "BE")
TOLERANCE = {np.float64: 1e-8, np.float32: 1e-5}


def wanted(values, k, which):
    """The k wanted of all eigenvalues; magnitudes for LM and SM, where signs may tie."""
    values = np.sort(values)
    low = {"LA": 0, "SA": k, "BE": k // 2}.get(which)
    if low is not None:
        return np.concatenate([values[:low], values[values.size - (k - low) :]])
    magnitudes = np.sort(np.abs(values))
    return magnitudes[-k:] if which == "LM" else magnitudes[:k]


def match_distinct_eigenvalues(found, values, tolerance):
    """Whether found values are within the tolerance of distinct eigenvalues, both ascending: greedy is optimal."""
    position = 0
    for value in found:
        while position < values.size and values[position] < value - tolerance:
            position += 1
        if position == values.size or values[position] > value + tolerance:
            return False
        position += 1
    return True


def check(result, reference, k, which, tol, eps):
    bound = (tol + 10 * eps) * reference.norm
    X, theta = result.eigenvectors, result.eigenvalues
    assert (result.status, result.set_verified) == (Status.CONVERGED, True)
    assert X.shape == (reference.n, k)
    assert (np.diff(theta) >= 0).all()
    true_residuals = np.linalg.norm(reference.apply(X) - X * theta, axis=0)
    assert (true_residuals <= bound).all()
    error = np.abs(result.residual_norms - true_residuals)
    assert (error <= np.maximum(2 * true_residuals, 10 * eps * reference.norm)).all()
    assert np.abs(X.T @ X - np.eye(k)).max() <= 1e-13
    distance = np.abs(np.subtract.outer(theta, reference.eigenvalues)).min(axis=1)
    assert (distance <= result.value_bounds + 10 * np.sqrt(reference.n) * eps * reference.norm).all(), "wrong bound"
    found = np.sort(np.abs(theta)) if which in ("LM", "SM") else theta
    assert np.abs(found - wanted(reference.eigenvalues, k, which)).max() <= bound, "wrong set"
    assert match_distinct_eigenvalues(theta, reference.eigenvalues, bound), "wrong signs or copies"


def operator_of(f, n, dtype=np.float64):
    """An operator from a function of one vector of shape (n,)."""
    return LinearOperator((n, n), matvec=lambda v: f(v.ravel()), dtype=dtype)


def strakos_bottom(name, which):
    """Eigenvalues that crowd together geometrically: nobody's Krylov method resolves them."""
    return name in ("strakos", "minimum", "power_law", "kac_murdock_szego") and which in ("SA", "BE")
