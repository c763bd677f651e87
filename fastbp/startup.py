"""While the command's modules load, Ctrl-C ends the process at once with status 130: nothing has begun, and a traceback
through the modules of other libraries would say nothing.

To import this module is to begin; `over` ends it.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

INTERRUPTED = 130


def begin() -> None:
    """Of the command only: programs that import fastbp keep their Ctrl-C."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def over() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, as ever."""
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
