"""Data sets as plain NumPy arrays: the packaged MNIST, and files of many formats, whole or in batches."""

from fastbp.data.augmentation import Augmentation
from fastbp.data.batching import batches
from fastbp.data.dataset import DataError, Dataset
from fastbp.data.idx import read_idx
from fastbp.data.sources import load, load_samples, mnist

__all__ = ["Augmentation", "DataError", "Dataset", "batches", "load", "load_samples", "mnist", "read_idx"]


def __dir__() -> list[str]:
    return __all__
