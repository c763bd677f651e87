"""Data sets as plain NumPy arrays: the packaged MNIST, IDX files, NPZ archives and tables (CSV)."""

from fastbp.data.dataset import DataError, Dataset
from fastbp.data.idx import read_idx
from fastbp.data.sources import load, load_samples, mnist

__all__ = ["DataError", "Dataset", "load", "load_samples", "mnist", "read_idx"]


def __dir__() -> list[str]:
    return __all__
