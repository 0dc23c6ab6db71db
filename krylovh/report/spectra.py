"""Spectra on the page: density, cumulative spectrum and quadrature nodes, on both axes.

No view has more than some thousand points: quadrature nodes are counted in bins, but for the outermost, which are
where one zooms to.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from krylovh.report.traces import Array, Plot, Trace, band_between, curve_over, plain, trace, view
from krylovh.results import EigenResult, Scale, SpectralDensity, signed_log

_POINTS = 1200  # of a curve
_BINS = 1500  # of quadrature nodes
_OUTERMOST = 200  # nodes at each end that are shown one by one
_SCALES: dict[Scale, str] = {"signed_log": "logarithmic eigenvalues", "linear": "linear eigenvalues"}

__all__ = ["density_plots"]


def density_plots(density: SpectralDensity, results: Mapping[str, Any]) -> dict[str, Plot]:
    """Return the density, the cumulative spectrum and the nodes, each on both axes."""
    makers = {"density": _density_view, "cumulative spectrum": _cumulative_view, "quadrature nodes": _nodes_view}
    plots: dict[str, Plot] = {}
    for title, make in makers.items():
        views, ranges = {}, {}
        for scale, label in _SCALES.items():
            views[label] = make(density, scale, results)
            ranges[label] = _ranges(density, scale, results)
        plots[title] = {"views": views, "ranges": ranges, "logarithmic": title != "cumulative spectrum"}
    return plots


def _place(values: Any, scale: Scale, density: SpectralDensity) -> Array:
    values = np.asarray(values, dtype=np.float64)
    return values if scale == "linear" else signed_log(values, density.log_threshold)


def _spectrum_view(traces: list[Trace], y: str, density: SpectralDensity, scale: Scale) -> dict[str, Any]:
    ticks: dict[str, Any] = {}
    if scale == "signed_log":
        low, high = density.support
        top = int(np.floor(np.log10(max(abs(low), abs(high)) or 1.0)))
        powers = range(top, top - 4, -1)
        values = [-(10.0**p) for p in powers if -(10.0**p) >= 1.5 * low] + [0.0]
        values += [10.0**p for p in powers if 10.0**p <= 1.5 * high]
        texts = ["0" if value == 0 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") for value in values]
        ticks = {"tickvals": _place(values, scale, density).tolist(), "ticktext": texts}
    return view(traces, "eigenvalue", y, xaxis=ticks)


def _density_view(density: SpectralDensity, scale: Scale, results: Mapping[str, Any]) -> dict[str, Any]:
    grid = density.grid(_POINTS, scale=scale)
    x = _place(grid, scale, density)
    mean, error = _smoothed_rules(density, x, scale)
    peak = _peak(density, scale)
    floor = 0.2 * peak
    low, high = np.maximum(mean - error, floor), np.maximum(mean + error, floor)
    options = curve_over(grid, "eigenvalue %{customdata:.6g}<br>density %{y:.4g}")
    traces = [
        band_between(np.r_[x, x[::-1]], np.r_[high, low[::-1]], "standard error"),
        trace("estimate", x, np.maximum(mean, floor), "stochastic Lanczos", **options),
    ]  # fmt: skip
    exact = _exact(results)
    if exact is not None:
        places = _place(exact, scale, density)
        smoothed = _smoothed(places, np.full(exact.size, 1 / exact.size), x, _width(density, scale))
        y = np.maximum(smoothed, floor)
        traces.append(trace("exact", x, y, "exact spectrum", **options))
    values, errors, kinds = _known(density, results)
    if values.size:
        text = [
            f"{kind}<br>{value:.10g} ± {bound:.1e}" for value, bound, kind in zip(values, errors, kinds, strict=True)
        ]
        height = np.full(values.size, peak)
        traces.append(
            trace(
                "outlier", _place(values, scale, density), height, "eigenpairs", mode="markers", text=text,
                hoverinfo="text",
            )
        )  # fmt: skip
    shown = _spectrum_view(traces, "density", density, scale)
    shown["layout"]["yaxis"] |= {"type": "log", "exponentformat": "power"}
    return shown


def _cumulative_view(density: SpectralDensity, scale: Scale, results: Mapping[str, Any]) -> dict[str, Any]:
    grid = density.grid(_POINTS, scale=scale)
    x = _place(grid, scale, density)
    low, high = density.band(grid)
    options = curve_over(grid, "%{y:.4f} of the eigenvalues<br>at most %{customdata:.6g}")
    traces = [
        band_between(np.r_[x, x[::-1]], np.r_[high, low[::-1]], "95 % band"),
        trace("estimate", x, density.cumulative(grid), "stochastic Lanczos", **options),
    ]  # fmt: skip
    exact = _exact(results)
    if exact is not None:
        share = np.searchsorted(exact, grid, side="right") / len(exact)
        traces.append(trace("exact", x, share, "exact spectrum", **options))
    return _spectrum_view(traces, "share of eigenvalues below", density, scale)


def _nodes_view(density: SpectralDensity, scale: Scale, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nodes of all probes with their weights: the outermost one by one, the others in bins."""
    known = ~np.isnan(density.nodes)
    order = np.argsort(density.nodes[known], kind="stable")
    nodes, weights = density.nodes[known][order], density.weights[known][order] / density.num_probes
    counts = np.ones(nodes.size)
    if nodes.size > _BINS + 2 * _OUTERMOST:
        inner = slice(_OUTERMOST, nodes.size - _OUTERMOST)
        places = _place(nodes[inner], scale, density)
        edges = np.linspace(places[0], places[-1], _BINS + 1)[1:-1]
        bins = np.searchsorted(edges, places)
        total, weight = np.bincount(bins, minlength=_BINS), np.bincount(bins, weights[inner], minlength=_BINS)
        centre = np.bincount(bins, nodes[inner] * weights[inner], minlength=_BINS)
        mean = np.bincount(bins, nodes[inner], minlength=_BINS)
        full = total > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = np.where(weight > 0, centre / weight, mean / total)[full]
        nodes = np.concatenate([nodes[:_OUTERMOST], middle, nodes[-_OUTERMOST:]])
        weights = np.concatenate([weights[:_OUTERMOST], weight[full], weights[-_OUTERMOST:]])
        counts = np.concatenate([np.ones(_OUTERMOST), total[full], np.ones(_OUTERMOST)])
    text = [
        f"{'node' if count == 1 else f'{count:.0f} nodes around'} {node:.8g}<br>weight {weight:.3g}"
        for node, weight, count in zip(nodes, weights, counts, strict=True)
    ]
    tiny = 1e-16
    traces = [
        trace(
            "node", _place(nodes, scale, density), np.maximum(weights, tiny), "nodes", mode="markers", text=text,
            hoverinfo="text",
        )
    ]  # fmt: skip
    shown = _spectrum_view(traces, "weight (share of eigenvalues)", density, scale)
    shown["layout"]["yaxis"] |= {"type": "log", "exponentformat": "power"}
    return shown


def _ranges(density: SpectralDensity, scale: Scale, results: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return what the zoom buttons show: all, the bulk, and the outliers at either end."""
    low, high = density.support
    inner_low, median, inner_high = _quantiles(density, (0.01, 0.5, 0.99))

    def around(a: float, b: float) -> list[float]:
        a, b = (float(v) for v in _place([a, b], scale, density))
        margin = 0.06 * ((b - a) or 1.0)
        return [a - margin, b + margin]

    ranges = {"all": around(low, high), "bulk": around(inner_low, inner_high)}
    values = _known(density, results)[0]
    upper, lower = values[values > max(median, 0.0)], values[values < min(median, 0.0)]
    ranges["largest"] = around(float(upper.min(initial=high)) if upper.size else inner_high, high)
    ranges["smallest"] = around(low, float(lower.max(initial=low)) if lower.size else inner_low)
    return ranges


def _quantiles(density: SpectralDensity, shares: tuple[float, ...]) -> list[float]:
    """Return the points below which these shares of the weight lie."""
    known = ~np.isnan(density.nodes)
    order = np.argsort(density.nodes[known], kind="stable")
    below = np.cumsum(density.weights[known][order])
    positions = np.searchsorted(below, np.asarray(shares) * below[-1])
    return [float(node) for node in density.nodes[known][order][np.minimum(positions, below.size - 1)]]


def _known(density: SpectralDensity, results: Mapping[str, Any]) -> tuple[Array, Array, list[str]]:
    """Return eigenvalues that were computed, with their residuals and what they are called."""
    values, errors, kinds = [], [], []
    for name, result in results.items():
        if isinstance(result, EigenResult):
            values.append(result.eigenvalues)
            errors.append(result.residual_norms)
            kinds += [plain(name)] * len(result.eigenvalues)
    if not values and density.outliers is not None:
        return (
            density.outliers,
            np.full(density.outliers.size, density.outlier_error),
            ["outlier"] * density.outliers.size,
        )
    if not values:
        return np.empty(0), np.empty(0), []
    return np.concatenate(values), np.concatenate(errors), kinds


def _exact(results: Mapping[str, Any]) -> Array | None:
    exact = results.get("exact")
    if not isinstance(exact, np.ndarray) or exact.ndim != 1 or not exact.size or not np.isfinite(exact).all():
        return None
    return np.asarray(np.sort(exact))


def _smoothed_rules(density: SpectralDensity, x: Array, scale: Scale) -> tuple[Array, Array]:
    """Return the smoothed density and its standard error over probes, as ``SpectralDensity.density`` defines them.

    Nodes are shared out between the two nearest points of a fine grid, so that the work does not grow with them; with
    30 points per standard deviation that changes the curve by less than one part in a thousand.
    """
    width = _width(density, scale)
    curves = np.empty((density.num_probes, x.size))
    for curve, nodes, weights in zip(curves, density.nodes, density.weights, strict=True):
        known = ~np.isnan(nodes)
        curve[:] = _smoothed(_place(nodes[known], scale, density), weights[known], x, width)
    error = curves.std(axis=0, ddof=1) / np.sqrt(len(curves)) if len(curves) > 1 else np.zeros(x.size)
    return curves.mean(axis=0), error


def _smoothed(places: Array, weights: Array, x: Array, width: float) -> Array:
    """Return the sum of Gaussians at places, through a grid of 30 points per standard deviation."""
    low, step = x[0] - 5 * width, width / 30
    position = np.clip((places - low) / step, 0, None)
    first = position.astype(np.int64)
    size = int(np.ceil((x[-1] + 5 * width - low) / step)) + 2
    first = np.minimum(first, size - 2)
    right = np.clip(position - first, 0, 1)
    mass = np.bincount(first, weights * (1 - right), size) + np.bincount(first + 1, weights * right, size)
    offsets = np.arange(-180, 181) * step / width
    smooth = np.convolve(mass, np.exp(-0.5 * offsets**2) / (width * np.sqrt(2 * np.pi)), mode="same")
    return np.asarray(np.interp(x, low + step * np.arange(size), smooth))


def _width(density: SpectralDensity, scale: Scale) -> float:
    """Return the standard deviation of the smoothing: 1/100 of the range."""
    low, high = (float(v) for v in _place(density.support, scale, density))
    return ((high - low) or abs(high) or 1.0) / 100


def _peak(density: SpectralDensity, scale: Scale) -> float:
    """Return how high the curve is over a single eigenvalue."""
    return 1.0 / float(density.dimension * _width(density, scale) * np.sqrt(2 * np.pi))
