"""Nets of torch modules: the graph that ``torch.fx`` traces, operation by operation.

What a module does between its linear layers stands in its ``forward``; tracing runs it once on symbols and finds
residual connections, concatenations and activations of whatever spelling.  Modules are read as in evaluation: dropout
does nothing, and a batch normalisation is folded into the linear layer before or after it.
"""

import copy
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from krylovh.interop.assembly import (
    Assembly,
    Combination,
    Normalized,
    Outputs,
    Parameter,
    Pointwise,
    UnsupportedModelError,
    Value,
    assemble,
)
from krylovh.interop.parameters import Origin, to_source
from krylovh.interop.pointwise import activation_function
from krylovh.interop.self_check import require_equal
from krylovh.interop.state_dicts import of_state_dict
from krylovh.network import Network

Array = NDArray[Any]

__all__ = ["network_of_module"]

_ACTIVATIONS = {
    "Identity": "identity", "ReLU": "relu", "Tanh": "tanh", "Sigmoid": "logistic", "SELU": "selu", "SiLU": "silu",
    "Mish": "mish", "Softsign": "softsign",
}  # fmt: skip
_NO_OPERATION = {"Dropout", "AlphaDropout", "FeatureAlphaDropout", "Identity"}

# functions and methods of one tensor, by name
_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    **{name: activation_function(known) for name, known in {
        "relu": "relu", "relu_": "relu", "tanh": "tanh", "sigmoid": "logistic", "selu": "selu", "silu": "silu",
        "mish": "mish", "softsign": "softsign", "sin": "sin", "exp": "exp"}.items()},
    "erf": erf, "neg": operator.neg, "abs": np.abs, "sqrt": np.sqrt, "log": np.log, "log1p": np.log1p,
    "square": np.square, "reciprocal": np.reciprocal, "cos": np.cos, "expm1": np.expm1,
}  # fmt: skip
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "add_": operator.add, "iadd": operator.add, "sub": operator.sub, "mul": operator.mul,
    "mul_": operator.mul, "imul": operator.mul, "div": operator.truediv, "truediv": operator.truediv,
    "pow": operator.pow,
}  # fmt: skip
SUPPORTED = (
    "Linear, BatchNorm1d (in eval mode), Dropout, Flatten, Identity, sums and concatenations of layers, and the "
    "activations ReLU, LeakyReLU(0.01), ELU(1), CELU(1), SELU, GELU, SiLU, Mish, Softplus, Softsign, Tanh, Sigmoid, sin"
)


def network_of_module(
    module: Any,
    activations: str | Sequence[str] | None = None,
    *,
    outputs: Outputs | None = None,
    check: bool = True,
) -> Network:
    """Return the net of a torch module, or of a state dict.

    Parameters
    ----------
    module : torch.nn.Module or mapping of str to tensor or ndarray
        Linear layers, sums and concatenations of them, activations, dropout, flattening, and batch normalisation,
        whose running statistics are folded.  A state dict is a chain, in its own order.
    activations : str or sequence of str, optional
        For state dicts, which do not hold them.
    outputs : "logits" or "model", optional
        What becomes of a softmax or sigmoid at the end; see :func:`krylovh.load_network`.
    check : bool
        Compare outputs and gradient with those of a copy of the module in float64.

    Returns
    -------
    Network
        theta has the dtype of the module's parameters, and ``origin`` their names: see :func:`krylovh.to_torch`.

    Raises
    ------
    UnsupportedModelError
        The module does what no Network does; the message names the node.
    ImportCheckError
        The net does not compute what the module computes.

    Examples
    --------
    >>> state = {"0.weight": np.ones((3, 2)), "2.weight": np.ones((1, 3))}
    >>> network_of_module(state, "tanh")
    Network(2-3-1, 9 parameters)
    """
    if isinstance(module, Mapping):
        if outputs is not None:
            raise ValueError("outputs= is for modules; of a state dict the activations say what the outputs are")
        return of_state_dict(_arrays(module), activations, ordered=True, library="torch")
    try:
        import torch
    except ImportError as error:
        raise ImportError("modules of torch need torch: pip install 'krylovh[torch]'") from error
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module or a state dict, got {type(module).__name__}")
    if activations is not None:
        raise ValueError("activations= is for state dicts; a module says itself what it applies")
    name = type(module).__name__
    origin = Origin("torch", {key: tuple(parameter.shape) for key, parameter in module.named_parameters()})
    graph = _trace(module, name)
    net = assemble(lambda assembly: _Walk(assembly, graph, name).output(), origin, outputs, name)
    if check:
        _compare(module, net, name)
    return net


def _arrays(state: Mapping[str, Any]) -> dict[str, Array]:
    """Return a state dict's tensors as arrays; refuse what is no dense tensor of floating point numbers."""
    arrays = {}
    for key, tensor in state.items():
        if not isinstance(key, str):
            raise TypeError(f"a state dict has names of type str, got {type(key).__name__}")
        arrays[key] = _array(tensor, repr(key[:60]))
    return arrays


def _array(tensor: Any, where: str) -> Array:
    if isinstance(tensor, np.ndarray):
        return tensor
    if not hasattr(tensor, "detach"):
        raise UnsupportedModelError(f"{where} must be a tensor, got {type(tensor).__name__}")
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        kind = "meta" if tensor.device.type == "meta" else "quantised" if tensor.is_quantized else str(tensor.layout)
        raise UnsupportedModelError(f"{where} must be a dense tensor, got a {kind} one")
    if not tensor.dtype.is_floating_point:
        raise UnsupportedModelError(f"{where} must hold floating point numbers, got {tensor.dtype}")
    values = tensor.detach().cpu()
    if values.dtype not in (torch.float64, torch.float32):
        values = values.float()
    return np.array(values.numpy())


def _trace(module: Any, name: str) -> Any:
    """Return what fx finds, of a copy in evaluation mode."""
    import torch

    copied = copy.deepcopy(module).cpu().eval()
    shared = [p for p, count in _counts(copied).items() if count > 1]
    if shared:
        raise UnsupportedModelError(f"{name}: parameters {shared[:3]} are shared by several modules (tied weights)")
    try:
        return torch.fx.symbolic_trace(copied)
    except Exception as error:
        raise UnsupportedModelError(
            f"{name}: torch.fx cannot trace its forward ({type(error).__name__}: {str(error)[:200]})"
        ) from error


def _counts(module: Any) -> dict[str, int]:
    first: dict[int, str] = {}
    counts: dict[str, int] = {}
    for key, parameter in module.named_parameters(remove_duplicate=False):
        key = first.setdefault(id(parameter), key)
        counts[key] = counts.get(key, 0) + 1
    return counts


class _Walk:
    """Goes through the nodes of a traced module."""

    def __init__(self, assembly: Assembly, module: Any, name: str) -> None:
        self.assembly = assembly
        self.module = module
        self.modules = dict(module.named_modules())
        self.parameters = {id(parameter): key for key, parameter in module.named_parameters()}
        self.name = name
        self.values: dict[Any, Any] = {}
        self.features: int | None = None

    def output(self) -> Value:
        """Return the module's output."""
        inputs = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        if len(inputs) != 1:
            raise UnsupportedModelError(f"{self.name}: must take one input, takes {len(inputs)}")
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = None  # its width is that of the first layer
            elif node.op == "output":
                return self._value(node.args[0], f"{self.name}: output")
            else:
                self.values[node] = self._apply(node)
        raise AssertionError("a traced module has an output")

    def _apply(self, node: Any) -> Any:
        where = f"{self.name}: node {node.name!r}"
        if node.op == "get_attr":
            owner: Any = self.module
            for part in node.target.split("."):
                owner = getattr(owner, part)
            return owner
        if node.op == "call_module":
            module = self.modules[node.target]
            where = f"{where} ({type(module).__name__})"
            return self._module(module, node, where)
        function = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        return self._function(function, node, f"{where} ({function})")

    def _module(self, module: Any, node: Any, where: str) -> Any:
        kind = type(module).__name__
        argument = node.args[0] if node.args else node.kwargs.get("input")
        if kind in _NO_OPERATION or (kind == "Flatten" and module.start_dim == 1 and module.end_dim == -1):
            return self.values[argument]
        if kind == "Linear":
            return self._linear(argument, module.weight, module.bias, where)
        value = self._value(argument, where)
        if kind == "BatchNorm1d":
            return self._batch_norm(value, module, where)
        if kind in ("Softmax", "LogSoftmax"):
            if module.dim not in (1, -1):
                raise UnsupportedModelError(f"{where}: dim must be 1 or -1, got {module.dim}")
            return Normalized(value, "softmax" if kind == "Softmax" else "log_softmax", where)
        options: dict[str, Any] = {
            "GELU": {"approximate": getattr(module, "approximate", None)},
            "LeakyReLU": {"negative_slope": getattr(module, "negative_slope", None)},
            "ELU": {"alpha": getattr(module, "alpha", None)},
            "CELU": {"alpha": getattr(module, "alpha", None)},
            "Softplus": {"beta": getattr(module, "beta", None)},
        }.get(kind, {})
        name = _ACTIVATIONS.get(kind) or _with_options(kind.lower(), options, where)
        if name is None:
            raise UnsupportedModelError(f"{where}: this module is not supported; supported are {SUPPORTED}")
        return self.assembly.activation(value, name, where)

    def _function(self, name: str, node: Any, where: str) -> Any:
        args, kwargs = node.args, dict(node.kwargs)
        if name in ("dropout", "alpha_dropout", "contiguous", "clone", "double", "float", "detach"):
            return self.values[args[0]]
        if name == "flatten" and (args[1:] or (kwargs.get("start_dim", 0),))[0] == 1:
            return self.values[args[0]]
        if name in ("view", "reshape") and _keeps_rows(args[1:]):
            return self.values[args[0]]
        if name in ("size", "getattr", "getitem"):
            return node  # a number of rows, which only view and reshape may use
        if name == "linear":
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            parameters = [None if a is None else self.values[a] for a in (args[1] if len(args) > 1 else None, bias)]
            return self._linear(args[0], parameters[0], parameters[1], where)
        if name in ("cat", "concat", "concatenate"):
            dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
            if dim not in (1, -1):
                raise UnsupportedModelError(f"{where}: dim must be 1 or -1, got {dim}")
            return self.assembly.join(self._value(part, where) for part in args[0])
        if name in ("softmax", "log_softmax"):
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            if dim not in (1, -1):
                raise UnsupportedModelError(f"{where}: dim must be 1 or -1, got {dim}")
            return Normalized(self._value(args[0], where), name, where)
        if name in _BINARY and len(args) == 2 and not (set(kwargs) - {"inplace"}):
            return self._binary(name, args[0], args[1], where)
        if name in _FUNCTIONS:
            return self.assembly.pointwise(self._value(args[0], where), _FUNCTIONS[name], where)
        keywords = {"leaky_relu": "negative_slope", "elu": "alpha", "celu": "alpha", "softplus": "beta",
                    "gelu": "approximate"}  # fmt: skip
        if name in keywords:
            keyword = keywords[name]
            default = {"negative_slope": 0.01, "alpha": 1.0, "beta": 1.0, "approximate": "none"}[keyword]
            value = args[1] if len(args) > 1 else kwargs.get(keyword, default)
            known = _with_options(name.replace("_", ""), {keyword: value}, where)
            assert known is not None
            return self.assembly.activation(self._value(args[0], where), known, where)
        raise UnsupportedModelError(f"{where}: this function is not supported; supported are {SUPPORTED}")

    def _linear(self, argument: Any, weight: Any, bias: Any, where: str) -> Value:
        parameters = [
            None if tensor is None else Parameter(_array(tensor, where), self._name_of(tensor, where))
            for tensor in (weight, bias)
        ]
        assert parameters[0] is not None
        return self.assembly.dense(self._value(argument, where, parameters[0].array.shape[1]), parameters[0],
                                   parameters[1], where)  # fmt: skip

    def _name_of(self, tensor: Any, where: str) -> str:
        if id(tensor) not in self.parameters:
            raise UnsupportedModelError(f"{where}: its weight is no parameter of the module (computed or a buffer)")
        return str(self.parameters[id(tensor)])

    def _batch_norm(self, value: Value, module: Any, where: str) -> Value:
        if module.running_mean is None:
            raise UnsupportedModelError(f"{where}: has no running statistics; what it does depends on the batch")
        mean, variance = (np.asarray(_array(t, where), np.float64) for t in (module.running_mean, module.running_var))
        scale = 1.0 / np.sqrt(variance + module.eps)
        shift = np.zeros_like(mean)
        if module.weight is not None:
            scale = scale * _array(module.weight, where)
            shift = shift + _array(module.bias, where)
        return self.assembly.scale(value, scale, shift - mean * scale, where)

    def _binary(self, name: str, first: Any, second: Any, where: str) -> Value:
        function = _BINARY[name]
        numbers = [isinstance(argument, (int, float)) for argument in (first, second)]
        if numbers[1]:
            return self.assembly.pointwise(self._value(first, where), lambda x: function(x, second), where)
        if numbers[0]:
            return self.assembly.pointwise(self._value(second, where), lambda x: function(first, x), where)
        a, b = self._value(first, where), self._value(second, where)
        is_sum = function is operator.add
        merged = self.assembly.merge([a, b], function, where)
        if merged is not None:
            return merged
        if not is_sum:
            raise UnsupportedModelError(f"{where}: of two layers only sums are supported; supported are {SUPPORTED}")
        return self.assembly.add(a, b, where)

    def _value(self, argument: Any, where: str, width: int | None = None) -> Value:
        """Return what a node stands for; the input gets the width that its first consumer asks for."""
        if argument not in self.values:
            raise UnsupportedModelError(f"{where}: takes {str(argument)[:60]!r}, which is no tensor of the graph")
        value = self.values[argument]
        if value is None:
            if width is None:
                width = self._width_of_input(where)
            value = self.values[next(iter(self.values))] = self.assembly.input(width)
            for node, known in self.values.items():
                if known is None:  # what a flattening or dropout of the input is
                    self.values[node] = value
        if not isinstance(value, (Combination, Pointwise, Normalized)) and not hasattr(value, "width"):
            raise UnsupportedModelError(f"{where}: takes a value that is no layer's output")
        return value  # type: ignore[no-any-return]

    def _width_of_input(self, where: str) -> int:
        """Return the width of the input where its first consumer does not say it: that of the first layer that does."""
        for node in self.module.graph.nodes:
            if node.op == "call_module":
                module = self.modules[node.target]
                width = getattr(module, "in_features", None) or getattr(module, "num_features", None)
                if width is not None:
                    return int(width)
        raise UnsupportedModelError(f"{where}: the width of the input is not known before this node")


def _with_options(kind: str, options: dict[str, Any], where: str) -> str | None:
    """Return the activation of a module or function with options, if the options are those of the net's activation."""
    if kind == "gelu":
        if options["approximate"] not in ("none", "tanh"):
            raise UnsupportedModelError(
                f"{where}: approximate must be 'none' or 'tanh', got {options['approximate']!r}"
            )
        return "gelu" if options["approximate"] == "none" else "gelu_tanh"
    needed = {
        "leakyrelu": ("leaky_relu", 0.01),
        "elu": ("elu", 1.0),
        "celu": ("elu", 1.0),
        "softplus": ("softplus", 1.0),
    }
    if kind not in needed:
        return None
    name, value = needed[kind]
    ((option, found),) = options.items()
    if not math.isclose(found, value, rel_tol=1e-6):
        raise UnsupportedModelError(f"{where}: {option} must be {value}, got {found}")
    return name


def _keeps_rows(shape: Any) -> bool:
    """Return whether a view flattens each row: (rows, -1), with rows a number that was asked of the tensor."""
    shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return len(shape) == 2 and shape[1] == -1 and not isinstance(shape[0], int)


def _compare(module: Any, net: Network, name: str) -> None:
    """Compare outputs, and the gradient of half their squares, with a copy of the module in float64."""
    import torch

    from krylovh.objective import Objective

    copied = copy.deepcopy(module).cpu().double().eval()
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8, net.widths[0]))
    outputs = copied(torch.from_numpy(X))  # flat rows: flattening leaves them as they are
    exact = net.with_theta(np.asarray(net.theta, np.float64))
    z = exact.forward(X)
    links: dict[str | None, Callable[[Any], Any]] = {
        None: lambda t: t, "softmax": lambda t: t.softmax(-1), "log_softmax": lambda t: t.log_softmax(-1),
        "logistic": torch.sigmoid,
    }  # fmt: skip
    linked = links[net.origin.link](torch.from_numpy(z)).numpy()
    require_equal("outputs", linked, outputs.detach().numpy(), np.float64, name)
    if net.origin.folded or net.origin.link is not None:
        return
    parameters = dict(copied.named_parameters())
    parameters = {
        key: parameter.requires_grad_(True) for key, parameter in parameters.items() if key in net.origin.shapes
    }
    gradients = torch.autograd.grad(0.5 * copied(torch.from_numpy(X)).square().sum(),
                                    list(parameters.values()))  # fmt: skip
    objective = Objective(exact, X, np.zeros_like(z), loss="squared_error", reduction="sum")
    ours = to_source(net, objective.gradient())
    scale = max(1.0, max(float(gradient.abs().max()) for gradient in gradients))
    for key, gradient in zip(parameters, gradients, strict=True):
        require_equal(f"gradient by {key}", ours[key] / scale, gradient.numpy() / scale, np.float64, name)
