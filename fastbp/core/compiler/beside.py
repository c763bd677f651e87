"""A second process that compiles at the same time as this one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba

from fastbp.core.compiler.cache import BESIDE, Cache, is_cached
from fastbp.core.compiler.common import uninterrupted
from fastbp.core.threads.processors import available_threads

PATIENCE = 300  # seconds to wait for a process that may hang, before this process does its work


@contextlib.contextmanager
def beside(dispatcher: Any, signature: tuple[Any, ...], statement: str) -> Iterator[bool]:
    """While this block runs, have another process compile a function, with a Python statement that does it; then wait.

    Yields whether there is such a process. Numba compiles one function at a time per process. If the other process
    fails, nothing is reported: the machine code is then missing on disk, and is compiled when it is needed.
    """
    process = None
    try:
        if isinstance(dispatcher._cache, Cache) and not is_cached(dispatcher, signature) and available_threads() > 1:
            with uninterrupted():  # otherwise it could start without being recorded
                process = _python(statement)
        yield process is not None
        if process is not None:
            process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process is not None:
            process.kill()
            process.wait()


def _python(statement: str) -> subprocess.Popen[bytes] | None:
    """Start a silent process that runs a statement as this one would; return None if Python cannot be started."""
    program, nothing = Path(sys.executable or "").name, subprocess.DEVNULL
    if "python" not in program.lower() or hasattr(sys, "frozen") or BESIDE in os.environ:  # embedded Python
        return None
    path = [*(folder for folder in sys.path if isinstance(folder, str)), str(Path(__file__).parents[3])]
    given = {f"NUMBA_{name}": getattr(numba.config, name) for name in ("CACHE_DIR", "CPU_NAME", "CPU_FEATURES")}
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {path!a}; {statement}"]
    try:
        return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing,
                                env=os.environ | {name: value for name, value in given.items() if value is not None}
                                | {BESIDE: "1"})
    except Exception:  # of an audit hook or the system: this process only saves time
        return None
