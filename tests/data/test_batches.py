"""fastbp.data.batches and the files that it and the command read: Parquet, HDF5, SVMlight and .npy."""

import tracemalloc

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rig import python
from sklearn.datasets import dump_svmlight_file

from fastbp import Adam, Network, Trainer
from fastbp.data import batches, svmlight

DRAW = np.random.default_rng(0)
N, WIDTH = 1000, 5
X = DRAW.integers(1, 100, (N, WIDTH)).astype(np.float32)  # no zeros: SVMlight would leave them out
X[:, 0] = np.arange(N) + 1  # says which sample it is
Y = np.arange(N) * 3 // N  # sorted by class
NAMES = [f"a{j}" for j in range(WIDTH)]


def table(**columns):
    return pa.table(dict(zip(NAMES, X.T, strict=True)) | {"y": Y} | columns)


def parquet(folder):
    pq.write_table(table(), folder / "t.parquet", row_group_size=100)
    return folder / "t.parquet"


def parquets(folder):
    for i in range(4):
        pq.write_table(table().slice(250 * i, 250), folder / f"t{i}.parquet", row_group_size=100)
    return folder


def hdf5(folder):
    with h5py.File(folder / "t.h5", "w") as file:
        file["x"], file["y"] = X, Y
    return folder / "t.h5"


def chunked(folder):
    with h5py.File(folder / "t.hdf5", "w") as file:
        file.create_dataset("images", data=X.reshape(N, 1, WIDTH), chunks=(64, 1, 1), compression="gzip")
        file.create_dataset("group/y", data=Y)
    return folder / "t.hdf5"


def npy(folder):
    for i in range(3):
        np.save(folder / f"x_{i}.npy", X[i * 400 : (i + 1) * 400])
        np.save(folder / f"y_{i}.npy", Y[i * 400 : (i + 1) * 400])
    return folder


def svm(folder):
    dump_svmlight_file(X, Y, str(folder / "t.svm"), zero_based=False)
    return folder / "t.svm"


STORES = {one.__name__: one for one in (parquet, parquets, hdf5, chunked, npy, svm)}
TARGET = {"chunked": "group/y"}


@pytest.fixture(params=STORES)
def stored(request, tmp_path, monkeypatch):
    """A file of each kind, and the name of its targets."""
    monkeypatch.setattr(svmlight, "BLOCK", 2000)
    return STORES[request.param](tmp_path), TARGET.get(request.param)


def whole(stream):
    given = list(stream)
    return np.concatenate([x for x, _ in given]), np.concatenate([y for _, y in given]), [len(y) for _, y in given]


def test_each_sample_once_with_its_target(stored):
    stream = batches(*stored, 64, window=300, seed=1)
    x, y, sizes = whole(stream)
    assert sizes == [64] * 15 + [40] and len(stream) == 16
    order = x[:, 0].astype(int) - 1
    assert sorted(order) == list(range(N))
    np.testing.assert_array_equal(x, X[order])
    np.testing.assert_array_equal(y, Y[order])
    assert y.dtype == np.int64 and (stream.n_samples, stream.n_features) == (N, WIDTH)


def test_orders_are_new_each_epoch_and_the_same_for_a_seed(stored):
    one, other = batches(*stored, 64, window=300, seed=1), batches(*stored, 64, window=300, seed=1)
    epochs = [whole(one)[0][:, 0].tolist() for _ in range(3)]
    assert epochs == [whole(other)[0][:, 0].tolist() for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert whole(batches(*stored, 64, window=300, seed=2))[0][:, 0].tolist() != epochs[0]


def test_a_window_mixes_places_far_apart(stored):
    """Though the file is sorted by class, and a window is less than a class."""
    first = whole(batches(*stored, 64, window=320))[1][:320]
    assert (np.bincount(first, minlength=3) > 20).all()


def test_the_order_of_the_file(stored):
    x, y, sizes = whole(batches(*stored, 64, window=0))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert sizes == [64] * 15 + [40]


def test_a_fit(stored):
    """As by the same batches in memory, to the bit."""
    nets = Network([WIDTH, 3], input_scale=0.001), Network([WIDTH, 3], input_scale=0.001)
    one, other = (Trainer(net, batch_size=20, optimizer=Adam(0.1)) for net in nets)
    history = one.fit_batches(batches(*stored, 100, window=400), 10)
    assert history.samples == [N] * 10 and history.loss[-1] < 0.6
    again = batches(*stored, 100, window=400)
    for _ in range(10):
        other.fit_batches(list(again))
    assert nets[0].theta.tobytes() == nets[1].theta.tobytes()


def test_an_epoch_that_is_left_early(stored):
    stream = batches(*stored, 10, window=50)
    for _, (x, _) in zip(range(3), stream, strict=False):
        assert len(x) == 10
    assert whole(stream)[2] == [10] * 100


def test_memory_is_bounded_by_the_window(tmp_path):
    """Two windows of 0.8 MB, and some batches, of 16 MB; the file is mapped or read by slices."""
    big = DRAW.random((20_000, 200), np.float32)
    np.save(tmp_path / "x.npy", big)
    np.save(tmp_path / "y.npy", np.zeros(len(big), int))
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["x"], file["y"] = big, np.zeros(len(big), int)
    for path in (tmp_path, tmp_path / "t.h5"):
        stream = batches(path, batch_size=100, window=1000)
        tracemalloc.start()
        assert sum(len(y) for _, y in stream) == len(big)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 0.8e6 < peak < 3e6


RESIDENT = """
import resource, sys
import pyarrow.parquet
from fastbp.data import batches
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
batches(sys.argv[1], batch_size=1000, window=5000)
before = most()
for X, y in batches(sys.argv[1], batch_size=1000, window=5000):
    pass
print(most() - before)
"""


def test_memory_of_parquet_is_bounded(tmp_path):
    """Arrow's own, which tracemalloc does not see: 160 MB in 8 row groups."""
    values = DRAW.random((50_000, 100), np.float32)
    own = pa.table(dict(zip(map(str, range(100)), values.T, strict=True)) | {"y": np.zeros(50_000, int)})
    with pq.ParquetWriter(tmp_path / "t.parquet", own.schema, compression="none", use_dictionary=False) as writer:
        for _ in range(8):
            writer.write_table(own)
    done = python(RESIDENT, str(tmp_path / "t.parquet"))
    assert done.stderr == "" and float(done.stdout) < 330
