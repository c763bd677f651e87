"""Files that are read in pieces: Parquet, HDF5 and .npy. Only this module imports their readers, and only when asked.

Columns of Parquet go through `fastbp.frames`, as frames that users pass do.
"""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastbp.data.dataset import DataError, Dataset, checked_samples
from fastbp.data.npz import pair
from fastbp.data.table import to_predict, to_train
from fastbp.frames import Frame, array_of, check_finite
from fastbp.sparse import Rows

Array = npt.NDArray[Any]
Choice = Callable[[list[str]], tuple[list[str], str | None]]  # of the features and the target, from all columns
BUFFER = 1 << 16  # bytes of a column of Parquet read at a time; 0: all of a row group


class Store(Protocol):
    """n samples with n_features, in parts that can be read in any order.

    features: names of the columns, if there are any; dtype: type of the samples that `pieces` gives; at_once: from how
    many parts to take pieces in turn.
    """

    at_once: int
    path: Path
    n: int
    n_features: int

    @property
    def features(self) -> tuple[str, ...] | None: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def parts(self, rows: int) -> Sequence[Any]:
        """Return all parts in order; if the format allows, of about this number of rows."""

    def pieces(self, parts: Sequence[Any], rows: int) -> Iterator[tuple[int, Array | Rows, Array]]:
        """Yield the parts one by one, in pieces: the number of the first sample, samples, `rows` or fewer, and their
        targets."""


def needed(name: str, path: Path) -> Any:
    """Return a package that reads `path`; raise an ImportError that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f'{path} needs {name.partition(".")[0]}: pip install "fastbp[frames]"') from None


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """In this block, errors of a reader become a DataError; of a damaged file they may be of any type."""
    try:
        yield
    except (DataError, ImportError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected {what}") from None
    except Exception as error:
        raise DataError(f"{path}: cannot be read as {what}: {error}") from error


@contextlib.contextmanager
def converting() -> Iterator[None]:
    """In this block, what `fastbp.frames` refuses becomes a DataError."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from None


class Parquet:
    """A Parquet file, or a folder of files with the same columns; its parts are the row groups.

    An open row group took 0.5 MB a column (PyArrow 26; 100 columns of float32, 50,000 rows).
    """

    at_once = 4

    def __init__(self, path: Path, choose: Choice):
        self.reader, self.path, self.n = needed("pyarrow.parquet", path), path, 0
        self.groups: list[tuple[Path, Any, int, int]] = []  # file, its metadata, row group, number of its first row
        names: list[str] | None = None
        for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
            with reading(file, "Parquet"):
                metadata = self.reader.read_metadata(file)
                own = self._names(file, metadata.schema.to_arrow_schema())
            if own != (names := names or own):
                raise DataError(f"{file}: its columns are {', '.join(own)}, those of files before it "
                                f"{', '.join(names)}")
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                if rows:
                    self.groups.append((file, metadata, group, self.n))
                self.n += rows
        if not names or self.n == 0:
            raise DataError(f"{path}: has no {'rows' if names else 'columns'}; expected at least one sample")
        features, self.target = choose(names)
        self.features, self.n_features = tuple(features), len(features)
        self.dtype = next(self.pieces(self.groups[:1], 1))[1].dtype

    @staticmethod
    def _names(file: Path, schema: Any) -> list[str]:
        """Return the columns; without those that hold the index of a frame of pandas."""
        with converting():
            names = Frame(schema.empty_table()).names(str(file))
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        return [name for name in names if name not in index]

    def parts(self, rows: int) -> Sequence[Any]:
        return self.groups

    def pieces(self, parts: Sequence[Any], rows: int) -> Iterator[tuple[int, Array, Array]]:
        columns = [*self.features, *([] if self.target is None else [self.target])]
        for file, metadata, group, first in parts:
            with reading(file, "Parquet"), self.reader.ParquetFile(
                    file, metadata=metadata, buffer_size=BUFFER, pre_buffer=False) as opened:
                for table in opened.iter_batches(rows, [group], columns, use_threads=False):
                    yield first, *self._split(table, where_of(self.path, first))
                    first += len(table)

    def _split(self, table: Any, where: str) -> tuple[Array, Array]:
        with converting():
            x = Frame(table.select(self.features)).numbers(f"{where}: X")
            if self.target is None:
                return x, np.empty(0)
            y = array_of(table.select([self.target]), f"{where}: y", text=True)
            check_finite(y[:, np.newaxis], np.dtype(np.float64), f"{where}: y", (self.target,))
        return x, y


class Arrays:
    """Pairs of arrays of samples and targets, of which slices are read.

    pairs: by their names for messages, functions that open a pair; what: the format.
    """

    at_once = 1  # a part is a piece
    features = None

    def __init__(self, path: Path, what: str, pairs: dict[str, Callable[[], AbstractContextManager[tuple[Any, Any]]]]):
        self.path, self.what, self.pairs, self.n = path, what, pairs, 0
        self.all: list[tuple[str, int, int]] = []  # name of a pair, its samples, of how many it is best to read
        for name, opened in pairs.items():
            with reading(Path(name), what), opened() as (x, y):
                if x.ndim < 2 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
                    raise DataError(f"{name}: samples of shape {x.shape}, targets of shape {y.shape}; expected "
                                    "(n, n_features) and (n,) or (n, n_outputs)")
                self.all.append((name, len(x), (getattr(x, "chunks", None) or [1])[0]))
                own, self.n = (int(np.prod(x.shape[1:])), y.shape[1:]), self.n + len(x)
            if len(self.all) == 1:
                first, (self.n_features, _) = own, own
            if own != first:
                raise DataError(f"{name}: samples have {own[0]} features and targets the shape {own[1]}; those before "
                                f"have {first[0]} and {first[1]}")
        self.dtype = np.result_type(*(next(self.pieces([(name, 0, 1, 0)], 1))[1] for name in pairs))

    def parts(self, rows: int) -> Sequence[Any]:
        """Name of a pair, the slice, and the number of its first sample in all."""
        made, first = [], 0
        for name, n, best in self.all:
            step = -(-rows // best) * best
            made += [(name, begin, min(begin + step, n), first + begin) for begin in range(0, n, step)]
            first += n
        return made

    def pieces(self, parts: Sequence[Any], rows: int) -> Iterator[tuple[int, Array, Array]]:
        with contextlib.ExitStack() as stack:
            opened: dict[str, tuple[Any, Any]] = {}
            for name, begin, end, first in parts:
                with reading(Path(name), self.what):
                    if name not in opened:
                        opened[name] = stack.enter_context(self.pairs[name]())
                    for at in range(begin, end, rows):
                        yield first + at - begin, *self._slice(Path(name), opened[name], at, min(at + rows, end))

    @staticmethod
    def _slice(name: Path, opened: tuple[Any, Any], begin: int, end: int) -> tuple[Array, Array]:
        where, (x, y) = where_of(name, begin), opened
        with converting():
            arrays = {"X": array_of(x[begin:end], f"{where}: X"), "y": array_of(y[begin:end], f"{where}: y", text=True)}
        X, targets = checked_samples(arrays, "X", "y", name)
        assert targets is not None
        return X, targets


def where_of(path: Path, first: int) -> str:
    """Return the place of a piece, for messages."""
    return f"{path}, from row {first} on" if first else str(path)


def hdf5(path: Path, target: str | None = None) -> Arrays:
    """Return a pair of data sets of an HDF5 file; see `fastbp.data.npz.pair` for their names."""
    with _datasets(path) as found:
        names = pair(list(found), target, path)
    return Arrays(path, "HDF5", {str(path): partial(_pair_of_hdf5, path, names)})


@contextlib.contextmanager
def _datasets(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the open data sets of an HDF5 file, by their names; those of text give strings."""
    h5py, found = needed("h5py", path), {}

    def see(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim:
            found[name] = item.asstr() if h5py.check_string_dtype(item.dtype) else item

    with reading(path, "HDF5"), h5py.File(path, "r") as file:
        file.visititems(see)
        yield found


@contextlib.contextmanager
def _pair_of_hdf5(path: Path, names: list[str]) -> Iterator[tuple[Any, Any]]:
    with _datasets(path) as found:
        yield found[names[0]], found[names[1]]


def read_hdf5(path: Path, choose: Callable[[list[str]], list[str]]) -> tuple[dict[str, Array], list[str]]:
    """Return the data sets that `choose` selects by name, and the names of all; see `fastbp.data.npz.Reader`."""
    with _datasets(path) as found, converting():
        keys = list(found)
        return {name: array_of(found[name][...], f"{path}: {name}", text=True) for name in choose(keys)}, keys


def npy(folder: Path) -> Arrays:
    """Return the pairs of a folder: x.npy and y.npy, x_0.npy and y_0.npy, or the like."""
    files = sorted(file for file in folder.glob("*.npy") if file.name[0] in "xX")
    if not files:
        raise DataError(f"{folder}: holds no file *.parquet, nor x.npy with y.npy, nor such as x_0.npy with y_0.npy")
    return Arrays(folder, "an array of NumPy", {str(file): partial(_pair_of_npy, file) for file in files})


@contextlib.contextmanager
def _pair_of_npy(file: Path) -> Iterator[tuple[Any, Any]]:
    other = file.with_name(("y" if file.name[0] == "x" else "Y") + file.name[1:])
    with reading(other, "an array of NumPy"):
        y = np.load(other, mmap_mode="r")
    yield np.load(file, mmap_mode="r"), y


def read_parquet(path: Path, target: str | None) -> Dataset:
    """Return a whole table as `fastbp.data.table.read_table` does, in the types of its columns."""
    store = Parquet(path, lambda names: to_train(names, target, path))
    dataset = Dataset(*whole(store), None, None)
    dataset.features, dataset.target = store.features, store.target
    return dataset


def read_parquet_samples(path: Path, n_features: int | None, features: Sequence[str] | None, target: str | None,
                         classes: Sequence[str] | None) -> tuple[Array, Array | None]:
    """Return samples, and their targets if it has them, as `fastbp.data.table.read_table_samples` does."""
    guessed = False

    def choose(names: list[str]) -> tuple[list[str], str | None]:
        nonlocal guessed
        taken, chosen, guessed = to_predict(names, True, path, n_features, features, target)
        return taken, chosen

    store = Parquet(path, choose)
    x, y = whole(store)
    known = store.target is not None and (not guessed or set(map(str, y.tolist())) <= set(classes or ()))
    return x, y if known else None


def whole(store: Store) -> tuple[Array, Array]:
    """Return all samples and targets; raise DataError if these numbers, as a dense table, exceed the memory."""
    size, most = store.n * store.n_features * store.dtype.itemsize, memory()
    if size > most:
        raise DataError(f"{store.path}: {store.n:,} samples of {store.n_features:,} features take {size / 1e9:,.1f} GB "
                        f"as a table, of {most / 1e9:,.1f} GB of memory; train on it in batches: fastbp.data.batches")
    x, targets = np.empty((store.n, store.n_features), store.dtype), []
    for first, piece, y in store.pieces(store.parts(store.n), store.n):
        if isinstance(piece, Rows):
            piece = piece.toarray()
        with converting():
            check_finite(piece, store.dtype, f"{where_of(store.path, first)}: X", store.features)
        x[first : first + len(piece)] = piece
        targets.append(y)
    return x, np.concatenate(targets)


def memory() -> float:
    """Return the bytes of memory that this process can have, as far as the system tells."""
    try:
        limits = [float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):  # not on Windows
        return float("inf")
    with contextlib.suppress(OSError, ValueError):
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text()))  # "max" is no number
    return min(limits)
