"""Handles: a network and its trainer, as users' compiled code sees them, and the functions that this code calls.

A handle is a pointer to named numbers, like a slip; they include the address of a slip for each kind of call. Its type
contains the version of the core, so that users' code that was compiled for another version is compiled again. Arrays of
every layout arrive as Given: the code that does the work is compiled once for all of them, and kept.

Each function first checks all arguments. If one is invalid, it does nothing and stores the reason in the handle: an
exception could not leave a user's prange.
"""

from __future__ import annotations

import math
import operator
from collections import namedtuple

import numba
import numpy as np
from numba import carray, types
from numba.extending import NativeValue, intrinsic, overload, register_model, unbox

from fastbp.core import compiler
from fastbp.core.call import SLOTS
from fastbp.core.compiler.view import SLOT, PointerModel, View, slots_of_record
from fastbp.core.costs import ANY
from fastbp.core.derivatives import GRADIENT, GRADIENT_AND_INPUTS
from fastbp.core.doors import go_once, is_in_range, put_samples
from fastbp.core.equations import piece_of
from fastbp.core.samples import FLOAT32, FLOAT64, LABELS, NONE, UINT8
from fastbp.core.simd.memory import pointer_from
from fastbp.core.simd.vectors import room_on_stack

WHOLE = types.int64
# Status of a call; Handle.problem has the messages.
(OK, FEATURES, DIFFERENT, TOO_MANY, NOT_FINITE, LABEL, TARGETS, ROOM, DIVERGED, NO_STEPS, NO_LABELS, RATE, OWN_ROWS,
 OVERLAP) = range(14)

FIELDS = {
    # The last call: its status, and a number that belongs to it.
    "status": WHOLE, "found": WHOLE,
    # The network: widths, parameters, bytes of a number, the largest number; labels, 0 if it takes none, and whether it
    # chooses one; the condition on rows of targets; the factor of inputs.
    "n_in": WHOLE, "n_out": WHOLE, "n_parameters": WHOLE, "itemsize": WHOLE, "largest": types.float64,
    "n_classes": WHOLE, "decides": WHOLE, "must_be": WHOLE, "scale": types.float64,
    # Samples of a training call, and of a piece of it, see `piece_of`; addresses of samples in place and of their
    # targets, and their row strides.
    "capacity": WHOLE, "most": WHOLE, "inputs": WHOLE, "row": WHOLE, "targets": WHOLE, "row_of_targets": WHOLE,
    # Slips (0 for those of a trainer if there is none); room for outputs; the learning rate.
    "infer": WHOLE, "gradients": WHOLE, "train": WHOLE, "update": WHOLE, "vjp": WHOLE, "outputs": WHOLE, "etas": WHOLE,
}
X, T, OUTPUTS, GRADIENT_AT, N_GRADIENT, PURPOSE = (SLOTS[name] for name in (
    "x", "t", "outputs", "gradient", "n_gradient", "purpose"))


class HandleType(View):
    """The type of a handle for networks of a dtype."""

    def __init__(self, dtype: str, version: str = compiler.DIGEST[:16]):
        self.dtype = getattr(types, dtype)
        super().__init__(f"fastbp.compiled.Handle({dtype}, version {version})", FIELDS)


class HandlesType(types.Type):  # type: ignore[misc]  # Numba has no types
    """The type of several handles: a pointer to their number, followed by their addresses."""

    def __init__(self, handle: HandleType):
        self.handle = handle
        super().__init__(f"several {handle}")


HANDLE_TYPES = {dtype: HandleType(dtype) for dtype in ("float32", "float64")}
HANDLES_TYPES = {dtype: HandlesType(handle) for dtype, handle in HANDLE_TYPES.items()}
HANDLE_SLOTS = {name: slot for name, (slot, _) in HANDLE_TYPES["float64"].fields.items()}
STATUS, FOUND = HANDLE_SLOTS["status"], HANDLE_SLOTS["found"]


for kind in (HandleType, HandlesType):
    register_model(kind)(PointerModel)


@unbox(HandleType)
@unbox(HandlesType)
def _address(kind, handle, c):
    """Emit the pointer that a Handle, or Handles, of fastbp.compiled holds."""
    number = c.pyapi.object_getattr_string(handle, "address")
    address = c.pyapi.long_as_longlong(number)
    c.pyapi.decref(number)
    return NativeValue(c.builder.inttoptr(address, SLOT.as_pointer()), is_error=c.pyapi.c_api_error())


@intrinsic
def _handle_at(typing, handles, i):
    def emit(context, builder, signature, arguments):
        address = builder.load(builder.gep(arguments[0], [builder.add(arguments[1], SLOT(1))]))
        return builder.inttoptr(address, SLOT.as_pointer())

    return handles.handle(handles, types.int64), emit


@intrinsic
def _number_of_handles(typing, handles):
    def emit(context, builder, signature, arguments):
        return builder.load(arguments[0])

    return types.int64(handles), emit


@overload(len)
def _len(handles):
    if isinstance(handles, HandlesType):
        return lambda handles: _number_of_handles(handles)
    return None


@overload(operator.getitem)
def _getitem(handles, i):
    if not (isinstance(handles, HandlesType) and isinstance(i, types.Integer)):
        return None

    def get(handles, i):
        if not 0 <= i < _number_of_handles(handles):
            raise IndexError("index out of range: there are fewer handles")
        return _handle_at(handles, np.int64(i))

    return get


# Arguments from users.

# Address of the first number; rows and columns; bytes from row to row, elements from column to column; the kind.
Given = namedtuple("Given", ["address", "rows", "columns", "row", "column", "kind"])
GIVEN = types.NamedUniTuple(WHOLE, 6, Given)
KINDS = {types.uint8: UINT8, types.float32: FLOAT32, types.float64: FLOAT64}


def _layout(context, builder, kind, value):
    """Return address, shape and strides in bytes of an array, and its item size."""
    array = context.make_array(kind)(context, builder, value)
    shape, strides = ([builder.extract_value(each, i) for i in range(kind.ndim)]
                      for each in (array.shape, array.strides))
    return builder.ptrtoint(array.data, SLOT), shape, strides, array.itemsize


def _given(context, builder, kind, value, is_row, code):
    """Return an array as Given: rows (n, m), one row (m,), or a column (n,)."""
    address, shape, strides, size = _layout(context, builder, kind, value)
    if kind.ndim == 1:
        shape, strides = ([SLOT(1), *shape], [SLOT(0), *strides]) if is_row else ([*shape, SLOT(1)], [*strides, size])
    return context.make_tuple(builder, GIVEN, [address, *shape, strides[0], builder.sdiv(strides[1], size), SLOT(code)])


def _is_array(kind, ndims, dtypes):
    return isinstance(kind, types.Array) and kind.ndim in ndims and kind.dtype in dtypes and kind.aligned


@intrinsic
def samples_given(typing, samples):
    """Samples (n, n_in), or one (n_in,)."""
    if not _is_array(samples, (1, 2), KINDS):
        raise numba.TypingError("X must be an array (n, n_in), or one sample (n_in,), of float32, float64 or uint8; "
                                f"it is {samples}")

    def emit(context, builder, signature, arguments):
        return _given(context, builder, samples, arguments[0], True, KINDS[samples.dtype])

    return GIVEN(samples), emit


@intrinsic
def targets_given(typing, samples, y):
    """Labels (n,) or rows of targets (n, n_out), or values (n,) for a single output; for one sample a label, a value or
    a row (n_out,)."""
    one, whole = samples.ndim == 1, types.unliteral(y)
    if isinstance(whole, (types.Integer, types.Float)):
        kind, code = (types.int64, LABELS) if isinstance(whole, types.Integer) else (types.float64, FLOAT64)

        def emit_number(context, builder, signature, arguments):
            value = context.cast(builder, arguments[1], y, kind)
            place = room_on_stack(builder, 8, value.type.as_pointer())
            builder.store(value, place)
            return context.make_tuple(builder, GIVEN, [builder.ptrtoint(place, SLOT), *map(SLOT, (1, 1, 0, 1, code))])

        return GIVEN(samples, y), emit_number
    labels = _is_array(y, (1,), (types.int64,))
    if not (labels or _is_array(y, (1, 2), KINDS) and (y.ndim == 2 or y.dtype != types.uint8)):
        raise numba.TypingError("y must be labels (n,) of int64, or rows of targets (n, n_out) or values (n,) of "
                                "float32 or float64; for one sample a label, a value or a row (n_out,); "
                                f"it is {y}")

    def emit(context, builder, signature, arguments):
        code = LABELS if labels else KINDS[y.dtype]
        return _given(context, builder, y, arguments[1], one and not labels, code)

    return GIVEN(samples, y), emit


@intrinsic
def room_given(typing, handle, array, samples):
    """Contiguous memory for results of the network's dtype: one row per sample, or a single row if `samples` is None;
    none if the array is None."""
    ndim = 1 if samples == types.none else samples.ndim
    if array == types.none or isinstance(array, types.Omitted):
        return GIVEN(handle, array, samples), lambda context, builder, signature, arguments: context.make_tuple(
            builder, GIVEN, [SLOT(0)] * 6)
    if not (_is_array(array, (ndim,), (handle.dtype,)) and array.layout == "C" and array.mutable):
        raise numba.TypingError(f"results and gradients must be contiguous, writeable arrays of {handle.dtype}, this "
                                f"one of {ndim} dimension{'s' * (ndim > 1)}; it is {array}")

    def emit(context, builder, signature, arguments):
        return _given(context, builder, array, arguments[1], True, NONE)

    return GIVEN(handle, array, samples), emit


@intrinsic
def labels_room_given(typing, array):
    """Memory for labels (n,)."""
    if not (_is_array(array, (1,), (types.int64,)) and array.mutable):
        raise numba.TypingError(f"labels must be a writeable array (n,) of int64; it is {array}")

    def emit(context, builder, signature, arguments):
        return _given(context, builder, array, arguments[0], False, LABELS)

    return GIVEN(array), emit


# Checks, before anything is done.


@compiler.inlined
def tell(handle, status, found):
    """Set the status; return whether it is OK."""
    numbers = slots_of_record(handle)
    numbers[STATUS], numbers[FOUND] = status, found
    return status == OK


@compiler.inlined
def bad_row(like, given, must_be, largest):
    """Return the index of the first row with a number that is not finite in the network's dtype, or not a valid target;
    -1 if there is none."""
    for i in range(given.rows):
        row, good = pointer_from(given.address + i * given.row, like), True
        for j in range(given.columns):
            good &= abs(np.float64(row[j * given.column])) <= largest
        if not (good and (must_be == ANY or is_in_range(row, given.columns, given.column, must_be))):
            return i
    return -1


@compiler.inlined
def numbers_are_good(handle, given, must_be, status):
    """Whether all samples or rows of targets are valid; otherwise the status is set."""
    bad = -1
    if given.kind == FLOAT32:
        bad = bad_row(np.float32(0), given, must_be, handle.largest)
    elif given.kind == FLOAT64:
        bad = bad_row(np.float64(0), given, must_be, handle.largest)
    elif must_be != ANY:
        bad = bad_row(np.uint8(0), given, must_be, handle.largest)
    return tell(handle, OK if bad < 0 else status, bad)


@compiler.inlined
def labels_are_good(handle, t):
    for i in range(t.rows):
        label = pointer_from(t.address + i * t.row, t.rows)[0]
        if not 0 <= label < handle.n_classes:
            return tell(handle, LABEL, i)
    return True


@compiler.inlined
def targets_are_good(handle, x, t):
    """Whether there are as many targets as samples, and the loss accepts them."""
    if t.rows != x.rows:
        return tell(handle, DIFFERENT, t.rows)
    if t.kind == LABELS:
        return labels_are_good(handle, t)
    if t.columns != handle.n_out:
        return tell(handle, DIFFERENT, t.columns)
    return numbers_are_good(handle, t, handle.must_be, TARGETS)


@compiler.inlined
def samples_are_good(handle, x):
    if x.columns != handle.n_in:
        return tell(handle, FEATURES, x.columns)
    if not 0 < x.rows <= handle.capacity:
        return tell(handle, TOO_MANY, x.rows)
    return numbers_are_good(handle, x, ANY, NOT_FINITE)


# The work.


@compiler.inlined
def slip_at(address):
    return pointer_from(address, address)


@compiler.inlined
def in_place(handle, given, begin, row):
    """Whether rows are those of the handle at address `begin`, from the first row on."""
    own = given.kind == (FLOAT32 if handle.itemsize == 4 else FLOAT64)
    return given.address == begin and own and (given.row == row or given.rows == 1) and (
        given.column == 1 or given.columns == 1)


@compiler.inlined
def extent(given):
    """Return the addresses where an array begins and ends."""
    size = 1 if given.kind == UINT8 else 4 if given.kind == FLOAT32 else 8
    down, right = (given.rows - 1) * given.row, (given.columns - 1) * given.column * size
    return given.address + min(down, 0) + min(right, 0), given.address + max(down, 0) + max(right, 0) + size


@compiler.inlined
def lies_in(handle, given, begin, row):
    """Whether an array overlaps the rows of the handle at address `begin`."""
    low, high = extent(given)
    return low < begin + handle.capacity * row and begin < high


@compiler.inlined
def put_inputs(handle, slip, x, first, n, piece):
    """Set `n` samples from `first` on, in pieces; samples in place need no scale and, as one piece, no copy.

    Others that overlap the handle's rows would be overwritten while they are read: then only the status is set."""
    kind, scale, ready = x.kind, handle.scale, in_place(handle, x, handle.inputs, handle.row)
    if ready:
        kind, scale = NONE if n <= piece else kind, 1.0
    elif lies_in(handle, x, handle.inputs, handle.row):
        return tell(handle, OWN_ROWS, 0)
    put_samples(slip, X, (x.address + first * x.row, x.row, x.column, kind, scale))
    return True


@compiler.inlined
def put_targets(handle, slip, x, t, piece):
    """Set targets, or cotangents, of samples x; see `put_inputs`. If they are rows of samples, they are read first."""
    ready, kind = in_place(handle, t, handle.targets, handle.row_of_targets), t.kind
    in_targets = lies_in(handle, x, handle.targets, handle.row_of_targets)
    if ready and t.rows <= piece:
        kind = NONE
    elif in_targets or not ready and (
            lies_in(handle, t, handle.targets, handle.row_of_targets) or lies_in(handle, t, handle.inputs, handle.row)
            and not in_place(handle, t, handle.inputs, handle.row)):
        return tell(handle, OWN_ROWS, 0)
    put_samples(slip, T, (t.address, t.row, t.column, kind, 1.0))
    return True


@compiler.inlined
def put_batch(handle, slip, x, t, piece):
    """Set samples and their targets if they are valid; otherwise the status is set."""
    return samples_are_good(handle, x) and targets_are_good(handle, x, t) and put_inputs(
        handle, slip, x, 0, x.rows, piece) and put_targets(handle, slip, x, t, piece)


@compiler.inlined
def ended(handle, cost):
    """Return the cost; NaN, with the status set, if it is not finite."""
    good = tell(handle, OK if math.isfinite(cost) else DIVERGED, 0)
    return cost if good else math.nan


@compiler.inlined
def copy_numbers(like, source, to, n, largest):
    """Copy n numbers; return whether all are finite."""
    source, to, good = pointer_from(source, like), pointer_from(to, like), True
    for i in range(n):
        good &= abs(source[i]) <= largest
        to[i] = source[i]
    return good


@compiler.inlined
def copied(handle, source, to):
    """Copy a vector over the parameters; return whether all its numbers are finite."""
    if handle.itemsize == 4:
        return copy_numbers(np.float32(0), source, to, handle.n_parameters, np.float32(handle.largest))
    return copy_numbers(np.float64(0), source, to, handle.n_parameters, handle.largest)


@compiler.inlined
def fits(handle, x, to, n_out):
    """Whether samples have the network's features, and there is room for n_out results each."""
    if x.columns != handle.n_in:
        return tell(handle, FEATURES, x.columns)
    if to.rows != x.rows or to.columns != n_out:
        return tell(handle, ROOM, to.rows)
    (begin, end), (low, high) = extent(x), extent(to)
    return tell(handle, OVERLAP if x.rows > handle.capacity and low < end and begin < high else OK, 0)


@compiler.serial
def write_outputs(handle, x, to):
    if not fits(handle, x, to, handle.n_out):
        return False
    for first in range(0, x.rows, handle.capacity):
        if not outputs_of_some(handle, x, first, to.address + first * to.columns * handle.itemsize):
            return False
    return True


@compiler.inlined
def outputs_of_some(handle, x, first, to):
    """Write outputs of as many samples as the buffers hold, from `first` on; return whether their numbers are finite,
    otherwise the status is set."""
    slip, n = slip_at(handle.infer), min(handle.capacity, x.rows - first)
    if not put_inputs(handle, slip, x, first, n, n):
        return False
    slip[OUTPUTS] = to
    if go_once(slip, n, n) == 0:
        return tell(handle, OK, 0)
    return numbers_are_good(handle, x, ANY, NOT_FINITE) and tell(handle, DIVERGED, 0)


@compiler.serial
def write_labels(handle, x, to):
    if not handle.decides:
        return tell(handle, NO_LABELS, 0)
    if not fits(handle, x, to, 1):
        return False
    for first in range(0, x.rows, handle.capacity):
        if not outputs_of_some(handle, x, first, handle.outputs):
            return False
        for i in range(min(handle.capacity, x.rows - first)):
            place = handle.outputs + i * handle.n_out * handle.itemsize
            label = (label_of(np.float32(0), place, handle.n_out) if handle.itemsize == 4 else
                     label_of(np.float64(0), place, handle.n_out))
            pointer_from(to.address + (first + i) * to.row, label)[0] = label
    return True


@compiler.inlined
def label_of(like, place, n):
    """Return the index of the largest output in a row; for a single one, whether it is at least 1/2."""
    row, best = pointer_from(place, like), np.int64(0)
    for j in range(n):
        if row[j] > row[best]:
            best = np.int64(j)
    return np.int64(row[0] >= 0.5) if n == 1 else best


@compiler.serial
def write_gradient(handle, x, t, to):
    if to.columns != handle.n_parameters:
        tell(handle, ROOM, to.columns)
        return math.nan
    slip = slip_at(handle.gradients)
    if not put_batch(handle, slip, x, t, x.rows):
        return math.nan
    return ended(handle, gradient_into(handle, slip, x.rows, to.address))


@compiler.inlined
def gradient_into(handle, slip, n, to):
    """Run a call whose gradient goes to an address; by a copy if sums over many samples need room of their own."""
    if slip[N_GRADIENT] == handle.n_parameters:
        slip[GRADIENT_AT] = to
        return go_once(slip, n, n)
    cost = go_once(slip, n, n)
    copied(handle, slip[GRADIENT_AT], to)
    return cost


@compiler.serial
def take_step(handle, x, t):
    if handle.train == 0:
        tell(handle, NO_STEPS, 0)
        return math.nan
    slip, piece = slip_at(handle.train), piece_of(max(x.rows, 1), handle.most)
    if not put_batch(handle, slip, x, t, piece):
        return math.nan
    return ended(handle, go_once(slip, x.rows, piece))


@compiler.serial
def take_update(handle, gradient):
    if handle.update == 0:
        return tell(handle, NO_STEPS, 0)
    if gradient.columns != handle.n_parameters:
        return tell(handle, ROOM, gradient.columns)
    slip = slip_at(handle.update)
    if not copied(handle, gradient.address, slip[GRADIENT_AT]):
        return tell(handle, DIVERGED, 0)
    go_once(slip, 1, 1)
    return tell(handle, OK, 0)


@compiler.serial
def write_vjp(handle, x, cotangent, to, to_inputs):
    if to.columns != handle.n_parameters or (to_inputs.rows and (to_inputs.rows, to_inputs.columns) != (
            x.rows, handle.n_in)):
        return tell(handle, ROOM, to.columns)
    if cotangent.rows != x.rows or cotangent.columns != handle.n_out or cotangent.kind == LABELS:
        return tell(handle, DIFFERENT, cotangent.rows)
    slip = slip_at(handle.vjp)
    if not (samples_are_good(handle, x) and numbers_are_good(handle, cotangent, ANY, TARGETS)
            and put_inputs(handle, slip, x, 0, x.rows, x.rows)
            and put_targets(handle, slip, x, cotangent, x.rows)):
        return False
    slip[PURPOSE] = GRADIENT_AND_INPUTS if to_inputs.rows else GRADIENT
    slip[OUTPUTS] = to_inputs.address
    gradient_into(handle, slip, x.rows, to.address)
    return tell(handle, OK, 0)


@compiler.serial
def put_eta(handle, eta):
    if not 0 <= eta < np.inf:
        return tell(handle, RATE, 0)
    if handle.etas != 0:
        pointer_from(handle.etas, 0.0)[0] = eta
    return tell(handle, OK if handle.etas != 0 else NO_STEPS, 0)


@intrinsic
def zero_of(typing, handle):
    """0 of the network's dtype."""
    def emit(context, builder, signature, arguments):
        return context.get_constant(handle.dtype, 0)

    return handle.dtype(handle), emit


@compiler.inlined
def rows_in_place(handle, address, row, n):
    """Return the rows of samples or targets that the network holds, as an array."""
    return carray(pointer_from(address, zero_of(handle)), (handle.capacity, row // handle.itemsize))[:, :n]
