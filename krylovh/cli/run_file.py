"""The command ``run``: commands and their options from a TOML file.

Keys before the first table are options of every command that has them; each table is a command, done in the order of
the file.  Names and values are those of the command line, and paths are relative to the file::

    data = "data.npz"
    loss = "softmax_cross_entropy"

    [train]
    widths = [64, 32, 10]
    save_net = "net.npz"
    output = "training.h5"

    [spectrum]
    net = "net.npz"
    output = "spectrum.h5"
    exact = true

A command that is done twice is an array of tables, ``[[trace]]``.  All keys are checked before the first command is
started, and what is wrong is told with its line.
"""

import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from krylovh.cli.failures import BAD_INPUT, USAGE, Failure, failing_as, option_name, usage_message
from krylovh.cli.options import Debug

__all__ = ["Step", "perform", "read_steps", "run"]

_SIZE_LIMIT = 1 << 16  # bytes
_FILES = {
    "net", "data", "output", "save_net", "validation", "test", "add", "predict", "rhs", "results", "first", "second",
    "checkpoint", "picture", "file",
}  # fmt: skip
_NOT_IN_FILES = {"json", "debug", "help"}


class Step(NamedTuple):
    """A command of a run file with its arguments, and the lines that they stand in."""

    command: str
    options: list[str]
    positional: list[str]
    line: int
    lines: dict[str, int]


def run(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A TOML file of commands.")],
    force: Annotated[bool, typer.Option("--force", help="Replace existing outputs.")] = False,
    debug: Debug = False,
) -> None:
    """Do the commands of a TOML file, one after the other."""
    perform(context, file, ["--force"] if force else [])


def perform(context: typer.Context, file: Path, flags: list[str], changes: Sequence[str] = ()) -> None:
    """Check all commands of a file, then do them; flags go to those that know them, changes win over the file."""
    group: Any = context.parent.command if context.parent else context.command
    commands = {name: command for name, command in group.commands.items() if name not in ("run", "resume")}
    prepared = []
    for step in read_steps(file, commands):
        command = commands[step.command]
        known = [flag for flag in flags if any(flag in parameter.opts for parameter in command.params)]
        words = [*known, *step.options, *changes, "--", *step.positional]
        try:
            prepared.append(command.make_context(step.command, words, parent=context))
        except Exception as error:
            message = usage_message(error)
            if message is None:
                raise
            parameter = getattr(getattr(error, "param", None), "name", None)
            line = step.lines.get(parameter or "", step.line)
            raise Failure(USAGE, f"{file}:{line}: [{step.command}]: {message}") from error
    for child in prepared:
        with child:
            child.command.invoke(child)


def read_steps(file: Path, commands: dict[str, Any]) -> list[Step]:
    """Return the commands of a file, in their order."""
    with failing_as(BAD_INPUT):
        from krylovh.storage.atomic import open_regular

        with open_regular(file) as raw:
            content = raw.read(_SIZE_LIMIT + 1)
    if len(content) > _SIZE_LIMIT:
        raise Failure(USAGE, f"{file}: must have at most {_SIZE_LIMIT} bytes")
    try:
        text = content.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Failure(USAGE, f"{file}:{line}: is not UTF-8 text") from error
    except RecursionError as error:
        raise Failure(USAGE, f"{file}: is nested too deeply") from error
    except ValueError as error:
        place = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        if place is None:
            raise Failure(
                USAGE, f"{file}:{text.count(chr(10)) + 1}: {error}".replace(" (at end of document)", "")
            ) from error
        raise Failure(USAGE, f"{file}:{place[1]}: {str(error)[: place.start()]}") from error
    return list(_steps(file, document, _lines(text), commands))


def _steps(file: Path, document: dict[str, Any], lines: dict[tuple[str, ...], int], commands: Any) -> Iterator[Step]:
    common = {key: value for key, value in document.items() if not _is_table(value)}
    every_option = {parameter.name for command in commands.values() for parameter in command.params}
    for key in common:
        if key not in every_option:
            raise _unknown(file, _line_of(lines, (key,)), "key", key, every_option)
    started = []
    for name, value in document.items():
        if not _is_table(value):
            continue
        if name not in commands:
            raise _unknown(file, _line_of(lines, (name,)), "command", name, commands)
        tables = value if isinstance(value, list) else [value]
        for i, table in enumerate(tables):
            place = (name, str(i)) if isinstance(value, list) else (name,)
            started.append((_line_of(lines, place), _step(file, name, table, common, lines, place, commands[name])))
    if not started:
        raise Failure(USAGE, f"{file}:1: needed is a table for each command, such as [spectrum]")
    for _, step in sorted(started, key=lambda pair: pair[0]):
        yield step


def _step(
    file: Path,
    name: str,
    table: dict[str, Any],
    common: dict[str, Any],
    lines: dict[tuple[str, ...], int],
    place: tuple[str, ...],
    command: Any,
) -> Step:
    parameters = {parameter.name: parameter for parameter in command.params if parameter.name not in _NOT_IN_FILES}
    where = {key: _line_of(lines, (key,)) for key in common} | {key: _line_of(lines, (*place, key)) for key in table}
    for key in table:
        if key not in parameters:
            raise _unknown(file, where[key], f"key of [{name}]", key, parameters)
    values = {key: value for key, value in common.items() if key in parameters} | table
    options: list[str] = []
    positional: list[str] = []
    for key, parameter in parameters.items():
        if key not in values:
            continue
        value = values[key]
        if isinstance(value, bool):
            if parameter.param_type_name == "argument" or not getattr(parameter, "is_flag", False):
                raise Failure(USAGE, f"{file}:{where[key]}: {key} must not be true or false")
            negative = parameter.secondary_opts
            options += [parameter.opts[-1]] if value else negative[-1:]
            continue
        word = _word(value, f"{file}:{where[key]}: {key}")
        if key in _FILES:
            word = str(file.parent / word)
        if parameter.param_type_name == "argument":
            positional.append(word)
        elif getattr(parameter, "is_flag", False):
            raise Failure(USAGE, f"{file}:{where[key]}: {key} must be true or false, got {value!r}")
        else:
            options.append(f"{option_name(key)}={word}")
    return Step(name, options, positional, _line_of(lines, place), where)


def _word(value: Any, place: str) -> str:
    """Return a value as a word of the command line."""
    if isinstance(value, list) and value and all(type(part) in (int, float, str) for part in value):
        return ",".join(_word(part, place) for part in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise Failure(USAGE, f"{place} must be finite, got {value}")
    if type(value) not in (int, float, str):
        raise Failure(USAGE, f"{place} must be a number, a text, true, false or a list of numbers, got {value!r:.80}")
    return str(value)


def _line_of(lines: dict[tuple[str, ...], int], place: tuple[str, ...]) -> int:
    """Return the line of a key; of what it is in, where it is a part of a dotted key."""
    return next((lines[place[:size]] for size in range(len(place), 0, -1) if place[:size] in lines), 1)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _unknown(file: Path, line: int, what: str, name: str, known: Any) -> Failure:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1)
    hint = f"; is {near[0]} meant?" if near else ""
    return Failure(USAGE, f"{file}:{line}: unknown {what} {name[:80]!r}{hint}")


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of every table and key of a valid document.

    A statement is a line, or as many lines as make valid TOML together: one that is open is not.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    arrays: dict[str, int] = {}
    statement, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not statement:
            start = number
        statement += line + "\n"
        try:
            parsed = tomllib.loads(statement)
        except ValueError:
            continue
        header = statement.lstrip().startswith("[")
        for key, value in parsed.items():
            if not header:
                lines.setdefault((*table, key), start)
                continue
            table = (key,)
            if isinstance(value, list):
                table = (key, str(arrays.get(key, 0)))
                arrays[key] = arrays.get(key, 0) + 1
                lines.setdefault((key,), start)
            lines.setdefault(table, start)
            for inner in value if isinstance(value, dict) else ():  # [table.inner]
                lines.setdefault((key, inner), start)
        statement = ""
    return lines
