"""fastbp.data.batches and the files that it and the command read: Parquet, HDF5, SVMlight and .npy."""

import sys
import tracemalloc

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rig import python
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from fastbp import Adam, Network, Trainer
from fastbp.cli import main
from fastbp.data import DataError, batches, load, load_samples, stores, svmlight
from fastbp.sparse import Rows

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
    given = [(x.toarray() if isinstance(x, Rows) else x, y) for x, y in stream]
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
        assert 0.8e6 < peak < 2.1e6


RESIDENT = """
import re, sys
from pathlib import Path
import pyarrow.parquet
from fastbp.data import batches
def most():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before = most()
for X, y in batches(sys.argv[1], batch_size=1000, window=5000):
    pass
print(most() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_parquet_is_bounded(tmp_path):
    """Arrow's own too, which tracemalloc does not see: a single row group of 160 MB takes some pages of each column.

    53 MB; without a buffer of a fixed size, 217.
    """
    own = pa.table({str(j): DRAW.random(2_000_000, np.float32) for j in range(20)} | {"y": np.zeros(2_000_000, "u1")})
    pq.write_table(own, tmp_path / "t.parquet", row_group_size=len(own), compression="none", use_dictionary=False)
    done = python(RESIDENT, str(tmp_path / "t.parquet"))
    assert done.stderr == "" and float(done.stdout) < 100


def write_parquet(folder, **columns):
    pq.write_table(table(**columns), folder / "t.parquet", row_group_size=300)
    return folder / "t.parquet"


COLUMNS = {
    "text": (["red"] * N, "X: column 'colour' holds text, such as 'red': turn it into numbers"),
    "categories": (pa.array(["red"] * N).dictionary_encode(), "X: column 'colour' holds text, such as 'red'"),
    "lists": ([[1, 2]] * N, "X: column 'colour' holds lists: make each of their numbers a column"),
    "structs": ([{"a": 1}] * N, "X: column 'colour' must hold real numbers, got dict"),
    "missing": ([*[1] * 700, None, *[1] * 299], "t.parquet, from row 700 on: X: column 'colour' has 1 missing value"),
    "missing truth": ([True, None, *[False] * 998], "X: column 'colour' has 1 missing value"),
    "infinite": ([np.inf, *[1.0] * 999], "X: row 0 of column 'colour' is inf"),
    "dates": (pa.array([0] * N, pa.date32()), "X: column 'colour' holds dates or times"),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_is_refused(tmp_path, column):
    """By the same rules, and in the same words, as in frames; the command's too."""
    values, message = COLUMNS[column]
    path = write_parquet(tmp_path, colour=values)
    for read in (lambda: list(batches(path, "y", window=0, batch_size=100)), lambda: load(path, "y")):
        with pytest.raises(DataError, match=message if read.__code__.co_names[0] == "list" else "column 'colour'"):
            read()


def test_columns_that_are_taken(tmp_path):
    """Truth values, nullable columns without gaps, halves, decimals, numbers as categories; texts as classes."""
    yes, names = Y > 0, np.array(["a", "b", "c"])[Y]
    own = write_parquet(tmp_path, yes=yes, half=Y.astype("f2"), tenth=pa.array(Y).cast(pa.decimal128(20)),
                        known=pa.array(Y).dictionary_encode(), y=pa.array(names).dictionary_encode())
    stream = batches(own, "y", window=0)
    assert stream.features == (*NAMES, "yes", "half", "tenth", "known") and stream.dtype == np.float64
    x, y, _ = whole(stream)
    np.testing.assert_array_equal(x, np.column_stack([X, yes, Y, Y, Y]))
    assert y.tolist() == names.tolist()
    net = Network([9, 3], input_scale=0.001)
    net.classes, net.feature_names = ["a", "b", "c"], stream.features
    Trainer(net, optimizer=Adam(0.1)).fit_batches(stream, 2)
    assert set(net.predict(pd.DataFrame(x[:, ::-1], columns=stream.features[::-1]))) <= {"a", "b", "c"}


def test_a_target_that_is_missing(tmp_path):
    """In a column of categories NumPy would see another class in its place."""
    names = pa.array(["b", None] * 500)
    for values in (names, names.dictionary_encode(), pa.array([1, None] * 500)):
        path = write_parquet(tmp_path, y=values)
        for read in (lambda path: list(batches(path, "y")), lambda path: load(path, "y")):
            with pytest.raises(DataError, match=r"y: column 'y' has \d+ missing values"):
                read(path)


def test_the_index_of_a_frame_is_left_out(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "y": [0, 1, 0]}, index=[7, 5, 9])
    frame.to_parquet(tmp_path / "t.parquet")
    assert batches(tmp_path / "t.parquet").features == load(tmp_path / "t.parquet").features == ("a",)


def test_dtypes(tmp_path):
    for own, given, expected in [("u1", None, "u1"), ("f8", None, "f8"), (">f4", None, "f4"), ("i2", None, "f8"),
                                 ("u1", "float32", "f4"), ("f8", "float32", "f4")]:
        np.save(tmp_path / "x.npy", X[:, 1:].astype(own))
        np.save(tmp_path / "y.npy", Y)
        x = next(iter(batches(tmp_path, window=0, dtype=given)))[0]
        assert x.dtype == expected and x.dtype.isnative
        np.testing.assert_array_equal(x, X[:, 1:])
    np.save(tmp_path / "x.npy", np.full((N, 2), 1e300))
    with pytest.raises(DataError, match=r"X\[0, 0\] is 1e\+300; every number must be finite and at most 3.403e\+38"):
        list(batches(tmp_path, dtype="float32"))
    with pytest.raises(ValueError, match="dtype"):
        batches(tmp_path, dtype="float16")


LINES = {
    "1 -1:2": "index -1 is negative", "1 3:1 2:1": "index 2 comes after 3, but indices must rise",
    "1 2:1 2:1": "index 2 comes after 2", "1 3:": "could not convert string to float", "1 2": "'2' is not index:value",
    "1 2:3:4": "'2:3:4' is not index:value", "a 1:1": "could not convert", "1,2 1:1": "could not convert",
    "1 99999999999999999999:1": "too large", "1 1.5:1": "invalid literal for int", "1 2:nan": "a number is not finite",
    "1 2:1e999": "a number is not finite", "1 :5": "invalid literal",
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_lines_of_svmlight_that_are_refused(tmp_path, monkeypatch, line):
    monkeypatch.setattr(svmlight, "BLOCK", 50)
    path = tmp_path / "t.svm"
    path.write_text("1 1:1 2:1\n" * 20 + "# a remark\n\n" + line + "\n" + "1 1:1\n" * 20)
    with pytest.raises(DataError, match=rf"t\.svm, line 23: .*{LINES[line]}.*; expected a target and index:value"):
        batches(path)


def test_svmlight_is_read_as_by_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setattr(svmlight, "BLOCK", 300)
    own = np.where(DRAW.random((200, 30)) < 0.2, DRAW.normal(size=(200, 30)), 0)
    own[[0, 7, 199]] = 0  # lines of a target alone
    for base, targets in ((0, DRAW.normal(size=200)), (1, DRAW.choice([-1, 1], 200))):
        own[1, 0] = 1
        dump_svmlight_file(own, targets, str(tmp_path / "t.svm"), zero_based=base == 0, comment="of a test")
        expected = load_svmlight_file(str(tmp_path / "t.svm"))
        data = load(tmp_path / "t.svm")
        np.testing.assert_array_equal(data.x_train, expected[0].toarray())
        np.testing.assert_array_equal(data.y_train, expected[1])
        assert data.y_train.dtype.kind == "fi"[base]
        x, y = load_samples(tmp_path / "t.svm", n_features=40)
        assert x.shape == (200, 40) and (y == expected[1]).all()
        assert batches(tmp_path / "t.svm", n_features=40).n_features == 40
    with pytest.raises(DataError, match="has the index 30, but only 20 features are expected"):
        batches(tmp_path / "t.svm", n_features=20)


def test_a_table_that_would_not_fit(tmp_path, monkeypatch):
    (tmp_path / "t.svm").write_text("1 1:1\n0 2000000000:1\n")
    monkeypatch.setattr(stores, "memory", lambda: 8e9)
    with pytest.raises(DataError, match="2,000,000,000 features take 32.0 GB as a table, of 8.0 GB of memory"):
        load(tmp_path / "t.svm")
    assert stores.memory() > 1e8


def save(folder, **arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def h5(folder, **arrays):
    with h5py.File(folder / "t.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return folder / "t.h5"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def two_tables(folder):
    pq.write_table(table(), folder / "a.parquet")
    pq.write_table(table().drop_columns(["a0"]), folder / "b.parquet")
    return folder


def twice(folder):
    pq.write_table(pa.table([Y, Y, Y], names=["a", "a", "y"]), folder / "t.parquet")
    return folder / "t.parquet"


STRING = h5py.string_dtype()
WRONG = {
    "a cut Parquet": (lambda folder: cut(parquet(folder)), None, r"t\.parquet: cannot be read as Parquet"),
    "a cut HDF5": (lambda folder: cut(hdf5(folder)), None, r"t\.h5: cannot be read as HDF5: .*truncated"),
    "a cut .npy": (lambda folder: cut(npy(folder) / "x_1.npy").parent, None, r"x_1\.npy: cannot be read as an array"),
    "no column": (parquet, "z", "has no column 'z' for the target; found 'a0'"),
    "no array": (chunked, "group/z", "has no array 'group/z' for the target; did you mean 'group/y'"),
    "no pair": (chunked, None, "found group/y, images; expected x_train and y_train"),
    "others": (lambda folder: h5(folder, a=X, b=X, y=Y), "y", "found a, b beside y; expected the samples as x_train"),
    "an empty folder": (lambda folder: folder, None, r"holds no file \*\.parquet, nor x\.npy with y\.npy"),
    "no targets": (lambda folder: save(folder, x_1=X), None, r"y_1\.npy: no such file"),
    "other widths": (lambda folder: save(folder, x_1=X, y_1=Y, x_2=X[:, 1:], y_2=Y), None,
                     r"x_2\.npy: samples have 4 features .* those before have 5"),
    "other lengths": (lambda folder: save(folder, x=X, y=Y[1:]), None, r"samples of shape \(1000, 5\), targets"),
    "a vector": (lambda folder: save(folder, x=Y, y=Y), None, r"expected \(n, n_features\)"),
    "no samples": (lambda folder: h5(folder, x=X[:0], y=Y[:0]), None, r"samples of shape \(0, 5\)"),
    "objects": (lambda folder: save(folder, x=np.array([[None]]), y=Y[:1]), None, r"x\.npy: cannot be read"),
    "complex": (lambda folder: save(folder, x=X * 1j, y=Y), None, "must hold real numbers, got dtype complex"),
    "text": (lambda folder: h5(folder, x=np.array([["a"]], STRING), y=Y[:1]), None, "X holds text, such as 'a'"),
    "records": (lambda folder: h5(folder, x=np.zeros((2, 1), "i4,f8"), y=Y[:2]), None, "must hold real numbers"),
    "no lines": (lambda folder: (folder / "t.svm").write_text("# none\n") and folder / "t.svm", None, "no samples"),
    "no entries": (lambda folder: (folder / "t.svm").write_text("1\n0\n") and folder / "t.svm", None, "no features"),
    "a target of text": (svm, "y", "target 'y' names a column of Parquet or an array of HDF5"),
    "other columns": (two_tables, None, r"b\.parquet: its columns are a1, .* before it a0, a1"),
    "columns of one name": (twice, None, "has 2 columns 'a'"),
    "a .csv": (lambda folder: folder / "t.csv", None, "not a file that fastbp can read in batches"),
    "no file": (lambda folder: folder / "t.svm", None, "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_files_that_are_refused(tmp_path, what):
    make, target, message = WRONG[what]
    path = make(tmp_path)
    with pytest.raises(DataError, match=message):
        list(batches(path, target))


def test_a_file_that_is_damaged_within(tmp_path):
    """The error comes when its turn comes, out of the thread that reads."""
    path = parquet(tmp_path)
    stream = batches(path, window=0)
    content = bytearray(path.read_bytes())
    content[2000:-4000] = bytes(len(content) - 6000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read as Parquet"):
        list(stream)


@pytest.mark.parametrize("setting", [{"batch_size": 0}, {"window": -1}, {"seed": -1}, {"n_features": 0},
                                     {"window": 2.5}])
def test_settings_that_are_refused(tmp_path, setting):
    with pytest.raises((TypeError, ValueError), match=next(iter(setting))):
        batches(npy(tmp_path), **setting)


def test_a_package_that_is_missing(tmp_path, monkeypatch):
    for name, make in (("pyarrow", parquet), ("h5py", hdf5)):
        path = make(tmp_path)
        monkeypatch.setitem(sys.modules, "pyarrow.parquet" if name == "pyarrow" else name, None)
        for read in (batches, load):
            with pytest.raises(ImportError, match=rf'needs {name}: pip install "fastbp\[frames\]"'):
                read(path)


# The command


def frame():
    return pd.DataFrame(X * [0.001, *[1] * 4], columns=NAMES).assign(y=np.array(["a", "b", "c"])[Y])


def trained(folder, *arguments):
    saved = str(folder / "net.safetensors")
    assert main(["train", *map(str, arguments), "--epochs", "2", "--quiet", "--save", saved]) == 0
    return Network.load(saved)


def test_the_command_takes_parquet_as_csv(tmp_path, capsys):
    frame().to_parquet(tmp_path / "t.parquet")
    frame().to_csv(tmp_path / "t.csv", index=False)
    nets = [trained(tmp_path, tmp_path / name, "--target", "y") for name in ("t.csv", "t.parquet")]
    assert nets[0].feature_names == nets[1].feature_names == tuple(NAMES)
    assert nets[0].theta.tobytes() == nets[1].theta.tobytes()
    frame()[["a4", "a2", "y", "a0", "a1", "a3"]].to_parquet(tmp_path / "new.parquet")
    for name, said in (("t.parquet", "1,000 samples, accuracy"), ("new.parquet", "1,000 samples, accuracy")):
        assert main(["predict", str(tmp_path / "net.safetensors"), str(tmp_path / name)]) == 0
        assert said in capsys.readouterr().out
    frame()[NAMES].to_parquet(tmp_path / "new.parquet")
    assert main(["predict", str(tmp_path / "net.safetensors"), str(tmp_path / "new.parquet")]) == 0
    assert capsys.readouterr().out.startswith("sample,label\n0,")


@pytest.mark.parametrize("kind", ["h5", "npz", "svm"])
def test_the_command_takes_arrays(tmp_path, kind, capsys):
    path, arrays = tmp_path / f"t.{kind}", {"images": frame()[NAMES].to_numpy(), "labels": Y}
    target = () if kind == "svm" else ("--target", "labels")
    if kind == "svm":
        dump_svmlight_file(*arrays.values(), str(path), zero_based=False)
    elif kind == "npz":
        np.savez(path, **arrays)
    else:
        h5(tmp_path, **arrays)
    net = trained(tmp_path, path, *target)
    assert net.layer_sizes == (5, 128, 3)
    assert main(["predict", str(tmp_path / "net.safetensors"), str(path)]) == 0
    assert "1,000 samples, accuracy" in capsys.readouterr().out


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    for make, said in ((lambda: cut(parquet(tmp_path)), "t.parquet: cannot be read as Parquet"),
                       (lambda: write_parquet(tmp_path, z=[[1, 2]] * N, y=Y), "X: column 'z' holds lists"),
                       (lambda: h5(tmp_path, a=X), "no x_train and no y_train; found the keys a;")):
        path = make()
        assert main(["train", str(path)] + ["--target", "y"] * (path.suffix == ".parquet")) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_sparse_batches_train_as_dense_ones(tmp_path):
    """In the memory of their entries: 50 windows of 20,000 words would take 80 MB each."""
    draw = np.random.default_rng(0)
    words = [np.unique(draw.integers(1, 10_001, 20)) + i % 2 * 10_000 for i in range(1000)]
    lines = [f"{i % 2} " + " ".join(f"{k}:1" for k in some) for i, some in enumerate(words)]
    (tmp_path / "words.svm").write_text("\n".join(lines) + "\n")
    nets = []
    for dense in (False, True):
        net = Network([20_000, 8, 2], seed=0, dtype="float64")
        given = list(batches(tmp_path / "words.svm", batch_size=500, n_features=20_000))
        Trainer(net, batch_size=20).fit_batches([(x.toarray(), y) for x, y in given] if dense else given)
        nets.append(net)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, atol=1e-12)
    stream = batches(tmp_path / "words.svm", batch_size=100, window=500)
    tracemalloc.start()
    for _ in stream:
        pass
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_files_of_parquet_without_rows_are_skipped(tmp_path):
    """Wherever they are."""
    table = pd.DataFrame({"a": np.arange(20.0), "y": np.arange(20) % 2})
    for name, rows in (("0", 0), ("1", 20), ("2", 0), ("3", 20), ("4", 0)):
        table[:rows].to_parquet(tmp_path / f"{name}.parquet")
    assert whole(batches(tmp_path, "y", 10))[2] == [10] * 4
