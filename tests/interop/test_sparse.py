"""Sparse samples, SciPy's CSR: the same training as of the dense array, in the memory of the stored entries."""

import copy
import subprocess
import sys

import numpy as np
import pytest

from fastbp import SGD, Adam, Network, Trainer, cost_and_gradient, diagnose, find_eta, objective
from fastbp.callbacks import Checkpoint, Every
from fastbp.core.call import ACCUMULATE, INFER, TRAIN
from fastbp.core.plan import NEURONS, SPARSE_FORWARD, SPARSE_WEIGHTS, plan_for
from fastbp.data import Augmentation, batches
from fastbp.sparse import as_rows

sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
MLPClassifier = pytest.importorskip("fastbp.sklearn", reason="scikit-learn is not installed").MLPClassifier

TOLERANCE = {"float32": 1e-4, "float64": 1e-11}
SIZES = [(30, 7, 3), (100, 3), (5, 4, 2), (3000, 40, 30, 3), (300, 600, 600, 5)]  # of the last, 32 go by neurons
# Labels are two on purpose, of networks with more outputs.
pytestmark = pytest.mark.filterwarnings("ignore:.* never occur")


def samples(n, n_in, dtype="float64", seed=0):
    """CSR of n samples, some empty, and labels that a linear network can learn."""
    draw = np.random.default_rng(seed)
    dense = np.where(draw.random((n, n_in)) < min(0.3, 30 / n_in), draw.integers(1, 9, (n, n_in)) / 8, 0)
    dense[:: max(1, n // 3)] = 0
    return sparse.csr_array(dense.astype(dtype)), (dense @ draw.normal(size=(n_in, 3))).argmax(1) % 2


def fitted(X, y, sizes, dtype="float64", threads=1, batch_size=32, epochs=2, optimizer=None, validation=False, **given):
    net = Network(sizes, seed=1, dtype=dtype, output="softmax")
    trainer = Trainer(net, optimizer=optimizer or SGD(0.05), batch_size=batch_size, threads=threads, seed=2, **given)
    trainer.fit(X, y, epochs=epochs, validation_fraction=0.25 if validation else None)
    return trainer


def same(first, second, dtype="float64"):
    np.testing.assert_allclose(first.network.theta, second.network.theta, rtol=0, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(first.history.loss, second.history.loss, rtol=TOLERANCE[dtype] * 10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES)
def test_as_dense(sizes, dtype):
    """Training, outputs, cost and gradient; more than one piece, and fewer samples than a thread wants."""
    for n, batch_size in ((1, 1), (70, 1), (130, 32), (1400, 700)):
        X, y = samples(n, sizes[0])
        a, b, c = (fitted(given, y, sizes, dtype, threads, batch_size)
                   for given, threads in ((X, 1), (X.toarray(), 1), (X, 2)))
        same(a, b, dtype)
        assert a.network.theta.tobytes() == c.network.theta.tobytes()
        np.testing.assert_allclose(a.network.forward(X), a.network.forward(X.toarray()), atol=TOLERANCE[dtype])
        np.testing.assert_allclose(a.evaluate(X, y)[0], a.evaluate(X.toarray(), y)[0], rtol=TOLERANCE[dtype] * 10)
        one, two = (cost_and_gradient(a.network, X, y, threads=threads) for threads in (1, 2))
        cost, gradient = cost_and_gradient(a.network, X.toarray(), y)
        assert one[0] == two[0] and one[1].tobytes() == two[1].tobytes()
        np.testing.assert_allclose(one[1], gradient, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("given", [
    dict(optimizer=Adam(0.01)), dict(optimizer=Adam(0.01, weight_decay=0.1)), dict(optimizer=SGD(0.05, momentum=0.9)),
    dict(optimizer=SGD(0.05, weight_decay=0.1)), dict(optimizer=SGD(0.05, l1=0.01)), dict(clip_norm=0.1),
    dict(clip_value=0.001), dict(max_norm=0.5), dict(ema=0.9), dict(dropout=[0, 0.5]), dict(frozen=[0]),
    dict(frozen=[1]), dict(schedule="one_cycle"), dict(validation=True), dict(clip_norm=0.1, batch_size=700)],
    ids=lambda given: " ".join(map(str, given.values())))
def test_options(given):
    """Whatever a rule does to a row without entries is done; the bits do not depend on the threads."""
    X, y = samples(1400, 60)
    a, b, c = (fitted(rows, y, (60, 20, 2), threads=threads, **given)
               for rows, threads in ((X, 1), (X.toarray(), 1), (X, 2)))
    same(a, b)
    assert a.network.theta.tobytes() == c.network.theta.tobytes()
    assert (a.network.theta != Network((60, 20, 2), seed=1, dtype="float64").theta).any()


def test_against_differences():
    """The gradient, by central differences of the cost."""
    X, y = samples(20, 9)
    net = Network([9, 5, 2], "tanh", seed=0, dtype="float64")
    gradient, step = cost_and_gradient(net, X, y)[1], 1e-6
    for k in range(0, net.n_parameters, 3):
        costs = []
        for sign in (1, -1):
            moved = copy.deepcopy(net)
            moved.theta[k] += sign * step
            costs.append(cost_and_gradient(moved, X, y)[0])
        assert gradient[k] == pytest.approx((costs[0] - costs[1]) / (2 * step), abs=1e-8)


def variants(X):
    """The same samples, stored in other ways."""
    wide = sparse.csr_array((X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)), X.shape)
    turned, twice = X.copy(), X.copy()
    for i in range(X.shape[0]):
        own = slice(X.indptr[i], X.indptr[i + 1])
        turned.indices[own], turned.data[own] = X.indices[own][::-1], X.data[own][::-1]
    twice = sparse.csr_array((np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), X.shape)
    shared = X.copy()
    for array in (shared.data, shared.indices, shared.indptr):
        array.flags.writeable = False
    zeros = sparse.csr_array(X + 0)
    zeros.data[0] = 0  # an explicit zero
    return {"matrix": sparse.csr_matrix(X), "int64": wide, "unsorted": turned, "duplicates": twice, "read-only": shared,
            "csc": X.tocsc(), "coo": X.tocoo(), "longdouble": X.astype(np.longdouble), "float32": X.astype("f4"),
            "uint8": (X * 8).astype("u1"), "int16": (X * 8).astype("i2"), "bool": X.astype(bool)}


@pytest.mark.parametrize("name", ["matrix", "int64", "unsorted", "duplicates", "read-only", "csc", "coo", "longdouble",
                                  "float32", "uint8", "int16", "bool"])
def test_other_ways_to_store(name):
    X, y = samples(100, 40)
    given = variants(X)[name]
    same(fitted(given, y, (40, 8, 2)), fitted(np.asarray(given.toarray(), "f8"), y, (40, 8, 2)))


def test_input_scale_and_float64_in_a_float32_network():
    X, y = samples(100, 40)
    for rows in ((8 * X).astype("u1"), X):
        nets = [Network([40, 8, 2], seed=0, input_scale=1 / 8) for _ in range(2)]
        for net, given in zip(nets, (rows, rows.toarray()), strict=True):
            Trainer(net, batch_size=10).fit(given, y)
        np.testing.assert_allclose(nets[0].theta, nets[1].theta, atol=1e-5)


def test_every_door():
    """What takes samples takes them sparse: weights, steps, streams, validation, checkpoints, objective, find_eta."""
    X, y = samples(400, 50)
    weights = np.linspace(0, 2, 400)
    a, b = (Trainer(Network([50, 8, 2], seed=0, dtype="float64"), optimizer="adam", batch_size=32) for _ in range(2))
    for trainer, rows in ((a, X), (b, X.toarray())):
        trainer.fit(rows, y, sample_weight=weights, class_weight="balanced", validation_data=(rows[:50], y[:50]))
        trainer.partial_fit(rows, y)
        trainer.step(rows[:10], y[:10])
        trainer.fit_batches([(rows[:100], y[:100]), (rows[100:], y[100:])])
        trainer.fit(rows.astype("f4"), y)
    same(a, b)
    np.testing.assert_allclose(a.history.validation_loss, b.history.validation_loss, rtol=1e-9)
    (cost, gradient), (wanted, of_dense) = (objective(a.network, rows, y)(a.network.theta) for rows in (X, X.toarray()))
    assert cost == pytest.approx(wanted)
    np.testing.assert_allclose(gradient, of_dense, atol=1e-12)
    assert find_eta(a, X, y).suggestion == pytest.approx(find_eta(b, X.toarray(), y).suggestion, rel=0.5)
    assert str(diagnose(a, X, y)) == str(diagnose(b, X.toarray(), y))
    np.testing.assert_array_equal(a.network.predict(X), b.network.predict(X.toarray()))
    out = np.empty((400, 2))
    assert a.network.forward(X, out=out) is out
    np.testing.assert_array_equal(out, a.network.forward(X, threads=2))


def test_resume(tmp_path):
    """A checkpoint belongs to its samples, and goes on to the same bits."""
    X, y = samples(400, 50)

    def trained(rows, epochs):
        trainer = Trainer(Network([50, 8, 2], seed=0), optimizer="adam", batch_size=32)
        trainer.fit(rows, y, epochs=epochs, callbacks=[Checkpoint(tmp_path / "some", resume=True)])
        return trainer.network.theta

    whole = Trainer(Network([50, 8, 2], seed=0), optimizer="adam", batch_size=32)
    whole.fit(X, y, epochs=3)
    trained(X, 3)
    assert trained(X, 3).tobytes() == whole.network.theta.tobytes()
    other = X.copy()
    other.data[:] *= 2
    with pytest.raises(ValueError, match="data"):
        trained(other, 3)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(50, 3), (50, 8, 3), (50, 600, 600, 3)])
def test_plan(sizes, threads):
    """The first layer has stages of its own; the others have those of a dense network."""
    n_layers = len(sizes) - 1
    for purpose in (TRAIN, ACCUMULATE, INFER):
        stages = plan_for(sizes, 32, purpose, threads, sparse=True).stages
        assert stages[0].kind == SPARSE_FORWARD and all(stage.begin >= 1 for stage in stages[1:] if stage.end)
        assert (stages[-1].kind == SPARSE_WEIGHTS) == (purpose != INFER)
        assert sum(stage.takes_input for stage in stages) == 1  # targets
        of_layers = [l for stage in stages[1:] for l in range(stage.begin, stage.end) if stage.kind in (0, NEURONS)]
        assert of_layers == list(range(1, n_layers))
    frozen = plan_for(sizes, 32, TRAIN, threads, frozen=(0,), sparse=True)
    assert all(stage.kind != SPARSE_WEIGHTS for stage in frozen.stages)
    told = str(plan_for(sizes, 32, TRAIN, threads, sparse=True))
    assert "1. SPARSE_FORWARD: layer 0 forward; " in told and "SPARSE_WEIGHTS: gradients of layer 0, update; " in told


def broken(X, **parts):
    """X with some of its arrays replaced, as no check of SciPy's sees it."""
    other = X.copy()
    for name, values in parts.items():
        setattr(other, name, np.asarray(values, getattr(other, name).dtype))
    return other


def test_bad_samples():
    """Each is refused by name, and nothing is changed."""
    X, y = samples(6, 5)
    trainer = Trainer(Network([5, 2], seed=0))
    before, k = trainer.network.theta.copy(), int(X.indptr[3])
    beyond, negative = X.indices.copy(), X.indices.copy()
    beyond[k], negative[k] = 5, -1
    large = X.data.copy()
    large[k] = np.inf
    cases = [
        (broken(X, indices=beyond), "sample 3 has an entry with index 5, but there are 5 features"),
        (broken(X, indices=negative), "sample 3 has an entry with index -1"),
        (broken(X, indptr=X.indptr[::-1]), "its indptr must begin with 0"),
        (broken(X, indptr=[0, 1, 2, 3, 4, 5, 10**6]), "its indptr must begin with 0"),
        (broken(X, data=large), f"X must be finite: sample 3, feature {X.indices[k]} is inf"),
        (sparse.csr_array((6, 4)), "X has 4 features, the network takes 5"),
        (sparse.csr_array((0, 5)), "X is empty"),
        (X.astype(complex), "X must hold real numbers, got dtype complex128"),
        (X * 1e300, "X must be finite in float32: sample"),
    ]
    for given, message in cases:
        for call in (lambda given=given: trainer.fit(given, y), lambda given=given: trainer.network.forward(given)):
            with pytest.raises((ValueError, TypeError), match=message):
                call()
    augmented = Trainer(trainer.network, augmentation=Augmentation(shift=1, shape=(1, 5)))
    with pytest.raises(ValueError, match="augmentation needs dense samples, and X is sparse"):
        augmented.fit(X, y)
    with pytest.raises(ValueError, match="noise needs dense samples, and X is sparse"):
        Trainer(trainer.network, noise=0.1).fit(X, y)
    with pytest.raises(ValueError, match="dropout of the input needs dense samples, and X is sparse"):
        Trainer(Network([5, 4, 2]), dropout=[0.1, 0.1]).fit(X, y)
    assert trainer.network.theta.tobytes() == before.tobytes() and trainer.steps_done == 0


def test_indices_beyond_32_bits():
    X, y = samples(6, 5)
    indices = X.indices.astype(np.int64)
    indices[0] += 2**32  # which 32 bits cannot tell from a right one
    wide = sparse.csr_array((X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)), X.shape)
    with pytest.raises(ValueError, match=f"has an entry with index {indices[0]}"):
        Trainer(Network([5, 2])).fit(broken(wide, indices=indices), y)


MEMORY = """
import resource, sys
import numpy as np, scipy.sparse as sparse
from fastbp import Network, Trainer
n, n_in, k = 20_000, 20_000, 100
draw = np.random.default_rng(0)
X = sparse.csr_array((draw.random(n * k, np.float32), draw.integers(0, n_in, n * k, np.int32), k * np.arange(n + 1)),
                     (n, n_in))
X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
y = draw.integers(0, 2, n)
trainer = Trainer(Network([n_in, 16, 2]), optimizer="adam", threads=2)
trainer.fit(X[:1000], y[:1000], epochs=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
trainer.fit(X, y, epochs=1)
trainer.network.forward(X)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, (X.data.nbytes + X.indices.nbytes) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
def test_memory():
    """A fit takes less than the samples once more; dense they would be 1.6 GB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    grown, stored = map(int, done.stdout.split())
    assert grown < stored


@pytest.mark.parametrize("way", ["step", "partial_fit"])
@pytest.mark.parametrize("outer", ["sparse", "dense"])
def test_a_callback_that_trains_with_the_other_kind(outer, way):
    """The fit goes on with its own samples."""
    X, y = samples(600, 50)
    kinds, found = {"sparse": X, "dense": X.toarray()}, []
    for own, other in ((outer, "dense" if outer == "sparse" else "sparse"), ("dense", "dense")):
        trainer, few = Trainer(Network([50, 8, 2], seed=0, dtype="float64"), optimizer="adam"), kinds[other][:4]
        trainer.fit(kinds[own], y, epochs=3, callbacks=[
            Every(2, lambda fit, trainer=trainer, few=few: getattr(trainer, way)(few, y[:4]))])
        found.append(trainer.network.theta)
    np.testing.assert_allclose(*found, atol=1e-10)


def test_most_entries():
    X, _ = samples(50, 40)
    rows, lengths = as_rows(X, "float64", "X"), np.sort(np.diff(X.indptr))
    assert [rows.most_entries(n) for n in (0, 1, 3, 50, 99)] == [0, lengths[-1], lengths[-3:].sum(), X.nnz, X.nnz]


def test_rows_of_batches(tmp_path):
    """What data.batches gives of SVMlight text is taken by estimators, too, and its numbers are checked."""
    (tmp_path / "some.svm").write_text("0 1:0.5 3:1\n1 2:1\n" * 20)
    (rows, y), = batches(tmp_path / "some.svm")
    model, other = (MLPClassifier((4,), random_state=0).partial_fit(x, y, classes=[0, 1])
                    for x in (rows, rows.toarray()))
    np.testing.assert_allclose(model.predict_proba(rows), other.predict_proba(rows.toarray()), atol=1e-12)
    rows.values[0] = 1e300
    trainer = Trainer(Network([3, 2]))
    for call in (trainer.evaluate, trainer.fit, trainer.step):
        with pytest.raises(ValueError, match="X must be finite in float32: sample 0, feature .* is 1e"):
            call(rows, y)


def test_room_for_entries_is_that_of_a_piece():
    """Of a mini-batch of all samples, too."""
    X, y = samples(20_000, 5)
    trainer = Trainer(Network([5, 2], seed=0), batch_size=20_000, threads=1)
    trainer.fit(X, y, epochs=1)
    assert trainer.stepper.workspace.slip._held["entries"].nbytes < X.data.nbytes
