"""What benchmarks/doors.py measures: calls and whole tasks, the data of each, and how one is checked and run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
from workloads import Piece, Workload

# Of examples/cart_pole.py, neural_ode.py and thousand_networks.py, for libraries that do not import them.
PLAYED, LONGEST, DISCOUNT, CHECKED_UPDATES = 2_000, 500, 0.98, 10
DT, LENGTH, PATHS, ODE_STEPS = 0.05, 8, 20, 100  # ODE_STEPS: in which eta falls to 0, where steps are checked
SINE_STEPS = 300
MANY_EPOCHS = 10  # of 100 steps, of each network in fit_many
PAIR = 2  # networks whose loss is checked; PyTorch's loops train no more, and their time is scaled
ITERATIONS, CHECKED_ITERATIONS = 200, 10  # of L-BFGS


class Way(NamedTuple):
    """One way to do a job, with parameters of its own."""

    check: Callable[[], float]  # called once, first: a number that all ways of the job must agree on
    run: Callable[[int], float]  # does about so many calls, steps or tasks; returns how many it did


@dataclass(frozen=True)
class Door:
    """A job, and who can do it: `job` is the name of a function in ways_fastbp.py and in each library's module."""

    title: str
    job: str
    workload: Workload
    libraries: tuple[str, ...] = ("PyTorch", "PyTorch on 1 thread", "JAX")
    unit: tuple[str, float] = ("µs a call", 1e6)
    networks: int = 1
    tolerance: float | None = None  # of the checked number, relative; None: that of run.py

    def quick(self) -> Door:
        return replace(self, networks=min(self.networks, 4))


def looped(call: Callable, first: list[tuple], others: list[tuple], number: Callable[[Any], float] = float) -> Way:
    """A call from Python with each of some arguments in turn; `number`: of what it returns, to be checked."""
    def run(n: int) -> int:
        for arguments in islice(cycle(others), n):
            call(*arguments)
        return n

    return Way(lambda: float(np.mean([number(call(*arguments)) for arguments in first])), run)


def l_bfgs(cost: Callable, start: np.ndarray) -> Way:
    """SciPy's, of a function from a float64 vector to the cost and its gradient; one run is all ITERATIONS."""
    from scipy.optimize import minimize

    def solve(iterations: int) -> Any:
        return minimize(cost, start, jac=True, method="L-BFGS-B",
                        options={"maxiter": iterations, "maxfun": 10**6, "ftol": 0, "gtol": 0})

    def run(n: int) -> float:
        return sum(solve(ITERATIONS).nit for _ in range(n)) / ITERATIONS

    return Way(lambda: solve(CHECKED_ITERATIONS).fun, run)


def size(outputs: np.ndarray) -> float:
    return float(np.abs(outputs).mean())


def rows(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Samples float32 (n, n_in), labels int64 (n,) or targets float32 (n, n_out)."""
    x, y = workload.data
    return (x.astype(np.float32) / np.float32(255), y.astype(np.int64)) if workload.labels else (x, y)


def batches(workload: Workload, convert: Callable[[np.ndarray], Any]) -> tuple[list[tuple], list[tuple]]:
    """Mini-batches (x, y): those of the first steps of a fit, whose loss is checked, and all of the data."""
    (x, y), order = rows(workload), workload.order(workload.check())
    others = np.arange(len(x)).reshape(-1, workload.batch)
    return tuple([(convert(x[batch]), convert(y[batch])) for batch in some] for some in (order, others))


def orders(workload: Workload) -> list[np.ndarray]:
    """Samples of each step of fit_many: of the checked ones, then of one epoch each, (steps, batch)."""
    return [workload.order(workload.check())] + [
        workload.order(Piece(1 + epoch, 1, workload.rows)) for epoch in range(MANY_EPOCHS)]


def members(door: Door, n: int) -> Iterable[Workload]:
    """One for each of n networks: with parameters of its own."""
    return (replace(door.workload, seed=seed) for seed in range(n))


def spiral(n: int = 200) -> np.ndarray:
    """The path (n, 2) of examples/neural_ode.py."""
    A, x, path = np.array([[-0.1, 2.0], [-2.0, -0.1]]), np.array([2.0, 0.0]), []
    for i in range(100 * n):
        if i % 100 == 0:
            path.append(x)
        x = x + DT / 100 * (x**3 @ A)
    return np.array(path)


def pieces_of_path() -> np.ndarray:
    """(steps, LENGTH + 1, paths, 2): what the example draws, as Numba's random numbers are those of RandomState."""
    truth = spiral()
    first = np.random.RandomState(0).randint(len(truth) - LENGTH, size=(ODE_STEPS, PATHS))
    return truth[first[:, None, :] + np.arange(LENGTH + 1)[:, None]]


def waves(n: int) -> np.ndarray:
    """Frequency and phase (n, 2) that each of n networks is to learn."""
    return np.random.default_rng(0).uniform((1, 0), (4, 3), size=(n, 2))


def first_draws(n: int, batch: int) -> np.ndarray:
    """Samples (n, steps, batch, 1) that fastbp's thousand networks draw in their first run."""
    draws = [np.random.RandomState(i).uniform(-1, 1, (SINE_STEPS, batch, 1)) for i in range(n)]
    return np.array(draws, np.float32)


def _small(batch: int, rows: int = 3_200) -> Workload:
    return Workload((4, 32, 16, 4), "tanh", "Adam", batch, rows)


def _forward(*sizes: int) -> Door:
    workload = Workload(sizes, "relu", None, 1, 1_000)
    return Door(workload.title, "forward", workload, ("mlpfile", "PyTorch", "PyTorch on 1 thread", "ONNX Runtime"))


DOORS = {
    "step-1": Door("a step of 4-32-16-4 tanh, Adam, batch 1", "steps", _small(1)),
    "step-32": Door("a step of 4-32-16-4 tanh, Adam, batch 32", "steps", _small(32)),
    "step-784": Door("a step of 784-512-512-10 relu, Adam, batch 128", "steps",
                     Workload((784, 512, 512, 10), "relu", "Adam", 128, 50 * 128, 5e-4, labels=True)),
    "gradient-32": Door("cost and gradient of 4-32-16-4 tanh, 32 samples", "gradient", _small(32, 320)),
    "l-bfgs": Door(f"{ITERATIONS} iterations of SciPy's L-BFGS, 4-32-16-4 tanh, 32 samples", "minimize", _small(32, 32),
                   ("JAX",), ("ms", 1e3), tolerance=0.02),
    "forward-4": _forward(4, 32, 16, 4),
    "forward-64": _forward(64, 64, 64, 8),
    "forward-40": _forward(40, 100, 100, 10),
    "evaluate-32": Door("evaluate 32 samples, 4-32-16-4 tanh", "evaluate", _small(32), ()),
    "cart-pole": Door("policy gradient: 2,000 steps of a cart-pole and an update, 4-32-2", "cart_pole",
                      Workload((4, 32, 2), "tanh", "Adam", PLAYED, PLAYED, 0.02), unit=("ms an update", 1e3),
                      tolerance=0.3),
    "neural-ode": Door("neural ODE: 20 paths through 32 evaluations, and an update, 2-50-2 float64", "neural_ode",
                       Workload((2, 50, 2), "silu", "Adam", PATHS, PATHS, 0.01), unit=("µs a step", 1e6)),
    "thousand": Door("1,000 networks 1-24-1, 300 steps each of batch 32, on data of their own", "thousand",
                     Workload((1, 24, 1), "tanh", "Adam", 32, 320, 0.02), unit=("s", 1), networks=1_000,
                     tolerance=0.02),
    "fit-many": Door("1,000 networks 4-32-16-4, 1,000 steps each of batch 32, the same data", "fit_many", _small(32),
                     unit=("s", 1), networks=1_000),
}
