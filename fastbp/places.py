"""Where the command writes: checked before time is spent, and never onto what it reads or writes besides."""

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
        What a file is, for the message, and its path; None, and of outputs "-", for no file. An input may be several.
    folder : str, optional
        Where checkpoints are kept, whose files nothing else may be.

    Raises
    ------
    ValueError
        Two are the same file, by whatever names or links.
    FileNotFoundError, IsADirectoryError
        An output's folder is missing, or it is a folder.
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
    """Refuse a folder that cannot be made, if it is not there.

    Raises NotADirectoryError where it, or what it would be made in, is a file; PermissionError where it may not be
    written to.
    """
    if not path:
        return
    there = next(place for place in (Path(path), *Path(path).absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{what} {path}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{what} {path}: the folder {there} may not be written to")


def _same(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them is not there
        return os.path.realpath(path) == os.path.realpath(other)


def _is_checkpoint(path: Path, folder: Path) -> bool:
    own = path.name == checkpoint.LOCK or path.match(f"step-*{checkpoint.SUFFIX}*")
    return _same(path, folder) or (own and _same(path.parent, folder))
