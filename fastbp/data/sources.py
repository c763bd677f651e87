"""Load data sets by name or path."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fastbp import ahead
from fastbp.data import npz, stores
from fastbp.data.dataset import DataError, Dataset
from fastbp.data.idx import files_of, read_idx_folder, read_idx_samples
from fastbp.data.svmlight import SVMlight
from fastbp.data.table import read_table, read_table_samples

_TABLES = (".csv", ".tsv", ".parquet")
_ARRAYS = {".npz": npz.read_arrays, ".h5": stores.read_hdf5, ".hdf5": stores.read_hdf5}
SVMLIGHT = (".svm", ".svmlight", ".libsvm")
_MNIST_FOLDER = ahead.MNIST


def mnist() -> Dataset:
    """Return MNIST: 60,000 training and 10,000 test images of handwritten digits, from files that come with fastbp.

    Returns
    -------
    Dataset
        Images as uint8 of shape (n, 784), row by row, 0 (paper) to 255 (ink), with input_scale 1/255; labels 0
        to 9 as uint8 of shape (n,).

    Raises
    ------
    DataError
        If the packaged files are missing or damaged.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE 86(11), 1998, section III.A. The files are under CC BY-SA 3.0; see the README beside them.

    Examples
    --------
    >>> from fastbp.data import mnist
    >>> data = mnist()
    >>> data.x_train.shape, data.x_test.shape
    ((60000, 784), (10000, 784))
    >>> data.y_train[:5]
    array([5, 0, 4, 1, 9], dtype=uint8)
    """
    return read_idx_folder(_MNIST_FOLDER)


def load(source: str | os.PathLike[str], target: str | None = None, classes: bool = False) -> Dataset:
    """Load a data set by name or from disk.

    Parameters
    ----------
    source : str or path-like
        - ``"mnist"``: the packaged MNIST; a folder of that name is reached as ``"./mnist"``.
        - A folder with the four IDX files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
          ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each plain or with ``.gz``; a dot may stand
          before ``idx``. MNIST, Fashion-MNIST and Kuzushiji-MNIST are distributed so.
        - ``folder/NAME``, or the folder if it holds no other set, for four files ``NAME-train-images-idx3-ubyte.gz``
          and so on, such as ``emnist-letters``; or ``NAME-train-imgs.npz`` and so on, such as ``kmnist`` and ``k49``.
          EMNIST's images, which are stored column by column, come row by row; labels of its letters, which are stored
          as 1 to 26, come as 0 to 25.
        - A file ``*.npz`` with the arrays ``x_train`` and ``y_train`` and, if there are test samples, ``x_test`` and
          ``y_test``.
        - A table ``*.csv`` or ``*.tsv`` in UTF-8: a header line with the names of the columns, then a line a sample,
          with commas, semicolons or tabs between the cells. Features are numbers (true and false are 1 and 0); targets
          are whole numbers, numbers, or texts, which are names of classes. If the first line holds numbers it is a
          sample, and the columns are called column1, column2, ...; unless a text in it stands over a column of numbers.
        - A table ``*.parquet``, without the index of a pandas frame (needs pyarrow, ``fastbp[frames]``).
        - A file ``*.h5`` or ``*.hdf5`` with arrays named as in an ``*.npz`` (needs h5py, ``fastbp[frames]``).
        - SVMlight text, ``*.svm``, ``*.svmlight`` or ``*.libsvm``: lines of a target and index:value of what is not
          zero. Indices count from 1, or from 0 if index 0 occurs. The samples become a dense array.
    target : str, optional
        For a table: the column that holds the targets; None: the last one. For ``*.npz`` and ``*.h5``: the array of
        the targets; the samples are then x_train, x or X, or the only other array.
    classes : bool
        For a ``*.csv`` or ``*.tsv``: whether any text among the targets makes them all names of classes; otherwise half
        of them must be text.

    Returns
    -------
    Dataset
        Samples flattened to (n_samples, n_features), with the stored dtype; float64 for text.

    Raises
    ------
    DataError
        If `source` is none of these, or its data are missing, damaged, not real numbers, or of shapes that do not
        fit together. Pickled objects are never loaded.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from fastbp.data import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "xor.npz")
    ...     np.savez(path, x_train=np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), y_train=np.array([0, 1, 1, 0]))
    ...     data = load(path)
    >>> data.x_train.shape, data.x_test
    ((4, 2), None)
    """
    path = _path(source)
    kind = path.suffix.lower()
    if target is not None and (_is_idx(path) or kind in SVMLIGHT):
        raise DataError(f"{path}: target {target!r} names a column of a table (.csv, .tsv, .parquet) or an array "
                        "(.npz, .h5), but this is neither")
    if _is_idx(path):
        return read_idx_folder(path)
    if kind in SVMLIGHT:
        return Dataset(*stores.whole(SVMlight(path, keep=True)), None, None)
    if kind in _ARRAYS:
        return npz.read(path, target, _ARRAYS[kind])
    return stores.read_parquet(path, target) if kind == ".parquet" else read_table(path, target, classes)


def load_samples(source: str | os.PathLike[str], n_features: int | None = None, features: Sequence[str] | None = None,
                 target: str | None = None, classes: Sequence[str] | None = None
                 ) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Load samples to predict, with or without targets.

    Parameters
    ----------
    source : str or path-like
        As for `load`, but it may hold less: the test samples, or if there are none the training samples. An ``*.npz``
        or ``*.h5`` may also call them ``x`` or ``X``, and their targets ``y``.
    n_features : int, optional
        For a table, without `features` and `target`: if it has more columns, the last one holds the targets. For
        SVMlight text: the number of columns, of which the last may not occur.
    features : sequence of str, optional
        For a table: names of the columns to take, in this order; others are left out.
    target : str, optional
        For a table, ``*.npz`` or ``*.h5``: the column or array that holds the targets, if it exists.
    classes : sequence of str, optional
        For a table, with `features` and without `target`: names of classes. If only one column is not a feature, and it
        holds nothing but these names, it holds the targets.

    Returns
    -------
    x : ndarray (n_samples, n_features)
    y : ndarray or None
        Targets, if the source has them.

    Raises
    ------
    DataError
        See `load`.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastbp.data import load_samples
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "new.csv")
    ...     with open(path, "w") as file:
    ...         _ = file.write("width,height\\n3,4\\n5,6\\n")
    ...     load_samples(path, features=["height", "width"])
    (array([[4., 3.],
           [6., 5.]]), None)
    """
    path = _path(source)
    if _is_idx(path):
        return read_idx_samples(path)
    kind = path.suffix.lower()
    if kind in SVMLIGHT:
        return stores.whole(SVMlight(path, n_features, keep=True))
    if kind in _ARRAYS:
        return npz.read_samples(path, target, _ARRAYS[kind])
    read = stores.read_parquet_samples if kind == ".parquet" else read_table_samples
    return read(path, n_features, features, target, classes)


def files(source: str | os.PathLike[str]) -> list[Path]:
    """Return the existing files of a source."""
    path = _path(source)
    return list(files_of(path).values()) if _is_idx(path) else [path]


def _path(source: str | os.PathLike[str]) -> Path:
    """Return the path of a folder, of a set in a folder, or of a file that can be read; else raise DataError."""
    if isinstance(source, str | os.PathLike):
        path = _MNIST_FOLDER if source == "mnist" else Path(source)
        if path.is_dir() or not _is_idx(path) or files_of(path):
            return path
    raise DataError(
        f'{source}: not a data source that fastbp can load; expected "mnist", a folder with the four IDX files of a '
        "data set, a table as .csv, .tsv or .parquet, arrays as .npz or .h5, or SVMlight text as .svm"
    )


def _is_idx(path: Path) -> bool:
    """Whether a path names a folder of images and labels, or one of the sets in such a folder."""
    return path.is_dir() or path.suffix.lower() not in (*_TABLES, *_ARRAYS, *SVMLIGHT)


def is_table(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a table, by its name."""
    return Path(source).suffix.lower() in _TABLES
