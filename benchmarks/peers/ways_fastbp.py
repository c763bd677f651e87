"""fastbp through each of its doors: from Python, and from compiled code."""

from __future__ import annotations

import contextlib
import importlib
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import ways
import with_fastbp
from numba import njit
from ways import Door, Way, batches, l_bfgs, looped, rows, size
from workloads import Workload

import fastbp
from fastbp import compiled


def network(workload: Workload, output: str | None = None, dtype: str = "float32") -> fastbp.Network:
    output = output or ("softmax" if workload.labels else "identity")
    net = fastbp.Network(workload.sizes, workload.hidden, output, dtype=dtype)
    for l, (W, b) in enumerate(workload.parameters):
        net.W[l], net.b[l] = W, b
    return net


def trainer(workload: Workload, output: str | None = None, dtype: str = "float32", **settings) -> fastbp.Trainer:
    return fastbp.Trainer(network(workload, output, dtype), optimizer=fastbp.Adam(workload.eta),
                          batch_size=workload.batch, **settings)


@njit(cache=True)
def steps_in_a_loop(handle, X, y, n):
    """X (batches, batch_size, n_in), each in turn; the mean of their costs."""
    total = 0.0
    for i in range(n):
        total += compiled.step(handle, X[i % len(X)], y[i % len(X)])
    return total / n


def steps(door: Door) -> dict[str, Way]:
    first, others = batches(door.workload, np.ascontiguousarray)
    return {"trainer.step": looped(trainer(door.workload).step, first, others), "fit": _fit(door.workload),
            "compiled.step": _compiled(door.workload, first, others),
            "partial_fit": looped(trainer(door.workload).partial_fit, first, others)}


def _fit(workload: Workload) -> Way:
    mine, (x, y), first = trainer(workload), rows(workload), workload.check()

    def run(n: int) -> int:
        epochs = max(1, round(n / workload.steps))
        mine.fit(x, y, epochs, progress=False)
        return epochs * workload.steps

    return Way(lambda: np.mean(mine.fit(x[: first.rows], y[: first.rows], first.epochs, progress=False).loss), run)


def _compiled(workload: Workload, first: list, others: list) -> Way:
    handle = compiled.Handle(trainer(workload))
    some, (X, y) = (tuple(map(np.array, zip(*pairs, strict=True))) for pairs in (first, others))

    def run(n: int) -> int:
        steps_in_a_loop(handle, X, y, n)
        assert handle.problem is None, handle.problem
        return n

    return Way(lambda: steps_in_a_loop(handle, *some, len(first)), run)


def gradient(door: Door) -> dict[str, Way]:
    net, (first, others) = network(door.workload), batches(door.workload, np.ascontiguousarray)
    out = np.empty_like(net.theta)
    return {"cost_and_gradient": looped(lambda x, y: fastbp.cost_and_gradient(net, x, y, out=out), first, others,
                                        lambda both: both[0] + np.linalg.norm(both[1]))}


def minimize(door: Door) -> dict[str, Way]:
    net, (x, y) = network(door.workload), rows(door.workload)
    start, out = net.theta.astype(np.float64), np.empty_like(net.theta)

    def cost(theta):
        net.theta[:] = theta
        value, gradient = fastbp.cost_and_gradient(net, x, y, out=out)
        return value, gradient.astype(np.float64)

    whole, answers = l_bfgs(cost, start), []
    l_bfgs(lambda theta: answers.append(cost(theta)) or answers[-1], start).run(1)
    again = cycle(answers)  # of each run, as SciPy asks the same questions in the same order
    return {"cost_and_gradient": whole, "SciPy's own share": Way(whole.check, l_bfgs(lambda _: next(again), start).run)}


def forward(door: Door) -> dict[str, Way]:
    net, (x, _) = with_fastbp.network(door.workload), door.workload.data
    kinds = {"float32 row": x[:, None], "float64 row": x[:, None].astype(np.float64), "float32 vector": x}
    return {name: looped(net.forward, [(row,) for row in data[:10]], [(row,) for row in data], size)
            for name, data in kinds.items()}


def evaluate(door: Door) -> dict[str, Way]:
    first, others = batches(door.workload, np.ascontiguousarray)
    return {"trainer.evaluate": looped(trainer(door.workload).evaluate, first, others, lambda both: both[0])}


def example(name: str):
    """A file of examples/, which does its task once while it is imported: that compiles its functions."""
    sys.path.append(str(Path(__file__).parents[2] / "examples"))
    with contextlib.redirect_stdout(sys.stderr):
        return importlib.import_module(name)


def cart_pole(door: Door) -> dict[str, Way]:
    task, mine = example("cart_pole"), trainer(door.workload, "softmax")
    assert (ways.PLAYED, ways.LONGEST, ways.DISCOUNT) == (task.STEPS, task.LONGEST, task.DISCOUNT)
    handle, n_parameters = compiled.Handle(mine), mine.network.n_parameters

    def run(n: int) -> int:
        task.learn(handle, n, n_parameters, n)
        return n

    return {"compiled": Way(lambda: task.learn(handle, ways.CHECKED_UPDATES, n_parameters, 0).mean(), run)}


def neural_ode(door: Door) -> dict[str, Way]:
    task, mine = example("neural_ode"), trainer(door.workload, dtype="float64")
    assert (ways.DT, ways.LENGTH, ways.PATHS) == (task.DT, task.LENGTH, task.PATHS)
    handle, truth, n_parameters = compiled.Handle(mine), ways.spiral(), mine.network.n_parameters

    def run(n: int) -> int:
        task.train(handle, truth, n, n_parameters, 0)
        return n

    return {"compiled": Way(lambda: task.train(handle, truth, ways.ODE_STEPS, n_parameters, 0).mean(), run)}


def thousand(door: Door) -> dict[str, Way]:
    task = example("thousand_networks")
    assert (ways.SINE_STEPS, door.workload.batch) == (task.STEPS, task.BATCH)
    handles = compiled.Handles(compiled.Handle(trainer(one)) for one in ways.members(door, door.networks))
    waves, costs = ways.waves(door.networks), np.empty(door.networks)

    def run(n: int) -> int:
        for _ in range(n):
            task.train(handles, waves, costs)
        return n

    return {"compiled": Way(lambda: costs[: run(1) * ways.PAIR].mean(), run)}


def fit_many(door: Door) -> dict[str, Way]:
    (x, y), first = rows(door.workload), door.workload.check()
    trainers = [trainer(one) for one in ways.members(door, door.networks)]

    def check() -> float:
        histories = fastbp.fit_many(trainers, x[: first.rows], y[: first.rows], first.epochs, progress=False)
        return np.mean([history.loss for history in histories[: ways.PAIR]])

    def run(n: int) -> int:
        fastbp.fit_many(trainers, x, y, n * ways.MANY_EPOCHS, progress=False)
        return n

    return {"fit_many": Way(check, run)}
