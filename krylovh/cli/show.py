"""Results as tables for people and as JSON for programs."""

import json
import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from krylovh.results import EigenResult, Estimate, SpectralDensity

__all__ = ["as_json", "show_results", "to_json", "verdicts"]

Array = np.ndarray[Any, np.dtype[np.float64]]


def show_results(results: Mapping[str, Any], console: Console) -> None:
    """Print every result with its error; next to the exact spectrum where that is among them."""
    exact = results.get("exact")
    for name, result in results.items():
        if isinstance(result, EigenResult):
            console.print(_eigenvalue_table(name, result, exact))
    summary = Table(title="whole spectrum", title_justify="left", box=None, pad_edge=False)
    for column in ("quantity", "estimate", "error", "products"):
        summary.add_column(column, justify="left" if column == "quantity" else "right")
    if exact is not None:
        summary.add_column("exact", justify="right")
    for name, result in results.items():
        if isinstance(result, Estimate):
            row = [name, f"{result.value:.6g}", f"± {result.standard_error:.2g}", str(result.num_products)]
            summary.add_row(*row, *([] if exact is None else [f"{exact.sum():.6g}"]))
        elif isinstance(result, SpectralDensity):
            for label, estimate, error, truth in _shares(result, exact):
                row = [label, f"{estimate:.4f}", error, str(result.num_products)]
                summary.add_row(*row, *([] if truth is None else [f"{truth:.4f}"]))
    if summary.row_count:
        console.print(summary)
    for name, result in results.items():
        if not isinstance(result, (EigenResult, Estimate, SpectralDensity)) and name != "exact":
            console.print(f"{name}: {_text(result)}", markup=False, highlight=False)
    for line in verdicts(results):
        console.print(line, highlight=False)


def _eigenvalue_table(name: str, result: EigenResult, exact: Array | None) -> Table:
    verified = "set verified" if result.set_verified else "set NOT verified"
    title = f"{name} eigenvalues: {result.status}, {verified}, {result.num_products} products"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("rank", "eigenvalue", "residual"):
        table.add_column(column, justify="right")
    if exact is not None:
        table.add_column("exact", justify="right")
    outermost = slice(None, None, -1) if name != "smallest" else slice(None)
    truth = None if exact is None else np.sort(exact)[outermost]
    pairs = list(zip(result.eigenvalues[outermost], result.residual_norms[outermost], strict=True))
    for rank, (value, residual) in enumerate(pairs, start=1):
        row = [str(rank), f"{value:.10g}", f"{residual:.1e}"]
        table.add_row(*row, *([] if truth is None else [f"{truth[rank - 1]:.10g}"]))
    return table


def _shares(density: SpectralDensity, exact: Array | None) -> list[tuple[str, float, str, float | None]]:
    """Shares of the spectrum between some points, with the width that the band leaves."""
    largest = max(abs(v) for v in density.support)
    rows = []
    for fraction in (-1e-3, 1e-3, 1e-1):
        point = np.array([fraction * largest])
        lower, upper = density.band(point)
        truth = None if exact is None else float(np.mean(exact <= point[0]))
        label = f"share of eigenvalues <= {point[0]:.3g}"
        rows.append((label, float(density.cumulative(point)[0]), f"[{lower[0]:.4f}, {upper[0]:.4f}]", truth))
    return rows


def verdicts(results: Mapping[str, Any]) -> list[str]:
    """Say for each estimate whether the exact answer lies within its error; nothing without an exact spectrum."""
    exact = results.get("exact")
    if exact is None:
        return []
    values = np.sort(exact)
    rounding = 64 * np.finfo(np.float64).eps * np.abs(values).max()
    lines = []
    for name, result in results.items():
        if isinstance(result, EigenResult):
            k = len(result.eigenvalues)
            truth = values[-k:] if name == "largest" else values[:k]
            inside = int(np.sum(np.abs(truth - result.eigenvalues) <= result.residual_norms + rounding))
            lines.append(
                _verdict(inside == k, f"{name} eigenvalues: {inside} of {k} within their residual of the exact")
            )
        elif isinstance(result, Estimate):
            low, high = result.interval
            inside = low <= values.sum() <= high
            lines.append(
                _verdict(inside, f"{name}: the exact value is {'in' if inside else 'out'}side the 95 % interval")
            )
        elif isinstance(result, SpectralDensity):
            points = np.union1d(result.grid(2000), values)
            lower, upper = result.band(points)
            share = np.searchsorted(values, points, side="right") / len(values)
            out = int(np.sum((share < lower) | (share > upper)))
            text = (
                f"{name}: exact cumulative spectrum inside the 95 % band at {len(points) - out} of {len(points)} points"
            )
            lines.append(_verdict(out == 0, text))
    return lines


def _verdict(good: bool, text: str) -> str:
    return f"[green]yes[/green]  {text}" if good else f"[red]NO[/red]   {text}"


def _text(result: Any) -> str:
    if isinstance(result, np.ndarray):
        return f"array of shape {result.shape}"
    return ", ".join(result) if isinstance(result, dict) and not is_dataclass(result) else str(result)


def as_json(results: Mapping[str, Any]) -> str:
    """Return the results as one JSON object.

    Arrays with an entry for each parameter are left out; they are in the file.  Numbers that JSON does not have become
    null.

    Examples
    --------
    >>> from krylovh import Status
    >>> as_json({"trace": Estimate(2.0, math.nan, (-math.inf, math.inf), 1, 0, Status.CONVERGED, "hutchinson")})[:74]
    '{"trace": {"value": 2.0, "standard_error": null, "interval": [null, null],'
    """
    return to_json({name: _fields(result) for name, result in results.items()})


def to_json(value: Any) -> str:
    """Return a value as JSON, with null for NaN and infinity."""
    return json.dumps(_plain(value), allow_nan=False)


def _fields(result: Any) -> Any:
    from krylovh.storage.layout import to_record

    if not is_dataclass(result):
        return result
    axes = to_record(result).dimensions
    names = [name for name in result.__dataclass_fields__ if "parameter" not in axes.get(name, ())]
    return {name: getattr(result, name) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, (int, str, type(None))) else str(value)
