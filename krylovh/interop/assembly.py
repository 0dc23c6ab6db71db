"""Nets out of graphs: operations of the source, one after the other, become layers, edges and blocks of theta.

A value of the graph is, in this order of preference,

    Combination   a sum of W z over layers, of z over layers, and a bias: a pre-activation, not yet a layer
    Pointwise     a function of a combination, number by number: an activation, once it is needed as a whole
    Scaled        s * z + t of one layer: it waits for a dense edge to be folded into
    Joined        several of these side by side
    Normalized    the softmax of a combination: only at the end

and becomes a layer when something needs its outputs.  What two consumers need is made once.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from krylovh.interop.parameters import Origin, Piece
from krylovh.interop.pointwise import Form, Function, activation_function, recognize
from krylovh.network import Network

Array = NDArray[Any]
Outputs = Literal["logits", "model"]

__all__ = [
    "Assembly", "Combination", "Joined", "Normalized", "Outputs", "Parameter", "Pointwise", "UnsupportedModelError",
    "Value", "assemble",
]  # fmt: skip


class UnsupportedModelError(ValueError):
    """The model is well formed, and does what no :class:`krylovh.Network` does; the message names the node.

    Examples
    --------
    >>> issubclass(UnsupportedModelError, ValueError)
    True
    """


@dataclass(frozen=True, eq=False)
class Parameter:
    """An array of the source: a weight as (out, in), or a bias (out,)."""

    array: Array
    name: str
    transposed: bool = False
    columns: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None  # in the source, where it is not that of the array
    folded: str | None = None  # what was multiplied into it

    def source_shape(self) -> tuple[int, ...]:
        """Return the shape that the source gives it."""
        if self.shape is not None:
            return self.shape
        return self.array.shape[::-1] if self.transposed else self.array.shape


@dataclass(frozen=True, eq=False)
class Combination:
    """A pre-activation: dense and identity edges from layers, and a bias."""

    width: int
    dense: tuple[tuple[int, Parameter], ...] = ()
    identity: tuple[int, ...] = ()
    bias: Parameter | None = None

    @property
    def parameters(self) -> list[Parameter]:
        """Weights and bias."""
        return [weight for _, weight in self.dense] + ([self.bias] if self.bias else [])


@dataclass(frozen=True, eq=False)
class Pointwise:
    """``function(base)``, number by number; ``terms`` are what was added last, if anything was."""

    base: Combination
    function: Function
    where: str
    terms: tuple["Value", ...] = ()

    @property
    def width(self) -> int:
        """Number of units."""
        return self.base.width


@dataclass(frozen=True, eq=False)
class Scaled:
    """``scale * layer + shift``."""

    base: Combination  # one identity edge
    scale: Array
    shift: Array
    where: str

    @property
    def width(self) -> int:
        """Number of units."""
        return self.base.width


@dataclass(frozen=True, eq=False)
class Joined:
    """Values side by side."""

    parts: tuple["Value", ...]

    @property
    def width(self) -> int:
        """Number of units."""
        return sum(part.width for part in self.parts)


@dataclass(frozen=True, eq=False)
class Normalized:
    """Softmax or its logarithm."""

    base: "Value"
    kind: str
    where: str

    @property
    def width(self) -> int:
        """Number of units."""
        return self.base.width


Value = Combination | Pointwise | Scaled | Joined | Normalized


class Assembly:
    """Layers as they come to be needed."""

    def __init__(self, shared: frozenset[frozenset[str]] = frozenset()) -> None:
        self.shared = shared  # pre-activations, by the names of their parameters, that become layers at once
        self.widths: list[int] = []
        self.activations: list[str] = []
        self.combinations: list[Combination] = []
        self._made: dict[int, Value] = {}  # by the id of a value, which is kept alive beside it
        self._kept: list[Value] = []
        self._claimed: dict[str, str] = {}

    def input(self, width: int) -> Combination:
        """Return the input."""
        self.widths = [width]
        return Combination(width, identity=(0,))

    def dense(self, value: Value, weight: Parameter, bias: Parameter | None, where: str) -> Value:
        """Return ``W z + b``."""
        out, width = weight.array.shape
        if value.width != width:
            raise ValueError(f"{where}: the weight takes {width} inputs, and is given {value.width}")
        if bias is not None and bias.array.shape != (out,):
            raise ValueError(f"{where}: the bias must have shape ({out},), got {bias.array.shape}")
        for parameter in (weight, bias):
            if parameter is not None:
                self._claim(parameter, where)
        edges: list[tuple[int, Parameter]] = []
        start = 0
        parts = self._parts(value, where)
        for part in parts:
            piece = weight
            if len(parts) > 1:
                columns = (start, start + part.width)
                piece = replace(weight, array=weight.array[:, slice(*columns)], columns=columns,
                                shape=weight.source_shape())  # fmt: skip
            start += part.width
            if isinstance(part, Scaled):
                reason = f"{part.where} was folded into {weight.name!r}"
                extra = piece.array @ part.shift
                if np.any(extra):
                    base = np.zeros(out) if bias is None else bias.array
                    bias = Parameter(base + extra, f"{weight.name} bias" if bias is None else bias.name, folded=reason)
                piece = replace(piece, array=piece.array * part.scale, folded=reason)
                part = part.base
            layer = self._layer(part, where)
            if any(layer == other for other, _ in edges):  # a copy: one edge between two layers
                layer = self._new_layer(Combination(part.width, identity=(layer,)), "identity")
            edges.append((layer, piece))
        return self._settled(Combination(out, dense=tuple(edges), bias=bias))

    def bias(self, value: Value, bias: Parameter, where: str) -> Value | None:
        """Return ``value + b`` where the value is a dense layer that has no bias yet, None elsewhere."""
        if not isinstance(value, Combination) or value.bias is not None or not value.dense:
            return None
        if bias.array.shape != (value.width,):
            return None
        self._claim(bias, where)
        return self._settled(replace(value, bias=bias))

    def add(self, first: Value, second: Value, where: str) -> Value:
        """Return the sum of two values of equal width."""
        if first.width != second.width:
            raise UnsupportedModelError(f"{where}: adds widths {first.width} and {second.width}, broadcast")
        a, b = self._combination(first, where), self._combination(second, where)
        biases = [value.bias for value in (a, b) if value.bias is not None]
        if len(biases) == 2:
            b = self._as_layer(b, where)
            biases = biases[:1]
        layers = {layer for layer, _ in a.dense} | set(a.identity)
        if layers & {layer for layer, _ in b.dense} or layers & set(b.identity):
            b = self._as_layer(b, where)
        if set(b.identity) & layers:  # the same layer twice
            b = Combination(b.width, identity=(self._new_layer(b, "identity"),))
        bias = a.bias or b.bias
        return self._settled(Combination(a.width, a.dense + b.dense, a.identity + b.identity, bias))

    def scale(self, value: Value, scale: Array, shift: Array, where: str) -> Value:
        """Return ``scale * value + shift``, number by number, with one scale and shift per unit."""
        value = self.settle(value)
        scale, shift = np.broadcast_to(scale, (value.width,)), np.broadcast_to(shift, (value.width,))
        if isinstance(value, Joined):
            ends = np.cumsum([part.width for part in value.parts])[:-1]
            split = zip(value.parts, np.split(scale, ends), np.split(shift, ends), strict=True)
            return Joined(tuple(self.scale(part, s, t, where) for part, s, t in split))
        if isinstance(value, Scaled):
            return replace(value, scale=value.scale * scale, shift=value.shift * scale + shift, where=where)
        if not isinstance(value, Combination):
            raise UnsupportedModelError(f"{where}: scales the outputs of a softmax")
        if value.dense and not value.identity:
            reason = f"{where} was folded into {value.dense[0][1].name!r}"
            edges = tuple((l, replace(w, array=w.array * scale[:, None], folded=reason)) for l, w in value.dense)
            old = np.zeros(value.width) if value.bias is None else value.bias.array
            name = f"{value.dense[0][1].name} bias" if value.bias is None else value.bias.name
            new = old * scale + shift
            bias = Parameter(new, name, folded=reason) if value.bias is not None or np.any(new) else None
            return Combination(value.width, edges, bias=bias)
        layer = Combination(value.width, identity=(self._layer(value, where),))
        return Scaled(layer, scale, shift, where)

    def activation(self, value: Value, name: str, where: str) -> Value:
        """Return an activation of a value, by the net's name of it."""
        return self.pointwise(value, activation_function(name), where)

    def pointwise(self, value: Value, function: Callable[[Array], Array], where: str) -> Value:
        """Return a function of a value, number by number."""
        if isinstance(value, Joined):
            return Joined(tuple(self.pointwise(part, function, where) for part in value.parts))
        if isinstance(value, Normalized):
            raise UnsupportedModelError(f"{where}: a function of the outputs of a softmax")
        if isinstance(value, Scaled):
            form = recognize(function)
            if form is not None and form.activation == "identity":
                return self.scale(value, np.array(form.scale), np.array(form.shift), where)
        if isinstance(value, Pointwise):
            inner = value.function
            return Pointwise(value.base, lambda x: function(inner(x)), where)
        return Pointwise(self._combination(value, where), function, where)

    def merge(self, values: Sequence[Value], function: Callable[..., Array], where: str) -> Value | None:
        """Return ``function(*values)``, number by number, where all are functions of one value, None elsewhere."""
        bases = [value.base if isinstance(value, Pointwise) else value for value in values]
        base = bases[0]
        if not isinstance(base, Combination) or any(other is not base for other in bases):
            return None
        parts = [v.function if isinstance(v, Pointwise) else activation_function("identity") for v in values]
        terms = tuple(values) if function is operator.add else ()
        return Pointwise(base, lambda x: function(*(part(x) for part in parts)), where, terms)

    def join(self, values: Iterable[Value]) -> Value:
        """Return values side by side."""
        parts: list[Value] = []
        for value in values:
            parts += value.parts if isinstance(value, Joined) else [value]
        return Joined(tuple(parts)) if len(parts) > 1 else parts[0]

    def settle(self, value: Value) -> Value:
        """Return a value in which functions have become activations of layers."""
        if not isinstance(value, Pointwise):
            return value
        if id(value) not in self._made:
            self._made[id(value)] = self._applied(value)
            self._kept.append(value)
        return self._made[id(value)]

    def repeated(self) -> frozenset[frozenset[str]]:
        """Return what several layers have in common: pre-activations that more than one consumer needs."""
        common: dict[str, frozenset[str]] = {}
        again: set[str] = set()
        for combination in self.combinations:
            names = _names(combination)
            for name in names:
                again |= {name} if name in common else set()
                common[name] = common.get(name, names) & names
        return frozenset(common[name] for name in again)

    def network(self, value: Value, origin: Origin, where: str) -> Network:
        """Return the net whose outputs are a value; ``origin`` without its arrays, which are filled in."""
        final = self._layer(self._combination(value, where), where)
        if final != len(self.combinations):
            raise UnsupportedModelError(f"{where}: the output does not depend on all layers, or has no parameters")
        sources, biases, blocks = [], [], []
        start = 0
        pieces: list[Piece] = []
        shapes: dict[str, tuple[int, ...]] = {}
        folded: str | None = None
        for c in self.combinations:
            sources.append([(layer, "dense") for layer, _ in c.dense] + [(layer, "identity") for layer in c.identity])
            biases.append(c.bias is not None)
            for parameter in c.parameters:
                blocks.append(parameter.array.ravel())
                shape = parameter.array.shape
                pieces.append(Piece(parameter.name, start, shape, parameter.transposed, parameter.columns))
                shapes[parameter.name] = parameter.source_shape()
                folded = folded or parameter.folded
                start += parameter.array.size
        theta = np.concatenate(blocks) if blocks else np.empty(0)
        dtype = np.float32 if blocks and all(b.dtype == np.float32 for b in blocks) else np.float64
        net = Network(self.widths, self.activations, theta.astype(dtype), sources=sources, bias=biases)  # type: ignore[arg-type]
        ordered = {name: shapes[name] for name in origin.shapes if name in shapes}
        ordered |= {name: shape for name, shape in shapes.items() if name not in ordered}
        origin = replace(origin, shapes={} if folded else ordered, pieces=() if folded else tuple(pieces),
                         folded=folded)  # fmt: skip
        net.origin = origin
        return net

    def form(self, value: Value) -> Form | None:
        """Return which activation a function of a value is."""
        return recognize(value.function) if isinstance(value, Pointwise) else None

    def _applied(self, value: Pointwise) -> Value:
        form = self.form(value)
        if form is None and value.terms:
            first, second = value.terms
            return self.add(first, second, value.where)
        if form is None:
            raise UnsupportedModelError(
                f"{value.where}: computes a function that is no activation of a Network; "
                "known are those of krylovh.kernels.ACTIVATIONS, leaky_relu with slope 0.01, elu with alpha 1"
            )
        result: Value = value.base
        if form.activation != "identity":
            result = Combination(value.width, identity=(self._new_layer(value.base, form.activation),))
        if (form.scale, form.shift) != (1.0, 0.0):
            result = self.scale(result, np.array(form.scale), np.array(form.shift), value.where)
        return result

    def _parts(self, value: Value, where: str) -> list[Combination | Scaled]:
        value = self.settle(value)
        if isinstance(value, Joined):
            return [piece for part in value.parts for piece in self._parts(part, where)]
        if isinstance(value, Normalized):
            raise UnsupportedModelError(f"{value.where}: a softmax before other layers ({where}) is not supported")
        assert not isinstance(value, Pointwise)
        return [value]

    def _combination(self, value: Value, where: str) -> Combination:
        value = self.settle(value)
        if isinstance(value, Combination):
            return value
        reason = {
            Scaled: "scales and shifts what no dense layer takes up before or after it",
            Joined: "joins values that no dense layer takes up",
            Normalized: "takes a softmax before the end of the net",
        }[type(value)]
        at = value.where if isinstance(value, (Scaled, Normalized)) else where
        raise UnsupportedModelError(f"{at}: {reason} (needed by {where})" if at != where else f"{at}: {reason}")

    def _settled(self, value: Combination) -> Combination:
        """Make a layer of a pre-activation that several consumers were found to need."""
        if value.parameters and _names(value) in self.shared:
            return Combination(value.width, identity=(self._new_layer(value, "identity"),))
        return value

    def _as_layer(self, value: Combination, where: str) -> Combination:
        return Combination(value.width, identity=(self._layer(value, where),))

    def _layer(self, value: Value, where: str) -> int:
        """Return the number of the layer whose outputs a value is; make one if there is none."""
        value = self._combination(value, where)
        if not value.parameters and len(value.identity) == 1:
            return value.identity[0]
        if id(value) not in self._made:
            self._made[id(value)] = Combination(value.width, identity=(self._new_layer(value, "identity"),))
            self._kept.append(value)
        made = self._made[id(value)]
        assert isinstance(made, Combination)
        return made.identity[0]

    def _new_layer(self, value: Combination, activation: str) -> int:
        self.widths.append(value.width)
        self.activations.append(activation)
        self.combinations.append(value)
        return len(self.combinations)

    def _claim(self, parameter: Parameter, where: str) -> None:
        """Refuse an array that two operations use: its second derivatives would couple both places."""
        before = self._claimed.setdefault(parameter.name, where)
        if before != where:
            raise UnsupportedModelError(f"{where}: uses {parameter.name!r}, which {before} uses too (tied weights)")


def _names(value: Combination) -> frozenset[str]:
    return frozenset(parameter.name for parameter in value.parameters)


def assemble(walk: Callable[[Assembly], Value], origin: Origin, outputs: Outputs | None, where: str) -> Network:
    """Return the net of a graph.

    Parameters
    ----------
    walk : function
        Goes through the graph, given an :class:`Assembly`, and returns the output.
    origin : Origin
        Library and order of the arrays.
    outputs : "logits", "model" or None
        What becomes of a softmax or logistic function at the end: "logits" leaves it out, "model" keeps the logistic
        function; None leaves out softmax, which no net of this library has, and refuses to guess for logistic.
    where : str
        The model, for messages.

    Examples
    --------
    >>> def walk(graph):
    ...     weight = Parameter(np.ones((1, 2)), "w")
    ...     return graph.activation(graph.dense(graph.input(2), weight, None, "a"), "tanh", "b")
    >>> assemble(walk, Origin("file"), None, "example").activations
    ('tanh',)
    """
    if outputs not in ("logits", "model", None):
        raise ValueError(f"outputs must be 'logits', 'model' or None, got {outputs!r}")
    shared: frozenset[frozenset[str]] = frozenset()
    while True:
        graph = Assembly(shared)
        value, link = _without_link(graph, walk(graph), outputs, where)
        net = graph.network(value, replace(origin, link=link), where)
        again = graph.repeated()
        if not again:
            return net
        if again <= shared:
            names = ", ".join(sorted(min(again, key=sorted))[:3])
            raise UnsupportedModelError(f"{where}: parameters {names} belong to several layers")
        shared |= again


def _without_link(graph: Assembly, value: Value, outputs: Outputs | None, where: str) -> tuple[Value, str | None]:
    """Return the value before a softmax or logistic function at the end, and what was left out."""
    if isinstance(value, Normalized):
        if outputs == "model":
            raise UnsupportedModelError(
                f"{value.where}: the model ends in {value.kind}; a Network has no such layer: softmax_cross_entropy "
                "acts on logits, which outputs='logits' asks for"
            )
        return value.base, value.kind
    if isinstance(value, Joined) and len(value.parts) == 2 and value.width == 2:  # 1 - p, p of a binary classifier
        first, second = value.parts
        forms = [graph.form(part) for part in value.parts]
        both = isinstance(first, Pointwise) and isinstance(second, Pointwise) and first.base is second.base
        if both and forms == [Form("logistic", -1.0, 1.0), Form("logistic", 1.0, 0.0)]:
            return second.base, "binary"  # type: ignore[union-attr]
    if isinstance(value, Pointwise) and outputs != "model" and graph.form(value) == Form("logistic", 1.0, 0.0):
        if outputs is None:
            raise UnsupportedModelError(
                f"{value.where}: the model ends in a logistic function; outputs='logits' leaves it out (for "
                "binary_cross_entropy), outputs='model' keeps it (for losses of probabilities)"
            )
        return value.base, "logistic"
    return value, None
