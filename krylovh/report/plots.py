"""The plot of each kind of result, for the page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from krylovh.report.spectra import density_plots
from krylovh.report.traces import Array, Plot, one_view, plain, trace, typed
from krylovh.results import (
    BlockSolveResult,
    ChebyshevDensity,
    EigenResult,
    LeaveOneOutResult,
    LossCurves,
    PruningResult,
    RetrainResult,
    SolveResult,
    SpectralDensity,
    SpectrumTrack,
    TrainingResult,
)

__all__ = ["plots_of"]


def plots_of(name: str, result: Any, results: Mapping[str, Any]) -> dict[str, Plot]:
    """Return the plots of a result by title; none for results without a picture.

    Examples
    --------
    >>> from krylovh import cg
    >>> list(plots_of("solution", cg(np.diag([1.0, 2.0]), np.ones(2)), {}))
    ['convergence']
    """
    if isinstance(result, SpectralDensity):
        return density_plots(result, results) if result.num_probes else {}
    if isinstance(result, EigenResult):
        return {"eigenvalues": _eigenvalues(result)} if len(result.eigenvalues) else {}
    if isinstance(result, (SolveResult, BlockSolveResult, TrainingResult, RetrainResult)):
        return {"convergence": _convergence(result)}
    if isinstance(result, np.ndarray) and _are_norms(result):
        return {"blocks": _blocks(result)}
    makers: dict[type, Any] = {
        ChebyshevDensity: _chebyshev, SpectrumTrack: _track, LossCurves: _curves, PruningResult: _pruning,
        LeaveOneOutResult: _influence,
    }  # fmt: skip
    maker = makers.get(type(result))
    return {} if maker is None else {"plot": maker(result)}


def _eigenvalues(result: EigenResult) -> Plot:
    order = np.argsort(result.eigenvalues)[::-1]
    values, errors = result.eigenvalues[order], result.residual_norms[order]
    text = [f"{value:.12g}<br>residual {error:.2e}" for value, error in zip(values, errors, strict=True)]
    bars = {"type": "data", "array": typed(errors), "visible": True}
    rank = np.arange(1, len(values) + 1)
    points = trace(
        "outlier", rank, values, "eigenvalue ± residual", mode="markers", error_y=bars, text=text, hoverinfo="text"
    )  # fmt: skip
    return one_view([points], "rank", "eigenvalue") | {"logarithmic": bool(values.min() > 0)}


def _convergence(result: SolveResult | BlockSolveResult | TrainingResult | RetrainResult) -> Plot:
    x, y = "iteration", "residual norm"
    if isinstance(result, TrainingResult):
        lines = [(result.num_products_history, result.gradient_norm_history, plain(result.method))]
        x, y = "products", "gradient norm"
    elif isinstance(result, RetrainResult):
        lines = [(np.arange(len(result.gradient_history)), result.gradient_history, "retrain")]
        x, y = "Newton step", "gradient norm"
    elif isinstance(result, SolveResult):
        lines = [(np.arange(len(result.residual_history)), result.residual_history, plain(result.solver))]
    else:
        steps = np.arange(len(result.residual_history))
        lines = [(steps, column, f"system {i}") for i, column in enumerate(result.residual_history.T)]
    traces = [
        trace(
            f"line{i % 6}", xs, np.where(ys > 0, ys, np.nan), label, mode="lines+markers",
            hovertemplate="%{x}: %{y:.4g}",
        )
        for i, (xs, ys, label) in enumerate(lines)
    ]  # fmt: skip
    plot = one_view(traces, x, y, yaxis={"type": "log", "exponentformat": "power"})
    return plot | {"logarithmic": True}


def _are_norms(values: Array) -> bool:
    """Tell whether an array can be norms of the blocks of layers."""
    square = values.ndim == 2 and values.shape[0] == values.shape[1] <= 100 and values.size > 0
    return square and values.dtype.kind == "f" and bool(np.all(np.isfinite(values) & (values >= 0)))


def _blocks(norms: Array) -> Plot:
    labels = [str(l + 1) for l in range(len(norms))]
    shown = np.log10(np.maximum(norms, 1e-12 * (norms.max() or 1.0)))
    heat = {
        "type": "heatmap", "meta": {"role": "heat"}, "x": labels, "y": labels, "z": typed(shown),
        "text": [[f"{norm:.6g}" for norm in row] for row in norms],
        "colorscale": "Cividis", "colorbar": {"title": {"text": "log10 norm"}},
        "hovertemplate": "layers %{y}, %{x}<br>Frobenius norm %{text}<extra></extra>", "name": "norms",
    }  # fmt: skip
    return one_view(
        [heat], "layer", "layer", xaxis={"type": "category"}, yaxis={"type": "category", "autorange": "reversed"}
    )


def _chebyshev(density: ChebyshevDensity) -> Plot:
    if density.num_probes == 0:
        return one_view([], "eigenvalue", "density")
    grid = density.grid(1200)
    return one_view(
        [trace("estimate", grid, density.density(grid), "kernel polynomial", mode="lines")], "eigenvalue", "density"
    )


def _track(track: SpectrumTrack) -> Plot:
    steps = np.arange(len(track.eigenvalues))
    traces = [
        trace(
            f"line{i % 6}", steps, values, f"eigenvalue {i + 1}", mode="lines+markers",
            error_y={"type": "data", "array": typed(errors), "visible": True},
        )
        for i, (values, errors) in enumerate(zip(track.eigenvalues.T[::-1], track.residual_norms.T[::-1], strict=True))
    ]  # fmt: skip
    return one_view(traces, "step of training", "eigenvalue")


def _curves(curves: LossCurves) -> Plot:
    traces = []
    for i, curvature in enumerate(curves.curvatures):
        name = f"curvature {curvature:.3g}"
        traces.append(trace(f"line{i % 6}", curves.distances, curves.values[i], name, mode="lines+markers"))
        traces.append(
            trace(f"dashed{i % 6}", curves.distances, curves.quadratic[i], f"{name}, quadratic", mode="lines")
        )
    return one_view(traces, "distance along the direction", "objective")


def _pruning(result: PruningResult) -> Plot:
    left = result.num_remaining + len(result.removed) - result.num_removed
    before = result.losses[: len(result.predicted)]
    traces = [
        trace("estimate", left, result.losses, f"{plain(result.method)}: objective", mode="lines"),
        trace(
            "outlier", left[1 : len(before) + 1], before + result.predicted, "predicted for the step", mode="markers"
        ),
    ]
    if result.validation_losses is not None:
        traces.append(trace("line2", left, result.validation_losses, "validation", mode="lines"))
    plot = one_view(traces, "parameters left", "loss", xaxis={"autorange": "reversed"})
    return plot | {"logarithmic": bool(np.all(result.losses > 0))}


def _influence(result: LeaveOneOutResult) -> Plot:
    actual, predicted = result.actual.ravel(), result.predicted.ravel()
    known = np.isfinite(actual) & np.isfinite(predicted)
    rows = np.repeat(result.rows, result.actual.shape[1])[known]
    every = np.concatenate([actual[known], predicted[known], [0.0]])
    ends = [every.min(), every.max()]
    traces = [
        trace("exact", ends, ends, "equal", mode="lines", hoverinfo="skip"),
        trace(
            "estimate", actual[known], predicted[known], "samples", mode="markers", text=[f"row {row}" for row in rows]
        ),
    ]
    return one_view(traces, "change after retraining", "predicted change")
