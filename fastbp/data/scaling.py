"""Columns of mean 0 and standard deviation 1: `Standardizer`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import counted
from fastbp.figures import columns_of
from fastbp.frames import BLOCK, Frame, array_of, check_finite, is_frame
from fastbp.names import names_and_order

Array = npt.NDArray[Any]


class Standardizer:
    """Subtracts from each column its mean, and divides it by its standard deviation.

    Both are those of the training samples, in test samples too. A column that is constant in the training samples
    teaches nothing, so it becomes 0 in all samples, also where it varies later.

    Attributes
    ----------
    mean, std : ndarray (n_columns,), float64, or None before `fit`
        Of each column; std, with divisor n, is 0 exactly for constant columns. They can be stored, and assigned to a
        new Standardizer.
    features : tuple of str or None
        Names of the columns, for `network.feature_names`, if `fit` was given a frame. Later frames may have the same
        columns in another order.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.data import Standardizer
    >>> x_train = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> scale = Standardizer().fit(x_train)
    >>> scale.transform(x_train)
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> scale.transform([[4.0, 6.0]])
    array([[2., 0.]])
    >>> scale.mean, scale.std
    (array([2., 5.]), array([1., 0.]))
    """

    mean: Array | None = None
    std: Array | None = None
    features: tuple[str, ...] | None = None

    def fit(self, X: npt.ArrayLike) -> Standardizer:
        """Learn the means and standard deviations of columns; computed in float64.

        Parameters
        ----------
        X : array-like (n, n_columns), or (n,) for one column
            Training samples, or targets that are values; frames are taken, too.

        Returns
        -------
        Standardizer
            Itself.

        Raises
        ------
        TypeError, ValueError
            X has no rows, or values that are missing, not finite or no numbers; or a column spans so much, or so
            little, that its standard deviation is no float64.

        Examples
        --------
        >>> from fastbp.data import Standardizer
        >>> Standardizer().fit([1.0, 2.0, 3.0]).mean
        array([2.])
        """
        array, features = _rows(X, None)
        if array.size == 0:
            raise ValueError(f"X has shape {array.shape}; expected at least one row and one column")
        columns = columns_of(array.reshape(len(array), -1))
        constant = columns.low == columns.high
        lost = ~constant & ((columns.std == 0) | ~np.isfinite(columns.std))
        if lost.any():
            j = int(np.argmax(lost))
            raise ValueError(f"X: column {j} spans {columns.low[j]:.3g} to {columns.high[j]:.3g}, and its standard "
                             "deviation is too small or too large for float64: multiply it by a number first")
        self.mean = np.where(constant, columns.low, columns.mean)
        self.std = np.where(constant, 0.0, columns.std)
        self.features = features
        return self

    def transform(self, X: npt.ArrayLike) -> Array:
        """Return X with each column standardised.

        Parameters
        ----------
        X : array-like (n, n_columns), or (n,) for one column
            Training, test or new samples, on the scale of those of `fit`.

        Returns
        -------
        ndarray, as X
            float32 for bytes and float32, else float64.

        Raises
        ------
        TypeError, ValueError
            `fit` was not called, the columns are others than its, or values are missing, not finite or no numbers.

        Examples
        --------
        >>> from fastbp.data import Standardizer
        >>> Standardizer().fit([1.0, 3.0]).transform([1.0, 2.0, 5.0])
        array([-1.,  0.,  3.])
        """
        array, mean, std = self._checked(X)
        divisor = np.where(std > 0, std, np.inf)
        small = array.dtype in (np.uint8, np.float32)
        made = np.empty(array.shape, np.float32 if small else np.float64)
        rows = max(1, BLOCK // len(mean))
        for first in range(0, len(array), rows):
            block = array[first : first + rows]
            made[first : first + rows] = ((block.reshape(len(block), -1) - mean) / divisor).reshape(block.shape)
        return made

    def inverse_transform(self, X: npt.ArrayLike) -> Array:
        """Return what `transform` has made X of: predictions on the scale of the targets, for instance.

        Parameters
        ----------
        X : array-like (n, n_columns), or (n,) for one column

        Returns
        -------
        ndarray, as X, float64
            Constant columns have their constant.

        Raises
        ------
        TypeError, ValueError
            As `transform`.

        Examples
        --------
        >>> from fastbp.data import Standardizer
        >>> Standardizer().fit([1.0, 3.0]).inverse_transform([0.0, 3.0])
        array([2., 5.])
        """
        array, mean, std = self._checked(X)
        return np.asarray(array.reshape(-1, len(mean)) * std + mean).reshape(array.shape)

    def _checked(self, X: npt.ArrayLike) -> tuple[Array, Array, Array]:
        """Return X as an array, the means and the standard deviations."""
        if self.mean is None or self.std is None:
            raise ValueError("this Standardizer has no mean and no std yet: call fit with the training samples first")
        array, _ = _rows(X, self.features)
        n_columns = 1 if array.ndim == 1 else array.shape[1]
        if n_columns != len(self.mean):
            raise ValueError(f"X has shape {array.shape}, and fit had {counted(len(self.mean), 'column')}")
        return array, self.mean, self.std


def _rows(X: npt.ArrayLike, known: tuple[str, ...] | None) -> tuple[Array, tuple[str, ...] | None]:
    """Return X (n, n_columns) or (n,), all numbers finite, and the names of its columns.

    known: names that the columns of a frame must have, and their order.
    """
    names, labels = None, None
    if is_frame(X):
        names, order = names_and_order(Frame(X), known, "X")
        frame = Frame(X, order)
        array, labels = frame.numbers("X"), frame.labels
    else:
        array = array_of(X, "X")
    if array.ndim not in (1, 2):
        raise ValueError(f"X must have shape (n, n_columns), or (n,) for one column, got {array.shape}")
    check_finite(array if array.ndim == 2 else array[:, np.newaxis], np.dtype(np.float64), "X", labels, X)
    return array, names
