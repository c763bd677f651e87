"""An epoch on two ranks: fastbp with MPI, reproducible or with the library's own sum, one process, and PyTorch's DDP.

`make bench-ranks`, or `python benchmarks/ranks.py [--rounds N] [--results FOLDER]`. 784-512-512-10 on MNIST,
mini-batches of 1,024, SGD with momentum, on two processors: two ranks of one thread each, or one process of two. In
each round every side is started anew and trains some epochs, of which the first is not counted. With --results, the
table goes to ranks.md there.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZES, BATCH, ETA, MOMENTUM, EPOCHS = [784, 512, 512, 10], 1024, 0.05, 0.9, 4


def data_and_trainer(threads):
    import fastbp

    data = fastbp.data.mnist()
    net = fastbp.Network(SIZES, seed=0, input_scale=data.input_scale)
    return data, fastbp.Trainer(net, optimizer=fastbp.SGD(ETA, MOMENTUM), schedule="constant", batch_size=BATCH,
                                threads=threads)


def one_process():
    data, trainer = data_and_trainer(2)
    history = trainer.fit(data.x_train, data.y_train, EPOCHS)
    report(history.seconds, history.loss)


def of_ranks(reproducible, threads):
    from mpi4py import MPI

    from fastbp import mpi

    data, trainer = data_and_trainer(threads)
    own = mpi.share(len(data.x_train))
    history = mpi.fit(trainer, data.x_train[own], data.y_train[own], EPOCHS, reproducible=reproducible)
    if MPI.COMM_WORLD.Get_rank() == 0:
        report(history.seconds, history.loss)


def ddp(rank):
    import numpy as np
    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    import fastbp

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    data = fastbp.data.mnist()
    x, y = torch.from_numpy(data.x_train[rank::2]).float() / 255, torch.from_numpy(data.y_train[rank::2]).long()
    torch.manual_seed(0)
    layers = [layer for n_in, n_out in zip(SIZES, SIZES[1:], strict=False)
              for layer in (torch.nn.Linear(n_in, n_out), torch.nn.ReLU())][:-1]
    model = DistributedDataParallel(torch.nn.Sequential(*layers))
    optimizer = torch.optim.SGD(model.parameters(), ETA, MOMENTUM, fused=True)
    draw, seconds, losses = np.random.default_rng(rank), [], []
    for _ in range(EPOCHS):
        distributed.barrier()
        started, total = time.perf_counter(), torch.zeros(())
        batches = torch.from_numpy(draw.permutation(len(x))).split(BATCH // 2)
        for batch in batches:
            loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        seconds.append(time.perf_counter() - started)
        losses.append(float(total) / len(batches))
    if rank == 0:
        report(seconds, losses)
    distributed.destroy_process_group()


def report(seconds, losses):
    print(json.dumps({"seconds": seconds, "loss": losses[-1]}), flush=True)


SIDES = {  # name: environment, number of processes, scenario
    "1 process × 2 threads, `Trainer.fit`": ("interop", 0, "one_process()"),
    "1 rank × 2 threads": ("interop", 1, "of_ranks(True, 2)"),
    "2 ranks × 1 thread": ("interop", 2, "of_ranks(True, 1)"),
    "2 ranks × 1 thread, `reproducible=False`": ("interop", 2, "of_ranks(False, 1)"),
    "the same two, Open MPI": ("openmpi", 2, "of_ranks(True, 1)"),
    "the same, not reproducible": ("openmpi", 2, "of_ranks(False, 1)"),
    "PyTorch DDP (gloo), 2 ranks × 1 thread": ("peers", 2, None),
}


def measured(side):
    """Return the seconds of the counted epochs, and the last loss."""
    environment, n, scenario = SIDES[side]
    bin_ = ROOT / f".venv-{environment}" / "bin"
    given = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    python = [bin_ / "python", __file__, "--scenario"]
    if scenario is None:
        children = [subprocess.Popen([*python, f"ddp({rank})"], stdout=subprocess.PIPE, text=True, env=given)
                    for rank in range(n)]
        out = [child.communicate()[0] for child in children][0]
    else:
        launcher = [bin_ / "mpiexec", "-n", str(n), *(["--bind-to", "none"] * (environment == "openmpi"))] if n else []
        out = subprocess.run([*launcher, *python, scenario], stdout=subprocess.PIPE, text=True, check=True,
                             env=given).stdout
    found = json.loads(out.splitlines()[-1])
    return statistics.median(found["seconds"][1:]), found["loss"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--scenario")
    options = parser.parse_args()
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS"):
        os.environ.pop(name, None)
    if options.scenario:
        return eval(options.scenario)
    sys.path.insert(0, str(Path(__file__).parent))
    from machine import describe

    found = {side: [] for side in SIDES}
    for turn in range(options.rounds):
        for side in list(SIDES)[:: 1 if turn % 2 == 0 else -1]:
            found[side].append(measured(side))
    base = [seconds for seconds, _ in found["1 rank × 2 threads"]]
    rows = ["| | seconds an epoch | to 1 rank × 2 threads: median, lowest, highest of the rounds | loss at the end |",
            "|---|---|---|---|"]
    for side, results in found.items():
        ratios = sorted(seconds / other for (seconds, _), other in zip(results, base, strict=True))
        rows.append(f"| {side} | {statistics.median(seconds for seconds, _ in results):.2f} | "
                    f"**{statistics.median(ratios):.2f}**, {ratios[0]:.2f}, {ratios[-1]:.2f} | {results[0][1]:.4f} |")
    text = (f"{'-'.join(map(str, SIZES))}, mini-batches of {BATCH:,}, {options.rounds} rounds.\n\n" + "\n".join(rows)
            + f"\n\n{time.strftime('%Y-%m-%d')}; {describe()}\n")
    print(text)
    if options.results:
        (options.results / "ranks.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
