"""A thousand small networks at once: make bench-many

fit_many on one thread and on all beside Trainer.fit of each, one after the other on one thread, in interleaved rounds;
1,000 steps of 4-32-16-4 (tanh, Adam, batch 32), from few samples in many epochs to many samples in one. The reach: a
median ratio of 1.9 on two threads. The command exits with 1 where networks differ in a bit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import Processors, describe, interleave, spread

from fastbp import Adam, Network, Trainer, fit_many

STEPS, BATCH = 1_000, 32
SAMPLES = [800, 3_200, 32_000]


def trainers(n: int) -> list[Trainer]:
    return [Trainer(Network([4, 32, 16, 4], "tanh", "identity", seed=i), optimizer=Adam(), batch_size=BATCH,
                    seed=i, threads=1) for i in range(n)]


def measures(n: int, samples: int, threads: list[int]) -> dict[str, Callable[[], float]]:
    """Seconds of training n networks; the trainers are made before."""
    draw = np.random.default_rng(0)
    X = draw.standard_normal((samples, 4), np.float32)
    y, epochs = np.sin(X @ draw.standard_normal((4, 4), np.float32)), STEPS * BATCH // samples
    ends = set()

    def measure(train: Callable[[list[Trainer]], object]) -> float:
        members = trainers(n)
        started = time.perf_counter()
        train(members)
        seconds = time.perf_counter() - started
        ends.add(b"".join(member.network.theta.tobytes() for member in members))
        if len(ends) > 1:
            sys.exit("the networks are not the same to the bit")
        return seconds

    ways = {"fit, one after the other": lambda members: [one.fit(X, y, epochs, progress=False) for one in members]}
    for number in threads:
        ways[f"fit_many, threads={number}"] = lambda members, number=number: fit_many(
            members, X, y, epochs, progress=False, threads=number)
    return {name: lambda train=train: measure(train) for name, train in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, help="folder for many.md")
    options = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    processors, lines = Processors(cpus), [describe(), "", "| samples × epochs | | s | ratio |", "|---|---|---|---|"]
    for samples in SAMPLES:
        for warm in measures(2, samples, [1, len(cpus)]).values():
            warm()  # loads the machine code
        figures = interleave(measures(options.networks, samples, [1, len(cpus)]), options.rounds, processors.settle)
        base = next(iter(figures.values()))
        for name, seconds in figures.items():
            ratio = statistics.median(one / other for one, other in zip(base, seconds, strict=True))
            lines.append(f"| {samples:,} × {STEPS * BATCH // samples} | {name} | {spread(seconds)} | {ratio:.2f} |")
    lines += ["", f"{options.networks:,} networks, {options.rounds} rounds, median (range); {processors}"]
    print("\n".join(lines))
    if options.results:
        (options.results / "many.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
