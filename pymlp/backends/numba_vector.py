"""The two pieces of the Numba backend that are spelled out in LLVM: the tile of the matrix products, and polynomials.

Numba compiles loops, and LLVM turns some of them into vector code; a matrix product with its sums in registers is not
one of those (no way to say that arrays do not overlap, no arrays of registers).  An intrinsic emits the few vector
instructions itself, for any processor LLVM knows.  One tile serves all three products, because its operand a carries
two strides; all column counts are padded to whole vectors, so it needs no masks and no scalar tails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# the widest vectors of this processor; 32 bytes where there are less is two or more registers, which LLVM handles
VECTOR_BYTES = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32
# 8 sums + 1 of b + 1 of a = 10 of the 16 registers of AVX2; 8 sums keep two units of four cycles busy
TILE_ROWS = (8, 4, 2, 1)


def tile_of_rows(rows: int) -> Callable:
    """The tile of `rows` rows and one vector of columns.

    The function computes ``c[row, :] = start[row, :] + sum over k < count of a[row, k] * b[k, :]``.  Its arguments are
    one-dimensional arrays, each with the offset of its first element and its strides in elements: ``c, c_at,
    c_stride; a, a_at, a_row_stride, a_k_stride; b, b_at, b_stride; start, start_at, start_stride; count``.
    """

    def generate(context, builder, signature, arguments):
        c, c_at, c_stride, a, a_at, a_row, a_k, b, b_at, b_stride, start, start_at, start_stride, count = arguments
        array_types = {"c": signature.args[0], "a": signature.args[3], "b": signature.args[7], "s": signature.args[10]}
        data = {
            name: context.make_array(array_types[name])(context, builder, value).data
            for name, value in {"c": c, "a": a, "b": b, "s": start}.items()
        }
        element = context.get_value_type(signature.args[0].dtype)
        size = context.get_abi_sizeof(element)
        vector = ir.VectorType(element, VECTOR_BYTES // size)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)

        def vector_pointer(name, at):
            return builder.bitcast(builder.gep(data[name], [at]), vector.as_pointer())

        def offset(at, stride, row):
            return builder.add(at, builder.mul(stride, ir.Constant(stride.type, row)))

        # locals that LLVM keeps in registers
        sums = [cgutils.alloca_once(builder, vector) for _ in range(rows)]
        for row in range(rows):
            pointer = vector_pointer("s", offset(start_at, start_stride, row))
            builder.store(builder.load(pointer, align=size), sums[row])
        with cgutils.for_range(builder, count) as loop:
            b_vector = builder.load(
                vector_pointer("b", builder.add(b_at, builder.mul(b_stride, loop.index))), align=size
            )
            a_column = builder.add(a_at, builder.mul(a_k, loop.index))
            for row in range(rows):
                a_element = builder.load(builder.gep(data["a"], [offset(a_column, a_row, row)]))
                single = builder.insert_element(ir.Constant(vector, ir.Undefined), a_element, ir.IntType(32)(0))
                a_vector = builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), lanes)
                # contract: one fused operation where the processor has it
                term = builder.fmul(a_vector, b_vector, flags=("contract",))
                builder.store(builder.fadd(builder.load(sums[row]), term, flags=("contract",)), sums[row])
        for row in range(rows):
            builder.store(builder.load(sums[row]), vector_pointer("c", offset(c_at, c_stride, row)), align=size)
        return context.get_dummy_value()

    @intrinsic
    def tile(
        typing_context, c, c_at, c_stride, a, a_at, a_row, a_k, b, b_at, b_stride, start, start_at, start_stride, count
    ):
        whole = types.intp
        offsets = (whole, whole, whole)
        signature = types.void(c, whole, whole, a, *offsets, b, whole, whole, start, *offsets)
        return signature, generate

    return tile


def polynomial(coefficients: Sequence[float]) -> Callable:
    """A compiled function of one number: the polynomial with these coefficients, constant first, in Horner's scheme."""
    numbers = [float(number) for number in coefficients]

    def generate(context, builder, signature, arguments):
        element = context.get_value_type(signature.args[0])
        value = ir.Constant(element, numbers[-1])
        for number in reversed(numbers[:-1]):
            product = builder.fmul(value, arguments[0], flags=("contract",))
            value = builder.fadd(product, ir.Constant(element, number), flags=("contract",))
        return value

    @intrinsic
    def evaluate(typing_context, x):
        return x(x), generate

    return evaluate
