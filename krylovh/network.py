"""What a net is: layers in topological order, activations, and one flat parameter vector ``theta``.

Layer 0 is the input.  Layer l adds up what its sources send it,

    a_l = sum over dense edges W_lm z_m  +  sum over identity edges z_m  +  b_l,        z_l = s_l(a_l).

A chain, skip connections, wide-and-deep and densely connected nets are one structure with other edges.  ``theta`` holds
layer by layer the weights (out, in), row-major, in the order of the layer's sources, then the bias.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import krylovh.kernels as kernels
from krylovh.checks import finite_array, whole_number
from krylovh.threads import num_lanes, parallel_region

Edge = tuple[int, Literal["dense", "identity"]]

__all__ = ["Network", "Parameter"]


class Parameter(NamedTuple):
    """Where one entry of theta belongs."""

    layer: int  # 1..L
    kind: str  # "weight" or "bias"
    source: int | None  # the layer a weight comes from; None for a bias
    i: int  # unit of the layer
    j: int | None  # unit of the source; None for a bias


@dataclass(frozen=True)
class Block:
    """A stretch of theta: one weight matrix, or one bias."""

    layer: int
    kind: str
    source: int | None
    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        return self.start + int(np.prod(self.shape))


class Network:
    """A feed-forward net with all its parameters in one vector.

    Parameters
    ----------
    widths : sequence of int
        (d_0, ..., d_L): the input's width, then that of each layer.
    activations : str or sequence of str
        One name for all hidden layers, with identity outputs; or L names, that of the outputs included.
    theta : array_like, shape (num_parameters,), optional
        Copied; float32 stays float32, all else becomes float64.  Zeros if not given.
    sources : sequence of sequences of (int, "dense" or "identity"), optional
        For each layer 1..L where its input comes from; a chain if not given.
    bias : bool or sequence of bool
        Which layers have a bias.

    Raises
    ------
    ValueError
        For widths below 1, an unknown activation, an edge that is not from an earlier layer or is given twice, an
        identity edge between unequal widths, a hidden layer that feeds nothing, or a theta of wrong length or with NaN
        or infinity.

    Examples
    --------
    >>> net = Network((2, 3, 1), "tanh")
    >>> net.num_parameters
    13
    >>> wide_and_deep = Network((2, 3, 1), "relu", sources=[[(0, "dense")], [(1, "dense"), (0, "dense")]])
    >>> wide_and_deep.parameter_at(11)
    Parameter(layer=2, kind='weight', source=1, i=0, j=2)
    """

    def __init__(
        self,
        widths: Sequence[int],
        activations: str | Sequence[str],
        theta: ArrayLike | None = None,
        *,
        sources: Sequence[Sequence[Edge]] | None = None,
        bias: bool | Sequence[bool] = True,
    ) -> None:
        self.widths = tuple(whole_number(f"widths[{l}]", width, 1) for l, width in enumerate(widths))
        if len(self.widths) < 2:
            raise ValueError(f"widths must name the input and at least one layer, got {self.widths}")
        depth = len(self.widths) - 1
        self.activations = _activations(activations, depth)
        self.sources = _sources(sources, self.widths)
        self.bias = tuple(bool(b) for b in ([bias] * depth if isinstance(bias, (bool, np.bool_)) else bias))
        if len(self.bias) != depth:
            raise ValueError(f"bias must have one entry for each of the {depth} layers, got {len(self.bias)}")
        self.blocks = tuple(self._lay_out())
        self.num_parameters = self.blocks[-1].stop
        self.theta = self._checked(np.zeros(self.num_parameters) if theta is None else theta)
        self._layers, self._edges, self._twin_size = self._tables()
        self.origin: Any = None  # where an imported net came from: krylovh.interop.Origin

    @classmethod
    def chain(
        cls,
        widths: Sequence[int],
        activations: str | Sequence[str],
        theta: ArrayLike | None = None,
        *,
        bias: bool | Sequence[bool] = True,
    ) -> "Network":
        """Return a net in which every layer is fed by the one before: the default topology.

        Examples
        --------
        >>> Network.chain((4, 3), "tanh").sources
        (((0, 'dense'),),)
        """
        return cls(widths, activations, theta, bias=bias)

    @property
    def depth(self) -> int:
        """Number of layers L, the input not counted."""
        return len(self.widths) - 1

    def with_theta(self, theta: ArrayLike) -> "Network":
        """Return the same net at other parameters."""
        net = Network(self.widths, self.activations, theta, sources=self.sources, bias=self.bias)
        net.origin = self.origin
        return net

    def random_theta(self, rng: int | np.random.Generator) -> NDArray[np.float64]:
        """Draw Glorot's uniform start: weights and biases within +-sqrt(6/(in + out)), as scikit-learn does.

        Parameters
        ----------
        rng : int or numpy.random.Generator
            A seed, or the generator to draw from.

        References
        ----------
        Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward neural networks.
        """
        generator = np.random.default_rng(rng)
        theta = np.zeros(self.num_parameters)
        for block in self.blocks:
            fans = self.widths[block.layer] + max((self.widths[m] for m, _ in self.sources[block.layer - 1]))
            bound = np.sqrt(6.0 / fans)
            theta[block.start : block.stop] = generator.uniform(-bound, bound, block.stop - block.start)
        return theta

    def weights(self, layer: int, source: int | None = None) -> NDArray[Any]:
        """Return the weight matrix (out, in) of a layer, a read-only view; ``source`` where it has several."""
        chosen = [b for b in self.blocks if b.layer == layer and b.kind == "weight" and source in (None, b.source)]
        if len(chosen) != 1:
            have = [b.source for b in self.blocks if b.layer == layer and b.kind == "weight"]
            raise ValueError(f"layer {layer} has dense sources {have}, got source {source}")
        return self.theta[chosen[0].start : chosen[0].stop].reshape(chosen[0].shape)

    def biases(self, layer: int) -> NDArray[Any]:
        """Return the bias (out,) of a layer, a read-only view; ValueError if it has none."""
        for block in self.blocks:
            if block.layer == layer and block.kind == "bias":
                return self.theta[block.start : block.stop]
        raise ValueError(f"layer {layer} has no bias")

    def parameter_at(self, position: int) -> Parameter:
        """Return where entry ``position`` of theta belongs."""
        if not 0 <= position < self.num_parameters:
            raise ValueError(f"position must be in [0, {self.num_parameters}), got {position}")
        block = next(b for b in self.blocks if position < b.stop)
        entry = [int(i) for i in np.unravel_index(position - block.start, block.shape)]
        return Parameter(block.layer, block.kind, block.source, entry[0], entry[1] if len(entry) == 2 else None)

    def position_of(self, layer: int, kind: str, i: int, j: int | None = None, *, source: int | None = None) -> int:
        """Return the position in theta of weight (i, j) or bias i of a layer.

        Examples
        --------
        >>> net = Network((2, 3, 1), "tanh")
        >>> net.position_of(1, "weight", 2, 0), net.position_of(2, "bias", 0)
        (4, 12)
        """
        chosen = [
            b
            for b in self.blocks
            if b.layer == layer and b.kind == kind and (kind == "bias" or source in (None, b.source))
        ]
        if len(chosen) != 1:
            raise ValueError(f"layer {layer} has {len(chosen)} blocks of kind {kind!r} from source {source}")
        entry = (i,) if kind == "bias" else (i, j)
        for value, bound in zip(entry, chosen[0].shape, strict=True):
            if value is None or not 0 <= value < bound:
                raise ValueError(f"entry {entry} is outside of shape {chosen[0].shape}")
        return chosen[0].start + int(np.ravel_multi_index(entry, chosen[0].shape))  # type: ignore[arg-type]

    def weight_mask(self) -> NDArray[np.float64]:
        """Return 1 on weights and 0 on biases, shape (num_parameters,).

        Examples
        --------
        >>> Network((1, 2), "tanh").weight_mask()
        array([1., 1., 0., 0.])
        """
        mask = np.zeros(self.num_parameters)
        for block in self.blocks:
            mask[block.start : block.stop] = block.kind == "weight"
        return mask

    def forward(self, X: ArrayLike) -> NDArray[Any]:
        """Return the outputs for the rows of ``X``: shape (N, d_0) to (N, d_L), in theta's dtype."""
        x = finite_array("X", X, self.theta.dtype).view()
        x.flags.writeable = False  # one kind of array to compile for
        if x.ndim != 2 or x.shape[1] != self.widths[0]:
            raise ValueError(f"X must have shape (N, {self.widths[0]}), got {x.shape}")
        rows = len(x)
        outputs = np.empty(rows * self.widths[-1], self.theta.dtype)
        if rows:
            tile = min(rows, 256)
            lanes = num_lanes(None, rows, self.num_parameters)
            z, s1, s2 = np.empty((3, lanes, tile * self.num_units), self.theta.dtype)
            with parallel_region(lanes) as parallel:
                kernels.forward(
                    parallel, lanes, tile, self._layers, self._edges, self.theta, x.ravel(), rows, z, s1, s2, outputs
                )
        return outputs.reshape(rows, self.widths[-1])

    @property
    def num_units(self) -> int:
        """Units of all layers, the input not counted."""
        return sum(self.widths[1:])

    def save(self, path: str | Path) -> None:
        """Write the net to ``path``: .npz, or HDF5 for .h5 and .hdf5."""
        from krylovh.storage.inputs import save_network

        save_network(path, self)

    @staticmethod
    def load(path: str | Path, activations: str | Sequence[str] | None = None, **options: Any) -> "Network":
        """Read a net from a file of any supported format; see :func:`krylovh.load_network`."""
        from krylovh.interop.files import load_network

        return load_network(path, activations, **options)

    @staticmethod
    def from_sklearn(estimator: Any) -> "Network":
        """Return the net of a fitted ``MLPClassifier``, ``MLPRegressor`` or their counterparts of this library.

        Its outputs are logits, values, or log rates; see :meth:`krylovh.Objective.from_sklearn`.
        """
        from krylovh.interop.sklearn_models import network_of_estimator

        return network_of_estimator(estimator)

    @staticmethod
    def from_torch(
        module: Any, activations: str | Sequence[str] | None = None, *, outputs: Any = None, check: bool = True
    ) -> "Network":
        """Return the net of a torch module or state dict; see ``krylovh.interop.torch_modules.network_of_module``."""
        from krylovh.interop.torch_modules import network_of_module

        return network_of_module(module, activations, outputs=outputs, check=check)

    @staticmethod
    def from_keras(model: Any, *, outputs: Any = None, check: bool = True) -> "Network":
        """Return the net of a live Keras model; see ``krylovh.interop.keras_models``."""
        from krylovh.interop.keras_models import network_of_model

        return network_of_model(model, outputs=outputs, check=check)

    @staticmethod
    def from_onnx(model: Any, *, output: str | None = None, outputs: Any = None, check: bool = False) -> "Network":
        """Return the net of an ONNX model or file; see ``krylovh.interop.onnx_files``."""
        from krylovh.interop.onnx_files import network_of_onnx

        return network_of_onnx(model, output=output, outputs=outputs, check=check)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.theta.flags.writeable = False  # copies and pickles of arrays can be written again

    def __repr__(self) -> str:
        return f"Network({'-'.join(map(str, self.widths))}, {self.num_parameters} parameters)"

    def _lay_out(self) -> Iterator[Block]:
        start = 0
        for l in range(1, len(self.widths)):
            for m, kind in self.sources[l - 1]:
                if kind == "dense":
                    yield (block := Block(l, "weight", m, start, (self.widths[l], self.widths[m])))
                    start = block.stop
            if self.bias[l - 1]:
                yield (block := Block(l, "bias", None, start, (self.widths[l],)))
                start = block.stop
        if start == 0:
            raise ValueError("the net has no parameters: no dense edge and no bias")

    def _checked(self, theta: ArrayLike) -> NDArray[Any]:
        dtype = np.float32 if getattr(theta, "dtype", None) == np.float32 else np.float64
        array = finite_array("theta", theta, dtype).copy()
        if array.shape != (self.num_parameters,):
            raise ValueError(f"theta must have shape ({self.num_parameters},), got {array.shape}")
        array.flags.writeable = False
        return array

    def _tables(self) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return the integer tables of the kernels and the number of weights that do not start at the input."""
        start_of = {(b.layer, b.source): b.start for b in self.blocks if b.kind == "weight"}
        bias_of = {b.layer: b.start for b in self.blocks if b.kind == "bias"}
        layers = np.ones((len(self.widths) + 1, 7), np.int64)  # the last two columns: every layer takes part
        layers[0, :5] = self.widths[0], 0, 0, -1, 0
        edges: list[tuple[int, int, int, int, int]] = []
        units = twin = 0
        for l, width in enumerate(self.widths[1:], start=1):
            code = kernels.ACTIVATIONS.index(self.activations[l - 1])
            layers[l, :5] = width, code, units, bias_of.get(l, -1), len(edges)
            units += width
            for m, _ in self.sources[l - 1]:
                edges.append((m, start_of.get((l, m), -1), twin, 1, 1))
                if (l, m) in start_of and m > 0:
                    twin += width * self.widths[m]
        layers[-1, 4] = len(edges)
        return layers, np.array(edges, np.int64).reshape(len(edges), 5), twin


def _activations(names: str | Sequence[str], depth: int) -> tuple[str, ...]:
    chosen = (names,) * (depth - 1) + ("identity",) if isinstance(names, str) else tuple(names)
    if isinstance(names, str) and depth == 1:
        _known(names)
    if len(chosen) != depth:
        raise ValueError(f"activations must be one name or {depth} names, got {len(chosen)}")
    for name in chosen:
        _known(name)
    return chosen


def _known(name: str) -> None:
    if name not in kernels.ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known are {', '.join(kernels.ACTIVATIONS)}")


def _sources(sources: Sequence[Sequence[Edge]] | None, widths: tuple[int, ...]) -> tuple[tuple[Edge, ...], ...]:
    depth = len(widths) - 1
    if sources is None:
        return tuple(((l - 1, "dense"),) for l in range(1, depth + 1))
    if len(sources) != depth:
        raise ValueError(f"sources must have one entry for each of the {depth} layers, got {len(sources)}")
    checked: list[tuple[Edge, ...]] = []
    for l, incoming in enumerate(sources, start=1):
        edges: list[Edge] = []
        for m, kind in incoming:
            m = int(m)
            if kind not in ("dense", "identity"):
                raise ValueError(f"an edge into layer {l} must be 'dense' or 'identity', got {kind!r}")
            if not 0 <= m < l:
                raise ValueError(f"layer {l} can only be fed by layers 0 to {l - 1}, got {m}")
            if any(m == other for other, _ in edges):
                raise ValueError(f"layer {l} has layer {m} twice among its sources")
            if kind == "identity" and widths[m] != widths[l]:
                raise ValueError(
                    f"an identity edge needs equal widths, got {widths[m]} (layer {m}) and {widths[l]} ({l})"
                )
            edges.append((m, kind))
        if not edges:
            raise ValueError(f"layer {l} has no sources")
        checked.append(tuple(edges))
    for m in range(1, depth):
        if not any(m == source for incoming in checked for source, _ in incoming):
            raise ValueError(f"layer {m} feeds no other layer")
    return tuple(checked)
