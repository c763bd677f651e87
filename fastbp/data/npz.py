"""The NPZ format: a zip archive with one .npy member for each array."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.data.dataset import DataError, Dataset, build_dataset

_NAMES = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: Path) -> Dataset:
    """Read a data set from an archive with the arrays x_train and y_train and, if there are any, x_test and y_test."""
    try:
        arrays, keys = _read_members(path)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected an NPZ archive") from error
    # A damaged archive raises whatever zipfile, zlib, struct, tokenize or NumPy stumbles over first.
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an NPZ archive: {type(error).__name__}: {error}") from error
    missing = [name for name in _NAMES[:2] if name not in arrays]
    if missing:
        raise DataError(
            f"{path}: no {' and no '.join(missing)}; found the keys {', '.join(keys) or '(none)'}; "
            "expected x_train and y_train, and x_test with y_test if there are test samples"
        )
    return build_dataset(arrays, path)


def _read_members(path: Path) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """Return the arrays that a data set has, and the names of all that the archive holds."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        for name in _NAMES:
            if name not in keys:
                continue
            with archive.open(f"{name}.npy") as member:
                try:
                    # Never a pickle: reading one runs whatever code its author wrote.
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
                except ValueError as error:
                    raise DataError(
                        f"{path}: {name} is no array that can be read safely ({error}); expected real numbers"
                    ) from error
                # NumPy stops where the array ends, and zipfile compares the checksum only at the member's end.
                if member.read(1):
                    raise DataError(f"{path}: {name} has bytes after its {arrays[name].nbytes} bytes of elements")
    return arrays, keys
