"""Misuse of eigsh, and operators that are not symmetric."""

import numpy as np
import pytest

import zoo
from eigenpairs import check, operator_of
from krylovh import eigsh
from krylovh.krylov.symmetry import check_symmetry


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, r"k must be in \[1, 5\], got 0"),
        ({"k": -1}, ValueError, "got -1"),
        ({"k": 6}, ValueError, r"k must be in \[1, 5\], got 6"),
        ({"k": 2.0}, TypeError, r"k must be an integer, in \[1, 5\], got 2.0"),
        ({"k": "all"}, TypeError, "k must be an integer"),
        ({"which": "LR"}, ValueError, "which must be one of"),
        ({"tol": -1e-3}, ValueError, "tol must be in"),
        ({"tol": np.nan}, ValueError, "tol must be in"),
        ({"ncv": 2}, ValueError, "ncv must be in"),
        ({"ncv": 6}, ValueError, "ncv must be in"),
        ({"v0": np.zeros(5)}, ValueError, "v0 must not be zero"),
        ({"v0": np.full(5, np.nan)}, ValueError, "v0 must be finite"),
        ({"v0": np.ones(4)}, ValueError, r"v0 must have shape \(5,\), got \(4,\)"),
        ({"v0": np.ones(5) * 1j}, ValueError, "v0 must be real"),
        ({"rng": -1}, ValueError, "rng must be"),
        ({"max_products": -1}, ValueError, "max_products must be"),
        ({"max_restarts": -1}, ValueError, "max_restarts must be"),
    ],
)
def test_misuse_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        eigsh(np.eye(5), **{"k": 2, **arguments})


def test_an_empty_operator_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        eigsh(operator_of(lambda v: v, 0), 1)


def test_a_rectangular_or_complex_operator_is_refused():
    with pytest.raises(ValueError, match="square"):
        eigsh(np.ones((3, 4)), 1)
    with pytest.raises(TypeError, match="real"):
        eigsh(np.eye(3) * 1j, 1)


def test_interior_eigenvalues_of_a_large_operator_are_refused_with_advice():
    with pytest.raises(ValueError, match=r"'SM' must have n <= 4000, got n = 5000.*inverse"):
        eigsh(operator_of(lambda v: v, 5000), 2, which="SM")


def test_interior_eigenvalues_of_a_medium_operator_come_from_the_whole_spectrum():
    reference = zoo.goe(300)
    result = eigsh(reference.operator(), 5, which="SM")
    check(result, reference, 5, "SM", 1e-8, 2.0**-52)
    assert result.num_products == 305


@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("size", [1.0, 1e-8])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_single_wrong_entry_is_noticed(n, size, dtype):
    if size < 1e-5 and dtype == np.float32:
        pytest.skip("below the rounding of float32")
    M = zoo.goe(n).matrix()
    M[3, 7] += size * M.max()
    with pytest.raises(ValueError, match=r"A must be symmetric: .* differ by"):
        eigsh(M.astype(dtype), 3, rng=0)


@pytest.mark.parametrize("n", [20, 300])
def test_a_random_matrix_and_a_kahan_matrix_are_refused(n):
    s = 0.99
    kahan = np.diag(s ** np.arange(n)) @ (np.eye(n) - 0.1 * np.triu(np.ones((n, n)), 1))
    for M in (np.random.default_rng(0).standard_normal((n, n)), kahan):
        for v0 in (None, np.eye(n)[0]):
            with pytest.raises(ValueError, match="A must be symmetric"):
                eigsh(M, 2, v0=v0, rng=0)


def test_an_asymmetry_that_probes_cannot_see_shows_in_the_residuals():
    n = 300
    M = np.diag(np.linspace(0, 1, n))
    M[-1, -2] = 1e-3
    check_symmetry(M.dot, np.eye(n)[:, :2], M[:, :2], 2.0**-52)  # blind probes
    M[-1, -2] = 1e-13
    result = eigsh(M, 2, tol=1e-16, rng=0)
    X = result.eigenvectors
    true_residuals = np.linalg.norm(M @ X - X * result.eigenvalues, axis=0)
    assert np.abs(result.residual_norms - true_residuals).max() <= 1e-15
