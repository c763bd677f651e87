"""The IDX format: two zero bytes, a type code, the number of dimensions, each dimension, then the elements."""

import contextlib
import gzip
import io
import math
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import ahead
from fastbp.data.dataset import DataError, Dataset, build_dataset, checked_samples
from fastbp.data.npz import NAMES, read_arrays

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_GZIP_MAGIC = b"\x1f\x8b"
# Largest expansion by deflate: 258 bytes from two bits.
_DEFLATE_RATIO = 1032
# MNIST's training images: 130 ms with pieces of 64 KiB to 1 MiB, and no second copy of the 47 MB.
_PIECE = 1 << 18

# Of MNIST's form, as t10k-images-idx3-ubyte.gz, and with the name of a set, as emnist-letters-test-images-idx3-ubyte
# and kmnist-test-imgs.npz.
_FILE = re.compile(r"(?:(?P<set>.+)-)?(?P<part>train|t10k|test)-"
                   r"(?P<what>images[-.]idx3-ubyte|labels[-.]idx1-ubyte|imgs|labels)(?:(?<=ubyte)(?:\.gz)?|\.npz)")
_EMNIST = (28, 28)


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read one IDX file, plain or compressed with gzip.

    The first two bytes tell whether the file is compressed; its name does not matter.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ndarray
        Shape and element type as the header says (uint8, int8, int16, int32, float32 or float64), in native byte
        order, C-contiguous.

    Raises
    ------
    DataError
        If the file is missing, empty, truncated, damaged, not IDX, or longer than its header says. Memory is only
        allocated for sizes that the file can hold, and at most one byte is read past the promised end.

    References
    ----------
    Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits", section "The IDX file
    format", http://yann.lecun.com/exdb/mnist/

    Examples
    --------
    >>> import os, tempfile
    >>> from fastbp.data import read_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "three-bytes.idx")
    ...     with open(path, "wb") as file:
    ...         _ = file.write(bytes([0, 0, 0x08, 1, 0, 0, 0, 3, 5, 6, 7]))
    ...     read_idx(path)
    array([5, 6, 7], dtype=uint8)
    """
    path = Path(path)
    try:
        unpacked = ahead.unpacked(path)
        if unpacked is not None:
            return _read_array(io.BytesIO(unpacked), path, most=len(unpacked))
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not file.peek(2).startswith(_GZIP_MAGIC):
                return _read_array(file, path, most=size)
            with gzip.GzipFile(fileobj=file) as stream:
                return _read_array(stream, path, most=size * _DEFLATE_RATIO)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip stream is truncated or damaged ({error}); expected a whole one") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected an IDX file, plain or gzip") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected an IDX file, plain or gzip") from error


def read_idx_folder(source: Path) -> Dataset:
    """Read the four files that make up a data set; see `files_of`."""
    chosen, found = _set_of(source)
    missing = [_name(chosen, name, found) for name in NAMES if name not in found]
    if missing:
        raise DataError(
            f"{source}: found {len(found)} of the four IDX files of a data set, without {', '.join(missing)}; "
            "expected all four, each plain or with .gz"
        )
    dataset = build_dataset({name: _read(found[name]) for name in NAMES}, source)
    if dataset.x_train.dtype == np.uint8:
        dataset.input_scale = 1 / 255
    return dataset


def read_idx_samples(source: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Read the test images of such a folder, or else its training images; and their labels, if there are any."""
    chosen, found = _set_of(source)
    part = next((part for part in ("test", "train") if f"x_{part}" in found), None)
    if part is None:
        names = " nor ".join(_name(chosen, name, found) for name in ("x_test", "x_train"))
        raise DataError(f"{source}: found neither {names}; expected one of them, plain or with .gz")
    arrays = {name: _read(found[name]) for name in (f"x_{part}", f"y_{part}") if name in found}
    return checked_samples(arrays, f"x_{part}", f"y_{part}" if f"y_{part}" in arrays else None, source)


def files_of(source: Path) -> dict[str, Path]:
    """Return the paths of the four files that exist, by the names of their arrays.

    source: a folder with one data set, or folder/NAME for the set whose files' names begin with NAME.
    """
    return _set_of(source)[1]


def _set_of(source: Path) -> tuple[str, dict[str, Path]]:
    """Return the name of the data set, "" for MNIST's form, and its files."""
    folder = source if source.is_dir() else source.parent
    sets: dict[str, dict[str, Path]] = {}
    with contextlib.suppress(OSError):
        for file in sorted(folder.iterdir()):  # "-" comes before ".", and plain before .gz
            match = _FILE.fullmatch(file.name)
            if match and file.is_file():
                name = f"{'y' if match['what'].startswith('labels') else 'x'}_{match['part'].replace('t10k', 'test')}"
                sets.setdefault(match["set"] or "", {}).setdefault(name, file)
    if folder != source:
        return source.name, sets.get(source.name, {})
    if "" not in sets and len(sets) > 1:
        raise DataError(f"{folder}: holds the data sets {', '.join(sets)}; name one of them, as {folder / min(sets)}")
    chosen = "" if "" in sets or not sets else min(sets)
    return chosen, sets.get(chosen, {})


def _name(chosen: str, array: str, found: dict[str, Path]) -> str:
    """Return how the file of an array should be called."""
    images, part = array[0] == "x", array[2:]
    if any(file.suffix == ".npz" for file in found.values()):
        return f"{chosen}-{part}-{'imgs' if images else 'labels'}.npz"
    start = f"{chosen}-{part}" if chosen else part.replace("test", "t10k")
    return f"{start}-{'images-idx3' if images else 'labels-idx1'}-ubyte"


def _read(file: Path) -> npt.NDArray[Any]:
    """Read images (n, rows, columns) or labels (n,); EMNIST's upright, and labels of its letters from 0 on."""
    if file.suffix == ".npz":
        arrays, names = read_arrays(file, lambda names: names[:1])
        if not arrays:
            raise DataError(f"{file}: holds no array; expected one")
        return arrays[names[0]]
    array = read_idx(file)
    if file.name.startswith("emnist-letters") and "-labels" in file.name:
        if not array.all():
            raise DataError(f"{file}: has the label 0; expected labels of EMNIST's letters, which are 1 to 26")
        array -= 1
    elif file.name.startswith("emnist-") and "-images" in file.name:
        if array.shape[1:] != _EMNIST:
            raise DataError(f"{file}: has shape {array.shape}; expected images of EMNIST, (n, 28, 28)")
        for block in np.array_split(array, 1 + len(array) // 1000):  # without a second copy of all
            block[:] = block.swapaxes(1, 2).copy()
    return array


def _read_array(stream: io.BufferedIOBase, path: Path, most: int) -> npt.NDArray[Any]:
    """Read header and elements from `stream`, which cannot hold more than `most` bytes."""
    dtype, shape = _read_header(stream, path)
    expected = math.prod(shape) * dtype.itemsize
    promise = f"{expected} bytes of elements (dtype {dtype.name}, shape {shape})"
    if expected > most:
        raise DataError(f"{path}: expected {promise}, found a file that holds at most {most} bytes")
    try:
        array = np.empty(math.prod(shape), dtype).reshape(shape)
    except ValueError as error:
        raise DataError(f"{path}: expected dimensions that NumPy supports, found {len(shape)}: {shape}") from error

    elements = array.reshape(-1).view(np.uint8).data
    found = 0
    while found < expected:
        piece = stream.readinto(elements[found : found + _PIECE])
        if not piece:
            raise DataError(f"{path}: truncated: expected {promise}, found {found} bytes")
        found += piece
    # Reading past the end also makes gzip compare its checksum.
    if stream.read(1):
        raise DataError(f"{path}: trailing bytes: expected {promise}, found more than {expected} bytes")
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array


def _read_header(stream: io.BufferedIOBase, path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if not magic:
        raise DataError(f"{path}: empty, found 0 bytes; expected an IDX file")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        codes = ", ".join(f"{code:02x}" for code in _DTYPES)
        raise DataError(
            f"{path}: not an IDX file: starts with {magic.hex(' ')}; expected 00 00, a type code out of {codes}, "
            "and the number of dimensions"
        )
    ndim = magic[3]
    sizes = stream.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise DataError(
            f"{path}: truncated header: expected {4 * ndim} bytes for {ndim} dimensions, found {len(sizes)} bytes"
        )
    return _DTYPES[magic[2]], tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
