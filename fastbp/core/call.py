"""The data of a call: the slip, one int64 vector with named slots, and the records that compiled code reads from it.

FIELDS is the only list of the slots: it defines the slots that Python writes, the view by which compiled code reads
them, and so the types that the kernels are compiled for.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from fastbp.core.compiler.view import View
from fastbp.core.costs import Cost
from fastbp.core.rules import RULE_VIEW
from fastbp.core.samples import Samples, address_of_array
from fastbp.core.simd.vectors import I64
from fastbp.core.threads.board import FIELDS as FIELDS_OF_BOARD

# A layer of the network, a row of the table of layers. w, b: offsets into theta; input, z, a, delta: offsets into
# buffers, where the rows of the input are ld_input apart and those of the others ld. dropout: rate for the
# layer's input, 0 for none; noise: for the first layer's input, 0 for none; key: of both, see `drop` and `add_noise`.
# frozen: 1 if W and b are not trained. augmentation: the address of its settings, for the first layer's input, or 0.
LAYER_FIELDS = ("n_in", "n_out", "w", "b", "activation", "input", "ld_input", "z", "a", "delta", "ld", "dropout", "key",
                "noise", "frozen", "augmentation")
N_COLUMNS = len(LAYER_FIELDS)
(N_IN, N_OUT, W, B, ACTIVATION, INPUT, LD_INPUT, Z, A, DELTA, LD, DROPOUT, KEY, NOISE, FROZEN,
 AUGMENTATION) = range(N_COLUMNS)
LAYER_VIEW = View("Layer", dict.fromkeys(LAYER_FIELDS, types.int64))

# A stage of a step, a row of the plan; see fastbp.core.plan for their meanings.
STAGE_FIELDS = ("kind", "parts", "begin", "end", "takes_input", "checks", "errors", "backward_from", "backward_to",
                "updates")
STAGE_VIEW = View("Stage", dict.fromkeys(STAGE_FIELDS, types.int64))

INFER, TRAIN, ACCUMULATE = range(3)  # the purpose of a call, see `engine.run`

NUMBERS, WHOLES, REALS = "numbers", "wholes", "reals"  # pointers: to the network's dtype, to int64, to float64
WHOLE, REAL = types.int64, types.float64
FIELDS: dict[str, Any] = {
    # The network: parameters, the table of layers; z, a and delta of all layers, and the most samples that they hold.
    "theta": NUMBERS, "layers": WHOLES, "n_layers": WHOLE, "buffers": NUMBERS, "capacity": WHOLE,
    # The data: samples, their targets and weights (none: 1 each), their order (none: as stored).
    "x": types.NamedTuple((WHOLE, WHOLE, WHOLE, WHOLE, REAL), Samples),
    "t": types.NamedTuple((WHOLE, WHOLE, WHOLE, WHOLE, REAL), Samples),
    "weights": REALS, "n_weights": WHOLE, "order": WHOLES, "n_order": WHOLE, "n_samples": WHOLE,
    # Targets and costs of a mini-batch, gathered and computed here.
    "targets": NUMBERS, "costs": REALS,
    # The work: its purpose, samples in a mini-batch and in a piece, stages of each piece and those after the last one;
    # the first sample's row for `drop`, if the mini-batch is a part of a larger one.
    "purpose": WHOLE, "batch_size": WHOLE, "piece": WHOLE, "row": WHOLE, "plan": WHOLES, "n_stages": WHOLE,
    "n_last": WHOLE, "n_steps": WHOLE,
    "loss": types.NamedTuple((WHOLE, REAL, REAL, WHOLE), Cost),
    # The update: the rule, its moments (n_state rows), a learning rate per step, updates so far and before this call.
    "rule": RULE_VIEW, "state": NUMBERS, "n_state": WHOLE, "n_parameters": WHOLE, "etas": REALS, "clock": WHOLES,
    "start": WHOLE,
    # Room for gradients, see `plan.scratch_size`; for stored entries of a piece, see `sparse.room_for_entries`, and how
    # many at most.
    "gradient": NUMBERS, "n_gradient": WHOLE, "entries": WHOLES, "n_entries": WHOLE,
    # For derivatives along a direction (see fastbp.core.derivatives): the direction, laid out like theta, and the
    # derivatives of the buffers, laid out like them.
    "direction": NUMBERS, "tangents": NUMBERS,
    # The results: outputs, the mean cost of each mini-batch.
    "outputs": NUMBERS, "step_costs": REALS,
    # The threads: their board (see threads.board) and its fields, their number, the code that each runs.
    "board": WHOLES, "n_board": WHOLE, "fields": WHOLES, "threads": WHOLE, "address": WHOLE,
}


def _view(dtype: str) -> View:
    pointers = {NUMBERS: types.CPointer(getattr(types, dtype)), WHOLES: types.CPointer(WHOLE),
                REALS: types.CPointer(REAL)}
    return View(f"Call({dtype})", {name: pointers.get(kind, kind) if isinstance(kind, str) else kind
                                   for name, kind in FIELDS.items()})


# The type of a slip for networks of float32 or float64.
CALL_VIEWS = {dtype: _view(dtype) for dtype in ("float32", "float64")}
SLOTS = {name: slot for name, (slot, _) in CALL_VIEWS["float64"].fields.items()}
N_SLOTS = CALL_VIEWS["float64"].size
START, BOARD, N_BOARD, CLOCK, ADDRESS = (SLOTS[name] for name in ("start", "board", "n_board", "clock", "address"))
OF_ONE_CALL = ("weights", "order", "etas", "outputs", "step_costs")


class Slip:
    """A slip, with the arrays whose addresses it holds, to keep them alive.

    vector : ndarray (N_SLOTS,), int64
        The slots that compiled code reads.
    """

    def __init__(self) -> None:
        self.vector = np.zeros(N_SLOTS, np.int64)
        self._reals = self.vector.view(np.float64)
        self._held: dict[str, Any] = {}

    def point(self, **arrays: Any) -> None:
        """Write the addresses of arrays that have changed."""
        for name, array in arrays.items():
            if self._held.get(name) is not array:
                self.vector[SLOTS[name]], self._held[name] = address_of_array(array), array

    def let_go(self) -> None:
        """Release arrays that belong to one call only: they may be large, and the next call points to its own."""
        for name in OF_ONE_CALL:
            self.vector[SLOTS[name]] = 0
            self._held.pop(name, None)

    def put(self, **numbers: int) -> None:
        """Write whole numbers."""
        for name, number in numbers.items():
            self.vector[SLOTS[name]] = number

    def make_room(self, steps: int) -> None:
        """Provide room for the costs of at least `steps` steps."""
        if len(self._held["step_costs"]) < steps:
            self.point(step_costs=np.zeros(steps))

    def make_room_for_entries(self, most: int, size: int) -> None:
        """Provide room of `size` int64 for up to `most` stored entries of a piece."""
        if len(self._held.get("entries", ())) < size:
            self.point(entries=np.empty(size, np.int64))
        self.put(n_entries=most)

    def put_data(self, x: Samples, t: Samples, weights: Any, order: Any, n_samples: int) -> None:
        """Write the addresses of samples and targets, which the caller keeps alive, and of their weights and order."""
        for name, samples in (("x", x), ("t", t)):
            slot = SLOTS[name]
            self.vector[slot : slot + 4], self._reals[slot + 4] = samples[:4], samples.scale
        self.point(weights=weights, order=order)
        self.put(n_weights=len(weights), n_order=len(order), n_samples=n_samples)

    def put_work(self, purpose: int, batch_size: int, plan: Any, step_costs: Any) -> None:
        """Write the purpose, the Plan, and where the cost of each step goes."""
        self.put_stages(plan)
        self.point(step_costs=step_costs)
        self.put(purpose=purpose, batch_size=batch_size, piece=plan.piece, n_steps=len(step_costs))

    def put_stages(self, plan: Any) -> None:
        """Write the stages of a Plan."""
        if self._held.get("plan") is not plan.table:
            self.put(n_stages=len(plan.table), n_last=plan.n_last)
            self.point(plan=plan.table)  # last: if Ctrl-C comes before it, all is written again

    def put_threads(self, board: Any, threads: int) -> None:
        """Write the board of `threads` threads; it may be for more."""
        length = len(board) - FIELDS_OF_BOARD * threads
        self.point(board=board)
        self.put(n_board=length, fields=int(self.vector[BOARD]) + board.itemsize * length, threads=threads)

    def put_loss(self, loss: Cost) -> None:
        slot = SLOTS["loss"]
        self.vector[slot], self._reals[slot + 1], self._reals[slot + 2], self.vector[slot + 3] = loss


# Arguments of kernels that parts of a call share with callers without a slip.
Net = namedtuple("Net", ["theta", "layers", "n_layers", "buffers"])
Neurons = namedtuple("Neurons", ["layers", "n_layers", "buffers"])
# The samples that gradients are summed over: `n` from `first` on, times `scale`; fresh: overwrite instead of adding.
Summed = namedtuple("Summed", ["first", "n", "scale", "fresh"])
# A piece of a mini-batch: `n` samples from `first` in the order, after `gone` of the mini-batch's n_batch samples; its
# first row for `drop`; the factor of the samples' weights, and their sum; for its gradient see Summed; whether it is
# the last piece of the mini-batch, and parameters change after it; the rates of the update.
Batch = namedtuple("Batch", ["first", "gone", "n", "n_batch", "row", "factor", "total", "scale", "fresh",
                             "last", "changes", "rates"])
Part = namedtuple("Part", ["number", "of"])  # of a stage
# Of thread `own`, offsets in call.gradient: of its gradient that is applied and then discarded, and of the chains of a
# large mini-batch; -1: none, the gradient is kept, laid out like theta. lost: of the rounding errors of chains.
Room = namedtuple("Room", ["scratch", "block", "lost", "own"])


def _row(view, table, columns):
    """Return the intrinsic that returns row i of a table, which is a field of a record, as a record."""
    @intrinsic
    def row_of(typing, record, i):
        def emit(context, builder, signature, arguments):
            read = context.get_getattr(record, table)
            first = read(context, builder, record, arguments[0], table)
            return builder.gep(first, [builder.mul(arguments[1], I64(columns))])

        return view(record, types.int64), emit

    return row_of


layer_of = _row(LAYER_VIEW, "layers", N_COLUMNS)  # layer l of a call or a Net
stage_of = _row(STAGE_VIEW, "plan", len(STAGE_FIELDS))  # stage i of a call's plan
