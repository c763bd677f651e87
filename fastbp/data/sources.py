"""From the name of a data set to its arrays."""

import os
from pathlib import Path

from fastbp.data.dataset import DataError, Dataset
from fastbp.data.idx import read_idx_folder
from fastbp.data.npz import read_npz

_MNIST_FOLDER = Path(__file__).parent / "mnist"


def mnist() -> Dataset:
    """Return MNIST: 60,000 training and 10,000 test images of handwritten digits, from files that come with fastbp.

    Returns
    -------
    Dataset
        Images as uint8 of shape (n, 784), row by row, 0 (paper) to 255 (ink), so with an input_scale of 1/255; labels 0
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


def load(source: str | os.PathLike[str]) -> Dataset:
    """Load a data set by name or from disk.

    Parameters
    ----------
    source : str or path-like
        - ``"mnist"``: the packaged MNIST; a folder of that name is reached as ``"./mnist"``.
        - A folder with the four IDX files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
          ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each plain or with ``.gz``; a dot may stand
          before ``idx``.
        - A file ``*.npz`` with the arrays ``x_train`` and ``y_train`` and, if there are test samples, ``x_test`` and
          ``y_test``.

    Returns
    -------
    Dataset
        Samples flattened to (n_samples, n_features), of the dtype in which they are stored.

    Raises
    ------
    DataError
        If `source` is none of these, or what it holds is missing, damaged, not made of real numbers, or of shapes
        that do not fit together. Pickled objects are never loaded.

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
    if isinstance(source, str | os.PathLike):
        if source == "mnist":
            return mnist()
        path = Path(source)
        if path.is_dir():
            return read_idx_folder(path)
        if path.suffix.lower() == ".npz":
            return read_npz(path)
    raise DataError(
        f'{source}: not a data source that fastbp can load; expected "mnist", a folder with the four IDX files of a '
        "data set, or an .npz file"
    )
