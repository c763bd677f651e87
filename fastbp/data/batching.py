"""Batches from files that need not fit in memory, in a random order: `fastbp.data.batches`."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import one_of, whole_number
from fastbp.data import stores
from fastbp.data.dataset import DataError
from fastbp.data.sources import SVMLIGHT
from fastbp.data.svmlight import SVMlight
from fastbp.data.table import to_train
from fastbp.frames import check_finite
from fastbp.randomness import WINDOW, generator
from fastbp.sparse import Rows, joined
from fastbp.training.stream import read_ahead

Array = npt.NDArray[Any]
PIECES = 32  # of a window: so many places of a file it mixes, if the format lets them be read alone
AS_STORED = ("uint8", "float32", "float64")  # what networks read without a conversion


class Batches:
    """The batches of a file, in a new order each time that it is iterated over; see `batches`, which makes one.

    Attributes
    ----------
    n_samples, n_features : int
        Of the whole file.
    features : tuple of str or None
        Names of the columns, for `network.feature_names`, if the file has them.
    dtype : numpy.dtype
        Of the samples that are given.
    """

    def __init__(self, store: stores.Store, batch_size: int, window: int, seed: int, dtype: str | None):
        own = store.dtype.name if store.dtype.name in AS_STORED else "float64"
        self.n_samples, self.n_features, self.features = store.n, store.n_features, store.features
        self.dtype = np.dtype(own if dtype is None else dtype)
        self._store, self._size, self._seed, self._epoch = store, batch_size, seed, 0
        self._window = -(-max(window, 1) // batch_size) * batch_size  # whole batches
        self._shuffles = window > 0

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-self.n_samples // self._size)

    def __iter__(self) -> Iterator[tuple[Array | Rows, Array]]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        return self._of_epoch(generator(WINDOW, self._seed, epoch))

    def _of_epoch(self, draw: np.random.Generator) -> Iterator[tuple[Array | Rows, Array]]:
        rows = max(1, self._window // PIECES) if self._shuffles else self._window
        parts = list(self._store.parts(rows))
        if self._shuffles:
            parts = [parts[i] for i in draw.permutation(len(parts))]
        with contextlib.closing(read_ahead(self._pieces(parts, rows), self._checked, PIECES)) as pieces:
            for X, y in self._windows(pieces):
                order = draw.permutation(len(y)) if self._shuffles else np.arange(len(y))
                for first in range(0, len(y), self._size):
                    chosen = order[first : first + self._size]
                    yield X[chosen], y[chosen]
                del X, y  # before the next window is made

    def _pieces(self, parts: list[Any], rows: int) -> Iterator[tuple[int, Array | Rows, Array]]:
        at_once = min(len(parts), self._store.at_once if self._shuffles else 1)
        in_turn = [self._store.pieces(parts[i::at_once], rows) for i in range(at_once)]
        for pieces in itertools.zip_longest(*in_turn):
            yield from (piece for piece in pieces if piece is not None)

    def _checked(self, piece: tuple[int, Array | Rows, Array]) -> tuple[Array | Rows, Array]:
        first, X, y = piece
        where = stores.where_of(self._store.path, first)
        try:
            if isinstance(X, Rows):
                X.check_finite(self.dtype, f"{where}: X")
            else:
                check_finite(X, self.dtype, f"{where}: X", self.features)
        except ValueError as error:
            raise DataError(str(error)) from None
        return X.astype(self.dtype), y

    def _windows(self, pieces: Iterator[tuple[Array | Rows, Array]]) -> Iterator[tuple[Array | Rows, Array]]:
        """Yield windows, all but the last of one size; none is kept once the next is asked for."""
        n = 0
        for x, y in pieces:
            at = 0
            while at < len(y):
                if n == 0:
                    rows, targets = list[Rows](), []
                    X = np.empty((self._window if isinstance(x, np.ndarray) else 0, self.n_features), self.dtype)
                taken = min(len(y) - at, self._window - n)
                some = x[at : at + taken]
                if isinstance(some, Rows):
                    rows.append(some)
                else:
                    X[n : n + taken] = some
                targets.append(y[at : at + taken])
                n, at = n + taken, at + taken
                if n == self._window:
                    yield joined(rows) if rows else X, np.concatenate(targets)
                    del X, rows
                    n = 0
        if n:
            yield joined(rows) if rows else X[:n], np.concatenate(targets)


def batches(path: str | os.PathLike[str], target: str | None = None, batch_size: int = 1024, *, window: int = 10_000,
            seed: int = 0, dtype: str | None = None, n_features: int | None = None) -> Batches:
    """Return batches of a file or folder that need not fit in memory, for `Trainer.fit_batches`.

    Each time that they are iterated over, samples come in another order, which the seed decides: pieces of the file, 32
    to a window, are taken in random order, and samples are shuffled within the window. A thread reads ahead, so that
    two windows are in memory, one in use and one being read.

    Parameters
    ----------
    path : str or path-like
        - ``*.parquet``, or a folder of such files with the same columns. Four row groups, drawn at random, are read in
          turn, each of which takes some 0.5 MB for each column. A sorted file of a single row group is mixed within
          the window only. The index of a pandas frame is left out.
        - ``*.h5`` or ``*.hdf5`` with samples and targets as x_train and y_train, x and y or X and y; the samples may
          have several dimensions, which are flattened.
        - A folder of ``.npy`` files in pairs: ``x.npy`` and ``y.npy``, or ``x_0.npy`` and ``y_0.npy``, and so on.
        - SVMlight text, ``*.svm``, ``*.svmlight`` or ``*.libsvm``. All of it is read once, to count and check.
          Indices count from 1, or from 0 if index 0 occurs. The samples are sparse, as trainers and networks take them;
          their `toarray()` is an array.
    target : str, optional
        For Parquet: the column of targets; None: the last one. For HDF5: the name of the targets; the samples are then
        x_train, x or X, or the only other array.
    batch_size : int
        Samples of a batch; the last one may have fewer. `fit_batches` cuts each batch into mini-batches of the
        trainer's batch_size, so take a multiple of it.
    window : int
        Number of samples among which the next is drawn, rounded up to whole batches; 0: samples come in the file's
        order, for `evaluate` or `predict`.
    seed : int
    dtype : {"float32", "float64"}, optional
        Of the samples; None: uint8, float32 and float64 as they are stored, otherwise float64.
    n_features : int, optional
        For SVMlight: number of features; None: up to the highest index in the file.

    Returns
    -------
    Batches
        An iterable of (X, y), with the attributes n_samples, n_features, features and dtype; len() is the number of
        batches. X is (n, n_features); y (n,) or (n, n_outputs): labels, names of classes or values.

    Raises
    ------
    DataError
        A file is missing, damaged or of another shape; or samples are text, missing or not finite: when their turn
        comes.
    ImportError
        pyarrow or h5py is missing.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from fastbp import Network, Trainer
    >>> from fastbp.data import batches
    >>> X = np.random.default_rng(0).normal(size=(5000, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(os.path.join(folder, "x.npy"), X)
    ...     np.save(os.path.join(folder, "y.npy"), (X[:, 0] > X[:, 1]).astype(int))
    ...     stream = batches(folder, batch_size=1000)
    ...     history = Trainer(Network([stream.n_features, 8, 2]), batch_size=20).fit_batches(stream, epochs=3)
    >>> history.samples, history.loss[-1] < 0.2
    ([5000, 5000, 5000], True)
    """
    batch_size, seed = whole_number("batch_size", batch_size, 1), whole_number("seed", seed, 0)
    window = whole_number("window", window, 0)
    if dtype is not None:
        one_of("dtype", dtype, ["float32", "float64"])
    if n_features is not None:
        whole_number("n_features", n_features, 1)
    return Batches(_store(Path(path), target, n_features), batch_size, window, seed, dtype)


def _store(path: Path, target: str | None, n_features: int | None) -> stores.Store:
    kind = path.suffix.lower()
    if kind == ".parquet" or (path.is_dir() and any(path.glob("*.parquet"))):
        return stores.Parquet(path, lambda names: to_train(names, target, path))
    if kind in (".h5", ".hdf5"):
        return stores.hdf5(path, target)
    if target is not None:
        raise DataError(f"{path}: target {target!r} names a column of Parquet or an array of HDF5, but this is neither")
    if kind in SVMLIGHT:
        return SVMlight(path, n_features)
    if path.is_dir():
        return stores.npy(path)
    raise DataError(f"{path}: not a file that fastbp can read in batches; expected .parquet, .h5, .svm, or a folder of "
                    ".parquet or .npy files")
