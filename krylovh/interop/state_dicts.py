"""Chains of linear layers from named arrays: state dicts of torch, in memory, in npz and in safetensors files.

A state dict holds ``<name>.weight`` (out, in) and ``<name>.bias`` (out,) and says neither in which order the layers
follow each other nor what is applied between them.  The order is that of the dict where it has one, of the numbers in
the names, or the only one that fits the shapes; the activations are an argument.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from krylovh.interop.assembly import Outputs, UnsupportedModelError
from krylovh.interop.parameters import Origin, Piece
from krylovh.network import Network
from krylovh.storage.inputs import network_of_file
from krylovh.storage.npz import read_npz

Array = NDArray[Any]

__all__ = ["no_outputs", "of_state_dict", "read_npz_network", "read_safetensors"]

_SHOWN = 60  # characters of a name in a message


def read_npz_network(
    raw: BinaryIO, path: Path, activations: str | Sequence[str] | None, outputs: Outputs | None
) -> Network:
    """Read a net of this library, or a state dict, from npz."""
    names, _ = read_npz(raw, path, lambda name: False)
    raw.seek(0)
    if "theta" in names or not any(_is_layer(name) for name in names):
        no_outputs(path, outputs)
        return network_of_file(raw, path, activations)
    if "activations" in names or all(name.startswith("layers.") for name in names):
        no_outputs(path, outputs)
        return network_of_file(raw, path, activations)
    _, arrays = read_npz(raw, path, lambda name: True)
    return _named(path, arrays, activations, outputs)


def read_safetensors(
    raw: BinaryIO, path: Path, activations: str | Sequence[str] | None, outputs: Outputs | None
) -> Network:
    """Read a state dict from safetensors."""
    from krylovh.interop.safetensors_files import tensors_of

    return _named(path, tensors_of(raw, path), activations, outputs)


def of_state_dict(
    arrays: Mapping[str, Array], activations: str | Sequence[str] | None, *, ordered: bool, library: str = "file"
) -> Network:
    """Return the chain of a state dict of arrays.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    activations : str or sequence of str
    ordered : bool
        Whether the order of the mapping is that of the layers.
    library : str
        Of the origin.

    Examples
    --------
    >>> arrays = {"2.weight": np.ones((1, 3)), "0.weight": np.ones((3, 2)), "0.bias": np.zeros(3)}
    >>> net = of_state_dict(arrays, "tanh", ordered=False)
    >>> net.widths, net.bias
    ((2, 3, 1), (True, False))
    """
    if activations is None:
        raise ValueError(f"weights alone do not say what the layers apply: pass activations=; found {_listed(arrays)}")
    layers: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        prefix, _, kind = name.rpartition(".")
        if kind not in ("weight", "bias"):
            raise UnsupportedModelError(
                f"{name[:_SHOWN]!r} belongs to no linear layer: supported are <name>.weight (out, in) and <name>.bias "
                f"(out,); found {_listed(arrays)}"
            )
        ndim = 2 if kind == "weight" else 1
        if array.ndim != ndim or array.dtype.kind != "f":
            found = f"shape {array.shape} and dtype {array.dtype}"
            raise UnsupportedModelError(
                f"{name[:_SHOWN]!r} must have {ndim} {'axes' if ndim == 2 else 'axis'} of floating point numbers, as "
                f"linear layers do, got {found}"
            )
        layers.setdefault(prefix, {})[kind] = array
    for prefix, parts in layers.items():
        if "weight" not in parts:
            raise ValueError(f"'{prefix[:_SHOWN]}.weight' is missing beside '{prefix[:_SHOWN]}.bias'")
    order = list(layers) if ordered else _order({prefix: parts["weight"].shape for prefix, parts in layers.items()})
    if not order:
        raise ValueError("has no layers: needed are <name>.weight (out, in)")
    return _chain(order, layers, activations, tuple(arrays), library)


def no_outputs(path: Path, outputs: Outputs | None) -> None:
    """Refuse an argument that says nothing about files in which the net stands as it is."""
    if outputs is not None:
        raise ValueError(f"{path}: outputs= is for ONNX and Keras models; here activations say what the outputs are")


def _chain(
    order: list[str],
    layers: Mapping[str, Mapping[str, Array]],
    activations: str | Sequence[str],
    names: tuple[str, ...],
    library: str,
) -> Network:
    widths: list[int] = []
    parts: list[Array] = []
    pieces: list[Piece] = []
    start = 0
    for prefix in order:
        weight = layers[prefix]["weight"]
        if widths and weight.shape[1] != widths[-1]:
            raise ValueError(
                f"'{prefix[:_SHOWN]}.weight' must have shape (out, {widths[-1]}), as the layer before, "
                f"got {weight.shape}"
            )
        widths += [weight.shape[0]] if widths else [weight.shape[1], weight.shape[0]]
        for kind in ("weight", "bias"):
            if kind in layers[prefix]:
                array = layers[prefix][kind]
                if len(array) != widths[-1]:
                    raise ValueError(f"'{prefix[:_SHOWN]}.bias' must have shape ({widths[-1]},), got {array.shape}")
                pieces.append(Piece(f"{prefix}.{kind}" if prefix else kind, start, array.shape))
                parts.append(array.ravel())
                start += array.size
    theta = np.concatenate(parts)
    single = all(part.dtype == np.float32 for part in parts)
    bias = ["bias" in layers[prefix] for prefix in order]
    net = Network(widths, activations, theta.astype(np.float32 if single else np.float64), bias=bias)
    shape_of = {piece.name: piece.shape for piece in pieces}
    net.origin = Origin(library, {name: shape_of[name] for name in names}, tuple(pieces))
    return net


def _order(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the layers in order: by their numbers, or by the only chain that their shapes allow."""
    patterns = {re.sub(r"[0-9]+", "#", prefix) for prefix in shapes}
    if len(patterns) == 1 and "#" in min(patterns):
        return sorted(shapes, key=lambda prefix: [int(number) for number in re.findall(r"[0-9]+", prefix)])
    by_input: dict[int, list[str]] = {}
    for prefix, (_, width) in shapes.items():
        by_input.setdefault(width, []).append(prefix)
    outputs = {out for out, _ in shapes.values()}
    first = [prefix for prefix, (_, width) in shapes.items() if width not in outputs]
    if len(shapes) == 1:
        return list(shapes)
    if len(first) == 1 and all(len(prefixes) == 1 for prefixes in by_input.values()):
        order = first
        while len(order) < len(shapes):
            following = by_input.get(shapes[order[-1]][0])
            if following is None or following[0] in order:
                break
            order.append(following[0])
        if len(order) == len(shapes):
            return order
    raise ValueError(
        f"the order of the layers {_listed(shapes)} is given neither by numbers in names that are alike otherwise "
        "nor by their shapes; load the file with its own library and pass the ordered dict to Network.from_torch"
    )


def _named(
    path: Path, arrays: Mapping[str, Array], activations: str | Sequence[str] | None, outputs: Outputs | None
) -> Network:
    no_outputs(path, outputs)
    try:
        return of_state_dict(arrays, activations, ordered=False)
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from None


def _is_layer(name: str) -> bool:
    return name.endswith(".weight")


def _listed(names: Any) -> str:
    names = list(names)
    shown = ", ".join(repr(name[:_SHOWN]) for name in names[:10]) or "nothing"
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")
