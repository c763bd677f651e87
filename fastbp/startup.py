"""While the command's modules load, Ctrl-C ends the process at once with status 130: nothing has begun, and a traceback
through the modules of other libraries would say nothing. If it asks for MNIST, that is read meanwhile; and as all that
modules make stays, nobody looks for what could be thrown away: that takes a tenth of the time.

To import this module is to begin; `over` ends it.
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
    """Of the command only: programs that import fastbp keep their Ctrl-C."""
    if not _is_command():
        return
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    if "mnist" in sys.argv:
        ahead.begin()


def over() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, as ever, and garbage is collected, but none of what is loaded."""
    if _is_command():
        gc.freeze()
        gc.enable()
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    """Whether this process is `fastbp`, or `python -m fastbp`, for which Python's first argument is -m until the module
    is found."""
    name = sys.argv[0] if sys.argv else ""
    if name == "-m":
        return any(pair in (("-m", "fastbp"), ("-m", "fastbp.cli")) for pair in zip(sys.orig_argv, sys.orig_argv[1:],
                                                                                    strict=False))
    return Path(name).stem == "fastbp" and Path(name).suffix != ".py"


def _leave(*_: object) -> NoReturn:
    os._exit(INTERRUPTED)


begin()
