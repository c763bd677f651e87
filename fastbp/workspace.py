"""Workspace: every buffer that a step needs, allocated once for the largest mini-batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.core import activations, build
from fastbp.core.call import DELTA, INPUT, LD, LD_INPUT, N_COLUMNS, N_IN, N_OUT, A, B, Slip, Z
from fastbp.core.costs import Cost
from fastbp.core.plan import Plan
from fastbp.core.samples import NO_SAMPLES
from fastbp.core.simd.cpu import LINE
from fastbp.core.threads.board import board_size

Array = npt.NDArray[Any]
MOST_KEPT = 64  # slips of a workspace


def aligned(n: int, dtype: npt.DTypeLike) -> Array:
    """A vector of `n` zeros that starts on a cache line."""
    size = np.dtype(dtype).itemsize
    memory = np.zeros(n * size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + n * size].view(dtype)


def room_for(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return the array for a result of this shape: `out` if it fits, or a new array if it is None."""
    if out is None:
        return np.empty(shape, dtype)
    if not (isinstance(out, np.ndarray) and out.shape == shape and out.dtype == dtype and out.flags.carray):
        what = f"{shape[0]} numbers" if len(shape) == 1 else f"shape {shape}"
        raise ValueError(f"out must be a contiguous, writeable array of {what} of {dtype}")
    return out


def keep(slips: dict[Any, Slip], key: Any, slip: Slip) -> None:
    """Have this one for calls of that key; losses with ever other settings must not fill the memory."""
    if len(slips) >= MOST_KEPT:
        slips.clear()
    slips[key] = slip


def overlap(out: Any, array: Array) -> bool:
    """Whether `out` may overlap an array: takes 0.1 us if both own their memory, otherwise 0.4."""
    return isinstance(out, np.ndarray) and (
        out is array or not (out.base is None and array.base is None)) and np.may_share_memory(out, array)


def parameter_offsets(layer_sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the offsets of W[l] and b[l] of each layer in theta; last (end, end), the length of theta."""
    offsets, at = [], 0
    for n_in, n_out in zip(layer_sizes, layer_sizes[1:], strict=False):
        offsets.append((at, at + n_in * n_out))
        at += (n_in + 1) * n_out
    return [*offsets, (at, at)]


def row_length(n: int, itemsize: int) -> int:
    """Return the row stride in elements: an odd number of cache lines, so that rows fall into different cache sets."""
    lines = -(-n * itemsize // LINE)
    return (lines | 1) * LINE // itemsize


class Workspace:
    """Every buffer that a training step needs, allocated once.

    Parameters
    ----------
    layer_sizes : sequence of int
        Neurons of the input and of each layer.
    activation_names : sequence of str
        One name for each layer after the input.
    dtype : "float32" or "float64"
    capacity : int
        Number of samples in the largest mini-batch.
    sparse : bool
        Whether samples are sparse: then there is no room for a[0], which is empty.

    Attributes
    ----------
    layers : ndarray (L, 16), int64
        The table of layers that the kernels read (its columns are named in fastbp.core.call).
    buffers : ndarray (numbers,)
        Memory of a[0] and of all z[l], a[l], delta[l].
    a : list of ndarray (capacity, n)
        a[0] is the input, a[-1] the output. Views into `buffers`, like z and delta, whose entry 0 is layer 1.
    targets : ndarray (capacity, n_out)
    costs : ndarray (capacity,), float64
        Cost of each sample.
    slip : fastbp.core.call.Slip
        Slip of calls that use these buffers; its `clock` and `board` are for calls that change no parameter.
    few : dict
        Slips of the doors (see fastbp.core.doors), by loss and purpose; for outputs alone, by number of threads.

    Raises
    ------
    KeyError
        An activation is unknown. Other arguments are not checked: `Network.workspace` does it.

    Examples
    --------
    >>> ws = Workspace([2, 3, 1], ["tanh", "identity"], "float64", capacity=10)
    >>> [a.shape for a in ws.a], ws.delta[-1].shape
    ([(10, 2), (10, 3), (10, 1)], (10, 1))
    """

    def __init__(self, layer_sizes: Sequence[int], activation_names: Sequence[str], dtype: npt.DTypeLike,
                 capacity: int, sparse: bool = False):
        self.capacity, self.sparse = capacity, sparse
        self._made_of = tuple(layer_sizes), tuple(activation_names), dtype
        itemsize = np.dtype(dtype).itemsize
        self.layers = np.zeros((len(layer_sizes) - 1, N_COLUMNS), np.int64)
        sent, sent_length = 0, 0 if sparse else row_length(layer_sizes[0], itemsize)
        end = capacity * sent_length
        offsets = parameter_offsets(layer_sizes)
        for row, n_in, n_out, name, (w, b) in zip(self.layers, layer_sizes, layer_sizes[1:], activation_names, offsets,
                                                  strict=False):
            length = row_length(n_out, itemsize)
            z, a, delta = (end + i * capacity * length for i in range(3))
            row[:] = n_in, n_out, w, b, activations.CODES[name], sent, sent_length, z, a, delta, length, 0, 0, 0, 0, 0
            sent, sent_length, end = a, length, end + 3 * capacity * length
        self.buffers = aligned(end, dtype)
        self.targets = np.zeros((capacity, layer_sizes[-1]), dtype)
        self.costs = np.zeros(capacity)
        self.slip = self.new_slip()
        self.clock, self._boards = np.zeros(1, np.int64), dict[int, Array]()
        self.few: dict[Any, Slip] = {}
        self.a = [self.buffers[:0] if sparse else self._rows(0, INPUT, LD_INPUT, N_IN)]
        self.a += [self._rows(l, A) for l in range(len(self.layers))]
        self.z = [self._rows(l, Z) for l in range(len(self.layers))]
        self.delta = [self._rows(l, DELTA) for l in range(len(self.layers))]

    def new_slip(self) -> Slip:
        slip = Slip()
        slip.point(layers=self.layers, buffers=self.buffers, targets=self.targets, costs=self.costs)
        slip.put(n_layers=len(self.layers), n_parameters=int(self.layers[-1, B] + self.layers[-1, N_OUT]),
                 capacity=self.capacity)
        return slip

    def board(self, threads: int) -> Array:
        """Return a board for this many threads."""
        if threads not in self._boards:
            self._boards[threads] = np.zeros(board_size(threads), np.int64)
        return self._boards[threads]

    def bind(self, theta: Array, clock: Array, loss: Cost, rule: Array, purpose: int, plan: Plan) -> Slip:
        """Return a slip for calls of fastbp.core.doors on one thread, and load the machine code for them.

        clock, rule: number of updates so far and settings of the update; empty without updates.
        """
        slip = self.new_slip()
        slip.point(theta=theta, clock=clock)
        slip.put_data(NO_SAMPLES, NO_SAMPLES, np.empty(0), np.empty(0, np.int64), 0)
        slip.put_loss(loss)
        slip.put_work(purpose, 1, plan, np.zeros(1))
        slip.put_threads(np.zeros(board_size(1), np.int64), 1)
        slip.put(address=build.address(self.buffers.dtype.name, self.layers, rule, purpose))
        return slip

    def __reduce__(self) -> tuple[type[Workspace], tuple[Any, ...]]:
        """Copy with new buffers, and with views into them."""
        return Workspace, (*self._made_of, self.capacity, self.sparse)

    def _rows(self, l: int, offset: int, length: int = LD, n: int = N_OUT) -> Array:
        row = self.layers[l]
        block = self.buffers[row[offset] : row[offset] + self.capacity * row[length]]
        return block.reshape(self.capacity, row[length])[:, : row[n]]
