"""Matrix products of row-major blocks inside flat arrays: narrow ones in registers, all others by the BLAS.

``beta`` is 0, to overwrite C, or 1, to add to it.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .blas import blas_nn, blas_nt, blas_tn
from .jit import JIT_DISABLED, subroutine
from .microkernels import NN, NT, TN, narrow_product

__all__ = ["gemm_nn", "gemm_nt", "gemm_tn"]


# Where the BLAS was measured to be the slower one
NARROW = 128  # terms in a sum, or rows and columns of C
THIN = 64  # rows or columns of C
LINE = 64  # bytes in a row of C, below which too much of a tile is masked


@intrinsic
def narrow(_, form, m, n, k, a, a0, b, b0, beta, c, c0):
    """Call ``narrow_product`` on flat arrays of one dtype."""
    kinds = (form, m, n, k, a, a0, b, b0, beta, c, c0)

    def generate(context, builder, signature, arguments):
        form, m, n, k, a, a0, b, b0, beta, c, c0 = (
            context.cast(builder, value, kind, types.intp) if isinstance(kind, types.Integer) else value
            for value, kind in zip(arguments, kinds, strict=True)
        )

        def address(array, kind, start):
            return builder.gep(context.make_array(kind)(context, builder, array).data, [start])

        operands = [address(a, kinds[4], a0), address(b, kinds[6], b0), address(c, kinds[9], c0)]
        index = context.get_value_type(types.intp)
        adds = builder.zext(builder.fcmp_unordered("!=", beta, ir.Constant(beta.type, 0.0)), index)
        passed = [form, m, n, k, operands[0], operands[1], adds, operands[2]]
        declared = ir.FunctionType(ir.VoidType(), [value.type for value in passed])
        name = narrow_product.symbol(str(kinds[9].dtype))
        builder.call(cgutils.get_or_insert_function(builder.module, declared, name), passed)
        return context.get_dummy_value()

    return types.void(*kinds), generate


@subroutine
def gemm_nt(m, n, k, A, a0, B, b0, beta, C, c0):
    """``C (m, n) = A (m, k) B (n, k)' + beta C``."""
    if k <= NARROW and n * C.itemsize >= LINE:
        narrow(NT, m, n, k, A, a0, B, b0, beta, C, c0)
    else:
        blas_nt(m, n, k, A, a0, B, b0, beta, C, c0)


@subroutine
def gemm_nn(m, n, k, A, a0, B, b0, beta, C, c0):
    """``C (m, n) = A (m, k) B (k, n) + beta C``."""
    if k <= NARROW:
        narrow(NN, m, n, k, A, a0, B, b0, beta, C, c0)
    else:
        blas_nn(m, n, k, A, a0, B, b0, beta, C, c0)


@subroutine
def gemm_tn(m, n, k, A, a0, B, b0, beta, C, c0):
    """``C (m, n) = A (k, m)' B (k, n) + beta C``."""
    if min(m, n) <= THIN or max(m, n) <= NARROW:
        narrow(TN, m, n, k, A, a0, B, b0, beta, C, c0)
    else:
        blas_tn(m, n, k, A, a0, B, b0, beta, C, c0)


if JIT_DISABLED:  # the same three products in NumPy, so that kernels can be stepped through in a debugger

    def _into(C, c0, m, n, beta, product):
        block = C[c0 : c0 + m * n].reshape(m, n)
        block[:] = product if beta == 0.0 else product + beta * block

    def gemm_nt(m, n, k, A, a0, B, b0, beta, C, c0):
        """``C (m, n) = A (m, k) B (n, k)' + beta C``."""
        _into(C, c0, m, n, beta, A[a0 : a0 + m * k].reshape(m, k) @ B[b0 : b0 + n * k].reshape(n, k).T)

    def gemm_nn(m, n, k, A, a0, B, b0, beta, C, c0):
        """``C (m, n) = A (m, k) B (k, n) + beta C``."""
        _into(C, c0, m, n, beta, A[a0 : a0 + m * k].reshape(m, k) @ B[b0 : b0 + k * n].reshape(k, n))

    def gemm_tn(m, n, k, A, a0, B, b0, beta, C, c0):
        """``C (m, n) = A (k, m)' B (k, n) + beta C``."""
        _into(C, c0, m, n, beta, A[a0 : a0 + k * m].reshape(k, m).T @ B[b0 : b0 + k * n].reshape(k, n))
