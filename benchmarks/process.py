"""`fastbp train mnist` as a whole process: python benchmarks/process.py

Wall time and peak memory with cached kernels, the first compile with an empty cache, and beside them, in the same
interleaved rounds, `import torch` where PyTorch is installed and an empty Python process as the control.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe, environment, interleave, spread

FIRST_STEP = ("import numpy as np, fastbp; x = np.ones((32, 4), 'float32'); "
              "net = fastbp.Network([4, 32, 16, 4], hidden='tanh', output='identity'); "
              "fastbp.Trainer(net, 'quadratic', fastbp.Adam(), 32).fit(x, x, 1)")
TRAIN = [sys.executable, "-m", "fastbp.cli", "train", "mnist", "--quiet"]


def run(command: list[str], cache: str) -> tuple[float, float]:
    """Wall seconds and peak resident MB of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment(cache), stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold-rounds", type=int, default=3)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        results, memory = [], []

        def train(cache: str) -> float:
            report = Path(folder) / "result.json"
            seconds, peak = run([*TRAIN, "--json", str(report)], cache)
            results.append(json.loads(report.read_text()))
            memory.append(peak)
            return seconds

        def cold() -> float:
            with tempfile.TemporaryDirectory() as cache:
                train(cache)
            return results[-1]["compile_seconds"]

        compiles = [cold() for _ in range(options.cold_rounds)]
        warm = str(Path(folder) / "cache")
        train(warm)
        run([sys.executable, "-c", FIRST_STEP], warm)
        results.clear()
        memory.clear()
        measures = {"fastbp train mnist": lambda: train(warm),
                    "python -c pass": lambda: run([sys.executable, "-c", "pass"], warm)[0],
                    "python -c 'import numba'": lambda: run([sys.executable, "-c", "import numba"], warm)[0],
                    "python -c 'import fastbp'": lambda: run([sys.executable, "-c", "import fastbp"], warm)[0],
                    "import fastbp, and a first step of training": lambda: run([sys.executable, "-c", FIRST_STEP],
                                                                               warm)[0]}
        if importlib.util.find_spec("torch"):
            measures["python -c 'import torch'"] = lambda: run([sys.executable, "-c", "import torch"], warm)[0]
        figures = interleave(measures, options.rounds)

    print(f"{describe()}; {options.rounds} interleaved rounds, cached kernels\n")
    print("| process | seconds, median (range) |\n|---|---|")
    for name, seconds in figures.items():
        print(f"| `{name}` | {spread(seconds, 2)} |")
    print("\n| of `fastbp train mnist` | median (range) |\n|---|---|")
    for name in ("load_seconds", "compile_seconds", "train_seconds"):
        print(f"| {name} | {spread([result[name] for result in results])} |")
    print(f"| peak memory, MB | {spread(memory, 0)} |")
    print(f"| final test accuracy | {statistics.median(r['final_test_accuracy'] for r in results):.4f} |")
    print(f"| compile_seconds with an empty cache | {spread(compiles, 1)} |")


if __name__ == "__main__":
    main()
