"""Every way to call fastbp, beside what people would use instead: make bench-doors

Steps, gradients, forward passes and whole tasks, from Python and from compiled code. Each library works in a process of
its own, pinned to the same processors; a piece of each way in turn, round by round, while the others wait. "fastbp
again" is a second process that does the first way once more: its ratio shows what a difference means. All start from
the same parameters and data, each handed arrays of its own kind, and must agree on the loss of the first steps. Where
a task draws random numbers, PyTorch and JAX are given what fastbp draws, in the first steps or, of the differential
equation, in all. The cart-pole's are each library's own: what is checked is the mean length of an episode in ten
updates, whose standard deviation from seed to seed is 7 %.

The command exits with 1 if a library does another job. A reach that is missed is shown, and no error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parent / "peers")]
import run  # noqa: E402
from machine import Processors  # noqa: E402
from ways import DOORS, Door  # noqa: E402

LIBRARIES = {  # name: module, what is put into the environment of its process
    "fastbp": ("ways_fastbp", {}),
    "fastbp again": ("ways_fastbp", {}),
    "PyTorch": ("ways_torch", {}),
    "PyTorch on 1 thread": ("ways_torch", {"OMP_NUM_THREADS": "1"}),
    "JAX": ("ways_jax", {}),
    "mlpfile": ("ways_mlpfile", {}),
    "ONNX Runtime": ("ways_onnx", {}),
}
PACKAGES = ["torch", "jax", "optax", "scipy", "mlpfile", "onnxruntime"]
SECONDS, QUICK_SECONDS = 0.2, 0.005  # of a piece, where one call takes less


@dataclass(frozen=True)
class Reach:
    """What is aimed at: a bound of a way's time, in the door's unit, or of its ratio to another way's."""

    door: str
    way: str
    bound: float
    other: str | None = None
    least: bool = False  # whether the ratio is to be at least the bound, else at most


STEP, FIT, COMPILED, ROW = "fastbp, trainer.step", "fastbp, fit", "fastbp, compiled.step", "fastbp, float32 row"
REACHES = [
    Reach("step-32", STEP, 1.3, FIT), Reach("step-32", "PyTorch", 60, STEP, True),
    Reach("step-32", "JAX", 15, STEP, True), Reach("step-1", STEP, 4.0), Reach("step-784", STEP, 1.05, FIT),
    Reach("step-32", COMPILED, 1.05, FIT), Reach("step-1", COMPILED, 1.5),
    Reach("gradient-32", "fastbp, cost_and_gradient", 10.0), Reach("l-bfgs", "JAX", 5, "fastbp", True),
    *(Reach(door, way, bound, other) for door in DOORS if door.startswith("forward") for way, bound, other in (
        (ROW, 0.8, "mlpfile"), ("fastbp, float64 row", 1.3, ROW), ("fastbp, float32 vector", 1.3, ROW))),
    Reach("fit-many", "JAX", 5, "fastbp", True), Reach("fit-many", "PyTorch", 50, "fastbp", True),
]


class Piece:
    """A way in its process: how many calls take so many seconds or, of what takes longer, one."""

    def __init__(self, run: Callable[[int], float], seconds: float):
        self.run, self.times = run, 1
        wall, _ = self._timed(1)  # compiles, where the check has not
        if wall < 1:
            wall, _ = self._timed(1)
        while wall < seconds / 2:
            self.times = math.ceil(self.times * min(10, seconds / wall))
            wall, _ = self._timed(self.times)

    def _timed(self, times: int) -> tuple[float, float]:
        started = time.perf_counter()
        done = self.run(times)
        return time.perf_counter() - started, done

    def measure(self) -> float:
        """Seconds of one."""
        if self.times > 1:
            self.run(math.ceil(self.times / 10))  # caches have gone cold while others worked
        wall, done = self._timed(self.times)
        return wall / done


def work(library: str, door: Door, seconds: float) -> None:
    """In a process of its own: the checked number of each way, then for each line, a way's name, its seconds a call."""
    try:
        module, settings = LIBRARIES[library]
        os.environ.update(settings)
        ways = getattr(importlib.import_module(module), door.job)(door)
        if library == "fastbp again":
            ways = dict(list(ways.items())[:1])
        print(json.dumps({"checked": {name: float(way.check()) for name, way in ways.items()}}), flush=True)
        pieces = {}
        for line in sys.stdin:
            name = line.rstrip("\n")
            pieces[name] = pieces.get(name) or Piece(ways[name].run, seconds)  # now, as the other libraries are waiting
            print(json.dumps({"seconds": pieces[name].measure()}), flush=True)
    except Exception as error:  # whatever it is, the table names it
        print(json.dumps({"reason": " ".join(f"{type(error).__name__}: {error}".split())[:300]}), flush=True)


def measure(name: str, rounds: int, quick: bool, processors: Processors) -> dict[str, run.Result]:
    """Of each way at one door, fastbp's first; of a library that has none, under its own name, why."""
    door = DOORS[name]
    libraries = ["fastbp", "fastbp again", *door.libraries]
    arguments = ["--only", name, *["--quick"][: int(quick)]]
    workers = {library: run.Worker(__file__, ["--worker", library, *arguments], processors.cpus)
               for library in libraries}
    checked = {library: worker.answer().get("checked", {}) for library, worker in workers.items()}
    results = {(library, way): run.Result(loss=number) for library in libraries
               for way, number in checked[library].items()}
    for number in range(1 + rounds):
        for (library, way), result in results.items():
            if workers[library].result.reason:
                continue
            time.sleep(run.PAUSE)
            if number and not quick:
                processors.settle()
            answer = workers[library].ask(way)
            if number and "seconds" in answer:
                result.seconds.append(answer["seconds"])
    expected = next((result.loss for (library, _), result in results.items() if library == "fastbp"), None)
    for (library, _), result in results.items():
        result.reason = workers[library].result.reason
        tolerance = door.tolerance or run.TOLERANCE
        if result.reason is None and (expected is None or not abs(result.loss / expected - 1) <= tolerance):
            result.reason = f"{run.OTHER_JOB}: {result.loss}, fastbp's first way {expected}"
    named = {f"{library}, {way}": result for (library, way), result in results.items()}
    for library, worker in workers.items():
        reason = worker.stop().reason
        if not checked[library]:
            named[library] = run.Result(reason=reason)
    return named


def found(results: dict[str, run.Result], start: str) -> list[float]:
    """Seconds, round by round, of the first way whose name is or starts with this; empty where there are none."""
    for way, result in results.items():
        if way == start or way.startswith(start + ", "):
            return [] if result.reason else result.seconds
    return []


def ratios(results: dict[str, run.Result], way: str, other: str) -> list[float]:
    """Of a way's time to another's in the same round."""
    pairs = found(results, way), found(results, other)
    return [a / b for a, b in zip(*pairs, strict=True)] if all(pairs) else []


def rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def spread(values: list[float]) -> str:
    return f"{rounded(median(values))} ({rounded(min(values))}–{rounded(max(values))})"


def rows(door: Door, results: dict[str, run.Result]) -> list[str]:
    """A way each: its time, how many of them a second, and its ratio to the first way's."""
    unit, factor = door.unit
    lines = ["", f"| {door.title} | {unit} | a second | times the first |", "|---|---|---|---|"]
    for way, result in results.items():
        cells = [run.failure(result.reason or ""), "", ""]
        if not result.reason:
            times = ratios(results, way, next(iter(results)))
            cells = [spread([factor * s for s in result.seconds]), rounded(1 / median(result.seconds)),
                     spread(times) if times else ""]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return lines


def reached(figures: dict[str, dict[str, run.Result]]) -> list[str]:
    """What was aimed at, what was measured, and whether it is enough."""
    lines = ["", "| reach | bound | measured | |", "|---|---|---|---|"]
    for reach in (reach for reach in REACHES if reach.door in figures):
        results, (unit, factor) = figures[reach.door], DOORS[reach.door].unit
        if reach.other:
            values, what = ratios(results, reach.way, reach.other), f"{reach.way} / {reach.other}"
        else:
            values, what = [factor * s for s in found(results, reach.way)], f"{reach.way}, {unit}"
        sign, cells = "≥" if reach.least else "≤", ["no figure", ""]
        if values:
            good = median(values) >= reach.bound if reach.least else median(values) <= reach.bound
            cells = [spread(values), "reached" if good else "**missed**"]
        lines.append(f"| {reach.door}: {what} | {sign} {reach.bound:g} | " + " | ".join(cells) + " |")
    return lines if len(lines) > 3 else []


def report(figures: dict[str, dict[str, run.Result]], description: str) -> str:
    lines = [description, "", "Median (range) of the rounds; a ratio is of times in the same round."]
    for name, results in figures.items():
        lines += rows(DOORS[name], results)
    lines += reached(figures)
    notes = [f"- {DOORS[name].title}: {way}: {result.reason}" for name, results in figures.items()
             for way, result in results.items() if result.reason]
    return "\n".join([*lines, *(["", "Without a figure:", ""] if notes else []), *notes]) + "\n"


def plot(figures: dict[str, dict[str, run.Result]], description: str, path: Path) -> None:
    """Each way's time as a multiple of the first way's, which is fastbp's."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "fastbp"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.6 + 0.3 * len(figures)), layout="constrained")
    places = {name: row for row, name in enumerate(reversed(figures))}
    for library, marker in zip(LIBRARIES, "o|^>sPv", strict=True):
        points = [(median(times), places[name]) for name, results in figures.items() for way in results
                  if way.startswith(library + ",") and (times := ratios(results, way, next(iter(results))))]
        if points:
            axes.plot(*zip(*points, strict=True), marker, label=library, alpha=0.8, markersize=6)
    axes.set_xscale("log")
    axes.axvline(1, color="#d1495b", zorder=0)
    run.label(figure, axes, {DOORS[name].title: row for name, row in places.items()}, "fastbp's first way",
              len(LIBRARIES), description)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(DOORS), choices=list(DOORS), metavar="NAME",
                        help=f"some of {', '.join(DOORS)}")
    parser.add_argument("--rounds", type=int, default=5, help="counted pieces of each way, after one more")
    parser.add_argument("--quick", action="store_true", help="a few calls of everything: does it run?")
    parser.add_argument("--results", type=Path, help="write doors.md, .json and .svg to this folder")
    parser.add_argument("--worker", choices=list(LIBRARIES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
        DOORS.update({name: door.quick() for name, door in DOORS.items()})
    if options.worker:
        work(options.worker, DOORS[options.only[0]], QUICK_SECONDS if options.quick else SECONDS)
        return 0
    processors, figures = Processors(sorted(os.sched_getaffinity(0))), {}
    for name in options.only:
        started = time.perf_counter()
        figures[name] = measure(name, options.rounds, options.quick, processors)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    description = run.describe(f"{len(processors.cpus)} processors for each process, {options.rounds} interleaved "
                               f"rounds, {processors}", PACKAGES)
    text = report(figures, description)
    print(text)
    if options.results:
        (options.results / "doors.md").write_text(text, encoding="utf-8")
        record = {"machine": description, "doors": {name: {way: vars(result) for way, result in results.items()}
                                                    for name, results in figures.items()}}
        (options.results / "doors.json").write_text(json.dumps(record, indent=1) + "\n")
        plot(figures, description, options.results / "doors.svg")
    return any((result.reason or "").startswith(run.OTHER_JOB) for results in figures.values()
               for result in results.values())


if __name__ == "__main__":
    sys.exit(main())
