"""Files written whole or not at all; safetensors read and written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PREFIX = ".fastbp."  # of what is being written


def check_folder(path: str | os.PathLike[str]) -> Path:
    """`path`, if a file can be put there: FileNotFoundError or IsADirectoryError otherwise."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: there is no folder {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {target}: it is a folder")
    return target


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
    target = Path(os.path.realpath(check_folder(path)))
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(content)
        else:
            _replace(target, content)
    except OSError as error:
        error.filename = os.fspath(path)  # the file asked for, whatever lies beside it
        raise


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


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, npt.NDArray[Any]],
                  metadata: dict[str, str]) -> None:
    """`write_whole` of a safetensors file."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_whole(path, save(whole, metadata=metadata))


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
            metadata = file.metadata() or {}
            names = file.keys() if metadata.get("format") in wanted else ()
            return metadata, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, TypeError, AttributeError) as error:  # the latter two: a type that NumPy lacks
        raise ValueError(f"{os.fspath(path)} is not a whole safetensors file: {error}") from None
