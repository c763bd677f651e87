"""Samples in place: arrays with any strides, converted to the network's floats when a mini-batch is gathered."""

from __future__ import annotations

import ctypes
import math
from collections import namedtuple

import numpy as np

from fastbp.core import compiler
from fastbp.core.compiler import out_of_line
from fastbp.core.simd.memory import ahead, number, pointer_from, prefetch

NONE, UINT8, FLOAT32, FLOAT64, LABELS = range(5)
SPARSE = 8  # added to the kind of the values of stored rows
KINDS = {np.dtype("uint8"): UINT8, np.dtype("float32"): FLOAT32, np.dtype("float64"): FLOAT64}

# Address of the first number; bytes from sample to sample; elements from column to column; one of the kinds above; the
# factor of each number. Plain numbers, so that one compiled kernel serves every type and layout. Of stored rows (CSR):
# the addresses of where each begins (int64), of the indices (int32) and of the values; the kind; the factor.
Samples = namedtuple("Samples", ["address", "row", "column", "kind", "scale"])


NO_SAMPLES = Samples(0, 0, 0, NONE, 1.0)


def address_of_array(array):
    """Return the address of an array's first number.

    With a ctypes object it takes 0.2 us, with `array.ctypes.data` 1.7; read-only, empty and strided arrays need the
    latter.
    """
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError, BufferError):
        return array.ctypes.data


def readable(array, dtype):
    """Return the array itself if the kernels can read it, else a copy as `dtype`."""
    whole_strides = all(stride % array.itemsize == 0 for stride in array.strides)
    if array.dtype in KINDS and array.dtype.isnative and array.flags.aligned and whole_strides:
        return array
    return array.astype(dtype)


def describe(array, kind=None, scale=1.0):
    """Return the Samples of a native, aligned array (n, features), or of int64 labels (n,) with kind=LABELS.

    The caller keeps `array` alive while a kernel runs.
    """
    column = 1 if array.ndim == 1 else array.strides[1] // array.itemsize
    kind = KINDS[array.dtype] if kind is None else kind
    return Samples(address_of_array(array), array.strides[0], column, kind, scale)


@compiler.inlined
def number_of(call, i):
    """Return the index of the i-th sample in the order."""
    return call.order[i] if call.n_order else i


@compiler.inner
def gather(call, x, first, rows, n_rows, n, ld):
    """Rows 0, 1, ... = samples first, first + 1, ... in the order, of x (the call's inputs or targets), as floats,
    times x.scale; `n` numbers each, `ld` apart."""
    out_of_line()
    scale = number(rows, x.scale)
    for i in range(n_rows):
        address, row = x.address + number_of(call, first + i) * x.row, ahead(rows, i * ld)
        if x.kind == UINT8:
            _copy(pointer_from(address, np.uint8(0)), x.column, scale, row, n)
        elif x.kind == FLOAT32:
            _copy(pointer_from(address, np.float32(0)), x.column, scale, row, n)
        else:
            _copy(pointer_from(address, np.float64(0)), x.column, scale, row, n)


@compiler.inlined
def _copy(source, stride, scale, row, n):
    if stride == 1:
        for j in range(n):
            row[j] = number(row, source[j]) * scale
    else:
        for j in range(n):
            row[j] = number(row, source[j * stride]) * scale


@compiler.inner
def gather_labels(call, first, rows, n_rows, n):
    """Contiguous rows 0, 1, ...: 1 at the label of sample first, ... in the order, else 0; for a single output, the
    label itself."""
    out_of_line()
    for i in range(n_rows):
        label = pointer_from(call.t.address + number_of(call, first + i) * call.t.row, np.int64(0))[0]
        row = ahead(rows, i * n)
        if n == 1:
            row[0] = label
        else:
            for j in range(n):
                row[j] = 0
            row[label] = 1


@compiler.inner
def prefetch_row(x, i, n_columns):
    """Fetch sample i of x into the cache ahead of its use: rows drawn at random miss every cache and the TLB.

    Gathering 128 rows of 784 uint8 from 47 MB took 39 µs, from rows in cache 8 µs; prefetching them 6 µs.
    """
    address = x.address + i * x.row
    size = 8 if x.kind in (FLOAT64, LABELS) else 4 if x.kind == FLOAT32 else 1
    if x.column == 1:
        for byte in range(0, n_columns * size, 64):
            prefetch(pointer_from(address + byte, np.int64(0)))


@compiler.inlined
def are_finite(row, n):
    """Whether the first `n` numbers are."""
    finite = True
    for j in range(n):
        finite &= math.isfinite(row[j])
    return finite
