"""The page: one HTML file with everything in it, which opens offline and runs no script but its own.

Everything that comes from the file of results is escaped, and a content security policy names the hashes of the two
scripts of the page: no other one would be run, and nothing can be loaded or sent.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from krylovh.report.plots import plots_of
from krylovh.report.traces import Plot
from krylovh.results import Status
from krylovh.results.display import facts_of, table_html
from krylovh.storage.atomic import replace_file
from krylovh.storage.lock import locked
from krylovh.storage.store import ResultStore

__all__ = ["write_report"]

_ROWS = 200  # of a table


def write_report(
    results: "str | os.PathLike[str] | ResultStore", path: str | os.PathLike[str], *, title: str | None = None
) -> None:
    """Write a page with interactive plots and all numbers of a file of results; the same file gives the same bytes.

    A plot switches between logarithmic and linear axes, zooms to the outliers, and shows values and residuals under
    the mouse or, with the arrow keys, one after the other.  The page follows the light or dark theme of its reader,
    fits a phone, and needs no network: a library of 1.4 MB, plotly.js, is in it.

    Parameters
    ----------
    results : path or ResultStore
    path : str or path-like
        The page; an existing one is replaced at once, at the end.
    title : str, optional
        The name of the file of results if not given.

    Raises
    ------
    ValueError
        The file of results is damaged, or asks for what results never need.
    OSError
        The file cannot be read, or the page cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from krylovh import eigsh
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ResultStore(Path(folder, "run.h5"))
    ...     store.save("largest", eigsh(np.diag(np.arange(1.0, 101.0)), k=2, rng=0))
    ...     write_report(store, Path(folder, "report.html"))
    ...     text = Path(folder, "report.html").read_text()
    >>> "2 eigenpairs (LA), converged, set verified" in text
    True
    """
    store = results if isinstance(results, ResultStore) else ResultStore(results, "r")
    loaded = {name: store.load(name) for name in store.list()}
    facts = {name: store.provenance(name) for name in loaded}
    page = _page(title or store.path.name, store.path.name, loaded, facts)
    with locked(Path(path)) as target:
        replace_file(target, page.encode())


@cache
def _resource(name: str) -> str:
    return files("krylovh.report").joinpath(name).read_text(encoding="utf-8")


def _page(title: str, file: str, results: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> str:
    names = _reading_order(results)
    sections = [_section(i, name, results) for i, name in enumerate(names)]
    interactive = any('class="interactive"' in section for section in sections)
    scripts = [_resource("plotly-cartesian.min.js"), _resource("page.js")] if interactive else []
    links = "".join(f'<li><a href="#result-{i}">{escape(name)}</a></li>' for i, name in enumerate(names))
    head = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n{_policy(scripts)}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_resource('page.css')}</style></head>\n"
    )
    body = [
        f"<body><header><h1>{escape(title)}</h1>{_overview(facts)}</header>",
        f'<nav aria-label="Results"><ul>{links}<li><a href="#provenance">provenance</a></li></ul></nav>'
        if names
        else "",
        "<noscript><p>The plots need JavaScript; the tables do not.</p></noscript>",
        "<main>",
        *(sections or ["<p>The file holds no results.</p>"]),
        _provenance(file, facts),
        "</main>",
        *(f"<script>{script}</script>" for script in scripts),
        "</body></html>\n",
    ]
    return head + "\n".join(part for part in body if part)


def _policy(scripts: list[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    allowed = f"default-src 'none'; script-src {hashes or repr('none')}; style-src 'unsafe-inline'; img-src data: blob:"
    return f"<meta http-equiv=\"Content-Security-Policy\" content=\"{allowed}; base-uri 'none'; form-action 'none'\">"


def _reading_order(results: Mapping[str, Any]) -> list[str]:
    """Return the names: the density first, then what else has a picture, then numbers; raw arrays at the end."""

    def rank(name: str) -> tuple[int, str]:
        kind = type(results[name]).__name__
        order = ["SpectralDensity", "EigenResult", "TrainingResult", "PruningResult", "Estimate"]
        return (order.index(kind) if kind in order else 9 if isinstance(results[name], np.ndarray) else 8, name)

    return sorted(results, key=rank)


def _overview(facts: Mapping[str, Mapping[str, Any]]) -> str:
    first: Mapping[str, Any] = next(iter(facts.values()), {})
    lines = []
    if "objective" in first:
        lines.append(f"<p>{escape(str(first['objective']))}</p>")
    if "widths" in first:
        net = "-".join(map(str, np.atleast_1d(np.asarray(first["widths"])).tolist()))
        lines.append(f'<p class="quiet">net {escape(net)}, {escape(str(first.get("activations", "")))}</p>')
    return "".join(lines)


def _section(index: int, name: str, results: Mapping[str, Any]) -> str:
    result = results[name]
    title = escape(name.replace("_", " "))
    parts = [f'<section id="result-{index}" aria-labelledby="title-{index}"><h2 id="title-{index}">{title}</h2>']
    parts.append(f"<p>{_summary(result)}</p>")
    for number, (what, plot) in enumerate(plots_of(name, result, results).items()):
        parts.append(_figure(f"{index}-{number}", name, what, plot))
    parts += _tables(result)
    return "\n".join([*parts, "</section>"])


def _summary(result: Any) -> str:
    if isinstance(result, np.ndarray):
        return f"array of shape {result.shape}"
    if isinstance(result, Mapping) and not hasattr(result, "__dataclass_fields__"):
        return escape("arrays " + ", ".join(f"{key} {array.shape}" for key, array in result.items()))
    text = escape(str(result).partition("\n")[0])
    status = getattr(result, "status", None)
    if not isinstance(status, Status):
        return text
    kind = "good" if status == Status.CONVERGED else "bad"
    return f'{text} <span class="status {kind}">{escape(status)}</span>'


def _figure(key: str, name: str, what: str, plot: Plot) -> str:
    data = json.dumps(plot, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    label = escape(f"{name}: {what}. Arrow keys go from point to point, plus and minus zoom, 0 shows all.", quote=True)
    heading = f"<h3>{escape(what)}</h3>" if what not in ("plot", name) else ""
    return (
        f'{heading}<figure class="interactive" id="figure-{key}"><div class="tools" role="group" '
        f'aria-label="{escape(what, quote=True)}: axes and zoom"></div>'
        f'<div class="plot" tabindex="0" role="img" aria-label="{label}"></div><p class="said" aria-live="polite"></p>'
        f'<script type="application/json">{data}</script></figure>'
    )


def _tables(result: Any) -> Iterator[str]:
    if not hasattr(result, "__dataclass_fields__"):
        return
    columns = result.table()
    if columns:
        yield f'<div class="wide" tabindex="0" role="region" aria-label="table">{table_html(columns, _ROWS)}</div>'
    facts = facts_of(result)
    rows = {"": list(facts), "value": list(facts.values())}
    yield f'<details><summary>all numbers</summary><div class="wide">{table_html(rows)}</div></details>'


def _provenance(file: str, facts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is common to all results, what belongs to some, and the command that computes them again."""
    if not facts:
        return ""
    first = next(iter(facts.values()))
    common = {key: value for key, value in first.items() if all(other.get(key) == value for other in facts.values())}
    own = {
        f"{name}: {key}": value for name, known in facts.items() for key, value in known.items() if key not in common
    }
    shown = {key: str(value) for key, value in {**common, **own}.items() if key != "command"}
    commands = dict.fromkeys(str(known["command"]) for known in facts.values() if "command" in known)
    parts = ['<section id="provenance" aria-labelledby="title-provenance"><h2 id="title-provenance">provenance</h2>']
    if commands:
        lines = "\n".join(f"{command} --output {file}" for command in commands)
        parts.append(f"<p>These results are computed again by</p><pre><code>{escape(lines)}</code></pre>")
    parts.append(
        f'<div class="wide">{table_html({"fact": list(shown), "value": list(shown.values())})}</div></section>'
    )
    return "\n".join(parts)
