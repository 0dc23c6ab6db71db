"""The frame of every command that computes: read, compute, store, print, and end with the right exit code.

What was found before an interrupt, or within a budget that was too small, is stored like all else.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krylovh.cli.failures import (
    BAD_INPUT,
    INTERRUPTED,
    NOT_CONVERGED,
    STORAGE,
    Failure,
    failing_as,
    say,
    warnings_in_one_line,
)
from krylovh.cli.memory import require_address_space
from krylovh.cli.options import Problem, Run, invocation

if TYPE_CHECKING:
    from krylovh import Network, Objective

Bar = Callable[[str], Callable[[int, int], None]]

_AXES = {"exact": ("eigenvalue",), "layer_blocks": ("layer", "other_layer")}

__all__ = ["Job", "check_writable", "computing", "computing_on", "print_results", "progress_bars", "written_at_once"]


class _Interrupted(Exception):
    """Ctrl-C came; what was found is among the results."""


class Job:
    """A computation on one objective; what it finds is stored when it ends, however that happens."""

    def __init__(self, objective: "Objective", bar: Bar, checkpoint: Path | None = None) -> None:
        self.objective = objective
        self.bar = bar
        self.checkpoint = checkpoint
        self.results: dict[str, Any] = {}
        self.nets: dict[Path, Network] = {}
        self.written: list[Path] = []  # other files

    def compute(
        self,
        name: str,
        function: Callable[..., Any],
        *arguments: Any,
        ends: Callable[[Any], None] | None = None,
        resumable: bool = False,
        **options: Any,
    ) -> Any:
        """Return what a function of the library returns, shown by a progress bar and kept under a name.

        ``ends`` gets the result, an interrupted one too.  What is ``resumable`` is saved in the checkpoint of the job,
        if it has one, and goes on from there.
        """
        from krylovh import Status

        if resumable and self.checkpoint is not None:
            options["checkpoint"] = self.checkpoint

        try:
            result = function(*arguments, progress=self.bar(name.replace("_", " ")), **options)
        except KeyboardInterrupt:
            raise _Interrupted from None
        self.results[name] = result
        if ends is not None:
            ends(result)
        if getattr(result, "status", None) == Status.INTERRUPTED:
            raise _Interrupted
        return result

    def keep_net(self, path: Path | None, make: Callable[[], "Network"]) -> None:
        """Write a net beside the results, if a path is given."""
        if path is not None:
            self.nets[path] = make()


@contextmanager
def computing(
    net: Path, data: Path, problem: Problem, run: Run, also: Path | None = None, checkpoint: Path | None = None
) -> Iterator[Job]:
    """Read net and data, yield a job on them, and end it; ``also`` is a second file that will be written."""
    from krylovh.cli.problem import read_objective

    require_address_space()
    check_writable(run.output, force=run.force)
    check_net_path(also, force=run.force)
    with failing_as(BAD_INPUT, invocation().values):
        objective = read_objective(net, data, problem)
    with computing_on(objective, run, checkpoint) as job:
        yield job


@contextmanager
def computing_on(objective: "Objective", run: Run, checkpoint: Path | None = None) -> Iterator[Job]:
    """Yield a job on an objective; then store and print its results, and fail where they are not what was wanted."""
    from krylovh import HessianOperator
    from krylovh.distributed import is_first, on_first

    interrupted = False
    if checkpoint is not None:
        from krylovh.cli.resuming import announce

        announce(checkpoint)
    visible = sys.stderr.isatty() and not run.json and is_first()
    with failing_as(BAD_INPUT, invocation().values), progress_bars(visible) as bar, warnings_in_one_line():
        job = Job(objective, bar, checkpoint)
        try:
            prepared = bar("preparing kernels")  # which are compiled once per machine
            HessianOperator(objective) @ objective.gradient()
            prepared(1, 1)
            yield job
        except _Interrupted:
            interrupted = True
    with failing_as(STORAGE):
        on_first(objective, lambda: _store(job, run))
    if is_first():
        print_results(job.results, run.json)
    if not run.json and is_first():
        written = [str(path) for path in ([run.output] if job.results else []) + [*job.nets, *job.written]]
        say(f"\nwrote {' and '.join(written) or 'nothing'}")
    if interrupted:
        more = "" if checkpoint is None else f"; krylovh resume {checkpoint} goes on"
        raise Failure(INTERRUPTED, f"interrupted; what was found is stored{more}")
    _require_convergence(job.results)


def _store(job: Job, run: Run) -> None:
    from krylovh import ResultStore

    if job.results:
        store = ResultStore(run.output, "w")
        facts = {"command": str(invocation())}
        axes = {name: _AXES[name] for name in job.results if name in _AXES}
        store.save_all(job.results, objective=job.objective, provenance=facts, dimensions=axes)
    for path, net in job.nets.items():
        net.save(path)


def print_results(results: dict[str, Any], json: bool) -> None:
    """Print results as tables or, all of them in one object, as JSON."""
    from krylovh.cli.show import as_json, show_results

    if json:
        say(as_json(results) + "")
        return
    from rich.console import Console

    show_results(results, Console(soft_wrap=True))


def _require_convergence(results: dict[str, Any]) -> None:
    from krylovh import Status

    states = {name: result.status for name, result in results.items() if hasattr(result, "status")}
    failed = [f"{name}: {status}" for name, status in states.items() if status != Status.CONVERGED]
    if failed:
        raise Failure(NOT_CONVERGED, f"not converged ({', '.join(failed)}); the results are stored")


def check_writable(path: Path, *, force: bool) -> None:
    """Refuse, before anything is computed, an output that cannot be written or exists already."""
    if path.is_dir():
        raise Failure(STORAGE, f"{path}: is a directory")
    if not path.parent.is_dir():
        raise Failure(STORAGE, f"{path}: the folder does not exist")
    if path.exists() and not force:
        raise Failure(STORAGE, f"{path}: exists already; --force replaces it")


def check_net_path(path: Path | None, *, force: bool) -> None:
    """Refuse a net's file that cannot be written."""
    if path is None:
        return
    if path.suffix not in (".npz", ".h5", ".hdf5"):
        raise Failure(STORAGE, f"{path}: the name of a net's file must end with .npz, .h5 or .hdf5")
    check_writable(path, force=force)


@contextmanager
def written_at_once(path: Path) -> Iterator[Path]:
    """Yield a file to write into that gets the name ``path`` at the end, so that no half of it is ever left."""
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def progress_bars(visible: bool) -> Iterator[Bar]:
    """Yield a function that opens a bar with a label and returns what advances it; bars go to standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), Remaining(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not visible, transient=True) as bars:

        def open_bar(label: str) -> Callable[[int, int], None]:
            task = bars.add_task(label, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield open_bar
