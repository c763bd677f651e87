"""Data sets as plain NumPy arrays: the packaged MNIST, IDX files and NPZ archives."""

from fastbp.data.dataset import DataError, Dataset
from fastbp.data.idx import read_idx
from fastbp.data.sources import load, mnist

__all__ = ["DataError", "Dataset", "load", "mnist", "read_idx"]
