"""The program: its commands, and how it ends."""

import sys
import traceback
from typing import Annotated

import typer

from krylovh import __version__
from krylovh.cli.demo import demo
from krylovh.cli.evidence import laplace
from krylovh.cli.failures import FAULT, INTERRUPTED, TERMINATED, USAGE, Failure, complain, termination, usage_message
from krylovh.cli.files import compare, plot, report, show
from krylovh.cli.options import grouped
from krylovh.cli.resuming import resume
from krylovh.cli.run_file import run
from krylovh.cli.samples import influence, retrain
from krylovh.cli.solving import solve
from krylovh.cli.spectra import density, eigs, spectrum, trace
from krylovh.cli.training import prune, train

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="The Hessian of dense neural nets, seen through products: spectra with an error for every number.",
)  # fmt: skip

for _command in (
    demo, train, spectrum, eigs, density, trace, solve, prune, influence, retrain, laplace,
    resume, show, plot, report, compare, run,
):  # fmt: skip
    app.command()(grouped(_command))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"krylovh {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit with one of the codes of :mod:`krylovh.cli.failures`."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    with termination() as signals:
        try:
            program = typer.main.get_command(app)
            code = program.main(words or ["--help"], prog_name="krylovh", standalone_mode=False)
            if code == INTERRUPTED:  # what typer makes of Ctrl-C
                raise KeyboardInterrupt
        except (Exception, KeyboardInterrupt) as error:
            code, message = _ending(error)
            if code == INTERRUPTED and signals:
                code, message = TERMINATED, message.replace("interrupted", "terminated")
            if "--debug" in words:
                traceback.print_exception(error)
            from krylovh.distributed.job import leaving

            if leaving(code, message):  # of several ranks one says so
                complain(message)
    raise SystemExit(code or 0)


def _ending(error: BaseException) -> tuple[int, str]:
    """Return exit code and message for what ended the program."""
    if isinstance(error, Failure):
        return error.code, error.message
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return INTERRUPTED, "interrupted"
    usage = usage_message(error)
    if usage is not None:
        return USAGE, usage
    return FAULT, f"{type(error).__name__}: {error} (a fault of the program; --debug shows where)"
