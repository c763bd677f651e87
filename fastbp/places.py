"""Checks of the files that the command writes, before the run: no output overwrites an input or another output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fastbp import checkpoint
from fastbp.files import check_folder

STANDARD_OUTPUT = "-"


def check_places(inputs: Mapping[str, str | os.PathLike[str] | Iterable[Path] | None],
                 outputs: Mapping[str, str | os.PathLike[str] | None], folder: str | None = None) -> None:
    """Refuse outputs that cannot be written, or are an input or another output.

    Parameters
    ----------
    inputs, outputs : dict
        What a file is, for the message, and its path; None, or "-" for an output, means no file. An input may be
        several files.
    folder : str, optional
        Folder of the checkpoints, whose files no output may overwrite.

    Raises
    ------
    ValueError
        Two paths are the same file, whatever their names or links.
    FileNotFoundError, IsADirectoryError
        The folder of an output is missing, or an output is a folder.
    """
    taken = [(what, Path(path)) for what, paths in inputs.items() if paths is not None
             for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    printed = [what for what, path in outputs.items() if path == STANDARD_OUTPUT]
    if len(printed) > 1:
        raise ValueError(f"{' and '.join(printed)} cannot both be standard output; name a file for one of them")
    for what, path in outputs.items():
        if path is None or path == STANDARD_OUTPUT:
            continue
        target = check_folder(path)
        if folder is not None and _is_checkpoint(target, Path(folder)):
            raise ValueError(f"{what} {target} is kept for checkpoints by --checkpoint {folder}; name another file")
        if target.exists() and not target.is_file():  # a device or a pipe is written to, not replaced
            continue
        for other, used in taken:
            if _same(target, used):
                raise ValueError(f"{what} {target} is the same file as {other} {used}; name another one")
        taken.append((what, target))


def check_folder_to_make(what: str, path: str | None) -> None:
    """Refuse a folder that does not exist and cannot be made.

    Raises NotADirectoryError if it, or its parent, is a file; PermissionError if the folder is not writable.
    """
    if not path:
        return
    there = next(place for place in (Path(path), *Path(path).absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{what} {path}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{what} {path}: the folder {there} is not writable")


def _same(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them does not exist
        return os.path.realpath(path) == os.path.realpath(other)


def _is_checkpoint(path: Path, folder: Path) -> bool:
    own = path.name == checkpoint.LOCK or path.match(f"step-*{checkpoint.SUFFIX}*")
    return _same(path, folder) or (own and _same(path.parent, folder))
