"""fastbp beside what people would use instead, at every size: make bench-peers

Every library does the same arithmetic in float32 on the same data from the same parameters in the same order, each in
a process of its own, pinned to the same processors: a piece each in turn while the others wait. The mean loss of the
first ten steps must be fastbp's. A peer that fails, is missing or does another job is shown as that.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine  # noqa: E402
from workloads import CHECKED, WORKLOADS, Workload  # noqa: E402

# Of the mean loss of the first ten steps (forward: of the mean size of the tenth outputs), relative to fastbp's:
# above the differences of rounding, below what a velocity that is wrong by 1 % makes of 784-128-10 (8e-4).
TOLERANCE = 2e-4
OTHER_JOB = "not the same job"
PAUSE = 0.05  # seconds before a piece: threads of BLAS and OpenMP spin for some milliseconds after their last task
LARGE = 1e8  # operations of a step
SHORT = 0.4  # seconds; before a piece shorter than that, one is not timed: caches have gone cold while others worked
PEERS = {  # name: module, its settings
    "fastbp": ("with_fastbp", {}),
    "PyTorch, 1 thread": ("with_torch", {"threads": 1}),
    "PyTorch": ("with_torch", {}),
    "torch.compile": ("with_torch", {"compiled": True}),
    "JAX": ("with_jax", {}),
    "scikit-learn": ("with_sklearn", {}),
    "NumPy": ("with_numpy", {}),
    "FANN": ("with_fann", {}),
    "mlpfile": ("with_mlpfile", {}),
}
# The workloads of which a peer can do the same job, where it is not all.
CAN = {"FANN": ("small-1-plain", "forward-4"), "mlpfile": ("forward-40", "forward-64")}
PACKAGES = ["torch", "jax", "optax", "scikit-learn", "mlpfile"]  # whose versions are stated beside fastbp's own


@dataclass
class Result:
    """Of one peer at one workload; or why there is none."""

    seconds: list[float] = field(default_factory=list)  # of each counted piece
    loss: float | None = None  # of the first steps
    reason: str | None = None


def work(peer: str, workload: Workload) -> None:
    """In a process of its own: the loss of the check, then for each line read a piece, its seconds answered."""
    module, settings = PEERS[peer]
    try:
        library = importlib.import_module(module)
        make = (library.Training if workload.optimizer else library.forward)(workload, **settings)
        print(json.dumps({"loss": make(workload.check())}), flush=True)
        number, seconds = 0, 0.0
        for _ in sys.stdin:
            for _ in range(2 if seconds < SHORT else 1):
                started = time.perf_counter()
                make(workload.piece(number))
                number, seconds = number + 1, time.perf_counter() - started
            print(json.dumps({"seconds": seconds}), flush=True)
    except Exception as error:  # whatever it is, the table names it
        print(json.dumps({"reason": " ".join(f"{type(error).__name__}: {error}".split())[:300]}), flush=True)


class Worker:
    """A peer in its process, from its start to its result."""

    def __init__(self, script: str, arguments: list[str], cpus: list[int]):
        self.result = Result()
        command = ["taskset", "-c", ",".join(map(str, cpus)), sys.executable, script, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"reason": f"its process ended with {self.process.wait()}"}
        self.result.reason = answer.get("reason")
        return answer

    def ask(self, line: str) -> dict:
        with contextlib.suppress(BrokenPipeError):  # an ended process answers with its status
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        return self.answer()

    def ready(self) -> None:
        """Wait until it has loaded and made the first steps."""
        self.result.loss = self.answer().get("loss")

    def piece(self, counted: bool) -> None:
        if self.result.reason:
            return
        answer = self.ask("go")
        if counted and not self.result.reason:
            self.result.seconds.append(answer["seconds"])

    def stop(self) -> Result:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        return self.result


def measure(name: str, rounds: int, quick: bool, processors: machine.Processors,
            peers: list[str]) -> dict[str, Result]:
    """The peers at one workload: one piece uncounted, which compiles, then `rounds`."""
    peers = [peer for peer in peers if name in CAN.get(peer, [name])]
    options = ["--workloads", name, *["--quick"][: int(quick)]]
    workers = {peer: Worker(__file__, ["--worker", peer, *options], processors.cpus) for peer in peers}
    for worker in workers.values():
        worker.ready()
    for number in range(1 + rounds):
        for worker in workers.values():
            time.sleep(PAUSE)
            if number:
                processors.settle()
            worker.piece(counted=number > 0)
    results = {peer: worker.stop() for peer, worker in workers.items()}
    expected = results["fastbp"].loss
    for result in results.values():
        if result.reason is None and (expected is None or not abs(result.loss / expected - 1) <= TOLERANCE):
            result.reason = f"{OTHER_JOB}: loss {result.loss}, fastbp's {expected}"
    return results


def ratios(results: dict[str, Result], peer: str) -> list[float]:
    """A peer's seconds over fastbp's, round by round; empty where one of the two has no valid result."""
    own, other = results["fastbp"], results.get(peer)
    if other is None or own.reason or other.reason:
        return []
    return [b / a for a, b in zip(own.seconds, other.seconds, strict=True)]


def microseconds(seconds: float, workload: Workload) -> float:
    """Of a step, or of a call of forward."""
    return seconds / workload.steps * 1e6


def describe(how: str, packages: Iterable[str] = PACKAGES) -> str:
    """Date, machine, versions, and how it was measured."""
    versions = [f"{package} {importlib.metadata.version(package)}" for package in packages if installed(package)]
    return f"{datetime.date.today()}; {machine.describe()}, {', '.join(versions)}; {how}"


def installed(package: str) -> bool:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return bool(importlib.metadata.version(package))
    return False


def failure(reason: str) -> str:
    """Why there is no figure, in two words."""
    if reason.startswith("ModuleNotFoundError"):
        return "not installed"
    return "other loss" if reason.startswith(OTHER_JOB) else "failed"


def shares(figures: dict[str, dict[str, Result]], peak: float) -> str:
    """What part of the processors' peak fastbp's dense products come to, where a step has much to do."""
    parts = []
    for name, results in figures.items():
        workload, own = WORKLOADS[name], results["fastbp"]
        if workload.operations > LARGE and not own.reason:
            rate = workload.operations * workload.steps / statistics.median(own.seconds)
            parts.append(f"{workload.title}: {rate / peak:.0%}")
    if not parts:
        return ""
    return (f"Peak of all processors, independent fused multiply-adds in the same run: {peak / 1e9:.0f} GFLOP/s. Of it "
            f"fastbp's dense products, zeros counted like other numbers: {'; '.join(parts)}.\n")


def markdown(figures: dict[str, dict[str, Result]], description: str) -> str:
    """A row a workload: fastbp's time of a step, the peers' times as multiples of it; then what went wrong."""
    measured = {peer for results in figures.values() for peer in results}
    peers = [peer for peer in PEERS if peer in measured - {"fastbp"}]
    lines = [description, "", "Median (range) of the rounds; a peer's time as a multiple of fastbp's in the "
             "same round: below 1, **bold**, fastbp lost.", "",
             "| workload | fastbp, µs a step | " + " | ".join(peers) + " |", "|---" * (len(peers) + 2) + "|"]
    notes, lost, differences = [], [], [0.0]
    for name, results in figures.items():
        workload, own = WORKLOADS[name], results["fastbp"]
        cells = [workload.title, "failed"]
        if not own.reason:
            low, middle, high = (microseconds(f(own.seconds), workload) for f in (min, statistics.median, max))
            cells[1] = f"{middle:.4g} ({low:.4g}–{high:.4g})"
        for peer in peers:
            times = ratios(results, peer)
            if not times:
                cells.append(failure(results[peer].reason or "—") if peer in results else "")
                continue
            middle = statistics.median(times)
            cells.append(f"{middle:.2f} ({min(times):.2f}–{max(times):.2f})")
            differences.append(abs(results[peer].loss / own.loss - 1))
            if middle < 1:
                lost.append(f"{workload.title}: {peer}, {middle:.2f}")
                cells[-1] = f"**{cells[-1]}**"
        notes += [f"- {workload.title}: {peer}: {result.reason}" for peer, result in results.items() if result.reason]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"Losses of the first {CHECKED} steps differ from fastbp's by at most {max(differences):.1e} "
              f"(allowed: {TOLERANCE:.0e})."]
    lines += ["", "Lost: " + ("; ".join(lost) if lost else "none") + "."]
    if notes:
        lines += ["", "Without a figure:", "", *notes]
    return "\n".join(lines) + "\n"


def plot(figures: dict[str, dict[str, Result]], description: str, path: Path) -> None:
    """Each peer's time as a multiple of fastbp's: to the left of 1 fastbp lost."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "fastbp"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.6 + 0.27 * len(figures)), layout="constrained")
    rows = {name: row for row, name in enumerate(reversed(figures))}
    markers = dict(zip([peer for peer in PEERS if peer != "fastbp"], "v^DosPX*", strict=True))
    for peer, marker in markers.items():
        points = [(statistics.median(times), rows[name]) for name, results in figures.items()
                  if (times := ratios(results, peer))]
        if points:
            axes.plot(*zip(*points, strict=True), marker, label=peer, alpha=0.8, markersize=6)
    axes.set_xscale("log")
    left, right = axes.get_xlim()
    left, right = min(left, 0.5), max(right, 2)
    axes.set_xlim(left, right)
    axes.axvspan(left, 1, color="#d1495b", alpha=0.15, zorder=0)
    axes.axvline(1, color="#d1495b", zorder=1)
    axes.text(0.97, len(rows) - 0.4, "fastbp loses", ha="right", color="#d1495b")
    axes.text(1.03, len(rows) - 0.4, "fastbp wins", ha="left", color="#30638e")
    axes.set_ylim(-0.6, len(rows) + 0.2)
    titles = {WORKLOADS[name].title: row for name, row in rows.items()}
    label(figure, axes, titles, "fastbp's", len(markers), description)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def label(figure, axes, rows: dict[str, int], of: str, entries: int, description: str) -> None:
    """Say what the rows of a picture of ratios are, and what they are ratios to."""
    axes.set_yticks(list(rows.values()), list(rows), fontsize=8)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", which="both", alpha=0.2)
    axes.set_xlabel(f"time as a multiple of {of}, median of the rounds")
    axes.set_title(description.split(", vectors")[0], fontsize=8)
    figure.legend(loc="outside lower center", ncols=entries, fontsize=8, frameon=False)


def chosen(wanted: list[str]) -> list[str]:
    """Workloads whose names start with one of the wanted."""
    names = [name for name in WORKLOADS if any(name.startswith(start) for start in wanted)]
    if not names:
        raise SystemExit(f"no workload starts with {wanted}; there are {', '.join(WORKLOADS)}")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=[""], metavar="NAME", help="or the start of some names")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS), help="fastbp among them")
    parser.add_argument("--rounds", type=int, default=5, help="counted pieces of each, after one more")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="processors of each")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything: does it run?")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    parser.add_argument("--plot", type=Path, help="draw the ratios to this SVG, and to a PNG beside it")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "fastbp" not in options.peers:
        parser.error("--peers: fastbp must be among them, the others are measured beside it")
    names = chosen(options.workloads)
    if options.quick:
        options.rounds = 1
        for name, workload in WORKLOADS.items():
            WORKLOADS[name] = replace(workload, rows=min(workload.rows, 4 * workload.batch), epochs=1)
    if options.worker:
        work(options.worker, WORKLOADS[options.workloads[0]])
        return 0

    processors = machine.Processors(sorted(os.sched_getaffinity(0))[: options.threads])
    figures = {}
    for name in names:
        started = time.perf_counter()
        figures[name] = measure(name, options.rounds, options.quick, processors, options.peers)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    description = describe(f"{len(processors.cpus)} processors for each process, {options.rounds} interleaved rounds, "
                           f"{processors}")
    table = markdown(figures, description) + "\n" + shares(figures, processors.peak)
    print(table)
    if options.markdown:
        options.markdown.write_text(table)
    if options.json:
        record = {"machine": description, "tolerance": TOLERANCE, "peak": processors.peak, "workloads": {
            name: {"title": WORKLOADS[name].title, "steps": WORKLOADS[name].steps,
                   "peers": {peer: vars(result) for peer, result in results.items()}}
            for name, results in figures.items()}}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.plot:
        for suffix in (".svg", ".png"):
            plot(figures, description, options.plot.with_suffix(suffix))
    return any((result.reason or "").startswith(OTHER_JOB) for results in figures.values()
               for result in results.values())


if __name__ == "__main__":
    sys.exit(main())
