"""Commands that read files of results: ``show``, ``plot``, ``report`` and ``compare``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from krylovh.cli.failures import BAD_INPUT, DIFFERENT, STORAGE, Failure, failing_as, say, warnings_in_one_line
from krylovh.cli.job import check_writable, print_results, written_at_once
from krylovh.cli.options import Debug, Force, Json, Results, choice

__all__ = ["compare", "plot", "report", "show"]


def show(results: Results, json: Json = False, debug: Debug = False) -> None:
    """Print the results in a file, with their errors and where they come from."""
    loaded, facts = _read(results)
    print_results(loaded, json)
    if not json:
        for key in ("objective", "command", "net", "cpu", "threads", "blas"):
            if key in facts:
                say(f"{key}: {facts[key]}")


def plot(
    results: Results,
    output: Annotated[Path, typer.Option("-o", "--output", help=".png, .pdf or .svg.")] = Path("spectrum.png"),
    name: Annotated[str | None, typer.Option(help="Draw this result alone; otherwise the spectrum, or all.")] = None,
    scale: Annotated[Literal["signed_log", "linear"], choice("Axis of the eigenvalues.")] = "signed_log",
    title: Annotated[str, typer.Option(help="Of the picture.")] = "",
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Draw what is in a file: a spectrum, a training, a pruning, an influence."""
    check_writable(output, force=force)
    loaded, _ = _read(results)
    with failing_as(BAD_INPUT):
        from krylovh.plotting import plot_results

        if name is not None and name not in loaded:
            raise Failure(BAD_INPUT, f"{results}: has no result {name!r}; it has {', '.join(loaded) or 'none'}")
        chosen = loaded if name is None else {name: loaded[name]}
        figure = plot_results(chosen, scale=scale, title=title)
        if figure is None:
            raise Failure(
                BAD_INPUT, f"{results}: holds nothing that can be drawn, only {', '.join(chosen) or 'nothing'}"
            )
    with failing_as(STORAGE), written_at_once(output) as unfinished:
        figure.savefig(unfinished, dpi=150)
    say(f"wrote {output}")


def report(
    results: Results,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Of the page; the name of the file if not given.")] = "",
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Write a page with interactive plots and all numbers, in one file that opens offline."""
    check_writable(output, force=force)
    _read(results)  # so that what is wrong with the file is told apart from what is wrong with the output
    with failing_as(STORAGE):
        from krylovh.report import write_report

        try:
            write_report(results, output, title=title or None)
        except ValueError as error:
            raise Failure(BAD_INPUT, f"{results}: {error}") from error
    say(f"wrote {output}")


def compare(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="A file of results.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Another one.")],
    check: Annotated[bool, typer.Option("--check", help="Exit with 7 if results differ by more than errors.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare two files of results, each difference against the errors of both."""
    from krylovh.cli.comparison import comparisons, different_facts

    (a, a_facts), (b, b_facts) = _read(first), _read(second)
    with failing_as(BAD_INPUT), warnings_in_one_line():
        found = comparisons(a, b)
        facts = different_facts(a_facts, b_facts)
        if json:
            from krylovh.cli.show import to_json

            say(to_json({"results": [row._asdict() for row in found], "provenance": facts}) + "")
        else:
            for row in found:
                verdict = {True: "agrees ", False: "DIFFERS", None: "       "}[row.agrees]
                say(f"{verdict}  {row.name}: {row.text}")
            for key, (one, other) in facts.items():
                say(f"{key}: {one} | {other}")
    if check and any(row.agrees is False for row in found):
        names = ", ".join(row.name for row in found if row.agrees is False)
        raise Failure(DIFFERENT, f"{first} and {second} differ by more than their errors: {names}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all results of a file by name, and the provenance of the first."""
    with failing_as(BAD_INPUT):
        from krylovh import ResultStore

        store = ResultStore(path, "r")
        loaded = {name: store.load(name) for name in store.list()}
        return loaded, store.provenance(next(iter(loaded))) if loaded else {}
