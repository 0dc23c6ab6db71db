"""Pictures of densities: what is drawn, read back from the axes."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest

from krylovh import SpectralDensity, eigsh, spectral_density
from krylovh.plotting import VERMILION, plot_cumulative, plot_density

matplotlib.use("Agg")

SPECTRUM = np.concatenate([np.linspace(-0.01, 0.1, 290), np.linspace(2, 20, 10)])


@pytest.fixture(scope="module")
def deflated():
    A = np.diag(SPECTRUM)
    return spectral_density(A, num_steps=20, rng=0, outliers=eigsh(A, 10, rng=0))


def curve(ax):
    line = next(line for line in ax.get_lines() if line.get_label().startswith("stochastic Lanczos"))
    return line.get_xdata(), line.get_ydata()


@pytest.mark.parametrize("scale", ["linear", "signed_log"])
def test_outliers_stand_apart_from_the_curve(deflated, scale):
    ax = plot_density(deflated, scale=scale)
    marks = next(line for line in ax.get_lines() if line.get_label() == "10 deflated outliers")
    assert marks.get_color() == VERMILION
    assert len(marks.get_xdata()) == 10
    x, y = curve(ax)
    far = x > marks.get_xdata().min() - np.ptp(x) / 50
    assert y[far].max() == ax.get_ylim()[0]  # the curve lies on the floor there
    alone = SpectralDensity(np.array([[20.0]]), np.array([[1 / 300]]), 300, 1, 0, deflated.status)
    if scale == "linear":  # each is as high as the curve would be over one eigenvalue
        width = np.ptp(deflated.support) / 100
        assert marks.get_ydata()[0] == pytest.approx(alone.density(20.0, width=width))


def test_without_outliers_there_is_nothing_to_stand_apart(deflated):
    for density in (replace(deflated, outliers=None), replace(deflated, outliers=np.empty(0))):
        labels = plot_density(density).get_legend_handles_labels()[1]
        assert labels == ["stochastic Lanczos ± standard error"]


def test_the_cumulative_picture_ends_at_one(deflated):
    _, y = curve(plot_cumulative(deflated, exact=SPECTRUM))
    assert y[0] == 0
    assert y[-1] == pytest.approx(1)
