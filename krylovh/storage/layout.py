"""Results as records: the fields of a dataclass become arrays with named dimensions, and attributes.

There is no code per class.  An array is an array; a number, string, boolean, enum or tuple of numbers is an attribute;
None is remembered by the name of its field.  All that has to be said about a class is what the axes of its arrays are
called, and :func:`register` says it.  Plain arrays are records too: a single one of the kind ``array``, and a mapping
from names to arrays of the kind ``arrays``.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.results import (
    BlockSolveResult,
    ChebyshevDensity,
    DiagonalEstimate,
    EigenResult,
    Estimate,
    HyperparameterHistory,
    InfluenceResult,
    InverseDiagonal,
    LaplaceResult,
    LeaveOneOutResult,
    LossCurves,
    MatrixFunctionResult,
    ModelComparison,
    Prediction,
    PruningResult,
    RetrainResult,
    SolveResult,
    SpectralDensity,
    SpectrumTrack,
    TrainingResult,
    Tridiagonalization,
)
from krylovh.storage.digest import content_digest
from krylovh.storage.errors import CorruptFileError

Attribute = str | NDArray[Any]  # text, a number (shape ()), or several (shape (n,))
Axes = tuple[str, ...]

__all__ = ["Attribute", "Record", "attribute", "check_name", "from_record", "plain_value", "register", "to_record"]

RESERVED = frozenset({"kind", "digest", "absent", "provenance"})  # names that the layout itself uses
_TEXT_LIMIT = 60_000  # bytes; HDF5 keeps an attribute in at most 64 KiB
_ARRAY, _ARRAYS, _VALUES = "array", "arrays", "values"


@dataclass(frozen=True)
class Record:
    """A result as it lies in a file: one group.

    Examples
    --------
    >>> to_record(np.zeros(3), ("eigenvalue",)).dimensions
    {'values': ('eigenvalue',)}
    """

    kind: str  # a registered class, "array" or "arrays"
    attributes: Mapping[str, Attribute]
    arrays: Mapping[str, NDArray[Any]]
    dimensions: Mapping[str, Axes]  # a name per axis of each array
    absent: tuple[str, ...] = ()  # fields that are None
    provenance: Mapping[str, Attribute] = dataclasses.field(default_factory=dict)

    def digest(self) -> str:
        """Return the SHA-256 over all names, dtypes, shapes, dimensions, attributes and bytes."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        axes = {name: " ".join(axes) for name, axes in self.dimensions.items()}
        return content_digest({**fields, "dimensions": axes, "absent": " ".join(self.absent)})


_classes: dict[str, tuple[type[Any], Mapping[str, Axes]]] = {}


def register(cls: type[Any], dimensions: Mapping[str, Axes]) -> None:
    """Make a dataclass storable.

    Parameters
    ----------
    cls : type
        A dataclass whose fields are arrays, numbers, strings, booleans, enums, tuples of numbers or of enums, or None.
        Its name becomes the ``kind`` in the file.
    dimensions : mapping of str to tuple of str
        For each array field the names of its axes.  Axes of the same name have the same length.

    Raises
    ------
    TypeError
        ``cls`` is not a dataclass.
    ValueError
        A field has a name that the layout reserves, or ``dimensions`` names an unknown field.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Curve:
    ...     x: NDArray[np.float64]
    ...     label: str
    >>> register(Curve, {"x": ("point",)})
    >>> from_record(to_record(Curve(np.arange(2.0), "loss")))
    Curve(x=array([0., 1.]), label='loss')
    """
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"a storable result must be a dataclass, got {cls!r}")
    names = {field.name for field in dataclasses.fields(cls)}
    if names & RESERVED:
        raise ValueError(f"{cls.__name__} has fields with reserved names: {sorted(names & RESERVED)}")
    if not set(dimensions) <= names:
        raise ValueError(f"{cls.__name__} has no fields {sorted(set(dimensions) - names)}")
    _classes[cls.__name__] = cls, dict(dimensions)


register(
    EigenResult,
    {
        "eigenvalues": ("eigenpair",),
        "eigenvectors": ("parameter", "eigenpair"),
        "residual_norms": ("eigenpair",),
        "converged": ("eigenpair",),
        "gaps": ("eigenpair",),
    },
)
register(
    SpectralDensity,
    {"nodes": ("probe", "step"), "weights": ("probe", "step"), "exact": ("probe",), "outliers": ("outlier",)},
)
register(ChebyshevDensity, {"moments": ("probe", "moment")})
register(
    Tridiagonalization,
    {"alphas": ("step",), "betas": ("coupling",), "Q": ("parameter", "step"), "residual": ("parameter",)},
)
register(Estimate, {})
register(
    SolveResult,
    {"x": ("parameter",), "negative_curvature": ("parameter",), "residual_history": ("iteration",)},
)
register(MatrixFunctionResult, {"x": ("parameter",)})
register(
    PruningResult,
    {
        "removed": ("removal",),
        "saliencies": ("removal",),
        "predicted": ("step",),
        "actual": ("step",),
        "num_removed": ("state",),
        "losses": ("state",),
        "validation_losses": ("state",),
        "mask": ("parameter",),
        "theta": ("parameter",),
    },
)
register(InverseDiagonal, {"values": ("entry",), "standard_errors": ("entry",)})
register(
    BlockSolveResult,
    {
        "x": ("parameter", "system"),
        "residual_norms": ("system",),
        "relative_residuals": ("system",),
        "negative_curvature": ("parameter", "system"),
        "residual_history": ("iteration", "system"),
        "shifts": ("system",),
    },
)
register(
    TrainingResult,
    {"x": ("parameter",), "jac": ("parameter",)}
    | {
        f"{name}_history": ("iteration",)
        for name in (
            "value", "gradient_norm", "radius", "damping", "step_norm", "inner_iterations", "num_products",
            "num_gradients", "seconds",
        )
    },
)  # fmt: skip
register(DiagonalEstimate, {name: ("parameter",) for name in ("value", "standard_error", "lower", "upper")})
register(InfluenceResult, {"rows": ("row",), "values": ("row", "quantity")})
register(
    LeaveOneOutResult,
    {"rows": ("row",), "actual": ("row", "quantity"), "predicted": ("row", "quantity"), "gradient_norms": ("row",)},
)
register(
    RetrainResult,
    {"theta": ("parameter",), "gradient_history": ("iterate",), "step_history": ("newton_step",)},
)
register(
    LossCurves,
    {
        "distances": ("point",),
        **{name: ("direction", "point") for name in ("values", "slopes", "quadratic")},
        "curvatures": ("direction",),
    },
)
register(
    SpectrumTrack,
    {
        "eigenvalues": ("step", "eigenpair"),
        "residual_norms": ("step", "eigenpair"),
        "overlaps": ("pair_of_steps", "eigenpair"),
        "products": ("step",),
        "eigenvectors": ("parameter", "found"),
    },
)

register(LaplaceResult, {"mode": ("parameter",), "prior_precision": ("parameter",)})
register(
    Prediction,
    {
        "mean": ("sample", "output"),
        "variance": ("sample", "output"),
        "output_mean": ("sample", "output"),
        "output_covariance": ("sample", "output", "other_output"),
    },
)
register(
    HyperparameterHistory,
    {
        "prior_precisions": ("step", "group"),
        "noise_precisions": ("step",),
        "effective_parameters": ("step",),
        "log_evidences": ("step",),
        "gradient_norms": ("step",),
        "groups": ("parameter",),
    },
)
register(
    ModelComparison,
    {
        "log_evidences": ("model",),
        "standard_errors": ("model",),
        "effective_parameters": ("model",),
        "num_parameters": ("model",),
        "gradient_norms": ("model",),
    },
)


def to_record(result: Any, dimensions: Axes | Mapping[str, Axes] | None = None) -> Record:
    """Take a result apart.

    Parameters
    ----------
    result : a registered dataclass, ndarray, or mapping of str to ndarray
    dimensions : tuple of str, or mapping of str to tuple of str, optional
        Names of the axes of a plain array, or of each of several.  By default ``values_0, values_1, ...``.

    Returns
    -------
    Record
        Shares memory with ``result``.

    Raises
    ------
    TypeError
        For a class that is not registered, or a field or array that cannot be stored, by name.
    ValueError
        The axes that share a name differ in length, or a name cannot be used.

    Examples
    --------
    >>> record = to_record({"x": np.arange(3.0), "y": np.ones(3)}, {"x": ("point",), "y": ("point",)})
    >>> record.kind, record.dimensions["y"]
    ('arrays', ('point',))
    """
    if isinstance(result, np.ndarray):
        axes = {} if dimensions is None else {_VALUES: tuple(typing.cast(Sequence[str], dimensions))}
        return _record(_ARRAY, {_VALUES: result}, axes)
    named = dict(dimensions) if isinstance(dimensions, Mapping) else {}
    if isinstance(result, Mapping) and not dataclasses.is_dataclass(result):  # a result may be a mapping as well
        return _record(_ARRAYS, result, {name: tuple(axes) for name, axes in named.items()})
    kind = type(result).__name__
    if _classes.get(kind, (None,))[0] is not type(result):
        raise TypeError(f"cannot store a {kind}; storable are arrays and {', '.join(sorted(_classes))}")
    if dimensions is not None:
        raise ValueError(f"dimensions are those of {kind}, and cannot be given")
    return _record(kind, {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}, _classes[kind][1])


def from_record(record: Record) -> Any:
    """Put a result together again: the same dataclass, array or mapping, with the same bits.

    Raises
    ------
    CorruptFileError
        The kind is unknown, or the fields are not those of its class.

    Examples
    --------
    >>> from krylovh.results import Status
    >>> estimate = Estimate(10.0, 0.5, (8.9, 11.1), 30, 7, Status.CONVERGED, "hutchinson")
    >>> from_record(to_record(estimate)) == estimate
    True
    """
    if record.kind == _ARRAY and set(record.arrays) == {_VALUES}:
        return record.arrays[_VALUES]
    if record.kind == _ARRAYS:
        return dict(record.arrays)
    if record.kind not in _classes:
        raise CorruptFileError(f"unknown kind of result {record.kind!r}; known are {', '.join(sorted(_classes))}")
    cls = _classes[record.kind][0]
    hints = typing.get_type_hints(cls)
    fields: dict[str, Any] = {name: _typed(name, value, hints.get(name)) for name, value in record.attributes.items()}
    fields.update(record.arrays)
    fields.update(dict.fromkeys(record.absent))
    required = {
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if not required <= set(fields) <= set(hints):
        wrong = sorted((required - set(fields)) | (set(fields) - set(hints)))
        raise CorruptFileError(f"the fields of a {record.kind} do not match; missing or unknown: {', '.join(wrong)}")
    return cls(**fields)


def attribute(name: str, value: Any) -> Attribute:
    """Return a number, string, boolean, enum, or tuple of numbers or enums in the form of an attribute.

    Raises
    ------
    TypeError, ValueError
        Naming ``name``.

    Examples
    --------
    >>> attribute("tol", 1e-8), attribute("interval", (0, 1.5)), attribute("seed", 2**100)
    (array(1.e-08), array([0. , 1.5]), '1267650600228229401496703205376')
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, tuple) and value and all(isinstance(part, Enum) for part in value):
        value = " ".join(str(part.value) for part in value)
    if isinstance(value, (bool, np.bool_)):
        return np.array(value, dtype=np.int8)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        value = str(value)  # a seed may have 128 bits
    if isinstance(value, str):
        size = len(value.encode())
        if "\0" in value or size > _TEXT_LIMIT:
            raise ValueError(f"{name} must be text without NUL of at most {_TEXT_LIMIT} bytes, got {size} bytes")
        return value
    array = np.asarray(value)
    if array.dtype.kind in "iuf" and array.itemsize <= 8 and array.ndim <= 1 and array.nbytes <= _TEXT_LIMIT:
        return array
    raise TypeError(f"{name} must be a number, text, boolean or short tuple of numbers, got {type(value).__name__}")


def plain_value(value: Attribute) -> str | int | float | tuple[int | float, ...]:
    """Return an attribute as a plain Python object.

    Examples
    --------
    >>> plain_value(np.array(3)), plain_value(np.array([0.0, 1.0]))
    (3, (0.0, 1.0))
    """
    if isinstance(value, str):
        return value
    plain: Any = value.tolist()
    return tuple(plain) if isinstance(plain, list) else plain


def check_name(what: str, name: str) -> str:
    """Return a name that HDF5 can hold as it is, or raise.

    Raises
    ------
    TypeError, ValueError
        Naming ``what``, the name found and the rule.

    Examples
    --------
    >>> check_name("result", "Größe λ₁")
    'Größe λ₁'
    >>> check_name("result", "a/b")
    Traceback (most recent call last):
        ...
    ValueError: the name of a result must have 1 to 255 bytes, no '/' or NUL, and not be '.' or '..', got 'a/b'
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a {what} must be a string, got {name!r}")
    if not 1 <= len(name.encode()) <= 255 or "/" in name or "\0" in name or name in (".", ".."):
        rule = "must have 1 to 255 bytes, no '/' or NUL, and not be '.' or '..'"
        raise ValueError(f"the name of a {what} {rule}, got {name[:300]!r}")
    return name


def _record(kind: str, fields: Mapping[str, Any], axes: Mapping[str, Axes]) -> Record:
    arrays = {name: _storable(name, value) for name, value in fields.items() if isinstance(value, np.ndarray)}
    absent = tuple(sorted(name for name, value in fields.items() if value is None))
    rest = [name for name in fields if name not in arrays and name not in absent]
    if kind == _ARRAYS and len(arrays) < len(fields):
        raise TypeError(f"{(rest + list(absent))[0]!r} must be an array")
    dimensions = {name: axes.get(name, _default_axes(name, array)) for name, array in arrays.items()}
    _check_dimensions(arrays, dimensions)
    return Record(kind, {name: attribute(name, fields[name]) for name in rest}, arrays, dimensions, absent)


def _storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if check_name("array", name) in RESERVED:
        raise ValueError(f"{name!r} is a reserved name and cannot be that of an array")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array")
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
        raise TypeError(f"{name} must be an array of numbers or booleans of at most 64 bits, got {array.dtype}")
    return np.asarray(array, order="C")


def _default_axes(name: str, array: NDArray[Any]) -> Axes:
    return tuple(f"{name}_{axis}" for axis in range(array.ndim))


def _check_dimensions(arrays: Mapping[str, NDArray[Any]], dimensions: Mapping[str, Axes]) -> None:
    lengths: dict[str, int] = {}
    for name, array in arrays.items():
        axes = dimensions[name]
        if len(axes) != array.ndim:
            raise ValueError(f"{name} has shape {array.shape} and cannot have the dimensions {axes}")
        for axis, length in zip(axes, array.shape, strict=True):
            if check_name("dimension", axis) in arrays or axis in RESERVED or axis.split() != [axis]:
                raise ValueError(f"{axis!r} cannot be the name of a dimension: reserved, taken, or with a space")
            if lengths.setdefault(axis, length) != length:
                raise ValueError(f"dimension {axis!r} has length {lengths[axis]} and, in {name}, {length}")


def _typed(name: str, value: Attribute, hint: Any) -> Any:
    """Return an attribute as the type of its field."""
    plain: Any = plain_value(value)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(option for option in typing.get_args(hint) if option is not types.NoneType)
    try:
        if typing.get_origin(hint) is tuple and isinstance(kind := typing.get_args(hint)[0], type(Enum)):
            return tuple(kind(part) for part in (plain.split() if isinstance(plain, str) else plain))
        if isinstance(hint, type) and (issubclass(hint, Enum) or hint in (bool, int, float, str)):
            return hint(plain)
    except (TypeError, ValueError) as error:
        raise CorruptFileError(f"{name} has the value {plain!r}: {error}") from None
    return plain
