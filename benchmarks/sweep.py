"""No cliffs: seconds a training step over widths and batches, beside PyTorch and JAX: make bench-sweep

Nets [w, w, w], tanh and identity, quadratic loss, SGD without momentum, float32 in memory, as benchmarks/peers/ has
them; each library in a process of its own, one measurement each in turn, the others waiting. In every cell all start
from the same parameters, see the same samples in the same order, and must reach the same loss in the first epoch.
Libraries that are not installed are left out.

The rule: fastbp with threads=None is nowhere slower than with threads=1 by more than 5 %. A cell that breaks it is
measured again, for longer, in several sets of new processes and beside a control, a second process with threads=1,
since of two that do the same one was seen to be 19 % slower. One that is slower than both by more than 5 % makes the
command exit with 1. All takes some 25 minutes on a quiet machine of 2 processors; on a busy one the rule is often
broken.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import Processors, describe, interleave

sys.path.append(str(Path(__file__).parent / "peers"))
from workloads import Piece, Workload  # noqa: E402

WIDTHS, BATCHES = [2**i for i in range(12)], [4**i for i in range(7)]
NUMBERS, STEPS, QUICK_STEPS = 1 << 22, 1024, 32  # of the samples of a cell, and of its epoch, at the most
CELL_SECONDS = 30  # for the rounds of a cell: the largest get fewer
MOST = 1.05  # threads=None to threads=1
SETS = 5  # of processes, for a cell that is measured again
CONTROL = "fastbp, 1 thread, control"
Cell = tuple[int, int]  # width, batch

# name: (package, module, its settings, share of --seconds)
RUNS = {
    "fastbp, 1 thread": ("fastbp", "with_fastbp", {"threads": 1}, 1),
    "fastbp, 2 threads": ("fastbp", "with_fastbp", {"threads": 2}, 1),
    "fastbp": ("fastbp", "with_fastbp", {}, 1),
    "PyTorch, 1 thread": ("torch", "with_torch", {"threads": 1}, 0.5),
    "PyTorch": ("torch", "with_torch", {}, 0.5),
    "JAX": ("jax", "with_jax", {}, 0.5),
}


def workload(width: int, batch: int, most: int) -> Workload:
    """Epochs of `most` steps or, of large samples, fewer, and a learning rate at which no width diverges."""
    steps = min(most, max(1, NUMBERS // (width * batch)))
    return Workload((width,) * 3, "tanh", "plain SGD", batch, steps * batch, 0.1 / width)


def work(name: str) -> None:
    """In a process of its own. A line [width, batch, most steps of an epoch, seconds] sets up a cell; answered is the
    first epoch's loss. A line "go" trains for about so many seconds; answered are the seconds a step.
    """
    _, module, settings, share = RUNS[name]
    library = importlib.import_module(module)
    for line in sys.stdin:
        if line != "go\n":
            width, batch, most, seconds = json.loads(line)
            cell = workload(width, batch, most)
            train, done, epochs = library.Training(cell, **settings), 1, 1
            print(json.dumps(train(Piece(0, 1, cell.rows))), flush=True)
            started = time.perf_counter()
            train(Piece(1, 1, cell.rows))
            done, epochs = 2, max(1, round(share * seconds / (time.perf_counter() - started)))
        else:
            started = time.perf_counter()
            train(Piece(done, epochs, cell.rows))
            print((time.perf_counter() - started) / (epochs * cell.steps), flush=True)
            done += epochs


class Worker:
    """A library in its process."""

    def __init__(self, name: str):
        command = [sys.executable, __file__, "--worker", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line: str) -> float:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("a worker ended; its message is above")
        return json.loads(answer)

    def go(self) -> float:
        return self.ask("go")

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(workers: dict[str, Worker], cell: Cell, most: int, seconds: float, rounds: int,
            processors: Processors) -> dict[str, list[float]]:
    """Seconds a step, by library and round; one more round before them, in which JAX compiles, does not count."""
    losses = {name: worker.ask(json.dumps([*cell, most, seconds])) for name, worker in workers.items()}
    if not max(losses.values()) < 1.01 * min(losses.values()):
        sys.exit(f"width {cell[0]}, batch {cell[1]}: losses {losses}: not the same job")
    measures = {name: worker.go for name, worker in workers.items()}
    started = time.perf_counter()
    interleave(measures, 1)
    rounds = max(1, min(rounds, int(CELL_SECONDS / (time.perf_counter() - started))))
    return interleave(measures, rounds, processors.settle)


def ratio(figures: dict[str, list[float]], name: str, base: str) -> float:
    """Median over the rounds of the time of one to that of the other."""
    return median(a / b for a, b in zip(figures[name], figures[base], strict=True))


def slower(figures: dict[str, list[float]]) -> bool:
    """Whether the rule is broken; where there is a control, beside it too."""
    return all(ratio(figures, "fastbp", base) > MOST for base in ("fastbp, 1 thread", CONTROL) if base in figures)


def repeat(cells: list[Cell], most: int, seconds: float, rounds: int,
           processors: Processors) -> dict[Cell, dict[str, list[float]]]:
    """What the rule is about, of these cells, once more in SETS of new processes."""
    names = {"fastbp, 1 thread": "fastbp, 1 thread", "fastbp": "fastbp", CONTROL: "fastbp, 1 thread"}
    figures: dict[Cell, dict[str, list[float]]] = {cell: {name: [] for name in names} for cell in cells}
    for _ in range(SETS if cells else 0):
        workers = {name: Worker(run) for name, run in names.items()}
        for cell in cells:
            for name, times in measure(workers, cell, most, seconds, rounds, processors).items():
                figures[cell][name] += times
        for worker in workers.values():
            worker.stop()
    return figures


PANELS = [  # name, base, title, limit of the colours
    ("fastbp", "fastbp, 1 thread", "fastbp: default threads / 1 thread", 2),
    ("PyTorch", "PyTorch, 1 thread", "PyTorch: default threads / 1 thread", 2),
    ("PyTorch", "fastbp", "PyTorch / fastbp, default threads", 32),
    ("JAX", "fastbp", "JAX / fastbp, default threads", 32),
]


def grid(figures: dict[Cell, dict[str, list[float]]], name: str, base: str) -> tuple[list[int], list[int], np.ndarray]:
    """Widths, batches, and the ratios (widths, batches)."""
    widths, sizes = (sorted({cell[i] for cell in figures}) for i in range(2))
    return widths, sizes, np.array([[ratio(figures[w, b], name, base) for b in sizes] for w in widths])


def table(widths: list[int], sizes: list[int], ratios: np.ndarray, title: str) -> str:
    lines = [f"| {title} | " + " | ".join(f"batch {b}" for b in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    lines += [f"| width {w} | " + " | ".join(f"{r:.2f}" for r in row) + " |"
              for w, row in zip(widths, ratios, strict=True)]
    return "\n".join(lines)


def heat_map(ax: Any, ratios: np.ndarray, limit: float, palette: str) -> None:
    """Ratios (rows, columns) as colours and numbers, the first row at the bottom; NaN: none."""
    from matplotlib import colors

    image = ax.imshow(ratios, palette, colors.LogNorm(1 / limit, limit), aspect="auto", origin="lower")
    for (i, j), value in np.ndenumerate(ratios):
        if not np.isnan(value):
            strong = abs(np.log(value)) > 0.6 * np.log(limit)
            ax.text(j, i, f"{value:.2f}" if value < 9.95 else f"{value:.0f}", ha="center", va="center", fontsize=7,
                    color="white" if strong else "black")
    ticks = [t for t in (1 / 32, 1 / 8, 1 / 2, 1, 2, 8, 32) if 1 / limit <= t <= limit]
    bar = ax.figure.colorbar(image, ax=ax, ticks=ticks, format=lambda t, _: f"{t:.4g}")
    bar.minorticks_off()


def plot(figures: dict[Cell, dict[str, list[float]]], panels: list[tuple[str, str, str, float]], path: Path) -> None:
    """A heat map for each panel, each cell with its number; blue is good for fastbp, or for many threads."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fastbp"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 10), layout="constrained")
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (name, base, title, limit) in zip(axes.flat, panels, strict=False):
        widths, sizes, ratios = grid(figures, name, base)
        heat_map(ax, ratios, limit, "RdBu_r" if name == base.split(",")[0] else "RdBu")
        ax.set(title=title, xlabel="batch", ylabel="width", xticks=range(len(sizes)), xticklabels=sizes,
               yticks=range(len(widths)), yticklabels=widths)
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=120, metadata={"Date": None} if suffix == ".svg" else None)


def conclude(machine: str, names: list[str], figures: dict[Cell, dict[str, list[float]]],
             again: dict[Cell, dict[str, list[float]]], results: Path | None) -> list[Cell]:
    """Print the tables and what was measured again, and write it to the folder; returns the cells that are too slow."""
    panels = [panel for panel in PANELS if panel[0] in names]
    broken = [cell for cell, measured in again.items() if slower(measured)]
    lines = [machine + "\n"]
    lines += [table(*grid(figures, name, base), title) + "\n" for name, base, title, _ in panels]
    for cell, measured in again.items():
        first, second, other = (ratio(f, "fastbp", base) for f, base in (
            (figures[cell], "fastbp, 1 thread"), (measured, "fastbp, 1 thread"), (measured, CONTROL)))
        lines.append(f"- width {cell[0]}, batch {cell[1]}: threads=None takes {first:.3f} times threads=1; again "
                     f"{second:.3f}, and {other:.3f} times the control" + (": TOO SLOW" if cell in broken else ""))
    lines.append(f"- threads=None is slower than threads=1 by more than 5 % in {len(broken)} cells")
    print("\n".join(lines))
    if results:
        report = {"machine": machine, "broken": broken,
                  "cells": [{"width": w, "batch": b, "seconds": measured, "again": again.get((w, b))}
                            for (w, b), measured in figures.items()]}
        (results / "sweep.json").write_text(json.dumps(report, indent=1) + "\n")
        (results / "sweep.md").write_text("\n".join(lines) + "\n")
        plot(figures, panels, results / "sweep.svg")
    return broken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each measurement of fastbp; half for others")
    parser.add_argument("--quick", action="store_true", help="a few cells for a moment, to see that all works")
    parser.add_argument("--results", type=Path, help="write sweep.md, .json, .svg and .png to this folder")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    cells, most = [(w, b) for w in WIDTHS for b in BATCHES], STEPS
    if options.quick:
        cells, most, options.seconds = [(w, b) for w in (1, 256) for b in (1, 64)], QUICK_STEPS, 0.02

    processors = Processors(sorted(os.sched_getaffinity(0)))
    names = [name for name, (package, *_) in RUNS.items() if importlib.util.find_spec(package)]
    workers = {name: Worker(name) for name in names}
    figures = {}
    for cell in cells:
        figures[cell] = measure(workers, cell, most, options.seconds, options.rounds, processors)
        print(*cell, *(f"{name}: {median(times):.3g} s" for name, times in figures[cell].items()), sep="  ",
              file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.stop()
    suspects = [cell for cell, measured in figures.items() if slower(measured)]
    again = repeat(suspects, most, 2 * options.seconds, options.rounds, processors)
    packages = sorted({RUNS[name][0] for name in names} - {"fastbp"})
    peers = ", ".join(f"{package} {version(package)}" for package in packages)
    machine = f"{describe()}, {peers}; up to {options.rounds} interleaved rounds, {processors}"
    broken = conclude(machine, names, figures, again, options.results)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
