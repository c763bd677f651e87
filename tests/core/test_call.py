"""fastbp.core.call: the slip, whose slots Python writes and compiled code reads by name."""

import gc
import math
import tracemalloc
import weakref

import numba
import numpy as np
import pytest
from numba import types
from numba.core.errors import TypingError
from rig import DTYPES

from fastbp import Network, Trainer, Workspace
from fastbp.core import build, call, compiler, rules
from fastbp.core.call import CALL_VIEWS, FIELDS, N_SLOTS, NUMBERS, REALS, SLOTS, WHOLE, WHOLES, Slip, layer_of, stage_of
from fastbp.core.compiler.view import seen_as, slots_of
from fastbp.core.costs import HUBER, Cost
from fastbp.core.plan import Stage, plan_for
from fastbp.core.samples import FLOAT32, LABELS, Samples
from fastbp.core.simd.memory import at
from fastbp.core.threads.board import FIELDS as FIELDS_OF_BOARD
from fastbp.core.threads.board import SLOT, board_size

POINTERS = [name for name, kind in FIELDS.items() if isinstance(kind, str)]
WHOLE_NUMBERS = [name for name, kind in FIELDS.items() if kind is WHOLE]


# Slots.


@pytest.mark.parametrize("dtype", DTYPES)
def test_slots_are_distinct_and_cover_the_vector(dtype):
    taken = [slot + i for slot, kind in CALL_VIEWS[dtype].fields.values() for i in range(slots_of(kind))]
    assert sorted(taken) == list(range(N_SLOTS)) == list(range(len(Slip().vector)))
    assert list(FIELDS) == list(CALL_VIEWS[dtype].fields) == list(SLOTS)
    assert {name: slot for name, (slot, _) in CALL_VIEWS[dtype].fields.items()} == SLOTS


def test_names_and_numbers_of_columns_agree():
    """Python writes by the number what compiled code reads by the name."""
    assert [getattr(call, name.upper()) for name in call.LAYER_FIELDS] == list(range(call.N_COLUMNS))
    assert call.LAYER_VIEW.size == call.N_COLUMNS == Workspace([2, 3, 1], ["tanh"] * 2, "float32", 4).layers.shape[1]
    assert call.STAGE_VIEW.size == len(call.STAGE_FIELDS)
    names = ["RULE" if name == "code" else name.upper() for name in rules.SLOTS]
    assert [getattr(rules, name) for name in names] == list(range(rules.N_SETTINGS))
    assert rules.RULE_VIEW.size == rules.N_SETTINGS


def test_a_name_that_is_not_in_the_list():
    slip = Slip()
    for write in (slip.put, slip.point):
        with pytest.raises(KeyError, match="n_sample"):
            write(n_sample=np.zeros(1) if write == slip.point else 1)
    see = seen_as(CALL_VIEWS["float64"])

    def read(vector):
        return see(at(vector, 0)).n_sample

    with pytest.raises(TypingError, match="n_sample"):
        numba.njit(read)(slip.vector)


# What compiled code sees.


@pytest.fixture(scope="module")
def readers():
    """By type: a compiled function from a slip's vector to all that its fields hold, by name, of pointers what they
    point at."""
    of_tuples = {"x": Samples._fields, "t": Samples._fields, "loss": Cost._fields, "rule": rules.SLOTS}
    parts = [f"call.{name}[0]" for name in POINTERS] + [f"call.{name}" for name in WHOLE_NUMBERS]
    parts += [f"call.{name}.{part}" for name, own in of_tuples.items() for part in own]
    assert {*POINTERS, *WHOLE_NUMBERS, *of_tuples} == set(FIELDS)
    result = {}
    for dtype in DTYPES:
        scope = {"see": seen_as(CALL_VIEWS[dtype]), "at": at}
        exec(f"def read(vector):\n    call = see(at(vector, 0))\n    return ({', '.join(parts)})", scope)
        read = numba.njit(**compiler.FLAGS)(scope["read"])
        result[dtype] = lambda slip, read=read: dict(zip(parts, read(slip.vector), strict=True))
    return result


def array_of(kind, dtype, number):
    return np.full(3, number, {NUMBERS: dtype, WHOLES: np.int64, REALS: np.float64}[kind])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_is_read_by_name(readers, dtype):
    """Each field, with a number of its own: those that are pointed at, whole numbers, and tuples of both."""
    slip, numbers = Slip(), iter(range(3, 10**6, 7))
    arrays = {name: array_of(FIELDS[name], dtype, next(numbers)) for name in POINTERS}
    wholes = {name: next(numbers) for name in WHOLE_NUMBERS}
    x, t = Samples(-5, 2**62, 1, FLOAT32, 1 / 255), Samples(77, -8, 3, LABELS, math.pi)
    loss, settings = Cost(HUBER, 1.75, 0.1, 2**61 + 1), np.arange(rules.N_SETTINGS) + 0.5
    slip.put_data(x, t, np.ones(4), np.arange(5), 6)  # what it writes of the others is overwritten below
    slip.put_loss(loss)
    slip.point(**arrays, rule=settings)
    slip.put(**wholes)
    expected = {f"{name}[0]": float(array[0]) for name, array in arrays.items()} | wholes
    for name, own in (("x", x), ("t", t), ("loss", loss)):
        expected |= {f"{name}.{part}": value for part, value in own._asdict().items()}
    expected |= {f"rule.{name}": value for name, value in zip(rules.SLOTS, settings, strict=True)}
    assert readers[dtype](slip) == {f"call.{name}": value for name, value in expected.items()}


def read(readers, slip, *names, dtype="float64"):
    everything = readers[dtype](slip)
    return [everything[f"call.{name}"] for name in names]


@pytest.fixture
def slip():
    """With something at every address, so that all may be read."""
    slip = Slip()
    slip.point(**{name: array_of(FIELDS[name], "float64", 0) for name in POINTERS}, rule=np.zeros(rules.N_SETTINGS))
    return slip


def test_data(readers, slip):
    nowhere = Samples(0, 0, 0, LABELS, 1.0)
    slip.put_data(nowhere, nowhere, np.array([0.5, 2, 3]), np.array([4, 0, 1, 2]), 9)
    names = "weights[0]", "n_weights", "order[0]", "n_order", "n_samples"
    assert read(readers, slip, *names) == [0.5, 3, 4, 4, 9]
    slip.put_data(nowhere, nowhere, np.array([7.0]), np.array([2, 1]), 8)
    assert read(readers, slip, *names) == [7, 1, 2, 2, 8]


def test_work(readers, slip):
    plan = plan_for((784, 512, 512, 10), 32, call.TRAIN, 2, bounds=(True, True))
    slip.put_work(call.TRAIN, 32, plan, np.full(11, 0.25))
    names = "purpose", "batch_size", "piece", "n_stages", "n_last", "n_steps", "step_costs[0]"
    assert read(readers, slip, *names) == [call.TRAIN, 32, 32, len(plan.stages), 3, 11, 0.25]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(readers, slip, threads):
    """On a board for three, the fields of fewer are the last of it."""
    board = np.arange(board_size(3))
    slip.put_threads(board, threads)
    length = len(board) - FIELDS_OF_BOARD * threads
    assert read(readers, slip, "board[0]", "n_board", "fields[0]", "threads") == [0, length, length, threads]
    assert length >= SLOT


def test_rows_of_tables():
    """The layers of a workspace and the stages of a plan, by name."""
    see = seen_as(CALL_VIEWS["float32"])

    @numba.njit(**compiler.FLAGS)
    def layer(vector, l):
        layer = layer_of(see(at(vector, 0)), l)
        return (layer.n_in, layer.n_out, layer.w, layer.b, layer.activation, layer.input, layer.ld_input, layer.z,
                layer.a, layer.delta, layer.ld, layer.dropout, layer.key, layer.noise, layer.frozen,
                layer.augmentation)

    @numba.njit(**compiler.FLAGS)
    def stage(vector, i):
        stage = stage_of(see(at(vector, 0)), i)
        return (stage.kind, stage.parts, stage.begin, stage.end, stage.takes_input, stage.checks, stage.errors,
                stage.backward_from, stage.backward_to, stage.updates)

    workspace = Workspace([2, 3, 4, 1], ["tanh"] * 3, "float32", 4)
    workspace.layers[:, -5:] = np.arange(15).reshape(3, 5)
    slip, plan = workspace.slip, plan_for((784, 512, 512, 10), 32, call.TRAIN, 2)
    slip.point(plan=plan.table)
    assert [list(layer(slip.vector, l)) for l in range(3)] == workspace.layers.tolist()
    assert [Stage(*stage(slip.vector, i)) for i in range(len(plan.stages))] == list(plan.stages)


def test_the_kernels_are_compiled_for_this_view():
    """Of both types, and a slip enters compiled code as one vector."""
    for dtype in DTYPES:
        (first, own), pieces, rare = build.signatures(dtype)
        assert first is CALL_VIEWS[dtype] and own == types.int64
        assert all(not isinstance(kind, types.Array) for _, kinds in pieces + rare for kind in kinds)


# Who keeps arrays alive.


def test_the_slip_keeps_arrays_alive(readers, slip):
    """Until it points elsewhere."""
    etas = np.array([0.125, 0.25])
    gone = weakref.ref(etas)
    slip.point(etas=etas)
    del etas
    gc.collect()
    assert gone() is not None
    assert read(readers, slip, "etas[0]") == [0.125]
    slip.point(etas=np.array([0.5]))
    gc.collect()
    assert gone() is None
    assert read(readers, slip, "etas[0]") == [0.5]


def test_an_array_like_the_one_before_is_another(readers, slip):
    """Though they are equal, its address is its own; and of the same array, it stays."""
    one, other = np.ones(3), np.ones(3)
    slip.point(etas=one)
    before = slip.vector.copy()
    slip.point(etas=one)
    assert (slip.vector == before).all()
    slip.point(etas=other)
    other[0] = 2
    assert (slip.vector != before).sum() == 1 and read(readers, slip, "etas[0]") == [2]


def test_a_call_that_is_over_keeps_nothing_of_its_callers():
    """Outputs, weights and order may be large; what the next call needs again is kept."""
    slip = Slip()
    held = {name: array_of(FIELDS[name], "float64", 0) for name in POINTERS}
    slip.point(**held)
    refs = {name: weakref.ref(array) for name, array in held.items()}
    held.clear()
    slip.let_go()
    gc.collect()
    assert {name for name, ref in refs.items() if ref() is None} == set(call.OF_ONE_CALL)


def test_no_memory_stays_with_a_network_or_trainer():
    """Of the size of the data: outputs that it gave, the samples' weights and order, costs of steps."""
    net, n = Network([5, 2]), 100_000
    trainer, draw = Trainer(net, batch_size=100), np.random.default_rng(0)

    def use(n):
        x, weights = draw.normal(size=(n, 5)).astype(np.float32), draw.random(n)
        y = (x[:, 0] > 0).astype(int)
        trainer.fit(x, y, 1, sample_weight=weights)
        trainer.evaluate(x, y, sample_weight=weights)
        net.forward(x)

    use(3000)  # buffers are made
    tracemalloc.start()
    try:
        use(n)
        gc.collect()
        stays, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stays < 2 * n < 20 * n < most  # in bytes; one vector of float64 has 8 n
