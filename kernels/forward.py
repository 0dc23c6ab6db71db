"""Outputs of a net alone, without anything kept."""

import numpy as np
from numba import prange

from .jit import kernel, subroutine
from .layout import UNITS, WIDTH, lane_rows
from .linearization import forward_rows

__all__ = ["forward"]


@subroutine
def forward_lane(lane, lanes, tile, layers, edges, theta, x, num_rows, z, s1, s2, outputs):
    begin, end, tiles = lane_rows(lane, lanes, num_rows, tile)
    last = layers.shape[0] - 2
    width = layers[last, WIDTH]
    start = tile * layers[last, UNITS]
    for t in range(tiles):
        first = begin + t * (end - begin) // tiles
        rows = begin + (t + 1) * (end - begin) // tiles - first
        forward_rows(layers, edges, theta, x, first, rows, z, s1, s2, tile, 0)
        for i in range(rows * width):
            outputs[first * width + i] = z[start + i]


@kernel
def forward(lanes, tile, layers, edges, theta, x, num_rows, z, s1, s2, outputs):
    """Write the outputs of ``num_rows`` samples to ``outputs`` (N*C,); z, s1, s2 are (lanes, tile*units) of scratch."""
    for index in prange(lanes):
        lane = np.int64(index)
        forward_lane(lane, lanes, tile, layers, edges, theta, x, num_rows, z[lane], s1[lane], s2[lane], outputs)
