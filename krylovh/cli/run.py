"""The run behind ``spectrum`` and ``demo``: both ends of the spectrum, trace, density and, if asked for, the truth."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import scipy.linalg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from krylovh import HessianOperator, Objective, Status, eigsh, hessian_matrix, spectral_density, trace

Results = dict[str, Any]

__all__ = ["Settings", "all_converged", "progress_bars", "run_spectrum"]


@dataclass(frozen=True)
class Settings:
    """What to compute; names and defaults are those of the functions."""

    num_largest: int = 10
    num_smallest: int = 5
    num_probes: int = 10
    num_steps: int = 90
    num_trace_products: int = 100
    tol: float | None = None  # None: 1e-8 in float64, 2e-6 in float32
    rng: int = 0
    exact: bool = False


Bar = Callable[[str], Callable[[int, int], None]]


@contextmanager
def progress_bars(visible: bool) -> Iterator[Bar]:
    """Yield a function that opens a bar with a label and returns what advances it; bars go to standard error."""
    columns = (
        TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not visible, transient=True) as bars:

        def open_bar(label: str) -> Callable[[int, int], None]:
            task = bars.add_task(label, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield open_bar


def run_spectrum(objective: Objective, settings: Settings, bar: Bar) -> tuple[Results, bool]:
    """Return the results by name, and whether an interrupt ended the run before all of them were there."""
    H = HessianOperator(objective)
    prepared = bar("preparing kernels")  # which are compiled once per machine
    H @ objective.gradient()
    prepared(1, 1)
    n = H.shape[0]
    tol = settings.tol if settings.tol is not None else 1e-8 if objective.dtype == np.float64 else 2e-6
    steps = min(settings.num_steps, n)
    seed = settings.rng
    parts: list[tuple[str, Callable[[], Any]]] = []
    ends: tuple[tuple[str, Literal["LA", "SA"], int], ...] = (
        ("largest", "LA", settings.num_largest),
        ("smallest", "SA", settings.num_smallest),
    )
    for name, which, k in ends:
        if k > 0:
            shown = bar(f"{name} eigenvalues")
            parts.append((name, partial(eigsh, H, k, which=which, tol=tol, rng=seed, progress=shown)))
    products, shown = settings.num_trace_products, bar("trace")
    parts.append(("trace", partial(trace, H, num_products=products, rng=seed, progress=shown)))
    probes, shown = settings.num_probes, bar("spectral density")
    parts.append(
        ("density", partial(spectral_density, H, num_probes=probes, num_steps=steps, rng=seed, progress=shown))
    )
    if settings.exact:
        parts.append(("exact", partial(exact_spectrum, objective, bar)))
    results: Results = {}
    for name, compute in parts:
        try:
            results[name] = compute()
        except KeyboardInterrupt:
            return results, True
        if getattr(results[name], "status", None) == Status.INTERRUPTED:
            return results, True
    return results, False


def exact_spectrum(objective: Objective, bar: Bar) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return all eigenvalues, ascending, from the full matrix."""
    matrix = hessian_matrix(objective, progress=bar("full matrix")).astype(np.float64)
    advance = bar("all eigenvalues")
    values = np.asarray(scipy.linalg.eigh(matrix, eigvals_only=True, overwrite_a=True, check_finite=False))
    advance(1, 1)
    return values


def all_converged(results: Results) -> bool:
    """Whether every part reached its target."""
    return all(getattr(result, "status", Status.CONVERGED) == Status.CONVERGED for result in results.values())
