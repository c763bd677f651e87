"""fastbp.core.call: compiled code reads what a slip was given; arrays are held for as long as a call needs them."""

import gc
import weakref

import numpy as np
import pytest
from numba import types

from fastbp import Network, Trainer, cost_and_gradient
from fastbp.core import call, compiler
from fastbp.core.call import CALL_VIEWS, FIELDS, N_SLOTS, SLOTS, Slip
from fastbp.core.compiler.view import seen_as
from fastbp.core.costs import Cost
from fastbp.core.plan import plan_for
from fastbp.core.rules import ADAM_RULE
from fastbp.core.samples import FLOAT64, LABELS, Samples
from fastbp.core.simd.memory import at
from fastbp.core.threads.board import board_size
from fastbp.optimizers import Adam

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(600, 4)), DRAW.integers(0, 3, 600)
as_call = seen_as(CALL_VIEWS["float32"])


def test_a_slot_for_each_field():
    """One after the other, without a gap; the same for both types of numbers."""
    lengths = [len(kind) if isinstance(kind, types.BaseTuple) else 1 for kind in FIELDS.values()]
    assert list(SLOTS.values()) == np.cumsum([0, *lengths[:-1]]).tolist()
    assert sum(lengths) == N_SLOTS == len(Slip().vector)
    assert CALL_VIEWS["float32"].size == CALL_VIEWS["float64"].size == N_SLOTS
    assert {name: slot for name, (slot, _) in CALL_VIEWS["float32"].fields.items()} == SLOTS


@compiler.serial
def read(slip):
    """Numbers of each kind of field: what pointers point to, named tuples, a record behind a pointer."""
    c = as_call(at(slip, 0))
    return (c.theta[2], c.etas[1], c.clock[0], c.order[3], c.weights[1], c.fields[0], c.rule.code, c.rule.beta1,
            c.x, c.t, c.loss, (c.purpose, c.batch_size, c.piece, c.n_stages, c.n_last, c.n_steps),
            (c.n_weights, c.n_order, c.n_samples, c.n_board, c.threads, c.address))


def test_compiled_code_reads_what_was_written():
    slip, threads = Slip(), 3
    theta, etas, board = np.arange(4, dtype="f4"), np.array([0.5, 0.25]), np.zeros(board_size(8), np.int64)
    plan = plan_for((4, 8, 3), 600, call.TRAIN, 1, bounds=(True, False))
    slip.point(theta=theta, etas=etas, clock=np.array([7]), rule=Adam(beta1=0.75).settings())
    slip.put_data(Samples(10, 20, 30, FLOAT64, 0.125), Samples(11, 21, 31, LABELS, 1.5), np.array([2.0, 3.0]),
                  np.array([4, 5, 6, 8]), 9)
    slip.put_work(call.TRAIN, 600, plan, np.zeros(5))
    slip.put_loss(Cost(4, 0.3, 0.2, 99))
    slip.put_threads(board, threads)
    slip.put(address=1 << 60)
    n_board = board.size - call.FIELDS_OF_BOARD * threads
    board[n_board] = -5
    assert read(slip.vector) == (
        2.0, 0.25, 7, 8, 3.0, -5, ADAM_RULE, 0.75, (10, 20, 30, FLOAT64, 0.125), (11, 21, 31, LABELS, 1.5),
        (4, 0.3, 0.2, 99), (call.TRAIN, 600, plan.piece, len(plan.table), 2, 5), (2, 4, 9, n_board, 3, 1 << 60))


def test_an_array_is_held_until_another_takes_its_place_or_it_is_forgotten():
    slip = Slip()
    first, second = np.zeros(3), np.zeros(3)
    alive = weakref.ref(first), weakref.ref(second)
    slip.point(etas=first)
    address = slip.vector[SLOTS["etas"]]
    assert address == first.ctypes.data
    del first
    assert alive[0]() is not None
    slip.point(etas=second)
    assert alive[0]() is None and slip.vector[SLOTS["etas"]] == second.ctypes.data
    del second
    slip.forget("etas", "outputs")  # the latter it never had
    assert alive[1]() is None and slip.vector[SLOTS["etas"]] == 0
    slip.point(etas=np.zeros(3))
    assert slip.vector[SLOTS["etas"]] != 0


def held_by(slip):
    """The longest array that a slip holds beside its workspace's own and the network's."""
    return max(array.size for name, array in slip._held.items() if name not in ("buffers", "theta", "targets"))


@pytest.mark.parametrize("n", [300, 600])  # one mini-batch of a call without training, and several
def test_no_call_holds_what_it_gave_back(n):
    """Outputs and gradients go when a user lets them; a trainer keeps nothing as long as its samples."""
    net = Network([4, 8, 3])
    outputs, (_, gradient) = net.forward(X[:n]), cost_and_gradient(net, X[:n], Y[:n])
    alive = [weakref.ref(array if array.base is None else array.base) for array in (outputs, gradient)]
    del outputs, gradient
    gc.collect()
    assert all(reference() is None for reference in alive)
    trainer = Trainer(net, batch_size=50)
    trainer.fit(X[:n], Y[:n], 2, (X[:n], Y[:n]), sample_weight=np.ones(n))
    trainer.evaluate(X[:n], Y[:n], sample_weight=np.ones(n))
    slips = [trainer._kept[0].slip, *(workspace.slip for workspace in net._idle)]
    assert len(slips) >= 2 and max(map(held_by, slips)) < n
