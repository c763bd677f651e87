"""fastbp.core.engine and plan: whole mini-batches against plain NumPy; every number of threads gives the same bits."""

import hashlib
import platform

import numpy as np
import pytest
from rig import DTYPES, Steps, gradient_by_oracle, moved, python

from fastbp.core import engine, reference
from fastbp.core.call import ACCUMULATE, INFER, N_OUT, TRAIN, B, W
from fastbp.core.equations import CHAIN, rows_near
from fastbp.core.plan import NEURONS, plan_for, samples_at_once, scratch_size
from fastbp.core.product import MOST_NONZERO, TILE_HEIGHT
from fastbp.core.samples import LABELS, NONE, Samples, describe
from fastbp.optimizers import SGD, Adam
from fastbp.workspace import Workspace, parameter_offsets

N_SAMPLES, BATCH, N_STEPS = 75, 8, 10  # the last mini-batch has 3
TRAINED = [14, 40, 9, 5]
LARGE = [14, 512, 520, 5]  # its hidden layers are shared out by neurons


def inputs(kind):
    """Samples as they may lie: an array (75, 14) and the same as the network's floats."""
    draw = np.random.default_rng(5)
    if kind == "uint8":
        x = draw.integers(0, 256, (N_SAMPLES, 14), dtype=np.uint8) * (draw.random((N_SAMPLES, 14)) < 0.2)
        return x.astype(np.uint8), x / 255
    x = draw.normal(size=(2 * N_SAMPLES, 28))
    x = {"float32": x[:N_SAMPLES, :14].astype("float32"), "float64 by columns": np.asfortranarray(x[:N_SAMPLES, :14]),
         "float64 backwards": x[::-2, ::-2], "float32 one for all": np.broadcast_to(x[0, :14].astype("float32"),
                                                                                    (N_SAMPLES, 14))}[kind]
    return x, x.astype(np.float64)


def targets_of(kind):
    """Targets (75,) labels or (75, 5) rows, the loss and output they fit, and the same as rows of floats."""
    draw = np.random.default_rng(6)
    labels = draw.integers(0, 5, N_SAMPLES)
    if kind == "labels":
        return describe(labels, LABELS), labels, "cross_entropy", "softmax", np.eye(5)[labels]
    rows = np.asfortranarray(draw.random((N_SAMPLES, 5)))
    return describe(rows), rows, "quadratic", "tanh", rows


class Run(Steps):
    """Ten steps of a network, TRAINED if not said otherwise, compiled and in plain NumPy."""

    def __init__(self, x_kind, t_kind, dtype, optimizer, etas=None, sizes=TRAINED, batch=BATCH,
                 hidden=("relu", "tanh")):
        t, self.kept_alive, loss, output, self.rows = targets_of(t_kind)
        super().__init__(sizes, [*hidden, output], loss, dtype, batch, optimizer=optimizer)
        self.array, self.floats = inputs(x_kind)
        self.x, self.t = describe(self.array, scale=1 / 255 if x_kind == "uint8" else 1.0), t
        self.theta[:] = np.random.default_rng(8).normal(0, 0.3, self.theta.size)
        self.start = self.theta.astype(np.float64)
        self.order = np.random.default_rng(9).permutation(N_SAMPLES)
        self.etas = np.full(N_STEPS, optimizer.eta) if etas is None else etas
        self.step_costs = np.full(len(self.etas), np.nan)
        self.outputs = np.full((N_SAMPLES, sizes[-1]), np.nan, dtype)

    def train(self, kernel, threads, n_samples=N_SAMPLES, purpose=TRAIN):
        """On boards whose threads' shares are any, with the scratch between stretches of NaN."""
        self.board = moved(threads, np.random.default_rng([threads, self.n, *self.sizes]))
        memory = np.full(scratch_size(self.sizes, threads, self.n) + 32, np.nan, self.dtype)
        self.scratch = memory[16:-16]
        made = self(kernel, len(self.step_costs), threads, purpose=purpose, n_samples=n_samples)
        assert np.isnan(memory[:16]).all() and np.isnan(memory[-16:]).all()
        return made

    def by_reference(self):
        """theta and the mean cost of each step, in float64."""
        theta, state = self.start.copy(), np.zeros(self.state.shape)
        buffers, costs, means = self.buffers.astype(np.float64), np.zeros(self.n), []
        for step, eta in enumerate(self.etas):
            batch = self.order[step * self.n : (step + 1) * self.n]
            n = len(batch)
            reference.neurons(buffers, self.layers[0], n)[0][:] = self.floats[batch]
            gradient = gradient_by_oracle(theta, self.layers, buffers, self.rows[batch], costs, self.loss, n)
            reference.update(theta, gradient, state, self.settings, eta, step + 1)
            means.append(costs[:n].mean())
        return theta, np.array(means)


RUNS = [
    ("uint8", "labels", SGD(0.5)), ("float32", "rows", SGD(0.1, momentum=0.9, nesterov=True)),
    ("float64 by columns", "rows", Adam(0.01, epsilon=1e-3)), ("float64 backwards", "labels", SGD(0.1, momentum=0.9)),
    ("float32 one for all", "labels", SGD(0.2)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x", "t", "optimizer"), RUNS, ids=lambda v: str(v))
def test_ten_steps(x, t, optimizer, dtype):
    run = Run(x, t, dtype, optimizer)
    assert run.train(engine.run_serial, 1) == N_STEPS
    theta, costs = run.by_reference()
    eps = np.finfo(dtype).eps
    assert abs(costs - costs[0]).max() > 1e-3  # it learns, so the steps are compared and not only the first
    np.testing.assert_allclose(run.step_costs, costs, rtol=100 * eps)
    np.testing.assert_allclose(run.theta, theta, rtol=0, atol=100 * eps * np.abs(theta).max())
    assert run.clock == [N_STEPS]
    for threads in (1, 2, 3):
        other = Run(x, t, dtype, optimizer)
        other.train(engine.run, threads)
        assert other.theta.tobytes() == run.theta.tobytes(), threads
        assert other.state.tobytes() == run.state.tobytes(), threads
        assert other.step_costs.tobytes() == run.step_costs.tobytes(), threads


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.01, epsilon=1e-3)], ids=repr)
def test_a_step_with_learning_rate_zero_moves_the_state(optimizer):
    """As `update` does: a schedule may start at 0, and momentum is gathered from the first step on."""
    etas = optimizer.eta * np.linspace(0, 1, N_STEPS)
    run = Run("float32", "rows", "float64", optimizer, etas=etas)
    run.train(engine.run_serial, 1)
    theta, costs = run.by_reference()
    np.testing.assert_allclose(run.step_costs, costs, rtol=1e-12)
    np.testing.assert_allclose(run.theta, theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_rows(dtype):
    """Of a network whose layers are shared out by neurons and gone through in blocks, with the scratch between NaN."""
    assert rows_near.py_func(LARGE[2]) < LARGE[1]
    for threads, by_neurons in ((1, False), (2, True), (3, True)):
        kinds = [stage.kind for stage in plan_for(tuple(LARGE), BATCH, TRAIN, threads).stages]
        assert (NEURONS in kinds) == by_neurons
    serial = Run("uint8", "labels", dtype, Adam(0.001), sizes=LARGE)
    assert serial.train(engine.run_serial, 1) == N_STEPS
    theta, costs = serial.by_reference()
    np.testing.assert_allclose(serial.step_costs, costs, rtol=3e-4 if dtype == "float32" else 1e-9)
    for threads in (1, 2, 3):
        other = Run("uint8", "labels", dtype, Adam(0.001), sizes=LARGE)
        other.train(engine.run, threads)
        assert other.theta.tobytes() == serial.theta.tobytes(), threads


def check_at_any_number_of_threads(trained, tolerance):
    """`trained(kernel, threads)`, a Run, is as NumPy has it, theta within so many eps, and has the same bits always."""
    serial = trained(engine.run_serial, 1)
    theta, costs = serial.by_reference()
    eps = np.finfo(serial.dtype).eps
    np.testing.assert_allclose(serial.step_costs, costs, rtol=1000 * eps)
    np.testing.assert_allclose(serial.theta, theta, rtol=0, atol=tolerance * eps * np.abs(theta).max())
    for threads in (1, 2, 3):
        other = trained(engine.run, threads)
        assert other.theta.tobytes() == serial.theta.tobytes(), threads
        assert other.state.tobytes() == serial.state.tobytes(), threads


@pytest.mark.parametrize("sizes", [TRAINED, LARGE], ids=["by samples", "by neurons"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_mini_batches_of_one_sample(dtype, sizes):
    """Their weight gradients are outer products."""
    def trained(kernel, threads):
        run = Run("uint8", "labels", dtype, SGD(0.05, momentum=0.9), sizes=sizes, batch=1)
        assert run.train(kernel, threads, N_STEPS) == N_STEPS
        return run

    check_at_any_number_of_threads(trained, 100)


def with_many_zeros(dtype, sizes):
    """A run whose relu neurons mostly stay at 0, of mini-batches of all samples."""
    run = Run("uint8", "labels", dtype, SGD(0.001, momentum=0.9), sizes=sizes, batch=N_SAMPLES,
              hidden=("relu", "relu"))
    a = run.floats
    for layer in run.layers[:2]:
        at_b = layer[B]
        z = a @ run.theta[layer[W] : at_b].reshape(-1, layer[N_OUT])
        threshold = np.quantile(z, 0.85)
        run.theta[at_b : at_b + layer[N_OUT]] = -threshold
        a = np.maximum(z - threshold, 0)
    run.start = run.theta.astype(np.float64)
    run.order = np.tile(run.order, N_STEPS)
    return run


@pytest.mark.parametrize("sizes", [(14, 100, 90, 5), (14, 520, 510, 5)], ids=["by samples", "by neurons"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_mini_batches_with_many_zeros(dtype, sizes):
    """Products large enough to be looked at for zeros, of layers of which a few neurons fire."""
    def trained(kernel, threads):
        run = with_many_zeros(dtype, sizes)
        assert run.train(kernel, threads, len(run.order)) == N_STEPS
        return run

    w = trained(engine.run_serial, 1).workspace
    for sent_on in (w.a[1], w.a[2], w.delta[1]):
        assert 0.05 < np.count_nonzero(sent_on) / sent_on.size < MOST_NONZERO - 0.05
    check_at_any_number_of_threads(trained, 1000)


def check_stop_before_the_fifth_step(good, bad, threads):
    """Of two equal runs whose fifth mini-batch `bad` has a NaN in: theta and state are those of four steps."""
    kernel = engine.run_serial if threads == 1 else engine.run
    good.step_costs = good.step_costs[:4]
    assert good.train(kernel, threads, 4 * good.n) == 4
    assert bad.train(kernel, threads, len(bad.order)) == 4
    assert bad.theta.tobytes() == good.theta.tobytes()
    assert bad.state.tobytes() == good.state.tobytes()
    assert bad.clock == [4]
    assert np.isnan(bad.step_costs[4])


@pytest.mark.parametrize("sizes", [TRAINED, LARGE], ids=["by samples", "by neurons"])
@pytest.mark.parametrize("threads", [1, 2])
def test_training_stops_before_a_cost_that_is_not_finite(threads, sizes):
    good, bad = (Run("float32", "labels", "float32", SGD(0.01, momentum=0.9), sizes=sizes) for _ in range(2))
    bad.array[bad.order[4 * BATCH + 3], 5] = np.nan
    check_stop_before_the_fifth_step(good, bad, threads)


PIECED = 2600  # samples of a mini-batch


def in_pieces(dtype):
    """A run of nine mini-batches that one thread goes through in four pieces, two and three threads in two, and one of
    300; the last of the samples comes once, in the first piece of the fifth."""
    run = Run("float32", "labels", dtype, SGD(0.05, momentum=0.9), batch=PIECED)
    pieces = [samples_at_once(tuple(TRAINED), PIECED, threads) for threads in (1, 2, 3)]
    assert [-(-PIECED // piece) for piece in pieces] == [4, 2, 2]
    run.order = np.random.default_rng(3).integers(0, N_SAMPLES - 1, (N_STEPS - 1) * PIECED + 300)
    run.order[4 * PIECED + 20] = N_SAMPLES - 1
    return run


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_mini_batches_in_pieces(dtype):
    def trained(kernel, threads):
        run = in_pieces(dtype)
        assert run.train(kernel, threads, len(run.order)) == N_STEPS
        return run

    check_at_any_number_of_threads(trained, 100)


@pytest.mark.parametrize("threads", [1, 2])
def test_training_stops_before_a_piece_whose_cost_is_not_finite(threads):
    good, bad = in_pieces("float32"), in_pieces("float32")
    bad.array[-1, 5] = np.nan
    check_stop_before_the_fifth_step(good, bad, threads)


@pytest.mark.parametrize("threads", [1, 2, 8, 64])
@pytest.mark.parametrize("batch", [1, 511, 512, 513, 600, 4097, 10_000])
@pytest.mark.parametrize("sizes", [TRAINED, LARGE, [784, 2048, 2048, 10]], ids=str)
def test_pieces_are_of_nearly_equal_size(sizes, batch, threads):
    piece = samples_at_once(tuple(sizes), batch, threads)
    pieces = -(-batch // piece)
    assert piece == batch or (batch > 512 and piece >= 128 * threads)
    grain = TILE_HEIGHT if pieces == 1 else CHAIN
    assert piece == batch or piece % grain == 0
    assert 0 <= pieces * piece - batch < pieces * grain  # the last is hardly smaller
    assert scratch_size(tuple(sizes), threads, batch) >= (parameter_offsets(sizes)[-1][0] if pieces > 1 else 0)


@pytest.mark.parametrize(("n", "in_order"), [(75, False), (70, True), (73, True)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_all_mini_batches_together(dtype, n, in_order):
    """75, 70 or 73 samples, 8 at a time and the last 3, 6 or 1, against all at once."""
    run = Run("uint8", "labels", dtype, SGD())
    chosen = run.order[:n] if in_order else np.arange(n)
    run.order = run.order[:n] if in_order else run.order[:0]
    run.step_costs = run.step_costs[: -(-n // BATCH)]

    def compiled(kernel, threads):
        run.gradient[:] = np.nan
        assert run.train(kernel, threads, n, ACCUMULATE) == len(run.step_costs)
        return run.step_costs.tobytes(), run.gradient.tobytes()

    bits = compiled(engine.run_serial, 1)
    got = run.gradient.copy()
    sizes = [BATCH] * (len(run.step_costs) - 1) + [n - BATCH * (len(run.step_costs) - 1)]
    cost = np.average(run.step_costs, weights=sizes)
    for threads in (1, 2, 3):
        assert compiled(engine.run, threads) == bits
    assert run.theta.tobytes() == run.start.astype(dtype).tobytes()
    assert not run.state.any()

    all_at_once = Workspace(TRAINED, ["relu", "tanh", "softmax"], "float64", n)
    all_at_once.a[0][:] = run.floats[chosen]
    gradient = gradient_by_oracle(run.start, all_at_once.layers, all_at_once.buffers, run.rows[chosen],
                                  all_at_once.costs, run.loss, n)
    eps = np.finfo(dtype).eps
    assert cost == pytest.approx(all_at_once.costs.mean(), rel=float(20 * eps))
    np.testing.assert_allclose(got, gradient, rtol=0, atol=20 * eps * np.abs(gradient).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_infer(dtype):
    run = Run("float64 backwards", "labels", dtype, SGD())
    labels, run.order = run.t, run.order[:0]

    def compiled(kernel, t, threads):
        run.t, run.outputs[:], run.step_costs[:] = t, np.nan, np.nan
        assert run.train(kernel, threads, purpose=INFER) == N_STEPS
        return run.outputs.copy(), run.step_costs.copy()

    outputs, costs = compiled(engine.run_serial, labels, 1)
    for threads in (1, 2, 3):
        for got, want in zip(compiled(engine.run, labels, threads), (outputs, costs), strict=True):
            assert got.tobytes() == want.tobytes()
    without, _ = compiled(engine.run_serial, Samples(0, 0, 0, NONE, 1.0), 1)
    assert without.tobytes() == outputs.tobytes()
    assert run.theta.tobytes() == run.start.astype(dtype).tobytes()

    all_at_once = Workspace(TRAINED, ["relu", "tanh", "softmax"], "float64", N_SAMPLES)
    all_at_once.a[0][:] = run.floats
    reference.forward(run.start, all_at_once.layers, all_at_once.buffers, N_SAMPLES)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(outputs, all_at_once.a[-1], rtol=0, atol=20 * eps)
    of_each = -np.log(all_at_once.a[-1][run.rows == 1])
    means = [of_each[first : first + BATCH].mean() for first in range(0, N_SAMPLES, BATCH)]
    np.testing.assert_allclose(costs, means, rtol=0, atol=50 * eps)


def test_infer_goes_on_where_a_cost_is_not_finite():
    run = Run("float32", "labels", "float32", SGD())
    run.array[3, 2], run.order = np.nan, run.order[:0]
    assert run.train(engine.run_serial, 1, purpose=INFER) == N_STEPS
    assert np.isnan(run.outputs).any(axis=1).nonzero()[0].tolist() == [3]
    assert np.isnan(run.step_costs).nonzero()[0].tolist() == [0]


def digest():
    """Fingerprint of what runs of every kind of samples and optimiser come to, and one of many zeros."""
    total = hashlib.sha256()
    for dtype in DTYPES:
        for x, t, optimizer in RUNS:
            run = Run(x, t, dtype, optimizer)
            run.train(engine.run_serial, 1)
            total.update(run.theta.tobytes() + run.step_costs.tobytes())
        run = with_many_zeros(dtype, (14, 100, 90, 5))
        run.train(engine.run_serial, 1, len(run.order))
        total.update(run.theta.tobytes() + run.step_costs.tobytes())
    return total.hexdigest()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="names features of x86-64 CPUs")
@pytest.mark.parametrize("features", ["+sse4.2,+avx,+avx2,+fma", "+sse4.2,+avx", "+sse2"])
def test_every_width_of_vectors_gives_the_same_bits(features):
    """A CPU of fewer features has other tiles, and the same chains of multiply-adds."""
    done = python("import test_engine; print(test_engine.digest())", NUMBA_CPU_NAME="generic",
                  NUMBA_CPU_FEATURES=features)
    assert done.stdout == digest() + "\n", done.stderr
