"""Names, defaults and choices of the command line are those of Python."""

import inspect
from pathlib import Path
from typing import get_args

import pytest
import typer

import krylovh as kh
from krylovh.cli import app as program
from krylovh.cli.options import Problem, grouped
from krylovh.cli.run_file import _FILES, run

# command -> the functions whose keywords its options are
FUNCTIONS = {
    "train": [kh.minimize, kh.Objective],
    "spectrum": [kh.spectral_density, kh.Objective],
    "eigs": [kh.eigsh, kh.Objective],
    "density": [kh.spectral_density, kh.Objective],
    "trace": [kh.trace, kh.Objective],
    "solve": [kh.cg, kh.InverseOperator, kh.Objective],
    "prune": [kh.prune, kh.Objective],
    "influence": [kh.influence, kh.Objective],
    "retrain": [kh.retrain, kh.Objective],
    "laplace": [kh.Laplace, kh.Objective],
}
OWN = {
    ("any", "rng"): "0, so that the same command gives the same bytes",
    ("any", "tol"): "depends on the dtype: see problem.tolerance",
    ("any", "dtype"): "float64, whatever the file has",
    ("spectrum", "num_steps"): "90 is also what None means",
    ("solve", "rtol"): "that of cg",
    ("solve", "preconditioner"): "a word",
    ("prune", "validation"): "a file",
    ("prune", "diagonal"): "",
}
COMMANDS = typer.main.get_command(program.app).commands


def keywords(functions):
    """Return the parameters by name; those of an earlier function win."""
    found = {}
    for function in reversed(functions):
        found |= {name: p for name, p in inspect.signature(function).parameters.items() if name != "self"}
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults_are_those_of_the_function(name):
    compared = 0
    for option in COMMANDS[name].params:
        parameter = keywords(FUNCTIONS[name]).get(option.name)
        if parameter is None or (name, option.name) in OWN or ("any", option.name) in OWN:
            continue
        required = parameter.default is inspect.Parameter.empty
        if not required and isinstance(parameter.default, (int, float, str, type(None))):
            assert option.default == parameter.default, option.name
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_choices_are_those_of_the_function(name):
    options = inspect.signature(
        next(c.callback for c in program.app.registered_commands if c.callback.__name__ == name)
    )
    for option, declared in options.parameters.items():
        choices = set(_words(declared.annotation))
        parameter = keywords(FUNCTIONS[name]).get(option)
        if not choices or parameter is None:
            continue
        allowed = set(
            _words(inspect.signature(FUNCTIONS[name][0], eval_str=True).parameters.get(option, parameter).annotation)
        )
        if allowed:
            assert choices <= allowed, option


def _words(annotation):
    for part in get_args(annotation):
        if isinstance(part, str):
            yield part
        else:
            yield from _words(part)


def test_losses_are_those_of_the_kernels():
    hint = inspect.signature(grouped(_takes_a_problem)).parameters["loss"].annotation
    from krylovh import kernels

    assert tuple(_words(hint)) == tuple(kernels.LOSSES)


def _takes_a_problem(problem: Problem) -> None:
    pass


def test_every_command_has_a_help_with_every_option():
    for name, command in COMMANDS.items():
        assert command.help, name
        for option in command.params:
            assert getattr(option, "help", None), (name, option.name)


def test_every_option_that_is_a_file_is_found_from_a_run_file():
    for command in program.app.registered_commands:
        for name, declared in inspect.signature(command.callback).parameters.items():
            if Path in (
                *get_args(declared.annotation),
                *(a for b in get_args(declared.annotation) for a in get_args(b)),
            ):
                assert name in _FILES, name


def test_completion_is_offered():
    names = {option.name for option in typer.main.get_command(program.app).params}
    assert {"install_completion", "show_completion"} <= names


def test_run_knows_all_commands_but_itself():
    assert run.__name__ in COMMANDS
