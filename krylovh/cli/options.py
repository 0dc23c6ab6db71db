"""Options that several commands share: declared once, in groups.

A command is a function whose parameters are options.  A parameter whose type is a dataclass stands for a group: each
of its fields becomes an option, and the function gets the group as one object.  Names and defaults are those of the
Python functions, which a test compares; they are repeated here because to import the functions takes seconds.
"""

import dataclasses
import functools
import inspect
import math
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from krylovh.cli.failures import option_name

__all__ = ["Data", "Invocation", "Matrix", "Net", "Problem", "Run", "grouped", "invocation"]


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"must be finite, got {value}")
    return value


def _positive(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"must be positive and finite, got {value}")
    return value


def _nonnegative(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"must be at least 0 and finite, got {value}")
    return value


def _fraction(value: float | None) -> float | None:
    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"must be between 0 and 1, got {value}")
    return value


def positive(help: str) -> Any:
    """Declare an option that takes a positive number."""
    return typer.Option(callback=_positive, help=help)


def nonnegative(help: str) -> Any:
    """Declare an option that takes a number that is at least 0."""
    return typer.Option(callback=_nonnegative, help=help)


def fraction(help: str) -> Any:
    """Declare an option that takes a number between 0 and 1."""
    return typer.Option(callback=_fraction, help=help)


def finite(help: str) -> Any:
    """Declare an option that takes any number but NaN and infinity."""
    return typer.Option(callback=_finite, help=help)


def count(help: str, least: int = 1) -> Any:
    """Declare an option that takes a whole number."""
    return typer.Option(min=least, help=help)


def choice(help: str) -> Any:
    """Declare an option that takes one of several words, or a text."""
    return typer.Option(help=help)


Net = Annotated[Path, typer.Argument(metavar="NET", help="The net, in any supported format: .npz, HDF5, ...")]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="The data: .npz or HDF5 of X, y (and sample_weight).")]
Loss = Literal["squared_error", "softmax_cross_entropy", "binary_cross_entropy", "poisson", "huber"]
Matrix = Annotated[
    Literal["hessian", "gauss_newton", "residual", "empirical_fisher"], choice("Which matrix of second derivatives.")
]
Damping = Annotated[float, finite("Added to the diagonal of the matrix.")]
MaxProducts = Annotated[int | None, count("Budget of products.")]
MaxSeconds = Annotated[float | None, positive("Budget of seconds.")]
CheckpointFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Save here again and again; krylovh resume FILE goes on from it.")
]
SaveNet = Annotated[Path | None, typer.Option(help="Also write the net that was found: .npz, .h5 or .hdf5.")]


@dataclass(frozen=True)
class Problem:
    """The objective that a net and data are put into."""

    loss: Annotated[Loss, choice("Loss of a sample.")]
    activations: Annotated[
        str | None, choice("Of the net where its file does not say: of all hidden layers, or one per layer.")
    ] = None
    outputs: Annotated[
        Literal["logits", "model"] | None, choice("What becomes of a softmax or logistic function at a model's end.")
    ] = None
    reduction: Annotated[Literal["mean", "sum"], choice("Mean or sum over samples.")] = "mean"
    l2: Annotated[float, nonnegative("Adds l2/2 theta^2 to the objective.")] = 0.0
    l2_on: Annotated[Literal["all", "weights"], choice("Which parameters l2 is for.")] = "all"
    delta: Annotated[float | None, positive("Of huber: where it turns from quadratic to linear.")] = None
    dtype: Annotated[Literal["float64", "float32"], choice("What products are computed in.")] = "float64"
    memory_limit: Annotated[int | None, count("Bytes of what is kept between products; 4 GiB if not given.", 0)] = None
    threads: Annotated[int | None, count("Threads; all CPUs if not given.")] = None


@dataclass(frozen=True)
class Run:
    """Where results go, and how they are shown."""

    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write the results.")] = Path("run.h5")
    rng: Annotated[int, count("Seed of all random vectors.", 0)] = 0
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print JSON; numbers that it lacks become null.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON; numbers that it lacks become null.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Results = Annotated[Path, typer.Argument(metavar="RESULTS", help="A file of results.")]

_NO_PART_OF_RESULTS = {"output", "force", "json", "debug", "picture", "checkpoint"}


@dataclass(frozen=True)
class Invocation:
    """A command as it was called: its name, and the values of its options beside their defaults."""

    command: str
    values: dict[str, Any]
    defaults: dict[str, Any]
    positional: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a command line that gives the same results; files are without their folders."""
        words = ["krylovh", self.command]
        for name, value in self.values.items():
            if name in self.positional:
                words.append(Path(value).name)
            elif name not in _NO_PART_OF_RESULTS and (value != self.defaults.get(name) or name == "rng"):
                text = value.name if isinstance(value, Path) else str(value)
                flag = option_name(name) if value is not False else option_name(f"no_{name}")
                words += [flag] if isinstance(value, bool) else [option_name(name), text]
        return shlex.join(words)


_current: ContextVar[Invocation] = ContextVar("invocation")


def invocation() -> Invocation:
    """Return what the present command was called with."""
    return _current.get()


@contextmanager
def _called(present: Invocation) -> Iterator[None]:
    token = _current.set(present)
    try:
        yield
    finally:
        _current.reset(token)


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command in which groups of options are spread out, each option a keyword of its own.

    Examples
    --------
    >>> @dataclass
    ... class Size:
    ...     width: int
    ...     height: int = 1
    >>> @grouped
    ... def area(size: Size, unit: str = "m") -> None:
    ...     print(size.width * size.height, unit, "by", invocation())
    >>> inspect.signature(area)
    <Signature (*, width: int, height: int = 1, unit: str = 'm') -> None>
    >>> area(width=2, height=3, unit="m")
    6 m by krylovh area --width 2 --height 3
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {}
    parameters = []
    for name, parameter in inspect.signature(function).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            parameters += _options_of(hints[name])
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(kind=keyword, annotation=hints[name]))
    defaults = {parameter.name: parameter.default for parameter in parameters}
    positional = tuple(
        p.name for p in parameters if any(_is_argument(m) for m in getattr(p.annotation, "__metadata__", ()))
    )

    @functools.wraps(function)
    def command(**values: Any) -> None:
        rest = dict(values)
        objects = {
            name: group(**{field.name: rest.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        ordered = {name: values[name] for name in defaults if name != "context"}
        with _called(Invocation(function.__name__.strip("_"), ordered, defaults, positional)):
            function(**rest, **objects)

    signature = inspect.signature(function).replace(parameters=parameters)
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return command


def _options_of(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def _is_argument(declaration: Any) -> bool:
    return type(declaration).__name__ == "ArgumentInfo"
