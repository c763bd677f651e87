"""Machine code on disk: damaged files, a full disk, several processes at once, Ctrl-C."""

import os
import random
import re
import signal
import threading
import time

import numpy as np
import pytest
from numba import types
from rig import output, python, start
from test_jit import ANNOUNCEMENT, PIECES

from fastbp.core import compiler
from fastbp.core.compiler import cache


def twice(x):
    return 2 * x


def called():
    """A new `twice`, called: how often it was loaded, how often compiled."""
    function = compiler.serial(twice)
    assert function(21) == 42
    return sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values())


LOADED, COMPILED = (1, 0), (0, 1)
DAMAGES = {
    "cut short": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "emptied": lambda content: b"",
    "noise": lambda content: np.random.default_rng(0).bytes(len(content)),
    "noise behind the seal": lambda content: content[:32] + np.random.default_rng(0).bytes(len(content) - 32),
    **{f"a bit at {at} %": lambda content, at=at: flipped(content, at) for at in range(0, 100, 9)},
}


def flipped(content, at):
    i = len(content) * at // 100
    return content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file(cache_folder, damage):
    """Machine code is compiled anew, and the file is replaced."""
    assert (called(), called()) == (COMPILED, LOADED)
    (file,) = cache_folder.rglob("*.nbc")
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert not cache.is_cached(compiler.serial(twice), (types.int64,))
    assert (called(), called()) == (COMPILED, LOADED)
    assert len(list(cache_folder.rglob("*.nb*"))) == 1


def test_another_functions_file_is_not_taken(cache_folder):
    """Though it is whole."""
    thrice = compiler.serial(lambda x: 3 * x)
    assert (thrice(1), called()) == (3, COMPILED)
    files = {"twice" in file.name: file for file in cache_folder.rglob("*.nbc")}
    files[False].replace(files[True])
    assert (called(), called()) == (COMPILED, LOADED)


FIT = """
import hashlib
import signal
import sys
import numpy as np
from fastbp import Lion, Network, Trainer
from fastbp.core import build

x, y = np.random.default_rng(0).normal(size=(400, 5)), np.arange(400) % 3

def fit(epochs, threads):
    net = Network([5, 7, 3], hidden="gelu")
    options = dict(dropout=0.1, noise=0.1, clip_norm=1.0, batch_size=100, threads=threads)
    Trainer(net, optimizer=Lion(), **options).fit(x, y, epochs)
    net.forward(x[:2])
    return hashlib.sha256(net.theta.tobytes()).hexdigest()

"""


@pytest.fixture(scope="session")
def fitted():
    """What FIT gives, with all machine code kept in the tests' own folder afterwards."""
    assert output(FIT + "fit(3, 2)") == ""
    return output(FIT + "print(fit(3, 1))")


@pytest.mark.slow
def test_damaged_files_of_a_fit(tmp_path, fitted):
    """Common pieces, rare ones and drivers."""
    for _ in range(2):
        done = python(FIT + "print(fit(3, 2))", NUMBA_CACHE_DIR=str(tmp_path))
        assert done.stdout == fitted and ANNOUNCEMENT in done.stderr
        done = python(FIT + "print(fit(3, 2))", NUMBA_CACHE_DIR=str(tmp_path))
        assert done.stdout == fitted and done.stderr == ""
        for i, file in enumerate(sorted(tmp_path.rglob("*.nb*"))):
            file.write_bytes(list(DAMAGES.values())[i % len(DAMAGES)](file.read_bytes()))


# A full disk.

FULL = '''
import contextlib
import errno
import itertools
import sys
import warnings
from pathlib import Path

folder = sys.argv[1]
from test_cache import COMPILED, LOADED, cache, called

left = None  # how many files may still be opened, renamed or made there

def refuse(event, arguments):
    global left
    if left is not None and event in ("open", "os.rename", "os.mkdir") and str(arguments[0]).startswith(folder):
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device", arguments[0])

def notes_while(full, reason):
    """How many notes there are of machine code that is not kept, while the disk is full; then all is well again."""
    cache._warned = False
    with full, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert called() == COMPILED
    for warning in caught:
        assert warning.category is RuntimeWarning
        assert str(warning.message).startswith(f"fastbp cannot keep machine code in {folder}"), warning.message
        assert reason in str(warning.message)
    assert not list(Path(folder).rglob("*.tmp*"))
    kept = list(Path(folder).rglob("*.nbc"))
    assert called() == (LOADED if kept else COMPILED)
    for file in Path(folder).rglob("*.nbc"):
        file.unlink()
    return len(caught)

@contextlib.contextmanager
def refused_after(n):
    global left, failed
    left = n
    try:
        yield
    finally:
        failed, left = left < 0, None

sys.addaudithook(refuse)
notes = []
for n in itertools.count():
    notes.append(notes_while(refused_after(n), "No space left on device"))
    if not failed:
        break
assert max(notes) == 1 and sum(notes) >= 3 and notes[-1] == 0, notes  # a folder, a file, its name

if sys.platform != "win32":
    from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit

    @contextlib.contextmanager
    def at_most(size):
        setrlimit(RLIMIT_FSIZE, (size, RLIM_INFINITY))
        try:
            yield
        finally:
            setrlimit(RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))

    assert [notes_while(at_most(size), "File too large") for size in (0, 1, 40, 1000)] == [1] * 4
print("went on")
'''


def test_full_disk(tmp_path):
    """Whichever write fails, the function is called, with one note at most; nothing half written stays."""
    done = python(FULL, str(tmp_path), NUMBA_CACHE_DIR=str(tmp_path),
                  NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator")
    assert done.stdout == "went on\n", done.stderr


FULL_FIT = """
import resource
import warnings

resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(fit(3, 2))
(note,) = caught
assert str(note.message).startswith("fastbp cannot keep machine code in "), note.message
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="only there can a process be told to write no large files")
def test_fit_with_a_full_disk(tmp_path, fitted):
    """Of common pieces and rare ones."""
    assert output(FIT + FULL_FIT, NUMBA_CACHE_DIR=str(tmp_path)) == fitted


# Several processes.

HOLD = """
import sys
import time
from fastbp.core.compiler.cache import turn

with turn(sys.argv[1]):
    print("in", flush=True)
    time.sleep(600)
"""


def seconds_until_turn(folder):
    started = time.perf_counter()
    with cache.turn(str(folder)):
        return time.perf_counter() - started


def test_turns_end_with_their_process(tmp_path):
    with start(HOLD, str(tmp_path)) as holder:
        assert holder.stdout.readline() == "in\n"
        killer = threading.Timer(0.5, holder.kill)
        killer.start()
        assert 0.3 < seconds_until_turn(tmp_path) < 30
        assert holder.wait() != 0
    assert seconds_until_turn(tmp_path) < 0.3


def test_turns_are_waited_for_with_patience(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PATIENCE", 0.5)
    with start(HOLD, str(tmp_path)) as holder:
        assert holder.stdout.readline() == "in\n"
        assert 0.3 < seconds_until_turn(tmp_path) < 30
        holder.kill()


def test_turns_need_no_lock(tmp_path):
    """Where no file can be made; and inside of one's own."""
    assert seconds_until_turn(tmp_path / "not there") < 0.3
    with cache.turn(str(tmp_path)):
        assert seconds_until_turn(tmp_path) < 0.3


AT_ONCE = """
import sys
from test_cache import called

print("ready", flush=True)
sys.stdin.readline()
print(*called())
"""


def test_processes_at_once(tmp_path):
    """One compiles, the others load."""
    processes = [start(AT_ONCE, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sorted(process.communicate()[0] for process in processes) == ["0 1\n", "1 0\n", "1 0\n"]


COUNTED = """
print(fit(3, 2))
print(sum(sum(function.stats.cache_misses.values()) for function, _ in build._always("float32")))
"""


@pytest.mark.slow
def test_cold_starts_at_once(tmp_path, fitted):
    """Of four processes one compiles, and another that helps it."""
    processes = [start(FIT + COUNTED, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="2") for _ in range(4)]
    lines = [process.communicate(timeout=600)[0].split() for process in processes]
    assert [line[0] for line in lines] == [fitted.strip()] * 4
    assert sum(int(line[1]) for line in lines) == len(PIECES)


# Ctrl-C.

OFTEN = """
import itertools

interrupts = 0
for n in range(50, 100_000, 50):
    calls = itertools.count(1)

    def interrupt(frame, event, argument):
        if event == "call" and next(calls) % n == 0:
            signal.raise_signal(signal.SIGINT)

    try:
        sys.setprofile(interrupt)
        bits = fit(3, int(sys.argv[1]))
        swallowed = sys.getprofile() is None  # an interrupt where memory is freed, after which Python profiles no more
        sys.setprofile(None)
        if not swallowed:
            break
    except KeyboardInterrupt:
        sys.setprofile(None)
        interrupts += 1
assert interrupts > 10
print(bits)
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_interrupts_everywhere(fitted, threads):
    """At the n-th call of a Python function, for more and more n, in one process, until all machine code is loaded and
    the fit goes through."""
    with start(FIT + OFTEN, threads) as process:
        out, error = process.communicate(timeout=300)
        assert out == fitted, error


INTERRUPTED = """
print("begins", flush=True)
try:
    fit(10**7, int(sys.argv[1]))
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("interrupted", fit(3, 2))
"""


def check_interrupt(fitted, threads, seconds, **environment):
    """What a process wrote to standard error that is interrupted so many seconds after its fit begins."""
    with start(FIT + INTERRUPTED, str(threads), **environment) as process:
        assert process.stdout.readline() == "begins\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=600)
        assert (process.returncode, out) == (0, f"interrupted {fitted}"), (seconds, error)
        return error


ONLY_POSIX = pytest.mark.skipif(os.name != "posix", reason="only there is Ctrl-C a signal that can be sent")


@ONLY_POSIX
@pytest.mark.slow
def test_ctrl_c_while_machine_code_is_loaded(fitted):
    for i in range(10):
        assert check_interrupt(fitted, 1 + i % 2, random.random() * 0.4) == ""


@ONLY_POSIX
@pytest.mark.slow
def test_ctrl_c_while_it_is_compiled(fitted, tmp_path):
    for i, most in enumerate((1, 10, 30)):
        check_interrupt(fitted, 1 + i % 2, random.random() * most, NUMBA_CACHE_DIR=str(tmp_path / str(i)))


def test_interrupts_are_held_back():
    """By the innermost block and those around it; elsewhere than in the main thread there is nothing to hold."""
    reached = []
    with pytest.raises(KeyboardInterrupt), compiler.uninterrupted():
        with compiler.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            reached.append("in the inner")
        reached.append("in the outer")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    thread = threading.Thread(target=lambda: reached.append(uninterrupted_thread()))
    thread.start()
    thread.join()
    assert reached == ["in the inner", "in the outer", "in a thread"]


def uninterrupted_thread():
    with compiler.uninterrupted():
        return "in a thread"


# What is said of it.

SAID = """
import logging
import sys
from test_cache import called

logging.getLogger("fastbp").setLevel(sys.argv[1])
print(*called())
"""


@pytest.mark.parametrize("level", ["WARNING", "ERROR"])
def test_announcement(tmp_path, level):
    done = python(SAID, level, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout == "0 1\n", done.stderr
    said = (r"fastbp compiles its functions for this machine: about 1 to 20 s, once; the machine code is kept in "
            rf"{re.escape(str(tmp_path))}\S+\n")
    assert re.fullmatch(said if level == "WARNING" else "", done.stderr)
