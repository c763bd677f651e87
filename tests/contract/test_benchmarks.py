"""What the benchmarks conclude from their figures, and that they run."""

import importlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastbp.core.plan import scratch_size
from fastbp.core.threads import processors

FOLDER = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are in the repository only")


@pytest.fixture
def benchmark(monkeypatch):
    """A function from a benchmark's name to its module."""
    monkeypatch.syspath_prepend(FOLDER / "peers")
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def test_the_rule_of_the_sweep(benchmark):
    sweep = benchmark("sweep")
    one = [1.0, 2.0, 4.0]
    assert not sweep.slower({"fastbp, 1 thread": one, "fastbp": [1.04, 2.08, 40.0]})
    slow = {"fastbp, 1 thread": one, "fastbp": [1.06, 2.12, 0.4]}
    assert sweep.slower(slow)
    assert sweep.slower(slow | {sweep.CONTROL: one})
    assert not sweep.slower(slow | {sweep.CONTROL: [1.02, 2.04, 4.0]})  # another process with one thread is slow too


def test_the_table_of_the_sweep(benchmark):
    sweep = benchmark("sweep")
    figures = {(w, b): {"fastbp": [1.0], "JAX": [w + b]} for w in (2, 1) for b in (4, 8)}
    widths, sizes, ratios = sweep.grid(figures, "JAX", "fastbp")
    assert (widths, sizes) == ([1, 2], [4, 8])
    np.testing.assert_array_equal(ratios, [[5, 9], [6, 10]])
    assert sweep.table(widths, sizes, ratios, "JAX / fastbp").splitlines()[-1] == "| width 2 | 6.00 | 10.00 |"


def test_all_of_the_sweep_do_the_same_job_in_the_first_epoch(benchmark):
    sweep, library = benchmark("sweep"), benchmark("with_numpy")
    cell = sweep.workload(5, 3, 4)
    assert (cell.rows, cell.steps) == (12, 4)
    piece = sweep.Piece(0, 1, cell.rows)
    with_fastbp = benchmark("with_fastbp")
    losses = [with_fastbp.Training(cell, threads)(piece) for threads in (1, 2, None)]
    assert losses[0] == losses[1] == losses[2]
    np.testing.assert_allclose(losses[0], library.Training(cell)(piece), rtol=1e-6)


def test_the_slope_of_a_power(benchmark):
    growth = benchmark("growth")
    x = [1.0, 2.0, 4.0, 64.0]
    assert growth.slope(x, [3 * v**0.9 for v in x]) == pytest.approx(0.9)


def test_only_the_stated_range_is_fitted(benchmark):
    growth = benchmark("growth")
    for name, law in growth.laws([1, 2]).items():
        sizes = [getattr(point, law.quantity) for point in law.points]
        inside = [size >= law.least for size in sizes]
        assert sum(inside) >= 2, name
        assert growth.fitted(law, [size if fits else 1e9 for size, fits in zip(sizes, inside, strict=True)]) \
            == pytest.approx(1)


def result(benchmark, *seconds, reason=None):
    return benchmark("run").Result(seconds=list(seconds), loss=1.0, reason=reason)


def test_the_table_of_the_doors(benchmark):
    doors = benchmark("doors")
    results = {"fastbp, trainer.step": result(benchmark, 2e-6, 4e-6), "fastbp, fit": result(benchmark, 1e-6, 2e-6),
               "PyTorch on 1 thread, eager step": result(benchmark, 1.0, 1.0),
               "PyTorch, eager step": result(benchmark, 200e-6, 200e-6),
               "JAX": result(benchmark, reason="ModuleNotFoundError: No module named 'jax'")}
    lines = doors.report({"step-32": results}, "a machine").splitlines()
    assert "| fastbp, fit | 1.5 (1–2) | 666,667 | 0.5 (0.5–0.5) |" in lines
    assert "| JAX | not installed |  |  |" in lines
    assert "| step-32: fastbp, trainer.step / fastbp, fit | ≤ 1.3 | 2 (2–2) | **missed** |" in lines
    assert "| step-32: PyTorch / fastbp, trainer.step | ≥ 60 | 75 (50–100) | reached |" in lines
    assert "| step-32: JAX / fastbp, trainer.step | ≥ 15 | no figure |  |" in lines


def test_every_reach_names_a_door_and_ways_that_are_measured(benchmark):
    doors, ways = benchmark("doors"), benchmark("ways_fastbp")
    small = ("step-1", "step-32", "gradient-32", "l-bfgs", "forward-4", "evaluate-32", "fit-many")
    for name in small:
        door = doors.DOORS[name].quick()
        names = {f"fastbp, {way}": result(benchmark, 1.0) for way in getattr(ways, door.job)(door)}
        names |= {library: result(benchmark, 1.0) for library in door.libraries}
        for reach in (reach for reach in doors.REACHES if reach.door == name):
            assert doors.found(names, reach.way) and (not reach.other or doors.found(names, reach.other)), reach


def test_a_piece_takes_as_many_calls_as_its_seconds(benchmark):
    piece = benchmark("doors").Piece(lambda n: time.sleep(1e-3 * n) or n, 0.02)
    assert 5 <= piece.times <= 20
    assert 1e-3 <= piece.measure() < 0.1


def test_all_ways_of_fastbp_do_the_same_job(benchmark):
    ways, doors = benchmark("ways_fastbp"), benchmark("ways").DOORS
    for name in ("step-1", "step-32", "forward-4"):
        checked = [way.check() for way in getattr(ways, doors[name].job)(doors[name]).values()]
        np.testing.assert_allclose(checked, checked[0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="anonymous memory is read from /proc")
def test_memory_grows_with_the_network_and_not_with_the_data(tmp_path):
    subprocess.run([sys.executable, str(FOLDER / "memory.py"), "--quick", "--results", str(tmp_path)], check=True)
    cases = json.loads((tmp_path / "memory.json").read_text())["cases"]
    for case in cases:
        scratch = scratch_size([784, case["width"], 10], processors.available_threads(), case["batch"]) * 4
        needed = 2 * case["parameters"] + scratch + case["buffers"]  # theta, its copy, room for gradients
        assert case["grown"] < needed + 24 * case["n"] + 1e7  # runs differ by 2 MB, as threads come


@pytest.fixture
def inference(benchmark):
    """The module, and cells of one width: fastbp beside itself with 1 and 2 threads, its control and ONNX Runtime."""
    module = benchmark("inference")
    runs = (module.OWN, module.ONE, module.ALL, module.CONTROL, module.RIVAL)
    times = {1: ([2.0, 3.0], [4.0, 6.0], [2.0, 4.0], [2.0, 3.0], [4.0, 4.0]), 4: ([6.0], [5.0], [8.0], [6.0], [5.0])}
    absent = {name: "ModuleNotFoundError: No module" for name in module.RUNS if name not in runs}
    return module, {module.Cell(16, 1, batch): module.Measured(dict(zip(runs, seconds, strict=True)), absent)
                    for batch, seconds in times.items()}


def test_the_ratios_of_inference(inference):
    module, measured = inference
    first, second = measured.values()
    assert first.ratios([module.ONE, module.ALL]) == [(1 + 3 / 4) / 2, 1]
    assert second.ratios([module.ONE, module.ALL]) == [6 / 5, 6 / 5]
    assert first.ratios([module.RIVAL]) == [(2 / 4 + 3 / 4) / 2, 2 / 4]
    assert np.isnan(first.ratios(["PyTorch"])).all()


def test_the_reach_of_inference(inference):
    module, measured = inference
    lines = module.sums(measured)
    assert f"| {module.BETTER}: largest | 1.20 | 1.20 | 1.05: missed |" in lines
    assert f"| {module.RIVAL}: median | 0.91 | 0.85 | 0.60: missed |" in lines
    assert f"| {module.RIVAL}: share of the cells above 1 | 0.50 | 0.50 | 0.10: missed |" in lines
    assert "its control: largest | 1.00 | 1.00 |  |" in lines
    assert "- width 16 × 1, batch 4: 1.20 (1.20) times ONNX Runtime" in module.notes(measured)
    assert "| width 16 × 1 | not installed | not installed |" in module.table(
        measured, "", lambda cell: module.ratio(cell, "PyTorch"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sweep", "growth", "inference"])
def test_the_commands_run(name):
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--quick", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr  # 1: slower than the rule allows
    assert "| width 256" in done.stdout or "slope" in done.stdout


@pytest.mark.slow
def test_estimators_are_compared(tmp_path):
    command = [sys.executable, str(FOLDER / "estimators.py"), "--rounds", "1", "--only", "iris", "--results", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    table = (tmp_path / "estimators.md").read_text()
    assert re.search(r"\| fit, iris \| [\d.]+ ms \| [\d.]+ ms \| \*\*[\d.]+\*\* \|", table), table


@pytest.mark.slow
def test_the_doors_run_whatever_else_is_installed(tmp_path):
    command = [sys.executable, str(FOLDER / "doors.py"), "--quick", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert (tmp_path / "doors.svg").stat().st_size > 1000
    for name, ways in json.loads((tmp_path / "doors.json").read_text())["doors"].items():
        assert all(way["seconds"] for label, way in ways.items() if label.startswith("fastbp")), name
        assert {"fastbp", "fastbp again"} <= {label.split(", ")[0] for label in ways}, name
