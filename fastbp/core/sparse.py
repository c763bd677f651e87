"""Sparse samples, as stored rows (CSR): the first layer's forward pass and weight gradient, over stored entries only.

Entries of a sample may be in any order, and an index may occur twice: then the values add up.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from fastbp.core import compiler
from fastbp.core.activations import activate
from fastbp.core.call import layer_of
from fastbp.core.equations import CHAIN, add_exactly, drop_sent
from fastbp.core.rules import SGD_RULE, descend, update_block
from fastbp.core.samples import FLOAT32, SPARSE, UINT8, number_of
from fastbp.core.simd.memory import address_of, ahead, number, pointer_from, prefetch
from fastbp.core.simd.tile import add_rows
from fastbp.core.simd.vectors import fma

GRAIN = 8  # rows of W that are shared out together
FETCHED = 12  # entries whose rows of W are fetched ahead
DIGIT = 11  # bits of a row's number that one pass of the sort looks at
TABLE = 1 << DIGIT
SAMPLE = (1 << 32) - 1  # the bits of a key that hold the sample's place


def room_for_entries(most: int) -> int:
    """Return how many int64 a thread needs to sort `most` entries: keys and values, each twice, and a table."""
    return 4 * (most + 1) + TABLE


@compiler.inlined
def entry_range(x, i):
    """Return where the entries of sample i begin and end."""
    begins = pointer_from(x.address, np.int64(0))
    return begins[i], begins[i + 1]


@compiler.inlined
def value_of(x, k):
    """Return the value of entry k, times x.scale."""
    if x.kind == SPARSE + UINT8:
        return pointer_from(x.column, np.uint8(0))[k] * x.scale
    if x.kind == SPARSE + FLOAT32:
        return pointer_from(x.column, np.float32(0))[k] * x.scale
    return pointer_from(x.column, np.float64(0))[k] * x.scale


@compiler.rare
def sparse_forward(call, first, row, lo, hi):
    """`forward_block` of the first layer for samples lo..hi of a piece that begins with sample `first` in the order."""
    layer, x, n_layers = layer_of(call, 0), call.x, call.n_layers
    n_out, ld, indices = layer.n_out, layer.ld, pointer_from(call.x.row, np.int32(0))
    W, b = ahead(call.theta, layer.w), ahead(call.theta, layer.b)
    for i in range(lo, hi):
        z = ahead(call.buffers, layer.z + i * ld)
        for j in range(n_out):
            z[j] = b[j]
        k, end = entry_range(x, number_of(call, first + i))
        while k < end:
            for later in range(min(k + FETCHED, end), min(k + FETCHED + 4, end)):
                fetch(ahead(W, indices[later] * n_out), n_out)
            if k + 4 <= end:
                add_four(z, W, x, indices, k, n_out)
                k += 4
            else:
                value, sent = number(z, value_of(x, k)), ahead(W, indices[k] * n_out)
                for j in range(n_out):
                    z[j] = fma(value, sent[j], z[j])
                k += 1
    z, a = ahead(call.buffers, layer.z + lo * ld), ahead(call.buffers, layer.a + lo * ld)
    activate(layer.activation, z, a, hi - lo, n_out, ld)
    if n_layers > 1:
        drop_sent(call, 1, a, row + lo, 0, hi - lo, n_out)


@compiler.inlined
def fetch(row, n):
    """Fetch a row into the cache."""
    for j in range(0, n, 16):
        prefetch(ahead(row, j))


@compiler.inlined
def add_four(z, W, x, indices, k, n):
    """z += the values of entries k..k + 4 times their rows of W, in this order."""
    v0, v1 = number(z, value_of(x, k)), number(z, value_of(x, k + 1))
    v2, v3 = number(z, value_of(x, k + 2)), number(z, value_of(x, k + 3))
    r0, r1 = ahead(W, indices[k] * n), ahead(W, indices[k + 1] * n)
    r2, r3 = ahead(W, indices[k + 2] * n), ahead(W, indices[k + 3] * n)
    for j in range(n):
        z[j] = fma(v3, r3[j], fma(v2, r2[j], fma(v1, r1[j], fma(v0, r0[j], z[j]))))


# Entries of rows of W, by row, then by sample. A key is the row, and in its lower 32 bits the sample's place in the
# piece; values are times the piece's scale.
Entries = namedtuple("Entries", ["keys", "values", "n"])
# A sum of gradients of rows: where it is, and if `chained`, its rounding errors and room for the sum of a chain, see
# `summed_gradients`.
Total = namedtuple("Total", ["data", "lost", "block", "chained"])


@compiler.rare
def sparse_weights(call, samples, updates, part, room, rates):
    """`weights_part` of the first layer: rows of W are shared out in turn, GRAIN at a time."""
    layer, kept, at = layer_of(call, 0), room.scratch < 0, 0
    n_in, n_out = layer.n_in, layer.n_out
    entries = sorted_entries(call, samples, part, room.own, n_in)
    if updates and not kept and is_plain(call.rule):
        descend_rows(call, entries, ahead(call.gradient, room.scratch), rates.eta)
    else:
        for lo in range(part.number * GRAIN, n_in, part.of * GRAIN):
            hi, begin = min(lo + GRAIN, n_in), layer.w + lo * n_out
            total, length = total_at(call, room, begin if kept else room.scratch), (hi - lo) * n_out
            clear(total, length, samples.fresh)
            at = add_entries(call, entries, at, lo, hi, total)
            if updates:
                update_block(call, begin, total.data, length, length, rates)
    if part.number == 0:
        total = total_at(call, room, layer.b if kept else room.scratch)
        clear(total, n_out, samples.fresh)
        bias_gradient(call, samples, total)
        if updates:
            update_block(call, layer.b, total.data, n_out, 0, rates)


@compiler.inlined
def total_at(call, room, place):
    """Return the Total at an offset in call.gradient."""
    return Total(ahead(call.gradient, place), ahead(call.gradient, room.lost + place),
                 ahead(call.gradient, max(room.block, 0)), room.block >= 0)


@compiler.inlined
def is_plain(rule):
    """Whether the update is theta ← theta − eta g for each number alone: then rows without entries stay as they are."""
    free = rule.weight_decay == 0 and rule.l1 == 0 and rule.l2 == 0 and rule.ema_decay == 0
    return rule.code == SGD_RULE and free and rule.clip_value == 0


@compiler.inlined
def descend_rows(call, entries, g, rate):
    """Update the rows of W that have entries, one after the other; g: room for the gradient of a row."""
    layer, at, eta, (keys, values, n) = layer_of(call, 0), 0, number(g, rate), entries
    n_out, W, errors = layer.n_out, ahead(call.theta, layer.w), ahead(call.buffers, layer.delta)
    while at < n:
        row = keys[at] >> 32
        if at + FETCHED < n:
            fetch(ahead(W, (keys[at + FETCHED] >> 32) * n_out), n_out)
        factor, error = number(g, values[at]), ahead(errors, (keys[at] & SAMPLE) * layer.ld)
        for j in range(n_out):
            g[j] = factor * error[j]
        at += 1
        while at < n and keys[at] >> 32 == row:
            add_error(g, values[at], ahead(errors, (keys[at] & SAMPLE) * layer.ld), n_out)
            at += 1
        descend(ahead(W, row * n_out), g, n_out, eta)


@compiler.inlined
def sorted_entries(call, samples, part, own, n_in):
    """Return the Entries of the part's rows of W."""
    x, most, room = call.x, call.n_entries + 1, ahead(call.entries, own * (4 * (call.n_entries + 1) + TABLE))
    indices = pointer_from(call.x.row, np.int32(0))
    keys, values, n = room, as_reals(ahead(room, 2 * most)), 0
    for i in range(samples.n):
        k, end = entry_range(x, number_of(call, samples.first + i))
        for e in range(k, end):
            row = np.int64(indices[e])
            keys[n], values[n] = (row << 32) + i, value_of(x, e) * samples.scale
            n += (row // GRAIN) & (part.of - 1) == part.number
    other_keys, other_values, shift = ahead(room, most), as_reals(ahead(room, 3 * most)), 32
    while (n_in - 1) >> (shift - 32) > 0:
        sort_by_digit(keys, values, other_keys, other_values, n, shift, ahead(room, 4 * most))
        keys, other_keys = other_keys, keys
        values, other_values = other_values, values
        shift += DIGIT
    return Entries(keys, values, n)


@compiler.inlined
def as_reals(pointer):
    """The same memory as float64."""
    return pointer_from(address_of(pointer), np.float64(0))


@compiler.inner
def sort_by_digit(keys, values, other_keys, other_values, n, shift, table):
    """One pass of a stable radix sort: by DIGIT bits of the keys, from bit `shift` on."""
    for d in range(TABLE):
        table[d] = 0
    for e in range(n):
        table[(keys[e] >> shift) & (TABLE - 1)] += 1
    before = 0
    for d in range(TABLE):
        before, table[d] = before + table[d], before
    for e in range(n):
        d = (keys[e] >> shift) & (TABLE - 1)
        to = table[d]
        other_keys[to], other_values[to], table[d] = keys[e], values[e], to + 1


@compiler.inlined
def clear(total, n, fresh):
    """Begin a sum of `n` numbers, if it is `fresh`."""
    if fresh:
        for j in range(n):
            total.data[j] = 0
        for j in range(n if total.chained else 0):
            total.lost[j] = 0


@compiler.inlined
def add_entries(call, entries, at, lo, hi, total):
    """Add the gradients of rows lo..hi, from entry `at` on; return the first entry of later rows."""
    layer, (keys, values, n) = layer_of(call, 0), entries
    n_out, ld, errors = layer.n_out, layer.ld, ahead(call.buffers, layer.delta)
    while at < n and keys[at] >> 32 < hi:
        row, chain = keys[at] >> 32, (keys[at] & SAMPLE) // CHAIN
        to = ahead(total.data, (row - lo) * n_out)
        if total.chained:
            for j in range(n_out):
                total.block[j] = 0
            while at < n and keys[at] >> 32 == row and (keys[at] & SAMPLE) // CHAIN == chain:
                add_error(total.block, values[at], ahead(errors, (keys[at] & SAMPLE) * ld), n_out)
                at += 1
            add_exactly(to, ahead(total.lost, (row - lo) * n_out), total.block, n_out, False)
        else:
            add_error(to, values[at], ahead(errors, (keys[at] & SAMPLE) * ld), n_out)
            at += 1
    return at


@compiler.inlined
def add_error(g, value, error, n):
    """g += value error."""
    factor = number(g, value)
    for j in range(n):
        g[j] = fma(factor, error[j], g[j])


@compiler.inlined
def bias_gradient(call, samples, total):
    """Add db of the piece."""
    layer = layer_of(call, 0)
    n_out, scale, each = layer.n_out, number(total.data, samples.scale), CHAIN if total.chained else samples.n
    for first in range(0, samples.n, each):
        error, n = ahead(call.buffers, layer.delta + first * layer.ld), min(each, samples.n - first)
        if total.chained:
            for j in range(n_out):
                total.block[j] = 0
            add_rows(total.block, error, layer.ld, n, n_out, scale)
            add_exactly(total.data, total.lost, total.block, n_out, False)
        else:
            add_rows(total.data, error, layer.ld, n, n_out, scale)
