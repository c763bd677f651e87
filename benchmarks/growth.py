"""How time grows with samples, parameters, mini-batch and threads: make bench-growth

float32, SGD, tanh and identity, quadratic loss, samples in memory, Trainer.fit. Each point once a round, all in turn;
medians. In the same rounds the peak of one thread (independent fused multiply-adds on registers): it shows how steady
the machine was, and the least time that a step's 10 x width² x batch operations could take.

Slopes are fitted to the medians on log-log axes, where work dominates. The ranges were set before any result:

    samples     from 8,192 on: 64 steps and more, of 0.1 ms at least, beside about 0.2 ms that a call of fit takes
                (checks, workspace, the copy of the parameters)
    parameters  widths from 128 on: products of whole register tiles, 4 x 8 vectors and more
    batch       from 128 on: the update reads and writes every parameter once a step, whatever the batch; it takes about
                as long as the products of 2 or 3 samples
    threads     all; on ideal processors the slope is -1
    processes   what the processors give when all are busy: as many processes as threads before, each with a network of
                its own on one thread, and nothing shared but the machine

A slope within 5 % of 1 is the aim.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

import numpy as np
from machine import Processors, describe, interleave, spread
from probes import peak

import fastbp
from fastbp.core.threads.processors import available_threads

AIM = 0.05
LEAST_STEPS, LEAST_SECONDS = 8, 1.0  # of a measurement: what a call of `fit` does once, some 5 ms, is a small part


@dataclass(frozen=True)
class Point:
    """What is trained: nets [width, width, width]."""

    width: int = 256
    batch: int = 128
    samples: int | None = None  # of an epoch; None: as many as a measurement needs
    threads: int = 1

    @property
    def parameters(self) -> int:
        return 2 * self.width * (self.width + 1)

    @property
    def operations(self) -> int:
        """Multiplications and additions of a step's five dense products: two forward, one backward, two gradients."""
        return 5 * 2 * self.width**2 * self.batch


@dataclass(frozen=True)
class Law:
    """Time against one quantity."""

    quantity: str  # an attribute of Point
    measure: str
    points: list[Point]
    least: int  # where the fitted range starts
    slope: int  # that of work


def laws(threads: list[int]) -> dict[str, Law]:
    samples = Point(width=128)
    network, batch, team = Point(batch=512), Point(width=512), Point(width=512, batch=512)
    busy = Law("threads", "step", [replace(team, threads=n) for n in threads], 1, -1)
    return {
        "samples": Law("samples", "epoch", [replace(samples, samples=2**i) for i in range(9, 18)], 8192, 1),
        "parameters": Law("parameters", "step", [replace(network, width=2**i) for i in range(3, 12)], 2 * 128 * 129, 1),
        "batch": Law("batch", "step", [replace(batch, batch=2**i) for i in range(13)], 128, 1),
        "threads": busy,
        "processes": busy,
    }


def timer(point: Point) -> Callable[[], float]:
    """A measure of the seconds of an epoch or, where the point names no samples, of a step."""
    draw = np.random.default_rng(0)
    net = fastbp.Network([point.width] * 3, hidden="tanh", output="identity", seed=0)
    trainer = fastbp.Trainer(net, "quadratic", fastbp.SGD(0.1 / point.width), point.batch, threads=point.threads)
    steps = LEAST_STEPS if point.samples is None else point.samples // point.batch
    x = draw.random((steps * point.batch, point.width), np.float32)
    y = draw.random(x.shape, np.float32)

    def fit(epochs: int) -> float:
        started = time.perf_counter()
        trainer.fit(x, y, epochs, progress=False)
        return (time.perf_counter() - started) / epochs

    if point.samples is not None:
        return lambda: fit(1)
    fit(1)  # loads the machine code
    epochs = max(1, round(LEAST_SECONDS / fit(1)))
    return lambda: fit(epochs) / steps


def _work(pipe, point: Point, cpu: int) -> None:
    """A process that makes a measurement of `point` whenever it is asked to, on one processor."""
    os.sched_setaffinity(0, {cpu})
    measure = timer(point)
    pipe.send(None)
    with contextlib.suppress(EOFError):  # when the asking process has ended
        while pipe.recv():
            pipe.send(measure())


@functools.cache
def _process(point: Point, cpu: int):
    """The pipe to a process that is ready to measure."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=_work, args=(theirs, point, cpu), daemon=True).start()
    ours.recv()
    return ours


def apart(point: Point) -> Callable[[], float]:
    """A measure of the seconds a step of as many processes at once as the point has threads, by their number."""
    cpus = sorted(os.sched_getaffinity(0))[: point.threads]
    pipes = [_process(replace(point, threads=1), cpu) for cpu in cpus]

    def measure() -> float:
        for pipe in pipes:
            pipe.send(True)
        return fmean(pipe.recv() for pipe in pipes) / len(pipes)

    return measure


def slope(x: list[float], y: list[float]) -> float:
    """Of the least-squares line through (log x, log y)."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def fitted(law: Law, seconds: list[float]) -> float:
    """The slope within the law's range."""
    pairs = [(getattr(point, law.quantity), time) for point, time in zip(law.points, seconds, strict=True)]
    x, y = zip(*(pair for pair in pairs if pair[0] >= law.least), strict=True)
    return slope(list(x), list(y))


def verdict(name: str, law: Law, seconds: list[float]) -> str:
    if len(law.points) < 2:
        return f"{name}: one point only, no slope"
    found = fitted(law, seconds)
    within = "within" if abs(found - law.slope) <= AIM else "NOT within"
    return f"{name}: slope {found:.3f} from {law.least:,} on; {within} 5 % of {law.slope}"


def plot(figures: dict[str, tuple[Law, list[float]]], rate: float, path: Path) -> None:
    """A panel for each law, processes beside threads: medians, the fitted line over its range, the least time at the
    peak."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fastbp"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 7), layout="constrained")
    panels = [item for item in figures.items() if item[0] != "processes"]
    for ax, (name, (law, seconds)) in zip(axes.flat, panels, strict=True):
        x = [getattr(point, law.quantity) for point in law.points]
        per = [point.samples / point.batch if point.samples else 1 for point in law.points]
        least = [n * p.operations / p.threads / rate for n, p in zip(per, law.points, strict=True)]
        ax.loglog(x, seconds, "o", color="#d1495b", label="measured")
        ax.loglog(x, least, "--", color="#808080", linewidth=1, label="at the processor's FMA peak")
        if len(x) > 1:
            inside = [(at, time) for at, time in zip(x, seconds, strict=True) if at >= law.least]
            k, middle = fitted(law, seconds), np.exp(np.mean(np.log(inside), axis=0))
            ends = np.array([inside[0][0], inside[-1][0]], float)
            ax.loglog(ends, middle[1] * (ends / middle[0]) ** k, color="#d1495b", label=f"slope {k:.3f}")
        ax.set(title=_what(law), xlabel=name, ylabel=f"seconds for one {law.measure}")
        if name == "threads":
            ax.loglog(x, figures["processes"][1], "s", color="#808080", fillstyle="none",
                      label="as many processes, a network each")
            ax.set_xticks(x, x)
            ax.minorticks_off()
        ax.legend(frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _what(law: Law) -> str:
    """What stays the same within a law."""
    point, parts = law.points[0], []
    if law.quantity != "parameters":
        parts.append("-".join([str(point.width)] * 3))
    if law.quantity != "batch":
        parts.append(f"batch {point.batch}")
    if law.quantity != "threads":
        parts.append("1 thread")
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="only points of little work, to see that all works")
    parser.add_argument("--results", type=Path, help="write growth.json and growth.svg to this folder")
    options = parser.parse_args()
    available = available_threads()
    chosen = laws([n for n in range(1, available + 1) if n == available or n.bit_count() == 1])
    if options.quick:
        chosen = {name: replace(law, points=law.points[:-3] if len(law.points) > 4 else law.points)
                  for name, law in chosen.items()}
    measures = {(name, point): (apart if name == "processes" else timer)(point)
                for name, law in chosen.items() for point in law.points}
    processors = Processors(sorted(os.sched_getaffinity(0)))
    figures = interleave({"peak": peak("float32", 0.02)} | measures, options.rounds, processors.settle)
    rates = figures.pop("peak")
    results = {name: (law, [median(figures[name, point]) for point in law.points]) for name, law in chosen.items()}

    print(f"{describe()}; {options.rounds} interleaved rounds, {processors}; FMA peak of one thread "
          f"{spread(rates, 1)} GFLOP/s\n")
    for name, (law, seconds) in results.items():
        print(f"| {name} ({_what(law)}) | milliseconds for one {law.measure}, median (range) |\n|---|---|")
        for point in law.points:
            milliseconds = [1e3 * value for value in figures[name, point]]
            print(f"| {getattr(point, law.quantity):,} | {spread(milliseconds)} |")
        print("\n" + verdict(name, law, seconds) + "\n")
    if options.results:
        report = {"machine": describe(), "peak_gflops": rates, "laws": [
            {"quantity": name, "seconds_of": law.measure, "fitted_from": law.least, "fixed": _what(law),
             "slope": fitted(law, seconds) if len(seconds) > 1 else None,
             "points": [{name: getattr(point, law.quantity), "seconds": figures[name, point]} for point in law.points]}
            for name, (law, seconds) in results.items()]}
        (options.results / "growth.json").write_text(json.dumps(report, indent=1) + "\n")
        plot(results, 1e9 * median(rates), options.results / "growth.svg")


if __name__ == "__main__":
    main()
