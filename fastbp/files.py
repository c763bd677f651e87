"""Files written atomically, and locked; safetensors files read and written."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
import tempfile
import weakref
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PREFIX = ".fastbp."  # of files that are being written
KEY = "fastbp"  # the only key of the metadata: safetensors writes several keys in varying order


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Return `path` if a file can be written there; otherwise raise the OSError that says why not."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: there is no folder {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {target}: it is a folder")
    if not _is_device(target) and not os.access(target.parent, os.W_OK):
        raise PermissionError(f"cannot write {target}: the folder is not writable")
    return target


def _is_device(path: Path) -> bool:
    """Whether it exists and is not a regular file: a device, or a pipe."""
    return path.exists() and not path.is_file()


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make an OSError in this block name `path`, whatever temporary file the system call was for."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # raised by the system, not by Python code
            error.filename = os.fspath(path)
            del error.filename2
        raise


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`; if anything fails, an old file there stays intact.

    The content is written to a temporary file beside it, flushed to the disk, then renamed; links are followed. A
    device or a pipe is written to, not replaced.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    OSError
        The disk is full, or the folder is not writable.
    """
    target = check_folder(path)
    with naming(path):
        if _is_device(target):  # its real path need not exist, as for /dev/stdout into a pipe
            target.write_bytes(content)
        else:
            _replace(Path(os.path.realpath(target)), content)


def _replace(target: Path, content: bytes) -> None:
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=PREFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, _mode(target))
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _mode(target: Path) -> int:
    """Return the permissions of the new file: those of the old one, or those that open() gives (not mkstemp's 0600)."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def strict(value: Any) -> Any:
    """Return `value` with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: strict(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, npt.NDArray[Any]],
                  metadata: dict[str, str]) -> None:
    """Write a safetensors file by `write_whole`; equal tensors and metadata give equal bytes."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_whole(path, save(whole, metadata={KEY: json.dumps(metadata, sort_keys=True)}))


def read_tensors(path: str | os.PathLike[str], wanted: Container[str | None],
                 ) -> tuple[dict[str, str], dict[str, npt.NDArray[Any]]]:
    """Return metadata and tensors of a safetensors file; no tensors if its format is not in `wanted`.

    Raises FileNotFoundError if there is no file, ValueError if it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = _metadata(file.metadata() or {})
            names = file.keys() if metadata.get("format") in wanted else ()
            return metadata, {name: file.get_tensor(name) for name in names}
    # A type that NumPy lacks raises one of the latter two; metadata that are not JSON, a ValueError.
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)} is not a whole safetensors file: {error}") from None


def _metadata(found: dict[str, str]) -> dict[str, str]:
    """Return the metadata given to `write_tensors`; in older files each has a key of its own."""
    if KEY not in found:
        return found
    metadata = json.loads(found[KEY])
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"its metadata {KEY!r} are not texts by name")
    return metadata


_locked: weakref.WeakSet[io.FileIO] = weakref.WeakSet()


def lock(path: str | os.PathLike[str]) -> io.FileIO | None:
    """Lock the file at `path`, creating it if needed, until the returned file is closed or the process ends.

    Returns None if no lock is possible: in a folder that is not writable, or on a system without locks.

    Raises
    ------
    BlockingIOError
        Another process, or another thread of this one, holds the lock.
    """
    try:
        file = io.FileIO(path, "ab")
    except OSError:
        return None
    try:
        _lock(file.fileno())
    except OSError as error:
        file.close()
        if isinstance(error, (BlockingIOError, PermissionError)):
            raise BlockingIOError(f"{os.fspath(path)} is locked") from None
        return None
    _locked.add(file)
    return file


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _close_locked() -> None:
        """Close locked files in a forked child: it would keep the locks after its parent has ended."""
        for file in list(_locked):
            file.close()

    os.register_at_fork(after_in_child=_close_locked)
