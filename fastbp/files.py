"""Files written whole or not at all, and locked; safetensors read and written."""

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

PREFIX = ".fastbp."  # of what is being written
KEY = "fastbp"  # the only key of the metadata: safetensors writes several in an order that changes from save to save


def check_folder(path: str | os.PathLike[str]) -> Path:
    """`path`, if a file can be put there: FileNotFoundError or IsADirectoryError otherwise."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: there is no folder {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {target}: it is a folder")
    if not _is_device(target) and not os.access(target.parent, os.W_OK):
        raise PermissionError(f"cannot write {target}: the folder may not be written to")
    return target


def _is_device(path: Path) -> bool:
    """Whether it is there and no file: a device, or a pipe."""
    return path.exists() and not path.is_file()


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Have an OSError from within name `path`, whatever file beside it the system call was for."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # of the system, not a text of Python's own
            error.filename = os.fspath(path)
            del error.filename2
        raise


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`; whatever fails on the way, an old file there stays whole.

    Written beside it, flushed to the disk, then renamed; a link is followed. A device or a pipe is written to, not
    replaced.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    OSError
        The disk is full, or the folder may not be written.
    """
    target = check_folder(path)
    with naming(path):
        if _is_device(target):  # whose real path, of /dev/stdout into a pipe, say, need not be there
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
    """Permissions for the new file: the old one's, or what a plain open would give (mkstemp gives 0600)."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def strict(value: Any) -> Any:
    """Return `value` with None in place of each NaN or infinite number, which JSON does not know."""
    if isinstance(value, Mapping):
        return {name: strict(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, npt.NDArray[Any]],
                  metadata: dict[str, str]) -> None:
    """`write_whole` of a safetensors file; equal tensors and metadata give equal bytes."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_whole(path, save(whole, metadata={KEY: json.dumps(metadata, sort_keys=True)}))


def read_tensors(path: str | os.PathLike[str], wanted: Container[str | None],
                 ) -> tuple[dict[str, str], dict[str, npt.NDArray[Any]]]:
    """Metadata and tensors of a safetensors file; no tensors, if its metadata name a format that is not `wanted`.

    Raises FileNotFoundError where there is no file, ValueError where it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = _metadata(file.metadata() or {})
            names = file.keys() if metadata.get("format") in wanted else ()
            return metadata, {name: file.get_tensor(name) for name in names}
    # A type that NumPy lacks is one of the latter two; metadata that are no JSON, a ValueError.
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)} is not a whole safetensors file: {error}") from None


def _metadata(found: dict[str, str]) -> dict[str, str]:
    """What `write_tensors` was given: of older files, each key by itself."""
    if KEY not in found:
        return found
    metadata = json.loads(found[KEY])
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"its metadata {KEY!r} are not texts by name")
    return metadata


_locked: weakref.WeakSet[io.FileIO] = weakref.WeakSet()


def lock(path: str | os.PathLike[str]) -> io.FileIO | None:
    """Lock the file at `path`, which is made if there is none, until the returned file is closed or the process ends.

    Returns None where no lock is to be had: in a folder that may not be written, or on a system without locks.

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
        """A forked child would hold its parent's locks on, after the parent has ended."""
        for file in list(_locked):
            file.close()

    os.register_at_fork(after_in_child=_close_locked)
