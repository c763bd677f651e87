"""net.forward(X) from Python beside ONNX Runtime, PyTorch and scikit-learn: make bench-inference

Networks of 1 to 3 relu layers, as wide as their input, and 10 softmax outputs; batches of 1 to 65536; float32. Each
library is in a process of its own, on all processors, called as its users call it: one measurement each in turn, the
others waiting. It is timed where its outputs are fastbp's. About half of what relu neurons send are zeros, and those
fastbp leaves out.

The reach: fastbp's own choice takes at most 1.05 times as long as its better number of threads, one or all, in every
cell; at most as long as ONNX Runtime in 90 % of the cells, 1.15 times as long in all, 0.6 times in the median. Calls in
which it finds out the better number are not counted. The control, a second process of fastbp, shows how far two that do
the same come apart.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import Processors, interleave
from sweep import heat_map

PEERS = Path(__file__).parent / "peers"
sys.path.append(str(PEERS))
from run import PAUSE, describe, failure  # noqa: E402
from serve import LIBRARIES, PROCESSORS, Cell  # noqa: E402

WIDTHS, DEPTHS, BATCHES = [16, 64, 256, 1024], [1, 2, 3], [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536]
MOST_OPERATIONS = 2e11  # of a call: larger cells, of seconds, are left out
SECONDS, QUICK_SECONDS = 0.01, 0.001  # of a measurement
CELL_SECONDS, FEWEST = 30, 3  # for the rounds of a cell: the largest get fewer, but so many
NEAR = {"rtol": 1e-4, "atol": 1e-5}  # of outputs
OWN, ONE, ALL, CONTROL = "fastbp", "fastbp, 1 thread", f"fastbp, {PROCESSORS} threads", "fastbp, control"
RIVAL = "ONNX Runtime"
RUNS = {  # name: its process, and what its calls are given beside X
    OWN: ("fastbp", []), ONE: ("fastbp", [1]), ALL: ("fastbp", [PROCESSORS]), CONTROL: ("control", []),
    RIVAL: ("onnxruntime", []), "PyTorch": ("torch", []), "scikit-learn": ("sklearn", [])}
BETTER = "its better number of threads"
PANELS = {  # what fastbp's time is over: the runs, of which the fastest counts; limit of the colours
    BETTER: ([ONE, ALL], 2), "its control": ([CONTROL], 2), RIVAL: ([RIVAL], 8), "PyTorch": (["PyTorch"], 8),
    "scikit-learn": (["scikit-learn"], 32)}
MOST = {BETTER: 1.05, RIVAL: 1.15}  # the reach, in every cell


@dataclass
class Measured:
    """Of a cell."""

    seconds: dict[str, list[float]]  # of a call, by run and round
    reasons: dict[str, str]  # why a run has none

    def ratios(self, bases: list[str]) -> list[float]:
        """fastbp's time over that of the fastest base: the median of the rounds' ratios, and of the least times; NaN
        where one has none."""
        if not all(base in self.seconds for base in bases):
            return [math.nan, math.nan]
        own, others = self.seconds[OWN], [self.seconds[base] for base in bases]
        return [max(median(a / b for a, b in zip(own, other, strict=True)) for other in others),
                max(min(own) / min(other) for other in others)]


class Worker:
    """A library in its process."""

    def __init__(self, library: str, cpus: list[int]):
        command = ["taskset", "-c", ",".join(map(str, cpus)), sys.executable, str(PEERS / "serve.py"), library]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *line: Any) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # an ended process answers with its status
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"reason": f"its process ended with {self.process.wait()}"}

    def stop(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def prepare(workers: dict[str, Worker], cell: Cell, seconds: float) -> dict[str, str]:
    """Returns why libraries cannot be measured there."""
    reasons, outputs = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for library, worker in workers.items():
            file = f"{folder}/{library}.npy"
            answer = worker.ask(seconds, file, cell.width, cell.depth, cell.batch)
            if "reason" in answer:
                reasons[library] = answer["reason"]
                if library == "fastbp":
                    sys.exit(f"{cell}: fastbp: {answer['reason']}")
                continue
            outputs[library] = np.load(file)
            if not np.allclose(outputs[library], outputs["fastbp"], **NEAR):
                difference = np.abs(outputs[library] - outputs["fastbp"]).max()
                reasons[library] = f"outputs differ from fastbp's by up to {difference:.1e}"
    return reasons


def measure(workers: dict[str, Worker], cell: Cell, seconds: float, rounds: int, processors: Processors) -> Measured:
    """Up to so many rounds, of large cells fewer; one more before them, which loads machine code, does not count."""
    reasons = prepare(workers, cell, seconds)

    def once(library: str, arguments: list[int]) -> float:
        answer = workers[library].ask(seconds, *arguments)
        if "reason" in answer:
            reasons[library] = answer["reason"]
        return answer.get("seconds", math.nan)

    def wait() -> None:
        time.sleep(PAUSE)
        processors.settle()

    measures = {name: functools.partial(once, *run) for name, run in RUNS.items() if run[0] not in reasons}
    started = time.perf_counter()
    interleave(measures, 1, wait)
    rounds = min(rounds, max(FEWEST, int(CELL_SECONDS / (time.perf_counter() - started))))
    figures = interleave(measures, rounds, wait)
    failed = {name: reasons[library] for name, (library, _) in RUNS.items() if library in reasons}
    if OWN in failed:
        sys.exit(f"{cell}: fastbp: {failed[OWN]}")
    return Measured({name: times for name, times in figures.items() if name not in failed}, failed)


Grid = dict[Cell, Measured]


def axes(measured: Grid) -> tuple[list[tuple[int, int]], list[int]]:
    """Rows and columns of tables and maps: networks (width, depth), and batches."""
    return sorted({(cell.width, cell.depth) for cell in measured}), sorted({cell.batch for cell in measured})


def table(measured: Grid, title: str, say: Callable[[Measured], str]) -> str:
    networks, batches = axes(measured)
    lines = [[title, *(f"batch {b}" for b in batches)], ["---"] * (len(batches) + 1)]
    for network in networks:
        cells = [measured.get(Cell(*network, b)) for b in batches]
        lines.append([f"width {network[0]} × {network[1]}", *(say(cell) if cell else "" for cell in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def ratio(cell: Measured, panel: str) -> str:
    bases, _ = PANELS[panel]
    middle, least = cell.ratios(bases)
    return failure(cell.reasons[bases[0]]) if math.isnan(middle) else f"{middle:.2f} ({least:.2f})"


def sums(measured: Grid) -> str:
    """What the reach is about, and how far the control comes apart."""
    lines = ["| fastbp's time over that of | by medians | by least times | reach |", "|---|---|---|---|"]
    for panel in (BETTER, RIVAL, "its control"):
        ratios = np.array([cell.ratios(PANELS[panel][0]) for cell in measured.values()])  # (cells, 2)
        ratios = ratios[~np.isnan(ratios[:, 0])]
        if not len(ratios):
            lines.append(f"| {panel} | not measured | | |")
            continue
        rows = [("largest", ratios.max(0), MOST.get(panel)), ("median", np.median(ratios, 0), None)]
        if panel == RIVAL:
            rows[1] = (*rows[1][:2], 0.6)
            rows.append(("share of the cells above 1", (ratios > 1).mean(0), 0.1))
        for title, (middle, least), most in rows:
            verdict = "" if most is None else f"{most:.2f}: {'met' if middle <= most else 'missed'}"
            lines.append(f"| {panel}: {title} | {middle:.2f} | {least:.2f} | {verdict} |")
    return "\n".join(lines) + "\n"


def notes(measured: Grid) -> str:
    """The cells beyond the reach, and why there are no figures."""
    lines = [f"- {cell}: {ratio(figures, panel)} times {panel}" for cell, figures in measured.items()
             for panel, most in MOST.items() if figures.ratios(PANELS[panel][0])[0] > most]
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell, figures in measured.items():
        for reason in figures.reasons.items():
            reasons.setdefault(reason, []).append(str(cell))
    lines += [f"- {name}, {len(cells)} cells, first {cells[0]}: {reason}" for (name, reason), cells in reasons.items()]
    return "\n".join(lines) + "\n" if lines else ""


def plot(measured: Grid, description: str, path: Path) -> None:
    """A heat map for each panel but the control; blue: fastbp is faster."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fastbp"  # the same figures give the same file
    from matplotlib import pyplot

    networks, batches = axes(measured)
    figure, places = pyplot.subplots(2, 2, figsize=(13, 10), layout="constrained")
    for ax, panel in zip(places.flat, [panel for panel in PANELS if panel != "its control"], strict=True):
        bases, limit = PANELS[panel]
        ratios = [[measured[c].ratios(bases)[0] if (c := Cell(*network, b)) in measured else math.nan for b in batches]
                  for network in networks]
        heat_map(ax, np.array(ratios), limit, "RdBu_r")
        ax.set(title=f"fastbp / {panel}", xlabel="batch", ylabel="width × hidden layers", xticks=range(len(batches)),
               xticklabels=batches, yticks=range(len(networks)), yticklabels=[f"{w} × {d}" for w, d in networks])
    figure.suptitle(description.split(", vectors")[0], fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--quick", action="store_true", help="two cells for a moment, to see that all works")
    parser.add_argument("--results", type=Path, help="write inference.md, .json and .svg to this folder")
    options = parser.parse_args()
    seconds, depths = SECONDS, DEPTHS
    if options.quick:
        seconds, depths, options.widths, options.batches = QUICK_SECONDS, [2], [256], [1, 64]
    cells = [Cell(w, d, b) for w in options.widths for d in depths for b in options.batches]

    processors = Processors(sorted(os.sched_getaffinity(0)))
    workers = {library: Worker(library, processors.cpus) for library in LIBRARIES}
    measured = {}
    for cell in cells:
        if cell.operations <= MOST_OPERATIONS:
            figures = measured[cell] = measure(workers, cell, seconds, options.rounds, processors)
            print(cell, *(f"{name}: {median(times) * 1e6:.4g} µs" for name, times in figures.seconds.items()), sep="  ",
                  file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.stop()

    description = describe(f"{PROCESSORS} processors for each process, up to {options.rounds} interleaved rounds, "
                           f"{processors}", ["onnxruntime", "torch", "scikit-learn"])
    text = [description + "\n", "Width × hidden layers. Medians of the rounds' ratios (ratios of the least times); "
            "below 1, fastbp is faster. Empty: a call takes seconds.\n"]
    text.append(table(measured, "fastbp, µs a call", lambda cell: f"{median(cell.seconds[OWN]) * 1e6:.4g}"))
    text += [table(measured, f"fastbp / {panel}", functools.partial(ratio, panel=panel)) for panel in PANELS]
    text += [sums(measured), notes(measured)]
    print("\n".join(text))
    if options.results:
        record = {"machine": description, "cells": [vars(cell) | vars(figures) for cell, figures in measured.items()]}
        (options.results / "inference.md").write_text("\n".join(text), encoding="utf-8")
        (options.results / "inference.json").write_text(json.dumps(record, indent=1) + "\n")
        plot(measured, description, options.results / "inference.svg")


if __name__ == "__main__":
    main()
