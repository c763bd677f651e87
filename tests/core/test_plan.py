"""fastbp.core.plan: which stages a step has, in plain Python: nothing here is compiled."""

from types import SimpleNamespace

import numpy as np
import pytest
from numba.core import event

from fastbp.core.call import ACCUMULATE, INFER, STAGE_FIELDS, TRAIN
from fastbp.core.equations import CHAIN, LEAST_AT_ONCE
from fastbp.core.plan import (
    FEW_SAMPLES,
    FEW_TO_INFER,
    LEAST_ROWS,
    LIMIT,
    MANY_WEIGHTS,
    NEURONS,
    NORMS,
    OUTPUTS,
    PARTS_TO_INFER,
    SAMPLES,
    UPDATE,
    WEIGHTS,
    Stage,
    parts,
    plan_for,
    samples_at_once,
)
from fastbp.core.product import NUMBERS_NEAR, TILE_HEIGHT
from fastbp.core.simd.cpu import DEPTH
from fastbp.core.threads.board import PARTS_PER_THREAD

SMALL, LARGE = (6, 9, 8, 4), (784, 512, 512, 10)  # the latter has many weights
CLIPS, LIMITS = (True, False), (False, True)


@pytest.fixture(autouse=True)
def nothing_is_compiled():
    with event.install_recorder("numba:compile") as compiled:
        yield
    assert compiled.buffer == []


def stages(*arguments, **keywords):
    return list(plan_for(*arguments, **keywords).stages)


# Which stages there are.


def test_one_layer():
    """Nothing goes backward; the stages of all samples and of all weights."""
    assert stages((3, 2), 10, TRAIN, 1) == [
        Stage(SAMPLES, 1, 0, 1, takes_input=1, errors=1, backward_from=-1, backward_to=0),
        Stage(WEIGHTS, 1, 0, 1, updates=1)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_small_network(threads):
    """By samples, then by weights, whatever the threads; as few parts as there are threads."""
    plan = plan_for(SMALL, 10, TRAIN, threads)
    assert list(plan.stages) == [
        Stage(SAMPLES, threads, 0, 3, takes_input=1, errors=1, backward_from=1, backward_to=0),
        Stage(WEIGHTS, threads, 0, 3, updates=1)]
    assert (plan.piece, plan.n_last) == (10, 0)


def test_many_weights_and_few_samples():
    """On more threads than one: forward by neurons; W[l] is read once for delta[l-1] and its own gradient."""
    fine = 2 * PARTS_PER_THREAD
    plan = plan_for(LARGE, 32, TRAIN, 2)
    assert list(plan.stages) == [
        Stage(SAMPLES, fine, takes_input=1),
        Stage(NEURONS, fine, 0, 1), Stage(NEURONS, fine, 1, 2),
        Stage(SAMPLES, fine, 2, 3, errors=1),
        Stage(WEIGHTS, fine, 2, 3, backward_from=1, backward_to=1, updates=1),
        Stage(WEIGHTS, fine, 1, 2, backward_from=0, backward_to=0, updates=1),
        Stage(WEIGHTS, fine, 0, 1, backward_from=-1, backward_to=0, updates=1)]
    assert (plan.piece, plan.n_last) == (32, 0)


def by_neurons(*arguments):
    return any(stage.kind == NEURONS for stage in stages(*arguments))


def test_when_neurons_are_shared_out():
    few = 2 * FEW_SAMPLES
    assert by_neurons(LARGE, few, TRAIN, 2) and not by_neurons(LARGE, few + 1, TRAIN, 2)
    assert by_neurons(LARGE, few + 1, TRAIN, 3)
    assert by_neurons(LARGE, few, ACCUMULATE, 2) and not by_neurons(LARGE, few + 1, ACCUMULATE, 2)
    assert by_neurons(LARGE, 2 * FEW_TO_INFER, INFER, 2) and not by_neurons(LARGE, 2 * FEW_TO_INFER + 1, INFER, 2)
    assert not by_neurons(LARGE, few, TRAIN, 1) and not by_neurons(LARGE, 1, INFER, 1)
    n = MANY_WEIGHTS // 514  # of hidden neurons, which have 512 + 1 + 1 parameters each
    assert not by_neurons((512, n, 1), few, TRAIN, 2) and by_neurons((512, n + 1, 1), few, TRAIN, 2)


def test_large_network_without_hidden_layers():
    """Its only layer has the outputs, whose errors want whole samples."""
    fine = 2 * PARTS_PER_THREAD
    assert stages((1000, 300), 32, TRAIN, 2) == [
        Stage(SAMPLES, fine, takes_input=1), Stage(SAMPLES, fine, 0, 1, errors=1),
        Stage(WEIGHTS, fine, 0, 1, backward_from=-1, backward_to=0, updates=1)]


@pytest.mark.parametrize(("frozen", "lowest"), [((0,), 1), ((0, 1), 2), ((1,), 0), ((1, 2), 0), ((0, 2), 1)])
def test_frozen_layers(frozen, lowest):
    """No error goes further back than to the lowest layer that learns."""
    first, weights = stages(SMALL, 10, TRAIN, 1, frozen=frozen)
    assert (first.backward_from, first.backward_to) == (1, lowest)
    assert (weights.begin, weights.end) == (0, 3)  # the table of layers says which of them are frozen
    back = [stage.begin - 1 for stage in stages(LARGE, 10, TRAIN, 2, frozen=frozen)
            if stage.kind == WEIGHTS and stage.backward_from >= stage.backward_to]
    assert back == list(range(1, lowest - 1, -1))


@pytest.mark.parametrize("layer_sizes", [SMALL, LARGE])
@pytest.mark.parametrize(("bounds", "last"), [(CLIPS, [NORMS, UPDATE]), (LIMITS, [LIMIT]),
                                              ((True, True), [NORMS, UPDATE, LIMIT])])
def test_bounds_of_norms(layer_sizes, bounds, last):
    """Only after a mini-batch's last piece; where the gradient is clipped, parameters change no sooner than that."""
    free, bounded = (plan_for(layer_sizes, 32, TRAIN, 2, bounds=each) for each in ((False, False), bounds))
    assert [stage.kind for stage in bounded.stages[len(free.stages):]] == last
    assert (free.n_last, bounded.n_last) == (0, len(last))
    updates = [stage.updates for stage in bounded.stages if stage.kind == WEIGHTS]
    assert updates and set(updates) == {0 if UPDATE in last else 1}
    assert len({stage.parts for stage in bounded.stages}) == 1


def test_inference():
    """Without targets, no errors, but a look at the numbers; the outputs go where the caller wants them."""
    n, each = 5000, 2 * PARTS_PER_THREAD
    for errors in (False, True):
        plan = plan_for(SMALL, n, INFER, 2, errors=errors)
        assert list(plan.stages) == [
            Stage(SAMPLES, each, 0, 3, takes_input=1, checks=int(not errors), errors=int(errors)), Stage(OUTPUTS, each)]
        assert (plan.piece, plan.n_last) == (n, 0)


def test_inference_of_few_samples_and_many_weights():
    """By neurons: each thread reads a part of W."""
    fine = 2 * PARTS_TO_INFER
    assert stages(LARGE, 8, INFER, 2, errors=False) == [
        Stage(SAMPLES, fine, takes_input=1, checks=1), Stage(NEURONS, fine, 0, 1), Stage(NEURONS, fine, 1, 2),
        Stage(SAMPLES, fine, 2, 3), Stage(OUTPUTS, fine)]


@pytest.mark.parametrize("layer_sizes", [SMALL, LARGE])
def test_accumulation(layer_sizes):
    """Gradients as of training, of all samples at once; no stage changes a parameter."""
    training, summing = (stages(layer_sizes, 100, purpose, 2) for purpose in (TRAIN, ACCUMULATE))
    assert [stage._replace(updates=0) for stage in training] == summing
    assert plan_for(layer_sizes, 10**6, ACCUMULATE, 2).piece == 10**6
    assert stages(layer_sizes, 100, ACCUMULATE, 2, bounds=(True, True)) == summing


# Whether the stages, in this order, do what a step is.


def carried_out(plan, n_layers):
    """What each stage does, in order; it is an error if something that it needs has not been done."""
    done, parameters_changed = [], set()

    def do(what, *needs):
        assert what not in done, what
        missing = [need for need in needs if need not in done]
        assert not missing, (what, missing)
        done.append(what)

    for i, stage in enumerate(plan.stages):
        layers = range(stage.begin, stage.end)
        if stage.takes_input:
            do("input")
        if stage.checks:
            do("checks", "input")
        if stage.kind in (SAMPLES, NEURONS):
            for l in layers:
                do(("forward", l), ("forward", l - 1) if l else "input")
        if stage.errors:
            do(("delta", n_layers - 1), ("forward", n_layers - 1))
        for l in range(stage.backward_from, stage.backward_to - 1, -1):
            assert l + 1 not in parameters_changed  # delta[l] is computed from W[l+1] as it was
            do(("delta", l), ("delta", l + 1))
        if stage.kind == WEIGHTS:
            for l in layers:
                do(("gradient", l))
            parameters_changed.update(layers if stage.updates else ())
        elif stage.kind == NORMS:
            do("norms", *(("gradient", l) for l in range(n_layers)))
        elif stage.kind == UPDATE:
            assert not parameters_changed
            do("update", "norms")
        elif stage.kind == LIMIT:
            do("limit")
        elif stage.kind == OUTPUTS:
            do("outputs", ("forward", n_layers - 1))
        assert i < len(plan.stages) - plan.n_last or stage.kind in (NORMS, UPDATE, LIMIT)
    return done, parameters_changed


@pytest.mark.parametrize("layer_sizes", [(3, 2), (6, 9, 4), SMALL, (1000, 300), (784, 400, 10), LARGE,
                                         (600, 500, 400, 300, 200, 3)])
@pytest.mark.parametrize("batch_size", [1, 100, 2000])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_all_of_a_step_once_and_in_order(layer_sizes, batch_size, threads):
    n_layers = len(layer_sizes) - 1
    forward, delta, gradient = ({(name, l) for l in range(n_layers)} for name in ("forward", "delta", "gradient"))
    for frozen in [(), (0,), (n_layers - 1,), tuple(range(n_layers - 1))]:
        if len(frozen) == n_layers:
            continue
        lowest = min(set(range(n_layers)) - set(frozen))
        if frozen == (n_layers - 1,):
            lowest = 0
        for bounds in [(False, False), CLIPS, LIMITS, (True, True)]:
            plan = plan_for(layer_sizes, batch_size, TRAIN, threads, frozen=frozen, bounds=bounds)
            done, changed = carried_out(plan, n_layers)
            assert set(done) == {"input", *forward, *gradient, *(("delta", l) for l in range(lowest, n_layers)),
                                 *(["norms", "update"] if bounds[0] else []), *(["limit"] if bounds[1] else [])}
            assert changed == (set() if bounds[0] else set(range(n_layers)))
    done, changed = carried_out(plan_for(layer_sizes, batch_size, ACCUMULATE, threads), n_layers)
    assert set(done) == {"input", *forward, *delta, *gradient} and not changed
    done, changed = carried_out(plan_for(layer_sizes, batch_size, INFER, threads), n_layers)
    assert set(done) == {"input", *forward, ("delta", n_layers - 1), "outputs"} and not changed
    done, changed = carried_out(plan_for(layer_sizes, batch_size, INFER, threads, errors=False), n_layers)
    assert set(done) == {"input", "checks", *forward, "outputs"} and not changed


def test_a_wrong_plan_is_seen():
    """By `carried_out`: stages in another order, an update too soon, a layer twice."""
    good = plan_for(LARGE, 32, TRAIN, 2).stages
    carried_out(SimpleNamespace(stages=good, n_last=0), 3)
    wrong = [good[::-1], (*good[:4], good[5], good[4], *good[6:]), (*good, good[-1]),
             (*good[:4], good[4]._replace(backward_from=-1, backward_to=0), good[4]._replace(begin=1, end=2))]
    for each in wrong:
        with pytest.raises(AssertionError):
            carried_out(SimpleNamespace(stages=each, n_last=0), 3)


# Parts and pieces.


@pytest.mark.parametrize(("rows", "threads", "wanted"), [
    (1, 1, 1), (10**6, 1, 1), (1, 2, 2), (2 * LEAST_ROWS * 2 - 1, 2, 2), (2 * LEAST_ROWS * 2, 2, 4),
    (10**6, 2, 2 * PARTS_PER_THREAD), (10**6, 3, 3 * PARTS_PER_THREAD), (3 * LEAST_ROWS * 3, 3, 9)])
def test_parts(rows, threads, wanted):
    """As many for each thread, and no small ones beside the first."""
    assert parts(rows, threads) == wanted


@pytest.mark.parametrize("layer_sizes", [(1, 1), SMALL, LARGE, (4000, 5000, 3)])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_samples_at_once(layer_sizes, threads):
    near = NUMBERS_NEAR * threads // (layer_sizes[0] + 3 * sum(layer_sizes[1:]))
    most = max(LEAST_AT_ONCE, DEPTH * threads, near)
    for batch_size in (1, 2, 100, 511, LEAST_AT_ONCE, LEAST_AT_ONCE + 1, 1000, 1025, 5000, 60_000):
        at_once = samples_at_once(layer_sizes, batch_size, threads)
        pieces = -(-batch_size // at_once)
        assert 1 <= at_once <= batch_size and at_once <= most + CHAIN
        assert pieces <= -(-batch_size // most)  # no more than needed
        if pieces == 1:
            assert at_once == batch_size
        else:  # pieces end where chains do, so that the sums are the same for any number of threads
            assert at_once % CHAIN == 0 and batch_size > LEAST_AT_ONCE
            assert at_once - batch_size / pieces < CHAIN  # nearly equal
        assert plan_for(layer_sizes, batch_size, TRAIN, threads).piece in (at_once, batch_size)


def test_samples_at_once_by_hand():
    """784 + 3 (512 + 512 + 10) = 3886 numbers a sample: 33 would stay near a core, so 512 go through at once; 600 are
    two pieces of 300, which end after five chains of 64; 2000 are four of 500, after eight."""
    assert TILE_HEIGHT < CHAIN == 64 and LEAST_AT_ONCE == 512
    assert [samples_at_once(LARGE, n, 1) for n in (1, 512, 600, 2000)] == [1, 512, 320, 512]


# The table, and people who read it.


def test_the_table():
    """Rows and columns are those that compiled code reads, and nobody changes them: a plan is given to many calls."""
    plan = plan_for(LARGE, 32, TRAIN, 2, bounds=(True, True))
    assert Stage._fields == STAGE_FIELDS
    assert plan.table.dtype == np.int64 and plan.table.flags.c_contiguous and not plan.table.flags.writeable
    assert [tuple(row) for row in plan.table.tolist()] == [tuple(stage) for stage in plan.stages]
    assert plan_for(LARGE, 32, TRAIN, 2, bounds=(True, True)) is plan


def test_a_plan_for_people():
    assert str(plan_for(SMALL, 10, TRAIN, 2, bounds=CLIPS)) == """\
pieces of 10 samples; each, stage by stage:
  1. SAMPLES: input, layers 0 to 2 forward, output error, layers 1 to 0 backward; 2 parts
  2. WEIGHTS: gradients of layers 0 to 2; 2 parts
  3. NORMS; 2 parts (after the last piece)
  4. UPDATE; 2 parts (after the last piece)"""
    assert str(plan_for((784, 512, 10), 32, TRAIN, 2, bounds=LIMITS)) == """\
pieces of 32 samples; each, stage by stage:
  1. SAMPLES: input; 8 parts
  2. NEURONS: layer 0 forward; 8 parts
  3. SAMPLES: layer 1 forward, output error; 8 parts
  4. WEIGHTS: layer 0 backward, gradients of layer 1, update; 8 parts
  5. WEIGHTS: gradients of layer 0, update; 8 parts
  6. LIMIT; 8 parts (after the last piece)"""
    assert str(plan_for((3, 2), 7, INFER, 1, errors=False)) == """\
pieces of 7 samples; each, stage by stage:
  1. SAMPLES: input, whether it is finite, layer 0 forward; 1 part
  2. OUTPUTS; 1 part"""


def test_frozen_layers_are_told():
    assert "gradients of layers 0 to 2 but 0, 2 (frozen), update" in str(
        plan_for((12, 10, 9, 3), 32, TRAIN, 1, frozen=(0, 2)))


@pytest.mark.parametrize("clips", [True, False])
def test_a_plan_that_waits_for_the_gradients_of_others(clips):
    """Cut before its update, of which the norm is a part if it is bounded."""
    whole = plan_for(LARGE, 4000, TRAIN, 2, bounds=(True, True))
    before, after = whole.held(clips)
    assert (before.stages, before.n_last, before.piece) == (whole.stages[: -whole.n_last], 0, whole.piece)
    assert [stage.kind for stage in after.stages] == [NORMS, UPDATE, LIMIT][not clips :]
    assert after.n_last == 0
