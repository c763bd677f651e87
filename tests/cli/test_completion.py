"""fastbp --print-completion: what a shell offers, asked of a shell."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from fastbp.cli import main
from fastbp.export import FORMATS
from fastbp.initialization import INITIALIZERS
from fastbp.losses import LOSSES
from fastbp.network import HIDDEN_ACTIVATIONS
from fastbp.optimizers import OPTIMIZERS
from fastbp.schedules import SCHEDULES

BASH = pytest.mark.skipif(os.name != "posix" or shutil.which("bash") is None, reason="no bash here")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """What the command prints for bash, in a file."""
    pytest.importorskip("shtab")
    command = [sys.executable, "-m", "fastbp", "--print-completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path_factory.mktemp("completion") / "fastbp.bash"
    file.write_text(done.stdout)
    return file


def offered(script, line, folder):
    """By bash, at the end of the line."""
    words = line.split(" ")
    ask = (f"source {shlex.quote(str(script))}; COMP_WORDS=({' '.join(map(shlex.quote, words))}); "
           f"COMP_CWORD={len(words) - 1}; "
           f"$(complete -p fastbp | sed 's/.*-F \\([^ ]*\\).*/\\1/') fastbp {shlex.quote(words[-1])} "
           f"{shlex.quote(words[-2])}; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    done = subprocess.run(["bash", "-c", ask], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


@BASH
@pytest.mark.parametrize(("line", "wanted"), [
    ("fastbp ", {"train", "find-eta", "predict", "trace", "check", "export", "info", "warmup"}),
    ("fastbp train --batch", {"--batch-size"}),
    ("fastbp train --optimizer ", set(OPTIMIZERS)),
    ("fastbp train mnist --loss ", set(LOSSES)),
    ("fastbp find-eta mnist --schedule ", set(SCHEDULES)),
    ("fastbp train --activation ", set(HIDDEN_ACTIVATIONS)),
    ("fastbp train --weights h", {name for name in INITIALIZERS if name.startswith("h")}),
    ("fastbp train --task ", {"classes", "values"}),
    ("fastbp export net.safetensors --format ", set(FORMATS)), ("fastbp export ne", {"net.safetensors"}),
    ("fastbp predict ta", {"table.csv"}), ("fastbp train --save ne", {"net.safetensors"}),
    ("fastbp train --checkpoint fo", {"folder"}),
])  # fmt: skip
def test_what_bash_offers(script, tmp_path, line, wanted):
    for name in ("table.csv", "net.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert offered(script, line, tmp_path) == wanted


def test_scripts_of_all_shells(capsys):
    shtab = pytest.importorskip("shtab")
    for shell in shtab.SUPPORTED_SHELLS:
        with pytest.raises(SystemExit) as end:
            main(["--print-completion", shell])
        assert not end.value.code and "find-eta" in capsys.readouterr().out


def test_what_is_refused(capsys, monkeypatch):
    assert main(["--print-completion", "ash"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastbp: argument --print-completion: unknown shell 'ash'; valid: bash, ")
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    assert capsys.readouterr().err == 'fastbp: completion needs shtab: pip install "fastbp[completion]"\n'
