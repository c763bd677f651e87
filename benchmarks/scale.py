"""How a step grows with ranks: a model fitted to this machine, and what it predicts for clusters: make bench-scale

A step on R ranks, each with a copy of this machine, takes

    T(R, B) = fixed + sample B / R + update + exchange(R)
    exchange(R) = 2 (R - 1) (latency + bytes / (R bandwidth)) + adding bytes

for a mini-batch of B samples: each rank computes the gradient of its samples, sends a slice of it to each of the
others, adds the slices that it receives, sends the sum to all, and updates all parameters. All but the networks is
measured here; so are a real exchange between two ranks on this machine, whose latency and bandwidth are fitted, and a
step of two ranks, which checks the model. The networks are assumptions: Ethernet with TCP at 30 us and 90 % of its
rate, InfiniBand HDR at 2 us and 90 % of 200 Gbit/s; ranks wait for nothing else: no stragglers, no congestion.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).parents[1]
NETWORKS = {"10 Gbit/s": (30e-6, 0.9 * 10e9 / 8), "25 Gbit/s": (30e-6, 0.9 * 25e9 / 8),
            "100 Gbit/s": (30e-6, 0.9 * 100e9 / 8), "InfiniBand HDR": (2e-6, 0.9 * 200e9 / 8)}
MODELS = {"784-512-512-10": [784, 512, 512, 10], "1024-4096-4096-1024": [1024, 4096, 4096, 1024]}
RANKS, BATCHES, ROUNDS = [8, 16, 32, 64, 128, 256, 512], [2**k for k in range(10, 21)], 3
SAMPLES, NUMBERS = [64, 128, 256, 512], [2**k for k in range(8, 24, 3)]


def seconds_of(call, times):
    call()
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def of_a_step(sizes, threads):
    """Return `fixed + update` and `sample`, in seconds, of steps of `Trainer.fit` on this machine."""
    import fastbp

    draw, found, mnist = np.random.default_rng(0), [], fastbp.data.mnist()
    for n in SAMPLES:
        X, y = draw.random((4 * n, sizes[0]), np.float32), draw.integers(0, sizes[-1], 4 * n)
        if sizes[0] == 784:  # most pixels are 0, which fastbp leaves out
            X, y = (mnist.x_train[: 4 * n] / 255).astype(np.float32), mnist.y_train[: 4 * n]
        trainer = fastbp.Trainer(fastbp.Network(sizes), optimizer=fastbp.SGD(0.01, 0.9), schedule="constant",
                                 batch_size=n, threads=threads)
        found.append(seconds_of(lambda trainer=trainer, X=X, y=y: trainer.fit(X, y, 1), 1) / 4)
    sample, fixed = np.polyfit(SAMPLES, found, 1, w=1 / np.array(found))
    return max(fixed, 0.0), sample


def of_adding():
    """Return the seconds that a byte takes to be added."""
    a, b = np.ones(1 << 20, np.float32), np.ones(1 << 20, np.float32)
    return seconds_of(lambda: np.add(a, b, out=a), 50) / a.nbytes


def exchanges():
    """On two ranks: print the seconds of exchanges of vectors of NUMBERS, and of a step."""
    from mpi4py import MPI

    import fastbp
    from fastbp import mpi

    comm, found = MPI.COMM_WORLD, []
    for n in NUMBERS:
        add, vector = mpi.Sum(mpi.Ranks(comm), n, np.dtype("f4"), True), np.zeros(n, np.float32)
        times = max(3, min(300, (1 << 24) // n))
        comm.Barrier()
        own = dict.fromkeys(add._nodes[comm.Get_rank()], vector)
        found.append(seconds_of(lambda add=add, own=own: add._exchange(own), times))
    data = fastbp.data.mnist()
    own = mpi.share(16_384)
    trainer = fastbp.Trainer(fastbp.Network(MODELS["784-512-512-10"], input_scale=data.input_scale), batch_size=1024,
                             optimizer=fastbp.SGD(0.01, 0.9), schedule="constant", threads=1)
    history = mpi.fit(trainer, data.x_train[own], data.y_train[own], 6)
    if comm.Get_rank() == 0:
        print(json.dumps([found, median(history.seconds[1:]) / 16]))


def predicted(model, ranks, batch, latency, bandwidth):
    """Return the seconds of a step."""
    exchange = 2 * (ranks - 1) * (latency + model["bytes"] / (ranks * bandwidth)) + model["adding"] * model["bytes"]
    return model["fixed"] + model["sample"] * batch / ranks + (exchange if ranks > 1 else 0)


def pays(model, ranks, network):
    """Return the smallest mini-batch with which `ranks` machines are at least ranks / 2 times as fast as one."""
    for batch in BATCHES:
        alone = predicted(model, 1, batch, *NETWORKS[network])
        if alone / predicted(model, ranks, batch, *NETWORKS[network]) >= ranks / 2:
            return batch
    return None


def draw(models, path):
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(models), figsize=(11, 4.2), sharey=True, layout="constrained")
    for axes, (name, model) in zip(panels, models.items(), strict=True):
        for batch, style in ((8_192, "-"), (65_536, "--")):
            for colour, (network, known) in enumerate(NETWORKS.items()):
                alone = predicted(model, 1, batch, *known)
                speeds = [alone / predicted(model, ranks, batch, *known) for ranks in RANKS]
                axes.plot(RANKS, speeds, style, color=f"C{colour}", label=f"{network}, batch {batch:,}")
        axes.plot(RANKS, RANKS, ":", color="gray", label="ideal")
        axes.set(xscale="log", yscale="log", xlabel="ranks", title=name, ylim=(0.3, 600))
        axes.set_xticks(RANKS, RANKS)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("times as fast as one machine (predicted)")
    panels[-1].legend(fontsize=7)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--exchanges", action="store_true")
    options = parser.parse_args()
    if options.exchanges:
        return exchanges()
    from machine import describe

    adding = median(of_adding() for _ in range(ROUNDS))
    models = {}
    for name, sizes in MODELS.items():
        n_bytes = 4 * sum((n_in + 1) * n_out for n_in, n_out in zip(sizes, sizes[1:], strict=False))
        fixed, sample = (median(values) for values in zip(*(of_a_step(sizes, 2) for _ in range(ROUNDS)), strict=True))
        models[name] = {"bytes": n_bytes, "fixed": fixed, "sample": sample, "adding": adding}
    bin_ = ROOT / ".venv-interop" / "bin"
    told = subprocess.run([bin_ / "mpiexec", "-n", "2", bin_ / "python", __file__, "--exchanges"], text=True,
                          check=True, stdout=subprocess.PIPE).stdout
    seconds, step = json.loads(told.splitlines()[-1])
    per_byte, latency = np.polyfit([4 * n for n in NUMBERS], seconds, 1, w=1 / np.array(seconds))
    bandwidth = 1 / max(per_byte - adding / 2, 1e-13)  # of two ranks: 2 (latency + bytes / (2 bandwidth)) + adding / 2
    model = models["784-512-512-10"]  # whose two threads are the two ranks
    expected = predicted(model, 1, 1024, 0, 1) + predicted(model, 2, 0, max(latency, 0) / 2, bandwidth) - model["fixed"]
    rows = ["| network | ranks | " + " | ".join(NETWORKS) + " |", "|---|---|" + "---|" * len(NETWORKS)]
    for name, model in models.items():
        for ranks in RANKS:
            found = [pays(model, ranks, network) for network in NETWORKS]
            cells = [f"{batch:,}" if batch else f"> {BATCHES[-1]:,}" for batch in found]
            rows.append(f"| {name} | {ranks} | " + " | ".join(cells) + " |")
    measured = [f"{name}: {1e3 * model['fixed']:.2f} ms a step and {1e6 * model['sample']:.2f} µs a sample on two "
                f"threads, a gradient of {model['bytes'] / 1e6:.1f} MB" for name, model in models.items()]
    text = "\n".join([
        "The smallest mini-batch with which so many machines like this one are predicted to be at least half as",
        "many times as fast as one:", "",
        *rows, "",
        f"Measured here: {'; '.join(measured)}; {1e9 * adding:.3f} ns to add a byte. Two ranks on this machine:",
        f"{1e6 * max(latency, 0):.0f} µs and {bandwidth / 1e9:.1f} GB/s. A step of 784-512-512-10, batch of 1,024, "
        f"on two ranks of one thread: {1e3 * expected:.1f} ms predicted, {1e3 * step:.1f} ms measured.", "",
        f"{time.strftime('%Y-%m-%d')}; {describe()}"])
    print(text)
    if options.results:
        (options.results / "scale.md").write_text(text + "\n", encoding="utf-8")
        draw(models, options.results / "scale.svg")


if __name__ == "__main__":
    os.environ.pop("OPENBLAS_CORETYPE", None)
    sys.path.insert(0, str(Path(__file__).parent))
    main()
