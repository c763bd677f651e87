"""What a call works on: the slip, one int64 vector with named slots, and the records that compiled code sees of it.

FIELDS is the one list of them: from it come the slots that Python writes, the view by which compiled code reads them,
and so the types that the kernels are compiled for.
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
# buffers, where the rows of the input are ld_input apart and those of the others ld. dropout: of the layer's input, 0
# for none; noise: of the first layer's, 0 for none; key: of both, see `drop` and `add_noise`. frozen: 1 where W and b
# stay what they are.
LAYER_FIELDS = ("n_in", "n_out", "w", "b", "activation", "input", "ld_input", "z", "a", "delta", "ld", "dropout", "key",
                "noise", "frozen")
N_COLUMNS = len(LAYER_FIELDS)
N_IN, N_OUT, W, B, ACTIVATION, INPUT, LD_INPUT, Z, A, DELTA, LD, DROPOUT, KEY, NOISE, FROZEN = range(N_COLUMNS)
LAYER_VIEW = View("Layer", dict.fromkeys(LAYER_FIELDS, types.int64))

# A stage of a step, a row of the plan; see fastbp.core.plan for their meanings.
STAGE_FIELDS = ("kind", "parts", "begin", "end", "takes_input", "checks", "errors", "backward_from", "backward_to",
                "updates")
STAGE_VIEW = View("Stage", dict.fromkeys(STAGE_FIELDS, types.int64))

INFER, TRAIN, ACCUMULATE = range(3)  # what a call is for, see `engine.run`

NUMBERS, WHOLES, REALS = "numbers", "wholes", "reals"  # pointers: to the network's own type, to int64, to float64
WHOLE, REAL = types.int64, types.float64
FIELDS: dict[str, Any] = {
    # The network: parameters, the table of layers; z, a and delta of all layers, of how many samples at the most.
    "theta": NUMBERS, "layers": WHOLES, "n_layers": WHOLE, "buffers": NUMBERS, "capacity": WHOLE,
    # The data: samples, their targets and weights (0 of them: 1 each), their order (0 of them: as they lie).
    "x": types.NamedTuple((WHOLE, WHOLE, WHOLE, WHOLE, REAL), Samples),
    "t": types.NamedTuple((WHOLE, WHOLE, WHOLE, WHOLE, REAL), Samples),
    "weights": REALS, "n_weights": WHOLE, "order": WHOLES, "n_order": WHOLE, "n_samples": WHOLE,
    # Targets and costs of a mini-batch, as they are gathered and computed.
    "targets": NUMBERS, "costs": REALS,
    # The work: what for, the samples of a mini-batch and of a piece, the stages of each and those after its last piece.
    "purpose": WHOLE, "batch_size": WHOLE, "piece": WHOLE, "plan": WHOLES, "n_stages": WHOLE, "n_last": WHOLE,
    "n_steps": WHOLE,
    "loss": types.NamedTuple((WHOLE, REAL, REAL, WHOLE), Cost),
    # The update: the rule, its moments (n_state rows), a learning rate a step, updates so far and before this call.
    "rule": RULE_VIEW, "state": NUMBERS, "n_state": WHOLE, "n_parameters": WHOLE, "etas": REALS, "clock": WHOLES,
    "start": WHOLE,
    # Room for gradients, see `plan.scratch_size`.
    "gradient": NUMBERS, "n_gradient": WHOLE,
    # Of derivatives along a direction (see fastbp.core.derivatives): that, laid out like theta, and those of the
    # buffers, laid out like them.
    "direction": NUMBERS, "tangents": NUMBERS,
    # What comes out: outputs, the mean cost of each mini-batch.
    "outputs": NUMBERS, "step_costs": REALS,
    # The threads: their board (see threads.board) and its fields, how many there are, the code that each runs.
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
    """A slip, and the arrays whose addresses it holds: it keeps them alive.

    vector : ndarray (N_SLOTS,), int64
        What compiled code reads.
    """

    def __init__(self) -> None:
        self.vector = np.zeros(N_SLOTS, np.int64)
        self._reals = self.vector.view(np.float64)
        self._held: dict[str, Any] = {}

    def point(self, **arrays: Any) -> None:
        """Write where arrays are, if they are not those that are there."""
        for name, array in arrays.items():
            if self._held.get(name) is not array:
                self.vector[SLOTS[name]], self._held[name] = address_of_array(array), array

    def let_go(self) -> None:
        """Keep no longer alive what is of one call only, which the next one points at anew: it may be large."""
        for name in OF_ONE_CALL:
            self.vector[SLOTS[name]] = 0
            self._held.pop(name, None)

    def put(self, **numbers: int) -> None:
        """Write whole numbers."""
        for name, number in numbers.items():
            self.vector[SLOTS[name]] = number

    def make_room(self, steps: int) -> None:
        """Have a place for the cost of each of so many steps at least."""
        if len(self._held["step_costs"]) < steps:
            self.point(step_costs=np.zeros(steps))

    def put_data(self, x: Samples, t: Samples, weights: Any, order: Any, n_samples: int) -> None:
        """Write where samples and their targets are, which the caller keeps alive, and their weights and order."""
        for name, samples in (("x", x), ("t", t)):
            slot = SLOTS[name]
            self.vector[slot : slot + 4], self._reals[slot + 4] = samples[:4], samples.scale
        self.point(weights=weights, order=order)
        self.put(n_weights=len(weights), n_order=len(order), n_samples=n_samples)

    def put_work(self, purpose: int, batch_size: int, plan: Any, step_costs: Any) -> None:
        """Write what is to be done, by a Plan, and where the cost of each step goes."""
        self.put_stages(plan)
        self.point(step_costs=step_costs)
        self.put(purpose=purpose, batch_size=batch_size, piece=plan.piece, n_steps=len(step_costs))

    def put_stages(self, plan: Any) -> None:
        """Write the stages of a Plan."""
        if self._held.get("plan") is not plan.table:
            self.point(plan=plan.table)
            self.put(n_stages=len(plan.table), n_last=plan.n_last)

    def put_threads(self, board: Any, threads: int) -> None:
        """Write where so many threads have their board, which may be for more."""
        length = len(board) - FIELDS_OF_BOARD * threads
        self.point(board=board)
        self.put(n_board=length, fields=int(self.vector[BOARD]) + board.itemsize * length, threads=threads)

    def put_loss(self, loss: Cost) -> None:
        slot = SLOTS["loss"]
        self.vector[slot], self._reals[slot + 1], self._reals[slot + 2], self.vector[slot + 3] = loss


# What parts of a call, and callers without a slip, hand to the same kernels.
Net = namedtuple("Net", ["theta", "layers", "n_layers", "buffers"])
Neurons = namedtuple("Neurons", ["layers", "n_layers", "buffers"])
# Which samples gradients are summed over: `n` from the `first` on, times `scale`; fresh: they overwrite what was there.
Summed = namedtuple("Summed", ["first", "n", "scale", "fresh"])
# A piece of a mini-batch: `n` samples from the `first` in order on, where `gone` of the mini-batch's n_batch came
# before it; its first row to `drop`; what the samples' weights are multiplied by, and their sum; of its gradient, see
# Summed; whether it is the mini-batch's last piece, and parameters change after it; the rates of the update.
Batch = namedtuple("Batch", ["first", "gone", "n", "n_batch", "row", "factor", "total", "scale", "fresh",
                             "last", "changes", "rates"])
Part = namedtuple("Part", ["number", "of"])  # of a stage
# Where in call.gradient a thread puts a gradient that is applied and forgotten, and the chains of a large mini-batch;
# -1: nowhere, the gradient is kept where theta has its parameter.
Room = namedtuple("Room", ["scratch", "block"])


def _row(view, table, columns):
    """The intrinsic that gives row i of a table that a record has in its field of that name, as a record."""
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
