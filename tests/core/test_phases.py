"""fastbp.core.threads.board: how threads share out a phase's work, and how their shares follow from their speeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import classifier, moved

from fastbp.core import compiler, engine
from fastbp.core.threads import board as boards
from fastbp.core.threads.board import FIELDS, PARTS_PER_THREAD, TICKS, WHOLE, WORKED, board_size, fields_of

SPEEDS = ([1, 1], [1, 2], [0.3, 1], [1, 1, 1], [4, 1, 2], [1, 1, 2, 2, 2, 2, 2, 2])


@compiler.serial
def share(board, n, part, parts, threads, grain, turn=0):
    return boards.share(board[-FIELDS * threads:], n, part, parts, threads, grain, turn)


def shares(board, threads):
    """Of each thread, as the fraction of a phase's work."""
    grains = 1_000_000
    return np.array([np.diff(share(board, grains, i, threads, threads, 1))[0] for i in range(threads)]) / grains


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, PARTS_PER_THREAD), st.integers(0, 3000), st.sampled_from([1, 6, 8, 16, 128]),
       st.none() | st.integers(0, 2**32), st.integers(0, 100))
def test_parts_cover_all(threads, each, n, grain, seed, turn):
    """Whatever the shares, each number belongs to one part, and parts are cut at multiples of the grain."""
    board = np.zeros(board_size(threads), np.int64) if seed is None else moved(threads, np.random.default_rng(seed))
    bounds = [share(board, n, part, threads * each, threads, grain, turn) for part in range(threads * each)]
    assert bounds[0][0] == 0 and bounds[-1][1] == n
    assert all(lo <= hi for lo, hi in bounds)
    assert all(hi == lo for (_, hi), (lo, _) in zip(bounds, bounds[1:], strict=False))
    assert all(lo % grain == 0 or lo == n for lo, _ in bounds)
    if seed is None:  # alike, but for a grain
        assert np.ptp([np.diff(bound)[0] for bound in bounds]) <= 2 * grain


@pytest.mark.parametrize("speeds", SPEEDS)
def test_shares_follow_speeds(speeds):
    """All then take about as long as each other; what is dealt out evenly is what they differ by."""
    threads, speeds = len(speeds), np.array(speeds, np.float64)
    board = np.zeros(board_size(threads), np.int64)
    for _ in range(12):
        of_work = shares(board, threads)
        assert of_work.sum() == pytest.approx(1)
        fields_of(board, threads)[WORKED] = of_work * WHOLE * 10
        fields_of(board, threads)[TICKS] = of_work / speeds * 1e9
        boards.balance(board, threads)
    wanted = boards.EVENLY / threads + (1 - boards.EVENLY) * speeds / speeds.sum()
    np.testing.assert_allclose(shares(board, threads), wanted, atol=0.002)


@pytest.mark.parametrize(("n", "threads"), [(48, 2), (64, 3), (100, 4), (1, 2)])
def test_what_is_left_over_goes_round(n, threads):
    """Of several layers of as many rows, each thread has as many, but for one grain."""
    board, layers, grain = np.zeros(board_size(threads), np.int64), 12, 16
    grains, rows = -(-n // grain), np.zeros(threads)
    for l in range(layers):
        bounds = [share(board, n, c, threads, threads, grain, l * grains) for c in range(threads)]
        rows += [-(-(hi - lo) // grain) for lo, hi in bounds]
    assert rows.sum() == layers * grains and np.ptp(rows) <= 1


def test_no_thread_is_forgotten():
    """One that slept has the others' speed; where no clock tells the time, shares stay; and none comes to nothing."""
    board = moved(3, np.random.default_rng(1))
    before = shares(board, 3)
    fields_of(board, 3)[WORKED] = 10
    boards.balance(board, 3)
    np.testing.assert_array_equal(shares(board, 3), before)
    for _ in range(12):
        fields_of(board, 3)[WORKED], fields_of(board, 3)[TICKS] = [20, 0, 20], [10, 10, 20]
        boards.balance(board, 3)
    speeds = np.array([2, 1.5, 1])
    wanted = boards.EVENLY / 3 + (1 - boards.EVENLY) * speeds / speeds.sum()
    np.testing.assert_allclose(shares(board, 3), wanted, atol=0.002)
    for _ in range(60):
        fields_of(board, 3)[WORKED], fields_of(board, 3)[TICKS] = 1000, [1000, 1000, 10**9]
        boards.balance(board, 3)
    assert shares(board, 3)[2] > 0.9 * boards.EVENLY / 3


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_tell_what_they_did(threads):
    """All of their work together is that of all phases: two for each step, that of the samples and of the weights."""
    steps = classifier((100, 64, 10), threads=threads)
    assert steps(engine.run, 40, threads) == 40
    worked = fields_of(steps.board, threads)[WORKED]
    assert abs(worked.sum() - 2 * 40 * WHOLE) <= 0.02 * WHOLE * 80  # biases are no rows
    assert (fields_of(steps.board, threads)[TICKS][worked > 0] > 0).all()
