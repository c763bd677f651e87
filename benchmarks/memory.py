"""Memory of training grows with the network and the mini-batch, not with the data: make bench-memory

Each case trains an epoch from a memory-mapped .npy in a process of its own. Its anonymous memory (RssAnon of
/proc/self/status: what the process allocated, without the pages of mapped files, which the system can drop) is sampled
each millisecond beside the training. Linux only.

The rules: a data set of 100 times the samples takes at most 24 bytes more for each (its number in the shuffled order
and its label, 8 bytes each; the rest is learning rates and costs of the steps), and an epoch of 8 GB of float32 stays
under 500 MB of anonymous memory. The command exits with 1 where one is broken.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from machine import describe

import fastbp
from fastbp import Network
from fastbp.inputs import as_inputs

MB = 1e6
BYTES_A_SAMPLE, MOST = 24, 500 * MB
WRITTEN = 1000  # rows of a file that are not holes


@dataclass(frozen=True)
class Case:
    """784-width-10, trained for an epoch."""

    n: int
    dtype: str = "uint8"
    width: int = 128
    batch: int = 128


BY_SAMPLES = [Case(10_000), Case(100_000), Case(1_000_000)]
BY_NETWORK = [Case(10_000, width=512), Case(10_000, width=2048), Case(10_000, batch=1024), Case(10_000, batch=8192)]
LARGE = Case(2_551_021, "float32")  # 8 GB


def sparse_file(path: Path, case: Case) -> None:
    """Samples that are zero but for a few rows, in a file of holes where the file system has them."""
    size = case.n * 784 * np.dtype(case.dtype).itemsize
    if shutil.disk_usage(path.parent).free < size:
        sys.exit(f"{path.parent} has no room for {size / MB:.0f} MB, should its file system store holes")
    x = np.lib.format.open_memmap(path, "w+", case.dtype, (case.n, 784))
    rows = np.linspace(0, case.n - 1, WRITTEN).astype(int)
    x[rows] = np.random.default_rng(0).random((WRITTEN, 784)) * (255 if case.dtype == "uint8" else 1)


def anonymous() -> int:
    """Bytes of this process's anonymous memory."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s*(\d+) kB", status)[1])


class Peak:
    """The most anonymous memory within a block, in bytes, and how much there was at its start."""

    def __enter__(self) -> Peak:
        self.start = self.most = anonymous()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            self.most = max(self.most, anonymous())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, anonymous())


def train(path: str, case: Case) -> dict[str, float]:
    """In a process of its own: an epoch, once the machine code is there. Bytes and seconds."""
    fastbp.Trainer(fastbp.Network([1, 1, 2])).compile()
    x = np.load(path, mmap_mode="r")
    y = np.arange(case.n, dtype=np.uint8) % 10
    with Peak() as peak:
        scale = 1 / 255 if case.dtype == "uint8" else 1
        net = fastbp.Network([784, case.width, 10], seed=0, input_scale=scale)
        trainer = fastbp.Trainer(net, optimizer=fastbp.SGD(0.1), batch_size=case.batch)
        started = time.perf_counter()
        trainer.fit(x, y, 1, progress=False)
        seconds = time.perf_counter() - started
    buffers = net.workspace(case.batch).buffers.nbytes
    return {"peak": peak.most, "grown": peak.most - peak.start, "seconds": seconds, "data": x.nbytes,
            "parameters": net.theta.nbytes, "buffers": buffers}


def run(case: Case) -> dict[str, float]:
    """`train` in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        sparse_file(path, case)
        command = [sys.executable, __file__, "--worker", str(path), json.dumps(asdict(case))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def check_seconds() -> dict[str, float]:
    """Seconds that the check of samples takes, best of 7: uint8 and float32 of MNIST's size."""
    network = Network([784, 1], output="identity")

    def best(x: np.ndarray) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            as_inputs(x, network)
            times.append(time.perf_counter() - started)
        return min(times)

    return {f"{x.nbytes / MB:.0f} MB of {x.dtype}": best(x) for x in
            (np.ones((60_000, 784), dtype) for dtype in ("uint8", "float32"))}


def report(figures: dict[Case, dict[str, float]], checks: dict[str, float], a_sample: float) -> str:
    lines = [f"{describe()}; an epoch of memory-mapped samples, 784-width-10; megabytes\n",
             "| samples | type | data | width | batch | parameters | buffers of a batch | peak of training "
             "| peak of the process | seconds |", "|---" * 10 + "|"]
    for case, f in figures.items():
        sizes = (f"{f[name] / MB:.1f}" for name in ("parameters", "buffers", "grown", "peak"))
        lines.append(f"| {case.n:,} | {case.dtype} | {f['data'] / MB:,.0f} | {case.width} | {case.batch} | "
                     + " | ".join(sizes) + f" | {f['seconds']:.2f} |")
    lines.append(f"\nFrom {BY_SAMPLES[0].n:,} to {BY_SAMPLES[-1].n:,} samples: {a_sample:.1f} bytes more for each; "
                 f"at most {BYTES_A_SAMPLE} allowed.")
    lines += [f"Checking {name} takes {1e3 * seconds:.2f} ms." for name, seconds in checks.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the 8 GB, to see that all works")
    parser.add_argument("--results", type=Path, help="write memory.json and memory.md to this folder")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(train(options.worker[0], Case(**json.loads(options.worker[1])))))
        return
    fastbp.Trainer(fastbp.Network([1, 1, 2])).compile()  # so that no case has to
    figures = {case: run(case) for case in BY_SAMPLES + BY_NETWORK + ([] if options.quick else [LARGE])}
    checks = check_seconds()

    few, many = (figures[case] for case in (BY_SAMPLES[0], BY_SAMPLES[-1]))
    a_sample = (many["grown"] - few["grown"]) / (BY_SAMPLES[-1].n - BY_SAMPLES[0].n)
    text = report(figures, checks, a_sample)
    print(text)
    if options.results:
        record = {"machine": describe(), "cases": [asdict(case) | f for case, f in figures.items()],
                  "check_seconds": checks, "bytes_a_sample": a_sample}
        (options.results / "memory.json").write_text(json.dumps(record, indent=2) + "\n")
        (options.results / "memory.md").write_text(text + "\n")
    if a_sample > BYTES_A_SAMPLE or (LARGE in figures and figures[LARGE]["peak"] > MOST):
        sys.exit("too much memory")


if __name__ == "__main__":
    main()
