"""The graph of an ONNX model as plain lists, numbers and arrays.

Run as a script, as a process of its own, it reads a model from standard input and writes the result to standard output.
It imports nothing of this library.
"""

import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

REFUSED, MISSING = 3, 4  # exit codes; the reason is on standard error
NODE_LIMIT = 20_000
TENSOR_LIMIT = 20_000
NAME_LIMIT = 1000  # characters
ELEMENT_LIMIT = 1 << 31  # of one array


class RefusedError(ValueError):
    """What is wrong with the model."""


def describe(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a model as a header of plain values and a dict of arrays, to which numbers in the header point.

    Examples
    --------
    >>> from onnx import helper
    >>> info = [helper.make_tensor_value_info(name, 1, ["N", 2]) for name in "xy"]
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "example", info[:1], info[1:])
    >>> header, arrays = describe(helper.make_model(graph))
    >>> header["nodes"][0]["op"], header["inputs"][0]["shape"], arrays
    ('Relu', [None, 2], {})
    """
    import onnx.inliner

    if model.functions:
        inline: Any = onnx.inliner.inline_local_functions
        model = inline(model)
    graph = model.graph
    if len(graph.node) > NODE_LIMIT or len(graph.initializer) > TENSOR_LIMIT:
        raise RefusedError(f"has {len(graph.node)} nodes and {len(graph.initializer)} initializers; the limit is 20000")
    if graph.sparse_initializer:
        raise RefusedError(f"initializer {graph.sparse_initializer[0].values.name!r} is sparse")
    arrays: dict[str, Any] = {}
    initializers: dict[str, Any] = {}
    for tensor in graph.initializer:
        if tensor.name in initializers:
            raise RefusedError(f"has two initializers named {tensor.name!r}")
        initializers[_name(tensor.name)] = _tensor(tensor, arrays)
    nodes = []
    for node in graph.node:
        attributes = {attribute.name: _attribute(attribute, arrays) for attribute in node.attribute}
        nodes.append({
            "name": _name(node.name), "op": _name(node.op_type), "domain": _name(node.domain),
            "inputs": [_name(name) for name in node.input], "outputs": [_name(name) for name in node.output],
            "attributes": attributes,
        })  # fmt: skip
    header = {
        "opsets": {_name(opset.domain): opset.version for opset in model.opset_import},
        "inputs": [_info(info) for info in graph.input],
        "outputs": [_info(info) for info in graph.output],
        "initializers": initializers,
        "nodes": nodes,
    }
    return header, arrays


def _name(name: str) -> str:
    if len(name) > NAME_LIMIT or not (name == "" or name.isprintable()):
        raise RefusedError(f"has the name {name[:60]!r}, which is too long or not printable")
    return name


def _info(info: Any) -> dict[str, Any]:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return {"name": _name(info.name), "kind": str(kind), "type": 0, "shape": None}
    tensor = info.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    return {"name": _name(info.name), "kind": "tensor", "type": tensor.elem_type, "shape": shape}


def _attribute(attribute: Any, arrays: dict[str, Any]) -> Any:
    from onnx import AttributeProto

    plain: dict[Any, Callable[[], Any]] = {
        AttributeProto.INT: lambda: attribute.i,
        AttributeProto.FLOAT: lambda: attribute.f,
        AttributeProto.STRING: lambda: attribute.s.decode("utf-8", "replace")[:NAME_LIMIT],
        AttributeProto.INTS: lambda: list(attribute.ints)[:TENSOR_LIMIT],
        AttributeProto.FLOATS: lambda: list(attribute.floats)[:TENSOR_LIMIT],
        AttributeProto.TENSOR: lambda: _tensor(attribute.t, arrays),
    }
    if attribute.type not in plain:
        return {"unread": int(attribute.type)}
    value = plain[attribute.type]()
    if isinstance(value, float) and not math.isfinite(value):
        raise RefusedError(f"has an attribute {attribute.name!r} that is {value}")
    return value


def _tensor(tensor: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return where the values of a tensor are: in ``arrays``, or in another file."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    shape = list(tensor.dims)
    count = 1
    for side in shape:
        if side < 0:
            raise RefusedError(f"{tensor.name!r} has the shape {shape}")
        count *= side
    if count > ELEMENT_LIMIT or len(shape) > 8 or any(side > ELEMENT_LIMIT for side in shape):
        raise RefusedError(f"{tensor.name!r} has the shape {shape[:8]}")
    types = {TensorProto.FLOAT: "<f4", TensorProto.DOUBLE: "<f8", TensorProto.FLOAT16: "<f2", TensorProto.INT64: "<i8",
             TensorProto.INT32: "<i4", TensorProto.BFLOAT16: "<u2"}  # fmt: skip
    if tensor.data_location == TensorProto.EXTERNAL:
        entries = {entry.key: entry.value[:NAME_LIMIT] for entry in tensor.external_data}
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16):
            raise RefusedError(f"{tensor.name!r} has values of type {tensor.data_type} in another file")
        return {"external": entries, "shape": shape, "dtype": types[tensor.data_type]}
    if tensor.data_type not in types:
        return {"unread": int(tensor.data_type)}  # text, booleans: what needs them is refused by the name of its node
    size = np.dtype(types[tensor.data_type]).itemsize
    if tensor.HasField("raw_data"):
        found, needed = len(tensor.raw_data), count * size
    else:
        fields = ("float_data", "double_data", "int32_data", "int64_data")
        found, needed = sum(len(getattr(tensor, field)) for field in fields), count
    if found != needed:
        raise RefusedError(f"{tensor.name!r} declares shape {shape} and has {found} of {needed} bytes or values")
    values = numpy_helper.to_array(tensor)
    if tensor.data_type == TensorProto.BFLOAT16:
        values = values.astype(np.float32)
    key = f"array{len(arrays)}"
    arrays[key] = np.array(values)
    return {"array": key}


def main() -> None:
    """Read, check, write."""
    import resource

    size = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * size + (1 << 26), 4 * size + (1 << 26)))
    try:
        import numpy as np
        import onnx
    except ImportError:
        stop(MISSING, "ONNX files need onnx: pip install 'krylovh[onnx]'")
    limit = (1 << 30) + 8 * size
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        model = onnx.load_model_from_string(sys.stdin.buffer.read())
    except Exception as error:
        stop(1, f"damaged or truncated ONNX file, or none ({type(error).__name__})")
    if not model.graph.output:
        stop(1, "damaged ONNX file, or none: it has no graph with an output")
    try:
        header, arrays = describe(model)
    except (RefusedError, MemoryError) as error:
        stop(REFUSED, str(error) or "needs more memory than its size explains")
    content = json.dumps(header).encode()
    np.savez(sys.stdout.buffer, header=np.frombuffer(content, np.uint8), **arrays)


def stop(code: int, reason: str) -> NoReturn:
    """End with a reason."""
    sys.stderr.write(reason)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
