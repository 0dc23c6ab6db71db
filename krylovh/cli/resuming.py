"""The command ``resume``: a run goes on from its checkpoint, after whatever ended it.

Beside a checkpoint ``FILE`` lies ``FILE.toml``, a run file with the command that the checkpoint belongs to.  To resume
is to do that command again: the library finds in the checkpoint what was computed already, and refuses a checkpoint
that belongs to other weights, data or options.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from krylovh.cli.failures import BAD_INPUT, STORAGE, USAGE, Failure, complain, failing_as, option_name
from krylovh.cli.options import Debug, Json, invocation
from krylovh.cli.run_file import perform

__all__ = ["announce", "resume"]

_NOT_WRITTEN = {"json", "debug", "force"}


def resume(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint that --checkpoint has written.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Ask for more: k=20, num_probes=30, tol=1e-9."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Go on with a run where it was stopped, or ask a finished one for more."""
    if not checkpoint.is_file():
        raise Failure(BAD_INPUT, f"{checkpoint}: {'is a directory' if checkpoint.is_dir() else 'No such file'}")
    changes = []
    for text in change or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Failure(USAGE, f"--set must be NAME=VALUE, got {text!r}")
        changes.append(f"{option_name(name)}={value}")
    perform(context, run_file_of(checkpoint), ["--force", *(["--json"] if json else [])], changes)


def run_file_of(checkpoint: Path) -> Path:
    """Return where the command of a checkpoint is written down.

    Examples
    --------
    >>> print(run_file_of(Path("long.ckpt")))
    long.ckpt.toml
    """
    return checkpoint.with_name(checkpoint.name + ".toml")


def announce(checkpoint: Path) -> None:
    """Write down the present command beside its checkpoint, and say how it goes on after an interruption."""
    from krylovh.storage.atomic import replace_file
    from krylovh.storage.lock import locked

    called = invocation()
    lines = [f"[{called.command}]"]
    for name, value in called.values.items():
        required = name not in called.defaults or not isinstance(called.defaults[name], type(value))
        if (
            name not in _NOT_WRITTEN
            and value is not None
            and (required or value != called.defaults[name] or name == "rng")
        ):
            lines.append(f"{name} = {_toml(value, checkpoint.parent)}")
    with failing_as(STORAGE), locked(run_file_of(checkpoint)) as target:
        replace_file(target, ("\n".join(lines) + "\n").encode())
    complain(f"if this run is stopped, krylovh resume {checkpoint} goes on with it")


def _toml(value: Any, folder: Path) -> str:
    """Return an option as a value of TOML; paths relative to the file's folder."""
    if isinstance(value, Path):
        return json.dumps(os.path.relpath(value, folder))
    return json.dumps(
        value
    )  # which for words, whole numbers, true and false is TOML as well, and floats have an e or .
