"""Where each parameter of an imported net came from, and vectors of its length in the order and shape of the source.

A net that was imported knows its source: for every array of the source the weight or bias that it became, transposed
or cut into the blocks of several edges.  So an eigenvector, a mask or a gradient can be handed back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.network import Network

Array = NDArray[Any]

__all__ = ["Origin", "Piece", "from_source", "to_keras", "to_sklearn", "to_source", "to_torch"]


@dataclass(frozen=True)
class Piece:
    """One block of theta, as a part of an array of the source."""

    name: str  # of the array
    start: int  # in theta
    shape: tuple[int, ...]  # of the block: (out, in) or (out,)
    transposed: bool = False  # the source has (in, out)
    columns: tuple[int, int] | None = None  # of (out, in), where one array feeds from several layers


@dataclass(frozen=True)
class Origin:
    """The source of a net.

    Attributes
    ----------
    library : str
        ``"torch"``, ``"keras"``, ``"sklearn"``, ``"onnx"`` or ``"file"``.
    shapes : dict of str to tuple
        Arrays of parameters in the order of the source, with their shapes there.
    pieces : tuple of Piece
        Empty if ``folded``.
    folded : str or None
        Why parameters of the net are not those of the source, such as a batch normalisation that was folded.
    link : str or None
        What the source applies to the net's outputs: "softmax", "log_softmax", "logistic", "exp" or None.
    """

    library: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    folded: str | None = None
    link: str | None = None


def to_source(net: Network, vector: ArrayLike) -> dict[str, Array]:
    """Return a vector in theta's order as the arrays of the net's source: by their names, in their order and shape.

    Parameters
    ----------
    net : Network
        That was imported.
    vector : array_like, shape (num_parameters,) or (num_parameters, k)
        Such as theta, a gradient, a mask, or eigenvectors; k columns become a last axis.

    Raises
    ------
    ValueError
        The net was not imported, parameters were folded, or the length does not fit.

    Examples
    --------
    >>> net = Network.from_torch({"a.weight": np.zeros((1, 2)), "a.bias": np.zeros(1)}, activations=["tanh"])
    >>> to_source(net, [1.0, 2.0, 3.0])
    {'a.weight': array([[1., 2.]]), 'a.bias': array([3.])}
    """
    origin = _origin(net)
    values = _vector(net, vector)
    columns = values.shape[1:]
    arrays = {name: np.zeros(shape + columns, values.dtype) for name, shape in origin.shapes.items()}
    for piece in origin.pieces:
        block = values[piece.start : piece.start + int(np.prod(piece.shape))].reshape(piece.shape + columns)
        target = arrays[piece.name].reshape(_matrix_shape(origin.shapes[piece.name], piece) + columns)
        if len(piece.shape) == 2:
            target = target.swapaxes(0, 1) if piece.transposed else target
            start, stop = piece.columns or (0, piece.shape[1])
            target[:, start:stop] = block
        else:
            target[...] = block
    return arrays


def from_source(net: Network, arrays: Mapping[str, ArrayLike]) -> Array:
    """Return the arrays of the net's source as one vector in theta's order: the inverse of :func:`to_source`.

    Examples
    --------
    >>> net = Network.from_torch({"a.weight": np.zeros((1, 2)), "a.bias": np.zeros(1)}, activations=["tanh"])
    >>> from_source(net, {"a.weight": [[1.0, 2.0]], "a.bias": [3.0]})
    array([1., 2., 3.])
    """
    origin = _origin(net)
    vector = np.zeros(net.num_parameters)
    for piece in origin.pieces:
        if piece.name not in arrays:
            raise ValueError(f"arrays must have {piece.name!r}, got {sorted(arrays)[:10]}")
        array = np.asarray(arrays[piece.name], np.float64)
        if array.shape != origin.shapes[piece.name]:
            raise ValueError(f"{piece.name!r} must have shape {origin.shapes[piece.name]}, got {array.shape}")
        array = array.reshape(_matrix_shape(array.shape, piece))
        if len(piece.shape) == 2:
            array = array.T if piece.transposed else array
            start, stop = piece.columns or (0, piece.shape[1])
            array = array[:, start:stop]
        vector[piece.start : piece.start + int(np.prod(piece.shape))] = array.ravel()
    return vector


def to_torch(net: Network, vector: ArrayLike) -> dict[str, Array]:
    """Return a vector in theta's order as a state dict of NumPy arrays, in the order of ``parameters()``.

    A net that did not come from torch gets the names of a ``Sequential`` of linear layers and activations.

    Parameters
    ----------
    net : Network
    vector : array_like, shape (num_parameters,) or (num_parameters, k)
        k columns become a last axis.

    Examples
    --------
    >>> {name: array.shape for name, array in to_torch(Network((2, 3, 1), "tanh"), np.arange(13)).items()}
    {'0.weight': (3, 2), '0.bias': (3,), '2.weight': (1, 3), '2.bias': (1,)}
    """
    if _library(net) in ("torch", "file"):
        return to_source(net, vector)
    arrays = {}
    for layer, kind, array in _blocks(net, vector, "torch"):
        arrays[f"{2 * (layer - 1)}.{kind}"] = array
    return arrays


def to_sklearn(net: Network, vector: ArrayLike) -> tuple[list[Array], list[Array]]:
    """Return a vector in theta's order as scikit-learn's ``coefs_`` (in, out) and ``intercepts_`` (out,).

    Parameters
    ----------
    net : Network
        A chain whose layers all have a bias.
    vector : array_like, shape (num_parameters,) or (num_parameters, k)
        k columns become a last axis.

    Examples
    --------
    >>> coefs, intercepts = to_sklearn(Network((2, 1), "tanh"), [1.0, 2.0, 3.0])
    >>> coefs[0].tolist(), intercepts[0].tolist()
    ([[1.0], [2.0]], [3.0])
    """
    if not all(net.bias):
        raise ValueError(f"scikit-learn's layers all have a bias, this net's have {net.bias}")
    coefs, intercepts = [], []
    for _, kind, array in _blocks(net, vector, "scikit-learn"):
        if kind == "weight":
            coefs.append(array.swapaxes(0, 1).copy())
        else:
            intercepts.append(array)
    return coefs, intercepts


def to_keras(net: Network, vector: ArrayLike) -> list[Array]:
    """Return a vector in theta's order as Keras's ``get_weights``: kernel (in, units), bias, layer by layer.

    Parameters
    ----------
    net : Network
    vector : array_like, shape (num_parameters,) or (num_parameters, k)
        k columns become a last axis.

    Examples
    --------
    >>> [array.tolist() for array in to_keras(Network((2, 1), "tanh"), [1.0, 2.0, 3.0])]
    [[[1.0], [2.0]], [3.0]]
    """
    if _library(net) == "keras":
        return list(to_source(net, vector).values())
    return [
        array.swapaxes(0, 1).copy() if kind == "weight" else array for _, kind, array in _blocks(net, vector, "Keras")
    ]


def _library(net: Network) -> str | None:
    return net.origin.library if isinstance(net.origin, Origin) else None


def _origin(net: Network) -> Origin:
    if not isinstance(net.origin, Origin):
        raise ValueError("the net was not imported: it has no source whose order could be used")
    if net.origin.folded:
        raise ValueError(f"the net's parameters are not those of its source: {net.origin.folded}")
    return net.origin


def _vector(net: Network, vector: ArrayLike) -> Array:
    values = np.asarray(vector)
    if values.ndim not in (1, 2) or len(values) != net.num_parameters:
        raise ValueError(f"vector must have shape ({net.num_parameters},) or (.., k), got {values.shape}")
    return values


def _matrix_shape(shape: Sequence[int], piece: Piece) -> tuple[int, ...]:
    """Return the shape without axes of length 1 that the source has around a bias."""
    return tuple(shape) if len(piece.shape) == 2 else piece.shape


def _blocks(net: Network, vector: ArrayLike, library: str) -> list[tuple[int, str, Array]]:
    """Return layer, kind and array of each block of a chain."""
    if net.sources != Network.chain(net.widths, net.activations).sources:
        raise ValueError(f"a net with skip connections has no standard order in {library}")
    if isinstance(net.origin, Origin) and net.origin.folded:
        raise ValueError(f"the net's parameters are not those of its source: {net.origin.folded}")
    values = _vector(net, vector)
    return [(b.layer, b.kind, values[b.start : b.stop].reshape(b.shape + values.shape[1:]).copy()) for b in net.blocks]
