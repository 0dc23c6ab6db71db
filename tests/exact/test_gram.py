"""The spectrum of the Gauss-Newton matrix through the Gram matrix."""

import numpy as np
import pytest
from krylovh.kernels import LOSSES

import oracles
from cases import TOPOLOGIES, problem
from krylovh import GaussNewtonSpectrum, Objective, gauss_newton_spectrum

SIZES = pytest.mark.parametrize("num_samples", [6, 90], ids=["gram", "matrix"])


@SIZES
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_eigenvalues_and_vectors_are_those_of_the_matrix(topology, loss, num_samples):
    objective, arguments, settings = problem(topology, "tanh", loss, weighted=True, num_samples=num_samples, l2=0.125)
    G = oracles.gauss_newton_matrix(*arguments, **settings, l2=0.125)
    expected = np.linalg.eigvalsh(G)
    found = gauss_newton_spectrum(objective, eigenvectors=3)
    r, scale = len(found.eigenvalues), expected[-1]
    assert found.num_remaining == len(G) - r
    assert found.ridge == 0.125
    assert np.abs(found.eigenvalues - expected[len(G) - r :]).max() <= 1e-13 * scale
    assert np.abs(expected[: len(G) - r] - 0.125).max(initial=0) <= 1e-12 * scale
    vectors = found.eigenvectors
    assert vectors.shape == (len(G), 3)
    assert np.linalg.norm(G @ vectors - vectors * found.eigenvalues[-3:], axis=0).max() <= 1e-10 * scale
    assert np.abs(vectors.T @ vectors - np.eye(3)).max() <= 1e-10


def test_rank_of_softmax_is_one_less_for_each_sample():
    objective, *_ = problem(num_samples=5)
    assert len(gauss_newton_spectrum(objective).eigenvalues) == 5 * (objective.net.widths[-1] - 1)


@SIZES
def test_float32_and_chunks(num_samples, monkeypatch):
    expected = gauss_newton_spectrum(problem("residual", "gelu", num_samples=num_samples)[0])
    monkeypatch.setattr("krylovh.objective.CHUNK_BYTES", 1024)
    monkeypatch.setattr(Objective, "_best_tile", 2)
    objective, *_ = problem("residual", "gelu", num_samples=num_samples, dtype=np.float32, memory_limit=0, threads=1)
    assert len(list(objective.chunks())) > 1
    objective.memory_limit = 10**8  # what the spectrum itself may take
    found = gauss_newton_spectrum(objective, eigenvectors=1)
    assert isinstance(found, GaussNewtonSpectrum)
    assert found.eigenvalues.dtype == found.eigenvectors.dtype == np.float32
    common = min(len(found.eigenvalues), len(expected.eigenvalues))
    error = np.abs(found.eigenvalues[-common:] - expected.eigenvalues[-common:]).max()
    assert error <= 20 * np.finfo(np.float32).eps * expected.eigenvalues[-1]


def test_a_zero_matrix_has_no_eigenvalues_but_the_ridge():
    objective, *_ = problem("chain", "tanh", "huber", num_samples=3)
    far = problem("chain", "tanh", "huber", num_samples=3, loss_options={"delta": 1e-9})[0]
    assert len(gauss_newton_spectrum(objective).eigenvalues) > 0
    spectrum = gauss_newton_spectrum(far)
    assert len(spectrum.eigenvalues) == 0
    assert spectrum.num_remaining == far.num_parameters


def test_misuse_is_named():
    with pytest.raises(ValueError, match="l2 must be a scalar, which shifts the spectrum"):
        gauss_newton_spectrum(problem(ridge=True)[0])
    with pytest.raises(ValueError, match=r"eigenvectors must be in \[0, 92\], got 93"):
        gauss_newton_spectrum(problem()[0], eigenvectors=93)
    with pytest.raises(ValueError, match="at most the rank of the data part, 69, got 92"):
        gauss_newton_spectrum(problem()[0], eigenvectors=92)
    for samples in (20, 100):
        with pytest.raises(ValueError, match=r"the spectrum needs \d+ bytes.*memory_limit = 70000"):
            gauss_newton_spectrum(problem(num_samples=samples, memory_limit=70000)[0])
