"""Products of narrow matrices, tile by tile in vector registers.

A BLAS packs both operands before it multiplies, which for matrices of 32 columns takes as long as the product itself.
Here a tile of C, up to six rows by two vectors, stays in registers while it runs through the inner dimension: each step
loads two vectors of B and multiplies them by one number of A for every row.  B is packed only where its rows do not
lie side by side, into panels of two vectors; columns of C beyond the last full vector are masked.

All of this is one function for each dtype, which the kernels call by its name: its machine code would otherwise be made
anew within every kernel.

Source: Goto and van de Geijn (2008), Anatomy of high-performance matrix multiplication; the inner loop alone.
"""

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .jit import routine, subroutine

__all__ = ["NN", "NT", "TN", "narrow_product"]

NN, NT, TN = range(3)  # which of A and B is transposed: neither, B, A

FEATURES = llvmlite.binding.get_host_cpu_features()
VECTOR_BYTES = 64 if FEATURES.get("avx512f") else 32 if FEATURES.get("avx2") else 16
STRIP = 48  # rows of C whose part of A stays in the first-level cache while it meets a group of panels of B
GROUP = 64  # columns of these panels, a multiple of their width
SPREAD = 63  # columns from which on rows of B are so far apart that few lines of the cache are used, and it is packed
INNER = 128  # terms that are summed in registers before C is written


def length_of(scalar):
    """Return how many numbers a vector register holds."""
    return VECTOR_BYTES * 8 // scalar.bitwidth


@intrinsic
def vector_length(_, pointer):
    length = length_of(pointer.dtype)
    return types.intp(pointer), lambda context, *_: context.get_constant(types.intp, length)


@intrinsic
def room_for_panels(_, pointer):
    """Return memory on the stack for a packed B, of the pointer's dtype."""

    def generate(context, builder, signature, arguments):
        scalar = context.get_value_type(signature.return_type.dtype)
        return builder.bitcast(cgutils.alloca_once(builder, ir.ArrayType(scalar, GROUP * INNER)), scalar.as_pointer())

    return pointer(pointer), generate


class TileBuilder:
    """Writes the code of one tile of C: ``rows`` rows, ``vectors`` vectors of which the last may be masked."""

    def __init__(self, context, builder, scalar, rows, vectors):
        self.builder, self.rows, self.vectors = builder, rows, vectors
        self.length = length_of(scalar)
        self.index = context.get_value_type(types.intp)
        self.scalar = context.get_value_type(scalar)
        self.vector = ir.VectorType(self.scalar, self.length)
        self.zero = ir.Constant(self.vector, [ir.Constant(self.scalar, 0.0)] * self.length)
        self.alignment = scalar.bitwidth // 8
        mask, pointer = ir.VectorType(ir.IntType(1), self.length), self.vector.as_pointer()
        suffix = f"v{self.length}f{scalar.bitwidth}"

        def declared(name, result, arguments):
            return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)

        self.multiply_add = declared(f"llvm.fmuladd.{suffix}", self.vector, [self.vector] * 3)
        self.masked_load = declared(
            f"llvm.masked.load.{suffix}.p0", self.vector, [pointer, ir.IntType(32), mask, self.vector]
        )
        self.masked_store = declared(
            f"llvm.masked.store.{suffix}.p0", ir.VoidType(), [self.vector, pointer, ir.IntType(32), mask]
        )

    def constant(self, value):
        return ir.Constant(self.index, value)

    def at(self, pointer, steps):
        return self.builder.gep(pointer, [steps])

    def splat(self, value):
        kind = ir.VectorType(value.type, self.length)
        single = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.length), [ir.IntType(32)(0)] * self.length)
        return self.builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), lanes)

    def mask_of(self, columns):
        """Return which columns of the last vector exist."""
        numbers = ir.Constant(
            ir.VectorType(self.index, self.length), [self.constant(lane) for lane in range(self.length)]
        )
        left = self.builder.sub(columns, self.constant((self.vectors - 1) * self.length))
        return self.builder.icmp_signed("<", numbers, self.splat(left))

    def load(self, pointer, mask):
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            value = self.builder.load(pointer)
            value.align = self.alignment
            return value
        return self.builder.call(self.masked_load, [pointer, ir.IntType(32)(self.alignment), mask, self.zero])

    def store(self, value, pointer, mask):
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, pointer).align = self.alignment
        else:
            self.builder.call(self.masked_store, [value, pointer, ir.IntType(32)(self.alignment), mask])

    def across(self, pointer, mask):
        """Yield where each vector of a row begins, with its mask."""
        for v in range(self.vectors):
            yield self.at(pointer, self.constant(v * self.length)), mask if v == self.vectors - 1 else None

    def sums(self, count, a, row, step, b, next_b, mask):
        """Run through the inner dimension; return the tile's vectors, row by row."""
        builder, entry = self.builder, self.builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("tile", "tile.step", "tile.end"))
        builder.branch(head)
        builder.position_at_end(head)
        carried = [self.constant(0), a, b, *[self.zero] * (self.rows * self.vectors)]
        variables = [builder.phi(value.type) for value in carried]
        for variable, value in zip(variables, carried, strict=True):
            variable.add_incoming(value, entry)
        done, left, right, *tile = variables
        builder.cbranch(builder.icmp_signed("<", done, count), body, after)
        builder.position_at_end(body)
        loaded = [self.load(pointer, m) for pointer, m in self.across(right, mask)]
        updated = [builder.add(done, self.constant(1)), self.at(left, step), self.at(right, next_b)]
        for r in range(self.rows):
            factor = self.splat(builder.load(self.at(left, builder.mul(row, self.constant(r)))))
            for v in range(self.vectors):
                updated.append(builder.call(self.multiply_add, [factor, loaded[v], tile[r * self.vectors + v]]))
        for variable, value in zip(variables, updated, strict=True):
            variable.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return tile

    def write(self, tile, adds, c, row, mask):
        """Store the tile, added to what is there where ``adds`` is not 0."""

        def targets():
            for r in range(self.rows):
                yield from self.across(self.at(c, self.builder.mul(row, self.constant(r))), mask)

        fresh = self.builder.icmp_signed("==", adds, self.constant(0))
        with self.builder.if_else(fresh) as (overwrite, add):
            with overwrite:
                for value, (pointer, m) in zip(tile, targets(), strict=True):
                    self.store(value, pointer, m)
            with add:
                for value, (pointer, m) in zip(tile, targets(), strict=True):
                    self.store(self.builder.fadd(value, self.load(pointer, m)), pointer, m)


def tile_product(rows, vectors):
    """Return a function for one tile, ``C[c0 + i c_row + j] = sum_p A[a0 + i row + p step] B[b0 + p next_b + j]``."""

    @intrinsic
    def product(_, count, a, a0, row, step, b, b0, next_b, adds, c, c0, c_row, columns):
        kinds = (count, a, a0, row, step, b, b0, next_b, adds, c, c0, c_row, columns)

        def generate(context, builder, signature, arguments):
            count, a, a0, row, step, b, b0, next_b, adds, c, c0, c_row, columns = (
                context.cast(builder, value, kind, types.intp) if isinstance(kind, types.Integer) else value
                for value, kind in zip(arguments, kinds, strict=True)
            )
            tile = TileBuilder(context, builder, kinds[9].dtype, rows, vectors)
            A, B, C = tile.at(a, a0), tile.at(b, b0), tile.at(c, c0)
            full = builder.icmp_signed(">=", columns, tile.constant(vectors * tile.length))
            with builder.if_else(full) as (whole, cut):
                with whole:
                    tile.write(tile.sums(count, A, row, step, B, next_b, None), adds, C, c_row, None)
                with cut:
                    mask = tile.mask_of(columns)
                    tile.write(tile.sums(count, A, row, step, B, next_b, mask), adds, C, c_row, mask)
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return product


def strip_product(vectors):
    """Return a function for ``m`` rows of C and at most ``vectors`` vectors of columns."""
    six, four, two, one = (tile_product(rows, vectors) for rows in (6, 4, 2, 1))

    @subroutine
    def strip(m, count, A, a0, row, step, B, b0, next_b, adds, C, c0, c_row, columns):
        i = 0
        while m - i >= 6:
            six(count, A, a0 + i * row, row, step, B, b0, next_b, adds, C, c0 + i * c_row, c_row, columns)
            i += 6
        if m - i >= 4:
            four(count, A, a0 + i * row, row, step, B, b0, next_b, adds, C, c0 + i * c_row, c_row, columns)
            i += 4
        if m - i >= 2:
            two(count, A, a0 + i * row, row, step, B, b0, next_b, adds, C, c0 + i * c_row, c_row, columns)
            i += 2
        if m - i >= 1:
            one(count, A, a0 + i * row, row, step, B, b0, next_b, adds, C, c0 + i * c_row, c_row, columns)

    return strip


one_vector, two_vectors = strip_product(1), strip_product(2)


@subroutine
def strip(m, count, A, a0, row, step, B, b0, next_b, adds, C, c0, c_row, columns):
    if columns > vector_length(C):
        two_vectors(m, count, A, a0, row, step, B, b0, next_b, adds, C, c0, c_row, columns)
    else:
        one_vector(m, count, A, a0, row, step, B, b0, next_b, adds, C, c0, c_row, columns)


def signature(scalar):
    """Return the type of ``narrow_product`` for numbers of one kind."""
    array = types.CPointer(scalar)
    return types.void(types.intp, types.intp, types.intp, types.intp, array, array, types.intp, array)


@subroutine
def pack(form, count, begin, end, n, k, p, B, panels):
    """Lay ``count`` rows from row p on of columns [begin, end) of B, or of B', side by side in panels."""
    width = 2 * vector_length(B)
    for j in range(begin, end, width):
        columns, start = min(end - j, width), (j - begin) * count
        if form == NT:
            for c in range(columns):
                for q in range(count):
                    panels[start + q * width + c] = B[(j + c) * k + p + q]
        else:
            for q in range(count):
                for c in range(columns):
                    panels[start + q * width + c] = B[(p + q) * n + j + c]


@routine(float32=signature(types.float32), float64=signature(types.float64))
def narrow_product(form, m, n, k, A, B, adds, C):
    """``C (m, n) = A B``, or ``C += A B`` where ``adds``; ``form`` says which of A and B is transposed, k is summed."""
    width = 2 * vector_length(C)
    packs = form == NT or n > SPREAD
    panels = room_for_panels(C)
    row, step = (1, m) if form == TN else (k, 1)
    for p in range(0, k, INNER):
        count = min(INNER, k - p)
        for group in range(0, n, GROUP):
            end = min(n, group + GROUP)
            if packs:
                pack(form, count, group, end, n, k, p, B, panels)
            for i in range(0, m, STRIP):
                rows, a0 = min(STRIP, m - i), i * row + p * step
                for j in range(group, end, width):
                    columns, c0 = min(end - j, width), i * n + j
                    if packs:
                        b0 = (j - group) * count
                        strip(rows, count, A, a0, row, step, panels, b0, width, adds, C, c0, n, columns)
                    else:
                        b0 = p * n + j
                        strip(rows, count, A, a0, row, step, B, b0, n, adds, C, c0, n, columns)
        adds = 1
