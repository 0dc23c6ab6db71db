"""A pruned net without the units that have become useless.

A unit without incoming weights is a constant, s(b): it goes into the biases of the layers that it feeds.  A unit
without outgoing weights changes nothing: it goes, with its incoming weights, which may free units before it.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.network import Network

Array = NDArray[np.float64]

__all__ = ["compact"]


def compact(net: Network, mask: ArrayLike | None = None) -> Network:
    """Return a narrower net with the same outputs.

    Parameters
    ----------
    net : Network
        Any topology of dense edges, skip connections included.
    mask : array_like of bool, shape (P,), optional
        False where a weight was removed; where theta is 0 if not given.

    Returns
    -------
    Network
        Inputs and outputs are as wide as before.  A hidden layer that loses all its units keeps one, with weights 0.  A
        layer without a bias gets one if constants are folded into it.

    Raises
    ------
    ValueError
        For a mask of wrong shape or that leaves out a parameter that is not 0, and for a net with identity edges, whose
        units cannot go alone.

    Examples
    --------
    The first unit is the constant tanh(1), the second feeds nothing:

    >>> net = Network((1, 3, 1), "tanh", [0, 1, 1, 1.0, 0, 0, 2.0, 0, 3.0, 0.5])
    >>> small = compact(net)
    >>> small.widths, small.biases(2)
    ((1, 1, 1), array([2.02318831]))
    """
    if any(kind == "identity" for incoming in net.sources for _, kind in incoming):
        raise ValueError("a net with identity edges cannot be compacted: the units at both ends belong together")
    theta = net.theta.astype(np.float64)
    kept = theta != 0 if mask is None else np.asarray(mask)
    if kept.dtype != bool or kept.shape != theta.shape:
        raise ValueError(f"mask must be booleans of shape {theta.shape}, got {kept.dtype} of shape {kept.shape}")
    if theta[~kept].any():
        where = int(np.flatnonzero(~kept & (theta != 0))[0])
        raise ValueError(f"theta must be 0 where mask is False, got {theta[where]} at {where}")
    weights: dict[tuple[int, int], Array] = {}
    present: dict[tuple[int, int], NDArray[np.bool_]] = {}
    biases = {l: np.zeros(net.widths[l]) for l in range(1, net.depth + 1)}
    for block in net.blocks:
        if block.source is None:
            biases[block.layer] = theta[block.start : block.stop].copy()
        else:
            key = block.layer, block.source
            weights[key] = theta[block.start : block.stop].reshape(block.shape)
            present[key] = kept[block.start : block.stop].reshape(block.shape).copy()
    has_bias = list(net.bias)
    for m in range(1, net.depth):  # constants, in the direction of the signal
        fed = np.any([present[key].any(axis=1) for key in present if key[0] == m], axis=0)
        for l, source in list(present):
            if source == m and present[l, m][:, ~fed].any():
                value = _activation(net.activations[m - 1], biases[m][~fed])
                biases[l] += weights[l, m][:, ~fed] @ value
                has_bias[l - 1] = True
                present[l, m][:, ~fed] = False
    units = {0: np.arange(net.widths[0]), net.depth: np.arange(net.widths[-1])}
    for m in range(net.depth - 1, 0, -1):  # units that feed nothing, against it
        feeds = np.any([present[key].any(axis=0) for key in present if key[1] == m], axis=0)
        for key in present:
            if key[0] == m:
                present[key][~feeds] = False
        units[m] = np.flatnonzero(feeds) if feeds.any() else np.zeros(1, np.intp)
    widths = [units[l].size for l in range(net.depth + 1)]
    small = Network(widths, net.activations, sources=net.sources, bias=has_bias)
    packed = np.zeros(small.num_parameters)
    for block in small.blocks:
        rows = units[block.layer]
        if block.source is None:
            packed[block.start : block.stop] = biases[block.layer][rows]
        else:
            key = block.layer, block.source
            matrix = np.where(present[key], weights[key], 0.0)
            packed[block.start : block.stop] = matrix[np.ix_(rows, units[block.source])].ravel()
    return small.with_theta(packed.astype(net.theta.dtype))


def _activation(name: str, a: Array) -> Any:
    """Return s(a), as the net computes it."""
    unit = Network((1, a.size), (name,), np.concatenate([np.zeros(a.size), a]))
    return unit.forward(np.zeros((1, 1)))[0]
