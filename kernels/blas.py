"""Matrix products of row-major blocks inside flat arrays, by the BLAS that SciPy brings.

``numba_xxgemm`` is the routine behind Numba's own ``np.dot``: reached directly it has alpha, beta and transposes, needs
no contiguous operands of its own and stays cacheable.  It is column-major, so the row-major product ``C = A B`` is
asked for as ``C' = B' A'``.
"""

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .jit import subroutine

__all__ = ["blas_nn", "blas_nt", "blas_tn"]

TRANSPOSED, NORMAL = ord("t"), ord("n")


@intrinsic
def column_major_gemm(_, transpose_a, transpose_b, m, n, k, a, a0, lda, b, b0, ldb, beta, c, c0, ldc):
    """``C[c0:] = op(A[a0:]) op(B[b0:]) + beta C[c0:]`` on flat arrays of one dtype, column-major."""
    scalar = c.dtype
    kind = {types.float32: "s", types.float64: "d"}.get(scalar)
    if kind is None or a.dtype != scalar or b.dtype != scalar:
        raise numba.TypingError(f"gemm needs three arrays of float32 or of float64, got {a}, {b}, {c}")
    signature = types.void(transpose_a, transpose_b, m, n, k, a, a0, lda, b, b0, ldb, beta, c, c0, ldc)

    def generate(context, builder, signature, arguments):
        byte, pointer = ir.IntType(8), ir.IntType(8).as_pointer()
        index = context.get_value_type(types.intp)
        kinds = dict(
            zip(
                ("ta", "tb", "m", "n", "k", "a", "a0", "lda", "b", "b0", "ldb", "beta", "c", "c0", "ldc"),
                zip(arguments, signature.args, strict=True),
                strict=True,
            )
        )

        def integer(name):
            value, kind_of_value = kinds[name]
            return context.cast(builder, value, kind_of_value, types.intp)

        def letter(name):
            return builder.trunc(integer(name), byte)

        def address(array, offset):
            value, kind_of_value = kinds[array]
            data = context.make_array(kind_of_value)(context, builder, value).data
            return builder.bitcast(builder.gep(data, [integer(offset)]), pointer)

        value, kind_of_value = kinds["beta"]
        beta_value = context.cast(builder, value, kind_of_value, scalar)
        beta_pointer = builder.bitcast(cgutils.alloca_once_value(builder, beta_value), pointer)
        one = context.get_constant(scalar, 1.0)
        one_pointer = builder.bitcast(cgutils.alloca_once_value(builder, one), pointer)
        declared = ir.FunctionType(
            ir.IntType(32),
            [byte, byte, byte, index, index, index, pointer, pointer, index, pointer, index, pointer, pointer, index],
        )
        routine = cgutils.get_or_insert_function(builder.module, declared, "numba_xxgemm")
        builder.call(
            routine,
            [
                ir.Constant(byte, ord(kind)),
                letter("ta"),
                letter("tb"),
                integer("m"),
                integer("n"),
                integer("k"),
                one_pointer,
                address("a", "a0"),
                integer("lda"),
                address("b", "b0"),
                integer("ldb"),
                beta_pointer,
                address("c", "c0"),
                integer("ldc"),
            ],
        )
        return context.get_dummy_value()

    return signature, generate


@subroutine
def blas_nt(m, n, k, A, a0, B, b0, beta, C, c0):
    """``C (m, n) = A (m, k) B (n, k)' + beta C``."""
    column_major_gemm(TRANSPOSED, NORMAL, n, m, k, B, b0, k, A, a0, k, beta, C, c0, n)


@subroutine
def blas_nn(m, n, k, A, a0, B, b0, beta, C, c0):
    """``C (m, n) = A (m, k) B (k, n) + beta C``."""
    column_major_gemm(NORMAL, NORMAL, n, m, k, B, b0, n, A, a0, k, beta, C, c0, n)


@subroutine
def blas_tn(m, n, k, A, a0, B, b0, beta, C, c0):
    """``C (m, n) = A (k, m)' B (k, n) + beta C``."""
    column_major_gemm(NORMAL, TRANSPOSED, n, m, k, B, b0, n, A, a0, m, beta, C, c0, n)
