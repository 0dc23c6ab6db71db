"""How a net and its arrays lie in memory: the columns of the integer tables, and views of flat arrays.

``layers`` has a row for each layer 0..L and one more that closes the list of edges; ``edges`` has a row for each edge,
in the order of their targets.  A net with other widths or another topology is other numbers in the same tables, so
kernels are compiled once.

Per-sample quantities of all layers share one flat array: layer l of ``capacity`` rows begins at
``capacity * layers[l, UNITS]`` and is row-major, (rows, width).
"""

from .jit import subroutine

__all__ = [
    "ACTIVATION", "BIAS", "FIRST_EDGE", "MOVED", "NEEDED", "REACHED", "SOURCE", "TWIN", "UNITS", "WANTED", "WEIGHT",
    "WIDTH",
    "lane_rows", "matrix", "tensor",
]  # fmt: skip

# columns of ``layers``: width, code of the activation, units of all layers before (the input not counted),
# position of the bias in theta (-1: none), first row in ``edges``; and whether a product takes R a and R g of the layer
WIDTH, ACTIVATION, UNITS, BIAS, FIRST_EDGE, REACHED, NEEDED = range(7)

# columns of ``edges``: source layer, position of the weight in theta (-1: an identity edge), and position of its twin,
# the same weight in a compact array of the weights of all edges that do not start at the input; and whether the vectors
# of a product have a part there, and its result is wanted
SOURCE, WEIGHT, TWIN, MOVED, WANTED = range(5)


@subroutine
def matrix(flat, start, rows, columns):
    """View a stretch of a flat array as (rows, columns)."""
    return flat[start : start + rows * columns].reshape(rows, columns)


@subroutine
def tensor(flat, start, rows, k, columns):
    """View a stretch of a flat array as (rows, k, columns)."""
    return flat[start : start + rows * k * columns].reshape(rows, k, columns)


@subroutine
def lane_rows(lane, lanes, num_rows, tile):
    """Return where a lane's rows begin and end, and into how many tiles of nearly equal size they are cut."""
    begin = lane * num_rows // lanes
    end = (lane + 1) * num_rows // lanes
    return begin, end, (end - begin + tile - 1) // tile
