"""The NPZ format: a zip archive with one .npy member for each array."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.data.dataset import DataError, Dataset, build_dataset, checked_samples

_NAMES = ("x_train", "y_train", "x_test", "y_test")
# Names of samples in a file and the matching names of targets; the first that exists counts.
_SAMPLES = {"x_test": ("y_test",), "x_train": ("y_train",), "x": ("y",), "X": ("y", "Y")}


def read_npz(path: Path) -> Dataset:
    """Read a data set from an archive with the arrays x_train and y_train and, if there are any, x_test and y_test."""
    arrays, keys = _read(path, lambda keys: [name for name in _NAMES if name in keys])
    missing = [name for name in _NAMES[:2] if name not in arrays]
    if missing:
        raise DataError(
            f"{path}: no {' and no '.join(missing)}; found the keys {', '.join(keys) or '(none)'}; "
            "expected x_train and y_train, and x_test with y_test if there are test samples"
        )
    return build_dataset(arrays, path)


def read_samples(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Read the test samples of an archive, or else its training samples, x or X; and their targets, if it has them."""
    arrays, keys = _read(path, _names_of_samples)
    if not arrays:
        raise DataError(f"{path}: found the keys {', '.join(keys) or '(none)'}; expected {', '.join(_SAMPLES)}")
    x_name, y_name = (*arrays, None)[:2]
    assert x_name is not None
    return checked_samples(arrays, x_name, y_name, path)


def _names_of_samples(keys: list[str]) -> list[str]:
    """Return the names of the samples and, if there are any, of their targets."""
    for x_name, y_names in _SAMPLES.items():
        if x_name in keys:
            return [x_name, *[y_name for y_name in y_names if y_name in keys][:1]]
    return []


def _read(path: Path, choose: Callable[[list[str]], list[str]]) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """Return the arrays of an archive that `choose` selects by name, and the names of all its arrays."""
    try:
        return _read_members(path, choose)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected an NPZ archive") from error
    # A damaged archive can raise any error of zipfile, zlib, struct, tokenize or NumPy.
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an NPZ archive: {type(error).__name__}: {error}") from error


def _read_members(
    path: Path, choose: Callable[[list[str]], list[str]]
) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        for name in choose(keys):
            with archive.open(f"{name}.npy") as member:
                try:
                    # Never a pickle: reading one can run arbitrary code.
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
                except ValueError as error:
                    raise DataError(
                        f"{path}: {name} is not an array that can be read safely ({error}); expected real numbers"
                    ) from error
                # NumPy stops where the array ends, and zipfile compares the checksum only at the member's end.
                if member.read(1):
                    raise DataError(f"{path}: {name} has bytes after its {arrays[name].nbytes} bytes of elements")
    return arrays, keys
