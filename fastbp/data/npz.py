"""The NPZ format: a zip archive with one .npy member for each array."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.data.dataset import DataError, Dataset, build_dataset, checked_samples
from fastbp.data.table import known

NAMES = ("x_train", "y_train", "x_test", "y_test")
# Names of samples in a file and the matching names of targets; the first that exists counts.
_SAMPLES = {"x_test": ("y_test",), "x_train": ("y_train",), "x": ("y",), "X": ("y", "Y")}
_TRAINED = ("x_train", "x", "X")

# Returns the arrays that a function chooses of all names in a file, and these names.
Reader = Callable[[Path, Callable[[list[str]], list[str]]], tuple[dict[str, npt.NDArray[Any]], list[str]]]


def read(path: Path, target: str | None = None, arrays_of: Reader | None = None) -> Dataset:
    """Read a data set from an archive with the arrays x_train and y_train and, if there are any, x_test and y_test.

    target: the name of the targets, where they have another; see `pair`. arrays_of: a reader of another format."""
    arrays_of = arrays_of or read_arrays
    if target is not None:
        arrays, keys = arrays_of(path, lambda keys: pair(keys, target, path))
        return build_dataset(dict(zip(NAMES, arrays.values(), strict=False)), path)
    arrays, keys = arrays_of(path, lambda keys: [name for name in NAMES if name in keys])
    missing = [name for name in NAMES[:2] if name not in arrays]
    if missing:
        raise DataError(
            f"{path}: no {' and no '.join(missing)}; found the keys {', '.join(keys) or '(none)'}; "
            "expected x_train and y_train, and x_test with y_test if there are test samples; or name the targets"
        )
    return build_dataset(arrays, path)


def pair(keys: Sequence[str], target: str | None, path: Path) -> list[str]:
    """Return the names of the samples and of their targets: `target`, if given, and the samples are x_train, x or X, or
    the only other array."""
    if target is None:
        pairs = [[x, y] for x in _TRAINED for y in _SAMPLES[x] if x in keys and y in keys]
        if not pairs:
            raise DataError(f"{path}: found {', '.join(keys) or 'no arrays'}; expected x_train and y_train, x and y, "
                            "or X and y: name the targets if they are called otherwise")
        return pairs[0]
    others = [name for name in keys if name != known(target, keys, path, "array")]
    found = [name for name in _TRAINED if name in others][:1] or others
    if len(found) != 1:
        raise DataError(f"{path}: found {', '.join(others) or 'nothing'} beside {target}; expected the samples as "
                        "x_train, x or X, or as the only other array")
    return [found[0], target]


def read_samples(path: Path, target: str | None = None, arrays_of: Reader | None = None
                 ) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Read the test samples of an archive, or else its training samples, x or X; and their targets, if it has them.

    target, arrays_of: see `read`.
    """
    def choose(keys: list[str]) -> list[str]:
        return _names_of_samples(keys) if target is None or target not in keys else pair(keys, target, path)

    arrays, keys = (arrays_of or read_arrays)(path, choose)
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


def read_arrays(path: Path, choose: Callable[[list[str]], list[str]]) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
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
