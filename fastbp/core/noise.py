"""Dropout and Gaussian noise: pure functions of (key, row, column) that are never stored."""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core import compiler
from fastbp.core.compiler import out_of_line
from fastbp.core.simd.elementwise import Numbers, polynomial, sqrt, where
from fastbp.core.simd.memory import ahead, check_contiguous, data_of, number
from fastbp.core.simd.vectors import I32, I64, Loop, Vectors

WHOLE = 1 << 32  # rates and deviations are in units of 1 / WHOLE
NEIGHBOUR = 0x9E3779B9  # odd, and its multiples are far apart: 2**32 divided by the golden ratio
LOG_TERMS = 6  # of the series of artanh
# Giles: Approximating the erfinv function (GPU Computing Gems, Jade edition, 2011), table 5: of w - 2.5, and of √w - 3.
CENTRE = (1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.00021858087, -4.39150654e-06, -3.5233877e-06,
          3.43273939e-07, 2.81022636e-08)
TAIL = (2.83297682, 1.00167406, 0.00943887047, -0.0076224613, 0.00573950773, -0.00367342844, 0.00134934322,
        0.000100950558, -0.000200214257)


def threshold(rate: float) -> int:
    """Return the integer that represents a rate in [0, 1)."""
    return min(round(rate * WHOLE), WHOLE - 1)


@compiler.inner
def mixed(x):
    """A 64-bit hash: each bit of x changes about half of the result's bits. mix64variant13 of Steele, Lea,
    Flood: Fast Splittable Pseudorandom Number Generators (OOPSLA 2014), figure 19."""
    x = np.uint64(x)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def for_each_hash(emit_number):
    """Return the intrinsic `run(row, n, key, first, integer, number)`: row[j] = emit_number(vectors, row[j], h,
    integer, number) with the hash h of (key, first + j), in whole vectors, as in `each`.

    The hash is the finalizer of MurmurHash3 (Appleby 2011), 32 bits to 32; a loop in Python uses 64 bits for each
    product and takes five times as long.
    """
    @intrinsic
    def run(typing, row, n, key, first, integer, number):
        check_contiguous(row)

        def emit(context, builder, signature, arguments):
            vectors = Vectors(builder, types.CPointer(row.dtype))
            data = data_of(context, builder, row, arguments[0])
            whole = ir.VectorType(I32, vectors.lanes)

            def constant(number):
                return ir.Constant(whole, [number] * vectors.lanes)

            def splat(number):
                return vectors.splat(builder.trunc(number, I32))

            def shifted(x, bits):
                return builder.xor(x, builder.lshr(x, constant(bits)))

            start = builder.add(splat(arguments[3]), ir.Constant(whole, list(range(vectors.lanes))))
            own, integers, numbers = splat(arguments[2]), splat(arguments[4]), vectors.splat(arguments[5])
            with Loop(builder, vectors.number_for(arguments[1]),
                      [data, builder.mul(start, constant(NEIGHBOUR))]) as loop:
                place, number = loop.values
                x = builder.mul(shifted(builder.xor(number, own), 16), constant(0x85EBCA6B))
                x = shifted(builder.mul(shifted(x, 13), constant(0xC2B2AE35)), 16)
                vectors.store(emit_number(vectors, vectors.load(place, I64(0)), x, integers, numbers), place, I64(0))
                loop.next([builder.gep(place, [I64(vectors.lanes)]),
                           builder.add(number, constant(NEIGHBOUR * vectors.lanes % WHOLE))])
            return context.get_dummy_value()

        return types.void(row, types.int64, types.uint64, types.int64, types.int64, row.dtype), emit

    return run


@for_each_hash
def _drop_row(vectors, values, hashes, least, scale):
    """The values times `scale`, or 0 where the hash is below `least`."""
    builder = vectors.builder
    factor = builder.select(builder.icmp_unsigned(">=", hashes, least), scale, vectors.zero)
    return builder.fmul(values, factor)


@for_each_hash
def _add_normal_row(vectors, values, hashes, _, deviation):
    """The values plus `deviation` times a normal number made from the hash."""
    return (Numbers(vectors, values) + Numbers(vectors, deviation) * normal(uniform(vectors, hashes))).value


def uniform(vectors, hashes):
    """Numbers in (-1, 1), made from hashes; symmetric and never 0."""
    builder = vectors.builder
    odd = builder.or_(builder.lshr(hashes, ir.Constant(hashes.type, [8] * vectors.lanes)),
                      ir.Constant(hashes.type, [1] * vectors.lanes))  # 24 bits, so that all that follows is exact
    return Numbers(vectors, builder.sitofp(odd, vectors.type)) * 2.0**-23 - 1


def normal(u):
    """√2 erfinv(u): a standard normal number, if u is uniform in (-1, 1); within 1e-6 of its size."""
    w = -log((1 - u) * (1 + u))
    inner, outer = polynomial(w - 2.5, CENTRE), polynomial(sqrt(w) - 3, TAIL)
    return math.sqrt(2) * u * where(w < 5, inner, outer)


def log(x):
    """Of a positive normal number: x = 2**n m, 0.7 < m < 1.5, log m = 2 artanh((m - 1) / (m + 1)) by its series."""
    builder = x.x.builder
    integer, fraction, bias = (I32, 23, 127) if x.single else (I64, 52, 1023)
    whole = ir.VectorType(integer, x.x.lanes)

    def constant(number):
        return ir.Constant(whole, [number] * x.x.lanes)

    bits = builder.bitcast(x.value, whole)
    n = builder.sub(builder.lshr(bits, constant(fraction)), constant(bias))
    one = constant(bias << fraction)
    m = Numbers(x.x, builder.bitcast(builder.or_(builder.and_(bits, constant((1 << fraction) - 1)), one), x.x.type))
    high = m > math.sqrt(2)
    n = Numbers(x.x, builder.sitofp(n, x.x.type)) + where(high, 1.0, 0.0)
    m = m * where(high, 0.5, 1.0)
    y = (m - 1) / (m + 1)
    return n * math.log(2) + 2 * y * polynomial(y * y, [1 / (2 * i + 1) for i in range(LOG_TERMS)])


@compiler.rare
def drop(key, first_row, first, threshold, rows, n_rows, n, ld):
    """For `n_rows` rows of `n` numbers, `ld` apart: each becomes 0 with probability threshold / 2**32, else
    1 / (1 - that) times as large.

    Row i is row first_row + i of the rows of the `key`, element j is element first + j: the same elements are dropped
    in any partition, on any threads and in any repetition. Rows have the room that `activate` needs.
    """
    out_of_line()
    scale = number(rows, 1 / (1 - threshold / WHOLE))
    for i in range(n_rows):
        own = mixed(np.uint64(key) + mixed(np.uint64(first_row + i)))
        _drop_row(ahead(rows, i * ld), n, own, first, threshold, scale)


@compiler.rare
def add_noise(key, first_row, deviation, rows, n_rows, n, ld):
    """Add Gaussian noise of standard deviation deviation / 2**32 to `n_rows` rows of `n` numbers, `ld` apart.

    It is a function of (key, row, column), independent of `drop`; rows as there."""
    out_of_line()
    for i in range(n_rows):
        own = mixed(np.uint64(key) + mixed(np.uint64(-1 - first_row - i)))
        _add_normal_row(ahead(rows, i * ld), n, own, 0, 0, number(rows, deviation / WHOLE))
