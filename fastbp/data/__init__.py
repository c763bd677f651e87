"""Data sets as plain NumPy arrays: the packaged MNIST, and files of many formats, whole or in batches; scaled columns,
and samples held out."""

from fastbp.data.augmentation import Augmentation
from fastbp.data.batching import batches
from fastbp.data.dataset import DataError, Dataset
from fastbp.data.idx import read_idx
from fastbp.data.scaling import Standardizer
from fastbp.data.sources import load, load_samples, mnist
from fastbp.data.splitting import k_fold, split

__all__ = ["Augmentation", "DataError", "Dataset", "Standardizer", "batches", "k_fold", "load", "load_samples", "mnist",
           "read_idx", "split"]


def __dir__() -> list[str]:
    return __all__
