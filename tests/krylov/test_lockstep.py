"""Lanczos processes in lockstep: the invariant of each, and independence of the others."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from krylovh.krylov import lockstep
from krylovh.krylov.lockstep import LockstepLanczos
from krylovh.krylov.orthogonalize import orthogonalize
from krylovh.krylov.symmetric import SymmetricOperator

EPS = np.finfo(np.float64).eps


def strakos(rho, n=24, low=0.1, high=100.0):
    i = np.arange(1, n + 1)
    return low + (i - 1) / (n - 1) * (high - low) * rho ** (n - i)


def unit_columns(n, b, seed=0):
    V = np.random.default_rng(seed).standard_normal((n, b))
    return V / np.linalg.norm(V, axis=0)


def run(A, V, num_steps, **options):
    processes = LockstepLanczos(SymmetricOperator(A), V, num_steps, **options)
    while processes.active.size:
        processes.step()
    return processes


SPECTRA = {
    "uniform": np.linspace(-1, 1, 60),
    "strakos": strakos(0.65, n=60),
    "cluster": np.concatenate([1 + 1e-12 * np.arange(5), 1e-3 * np.arange(55)]),
    "graded": np.logspace(-12, 0, 60),
    "outliers and zeros": np.concatenate([np.zeros(30), [100.0, -50.0], 1e-3 * np.arange(28)]),
}


def rule(processes, i):
    """Return nodes and weights of process i."""
    m = processes.steps[i]
    alphas, betas = processes.alphas[i, :m], processes.betas[i, : m - 1]
    nodes, vectors = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
    return np.ldexp(nodes, processes.exponent), vectors[0] ** 2


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA.keys())
def test_every_process_is_a_lanczos_factorisation(spectrum):
    """``A Q = Q T + r e_m'``, ``Q'Q = I`` and ``|r| = beta_m``."""
    A, V = np.diag(spectrum), unit_columns(60, 3)
    processes = run(A, V, 40, level=0.0)
    for i, m in enumerate(processes.steps):
        Q = processes._basis[i, :m].T
        alphas, betas = (np.ldexp(x[i, :m], processes.exponent) for x in (processes.alphas, processes.betas))
        T = np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)
        R = A @ Q - Q @ T
        bound = 50 * EPS * np.abs(spectrum).max()
        assert np.abs(Q.T @ Q - np.eye(m)).max() <= 1e-13
        assert np.abs(R[:, :-1]).max(initial=0.0) <= bound
        assert abs(np.linalg.norm(R[:, -1]) - betas[-1]) <= bound
        np.testing.assert_array_equal(Q[:, 0], V[:, i])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA.keys())
def test_a_semiorthogonal_basis_gives_the_moments_of_an_orthonormal_one(spectrum, dtype):
    """Inner products stay below the root of machine epsilon, moments v'T_k(A)v are right to machine epsilon (Simon).

    T itself may differ: what the last steps see of a nearly invariant space is rounding.
    """
    V = unit_columns(60, 3)
    processes = run(np.diag(spectrum).astype(dtype), V, 40)
    eps, radius = float(np.finfo(dtype).eps), np.abs(spectrum).max()
    for i, m in enumerate(processes.steps):
        Q = processes._basis[i, :m].astype(np.float64)
        assert np.abs(Q @ Q.T - np.eye(m)).max() <= 2 * np.sqrt(eps)
        nodes, weights = rule(processes, i)
        angles, exact = np.arccos(np.clip(nodes / radius, -1, 1)), np.arccos(spectrum / radius)
        for k in range(2 * m):
            expected = np.cos(k * exact) @ V[:, i] ** 2
            assert np.cos(k * angles) @ weights == pytest.approx(expected, abs=50 * (k + 1) * eps)


def count_of_orthogonalisations(monkeypatch):
    calls = []
    monkeypatch.setattr(lockstep, "orthogonalize", lambda Q, w: calls.append(Q.shape[1]) or orthogonalize(Q, w))
    return calls


def test_few_vectors_are_orthogonalised(monkeypatch):
    """Without a converged Ritz value none; on a spectrum with outliers two after each that converges."""
    calls = count_of_orthogonalisations(monkeypatch)
    run(np.diag(np.linspace(-1, 1, 1000)), unit_columns(1000, 1), 30)
    assert not calls
    spectrum = np.concatenate([np.linspace(0, 1, 990), np.linspace(2, 20, 10)])
    run(np.diag(spectrum), unit_columns(1000, 1), 90)
    assert 4 <= len(calls) <= 40
    calls.clear()
    run(np.diag(spectrum), unit_columns(1000, 1), 90, level=0.0)
    assert calls == list(range(1, 91))


@pytest.mark.parametrize("noise", [1e-12, 1e-8, 1e-4])
def test_noise_in_the_products_is_noticed_and_the_basis_stays_semiorthogonal(noise):
    spectrum = np.concatenate([np.linspace(0, 1, 290), np.linspace(2, 20, 10)])
    rng = np.random.default_rng(0)
    noisy = LinearOperator(
        (300, 300),
        matvec=lambda v: spectrum * v.ravel() + noise * np.linalg.norm(spectrum * v.ravel()) * rng.uniform(-1, 1, 300),
        dtype=np.float64,
    )
    processes = run(noisy, unit_columns(300, 2), 90)
    for Q in processes._basis:
        assert np.abs(Q @ Q.T - np.eye(90)).max() <= 1e-7


def test_processes_do_not_see_each_other():
    A, V = np.diag(np.linspace(-1, 2, 50)), unit_columns(50, 4)
    together = run(A, V, 20)
    for i in range(4):
        alone = run(A, V[:, i : i + 1], 20)
        for a, b in [(together.alphas[i], alone.alphas[0]), (together.betas[i], alone.betas[0])]:
            np.testing.assert_allclose(np.ldexp(a, together.exponent), np.ldexp(b, alone.exponent), rtol=0, atol=1e-13)


def test_an_invariant_process_leaves_the_block():
    """One start vector is an eigenvector, one lies in a plane, one is general."""
    widths = []
    d = np.arange(1.0, 11.0)

    def matmat(V):
        widths.append(V.shape[1])
        return d[:, None] * V

    V = unit_columns(10, 3)
    V[:, 0] = np.eye(10)[3]
    V[:, 1] = (np.eye(10)[2] + np.eye(10)[8]) / np.sqrt(2)
    A = SymmetricOperator(LinearOperator((10, 10), matvec=lambda v: d * v, matmat=matmat, dtype=np.float64))
    processes = LockstepLanczos(A, V, 6)
    while processes.active.size:
        processes.step()
    np.testing.assert_array_equal(processes.steps, [1, 2, 6])
    np.testing.assert_array_equal(processes.invariant, [True, True, False])
    assert widths == [3, 2, 1, 1, 1, 1]
    assert A.num_products == 9


def test_the_whole_space_is_invariant_only_with_orthogonal_vectors():
    A, V = np.diag(strakos(0.65)), unit_columns(24, 1)
    assert run(A, V, 24).invariant[0]
    assert not run(A, V, 24, reorthogonalize=False).invariant[0]


def test_without_reorthogonalisation_two_vectors_are_kept():
    A, V = np.diag(np.linspace(0, 1, 50)), unit_columns(50, 2)
    short, full = run(A, V, 12, reorthogonalize=False), run(A, V, 12)
    assert short._basis.shape == (2, 2, 50)
    np.testing.assert_allclose(short.alphas, full.alphas, rtol=0, atol=1e-13)  # nothing has converged yet


def test_start_vectors_are_not_written():
    V = unit_columns(30, 2)
    before = V.copy()
    run(np.diag(np.linspace(0, 1, 30)), V, 10)
    np.testing.assert_array_equal(V, before)
