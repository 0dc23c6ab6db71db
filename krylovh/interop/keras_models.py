"""Nets of Keras models: the configuration that a model writes of itself, and the weights of its layers.

Both are plain data, JSON and arrays, so Keras is not needed to read them.  Layers of one's own and Lambda layers are
programs and are refused.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

from krylovh.interop.assembly import (
    Assembly,
    Normalized,
    Outputs,
    Parameter,
    UnsupportedModelError,
    Value,
    assemble,
)
from krylovh.interop.parameters import Origin
from krylovh.interop.self_check import require_equal
from krylovh.network import Network

Array = NDArray[Any]
Weights = Mapping[str, Sequence[Array]]

__all__ = ["network_of_config", "network_of_model", "saved_names"]

_ACTIVATIONS = {
    "linear": "identity", "relu": "relu", "sigmoid": "logistic", "tanh": "tanh", "softplus": "softplus",
    "softsign": "softsign", "selu": "selu", "elu": "elu", "gelu": "gelu", "silu": "silu", "swish": "silu",
    "mish": "mish", "exponential": "exp",
}  # fmt: skip
_NO_OPERATION = {
    "Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization", "Identity", "InputLayer",
}  # fmt: skip
SUPPORTED = (
    "Dense, Activation, ReLU, LeakyReLU (slope 0.01), ELU (alpha 1), Softmax at the end, Add, Concatenate, Flatten, "
    "Reshape, Dropout and noise, BatchNormalization, Normalization, Rescaling; activations " + ", ".join(_ACTIVATIONS)
)


def network_of_model(model: Any, *, outputs: Outputs | None = None, check: bool = True) -> Network:
    """Return the net of a live Keras model: Sequential or Functional, of dense layers.

    Parameters
    ----------
    model : keras.Model
        Read through ``to_json()`` and the layers' ``get_weights()``.
    outputs : "logits" or "model", optional
        What becomes of a softmax or sigmoid at the end, see :func:`krylovh.load_network`; "logits" where the model was
        compiled with a cross-entropy.
    check : bool
        Compare with ``model.predict`` on random inputs.

    Returns
    -------
    Network
        float32, as Keras's weights are by default.

    Raises
    ------
    UnsupportedModelError
        The model does what no Network does; the message names the layer.
    ImportCheckError
        The net does not compute what the model computes.

    Examples
    --------
    >>> class Layer:
    ...     name = "dense"
    ...     def get_weights(self):
    ...         return [np.ones((2, 1)), np.zeros(1)]
    >>> class Model:  # as much of a Keras model as is used
    ...     layers = [Layer()]
    ...     def to_json(self):
    ...         config = {"name": "dense", "units": 1, "activation": "tanh", "use_bias": True}
    ...         layers = [{"class_name": "Dense", "config": config}]
    ...         return json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
    >>> network_of_model(Model(), check=False).activations
    ('tanh',)
    """
    for needed in ("to_json", "layers"):
        if not hasattr(model, needed):
            raise TypeError(f"model must be a Keras model, got {type(model).__name__}, which has no {needed}")
    config = json.loads(model.to_json())
    weights = {layer.name: [np.asarray(array) for array in layer.get_weights()] for layer in model.layers}
    if outputs is None and "crossentropy" in _text_of(getattr(model, "loss", None)):
        outputs = "logits"
    net = network_of_config(config, weights, "Keras model", outputs=outputs)
    if check:
        _compare(model, net)
    return net


def network_of_config(config: Any, weights: Weights, name: str, *, outputs: Outputs | None = None) -> Network:
    """Return the net of a model's configuration and the weights of its layers by name.

    Examples
    --------
    >>> layer = {"class_name": "Dense", "config": {"name": "dense", "units": 1, "activation": "softmax"}}
    >>> config = {"class_name": "Sequential", "config": {"layers": [layer]}}
    >>> network_of_config(config, {"dense": [np.ones((2, 1)), np.zeros(1)]}, "example").origin.link
    'softmax'
    """
    layers = _layers(config, name)
    if outputs is None and "crossentropy" in _text_of((config.get("compile_config") or {}).get("loss")):
        outputs = "logits"
    shapes = {
        f"{layer['config']['name']}/{kind}": tuple(array.shape)
        for layer in layers
        for kind, array in zip(("kernel", "bias"), weights.get(layer["config"]["name"], ()), strict=False)
    }
    walk = _Walk(config, layers, weights, name)
    return assemble(walk.output, Origin("keras", shapes), outputs, name)


def saved_names(config: Any, name: str) -> dict[str, str]:
    """Return under which name Keras 3 stores the weights of each layer: its class, and how many there were before.

    Examples
    --------
    >>> layers = [{"class_name": "Dense", "config": {"name": name}} for name in ("hidden", "out")]
    >>> saved_names({"class_name": "Sequential", "config": {"layers": layers}}, "example")
    {'hidden': 'dense', 'out': 'dense_1'}
    """
    seen: dict[str, int] = {}
    names = {}
    for layer in _layers(config, name):
        kind = layer["class_name"]
        snake = "".join(f"_{c.lower()}" if c.isupper() and i and not kind[i - 1].isupper() else c.lower()
                        for i, c in enumerate(kind))  # fmt: skip
        number = seen[snake] = seen.get(snake, -1) + 1
        names[layer["config"]["name"]] = f"{snake}_{number}" if number else snake
    return names


def _layers(config: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(config, dict) or config.get("class_name") not in ("Sequential", "Functional", "Model"):
        kind = config.get("class_name") if isinstance(config, dict) else type(config).__name__
        raise UnsupportedModelError(f"{name}: is a {str(kind)[:60]}; supported are Sequential and Functional models")
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    if not isinstance(layers, list) or not layers:
        raise UnsupportedModelError(f"{name}: has no layers")
    names = set()
    for i, layer in enumerate(layers):
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            raise UnsupportedModelError(f"{name}: layer {i} has no configuration")
        if not isinstance(layer.get("class_name"), str):
            raise UnsupportedModelError(f"{name}: layer {i} has no class")
        label = layer["config"].setdefault("name", layer.get("name", f"layer {i}"))
        if not isinstance(label, str) or label in names or len(label) > 200:
            raise UnsupportedModelError(f"{name}: has two layers named {str(label)[:60]!r}, or no name")
        names.add(label)
    return layers


class _Walk:
    """Goes through the layers of a model."""

    def __init__(self, config: Any, layers: list[dict[str, Any]], weights: Weights, name: str) -> None:
        self.config, self.layers, self.weights, self.name = config, layers, weights, name

    def output(self, assembly: Assembly) -> Value:
        """Return the model's output."""
        self.assembly = assembly
        axes = self._input_axes()
        start = (assembly.input(math.prod(axes)), axes)
        if self.config["class_name"] == "Sequential":
            current: tuple[Value, tuple[int, ...]] = start
            for layer in self.layers:
                current = self._apply(layer, [current])
            return current[0]
        return self._functional(start)

    def _functional(self, start: tuple[Value, tuple[int, ...]]) -> Value:
        outer = self.config["config"]
        ends = {key: _names_in(outer.get(key)) for key in ("input_layers", "output_layers")}
        for key, names in ends.items():
            if len(names) != 1:
                raise UnsupportedModelError(f"{self.name}: must have one of {key}, has {names[:10]}")
        by_name = {layer["config"]["name"]: layer for layer in self.layers}
        values: dict[str, tuple[Value, tuple[int, ...]]] = {ends["input_layers"][0]: start}
        (final,) = ends["output_layers"]
        stack, waiting = [final], set()
        while stack:
            label = stack[-1]
            if label in values:
                stack.pop()
                continue
            if label not in by_name:
                raise UnsupportedModelError(f"{self.name}: refers to a layer {label[:60]!r}, which it does not have")
            nodes = by_name[label].get("inbound_nodes") or []
            if len(nodes) != 1:
                raise UnsupportedModelError(
                    f"{self.name}: layer {label!r} is applied {len(nodes)} times; supported is once"
                )
            sources = _histories(nodes[0])
            missing = [source for source in sources if source not in values]
            if missing and label in waiting:
                raise UnsupportedModelError(f"{self.name}: layer {label!r} depends on its own output")
            if missing:
                waiting.add(label)
                stack += missing
                continue
            values[label] = self._apply(by_name[label], [values[source] for source in sources])
            stack.pop()
        return values[final][0]

    def _input_axes(self) -> tuple[int, ...]:
        for layer in self.layers:
            inner = layer["config"]
            shape = inner.get("batch_shape") or inner.get("batch_input_shape") or inner.get("batch_input_shape")
            shape = shape or (layer.get("build_config") or {}).get("input_shape")
            if isinstance(shape, (list, tuple)) and len(shape) > 1:
                axes = shape[1:]
                if not all(type(side) is int and 0 < side < 1 << 31 for side in axes):
                    raise UnsupportedModelError(f"{self.name}: the input has the shape {str(shape)[:60]}")
                return tuple(axes)
            arrays = self.weights.get(inner["name"], ())
            if layer["class_name"] == "Dense" and len(arrays) and arrays[0].ndim == 2:
                return (arrays[0].shape[0],)
        raise UnsupportedModelError(f"{self.name}: the width of its input is not known")

    def _apply(
        self, layer: dict[str, Any], sources: list[tuple[Value, tuple[int, ...]]]
    ) -> tuple[Value, tuple[int, ...]]:
        kind, inner = layer["class_name"], layer["config"]
        where = f"{self.name}: layer {inner['name']!r} ({kind[:60]})"
        module = layer.get("module")
        if module is not None and not str(module).startswith("keras"):
            raise UnsupportedModelError(
                f"{where}: comes from {str(module)[:60]}, not from Keras; supported are {SUPPORTED}"
            )
        if kind == "Add":
            total = sources[0][0]
            for value, _ in sources[1:]:
                total = self.assembly.add(total, value, where)
            return total, sources[0][1]
        if kind == "Concatenate":
            if inner.get("axis", -1) not in (-1, 1) or any(len(axes) != 1 for _, axes in sources):
                raise UnsupportedModelError(
                    f"{where}: supported is the concatenation of flat layers along the last axis"
                )
            joined = self.assembly.join(value for value, _ in sources)
            return joined, (joined.width,)
        if len(sources) != 1:
            raise UnsupportedModelError(f"{where}: takes {len(sources)} inputs; supported are {SUPPORTED}")
        ((value, axes),) = sources
        if kind in _NO_OPERATION:
            return value, axes
        if kind == "Flatten":
            return value, (value.width,)
        if kind == "Reshape":
            shape = [side for side in inner.get("target_shape", ()) if side != -1]
            rest = math.prod(shape)
            full = tuple(value.width // rest if side == -1 else side for side in inner["target_shape"])
            if math.prod(full) != value.width:
                raise UnsupportedModelError(f"{where}: brings width {value.width} to the shape {full}")
            return value, full
        if len(axes) != 1:
            raise UnsupportedModelError(f"{where}: acts on the axes {axes}; supported are flat rows")
        if kind == "Dense":
            return self._dense(inner, value, where)
        return self._flat(kind, inner, value, where), axes

    def _dense(self, inner: dict[str, Any], value: Value, where: str) -> tuple[Value, tuple[int, ...]]:
        arrays = self._arrays(inner["name"], 2 if inner.get("use_bias", True) else 1, where)
        if arrays[0].shape != (value.width, inner.get("units", arrays[0].shape[-1])):
            needed = (value.width, inner.get("units"))
            raise UnsupportedModelError(f"{where}: the kernel must have shape {needed}, got {arrays[0].shape}")
        kernel = Parameter(np.ascontiguousarray(arrays[0].T), f"{inner['name']}/kernel", transposed=True)
        bias = Parameter(arrays[1], f"{inner['name']}/bias") if len(arrays) == 2 else None
        dense = self.assembly.dense(value, kernel, bias, where)
        return self._activation(inner.get("activation"), dense, where), (dense.width,)

    def _flat(self, kind: str, inner: dict[str, Any], value: Value, where: str) -> Value:
        if kind == "Activation":
            return self._activation(inner.get("activation"), value, where)
        if kind == "Softmax":
            if inner.get("axis", -1) not in (-1, 1):
                raise UnsupportedModelError(f"{where}: axis must be -1, got {inner['axis']}")
            return Normalized(value, "softmax", where)
        slope = inner.get("negative_slope", inner.get("alpha"))
        if kind == "ReLU" and not inner.get("max_value") and not slope and not inner.get("threshold"):
            return self.assembly.activation(value, "relu", where)
        if kind == "LeakyReLU" and slope is not None and math.isclose(_number(slope), 0.01, rel_tol=1e-6):
            return self.assembly.activation(value, "leaky_relu", where)
        if kind == "ELU" and _number(inner.get("alpha", 1.0)) == 1.0:
            return self.assembly.activation(value, "elu", where)
        if kind == "BatchNormalization":
            return self._batch_norm(inner, value, where)
        if kind == "Rescaling":
            scale, offset = (
                np.asarray(inner.get("scale", 1.0), np.float64),
                np.asarray(inner.get("offset", 0.0), np.float64),
            )
            return self.assembly.scale(value, scale, offset, where)
        if kind == "Normalization" and not inner.get("invert"):
            arrays = self.weights.get(inner["name"], ())
            pair = arrays[:2] if len(arrays) >= 2 else (inner.get("mean"), inner.get("variance"))
            if pair[0] is not None and pair[1] is not None:
                mean, variance = (np.asarray(array, np.float64).reshape(-1) for array in pair)
                scale = 1.0 / np.maximum(np.sqrt(variance), 1e-7)
                return self.assembly.scale(value, scale, -mean * scale, where)
        raise UnsupportedModelError(f"{where}: is not supported as it is configured; supported are {SUPPORTED}")

    def _batch_norm(self, inner: dict[str, Any], value: Value, where: str) -> Value:
        flags = bool(inner.get("scale", True)), bool(inner.get("center", True))
        arrays = [np.asarray(a, np.float64) for a in self._arrays(inner["name"], 2 + sum(flags), where)]
        if any(array.shape != (value.width,) for array in arrays) or _axis(inner.get("axis", -1)) not in (-1, 1):
            raise UnsupportedModelError(f"{where}: statistics must have shape ({value.width},)")
        gamma = arrays.pop(0) if flags[0] else np.ones(value.width)
        beta = arrays.pop(0) if flags[1] else np.zeros(value.width)
        mean, variance = arrays
        scale = gamma / np.sqrt(variance + _number(inner.get("epsilon", 1e-3)))
        return self.assembly.scale(value, scale, beta - mean * scale, where)

    def _arrays(self, label: str, number: int, where: str) -> Sequence[Array]:
        arrays = self.weights.get(label, ())
        if len(arrays) != number:
            raise UnsupportedModelError(f"{where}: must have {number} arrays of weights, found {len(arrays)}")
        return arrays

    def _activation(self, activation: Any, value: Value, where: str) -> Value:
        name = activation
        if isinstance(activation, dict):
            builtin = str(activation.get("module", "builtins")).split(".")[0] in ("builtins", "keras", "None")
            name = activation.get("config") if builtin else activation.get("registered_name", "?")
        if name is None or name == "linear":
            return value
        if name in ("softmax", "log_softmax"):
            return Normalized(value, name, where)
        if not isinstance(name, str) or name not in _ACTIVATIONS:
            raise UnsupportedModelError(
                f"{where}: activation {str(name)[:60]!r} is not supported; supported are {SUPPORTED}"
            )
        return self.assembly.activation(value, _ACTIVATIONS[name], where)


def _histories(node: Any) -> list[str]:
    """Return the layers that a node takes its inputs from, in the forms of Keras 3 and Keras 2."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            return [str(node["config"]["keras_history"][0])]
        return [name for value in node.values() for name in _histories(value)]
    if isinstance(node, (list, tuple)):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int) and isinstance(node[2], int):
            return [node[0]]
        return [name for part in node for name in _histories(part)]
    return []


def _names_in(ends: Any) -> list[str]:
    """Return the layers in ``[["dense", 0, 0]]`` or ``["dense", 0, 0]``."""
    return _histories(ends)


def _axis(axis: Any) -> Any:
    return axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis


def _number(value: Any) -> float:
    if isinstance(value, dict):  # an array in a configuration of Keras 3
        value = value.get("config", {}).get("value", math.nan)
    return float(np.asarray(value, np.float64).reshape(-1)[0])


def _text_of(loss: Any) -> str:
    """Return the name of a loss, without underscores."""
    if isinstance(loss, dict):
        loss = loss.get("class_name", "")
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    return str(name).lower().replace("_", "")


def _compare(model: Any, net: Network) -> None:
    # in float32, in which Keras multiplies matrices on some backends whatever the dtype of layers
    X = np.random.default_rng(0).standard_normal((8, net.widths[0])).astype(np.float32)
    shape = getattr(model, "input_shape", (None, net.widths[0]))[1:]
    theirs = np.asarray(model.predict(X.reshape(8, *shape), verbose=0)).reshape(8, -1)
    z = net.with_theta(np.asarray(net.theta, np.float64)).forward(X)
    links: dict[str | None, Callable[[], Array]] = {
        None: lambda: z, "softmax": lambda: softmax(z, axis=1), "log_softmax": lambda: log_softmax(z, axis=1),
        "logistic": lambda: expit(z),
    }  # fmt: skip
    require_equal("outputs", links[net.origin.link](), theirs, np.float32, "Keras model")
