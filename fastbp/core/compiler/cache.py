"""Machine code on disk: compiled once per machine, by one process at a time."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fastbp.core.compiler.common import DIGEST, Made
from fastbp.core.compiler.numba import FunctionCache, IndexDataCacheFile, NullCache, rtsys

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOG = logging.getLogger("fastbp")
SEAL = hashlib.sha256().digest_size


class _SealedFiles(IndexDataCacheFile):  # type: ignore[misc]  # Numba has no types
    """Machine code in files that are named by their key and start with a digest of function, key and content.

    Numba keeps an index of numbered files: if two processes compile at the same time, one can lose the other's entry or
    load the other's code. Numba also runs whatever it finds: a damaged file crashes every later process.
    """

    def load(self, key: Any) -> Any:
        data = self.content(key)
        return None if data is None else pickle.loads(data)

    def content(self, key: Any) -> bytes | None:
        """Return what was saved; None if there is nothing, or if it is damaged."""
        try:
            whole = self._path(key).read_bytes()
        except OSError:
            return None
        seal = self._seal(key, memoryview(whole)[SEAL:])
        return whole[SEAL:] if whole[:SEAL] == seal else None

    def save(self, key: Any, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(str(self._path(key))) as file:
            file.write(self._seal(key, content) + content)

    def flush(self) -> None:
        for file in Path(self._cache_path).glob(self._data_name_pattern.replace("{number:d}", "*")):
            file.unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        return Path(self._data_path(self._data_name(int.from_bytes(self._seal(key)[:6], "big"))))

    def _seal(self, key: Any, content: bytes | memoryview = b"") -> bytes:
        total = hashlib.sha256(repr((self._version, self._index_name, self._source_stamp, key)).encode())
        total.update(content)
        return total.digest()


class Cache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's cache on disk, with a key that also covers callees and flags.

    Numba stamps an entry with the function's own file, so that editing a callee in another file would reuse stale code
    (https://github.com/numba/numba/issues/1833), and it keys a function's parallel and serial builds alike.
    """

    def __init__(self, function: Callable[..., Any], parallel: bool):
        super().__init__(function)
        self._cache_file.__class__ = _SealedFiles
        self._parallel = parallel

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), DIGEST, self._parallel)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # Numba would first load all implementations, its own and those of others, which only a compiler needs.
        rtsys.initialize(target_context)
        return self._load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_once(f"fastbp cannot keep machine code in {self.cache_path}: {error.strerror or error}. "
                       "Until it can, each process compiles again, which takes 10 to 20 s")


class NoCache(NullCache):  # type: ignore[misc]  # Numba has no types
    """The cache if no folder is writable: each process compiles for itself."""


_announced: set[str] = set()
_warned = False


def announce(what: str, duration: str, folder: str | None) -> None:
    """Announce what is compiled now and about how long that takes: once per process for each `what`.

    This goes to the logger "fastbp" as a warning, which Python prints if logging is not configured.
    """
    if what not in _announced:
        _announced.add(what)
        rest = (f"once; the machine code is kept in {folder}" if folder else
                "in each process, as no folder for machine code can be written; NUMBA_CACHE_DIR can name one")
        LOG.warning("fastbp compiles %s for this machine: about %s, %s", what, duration, rest)


def announced() -> bool:
    """Whether anything was announced in this process."""
    return bool(_announced)


def _warn_once(message: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def folder(function: Callable[..., Any]) -> str | None:
    """Return the folder of the machine code of a function and its neighbours; None if no folder is writable."""
    try:
        return str(Cache(function, False).cache_path)
    except RuntimeError:
        return None


def is_cached(dispatcher: Any, signature: tuple[Any, ...]) -> bool:
    """Whether machine code of a function for arguments of these types is on disk, undamaged."""
    cache = dispatcher._cache
    if not isinstance(cache, Cache):
        return False
    return cache._cache_file.content(cache._index_key(signature, dispatcher.targetctx.codegen())) is not None


PATIENCE = 120  # seconds to wait for another process that compiles, before this one compiles, too
_turns = 0


@contextlib.contextmanager
def turn(folder: str) -> Iterator[None]:
    """Run a block while no other process runs one for the same folder: the next process loads what one has compiled.

    The caller holds Numba's compiler lock. A block inside such a block does not wait. The lock is the system's and ends
    with its process. If the folder cannot hold a lock, or the lock is not free in time, the block runs all the same.
    """
    global _turns
    _turns += 1
    file = None
    try:
        if _turns == 1:
            with contextlib.suppress(OSError):
                file = os.open(Path(folder, "fastbp.lock"), os.O_RDWR | os.O_CREAT, 0o666)
        until = time.monotonic() + PATIENCE
        while file is not None and not _lock(file) and time.monotonic() < until:
            time.sleep(0.05)
        yield
    finally:
        _turns -= 1
        if file is not None:
            _unlock(file)


def _lock(file: int) -> bool:
    """Lock an open file; return False if another process holds the lock."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _unlock(file: int) -> None:
    with contextlib.suppress(OSError):  # explicit unlock: a child forked meanwhile may also hold the file open
        if sys.platform == "win32":
            msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


BESIDE = "FASTBP_BESIDE"  # set in a process that compiles for another


def once(functions: Iterable[Made], what: str = "", duration: str = "") -> contextlib.AbstractContextManager[None]:
    """Return a context for loading or compiling functions. If one is not on disk, it is announced (without `what`, only
    if nothing was announced before), and no other process compiles until the block ends."""
    for function, signature in functions:
        if not (signature in function.overloads or is_cached(function, signature)):
            return _in_turn(function._cache, what, duration)
    return contextlib.nullcontext()


@contextlib.contextmanager
def _in_turn(cache: Any, what: str, duration: str) -> Iterator[None]:
    with _uncollected():
        if not isinstance(cache, (Cache, NoCache)) or BESIDE in os.environ:  # the parent process holds the lock
            yield
            return
        if what or not announced():
            announce(what or "its functions", duration or "1 to 20 s", cache.cache_path)
        with turn(cache.cache_path) if cache.cache_path else contextlib.nullcontext():
            yield


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Pause Python's garbage collector: a first compile then takes 0.83 of the time, as it leaves no garbage yet."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
