"""Checkpoints: all that a fit needs to go on to the bit, in files of a folder, the newest whole one of which counts."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastbp.files import read_tensors, write_tensors
from fastbp.workspace import Array

FORMAT = "fastbp-checkpoint-1"
SUFFIX, DAMAGED = ".safetensors", ".damaged"
HASHED = 1 << 26  # bytes of an array that are looked at in telling data sets apart
State = tuple[dict[str, Array], dict[str, Any]]  # tensors; what JSON can hold


def files(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest last."""
    return sorted(folder.glob(f"step-*{SUFFIX}"))


def write(folder: Path, step: int, state: State, keep: int) -> Path:
    """Write a checkpoint of a fit that has made `step` steps, and remove all but the `keep` newest."""
    tensors, description = state
    text = json.dumps(description)
    path = folder / f"step-{step:012d}{SUFFIX}"
    write_tensors(path, tensors, {"format": FORMAT, "description": text, "checksum": _checksum(tensors, text)})
    for old in files(folder)[:-keep]:
        old.unlink()
    return path


def read_newest(folder: Path) -> tuple[Path, State] | None:
    """The newest whole checkpoint; those that are not whole are set aside, and a line on standard error says so.

    Raises ValueError where it is one of another format.
    """
    for path in reversed(files(folder)):
        try:
            metadata, tensors = read_tensors(path, (FORMAT,))
            text, known = metadata.get("description", ""), metadata.get("format") == FORMAT
            if known and metadata.get("checksum") != _checksum(tensors, text):
                raise ValueError(f"{path} is damaged: its checksum is not that of what it holds")
        except ValueError as error:
            aside = path.with_name(path.name + DAMAGED)
            os.replace(path, aside)
            print(f"fastbp: {error}; it is set aside as {aside.name}", file=sys.stderr)
            continue
        if not known:
            raise ValueError(f"{path} has the format {metadata.get('format')!r}, expected {FORMAT!r}")
        return path, (tensors, json.loads(text))
    return None


def _checksum(tensors: Mapping[str, Array], text: str) -> str:
    checksum = zlib.crc32(text.encode())
    for name in sorted(tensors):
        checksum = zlib.crc32(_bytes(tensors[name]), checksum)
    return f"{checksum:08x}"


def _bytes(array: Array) -> Any:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def fingerprint(*arrays: Array) -> str:
    """Of the contents of arrays; of large ones, of some of their samples, evenly spread."""
    checksum = 0
    for array in arrays:
        rows = max(1, HASHED * len(array) // max(1, array.nbytes))
        checksum = zlib.crc32(f"{array.dtype} {array.shape}".encode(), checksum)
        checksum = zlib.crc32(_bytes(array[:: -(-len(array) // rows) or 1]), checksum)
    return f"{checksum:08x}"


def check_same(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise ValueError where the settings of a checkpoint are not those of this fit, saying what differs."""
    here = json.loads(json.dumps(here))
    differ = [name for name in {**here, **there} if there.get(name) != here.get(name)]
    if differ:
        what = "; ".join(f"{name} is {there.get(name)!r} there, {here.get(name)!r} here" for name in differ)
        raise ValueError(f"{path} is of another fit: {what}")
