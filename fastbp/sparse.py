"""Sparse samples: rows of stored entries (CSR), from SciPy's sparse arrays and matrices; SciPy is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.core.samples import KINDS, SPARSE, Samples, address_of_array

Array = npt.NDArray[Any]


def is_sparse(x: Any) -> bool:
    """Whether x is a sparse array or matrix of SciPy, or Rows."""
    return isinstance(x, Rows) or (hasattr(x, "toarray") and hasattr(x, "nnz"))


class Rows:
    """Samples of which only the entries are stored that may differ from 0, as the kernels read them.

    Parameters
    ----------
    begins : ndarray (n + 1,), int64
        Where the entries of each sample begin; last, where those of the last one end.
    indices : ndarray (entries,), int32
        The feature of each entry.
    values : ndarray (entries,), uint8, float32 or float64
    n_features : int
    """

    ndim = 2

    def __init__(self, begins: Array, indices: Array, values: Array, n_features: int):
        self.begins, self.indices, self.values = begins, indices, values
        self.shape, self.dtype = (len(begins) - 1, n_features), values.dtype
        self._most: dict[int, int] = {}

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return len(self.values)

    @property
    def parts(self) -> tuple[Array, Array, Array]:
        """Return the arrays that hold the samples."""
        return self.begins, self.indices, self.values

    def __getitem__(self, chosen: Array | slice) -> Rows:
        """Return a copy of the samples with these indices, or of a slice."""
        chosen = np.arange(len(self))[chosen]
        lengths = np.diff(self.begins)[chosen]
        begins = np.concatenate([[0], np.cumsum(lengths)])
        entries = np.repeat(self.begins[chosen] - begins[:-1], lengths) + np.arange(begins[-1])
        return Rows(begins, self.indices[entries], self.values[entries], self.shape[1])

    def toarray(self) -> Array:
        """Return the samples as an array (n, n_features); values of the same entry are added."""
        whole = np.zeros(self.shape, self.dtype)
        np.add.at(whole, (np.repeat(np.arange(len(self)), np.diff(self.begins)), self.indices), self.values)
        return whole

    def tocsr(self) -> Any:
        """Return a csr_array of SciPy that shares the memory."""
        from scipy.sparse import csr_array

        return csr_array((self.values, self.indices, self.begins), self.shape)

    def astype(self, dtype: npt.DTypeLike) -> Rows:
        """Return the same samples with values of this type."""
        return Rows(self.begins, self.indices, self.values.astype(dtype), self.shape[1])

    def check_finite(self, dtype: npt.DTypeLike, name: str) -> None:
        """Raise ValueError unless all values are finite, also as this type of floats."""
        if self.dtype.kind != "f":
            return
        good = np.isfinite(self.values) if self.dtype == dtype else np.abs(self.values) <= np.finfo(dtype).max
        if not good.all():
            k = int(np.argmin(good))
            row = int(np.searchsorted(self.begins, k, side="right")) - 1
            what = f" in {np.dtype(dtype)}" if np.isfinite(self.values[k]) else ""
            raise ValueError(f"{name} must be finite{what}: sample {row}, feature {self.indices[k]} is "
                             f"{self.values[k]}")

    def described(self, scale: float) -> Samples:
        """Return the description for the kernels."""
        begins, indices, values = map(address_of_array, self.parts)
        return Samples(begins, indices, values, SPARSE + KINDS[self.dtype], scale)

    def fits(self, scale: float, dtype: np.dtype[Any]) -> bool:
        """Whether values times a network's input_scale are within the range of its dtype."""
        return bool(np.abs(self.values).max(initial=0) * scale <= np.finfo(dtype).max)

    def most_entries(self, n: int) -> int:
        """Return the most entries that any `n` samples may have together."""
        if n not in self._most:
            lengths = np.sort(np.diff(self.begins))
            self._most[n] = int(lengths[max(0, len(lengths) - n) :].sum())
        return self._most[n]


def as_rows(x: Any, dtype: npt.DTypeLike, name: str) -> Rows:
    """Return checked Rows of a sparse array or matrix (n, n_features); without a copy, if it is CSR with 32-bit indices
    and values of a kind that the kernels read."""
    if isinstance(x, Rows):
        if x.dtype != dtype:  # otherwise its values were checked when it was made
            x.check_finite(dtype, name)
        return x
    if x.ndim != 2:
        raise ValueError(f"{name} must have 2 dimensions (samples, features), got shape {x.shape}")
    if x.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    if x.format in ("csc", "bsr"):
        x.check_format()
    x = x.tocsr()
    _check_structure(x, name)
    begins, values = np.ascontiguousarray(x.indptr, np.int64), x.data[: x.indptr[-1]]
    indices = np.ascontiguousarray(x.indices[: begins[-1]], np.int32)
    if not (values.dtype in KINDS and values.dtype.isnative and values.flags.c_contiguous and values.flags.aligned):
        values = values.astype(dtype)
    rows = Rows(begins, indices, values, x.shape[1])
    rows.check_finite(dtype, name)
    return rows


def _check_structure(x: Any, name: str) -> None:
    """Raise ValueError unless a CSR array describes rows of features."""
    n, n_features = x.shape
    if n_features > np.iinfo(np.int32).max:
        raise ValueError(f"{name} has {n_features} features, at most {np.iinfo(np.int32).max} are possible")
    begins, entries = x.indptr, min(len(x.indices), len(x.data))
    if len(begins) != n + 1 or begins[0] != 0 or begins[-1] > entries or (begins[1:] < begins[:-1]).any():
        raise ValueError(f"{name} is not a valid CSR array: its indptr must begin with 0, never fall, and end with at "
                         f"most the number of entries, {entries}")
    indices = x.indices[: begins[-1]]
    if len(indices) and (indices.min() < 0 or indices.max() >= n_features):
        wrong = (indices < 0) | (indices >= n_features)
        k = int(np.argmax(wrong))
        row = int(np.searchsorted(begins, k, side="right")) - 1
        raise ValueError(f"{name} is not a valid CSR array: sample {row} has an entry with index {indices[k]}, but "
                         f"there are {n_features} features")


def joined(parts: Sequence[Rows]) -> Rows:
    """Return samples one after the other."""
    lengths = np.concatenate([np.diff(part.begins) for part in parts])
    return Rows(np.concatenate([[0], np.cumsum(lengths)]), np.concatenate([part.indices for part in parts]),
                np.concatenate([part.values for part in parts]), parts[0].shape[1])
