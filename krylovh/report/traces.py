"""Traces and views: interactive plots as plain data, in the terms of plotly.js and without colours.

A trace says by its ``meta.role`` what it shows (an estimate, exact values, ...); the page's script gives it the colour
of that role in the light or the dark theme.  A plot has one or more *views*, such as a signed-log and a linear axis,
between which the reader switches, and for each of them *ranges* that buttons zoom to.
"""

import base64
import html
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plot = dict[str, Any]
Trace = dict[str, Any]
Array = NDArray[np.float64]

__all__ = ["Array", "Plot", "Trace", "band_between", "curve_over", "one_view", "plain", "trace", "typed", "view"]


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


def plain(text: str) -> str:
    """Return text in which plotly.js, which reads some HTML in labels, finds none."""
    return html.escape(text, quote=False)


def trace(role: str, x: Any, y: Any, name: str, **options: Any) -> dict[str, Any]:
    """Return a trace; lines and markers are coloured by the page."""
    return {"type": "scatter", "meta": {"role": role}, "x": typed(x), "y": typed(y), "name": name, **options}


def band_between(x: Any, y: Any, name: str) -> dict[str, Any]:
    """Return a filled band: the outline of its upper edge, and back along the lower one."""
    return trace("band", x, y, name, fill="toself", mode="none", hoverinfo="skip")


def curve_over(eigenvalues: Array, shown: str) -> dict[str, Any]:
    """Return how a line over eigenvalues is drawn, and what it shows at each."""
    return {"mode": "lines", "customdata": typed(eigenvalues), "hovertemplate": f"{shown}<extra></extra>"}


def view(traces: list[Trace], x: str, y: str, **layout: Any) -> dict[str, Any]:
    """Return traces with the titles of their axes, and what ``xaxis`` and ``yaxis`` are besides."""
    axes = {axis: {"title": {"text": title}, **layout.get(axis, {})} for axis, title in (("xaxis", x), ("yaxis", y))}
    return {"data": traces, "layout": axes}


def one_view(traces: list[Trace], x: str, y: str, **layout: Any) -> Plot:
    """Return a plot with a single view."""
    return {"views": {"": view(traces, x, y, **layout)}, "ranges": {"": {}}}
