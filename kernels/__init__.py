"""Array-only kernels, compiled by Numba: they know flat arrays and integer tables, and nothing of the library above.

``linearize`` evaluates a net on data and keeps what products need; ``curvature_product`` applies the Hessian or the
Gauss-Newton matrix to a block of vectors; those of ``face_splitting`` add up the
blocks of full matrices.  One compilation (per dtype) serves every net.
"""

from .activations import ACTIVATIONS
from .face_splitting import add_face_products, add_face_squares, add_mixed_products, mirror_face_squares
from .forward import forward
from .jit import JIT_DISABLED, SOURCE_DIGEST
from .linearization import linearize
from .losses import LOSSES
from .product import curvature_product

__all__ = [
    "ACTIVATIONS", "JIT_DISABLED", "LOSSES", "SOURCE_DIGEST",
    "add_face_products", "add_face_squares", "add_mixed_products", "curvature_product", "forward", "linearize",
    "mirror_face_squares",
]  # fmt: skip
