"""Results as tables, for notebooks and pages: what was found, with its errors, its cost and its status."""

from collections.abc import Mapping
from dataclasses import fields
from html import escape
from typing import Any

import numpy as np

from krylovh.results.status import Status

__all__ = ["Displayed", "facts_of", "number", "table_html"]

ROW_LIMIT = 30  # rows of a table in a notebook; the outermost of them are shown


def number(value: Any) -> str:
    """Return a number as people read it.

    Examples
    --------
    >>> number(0.1 + 0.2), number(np.nan), number(12345678), number(True)
    ('0.3', 'unknown', '12345678', 'yes')
    """
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return str(value)
    return "unknown" if np.isnan(value) else f"{value:.8g}"


def facts_of(result: Any) -> dict[str, str]:
    """Return the numbers, pairs and words of a result by name; arrays by their shapes.

    Examples
    --------
    >>> from krylovh.results import Estimate
    >>> facts_of(Estimate(10.0, 0.5, (8.9, 11.1), 30, 7, Status.CONVERGED, "hutchinson"))["interval"]
    '8.9 to 11.1'
    """
    facts = {}
    for field in fields(result):
        value, name = getattr(result, field.name), field.name.replace("_", " ")
        if value is None or field.name == "status":
            continue
        if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
            facts[name] = number(value)
        elif isinstance(value, str):
            facts[name] = value
        elif isinstance(value, tuple) and value and all(isinstance(part, Status) for part in value):
            facts[name] = ", ".join(f"{value.count(status)} {status}" for status in dict.fromkeys(value))
        elif isinstance(value, tuple) and len(value) == 2:
            facts[name] = " to ".join(number(part) for part in value)
        elif isinstance(value, np.ndarray):
            facts[name] = f"array of shape {value.shape}"
    return facts


def table_html(columns: Mapping[str, Any], limit: int | None = None) -> str:
    """Return columns of numbers or words as an HTML table; with a limit the first and last rows only.

    Examples
    --------
    >>> table_html({"a<b": [1.5, 2.0]})[:55]
    '<table><thead><tr><th scope="col">a&lt;b</th></tr></the'
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    cells = [[part if isinstance(part, str) else number(part) for part in values] for values in columns.values()]
    rows = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in zip(*cells, strict=True)]
    if limit is not None and len(rows) > limit:
        left_out = f'<tr><td colspan="{len(columns)}">{len(rows) - limit} more</td></tr>'
        rows = [*rows[: limit // 2], left_out, *rows[len(rows) - (limit - limit // 2) :]]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


class Displayed:
    """A result that a notebook shows as a table; everything in it is escaped."""

    def table(self) -> dict[str, Any]:
        """Return the columns of the table that is the heart of the result; none by default."""
        return {}

    def _repr_html_(self) -> str:
        title = escape(str(self).partition("\n")[0])
        columns = self.table()
        if not columns:
            facts = facts_of(self)
            columns = {"": list(facts), "value": list(facts.values())}
        return f"<div><strong>{title}</strong>{table_html(columns, ROW_LIMIT)}</div>"
