"""A program for test_mpi.py: `mpiexec -n 2 python mpi_program.py NAME ...` runs a scenario, and prints JSON by rank."""

import json
import os
import signal
import sys
import time
import zlib

import numpy as np
from mpi4py import MPI

import fastbp
from fastbp import callbacks, mpi

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.Get_rank(), COMM.Get_size()
N, N_VALIDATION = 1003, 301
draw = np.random.default_rng(0)
X, T = draw.normal(size=(N + N_VALIDATION, 7)), draw.normal(size=(N + N_VALIDATION, 2))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
WEIGHTS = draw.integers(0, 3, N).astype(float)
TRAIN, VALIDATION = slice(0, N), slice(N, N + N_VALIDATION)


def own(array, part=TRAIN):
    return array[part][mpi.share(len(array[part]))]


def network(dtype="float32", output="softmax"):
    return fastbp.Network([7, 33, 16, 2], output=output, seed=1, dtype=dtype)


def told(trainer, history, **more):
    """What a test compares; from all ranks, in their order."""
    line = {"theta": f"{zlib.crc32(trainer.network.theta):08x}", "state": f"{zlib.crc32(trainer.state.rows):08x}",
            "loss": history.loss, "validation": history.validation_loss, "accuracy": history.validation_accuracy,
            "metrics": history.metrics, "samples": history.samples, "stopped": history.stopped, **more}
    tell(line)


def tell(line):
    """Print a line of each rank, in their order."""
    for each in COMM.gather(line) or []:
        print(json.dumps(each), flush=True)


KINDS = {  # dtype, settings of the trainer, of the fit
    "sgd": ("float32", {"optimizer": fastbp.SGD(0.1, momentum=0.9)}, {}),
    "adam": ("float64", {"optimizer": fastbp.Adam(0.01), "dropout": 0.2, "noise": 0.1, "clip_norm": 0.5}, {}),
    "mean": ("float32", {"optimizer": fastbp.AdamW(0.01, weight_decay=0.1), "ema": 0.9, "max_norm": 0.7}, {}),
    "frozen": ("float32", {"optimizer": fastbp.Lion(0.001), "frozen": [1], "batch_size": 3000}, {}),
    "weights": ("float32", {"batch_size": 16}, {"sample_weight": WEIGHTS}),
    "fast": ("float32", {}, {"reproducible": False}),
}


def kinds(*names):
    for name in names:
        dtype, settings, given = KINDS[name]
        trainer = fastbp.Trainer(network(dtype), **{"batch_size": 100, "seed": 3, **settings})
        given = {key: own(value) if key == "sample_weight" else value for key, value in given.items()}
        x = X if name != "frozen" else X.astype(np.float32)
        history = mpi.fit(trainer, own(x), own(Y), 3, (own(x, VALIDATION), own(Y, VALIDATION)),
                          metrics=["f1", "log_loss"], **given)
        told(trainer, history, name=name)


def sparse():
    from scipy.sparse import csr_array

    dense = np.where(np.abs(X) > 1, X, 0)
    for samples in (csr_array(own(dense)), own(dense)):
        trainer = fastbp.Trainer(network("float64"), batch_size=100)
        told(trainer, mpi.fit(trainer, samples, own(Y), 2), theta64=trainer.network.theta.tolist())


def named():
    """Names of classes: a rank may not have all of them."""
    words = np.array(["no", "yes"])[np.sort(Y[TRAIN])]
    trainer = fastbp.Trainer(network(), batch_size=100)
    history = mpi.fit(trainer, own(X), own(words), 1)
    told(trainer, history, classes=trainer.network.classes.tolist())


def alone():
    """Against a fit of one process: the whole data, here four times, as one mini-batch are the same step but for
    rounding. The pieces are so large that their gradients are summed in chains."""
    thetas, x, t = [], np.tile(X[TRAIN], (4, 1)), np.tile(T[TRAIN], (4, 1))
    rows = mpi.share(len(x))
    for on_ranks in (False, True):
        net = network("float64", "identity")
        trainer = fastbp.Trainer(net, batch_size=4 * N, optimizer=fastbp.Adam(0.01), clip_norm=0.1)
        history = mpi.fit(trainer, x[rows], t[rows], 5) if on_ranks else trainer.fit(x, t, 5)
        thetas.append(trainer.network.theta.copy())
    told(trainer, history, difference=float(np.abs(thetas[0] - thetas[1]).max()), threads=mpi.Ranks(COMM).threads())


def resumed(folder, epochs, budget):
    """A fit that goes on from a checkpoint; it stops in the midst of an epoch, at step `budget`."""
    def stop(fit):
        fit.stop("enough")

    trainer = fastbp.Trainer(network(), optimizer=fastbp.Adam(0.01), batch_size=100, dropout=0.3)
    checkpoint = callbacks.Checkpoint(folder, 0, resume=True)
    history = mpi.fit(trainer, own(X), own(Y), int(epochs), (own(X, VALIDATION), own(Y, VALIDATION)),
                      callbacks=[callbacks.EarlyStopping(patience=50), callbacks.Every(int(budget), stop),
                                 checkpoint])
    told(trainer, history)


def stopped(folder):
    """Callbacks: rank 0 writes, and decides."""
    path = os.path.join(folder, f"log-{RANK}.csv")
    trainer = fastbp.Trainer(network(), batch_size=100)
    history = mpi.fit(trainer, own(X), own(Y), 50, callbacks=[
        callbacks.CSVLog(path), lambda fit: fit.stop(f"by rank {RANK}") if fit.epoch == 2 + RANK else None])
    told(trainer, history, files=sorted(os.listdir(folder)))


def differs(what):
    """One rank differs: an error on all of them, and nothing has changed."""
    last = RANK == SIZE - 1
    net = network()
    trainer = fastbp.Trainer(net, optimizer=fastbp.Adam(0.02 if last and what == "eta" else 0.01))
    x, y = own(X), own(Y)
    if last and what == "features":
        x = x[:, :6]
    if last and what == "rows":
        x, y = x[:0], y[:0]
    if last and what == "parameters":
        net.W[0][0, 0] = 7
    if last and what == "version":
        fastbp.__version__ = "0.0.1"
    if last and what == "labels":
        y = y + 5
    before, every = net.theta.copy(), callbacks.Every(7 if last and what == "every" else 5, lambda fit: None)
    try:
        mpi.fit(trainer, x, y, 1, callbacks=[every])
    except ValueError as error:
        tell([str(error), bool((net.theta == before).all()), trainer.steps_done])


def diverges():
    trainer = fastbp.Trainer(network(output="identity"), optimizer=fastbp.SGD(1e20), batch_size=100)
    try:
        mpi.fit(trainer, own(X), own(T), 3)
    except fastbp.DivergenceError as error:
        tell([str(error), bool(np.isfinite(trainer.network.theta).all())])


def fails(how, folder):
    """The last rank fails in its third epoch: all must end."""
    def fail(fit):
        if RANK == SIZE - 1 and fit.epoch == 3:
            if how == "raises":
                raise RuntimeError("the disk is on fire")
            os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGINT)
            time.sleep(60)

    trainer = fastbp.Trainer(network(), batch_size=100)
    mpi.fit(trainer, own(X), own(Y), 10**6, callbacks=[fail, callbacks.Checkpoint(folder, 0)])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
