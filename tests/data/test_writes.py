"""What is written: the same bytes for the same content, and, whatever fails or is killed on the way, nothing half."""

import builtins
import contextlib
import csv
import errno
import io
import json
import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
from rig import output, python
from safetensors.numpy import save

from fastbp import Adam, Network, Trainer, checkpoint, cli, files
from fastbp.callbacks import Checkpoint, CSVLog, JSONLog

draw = np.random.default_rng(0)
X, Y = draw.normal(size=(90, 4)), draw.integers(0, 3, 90)


def network():
    return Network([4, 6, 3], output="softmax", seed=1)


# --- the same bytes -------------------------------------------------------------------------------------------------

WRITTEN = """
import hashlib, sys
from pathlib import Path
import numpy as np
from fastbp import Network, checkpoint
folder = Path(sys.argv[1])
folder.mkdir()
for i in range(4):
    Network([4, 6, 3], output="softmax", seed=1).save(folder / "net")
    path = checkpoint.write(folder, i, ({"theta": np.ones(3), "state": np.zeros((2, 3))}, {"b": 1, "a": 2}), 1)
    for path in (folder / "net", path):
        print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_one_content_is_one_file(tmp_path):
    """A network and a checkpoint, in processes whose hashes and so whose orders differ."""
    seen = []
    for seed in ("0", "1", "77", "random"):
        seen += output(WRITTEN, tmp_path / seed, PYTHONHASHSEED=seed).split()
    assert len(seen) == 32 and len(set(seen)) == 2


def test_metadata_come_back(tmp_path):
    """Of one key, or of files in which each was a key of its own; what is neither is damaged."""
    metadata = {"format": "x", "ü": "\"'\n", **{f"key{i}": str(i) for i in range(9)}}
    files.write_tensors(tmp_path / "one", {"a": np.arange(3)}, metadata)
    (tmp_path / "many").write_bytes(save({"a": np.arange(3)}, metadata=metadata))
    for name in ("one", "many"):
        found, tensors = files.read_tensors(tmp_path / name, ["x"])
        assert found == metadata and tensors["a"].tolist() == [0, 1, 2]
        assert files.read_tensors(tmp_path / name, ["y"]) == (metadata, {})
    for text in ("", "{", "[]", '{"format": 1}', "null"):
        (tmp_path / "wrong").write_bytes(save({"a": np.arange(3)}, metadata={"fastbp": text}))
        with pytest.raises(ValueError, match="wrong is not a whole safetensors file: "):
            files.read_tensors(tmp_path / "wrong", ["x"])


# --- a write that fails ---------------------------------------------------------------------------------------------

class _Failing:
    """A file whose writes, flushes and closes are counted, and fail in their turn; a failed write leaves half of it."""

    def __init__(self, file, count):
        self._file, self._count = file, count

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def write(self, content):
        self._count("write", lambda: self._file.write(content[: len(content) // 2]) and self._file.flush())
        return self._file.write(content)

    def flush(self):
        self._count("flush")
        self._file.flush()

    def truncate(self, *length):
        self._count("truncate")
        return self._file.truncate(*length)

    def close(self):
        try:
            self._count("close")
        finally:
            self._file.close()


class Disk:
    """Has one call fail, as on a full disk: the n-th of those that change files, counted from 1; `failed` names it."""

    def __init__(self, monkeypatch, n, also_after=False):
        self.n, self.calls, self.failed, self.also_after = n, 0, "", also_after
        for place, name in ((os, "fsync"), (os, "replace"), (os, "chmod"), (os, "unlink"), (tempfile, "mkstemp"),
                            (Path, "unlink"), (Path, "mkdir")):
            monkeypatch.setattr(place, name, self._counted(name, getattr(place, name)))
        opened = io.open
        for place in (io, builtins):
            monkeypatch.setattr(place, "open", self._opening(opened))

    def _count(self, name, half=lambda: None, path=None):
        self.calls += 1
        if self.calls == self.n or (self.also_after and self.calls > self.n):
            half()
            self.failed = self.failed or name
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _counted(self, name, original):
        def call(*arguments, **more):
            self._count(name, path=None if name == "fsync" else str(arguments[0] if arguments else more["dir"]))
            return original(*arguments, **more)
        return call

    def _opening(self, original):
        def opened(file, mode="r", *arguments, **more):
            if not set(mode) & set("wax+"):
                return original(file, mode, *arguments, **more)
            if not isinstance(file, int):  # what mkstemp has opened already
                self._count("open")
            return _Failing(original(file, mode, *arguments, **more), self._count)
        return opened


def failures(write, also_after):
    """Calls write(n) with the n-th call of the disk failing, for every n, until all go well; what failed."""
    seen = []
    for n in range(1, 200):
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, n, also_after)
            try:
                write()
                error = None
            except OSError as caught:
                error = caught
        yield disk.failed, error
        seen.append(disk.failed)
        if not disk.failed:
            break
    assert seen[-1] == "" and len(seen) > 3


@pytest.fixture(params=[False, True], ids=["one fails", "all fail from there on"])
def also_after(request):
    return request.param


def test_a_save_that_fails(also_after, tmp_path):
    """The old network stays whole, the error names the file, and what lies beside it is not taken for one."""
    path, new = tmp_path / "net", network()
    Network([4, 3], seed=2).save(path)
    old, whole, seen = path.read_bytes(), network(), []
    whole.save(tmp_path / "whole")
    for failed, error in failures(lambda: new.save(path), also_after):
        seen.append(failed)
        if error is None:
            assert failed == "" or failed in seen
            assert path.read_bytes() == (tmp_path / "whole").read_bytes()
        else:
            assert path.read_bytes() == old and error.errno == errno.ENOSPC and str(path) in str(error)
        beside = {found.name for found in tmp_path.iterdir()} - {"net", "whole"}
        assert all(name.startswith(files.PREFIX) for name in beside)
        assert not beside or also_after
    assert set(seen) >= {"mkstemp", "write", "flush", "fsync", "close", "chmod", "replace"}


def trained(folder, watchers=(), resume=True, epochs=3):
    trainer = Trainer(network(), optimizer=Adam(0.01), batch_size=30, dropout=0.2, ema=0.9, threads=1)
    history = trainer.fit(X, Y, epochs, (X, Y), callbacks=[*watchers, Checkpoint(folder, 0, resume=resume)])
    return trainer, history


def test_a_checkpoint_that_fails(also_after, tmp_path):
    """Ends the fit with an error that names it; the older ones stay, and a fit goes on from them to the same bits."""
    whole = trained(tmp_path / "whole")[0]
    count, seen = 0, set()

    def write():
        trained(tmp_path / f"run{count}")

    for failed, error in failures(write, also_after):
        seen.add(failed)
        folder = tmp_path / f"run{count}"
        left = [found.name for found in checkpoint.files(folder)] if folder.exists() else []
        if error is not None:
            assert error.errno == errno.ENOSPC and str(folder) in str(error)
            newest = checkpoint.read_newest(folder)
            assert (newest is None) == (left == [])
        again, history = trained(folder)
        assert again.network.theta.tobytes() == whole.network.theta.tobytes() and len(history.loss) == 3
        assert again.state.rows.tobytes() == whole.state.rows.tobytes()
        count += 1
    assert seen >= {"", "mkdir", "mkstemp", "write", "flush", "fsync", "close", "chmod", "replace", "unlink"}


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")  # ema is slow for six steps
def test_what_a_failed_checkpoint_leaves_in_the_trainer(tmp_path, monkeypatch):
    """What the epochs before it have made: a further fit goes on as if the first had ended there."""
    one, other = (Trainer(network(), optimizer=Adam(0.01), batch_size=30, ema=0.9) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        callbacks = [lambda fit: Disk(patch, 1, True) if fit.epoch == 2 else None, Checkpoint(tmp_path, 1e-9)]
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/step-000000000006"):
            one.fit(X, Y, 9, callbacks=callbacks)
    other.fit(X, Y, 2)
    for _ in range(2):
        assert one.epochs_done == other.epochs_done and one.steps_done == other.steps_done
        assert one.network.theta.tobytes() == other.network.theta.tobytes()
        one.fit(X, Y, 3)
        other.fit(X, Y, 3)


@pytest.mark.parametrize("kind", [JSONLog, CSVLog])
def test_a_log_that_fails(kind, also_after, tmp_path):
    """Keeps the lines of the epochs before, and no half a line; a fit that goes on ends with every line once."""
    trained(tmp_path / "whole", [kind(tmp_path / "whole.log")])
    whole = epochs_of(tmp_path / "whole.log")
    count, seen = 0, set()

    def write():
        trained(tmp_path / f"run{count}", [kind(tmp_path / f"{count}.log")])

    for failed, error in failures(write, also_after):
        seen.add(failed)
        path = tmp_path / f"{count}.log"
        if error is not None and path.exists() and not also_after:
            lines = epochs_of(path)
            assert lines == whole[: len(lines)]
            assert path.read_text() == "" or path.read_text().endswith("\n")
        trained(tmp_path / f"run{count}", [kind(path)])
        assert epochs_of(path) == whole
        count += 1
    assert seen >= {"", "open", "write", "close", "truncate"}


def epochs_of(path):
    """The losses of the lines; ValueError where one is not whole."""
    text = path.read_text()
    if text.startswith("epoch"):
        return [(row["epoch"], row["loss"], len(row)) for row in csv.DictReader(io.StringIO(text))]
    return [(line["epoch"], line["loss"], len(line)) for line in map(json.loads, text.splitlines())]


def test_the_lines_before_a_failed_one_stay(tmp_path, monkeypatch):
    path = tmp_path / "log"
    log = JSONLog(path)
    text = log._text

    def full(values, first):
        if values["epoch"] == 3:
            Disk(monkeypatch, 2)  # the first is to open it
        return text(values, first)

    log._text = full
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        Trainer(network(), batch_size=30).fit(X, Y, 5, callbacks=[log])
    monkeypatch.undo()
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]


@contextlib.contextmanager
def room(n):
    """No file may grow beyond n bytes: the system itself refuses the write, after a part of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_after_any_byte(tmp_path):
    net = network()
    net.save(tmp_path / "net")
    old, size = (tmp_path / "net").read_bytes(), (tmp_path / "net").stat().st_size
    for n in range(0, size, 7):
        with room(n), pytest.raises(OSError, match=f"File too large: '{tmp_path}/net'"):
            net.save(tmp_path / "net")
        assert (tmp_path / "net").read_bytes() == old and len(list(tmp_path.iterdir())) == 1
    with room(size):
        net.save(tmp_path / "net")


@pytest.mark.parametrize("kind", [JSONLog, CSVLog])
def test_a_disk_that_is_full_within_any_line(kind, tmp_path):
    path, net = tmp_path / "log", Trainer(network(), batch_size=30)
    net.fit(X, Y, 3, callbacks=[kind(path)])
    whole = epochs_of(path)
    for n in range(1, path.stat().st_size - 60, 5):
        with room(n), pytest.raises(OSError, match=f"File too large: '{path}'"):
            Trainer(network(), batch_size=30).fit(X, Y, 3, callbacks=[kind(path)])
        lines = epochs_of(path)
        assert lines == whole[: len(lines)] and len(lines) < 3
        assert path.read_text() == "" or path.read_text().endswith("\n")


@pytest.mark.parametrize("option", ["--save", "--json"])
def test_a_file_of_the_command_that_fails(option, also_after, tmp_path, capsys):
    """Network, .toml beside it, report: the old one or the new one, never half; and one line that names it."""
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y)
    wanted = [tmp_path / "out"] + ([tmp_path / "out.toml"] if option == "--save" else [])

    old_one = b"# fastbp of old"  # a .toml that is not fastbp's is not written over

    def old():
        for path in wanted:
            path.write_bytes(old_one)

    def run():
        arguments = ["--hidden", "6", "--epochs", "2", "--batch-size", "30", "--threads", "1", "--quiet"]
        capsys.readouterr()
        if cli.main(["train", str(tmp_path / "data.npz"), *arguments, option, str(tmp_path / "out")]):
            raise OSError(errno.ENOSPC, capsys.readouterr().err)

    run()
    new = [path.read_bytes() for path in wanted]
    old()
    for _, error in failures(run, also_after):
        found = [path.read_bytes() for path in wanted]
        if option == "--json":  # which holds seconds, too
            found = [each if each == old_one else json.loads(each).keys() for each in found]
            new = [json.loads(each).keys() if isinstance(each, bytes) else each for each in new]
        assert all(each in (old_one, written) for each, written in zip(found, new, strict=True))
        if error is None:
            assert found == new
        else:
            assert any(f"fastbp: No space left on device: '{path}'\n" == error.strerror for path in wanted)
        old()


def test_a_report_of_what_is_no_number(tmp_path):
    """Is JSON that every reader takes: null for NaN and infinite numbers, however deep they lie."""
    cli._write_json(str(tmp_path / "out"), {"a": float("nan"), "b": [1.5, {"c": (float("inf"), None, True, 2)}]})
    assert json.loads((tmp_path / "out").read_text(), parse_constant=pytest.fail) == {
        "a": None, "b": [1.5, {"c": [None, None, True, 2]}]}


# --- a process that is killed ---------------------------------------------------------------------------------------

KILLED = '''
"""Fits in forked processes, the n-th of which is killed at the n-th call that changes a file, before it or after it."""
import builtins, io, os, pathlib, signal, sys, tempfile
import numpy as np
from fastbp import Adam, Network, Trainer
from fastbp.callbacks import Checkpoint, CSVLog, Every

draw = np.random.default_rng(0)
X, Y = draw.normal(size=(90, 4)), draw.integers(0, 3, 90)

def fit(folder):
    network = Network([4, 6, 3], output="softmax", seed=1)
    trainer = Trainer(network, optimizer=Adam(0.01), batch_size=45, dropout=0.2, ema=0.5, threads=1)
    every_step = Every(1, lambda fit: None)  # returns from compiled code, so that a checkpoint is written
    trainer.fit(X, Y, 2, (X, Y), callbacks=[every_step, CSVLog(folder + ".csv"), Checkpoint(folder, 0, resume=True)])
    network.save(folder + ".net")
    with open(folder + ".csv") as file:
        lines = [line.split(",") for line in file]
    return network.theta.tobytes() + repr([line[:2] + line[3:] for line in lines]).encode()  # all but the seconds

class File:
    def __init__(self, file, counted):
        self.file = file
        for name in ("write", "flush", "close", "truncate"):
            setattr(self, name, counted(name, getattr(file, name)))
    def __getattr__(self, name):
        return getattr(self.file, name)
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.close()

def kill_at(n, after):
    calls = 0
    def counted(name, original):
        def call(*arguments, **more):
            nonlocal calls
            calls = this = calls + 1
            if this == n and not after:
                if name == "write":
                    original(arguments[0][: len(arguments[0]) // 2])
                    arguments = ()
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **more)
            if this == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call
    for place, name in ((os, "fsync"), (os, "replace"), (os, "chmod"), (os, "unlink"), (tempfile, "mkstemp"),
                        (pathlib.Path, "unlink"), (pathlib.Path, "mkdir")):
        setattr(place, name, counted(name, getattr(place, name)))
    opened = io.open
    def open_(file, mode="r", *arguments, **more):
        if not set(mode) & set("wax+"):
            return opened(file, mode, *arguments, **more)
        return File(counted("open", opened)(file, mode, *arguments, **more), counted)
    io.open = builtins.open = open_

def in_a_process(do):
    child = os.fork()
    if child == 0:
        do()
        os._exit(0)
    return os.waitpid(child, 0)[1]

folder = sys.argv[1]
whole, killed, n = fit(folder + "/whole"), 0, 0

def resume(name):
    if fit(name) != whole:
        os._exit(1)

while True:
    n += 1
    statuses = []
    for after in (False, True):
        name = f"{folder}/{n}-{after}"
        statuses.append(in_a_process(lambda: (kill_at(n, after), fit(name))))
        status = in_a_process(lambda: resume(name))
        if status:
            sys.exit(f"killed {'after' if after else 'before'} call {n}, the fit did not go on to the same bits")
    if statuses == [0, 0]:
        break
    if statuses != [signal.SIGKILL] * 2:
        sys.exit(f"killed at call {n}: {statuses}")
print(n - 1)
'''


@pytest.mark.slow
def test_a_save_killed_at_every_call(tmp_path):
    """Before and after each open, write, flush, fsync, close, rename and unlink of a fit with checkpoints, a log and a
    network saved at its end: it goes on to the same bits, and the log has each line once."""
    done = python(KILLED, tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert int(done.stdout) > 50
