"""Machine code on disk: compiled once per machine."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.runtime import rtsys


def _digest() -> str:
    """Fingerprint of every kernel source: machine code compiled from other sources is never reused."""
    total = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.name != "reference.py":
            total.update(source.read_bytes())
    return total.hexdigest()


DIGEST = _digest()
_announced = False


class _FilesByKey(IndexDataCacheFile):  # type: ignore[misc]  # Numba has no types
    """Machine code in files named by their key.

    Numba numbers them and writes the number before the file: of two processes that compile at the same time, one could
    be given the other's code, of other types or flags.
    """

    def save(self, key: Any, data: Any) -> None:
        overloads = self._load_index()
        overloads[key] = self._data_name(int(hashlib.sha256(repr(key).encode()).hexdigest()[:12], 16))
        self._save_data(overloads[key], data)
        self._save_index(overloads)


class Cache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's cache on disk, with a key that also covers callees and flags.

    Numba stamps an entry with the function's own file, so that editing a callee in another file would reuse stale code
    (https://github.com/numba/numba/issues/1833), and it keys a function's parallel and serial builds alike.
    """

    def __init__(self, function: Callable[..., Any], parallel: bool):
        super().__init__(function)
        self._cache_file.__class__ = _FilesByKey
        self._parallel = parallel

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), DIGEST, self._parallel)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # Numba would first read all implementations there are, its own and others', which only a compiler asks for.
        rtsys.initialize(target_context)
        overload = None
        with self._guard_against_spurious_io_errors():
            overload = self._load_overload(sig, target_context)
        if overload is None:
            _announce()
        return overload


def _announce() -> None:
    global _announced
    if not _announced:
        print("fastbp: compiling for this machine; the result is kept, so this happens once", file=sys.stderr)
        _announced = True


def folder() -> str | None:
    """Where the machine code of this package is kept; None where no folder can be written."""
    try:
        return str(Cache(folder, False).cache_path)
    except RuntimeError:
        return None


def is_cached(dispatcher: Any, signature: tuple[Any, ...]) -> bool:
    """Whether machine code of a function for arguments of these types is on disk."""
    cache = dispatcher._cache
    if not isinstance(cache, Cache):
        return False
    files, key = cache._cache_file, cache._index_key(signature, dispatcher.targetctx.codegen())
    try:
        name = files._load_index().get(key)
    except OSError:  # Windows, while another process replaces it
        return False
    return name is not None and Path(files._data_path(name)).exists()
