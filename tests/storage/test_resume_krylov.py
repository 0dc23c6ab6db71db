"""Eigenpairs, estimates and densities of runs that were stopped: those of runs that were not, to the last bit."""

import numpy as np
import pytest

from krylovh import diagonal, eigsh, logdet, resume, spectral_density, trace
from tests.resumed import Counted, Stopped, differing, often, some

# clusters at the upper end, so that a search has restarts, several approaches, and something to verify
SPECTRUM = np.sort(np.concatenate([np.random.default_rng(1).standard_normal(194), [3.0, 3.0, 3.1, 3.2, 3.25, 3.26]]))
POSITIVE = np.abs(SPECTRUM) + 1

EIGSH = {
    "restarts": (4, {"k": 4, "ncv": 12}),
    "blocks": (3, {"k": 3, "block_size": 3}),
    "both ends": (3, {"k": 3, "which": "BE"}),
    "deflated": (3, {"k": 2, "deflate": np.eye(200)[:, -1:]}),
    "start vector": (2, {"k": 2, "v0": np.ones(200)}),
    "whole spectrum": (2, {"k": 3, "ncv": 200}),
    "interval": (3, {"k": 20, "which": (2.9, 3.5), "tol": 1e-4}),
}
ESTIMATES = {
    "hutchinson": (trace, {"num_products": 40}, SPECTRUM),
    "hutchinson to a target": (trace, {"rtol": 0.03}, POSITIVE),
    "hutch++": (trace, {"method": "hutch++", "num_products": 60, "block_size": 7}, SPECTRUM),
    "hutch++ to a target": (trace, {"method": "hutch++", "rtol": 0.02}, POSITIVE),
    "xtrace": (trace, {"method": "xtrace", "num_products": 48}, SPECTRUM),
    "xnystrace": (trace, {"method": "xnystrace", "num_products": 40}, POSITIVE),
    "bekas": (diagonal, {"num_products": 60}, SPECTRUM),
    "bekas to a target": (diagonal, {"atol": 0.011, "block_size": 5}, SPECTRUM),
    "xdiag": (diagonal, {"method": "xdiag", "num_products": 40}, SPECTRUM),
    "logdet": (logdet, {"num_probes": 10, "num_steps": 6, "block_size": 4}, POSITIVE),
    "logdet to a target": (logdet, {"rtol": 0.1, "num_steps": 10}, POSITIVE),
    "density": (spectral_density, {"num_probes": 5, "num_steps": 10, "block_size": 2}, SPECTRUM),
    "density, two vectors": (spectral_density, {"num_probes": 3, "num_steps": 10, "reorthogonalize": "none"}, SPECTRUM),
}


def check_stops(function, spectrum, keywords, stops, slack, path):
    """Stop a run after some products, resume it, and compare; products made twice are at most ``slack``."""
    whole = Counted(spectrum)
    expected = function(whole, rng=3, **keywords)
    for number, limit in enumerate(np.linspace(0, whole.count - 1, stops).astype(int)):
        file = path / f"{number}.h5"
        with pytest.raises(Stopped):
            function(Counted(spectrum, limit), rng=3, **keywords, checkpoint=often(file))
        rest = Counted(spectrum)
        assert differing(expected, resume(file, rest) if limit else function(rest, rng=3, **keywords)) == []
        assert limit + rest.count <= whole.count + slack
    finished = Counted(spectrum)
    assert differing(expected, function(finished, rng=3, **keywords, checkpoint=file)) == []
    assert finished.count <= 1  # the product that tells an operator


@pytest.mark.parametrize("case", some(EIGSH, {"both ends", "start vector"}))
def test_eigenpairs_of_a_stopped_run_are_those_of_one_that_was_not(case, tmp_path):
    stops, keywords = EIGSH[case]
    # a whole stage that compares bases, or a portion of the filter, may be made again
    slack = {"interval": np.inf, "whole spectrum": 70}.get(case, 16)
    check_stops(eigsh, SPECTRUM, keywords, stops, slack, tmp_path)


@pytest.mark.parametrize("case", some(ESTIMATES, {"hutch++ to a target", "hutchinson", "xnystrace", "logdet", "bekas"}))
def test_estimates_of_a_stopped_run_are_those_of_one_that_was_not(case, tmp_path):
    function, keywords, spectrum = ESTIMATES[case]
    check_stops(function, spectrum, keywords, 3, 18, tmp_path)


@pytest.mark.full
def test_a_search_may_be_stopped_at_every_product(tmp_path):
    check_stops(eigsh, SPECTRUM, {"k": 5, "ncv": 12}, 117, 16, tmp_path)


def test_a_run_that_is_stopped_again_and_again_makes_progress(tmp_path):
    keywords = {"k": 4, "ncv": 12, "rng": 0, "verify": False}
    expected, file, lives = eigsh(Counted(SPECTRUM), **keywords), tmp_path / "run.h5", 0
    while True:
        lives += 1
        try:
            found = eigsh(Counted(SPECTRUM, 20), **keywords, checkpoint=file)  # the default, not often(file)
        except Stopped:
            assert lives < 60
            continue
        break
    assert lives > 3
    assert differing(expected, found) == []


@pytest.mark.parametrize("limit", [30, np.inf])
def test_more_and_closer_eigenpairs_start_from_those_there_are(limit, tmp_path):
    expected = eigsh(Counted(SPECTRUM), 7, tol=1e-10, rng=0)
    file = tmp_path / "run.h5"
    if limit < np.inf:
        with pytest.raises(Stopped):
            eigsh(Counted(SPECTRUM, limit), 3, tol=1e-5, rng=0, checkpoint=often(file))
    else:
        eigsh(Counted(SPECTRUM), 3, tol=1e-5, rng=0, checkpoint=file)
    found = resume(file, Counted(SPECTRUM), k=7, tol=1e-10)
    assert found.status.value == "converged"
    assert found.set_verified
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, atol=1e-8)
    assert (found.residual_norms <= 1e-10 * found.operator_norm).all()
    larger = resume(file, Counted(SPECTRUM), k=9)
    np.testing.assert_allclose(larger.eigenvalues[2:], expected.eigenvalues, atol=1e-8)


def test_a_larger_budget_goes_on_where_the_smaller_one_ended(tmp_path):
    file = tmp_path / "run.h5"
    first = eigsh(Counted(SPECTRUM), 4, ncv=12, rng=0, max_products=40, checkpoint=file)
    assert first.status.value == "budget"
    rest = Counted(SPECTRUM)
    found = resume(file, rest, max_products=None)
    assert found.status.value == "converged"
    whole = eigsh(Counted(SPECTRUM), 4, ncv=12, rng=0)
    assert np.array_equal(found.eigenvalues, whole.eigenvalues)
    assert 36 + rest.count <= whole.num_products + 4


def test_more_probes_join_those_there_are(tmp_path):
    file = tmp_path / "trace.h5"
    trace(Counted(SPECTRUM), num_products=40, rng=0, checkpoint=file)
    more = Counted(SPECTRUM)
    found = resume(file, more, num_products=80)
    assert differing(found, trace(Counted(SPECTRUM), num_products=80, rng=0)) == []
    assert more.count <= 80 - 32 + 1
    file = tmp_path / "density.h5"
    spectral_density(Counted(SPECTRUM), num_probes=4, num_steps=8, rng=0, checkpoint=file)
    found = resume(file, Counted(SPECTRUM), num_probes=6)
    whole = spectral_density(Counted(SPECTRUM), num_probes=6, num_steps=8, rng=0)
    np.testing.assert_allclose(found.nodes, whole.nodes, atol=1e-12)
    assert len({tuple(row) for row in found.nodes.round(8).tolist()}) == 6


def test_a_seed_that_was_drawn_is_the_one_that_goes_on(tmp_path):
    file = tmp_path / "run.h5"
    with pytest.raises(Stopped):
        trace(Counted(SPECTRUM, 20), num_products=40, checkpoint=often(file))
    found = trace(Counted(SPECTRUM), num_products=40, checkpoint=file)
    assert differing(found, trace(Counted(SPECTRUM), num_products=40, rng=found.seed)) == []
