"""Nets of ONNX models, in memory and in files."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

from krylovh.interop.assembly import Outputs
from krylovh.interop.child import parse_in_child
from krylovh.interop.onnx_graphs import final_tensor, needed_nodes, network_of_graph
from krylovh.interop.onnx_reader import RefusedError, describe
from krylovh.interop.self_check import require_equal
from krylovh.network import Network
from krylovh.storage.atomic import open_regular
from krylovh.storage.errors import CorruptFileError, UntrustedFileError

Array = NDArray[Any]

__all__ = ["network_of_onnx", "read_onnx"]


def network_of_onnx(
    model: Any, *, output: str | None = None, outputs: Outputs | None = None, check: bool = False
) -> Network:
    """Return the net of an ONNX model.

    Parameters
    ----------
    model : onnx.ModelProto, str or path-like
        A file is parsed by a process of its own, and values that it keeps beside it are read from its folder only.
    output : str, optional
        Which output of the model, where it has several; if not given, the only one of floating point numbers.
    outputs : "logits" or "model", optional
        What becomes of a softmax or sigmoid at the end; see :func:`krylovh.load_network`.
    check : bool
        Compare with ``onnx.reference`` on random inputs.  This reads a file once more, in this process.

    Returns
    -------
    Network
        float32 as the model's weights, or float64; ``origin`` has the initializers.

    Raises
    ------
    UnsupportedModelError
        With the name of the node, its operator, and what is supported.
    UntrustedFileError, CorruptFileError
        Sizes that do not fit, names that occur twice, values outside of the folder, damage.
    ImportError
        onnx is not installed.

    Examples
    --------
    >>> from onnx import helper
    >>> info = [helper.make_tensor_value_info("x", 11, [None, 2]), helper.make_tensor_value_info("y", 11, [None, 1])]
    >>> weight = helper.make_tensor("w", 11, [2, 1], [1.0, 2.0])
    >>> graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", info[:1], info[1:], [weight])
    >>> network_of_onnx(helper.make_model(graph)).theta
    array([1., 2.])
    """
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        with open_regular(path) as raw:
            net = read_onnx(raw, path, None, outputs, output=output)
        if check:
            import onnx

            _compare(onnx.load(path), net, output, str(path))
        return net
    if not hasattr(model, "graph"):
        raise TypeError(f"model must be an onnx.ModelProto or a path, got {type(model).__name__}")
    try:
        header, arrays = describe(model)
    except RefusedError as error:
        raise UntrustedFileError(f"ONNX model: {error}") from None
    if any("external" in entry for entry in header["initializers"].values()):
        raise UntrustedFileError("ONNX model: its values are in another file; load them first, or pass the path")
    net = network_of_graph(header, arrays, "ONNX model", output=output, outputs=outputs)
    if check:
        _compare(model, net, output, "ONNX model")
    return net


def read_onnx(
    raw: BinaryIO,
    path: Path,
    activations: str | Sequence[str] | None,
    outputs: Outputs | None,
    *,
    output: str | None = None,
) -> Network:
    """Read an ONNX file."""
    if activations is not None:
        raise ValueError(f"{path}: activations= is for files of weights alone; an ONNX model says what it applies")
    header, arrays = parse_in_child("onnx_reader", raw, path)
    for name, entry in header["initializers"].items():
        if "external" in entry:
            key = f"external{len(arrays)}"
            arrays[key] = _external(name, entry, path)
            header["initializers"][name] = {"array": key}
    return network_of_graph(header, arrays, str(path), output=output, outputs=outputs)


def _external(name: str, entry: dict[str, Any], path: Path) -> Array:
    """Return values that a model keeps in a file beside it: in its folder or below, reached by no link."""
    where = f"{path}: initializer {name!r}"
    location = str(entry["external"].get("location", ""))
    parts = Path(location).parts
    if not parts or Path(location).is_absolute() or any(part in ("..", ".") for part in parts) or "\0" in location:
        raise UntrustedFileError(f"{where} is in {location!r}, which is not inside of the model's folder")
    dtype = np.dtype(entry["dtype"])
    count = int(np.prod([int(side) for side in entry["shape"]], dtype=object))
    try:
        offset = int(entry["external"].get("offset", 0))
        length = int(entry["external"].get("length", count * dtype.itemsize))
    except ValueError:
        raise CorruptFileError(f"{where} has an offset or length that is no number") from None
    if length != count * dtype.itemsize or offset < 0:
        raise CorruptFileError(f"{where} declares shape {entry['shape']} and has {length} bytes at {offset}")
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for i, part in enumerate(parts):
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            flags |= os.O_DIRECTORY if i < len(parts) - 1 else 0
            try:
                following = os.open(part, flags, dir_fd=descriptor)
            except OSError as error:
                raise UntrustedFileError(
                    f"{where} is in {location!r}, which is no file there ({error.strerror})"
                ) from None
            os.close(descriptor)
            descriptor = following
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UntrustedFileError(f"{where} is in {location!r}, which is no ordinary file")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            if file.seek(0, os.SEEK_END) < offset + length:
                raise CorruptFileError(f"{where} ends behind the end of {location!r}")
            file.seek(offset)
            content = file.read(length)
    finally:
        os.close(descriptor)
    return np.frombuffer(content, dtype).reshape(entry["shape"])


def _compare(model: Any, net: Network, output: str | None, name: str) -> None:
    """Compare with the reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    header, _ = describe(model)
    (info,) = [info for info in header["inputs"] if info["name"] not in header["initializers"]]
    dtype = np.float64 if info["type"] == 11 else np.float32
    X = np.random.default_rng(0).standard_normal((8, net.widths[0])).astype(dtype)
    shape = [8, *(side for side in (info["shape"] or [])[1:])]
    inputs = X.reshape(shape) if all(isinstance(side, int) for side in shape) and len(shape) > 1 else X
    final = final_tensor(header, output, name)
    part = type(model)()  # what the tensor depends on: other outputs may need operators that have no reference
    part.CopyFrom(model)
    wanted = {tensor for node in needed_nodes(header, final, name) for tensor in node["outputs"]}
    for node in [node for node in part.graph.node if not wanted & set(node.output)]:
        part.graph.node.remove(node)
    del part.graph.output[:]
    part.graph.output.add().name = final
    evaluator: Any = ReferenceEvaluator
    (theirs,) = evaluator(part).run(None, {info["name"]: inputs})
    theirs = np.asarray(theirs, np.float64).reshape(8, -1)
    z = net.with_theta(np.asarray(net.theta, np.float64)).forward(X)
    links: dict[str | None, Callable[[], Array]] = {
        None: lambda: z, "softmax": lambda: softmax(z, axis=1), "log_softmax": lambda: log_softmax(z, axis=1),
        "logistic": lambda: expit(z), "binary": lambda: np.hstack([expit(-z), expit(z)]),
    }  # fmt: skip
    ours = links[net.origin.link]()
    # constants of activations are float32 attributes or initializers, and the reference evaluates erf in float32
    exact = dtype == np.float64 == net.theta.dtype and not {"leaky_relu", "elu", "selu", "gelu"} & set(net.activations)
    require_equal("outputs", ours, theirs, np.float64 if exact else np.float32, name)
