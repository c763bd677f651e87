"""Augmentation: each sample is an image, and is moved, turned and deformed at random, as a function of (key, row).

All transformations together say for each pixel from where in the image it comes: one point, between four pixels.
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core import compiler
from fastbp.core.compiler import out_of_line
from fastbp.core.noise import for_each_hash, mixed, uniform
from fastbp.core.simd.elementwise import Numbers, each, fma, where
from fastbp.core.simd.memory import IMAGE_NUMBERS, address_of, ahead, at, image_on_stack, number, pointer_from
from fastbp.core.simd.vectors import I32, I64, Loop, Vectors, call_named

# The settings, float64: sizes of the image; largest shift in pixels, angle, relative change of size, and slope; rows
# and columns of the grid of random displacements, 0 for none. Then the weight of each row of the grid for each row of
# the image, and of each column of the grid for each column of the image; the latter times the size of displacements.
HEIGHT, WIDTH, SHIFT, ROTATION, SCALE, SHEAR, KNOT_ROWS, KNOT_COLUMNS, WEIGHTS = range(9)
DRAWN = 6  # numbers of an image before those of the grid: shift y, x; angle; sizes y, x; slope
ROUNDED = 16  # numbers that a vector holds at most
APART = 1 << 62  # from the rows of `drop` and `add_noise`

Sizes = namedtuple("Sizes", ["height", "width", "knot_rows", "knot_columns", "ld"])
# On the stack: random numbers in (-1, 1); the image, with a zero behind each row and a row of zeros; for y and x, the
# terms of a coordinate; the weights of the grid's columns; y, x and the values of a row of pixels; `ld` numbers to each
# row of all these.
Space = namedtuple("Space", ["draws", "image", "terms", "columns", "y", "x", "values"])


def fits(height, width, knot_rows, knot_columns):
    """Whether the stack has the room that images of these sizes need, see Space."""
    numbers = [DRAWN + 2 * knot_rows * knot_columns, (height + 1) * (width + 1),
               (2 * knot_rows + knot_columns + 7) * (width + ROUNDED)]
    return sum(numbers) + ROUNDED <= IMAGE_NUMBERS


@each
def _add_scaled(term, total, factor):
    return fma(term, factor, total)


@for_each_hash
def _draw(vectors, values, hashes, _, scale):
    """Numbers that are uniform in (-scale, scale)."""
    return (uniform(vectors, hashes) * Numbers(vectors, scale)).value


@intrinsic
def _interpolate(typing, y, x, values, n, image, sizes):
    """values[c] = the image at (y[c], x[c]), for `n` points rounded up to whole vectors."""
    def emit(context, builder, signature, arguments):
        vectors = Vectors(builder, y)
        whole, addresses = ir.VectorType(I32, vectors.lanes), ir.VectorType(I64, vectors.lanes)
        pointers = ir.VectorType(arguments[4].type, vectors.lanes)
        name = f"llvm.masked.gather.v{vectors.lanes}f{vectors.bits}.v{vectors.lanes}p0"
        everywhere = ir.Constant(ir.VectorType(ir.IntType(1), vectors.lanes), [1] * vectors.lanes)
        height, width = (builder.extract_value(arguments[5], i) for i in range(2))
        ld = builder.add(width, I64(1))

        def split(place, size):
            """The pixel before the coordinate, and the distance from it."""
            last = vectors.splat(builder.sitofp(builder.sub(size, I64(1)), vectors.scalar))
            at = Numbers(vectors, vectors.load(place, I64(0)))
            at = where(at > 0, at, 0.0)  # 0 for NaN
            at = where(at < Numbers(vectors, last), at, Numbers(vectors, last))
            before = builder.fptosi(at.value, whole)
            return before, at - Numbers(vectors, builder.sitofp(before, vectors.type))

        def pixels(index, further):
            offset = builder.mul(builder.add(builder.zext(index, addresses), vectors.splat(further)),
                                 ir.Constant(addresses, [vectors.bits // 8] * vectors.lanes))
            start = vectors.splat(builder.ptrtoint(arguments[4], I64))
            place = builder.inttoptr(builder.add(start, offset), pointers)
            align = I32(vectors.bits // 8)
            return Numbers(vectors, call_named(builder, name, vectors.type, place, align, everywhere, vectors.zero))

        with Loop(builder, vectors.number_for(arguments[3]), arguments[:3]) as loop:
            (above, down), (left, along) = split(loop.values[0], height), split(loop.values[1], width)
            index = builder.add(builder.mul(above, vectors.splat(builder.trunc(ld, I32))), left)
            first, second = pixels(index, I64(0)), pixels(index, I64(1))
            third, fourth = pixels(index, ld), pixels(index, builder.add(ld, I64(1)))
            upper, lower = fma(along, second - first, first), fma(along, fourth - third, third)
            vectors.store(fma(down, lower - upper, upper).value, loop.values[2], I64(0))
            loop.next([builder.gep(place, [I64(vectors.lanes)]) for place in loop.values])
        return context.get_dummy_value()

    return types.void(y, x, values, types.int64, image, sizes), emit


@compiler.rare
def augment(settings, key, first_row, rows, n_rows, ld):
    """Replace `n_rows` images, `ld` apart, by random versions of them; settings: the address of those above.

    Image i depends on itself and on row first_row + i of the rows of the `key` only, as in `drop`. A point outside has
    the value of the nearest pixel; pixels of an image that is not deformed keep their bits.
    """
    out_of_line()
    own, like = pointer_from(settings, 0.0), number(rows, 1.0)
    height, width, knot_rows, knot_columns = (int(own[HEIGHT]), int(own[WIDTH]), int(own[KNOT_ROWS]),
                                              int(own[KNOT_COLUMNS]))
    sizes = Sizes(height, width, knot_rows, knot_columns, (width + ROUNDED - 1) // ROUNDED * ROUNDED)
    n = DRAWN + 2 * knot_rows * knot_columns
    draws = image_on_stack(rows)
    image = ahead(draws, (n + ROUNDED - 1) // ROUNDED * ROUNDED)
    terms = ahead(image, (height + 1) * (width + 1))
    columns = ahead(terms, 2 * (knot_rows + 2) * sizes.ld)
    y = ahead(columns, knot_columns * sizes.ld)
    x = ahead(y, sizes.ld)
    space = Space(draws, image, terms, columns, y, x, ahead(x, sizes.ld))
    columns_of_grid(space, sizes, own)
    for i in range(n_rows):
        row = ahead(rows, i * ld)
        _draw(draws, n, mixed(np.uint64(key) + mixed(np.uint64(first_row + i + APART))), 0, 0, like)
        image_between_zeros(space, sizes, row)
        terms_of_grid(space, sizes)
        terms_of_affine(space, sizes, own)
        for r in range(height):
            weights = ahead(own, WEIGHTS + r * knot_rows)
            coordinates(y, terms, weights, sizes, r)
            coordinates(x, ahead(terms, (knot_rows + 2) * sizes.ld), weights, sizes, r)
            _interpolate(y, x, space.values, width, image, sizes)
            for c in range(width):
                row[r * width + c] = space.values[c]


@compiler.inlined
def image_between_zeros(space, sizes, row):
    """Copy an image, with zeros where an interpolation at its last row or column reads numbers that have no weight."""
    ld = sizes.width + 1
    for r in range(sizes.height):
        for c in range(sizes.width):
            space.image[r * ld + c] = row[r * sizes.width + c]
        space.image[r * ld + sizes.width] = 0
    for c in range(ld):
        space.image[sizes.height * ld + c] = 0


@compiler.inlined
def columns_of_grid(space, sizes, own):
    """Copy the weights of the grid's columns."""
    weights = ahead(own, WEIGHTS + sizes.height * sizes.knot_rows)
    for j in range(sizes.knot_columns):
        to = ahead(space.columns, j * sizes.ld)
        for c in range(sizes.ld):
            to[c] = number(to, weights[j * sizes.width + c] if c < sizes.width else 0.0)


@compiler.inlined
def terms_of_grid(space, sizes):
    """terms[axis, k, c] = Σ_j grid[axis, k, j] columns[j, c], for each row k of the grid."""
    drawn, ld = ahead(space.draws, DRAWN), sizes.ld
    for k in range(2 * sizes.knot_rows):
        to = ahead(space.terms, (k + (2 if k >= sizes.knot_rows else 0)) * ld)
        for c in range(ld):
            to[c] = 0
        for j in range(sizes.knot_columns):
            _add_scaled(ahead(space.columns, j * ld), to, 1, ld, ld, (drawn[k * sizes.knot_columns + j],))


@compiler.inlined
def terms_of_affine(space, sizes, own):
    """The last two terms of each axis, y0 + yx c and yy: a pixel (r, c) comes from y = y0 + yy r + yx c, and x alike.

    This is the inverse of: shear, change of size, rotation and shift, about the middle of the image."""
    draws, k, ld = space.draws, sizes.knot_rows, sizes.ld
    middle_y, middle_x, angle = (sizes.height - 1) / 2, (sizes.width - 1) / 2, own[ROTATION] * draws[2]
    cosine, sine = math.cos(angle), math.sin(angle)
    size_y, size_x, slope = 1 + own[SCALE] * draws[3], 1 + own[SCALE] * draws[4], own[SHEAR] * draws[5]
    yy, yx = cosine / size_y, -sine / size_y
    xy, xx = sine / size_x - slope * yy, cosine / size_x - slope * yx
    to_y, to_x = middle_y + own[SHIFT] * draws[0], middle_x + own[SHIFT] * draws[1]
    y0, x0 = middle_y - yy * to_y - yx * to_x, middle_x - xy * to_y - xx * to_x
    of_y, of_x = ahead(space.terms, k * ld), ahead(space.terms, (2 * k + 2) * ld)
    for c in range(ld):
        of_y[c], of_y[ld + c] = number(of_y, y0 + yx * c), number(of_y, yy)
        of_x[c], of_x[ld + c] = number(of_x, x0 + xx * c), number(of_x, xy)


@compiler.block
def coordinates(to, terms, weights, sizes, r):
    """One coordinate of the pixels of row r: Σ_k weights[k] terms[k] + terms[-2] + r terms[-1]."""
    ld, k = sizes.ld, sizes.knot_rows
    for c in range(ld):
        to[c] = terms[k * ld + c]
    _add_scaled(ahead(terms, (k + 1) * ld), to, 1, ld, ld, (number(to, r),))
    for k in range(sizes.knot_rows):
        if weights[k] != 0:
            _add_scaled(ahead(terms, k * ld), to, 1, ld, ld, (number(to, weights[k]),))


@compiler.serial
def augment_rows(settings, key, first_row, rows):
    """`augment` for images (n, numbers), contiguous."""
    augment(address_of(settings), key, first_row, at(rows, 0), len(rows), rows.shape[1])
