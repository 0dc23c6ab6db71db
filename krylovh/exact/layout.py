"""Where the parameters of each layer lie in a matrix of second derivatives of some layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.checks import whole_number
from krylovh.network import Network

__all__ = ["LayerLayout", "chosen_layers", "layouts"]


@dataclass(frozen=True)
class LayerLayout:
    """The parameters of one layer: those of unit j multiply the concatenated inputs of the layer (and 1, for a bias).

    Attributes
    ----------
    start, stop : int
        The layer's stretch of the matrix.
    blocks : tuple of (int, int)
        Start and numbers per unit of each weight matrix, then of the bias.
    positions : ndarray of int64, shape (width, a)
        Where the parameter of unit j and input i lies.
    """

    layer: int
    start: int
    stop: int
    blocks: tuple[tuple[int, int], ...]
    positions: NDArray[np.int64]
    theta: slice

    def pieces(self, units: slice) -> list[tuple[slice, slice]]:
        """Return the stretches of the matrix that hold some units, and where they are when put one after the other."""
        found, done = [], 0
        for start, per_unit in self.blocks if units.stop > units.start else ():
            length = (units.stop - units.start) * per_unit
            first = start + units.start * per_unit
            found.append((slice(first, first + length), slice(done, done + length)))
            done += length
        return found

    def local_positions(self, units: slice) -> NDArray[np.int64]:
        """Return where the parameters of some units lie when their :meth:`pieces` are put one after the other."""
        count = units.stop - units.start
        parts, done = [], 0
        for _, per_unit in self.blocks:
            parts.append(done + np.arange(count * per_unit).reshape(count, per_unit))
            done += count * per_unit
        return np.concatenate(parts, axis=1) if parts else np.empty((count, 0), np.int64)


def layouts(net: Network, layers: Sequence[int]) -> dict[int, LayerLayout]:
    """Return where the parameters of the given layers lie when these alone make up a matrix."""
    found: dict[int, LayerLayout] = {}
    start = 0
    for layer in layers:
        width = net.widths[layer]
        stop, blocks, parts = start, [], []
        mine = [block for block in net.blocks if block.layer == layer]
        for block in mine:
            size = block.stop - block.start
            blocks.append((stop, size // width))
            parts.append(stop + np.arange(size).reshape(width, size // width))
            stop += size
        positions = np.concatenate(parts, axis=1) if parts else np.empty((width, 0), np.int64)
        theta = slice(mine[0].start, mine[-1].stop) if mine else slice(0, 0)
        found[layer] = LayerLayout(layer, start, stop, tuple(blocks), positions, theta)
        start = stop
    return found


def chosen_layers(net: Network, layers: Any) -> list[int]:
    """Return the layers asked for, sorted; all of them for None."""
    if layers is None:
        return list(range(1, net.depth + 1))
    chosen = [whole_number(f"layers[{i}]", layer, 1, net.depth) for i, layer in enumerate(layers)]
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"layers must be different numbers from 1 to {net.depth}, at least one, got {list(layers)}")
    return sorted(chosen)
