"""Decides what is compiled, for which types, and when."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from numba import types

from fastbp.core import compiler, derivatives
from fastbp.core.activations import COMMON, activate, activate_rarely, multiply_by_prime, multiply_by_rare_prime
from fastbp.core.augmentation import augment
from fastbp.core.call import (
    ACTIVATION,
    AUGMENTATION,
    CALL_VIEWS,
    DROPOUT,
    FIELDS,
    INFER,
    NOISE,
    TRAIN,
    Part,
    Room,
    Summed,
)
from fastbp.core.costs import Outputs, costs_and_errors
from fastbp.core.engine import bound_part, one_thread, run
from fastbp.core.noise import add_noise, drop
from fastbp.core.product import Shape, product
from fastbp.core.rules import CLIP_NORM, MAX_NORM, RULE, Rates, row_of, update_block, update_rarely
from fastbp.core.simd.matrix import matrix_of
from fastbp.core.sparse import sparse_forward, sparse_weights
from fastbp.core.threads import team

Pieces = list[compiler.Made]


def signatures(dtype: str) -> tuple[tuple[Any, ...], Pieces, Pieces]:
    """Return the types that one_thread is compiled for; the pieces that it calls, each with its types, callees first;
    and the rare pieces."""
    whole, real, number, call = types.int64, types.float64, getattr(types, dtype), CALL_VIEWS[dtype]
    numbers = types.CPointer(number)
    matrix, shape = matrix_of(numbers), types.NamedUniTuple(whole, 3, Shape)
    outputs = types.NamedTuple((numbers, numbers, numbers, whole, whole, whole), Outputs)
    rates, part = types.NamedUniTuple(real, len(Rates._fields), Rates), types.NamedUniTuple(whole, 2, Part)
    samples, room = types.NamedTuple((whole, whole, real, types.boolean), Summed), types.NamedUniTuple(whole, 4, Room)
    rows, update = (whole, numbers, numbers, whole, whole, whole), (call, whole, numbers, whole)
    prime = (whole, numbers, numbers, numbers, whole, whole, whole)
    return (call, whole), [
        (product, (matrix, matrix, matrix, shape, matrix, number, whole)),
        (activate, rows),
        (multiply_by_prime, prime),
        (costs_and_errors, (FIELDS["loss"], whole, outputs, numbers, types.CPointer(real))),
        (update_block, (*update, whole, rates)),
    ], [
        (activate_rarely, rows),
        (multiply_by_rare_prime, prime),
        (update_rarely, (*update, rates)),
        (drop, (whole, whole, whole, whole, numbers, whole, whole, whole)),
        (add_noise, (whole, whole, whole, numbers, whole, whole, whole)),
        (augment, (whole, whole, whole, numbers, whole, whole)),
        (bound_part, (call, whole, rates, part, whole)),
        (sparse_forward, (call, whole, whole, whole, whole)),
        (sparse_weights, (call, samples, types.boolean, part, room, rates)),
    ]


def address(dtype: str, layers: Any, settings: Any, purpose: int, sparse: bool = False) -> int:
    """Return the address of one_thread's machine code for a dtype, for steps of these layers, settings and purpose,
    and, if `sparse`, of samples that are stored rows.

    This code, and the rare pieces that these steps call, are loaded or compiled now if needed: no Python runs inside
    the steps. Call it again if layers or settings change: a call of a piece that was not loaded ends the process.
    """
    needed = _rare_needed(layers, settings, purpose, sparse)
    place, filled = _loaded.get(dtype, (0, frozenset()))
    if not (place and filled >= needed):
        with compiler.global_compiler_lock:
            place, filled = _address(dtype), _fill(dtype, needed)
            _loaded[dtype] = place, filled
    return place


_loaded: dict[str, tuple[int, frozenset[Any]]] = {}  # by dtype: the address, and the rare pieces that are loaded


def address_of_derivatives(dtype: str, layers: Any) -> int:
    """Return the same as `address` for the machine code of fastbp.core.derivatives."""
    address(dtype, layers, (), INFER)  # the pieces that it calls
    with compiler.global_compiler_lock:
        return _address_of_derivatives(dtype)


@functools.cache
def _address_of_derivatives(dtype: str) -> int:
    made = derivatives.one_thread, signatures(dtype)[0]
    with compiler.once([made], f"its derivatives ({dtype})", "5 to 10 s"), compiler.linking():
        return compiler.machine_code(*made)


def _rare_needed(layers: Any, settings: Any, purpose: int, sparse: bool) -> frozenset[Any]:
    """Return the rare pieces that steps call, or could call, as costs need the derivative of an output. Takes 2 us."""
    columns = layers.T.tolist()
    pieces: set[Any] = set()
    if not COMMON.issuperset(columns[ACTIVATION]):
        pieces.update((activate_rarely, multiply_by_rare_prime))
    if any(columns[DROPOUT]):
        pieces.add(drop)
    if any(columns[NOISE]):
        pieces.add(add_noise)
    if any(columns[AUGMENTATION]):
        pieces.add(augment)
    if sparse:
        pieces.update((sparse_forward, sparse_weights) if purpose != INFER else (sparse_forward,))
    if purpose == TRAIN:
        if row_of(settings[RULE]).rare:
            pieces.add(update_rarely)
        if settings[CLIP_NORM] > 0 or settings[MAX_NORM] > 0:
            pieces.add(bound_part)
    return frozenset(pieces)


RARE_NAMES = {activate_rarely: "activations such as gelu", multiply_by_rare_prime: "activations such as gelu",
              update_rarely: "optimizers such as Lion", drop: "dropout", add_noise: "noise",
              augment: "augmentation", bound_part: "clip_norm or max_norm",
              sparse_forward: "sparse samples", sparse_weights: "sparse samples"}


def _fill(dtype: str, pieces: Iterable[Any]) -> frozenset[Any]:
    """Load or compile rare pieces; return all that are loaded."""
    _, _, rare = signatures(dtype)
    wanted = [made for made in rare if made[0] in pieces and not compiler.is_filled(*made)]
    what = ", ".join(dict.fromkeys(RARE_NAMES[piece] for piece, _ in wanted))
    with compiler.once([(piece.alone, signature) for piece, signature in wanted], what, f"1 to {2 * len(wanted)} s"):
        for piece, signature in wanted:
            compiler.fill(piece, signature)
    return frozenset(piece for piece, signature in rare if compiler.is_filled(piece, signature))


def fill_all(dtype: str) -> None:
    """Load or compile every rare piece, after a call of `address`."""
    with compiler.global_compiler_lock:
        _fill(dtype, RARE_NAMES)


@functools.cache
def _address(dtype: str) -> int:
    """Compile the loop that calls the pieces in another process, and meanwhile here the pieces and `run`, needed next
    with threads. In one process it takes twice as long."""
    loop, pieces, rare = signatures(dtype)
    for piece, signature in rare:
        compiler.reserve(piece, signature)
    compile_loop = f"from fastbp.core import build; build.compile_loop({dtype!r})"
    with compiler.once(_always(dtype), f"its kernels ({dtype})", "10 to 20 s"):
        with compiler.beside(one_thread, loop, compile_loop) as shared:
            for piece, signature in pieces:
                compiler.link(piece, signature)
            if shared and team.threads_started():
                run.compile((types.int64[::1], types.int64))
        with compiler.linking():
            return compiler.machine_code(one_thread, loop)


def _always(dtype: str) -> Pieces:
    """Return the pieces that `address` needs for any steps."""
    loop, pieces, _ = signatures(dtype)
    return [(one_thread, loop), *((piece.alone, signature) for piece, signature in pieces)]


def compile_loop(dtype: str) -> None:
    """Compile the callers of the pieces, without the pieces, for `address` to find on disk; the process then ends."""
    loop, pieces, rare = signatures(dtype)
    for piece, signature in rare:
        compiler.reserve(piece, signature)
    for piece, signature in pieces:
        compiler.link(piece, signature, 1)
    with compiler.linking():
        compiler.machine_code(one_thread, loop)


def cached(dtype: str) -> bool:
    """Whether all of the machine code that `address` always needs is on disk."""
    return all(compiler.is_cached(*made) for made in _always(dtype))
