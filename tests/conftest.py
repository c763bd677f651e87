"""Fixtures of several folders, and Ctrl-C for all tests.

That this file lies here puts the folder on the path, so that tests can `import rig`.
"""

import gc
import signal

import numba
import pytest

# A shell's background jobs, and what they start, ignore SIGINT: tests that interrupt would fail there, or never end.
# What the tests start has its own handler again, for it inherits only what is ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """Where the machine code of functions that are made in the test is kept."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_foreign_callbacks():
    """Without callbacks of the garbage collector, such as hypothesis has: Python prints an interrupt that comes in one,
    and goes on."""
    others, gc.callbacks[:] = gc.callbacks[:], []
    yield
    gc.callbacks[:] = others
