"""Commands: ``demo``, ``spectrum``, ``show`` and ``plot``."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from krylovh import __version__
from krylovh.cli.failures import (
    BAD_INPUT,
    FAULT,
    INTERRUPTED,
    NOT_CONVERGED,
    STORAGE,
    USAGE,
    Failure,
    complain,
    failing_as,
)

if TYPE_CHECKING:
    from krylovh import Objective
    from krylovh.cli.run import Results, Settings

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="The Hessian of dense neural nets, seen through products: spectra with an error for every number.",
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"krylovh {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Rng = Annotated[int, typer.Option("--rng", min=0, help="Seed of start vectors and probes.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads; all CPUs if not given.")]
ResultFile = Annotated[Path, typer.Argument(metavar="RESULTS", help="A file that spectrum or demo wrote.")]


@app.callback()
def _options(
    version: Version = False,
) -> None:
    """Options of the program itself."""


@app.command()
def demo(
    output: Output = Path("demo.h5"),
    picture: Annotated[Path, typer.Option("--picture", help="Where to draw the spectrum.")] = Path("demo.png"),
    rng: Rng = 0,
    threads: Threads = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a net on scikit-learn's digits and compare its estimated Hessian spectrum with the exact one."""
    from krylovh.cli.run import Settings

    _writable(output, force=True)
    _writable(picture, force=True)
    with failing_as(BAD_INPUT, debug=debug):
        try:
            from krylovh.cli.demo import digits_objective
            from krylovh.cli.run import progress_bars

            with progress_bars(sys.stderr.isatty() and not json) as bar:
                bar("training the net")
                objective = digits_objective(threads=threads)
        except ImportError as error:
            raise Failure(FAULT, str(error)) from error
    results, interrupted = _compute_and_save(objective, Settings(rng=rng, exact=True), output, json, debug, mode="w")
    with failing_as(STORAGE, debug=debug):
        _draw(results, picture, f"Hessian of a 64-32-32-10 tanh net on digits, {objective.num_parameters:,} parameters")
    if not json:
        typer.echo(f"\nwrote {output} and {picture}" if "density" in results else f"\nwrote {output}")
    _finish(results, interrupted)


@app.command()
def spectrum(
    net: Annotated[Path, typer.Argument(metavar="NET", help="The net: .npz or HDF5 of theta, widths, activations.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The data: .npz or HDF5 of X, y (and sample_weight).")],
    loss: Annotated[str, typer.Option(help="Loss, for instance softmax_cross_entropy or squared_error.")],
    output: Output = Path("run.h5"),
    reduction: Annotated[str, typer.Option(help="mean or sum.")] = "mean",
    l2: Annotated[float, typer.Option(help="Adds l2/2 theta^2 to the objective.")] = 0.0,
    l2_on: Annotated[str, typer.Option("--l2-on", help="all parameters, or weights only.")] = "all",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    num_largest: Annotated[int, typer.Option(min=0, help="Largest eigenvalues.")] = 10,
    num_smallest: Annotated[int, typer.Option(min=0, help="Smallest eigenvalues.")] = 5,
    tol: Annotated[float | None, typer.Option(help="Residual of eigenpairs relative to the norm.")] = None,
    num_probes: Annotated[int, typer.Option(min=1, help="Probes of the density.")] = 10,
    num_steps: Annotated[int, typer.Option(min=1, help="Lanczos steps per probe.")] = 90,
    num_trace_products: Annotated[int, typer.Option(min=1, help="Products for the trace.")] = 100,
    exact: Annotated[bool, typer.Option("--exact", help="Also all eigenvalues, from the full matrix.")] = False,
    rng: Rng = 0,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compute the Hessian spectrum of a net on data: both ends, trace and density."""
    from krylovh.cli.run import Settings

    _one_of("--l2-on", l2_on, ("all", "weights"))
    _one_of("--dtype", dtype, ("float64", "float32"))
    if tol is not None and not 0 < tol < 1:
        raise typer.BadParameter(f"must be between 0 and 1, got {tol}", param_hint="'--tol'")
    _writable(output, force=force)
    with failing_as(BAD_INPUT, debug=debug):
        from krylovh import load_data, load_network
        from krylovh.distributed import is_first, is_launched, spread_over_ranks, world

        if exact and is_launched():
            raise Failure(USAGE, "--exact needs all samples in one process, and cannot run under mpiexec")
        network, (X, y, sample_weight) = load_network(net), load_data(data)
        try:
            world()
        except ImportError as error:  # mpi4py is missing
            raise Failure(FAULT, str(error)) from error
        objective = spread_over_ranks(
            network, X, y, loss=loss, reduction=reduction,
            l2=l2 if l2_on == "all" else l2 * network.weight_mask(),
            sample_weight=sample_weight, dtype=dtype, threads=threads,
        )  # fmt: skip
        n = objective.num_parameters
        for option, k in (("--num-largest", num_largest), ("--num-smallest", num_smallest)):
            if k > n:
                raise Failure(USAGE, f"{option} must be at most the number of parameters {n}, got {k}")
        if exact:
            _fits_in_memory(n)
    settings = Settings(num_largest, num_smallest, num_probes, num_steps, num_trace_products, tol, rng, exact)
    results, interrupted = _compute_and_save(objective, settings, output, json, debug, mode="w")
    if not json and is_first():
        typer.echo(f"\nwrote {output}")
    _finish(results, interrupted)


@app.command()
def show(results: ResultFile, json: Json = False, debug: Debug = False) -> None:
    """Print the results in a file, with their errors and where they come from."""
    with failing_as(BAD_INPUT, debug=debug):
        from krylovh import ResultStore

        store = ResultStore(results, "r")
        loaded = {name: store.load(name) for name in store.list()}
        facts = store.provenance(next(iter(loaded))) if loaded else {}
    _print(loaded, json)
    if not json:
        for key in ("objective", "net", "cpu", "threads", "blas"):
            if key in facts:
                typer.echo(f"{key}: {facts[key]}")


@app.command()
def plot(
    results: ResultFile, output: Output = Path("spectrum.png"), force: Force = False, debug: Debug = False
) -> None:
    """Draw the spectrum in a file: .png, .pdf or .svg."""
    _writable(output, force=force)
    with failing_as(BAD_INPUT, debug=debug):
        from krylovh import ResultStore

        store = ResultStore(results, "r")
        loaded = {name: store.load(name) for name in store.list()}
        if "density" not in loaded:
            raise Failure(BAD_INPUT, f"{results}: holds no density to draw, only {', '.join(loaded) or 'nothing'}")
    with failing_as(STORAGE, debug=debug):
        _draw(loaded, output, "")
    typer.echo(f"wrote {output}")


def _compute_and_save(
    objective: "Objective", settings: "Settings", output: Path, json: bool, debug: bool, mode: Any
) -> "tuple[Results, bool]":
    from krylovh import ResultStore
    from krylovh.cli.run import progress_bars, run_spectrum
    from krylovh.distributed import is_first, on_first

    with failing_as(BAD_INPUT, debug=debug), progress_bars(sys.stderr.isatty() and not json and is_first()) as bar:
        results, interrupted = run_spectrum(objective, settings, bar)
    with failing_as(STORAGE, debug=debug):
        store, dimensions = ResultStore(output, mode), {"exact": ("eigenvalue",)}
        on_first(objective, lambda: store.save_all(results, objective=objective, dimensions=dimensions))
    if is_first():
        _print(results, json)
    return results, interrupted


def _print(results: "Results", json: bool) -> None:
    from krylovh.cli.show import as_json, print_results

    if json:
        typer.echo(as_json(results))
        return
    from rich.console import Console

    print_results(results, Console(soft_wrap=True))


def _draw(results: "Results", path: Path, title: str) -> None:
    """Draw into a file of its own and give it the name at the end, so that no half picture is left."""
    from krylovh.plotting import plot_spectrum

    if "density" not in results:
        return
    exact = results.get("exact")
    figure = plot_spectrum(
        results["density"], results.get("largest"), results.get("smallest"), exact=exact, title=title
    )
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(unfinished, dpi=150)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _finish(results: "Results", interrupted: bool) -> None:
    from krylovh.cli.run import all_converged
    from krylovh.results import Status

    states = {name: result.status for name, result in results.items() if hasattr(result, "status")}
    if interrupted:
        raise Failure(INTERRUPTED, "interrupted; what was found is stored")
    if not all_converged(results):
        listed = ", ".join(f"{name}: {status}" for name, status in states.items() if status != Status.CONVERGED)
        raise Failure(NOT_CONVERGED, f"not converged ({listed}); the results are stored")


def _writable(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise Failure(STORAGE, f"{path}: is a directory")
    if not path.parent.is_dir():
        raise Failure(STORAGE, f"{path}: the folder does not exist")
    if path.exists() and not force:
        raise Failure(STORAGE, f"{path}: exists already; --force replaces it")


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise typer.BadParameter(f"must be one of {', '.join(allowed)}, got {value!r}", param_hint=f"'{option}'")


def _fits_in_memory(n: int) -> None:
    """Refuse the full matrix before it is allocated: 8 n^2 bytes, thrice while it is made symmetric."""
    needed = 3 * 8 * n * n
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    if needed > available:
        text = f"--exact needs {needed / 2**30:.1f} GiB for {n} parameters, {available / 2**30:.1f} GiB are free"
        raise Failure(BAD_INPUT, text)


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit with one of the codes of :mod:`krylovh.cli.failures`."""
    try:
        app(arguments, prog_name="krylovh")
    except Failure as failure:
        from krylovh.distributed.job import leaving

        if leaving(failure.code, failure.message):  # of several ranks one says so
            complain(failure.message)
        raise SystemExit(failure.code) from None
    except KeyboardInterrupt:
        complain("interrupted")
        raise SystemExit(INTERRUPTED) from None
