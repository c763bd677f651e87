"""Checkpoints: files with all that a fit needs to be resumed to the bit. The newest undamaged file counts."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastbp import files as _files
from fastbp.files import read_tensors, write_tensors
from fastbp.losses import Custom, Loss
from fastbp.schedules import Function, Schedule, factors_of
from fastbp.workspace import Array

LOG = logging.getLogger("fastbp")
FORMAT = "fastbp-checkpoint-2"
SUFFIX, DAMAGED, LOCK = ".safetensors", ".damaged", ".lock"
HASHED = 1 << 30  # bytes of an array that are compared to tell data sets apart: takes half a second
STEPS = 1000  # largest number of steps at which two schedule functions are compared
State = tuple[dict[str, Array], dict[str, Any]]  # tensors; values that JSON can hold


def files(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest last."""
    return sorted(folder.glob(f"step-*{SUFFIX}"))


def lock(folder: Path) -> io.FileIO | None:
    """Create the folder and lock it against other fits, until the returned file is closed or the process ends.

    Raises BlockingIOError if another fit holds the lock, NotADirectoryError if the path is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; checkpoints need a folder of their own")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _files.lock(folder / LOCK)
    except BlockingIOError:
        raise BlockingIOError(f"another fit is writing checkpoints in {folder}; wait for its end or name another "
                              "folder") from None


def write(folder: Path, step: int, state: State, keep: int) -> Path:
    """Write a checkpoint of a fit that has made `step` steps, and remove all but the `keep` newest."""
    tensors, description = state
    text = json.dumps(description)
    path = folder / f"step-{step:012d}{SUFFIX}"
    write_tensors(path, tensors, {"format": FORMAT, "description": text, "checksum": _checksum(tensors, text)})
    for old in files(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def read_newest(folder: Path) -> tuple[Path, State] | None:
    """Return the newest undamaged checkpoint; damaged ones are set aside, with a warning in the log.

    Raises ValueError if it has another format.
    """
    for path in reversed(files(folder)):
        try:
            metadata, tensors = read_tensors(path, (FORMAT,))
            text, found = metadata.get("description", ""), metadata.get("format", "")
            if found == FORMAT and metadata.get("checksum") != _checksum(tensors, text):
                raise ValueError(f"{path} is damaged: its checksum does not match its content")
            if not found.startswith(FORMAT.rstrip("0123456789")):
                raise ValueError(f"{path} is damaged: it is not marked as a checkpoint")
        except ValueError as error:
            aside = path.with_name(path.name + DAMAGED)
            os.replace(path, aside)
            LOG.warning("%s; it is set aside as %s", error, aside.name)
            continue
        if found != FORMAT:
            raise ValueError(f"{path} has the format {found!r}, expected {FORMAT!r}; name another folder, or remove it")
        return path, (tensors, json.loads(text))
    return None


def _checksum(tensors: Mapping[str, Array], text: str) -> str:
    checksum = zlib.crc32(text.encode())
    for name in sorted(tensors):
        kind = f"{name} {tensors[name].dtype} {tensors[name].shape}"
        checksum = zlib.crc32(_bytes(tensors[name]), zlib.crc32(kind.encode(), checksum))
    return f"{checksum:08x}"


def _bytes(array: Array) -> Any:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def fingerprint(*arrays: Array) -> str:
    """Return a checksum of the contents of arrays; of large ones, of evenly spread samples."""
    checksum = 0
    for array in arrays:
        rows = max(1, HASHED * len(array) // max(1, array.nbytes))
        checksum = zlib.crc32(f"{array.dtype} {array.shape}".encode(), checksum)
        checksum = zlib.crc32(_bytes(array[:: -(-len(array) // rows) or 1]), checksum)
    return f"{checksum:08x}"


def name_of_schedule(schedule: Schedule | Function | None, steps: int) -> str:
    """Return text that identifies a schedule in a fit of `steps` steps: its settings; for a function, its factors."""
    if schedule is None or _is_of_settings(schedule):
        return repr(schedule)
    step = np.linspace(0, steps - 1, min(steps, STEPS)).astype(np.int64)
    try:
        return f"a function with factors of fingerprint {fingerprint(factors_of(schedule, step, steps))}"
    except Exception:  # the user's function: fit reports what is wrong with it
        return without_address(schedule)


def _is_of_settings(schedule: object) -> bool:
    """Whether it is a schedule of fastbp.schedules that contains no function."""
    if type(schedule).__module__ != Schedule.__module__ or not isinstance(schedule, Schedule):
        return False
    return all(_is_of_settings(value) for value in vars(schedule).values() if callable(value))


def name_of_loss(loss: Loss, n_out: int, dtype: np.dtype[Any]) -> str:
    """Return text that identifies a loss: its settings; for a function, its costs and errors for a few samples."""
    if not isinstance(loss, Custom):
        return repr(loss)
    function = getattr(loss.function, "py_func", loss.function)  # the source of a compiled function
    z, t = np.random.default_rng(0).uniform(0.1, 1, (2, 3, n_out)).astype(dtype)
    a, delta, costs = z / z.sum(axis=1, keepdims=True), np.zeros_like(z), np.zeros(len(z))
    try:
        for i in range(len(z)):
            costs[i] = function(z[i], a[i], t[i], delta[i])
    except Exception:  # only Numba can run it
        return without_address(loss)
    return f"a function with costs and errors of fingerprint {fingerprint(costs, delta)}"


def without_address(value: object) -> str:
    """Return the repr of a setting without addresses: the same text in every process."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(value))


# What to do if the fit differs in this setting only.
ASSIGNED = "; if a callback has assigned it, make the Trainer with that one to resume"
WAYS_OUT = dict.fromkeys(("optimizer", "loss", "schedule", "clip_norm", "clip_value", "max_norm", "ema"), ASSIGNED) | {
            "first epoch": "; make a new Trainer for this network to resume",
            "epochs": "; for more epochs let that fit end, then train further without this folder"}


def check_same(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise ValueError if the settings of a checkpoint differ from those of this fit, and name the differences."""
    here = json.loads(json.dumps(here))
    differ = [name for name in {**here, **there} if there.get(name) != here.get(name)]
    if differ:
        what = "; ".join(f"{name} is {there.get(name)!r} there, {here.get(name)!r} here" for name in differ)
        raise ValueError(f"{path} is of another fit: {what}{WAYS_OUT.get(differ[0], '') if len(differ) == 1 else ''}")


def check_start(path: Path, there: str, here: str) -> None:
    """Raise ValueError if the fit of a checkpoint began with other parameters; older checkpoints do not record them."""
    if there and there != here:
        raise ValueError(f"{path} is of another fit: the fingerprint of the initial parameters is {there!r} "
                         f"there, {here!r} here; to resume, make the network as for that fit, with the same seed; to "
                         "train this network, name another folder")
