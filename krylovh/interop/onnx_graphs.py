"""The graph of an ONNX model, from its output back to its input, as layers of a net.

Only what the chosen output depends on is looked at, so the label that a classifier computes beside its probabilities
may be made in any way.  Matrix products become dense edges, additions biases or skip connections, and whatever is
computed number by number becomes an activation, if it is one.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

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
from krylovh.interop.pointwise import activation_function
from krylovh.network import Network
from krylovh.storage.errors import CorruptFileError

Array = NDArray[Any]
Node = dict[str, Any]

__all__ = ["SUPPORTED", "final_tensor", "needed_nodes", "network_of_graph"]

_FLOATS = (1, 10, 11, 16)  # float, float16, double, bfloat16
_BATCH = np.iinfo(np.int64).min  # stands for the number of rows in a shape that the graph asks for
_NEWEST_OPSET = 30

_UNARY: dict[str, Callable[[Array], Array]] = {
    "Relu": activation_function("relu"), "Tanh": np.tanh, "Sigmoid": activation_function("logistic"),
    "Softplus": activation_function("softplus"), "Softsign": activation_function("softsign"),
    "Mish": activation_function("mish"), "Erf": erf, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt,
    "Neg": operator.neg, "Abs": np.abs, "Reciprocal": np.reciprocal, "Sin": np.sin, "Cos": np.cos,
}  # fmt: skip
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Div": operator.truediv, "Pow": operator.pow,
    "Max": np.maximum, "Min": np.minimum, "Greater": operator.gt, "GreaterOrEqual": operator.ge, "Less": operator.lt,
    "LessOrEqual": operator.le,
}  # fmt: skip
SUPPORTED = (
    "Gemm, MatMul, Add, Sub, Sum, Concat of layers, BatchNormalization, Scaler, activations (Relu, LeakyRelu(0.01), "
    "Elu(1), Celu(1), Selu, Tanh, Sigmoid, Softplus, Softsign, Gelu, Swish, Mish, Sin, and what Mul, Div, Erf, Exp, "
    "Log, Pow spell out), Softmax and LogSoftmax at the end, Flatten, Reshape, Cast, Identity, Dropout, ZipMap"
)


@dataclass(frozen=True)
class Constant:
    """A known array, and which array of the model it is."""

    array: Array
    name: str
    shape: tuple[int, ...]  # in the model
    transposed: bool = False

    def parameter(self, array: Array, *, transposed: bool = False) -> Parameter:
        """Return it as a weight or bias."""
        return Parameter(array, self.name, transposed, shape=self.shape)


@dataclass(frozen=True)
class Tensor:
    """A value, and the axes behind that of the rows: (width,), or several of which width is the product."""

    value: Value
    axes: tuple[int, ...]


def network_of_graph(
    header: dict[str, Any], arrays: dict[str, Array], name: str, *, output: str | None, outputs: Outputs | None
) -> Network:
    """Return the net of a graph that ``onnx_reader.describe`` has described."""
    version = header["opsets"].get("", header["opsets"].get("ai.onnx", 1))
    if not 1 <= version <= _NEWEST_OPSET:
        raise UnsupportedModelError(f"{name}: has opset {version}; known are 1 to {_NEWEST_OPSET}")
    final = final_tensor(header, output, name)
    order = needed_nodes(header, final, name)
    names = {
        key: tuple(_array(entry, arrays).shape) for key, entry in header["initializers"].items() if "array" in entry
    }
    has_labels = any(info["kind"] == "tensor" and info["type"] not in _FLOATS for info in header["outputs"])
    if outputs is None and has_labels and len(header["outputs"]) > 1:
        outputs = "logits"  # a classifier: labels beside probabilities
    return assemble(
        lambda assembly: _Walk(assembly, header, arrays, version, name).output(order, final),
        Origin("onnx", names), outputs, name,
    )  # fmt: skip


def final_tensor(header: dict[str, Any], output: str | None, name: str) -> str:
    """Return the name of the tensor that is the chosen output, before it is put into dictionaries (ZipMap)."""
    infos = header["outputs"]
    names = [info["name"] for info in infos]
    if output is None:
        chosen = [info["name"] for info in infos if info["kind"] != "tensor" or info["type"] in _FLOATS]
        if len(chosen) != 1:
            raise UnsupportedModelError(f"{name}: has the outputs {', '.join(names)}; choose one of them by output=")
        output = chosen[0]
    if output not in names:
        raise ValueError(f"output must be one of {', '.join(names)}, got {output!r}")
    for node in header["nodes"]:
        if output in node["outputs"] and node["op"] == "ZipMap":
            return str(node["inputs"][0])
    return str(output)


def needed_nodes(header: dict[str, Any], final: str, name: str) -> list[Node]:
    """Return the nodes that the output depends on, each behind those that it depends on itself."""
    maker: dict[str, Node] = {}
    for node in header["nodes"]:
        for tensor in node["outputs"]:
            if tensor and (tensor in maker or tensor in header["initializers"]):
                raise CorruptFileError(
                    f"{name}: {tensor!r} is the output of {_where(node)}, and of something before it"
                )
            maker[tensor] = node
    known = {info["name"] for info in header["inputs"]} | set(header["initializers"])
    order: list[Node] = []
    done: set[int] = set()
    open_nodes: set[int] = set()
    stack: list[tuple[str, Node | None]] = [(final, None)]
    while stack:
        tensor, finished = stack.pop()
        if finished is not None:
            open_nodes.discard(id(finished))
            done.add(id(finished))
            order.append(finished)
            continue
        if tensor == "" or tensor in known:
            continue
        if tensor not in maker:
            raise CorruptFileError(f"{name}: nothing computes the tensor {tensor!r}")
        node = maker[tensor]
        if id(node) in done:
            continue
        if id(node) in open_nodes:
            raise CorruptFileError(f"{name}: {_where(node)} depends on its own output")
        open_nodes.add(id(node))
        stack.append((tensor, node))
        stack += [(source, None) for source in node["inputs"]]
    return order


def _where(node: Node) -> str:
    label = node["name"] or (node["outputs"] or ["?"])[0]
    return f"node {label!r} ({node['domain'] + '.' if node['domain'] not in ('', 'ai.onnx') else ''}{node['op']})"


def _array(entry: Any, arrays: dict[str, Array]) -> Array:
    return arrays[entry["array"]]


class _Walk:
    """Goes through nodes in order, and keeps what each tensor is."""

    def __init__(
        self, assembly: Assembly, header: dict[str, Any], arrays: dict[str, Array], version: int, name: str
    ) -> None:
        self.assembly = assembly
        self.arrays = arrays
        self.version = version
        self.name = name
        self.known: dict[str, Constant | Tensor] = {}
        for key, entry in header["initializers"].items():
            if "array" in entry:
                array = _array(entry, arrays)
                self.known[key] = Constant(array, key, array.shape)
        self.inputs = [info for info in header["inputs"] if info["name"] not in header["initializers"]]

    def output(self, order: list[Node], final: str) -> Value:
        """Return what the final tensor is."""
        if len(self.inputs) != 1:
            raise UnsupportedModelError(f"{self.name}: must have one input, has {[i['name'] for i in self.inputs]}")
        (info,) = self.inputs
        axes = (info["shape"] or [None, None])[1:]
        if not axes or (len(axes) > 1 and None in axes):
            raise UnsupportedModelError(
                f"{self.name}: input {info['name']!r} must be (rows, width), got {info['shape']}"
            )
        if axes == [None]:
            axes = [self._first_width(order)]
        width = int(np.prod(axes, dtype=object))
        if not 0 < width < 1 << 31:
            raise CorruptFileError(f"{self.name}: input {info['name']!r} has the shape {info['shape']}")
        self.rows = (info["shape"] or [None])[0]  # of a model for one number of rows alone
        self.known[info["name"]] = Tensor(self.assembly.input(width), tuple(axes))
        for node in order:
            where = f"{self.name}: {_where(node)}"
            self.known[node["outputs"][0]] = self._apply(node, where)
        value = self.known[final]
        if isinstance(value, Constant):
            raise UnsupportedModelError(f"{self.name}: the output {final!r} is constant")
        return value.value

    def _first_width(self, order: list[Node]) -> int:
        for node in order:
            if node["op"] in ("Gemm", "MatMul") and len(node["inputs"]) > 1:
                weight = self.known.get(node["inputs"][1])
                if isinstance(weight, Constant) and weight.array.ndim == 2:
                    return int(weight.array.shape[1 if node["attributes"].get("transB") else 0])
        raise UnsupportedModelError(f"{self.name}: the width of the input is not known")

    def _apply(self, node: Node, where: str) -> Constant | Tensor:
        op, attributes = node["op"], node["attributes"]
        for attribute in attributes.values():
            if isinstance(attribute, dict) and "unread" in attribute:
                raise self._unsupported(where)
        if node["domain"] not in ("", "ai.onnx", "ai.onnx.ml"):
            raise self._unsupported(where)
        inputs = [self.known.get(name) if name else None for name in node["inputs"]]
        for name, value in zip(node["inputs"], inputs, strict=True):
            if name and value is None:
                raise self._unsupported(f"{where}: the value {name!r}")
        if op == "Constant":
            return self._constant(node, where)
        if inputs and all(isinstance(value, Constant) for value in inputs if value is not None):
            return self._folded(op, attributes, [v for v in inputs if isinstance(v, Constant)], where)
        if node["domain"] == "ai.onnx.ml" and op != "Scaler":
            raise self._unsupported(where)
        method = getattr(self, f"_{op.lower()}", None) if op in _METHODS else None
        if method is not None:
            result: Constant | Tensor = method(inputs, attributes, where)
            return result
        if op in _UNARY:
            return self._pointwise(inputs, _UNARY[op], where)
        if op in _BINARY:
            return self._binary(op, inputs, where)
        function = self._with_options(op, attributes, inputs)
        if function is not None:
            return self._pointwise(inputs[:1], function, where)
        raise self._unsupported(where)

    def _unsupported(self, where: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{where} is not supported; supported are {SUPPORTED}")

    # what is known beforehand

    def _constant(self, node: Node, where: str) -> Constant:
        attributes = node["attributes"]
        if "value" in attributes:
            array = _array(attributes["value"], self.arrays) if "array" in attributes["value"] else None
        else:
            array = next((np.asarray(v) for v in attributes.values()), None)
            array = array.astype(np.float32) if array is not None and array.dtype.kind == "f" else array
        if array is None or array.dtype.kind not in "fi":
            raise self._unsupported(where)
        return Constant(array, node["outputs"][0], array.shape)

    def _folded(self, op: str, attributes: Any, inputs: list[Constant], where: str) -> Constant:
        """Return what comes of constants: those operations that only arrange numbers."""
        first = inputs[0]
        array = first.array
        if op == "Identity":
            return first
        if op == "Cast" and array.dtype.kind in "fi":
            kinds = {1: np.float32, 10: np.float16, 11: np.float64, 6: np.int32, 7: np.int64}
            if attributes.get("to") in kinds and (array.dtype.kind == "f" or attributes["to"] in (6, 7)):
                to = kinds[attributes["to"]]
                return replace(first, array=array.astype(to) if np.dtype(to).kind == array.dtype.kind else array)
        if op == "Transpose" and array.ndim == 2 and attributes.get("perm", [1, 0]) == [1, 0]:
            return replace(first, array=array.T, transposed=not first.transposed)
        if op == "Gather" and array.ndim == 1 and attributes.get("axis", 0) == 0:
            return Constant(array[inputs[1].array], first.name, first.shape)
        if op in ("Unsqueeze", "Squeeze") and array.size == array.reshape(-1).size and array.ndim <= 2:
            flat = array.reshape(-1)
            if array.dtype.kind == "i":
                return replace(first, array=flat[0] if op == "Squeeze" and flat.size == 1 else flat)
            return replace(first, array=flat)
        if op == "Concat" and all(value.array.dtype.kind == "i" for value in inputs):
            return Constant(np.concatenate([value.array.reshape(-1) for value in inputs]), first.name, first.shape)
        if op == "Reshape" and array.size and not first.transposed:
            shape = [int(side) for side in inputs[1].array]
            if sum(side == -1 for side in shape) <= 1 and all(side >= -1 for side in shape):
                try:
                    return replace(first, array=array.reshape(shape))
                except ValueError:
                    raise CorruptFileError(f"{where}: {array.shape} does not fit the shape {shape}") from None
        raise UnsupportedModelError(f"{where}: of constants is not supported; export the model with constants folded")

    # layers

    def _gemm(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        if attributes.get("transA", 0) or not isinstance(inputs[1], Constant) or inputs[1].array.ndim != 2:
            raise UnsupportedModelError(f"{where}: supported is x W + b with a constant W of two axes")
        weight = self._weight(inputs[1], is_transposed=not attributes.get("transB", 0))
        bias = None
        if len(inputs) > 2 and inputs[2] is not None:
            if not isinstance(inputs[2], Constant):
                raise UnsupportedModelError(f"{where}: supported is a constant b")
            bias = self._bias(inputs[2], len(weight.array), where)
        if alpha != 1.0:
            weight = replace(weight, array=weight.array * alpha, folded=f"{where} multiplies by alpha = {alpha:g}")
        if bias is not None and beta != 1.0:
            bias = replace(bias, array=bias.array * beta, folded=f"{where} multiplies by beta = {beta:g}")
        return self._dense(inputs[0], weight, bias, where)

    def _matmul(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        if not isinstance(inputs[1], Constant) or inputs[1].array.ndim != 2:
            raise UnsupportedModelError(f"{where}: supported is the product of a layer with a constant of two axes")
        return self._dense(inputs[0], self._weight(inputs[1], is_transposed=True), None, where)

    def _dense(self, source: Any, weight: Parameter, bias: Parameter | None, where: str) -> Tensor:
        if len(source.axes) != 1:
            raise UnsupportedModelError(f"{where}: acts on the last of the axes {source.axes}; supported are flat rows")
        if weight.array.shape[1] != source.value.width:
            raise CorruptFileError(f"{where}: takes {weight.array.shape[1]} inputs, and is given {source.value.width}")
        return Tensor(self.assembly.dense(source.value, weight, bias, where), (len(weight.array),))

    def _weight(self, constant: Constant, *, is_transposed: bool) -> Parameter:
        array = constant.array.T if is_transposed else constant.array
        return constant.parameter(_numbers(array), transposed=is_transposed != constant.transposed)

    def _bias(self, constant: Constant, width: int, where: str) -> Parameter:
        if constant.array.size == width:
            return constant.parameter(_numbers(constant.array.reshape(-1)))
        if constant.array.size == 1:
            reason = f"{where} adds one number to all units"
            return Parameter(np.full(width, constant.array.item()), constant.name, folded=reason)
        raise CorruptFileError(f"{where}: the bias must have shape ({width},), got {constant.array.shape}")

    def _sum(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        total = inputs[0]
        for value in inputs[1:]:
            total = self._binary("Add", [total, value], where)
        return total  # type: ignore[no-any-return]

    def _concat(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        if attributes.get("axis") not in (1, -1) or not all(isinstance(v, Tensor) and len(v.axes) == 1 for v in inputs):
            raise UnsupportedModelError(f"{where}: supported is the concatenation of layers along axis 1")
        value = self.assembly.join(tensor.value for tensor in inputs)
        return Tensor(value, (value.width,))

    def _batchnormalization(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        source, *constants = inputs
        if (
            attributes.get("training_mode", 0)
            or len(constants) != 4
            or not all(isinstance(c, Constant) for c in constants)
        ):
            raise UnsupportedModelError(f"{where}: supported is evaluation mode with constant statistics")
        width = source.value.width
        if len(source.axes) != 1 or any(c.array.shape != (width,) for c in constants):
            raise UnsupportedModelError(f"{where}: supported are flat rows, and statistics of shape ({width},)")
        gain, offset, mean, variance = (np.asarray(c.array, np.float64) for c in constants)
        scale = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        return Tensor(self.assembly.scale(source.value, scale, offset - mean * scale, where), source.axes)

    def _scaler(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        source = inputs[0]
        scale = np.asarray(attributes.get("scale", [1.0]), np.float64)
        offset = np.asarray(attributes.get("offset", [0.0]), np.float64)
        for array in (scale, offset):
            if array.shape not in ((1,), (source.value.width,)):
                raise CorruptFileError(f"{where}: has {array.size} numbers for width {source.value.width}")
        return Tensor(self.assembly.scale(source.value, scale, -offset * scale, where), source.axes)

    # what leaves rows as they are

    def _identity(self, inputs: list[Any], attributes: Any, where: str) -> Any:
        return inputs[0]

    def _dropout(self, inputs: list[Any], attributes: Any, where: str) -> Any:
        if len(inputs) > 2 and inputs[2] is not None:
            raise UnsupportedModelError(f"{where}: supported is evaluation mode, without an input training_mode")
        return inputs[0]

    def _cast(self, inputs: list[Any], attributes: Any, where: str) -> Any:
        if attributes.get("to") not in _FLOATS:
            raise UnsupportedModelError(f"{where}: supported are casts to floating point numbers")
        return inputs[0]

    def _flatten(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        if attributes.get("axis", 1) not in (1, -len(inputs[0].axes)):
            raise UnsupportedModelError(f"{where}: axis must be 1, got {attributes['axis']}")
        return Tensor(inputs[0].value, (inputs[0].value.width,))

    def _reshape(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        source = inputs[0]
        shape = attributes.get("shape") if len(inputs) < 2 else None
        if shape is None:
            if not isinstance(inputs[1], Constant):
                raise UnsupportedModelError(f"{where}: supported is a constant shape")
            shape = inputs[1].array.reshape(-1).tolist()
        width = source.value.width
        same_rows = (0, _BATCH) if self.rows is None else (0, _BATCH, self.rows)
        keeps_rows = bool(shape) and (shape[0] in same_rows or (shape[0] == -1 and -1 not in shape[1:]))
        axes = [int(side) for side in shape[1:]]
        if keeps_rows and axes.count(-1) == 1 and all(side > 0 or side == -1 for side in axes):
            rest = int(np.prod([side for side in axes if side > 0], dtype=object))
            axes[axes.index(-1)] = width // rest if width % rest == 0 else 0
        if not keeps_rows or not axes or min(axes) < 1 or int(np.prod(axes, dtype=object)) != width:
            raise UnsupportedModelError(f"{where}: supported are shapes that keep the rows, got {shape}")
        return Tensor(source.value, tuple(axes))

    def _squeeze(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        axes = inputs[1].array.reshape(-1).tolist() if len(inputs) > 1 else attributes.get("axes")
        if inputs[0].axes != (1,) or axes not in ([1], [-1]):
            raise UnsupportedModelError(f"{where}: supported is leaving out the axis of one output")
        return inputs[0]  # type: ignore[no-any-return]

    def _shape(self, inputs: list[Any], attributes: Any, where: str) -> Constant:
        shape = np.array([_BATCH, *inputs[0].axes], np.int64)[attributes.get("start", 0) : attributes.get("end")]
        return Constant(shape, where, shape.shape)

    def _softmax(self, inputs: list[Any], attributes: Any, where: str, kind: str = "softmax") -> Tensor:
        axis = attributes.get("axis", -1 if self.version >= 13 else 1)
        if axis not in (1, -1) or len(inputs[0].axes) != 1:
            raise UnsupportedModelError(f"{where}: axis must be 1, of flat rows, got {axis}")
        return Tensor(Normalized(inputs[0].value, kind, where), inputs[0].axes)

    def _logsoftmax(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        return self._softmax(inputs, attributes, where, "log_softmax")

    # functions of numbers

    def _pointwise(self, inputs: list[Any], function: Callable[[Array], Array], where: str) -> Tensor:
        source = inputs[0]
        if isinstance(source.value, Normalized) and where.endswith("(Log)") and source.value.kind == "softmax":
            return Tensor(replace(source.value, kind="log_softmax"), source.axes)
        return Tensor(self.assembly.pointwise(source.value, function, where), source.axes)

    def _with_options(self, op: str, a: dict[str, Any], inputs: list[Any]) -> Callable[[Array], Array] | None:
        """Return an activation that has options."""
        if op == "LeakyRelu":
            return lambda x: np.where(x > 0, x, a.get("alpha", 0.01) * x)
        if op == "Elu":
            return lambda x: np.where(x > 0, x, a.get("alpha", 1.0) * np.expm1(np.minimum(x, 0)))
        if op == "Celu":
            alpha = a.get("alpha", 1.0) or 1.0
            return lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))
        if op == "Selu":
            alpha, gamma = a.get("alpha", 1.67326319217681884765625), a.get("gamma", 1.05070102214813232421875)
            return lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
        if op == "Gelu":
            return activation_function("gelu_tanh" if a.get("approximate", "none") == "tanh" else "gelu")
        if op == "Swish":
            return lambda x: x * activation_function("logistic")(a.get("alpha", 1.0) * x)
        if op == "HardSigmoid":
            return lambda x: np.clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1)
        if op == "Clip":
            bounds = [c.array.item() if isinstance(c, Constant) and c.array.size == 1 else None for c in inputs[1:]]
            low, high = (*bounds, None, None)[:2]
            low, high = a.get("min", low), a.get("max", high)
            return lambda x: np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)
        return None

    def _binary(self, op: str, inputs: list[Any], where: str) -> Tensor:
        if len(inputs) != 2:
            raise self._unsupported(where)
        first, second = inputs
        function = _BINARY[op]
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            if first.axes != second.axes:
                raise UnsupportedModelError(f"{where}: combines the axes {first.axes} and {second.axes}")
            is_sum = op == "Add"
            merged = self.assembly.merge([first.value, second.value], function, where)
            if merged is None and not is_sum:
                raise UnsupportedModelError(
                    f"{where}: of two layers only sums are supported; supported are {SUPPORTED}"
                )
            return replace(first, value=merged or self.assembly.add(first.value, second.value, where))
        source, constant = (first, second) if isinstance(first, Tensor) else (second, first)
        number = np.asarray(constant.array, np.float64)
        if constant.array.dtype.kind != "f" and op != "Pow":
            raise self._unsupported(where)
        if op == "Add" and number.shape in ((source.value.width,), (1, source.value.width)) and len(source.axes) == 1:
            biased = self.assembly.bias(source.value, self._bias(constant, source.value.width, where), where)
            if biased is not None:
                return replace(source, value=biased)
        if number.size == 1 and number.ndim <= 1 + len(source.axes):
            c = number.item()
            f = (lambda x: function(x, c)) if source is first else (lambda x: function(c, x))
            return self._pointwise([source], f, where)
        return self._by_unit(op, source, number, source is first, where)

    def _where(self, inputs: list[Any], attributes: Any, where: str) -> Tensor:
        """Return one function where a condition holds and another elsewhere: all of the same value."""
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        numbers = [
            value.array.item() if isinstance(value, Constant) and value.array.size == 1 else None for value in inputs
        ]
        if any(isinstance(value, Constant) and number is None for value, number in zip(inputs, numbers, strict=True)):
            raise self._unsupported(where)

        def chosen(*values: Array) -> Array:
            given = iter(values)
            return np.where(*(next(given) if number is None else number for number in numbers))

        merged = self.assembly.merge([tensor.value for tensor in tensors], chosen, where)
        if merged is None:
            raise self._unsupported(where)
        return replace(tensors[0], value=merged)

    def _by_unit(self, op: str, source: Tensor, numbers: Array, is_second: bool, where: str) -> Tensor:
        """Return a sum, difference, product or quotient with one number per unit."""
        width = source.value.width
        if numbers.shape not in ((width,), (1, width)) or len(source.axes) != 1:
            raise UnsupportedModelError(f"{where}: supported is one number, or one per unit, got shape {numbers.shape}")
        numbers = numbers.reshape(-1)
        one, zero = np.ones(width), np.zeros(width)
        scale, shift = {
            ("Add", True): (one, numbers), ("Add", False): (one, numbers),
            ("Sub", True): (one, -numbers), ("Sub", False): (-one, numbers),
            ("Mul", True): (numbers, zero), ("Mul", False): (numbers, zero),
            ("Div", True): (one / numbers if np.all(numbers) else None, zero),
        }.get((op, is_second), (None, None))  # fmt: skip
        if scale is None or shift is None:
            raise self._unsupported(where)
        return replace(source, value=self.assembly.scale(source.value, scale, shift, where))


_METHODS = {
    "Gemm", "MatMul", "Sum", "Concat", "BatchNormalization", "Scaler", "Identity", "Dropout", "Cast", "Flatten",
    "Reshape", "Squeeze", "Shape", "Softmax", "LogSoftmax", "Where",
}  # fmt: skip


def _numbers(array: Array) -> Array:
    """Return an array of float32 or float64."""
    return np.ascontiguousarray(array, array.dtype if array.dtype in (np.float32, np.float64) else np.float64)
