"""A library that benchmarks/inference.py measures, in a process of its own: python serve.py LIBRARY"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from run import SHORT
from workloads import Layer, Workload

N_OUT = 10
LEARNING, LEARNING_SECONDS = 10, 3  # measurements that do not count: so many, or for so long
PROCESSORS = len(os.sched_getaffinity(0))
Call = Callable[..., Any]


@dataclass(frozen=True, order=True)
class Cell:
    """A relu network with an input as wide as its hidden layers and a softmax output, and a batch."""

    width: int
    depth: int  # hidden layers
    batch: int

    def __str__(self) -> str:
        return f"width {self.width} × {self.depth}, batch {self.batch}"

    @property
    def operations(self) -> int:
        """Multiplications and additions of a call's dense products."""
        return 2 * self.batch * self.width * (self.depth * self.width + N_OUT)

    @property
    def task(self) -> Task:
        sizes = (self.width,) * (1 + self.depth) + (N_OUT,)
        return Task(sizes, "relu", None, batch=1, rows=1, labels=True)

    @property
    def X(self) -> np.ndarray:
        return np.random.default_rng(1).standard_normal((self.batch, self.width), np.float32)


class Task(Workload):
    """With biases other than 0: a library that left them out would be found out."""

    @property
    def parameters(self) -> list[Layer]:
        draw = np.random.default_rng(2)
        return [(W, draw.uniform(-0.1, 0.1, len(b)).astype(np.float32)) for W, b in super().parameters]


def of_fastbp(task: Task, X: np.ndarray) -> tuple[Call, Any]:
    import fastbp

    net = fastbp.Network(task.sizes, task.hidden, "softmax")
    for l, (W, b) in enumerate(task.parameters):
        net.W[l], net.b[l] = W, b
    return net.forward, X


def of_onnxruntime(task: Task, X: np.ndarray) -> tuple[Call, Any]:
    from with_onnxruntime import forward

    return forward(task, PROCESSORS), X


def of_torch(task: Task, X: np.ndarray) -> tuple[Call, Any]:
    import torch
    from with_torch import network

    torch.set_num_threads(PROCESSORS)
    return torch.nn.Sequential(*network(task), torch.nn.Softmax(1)), torch.from_numpy(X)


def of_sklearn(task: Task, X: np.ndarray) -> tuple[Call, Any]:
    from with_sklearn import network

    return network(task, X[:1], np.zeros(1, int)).predict_proba, X


LIBRARIES = {"fastbp": of_fastbp, "control": of_fastbp, "onnxruntime": of_onnxruntime, "torch": of_torch,
             "sklearn": of_sklearn}


def inference_mode(library: str) -> contextlib.AbstractContextManager:
    if library != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.inference_mode()


def repeat(call: Call, arguments: list[Any], times: int) -> float:
    """Seconds of so many calls."""
    started = time.perf_counter()
    for _ in range(times):
        call(*arguments)
    return time.perf_counter() - started


def seconds_of(call: Call, arguments: list[Any], seconds: float) -> float:
    """Of a call, measured for about `seconds` after calls of about as long: caches have gone cold while others worked,
    and threads are asleep."""
    took = repeat(call, arguments, 1)
    if took > SHORT:
        return took
    times, took = 1, repeat(call, arguments, 1)  # the first is no measure: it wakes threads
    while took < seconds / 2:
        times *= 2
        took = repeat(call, arguments, times)
    times = max(1, round(seconds * times / took))
    return repeat(call, arguments, times) / times


def prepare(library: str, cell: Cell, file: str, seconds: float) -> tuple[Call, Any]:
    """What to call, and with what, after it has been measured some times; the outputs are then in the file."""
    call, x = LIBRARIES[library](cell.task, cell.X)
    np.save(file, np.asarray(call(x)))
    started = time.perf_counter()
    for _ in range(LEARNING):
        seconds_of(call, [x], seconds)
        if time.perf_counter() - started > LEARNING_SECONDS:
            break
    return call, x


def work(library: str) -> None:
    """A line [seconds, file, width, depth, batch] prepares a cell; after a line [seconds, arguments beside X] its calls
    are timed. Answered are the seconds of a call or, of whatever goes wrong, the reason."""
    call = x = None
    for line in sys.stdin:
        seconds, *others = json.loads(line)
        answer = {}
        try:
            with inference_mode(library):
                if others and isinstance(others[0], str):
                    call = x = None  # the memory is free before the next take theirs
                    call, x = prepare(library, Cell(*others[1:]), others[0], seconds)
                else:
                    answer["seconds"] = seconds_of(call, [x, *others], seconds)
        except Exception as error:  # whatever it is, the table names it
            answer["reason"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    work(sys.argv[1])
