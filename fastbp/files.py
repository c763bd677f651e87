"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


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
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=".fastbp.")
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
