"""Reading ahead: while the command's modules load, a thread unpacks the MNIST files that come with fastbp, which takes
half as long. It imports nothing but Python's own modules, and zlib lets others run.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from pathlib import Path

GZIP = 31  # for zlib: the format, of which it then compares the checksum
MNIST = Path(__file__).parent / "data" / "mnist"

_unpacked: dict[Path, bytes] = {}
_thread: threading.Thread | None = None


def begin() -> None:
    """Unpack the files of MNIST from now on."""
    global _thread
    _thread = threading.Thread(target=_unpack, daemon=True)
    _thread.start()


def unpacked(path: Path) -> bytes | None:
    """What a file holds, once; None where it was not read ahead."""
    if _thread is None or path.parent != MNIST:
        return None
    _thread.join()
    return _unpacked.pop(path, None)


def _unpack() -> None:
    for path in sorted(MNIST.glob("*.gz")):
        with contextlib.suppress(OSError, zlib.error):  # who reads it then finds out, and says so
            _unpacked[path] = zlib.decompress(path.read_bytes(), GZIP)
