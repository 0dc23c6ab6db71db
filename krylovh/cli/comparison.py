"""Two files of results side by side: each difference against the errors that the two results carry."""

from collections.abc import Mapping
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np

from krylovh.results import EigenResult, Estimate, SpectralDensity

__all__ = ["Comparison", "comparisons", "different_facts"]


class Comparison(NamedTuple):
    """A result of both files: how far the two are apart, and how far they may be."""

    name: str
    difference: float | None
    allowed: float | None
    agrees: bool | None  # None: there is no error to judge by
    text: str


def comparisons(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Comparison]:
    """Compare the results that bear the same name; the others are named.

    Examples
    --------
    >>> from krylovh import Status
    >>> a, b = (Estimate(v, 0.5, (v - 1, v + 1), 9, 0, Status.CONVERGED, "hutchinson") for v in (10.0, 11.0))
    >>> [row] = comparisons({"trace": a}, {"trace": b})
    >>> row.agrees, row.text
    (True, '10 against 11, difference 1, errors allow 1.41')
    """
    rows = []
    for name in sorted({*first, *second}):
        if name not in first or name not in second:
            rows.append(Comparison(name, None, None, None, f"only in the {'first' if name in first else 'second'}"))
        elif type(first[name]) is not type(second[name]):
            kinds = f"{type(first[name]).__name__} against {type(second[name]).__name__}"
            rows.append(Comparison(name, None, None, False, kinds))
        else:
            rows.append(_compared(first[name], second[name], name))
    return rows


def different_facts(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the provenance that differs, by name.

    Examples
    --------
    >>> different_facts({"seed": 0, "loss": "huber"}, {"seed": 1, "loss": "huber"})
    {'seed': (0, 1)}
    """
    keys = sorted({*first, *second})
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


@singledispatch
def _compared(first: Any, second: Any, name: str) -> Comparison:
    """Compare what carries no error of its own: its numbers, one by one."""
    pairs = _numbers(first), _numbers(second)
    differing = [key for key in pairs[0] if pairs[0][key] != pairs[1].get(key)]
    if not differing:
        return Comparison(name, 0.0, None, None, "the same numbers")
    shown = ", ".join(f"{key} {pairs[0][key]:.6g} against {pairs[1].get(key, np.nan):.6g}" for key in differing[:6])
    return Comparison(name, None, None, None, shown)


@_compared.register
def _(first: EigenResult, second: EigenResult, name: str) -> Comparison:
    if first.which != second.which or len(first.eigenvalues) == 0 or len(second.eigenvalues) == 0:
        text = (
            f"{len(first.eigenvalues)} eigenvalues ({first.which}) against {len(second.eigenvalues)} ({second.which})"
        )
        return Comparison(name, None, None, None, text)
    k = min(len(first.eigenvalues), len(second.eigenvalues))
    chosen = slice(-k, None) if first.which == "LA" else slice(k)
    differences = np.abs(first.eigenvalues[chosen] - second.eigenvalues[chosen])
    rounding = first.rounding + second.rounding + 64 * np.finfo(float).eps * first.operator_norm
    allowed = first.residual_norms[chosen] + second.residual_norms[chosen] + rounding
    worst = int(np.argmax(differences / allowed))
    inside = int(np.sum(differences <= allowed))
    text = f"{inside} of {k} eigenvalues within their residuals, largest difference {differences.max():.3g}"
    return Comparison(name, float(differences[worst]), float(allowed[worst]), inside == k, text)


@_compared.register
def _(first: Estimate, second: Estimate, name: str) -> Comparison:
    halves = [(estimate.interval[1] - estimate.interval[0]) / 2 for estimate in (first, second)]
    difference, allowed = abs(first.value - second.value), float(np.hypot(halves[0], halves[1]))
    text = f"{first.value:.6g} against {second.value:.6g}, difference {difference:.3g}, errors allow {allowed:.3g}"
    return Comparison(name, difference, allowed, None if np.isnan(allowed) else difference <= allowed, text)


@_compared.register
def _(first: SpectralDensity, second: SpectralDensity, name: str) -> Comparison:
    points = np.unique(np.concatenate([first.grid(2000), second.grid(2000)]))
    difference = float(np.abs(first.cumulative(points) - second.cumulative(points)).max())
    (low_a, high_a), (low_b, high_b) = first.band(points), second.band(points)
    agrees = bool(np.all((low_a <= high_b) & (low_b <= high_a)))
    allowed = float(np.max(np.minimum(high_a - low_b, high_b - low_a)))
    overlap = "bands overlap everywhere" if agrees else "bands do not overlap everywhere"
    return Comparison(
        name, difference, allowed, agrees, f"cumulative spectra differ by at most {difference:.3g}, {overlap}"
    )


@_compared.register
def _(first: np.ndarray, second: np.ndarray, name: str) -> Comparison:
    if first.shape != second.shape:
        return Comparison(name, None, None, False, f"shape {first.shape} against {second.shape}")
    if not first.size:
        return Comparison(name, 0.0, 0.0, True, "both empty")
    difference = float(np.abs(first - second).max())
    allowed = 64 * float(np.finfo(float).eps * max(np.abs(first).max(), np.abs(second).max()))
    return Comparison(name, difference, allowed, difference <= allowed, f"largest difference {difference:.3g}")


def _numbers(result: Any) -> dict[str, float]:
    """Return the fields of a result that are single numbers."""
    fields = getattr(result, "__dataclass_fields__", {})
    values = {field: getattr(result, field) for field in fields}
    return {k: float(v) for k, v in values.items() if isinstance(v, (int, float)) and k not in ("seed", "seconds")}
