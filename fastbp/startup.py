"""While the command's modules load, Ctrl-C ends the process at once with status 130: nothing has begun, and a traceback
through the modules of other libraries would not help. If the command asks for MNIST, it is read meanwhile. Garbage
collection is off, as the objects that modules make stay: it would take a tenth of the time.

Importing this module begins this phase; `over` ends it.
"""

import gc
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from fastbp import ahead

INTERRUPTED = 130


def begin() -> None:
    """For the command only: programs that import fastbp keep their handling of Ctrl-C."""
    if not _is_command():
        return
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    if "mnist" in sys.argv:
        ahead.begin()


def over() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, and collect garbage again, except for objects loaded so far."""
    if _is_command():
        gc.freeze()
        gc.enable()
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    """Whether this process is `fastbp` or `python -m fastbp`; for the latter, Python's first argument is -m until the
    module is found."""
    name = sys.argv[0] if sys.argv else ""
    if name == "-m":
        return any(pair in (("-m", "fastbp"), ("-m", "fastbp.cli")) for pair in zip(sys.orig_argv, sys.orig_argv[1:],
                                                                                    strict=False))
    return Path(name).stem == "fastbp" and Path(name).suffix != ".py"


def _leave(*_: object) -> NoReturn:
    os._exit(INTERRUPTED)


begin()
