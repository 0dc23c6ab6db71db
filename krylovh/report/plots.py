"""Interactive plots as plain data: traces and axes in the terms of plotly.js, without colours.

A trace says by its ``meta.role`` what it shows (an estimate, exact values, ...); the page's script gives it the colour
of that role in the light or the dark theme.  A plot has one or more *views*, such as a signed-log and a linear axis,
between which the reader switches, and *ranges* that buttons zoom to.  No view has more than some thousand points:
quadrature nodes are counted in bins, but for the outermost, which are where one zooms to.
"""

import base64
import html
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.results import (
    BlockSolveResult,
    ChebyshevDensity,
    EigenResult,
    LeaveOneOutResult,
    LossCurves,
    PruningResult,
    RetrainResult,
    Scale,
    SolveResult,
    SpectralDensity,
    SpectrumTrack,
    TrainingResult,
    signed_log,
)

Plot = dict[str, Any]
Array = NDArray[np.float64]

__all__ = ["Plot", "plots_of", "typed"]

_POINTS = 1200  # of a curve
_BINS = 1500  # of quadrature nodes
_SCALES: dict[Scale, str] = {"signed_log": "logarithmic eigenvalues", "linear": "linear eigenvalues"}
_OUTERMOST = 200  # nodes at each end that are shown one by one


def plots_of(name: str, result: Any, results: Mapping[str, Any]) -> dict[str, Plot]:
    """Return the plots of a result by title; none for results without a picture.

    Examples
    --------
    >>> from krylovh import cg
    >>> list(plots_of("solution", cg(np.diag([1.0, 2.0]), np.ones(2)), {}))
    ['convergence']
    """
    if isinstance(result, SpectralDensity):
        return _density(result, results) if result.num_probes else {}
    if isinstance(result, EigenResult):
        return {"eigenvalues": _eigenvalues(result)} if len(result.eigenvalues) else {}
    if isinstance(result, (SolveResult, BlockSolveResult, TrainingResult, RetrainResult)):
        return {"convergence": _convergence(result)}
    if isinstance(result, np.ndarray) and result.ndim == 2 and result.shape[0] == result.shape[1] <= 100:
        return {"blocks": _blocks(result)}
    makers: dict[type, Any] = {
        ChebyshevDensity: _chebyshev, SpectrumTrack: _track, LossCurves: _curves, PruningResult: _pruning,
        LeaveOneOutResult: _influence,
    }  # fmt: skip
    maker = makers.get(type(result))
    return {} if maker is None else {"plot": maker(result)}


def typed(values: Any) -> Any:
    """Return numbers in the binary form that plotly.js reads: less to write, and quicker to read.

    Examples
    --------
    >>> typed([1.0, 2.0])
    {'dtype': 'f8', 'bdata': 'AAAAAAAA8D8AAAAAAAAAQA=='}
    """
    array = np.ascontiguousarray(values, dtype="<f8")
    form = {"dtype": "f8", "bdata": base64.b64encode(array.tobytes()).decode()}
    return form if array.ndim == 1 else {**form, "shape": ", ".join(map(str, array.shape))}


def _plain(text: str) -> str:
    """Return text in which plotly.js, which reads some HTML in labels, finds none."""
    return html.escape(text, quote=False)


def _trace(role: str, x: Any, y: Any, name: str, **options: Any) -> dict[str, Any]:
    """Return a trace; lines and markers are coloured by the page."""
    return {"type": "scatter", "meta": {"role": role}, "x": typed(x), "y": typed(y), "name": name, **options}


def _band(x: Any, y: Any, name: str) -> dict[str, Any]:
    return _trace("band", x, y, name, fill="toself", mode="none", hoverinfo="skip")


def _line(eigenvalues: Array, shown: str) -> dict[str, Any]:
    """Return how a line over eigenvalues is drawn, and what it shows at each."""
    return {"mode": "lines", "customdata": typed(eigenvalues), "hovertemplate": f"{shown}<extra></extra>"}


def _view(traces: list[dict[str, Any]], x: str, y: str, **layout: Any) -> dict[str, Any]:
    axes = {axis: {"title": {"text": title}, **layout.get(axis, {})} for axis, title in (("xaxis", x), ("yaxis", y))}
    return {"data": traces, "layout": axes}


def _one_view(traces: list[dict[str, Any]], x: str, y: str, **layout: Any) -> Plot:
    return {"views": {"": _view(traces, x, y, **layout)}, "ranges": {"": {}}}


def _density(density: SpectralDensity, results: Mapping[str, Any]) -> dict[str, Plot]:
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


def _spectrum_view(traces: list[dict[str, Any]], y: str, density: SpectralDensity, scale: Scale) -> dict[str, Any]:
    ticks: dict[str, Any] = {}
    if scale == "signed_log":
        low, high = density.support
        top = int(np.floor(np.log10(max(abs(low), abs(high)) or 1.0)))
        powers = range(top, top - 4, -1)
        values = [-(10.0**p) for p in powers if -(10.0**p) >= 1.5 * low] + [0.0]
        values += [10.0**p for p in powers if 10.0**p <= 1.5 * high]
        texts = ["0" if value == 0 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") for value in values]
        ticks = {"tickvals": _place(values, scale, density).tolist(), "ticktext": texts}
    return _view(traces, "eigenvalue", y, xaxis=ticks)


def _density_view(density: SpectralDensity, scale: Scale, results: Mapping[str, Any]) -> dict[str, Any]:
    grid = density.grid(_POINTS, scale=scale)
    x = _place(grid, scale, density)
    mean, error = _smoothed_rules(density, x, scale)
    peak = _peak(density, scale)
    floor = 0.2 * peak
    low, high = np.maximum(mean - error, floor), np.maximum(mean + error, floor)
    line = _line(grid, "eigenvalue %{customdata:.6g}<br>density %{y:.4g}")
    traces = [
        _band(np.r_[x, x[::-1]], np.r_[high, low[::-1]], "standard error"),
        _trace("estimate", x, np.maximum(mean, floor), "stochastic Lanczos", **line),
    ]  # fmt: skip
    exact = _exact(results)
    if exact is not None:
        places = _place(exact, scale, density)
        smoothed = _smoothed(places, np.full(exact.size, 1 / exact.size), x, _width(density, scale))
        y = np.maximum(smoothed, floor)
        traces.append(_trace("exact", x, y, "exact spectrum", **line))
    values, errors, kinds = _known(density, results)
    if values.size:
        text = [
            f"{kind}<br>{value:.10g} ± {bound:.1e}" for value, bound, kind in zip(values, errors, kinds, strict=True)
        ]
        height = np.full(values.size, peak)
        traces.append(
            _trace(
                "outlier", _place(values, scale, density), height, "eigenpairs", mode="markers", text=text,
                hoverinfo="text",
            )
        )  # fmt: skip
    view = _spectrum_view(traces, "density", density, scale)
    view["layout"]["yaxis"] |= {"type": "log", "exponentformat": "power"}
    return view


def _cumulative_view(density: SpectralDensity, scale: Scale, results: Mapping[str, Any]) -> dict[str, Any]:
    grid = density.grid(_POINTS, scale=scale)
    x = _place(grid, scale, density)
    low, high = density.band(grid)
    line = _line(grid, "%{y:.4f} of the eigenvalues<br>at most %{customdata:.6g}")
    traces = [
        _band(np.r_[x, x[::-1]], np.r_[high, low[::-1]], "95 % band"),
        _trace("estimate", x, density.cumulative(grid), "stochastic Lanczos", **line),
    ]  # fmt: skip
    exact = _exact(results)
    if exact is not None:
        share = np.searchsorted(exact, grid, side="right") / len(exact)
        traces.append(_trace("exact", x, share, "exact spectrum", **line))
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
        _trace(
            "node", _place(nodes, scale, density), np.maximum(weights, tiny), "nodes", mode="markers", text=text,
            hoverinfo="text",
        )
    ]  # fmt: skip
    view = _spectrum_view(traces, "weight (share of eigenvalues)", density, scale)
    view["layout"]["yaxis"] |= {"type": "log", "exponentformat": "power"}
    return view


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
            kinds += [_plain(name)] * len(result.eigenvalues)
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
    return np.sort(exact) if isinstance(exact, np.ndarray) and exact.ndim == 1 and exact.size else None


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


def _eigenvalues(result: EigenResult) -> Plot:
    order = np.argsort(result.eigenvalues)[::-1]
    values, errors = result.eigenvalues[order], result.residual_norms[order]
    text = [f"{value:.12g}<br>residual {error:.2e}" for value, error in zip(values, errors, strict=True)]
    bars = {"type": "data", "array": typed(errors), "visible": True}
    rank = np.arange(1, len(values) + 1)
    trace = _trace(
        "outlier", rank, values, "eigenvalue ± residual", mode="markers", error_y=bars, text=text, hoverinfo="text"
    )  # fmt: skip
    return _one_view([trace], "rank", "eigenvalue") | {"logarithmic": bool(values.min() > 0)}


def _convergence(result: SolveResult | BlockSolveResult | TrainingResult | RetrainResult) -> Plot:
    x, y = "iteration", "residual norm"
    if isinstance(result, TrainingResult):
        lines = [(result.num_products_history, result.gradient_norm_history, _plain(result.method))]
        x, y = "products", "gradient norm"
    elif isinstance(result, RetrainResult):
        lines = [(np.arange(len(result.gradient_history)), result.gradient_history, "retrain")]
        x, y = "Newton step", "gradient norm"
    elif isinstance(result, SolveResult):
        lines = [(np.arange(len(result.residual_history)), result.residual_history, _plain(result.solver))]
    else:
        steps = np.arange(len(result.residual_history))
        lines = [(steps, column, f"system {i}") for i, column in enumerate(result.residual_history.T)]
    traces = [
        _trace(
            f"line{i % 6}", xs, np.where(ys > 0, ys, np.nan), label, mode="lines+markers",
            hovertemplate="%{x}: %{y:.4g}",
        )
        for i, (xs, ys, label) in enumerate(lines)
    ]  # fmt: skip
    plot = _one_view(traces, x, y, yaxis={"type": "log", "exponentformat": "power"})
    return plot | {"logarithmic": True}


def _blocks(norms: Array) -> Plot:
    labels = [str(l + 1) for l in range(len(norms))]
    shown = np.log10(np.maximum(norms, 1e-12 * (norms.max() or 1.0)))
    trace = {
        "type": "heatmap", "meta": {"role": "heat"}, "x": labels, "y": labels, "z": shown.tolist(),
        "customdata": norms.tolist(), "colorscale": "Cividis", "colorbar": {"title": {"text": "log10 norm"}},
        "hovertemplate": "layers %{y}, %{x}<br>Frobenius norm %{customdata:.6g}<extra></extra>", "name": "norms",
    }  # fmt: skip
    return _one_view(
        [trace], "layer", "layer", xaxis={"type": "category"}, yaxis={"type": "category", "autorange": "reversed"}
    )


def _chebyshev(density: ChebyshevDensity) -> Plot:
    if density.num_probes == 0:
        return _one_view([], "eigenvalue", "density")
    grid = density.grid(_POINTS)
    return _one_view(
        [_trace("estimate", grid, density.density(grid), "kernel polynomial", mode="lines")], "eigenvalue", "density"
    )


def _track(track: SpectrumTrack) -> Plot:
    steps = np.arange(len(track.eigenvalues))
    traces = [
        _trace(
            f"line{i % 6}", steps, values, f"eigenvalue {i + 1}", mode="lines+markers",
            error_y={"type": "data", "array": typed(errors), "visible": True},
        )
        for i, (values, errors) in enumerate(zip(track.eigenvalues.T[::-1], track.residual_norms.T[::-1], strict=True))
    ]  # fmt: skip
    return _one_view(traces, "step of training", "eigenvalue")


def _curves(curves: LossCurves) -> Plot:
    traces = []
    for i, curvature in enumerate(curves.curvatures):
        name = f"curvature {curvature:.3g}"
        traces.append(_trace(f"line{i % 6}", curves.distances, curves.values[i], name, mode="lines+markers"))
        traces.append(
            _trace(f"dashed{i % 6}", curves.distances, curves.quadratic[i], f"{name}, quadratic", mode="lines")
        )
    return _one_view(traces, "distance along the direction", "objective")


def _pruning(result: PruningResult) -> Plot:
    left = result.num_remaining + len(result.removed) - result.num_removed
    before = result.losses[: len(result.predicted)]
    traces = [
        _trace("estimate", left, result.losses, f"{_plain(result.method)}: objective", mode="lines"),
        _trace(
            "outlier", left[1 : len(before) + 1], before + result.predicted, "predicted for the step", mode="markers"
        ),
    ]
    if result.validation_losses is not None:
        traces.append(_trace("line2", left, result.validation_losses, "validation", mode="lines"))
    plot = _one_view(traces, "parameters left", "loss", xaxis={"autorange": "reversed"})
    return plot | {"logarithmic": bool(np.all(result.losses > 0))}


def _influence(result: LeaveOneOutResult) -> Plot:
    actual, predicted = result.actual.ravel(), result.predicted.ravel()
    known = np.isfinite(actual) & np.isfinite(predicted)
    rows = np.repeat(result.rows, result.actual.shape[1])[known]
    every = np.concatenate([actual[known], predicted[known], [0.0]])
    ends = [every.min(), every.max()]
    traces = [
        _trace("exact", ends, ends, "equal", mode="lines", hoverinfo="skip"),
        _trace(
            "estimate", actual[known], predicted[known], "samples", mode="markers", text=[f"row {row}" for row in rows]
        ),
    ]
    return _one_view(traces, "change after retraining", "predicted change")
