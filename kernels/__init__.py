"""Array-only kernels, compiled by Numba: they know flat arrays and integer tables, and nothing of the library above.

``linearize`` evaluates a net on data and keeps what products need; ``product`` multiplies vectors with the Hessian, the
Gauss-Newton matrix, Fisher matrices and the Jacobian; ``add_face_products`` and ``add_face_squares`` add up blocks of
full matrices.  One compilation (per dtype) serves every net.
"""

from .activations import ACTIVATIONS
from .face_splitting import add_face_products, add_face_squares, add_mixed_products, mirror_face_squares
from .forward import forward
from .jit import JIT_DISABLED, SOURCE_DIGEST
from .linearization import linearize
from .losses import LOSSES
from .product import HESSIAN, JACOBIAN, NO_CURVATURE, OUTER_PRODUCTS, QUADRATIC, TRANSPOSED, product

__all__ = [
    "ACTIVATIONS",
    "HESSIAN",
    "JACOBIAN",
    "JIT_DISABLED",
    "LOSSES",
    "NO_CURVATURE",
    "OUTER_PRODUCTS",
    "QUADRATIC",
    "SOURCE_DIGEST",
    "TRANSPOSED",
    "add_face_products",
    "add_face_squares",
    "add_mixed_products",
    "forward",
    "linearize",
    "mirror_face_squares",
    "product",
]
