"""The learning-rate range test: the loss as eta grows from step to step, and the eta that it suggests."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastbp.checks import positive, whole_number
from fastbp.files import check_folder
from fastbp.names import Names
from fastbp.randomness import RANGE_TEST, generator
from fastbp.trainer import DivergenceError, Trainer
from fastbp.workspace import Array

MEMORY = 0.95  # of the running mean that smooths the losses
TOO_MUCH = 3.0  # times the least smoothed loss, or the fall to it: where the loss has risen by so much the test ends


@dataclass(frozen=True)
class EtaRange:
    """What `find_eta` saw.

    Attributes
    ----------
    etas, losses, smoothed : ndarray (steps,)
        Each step's learning rate, the loss of its mini-batch before it, and the running mean of those.
    suggestion : float
        A tenth of where the smoothed loss is least, and at least the first eta: a rule of thumb.
    """

    etas: Array
    losses: Array
    smoothed: Array
    suggestion: float

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the losses over eta into a picture (.png, .svg, .pdf); needs matplotlib: pip install "fastbp[plot]"."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError('plot needs matplotlib: pip install "fastbp[plot]"') from None
        target = check_folder(path)
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.semilogx(self.etas, self.losses, color="0.8", label="of each step")
        axes.semilogx(self.etas, self.smoothed, color="C0", label="smoothed")
        axes.axvline(self.suggestion, color="C1", linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        highest = np.max(self.smoothed[: np.argmin(self.smoothed) + 1]) * 1.3
        axes.set(xlabel="learning rate eta", ylabel="loss", ylim=(0, highest), title="Learning-rate range test")
        axes.legend()
        figure.savefig(target)


def find_eta(trainer: Trainer, X: npt.ArrayLike, y: npt.ArrayLike, low: float = 1e-5, high: float = 10.0,
             steps: int = 200) -> EtaRange:
    """Train a copy of the trainer's network for some steps, each with a larger eta; the trainer stays as it is.

    Parameters
    ----------
    trainer : Trainer
        With the settings that eta is for; its schedule is left out.
    X, y : array_like
        As for `Trainer.fit`.
    low, high : float
        0 < low < high: the first eta and the last, unless the loss has risen far above its least or is no longer finite
        before.
    steps : int
        >= 10, at equal ratios of eta.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range, or the data do not fit.

    References
    ----------
    Smith: Cyclical Learning Rates for Training Neural Networks (WACV 2017), section 3.3.

    Examples
    --------
    >>> from fastbp import Adam, Network, Trainer
    >>> draw = np.random.default_rng(0)
    >>> X = draw.normal(size=(2000, 10))
    >>> found = find_eta(Trainer(Network([10, 32, 2]), optimizer=Adam()), X, (X[:, 0] > 0).astype(int))
    >>> bool(1e-4 < found.suggestion < 0.3)
    True
    """
    low, high, steps = positive("low", low), positive("high", high), whole_number("steps", steps, 10)
    if low >= high:
        raise ValueError(f"low must be below high, got {low!r} and {high!r}")
    x, t = trainer._check(X, y, "X", "y", Names(trainer.network, learning=True))
    trial = copy.deepcopy(trainer)
    trial.network.classes = None  # the targets are numbers from here on
    etas, losses, smoothed, mean = np.geomspace(low, high, steps), [], [], 0.0
    for step, (eta, chosen) in enumerate(zip(etas, _mini_batches(len(x), trial.batch_size, trial.seed), strict=False)):
        trial.optimizer = replace(trial.optimizer, eta=float(eta))
        try:
            losses.append(trial.partial_fit(x.array[chosen], t.array[chosen]))
        except DivergenceError:
            if step == 0:
                raise
            break
        mean = MEMORY * mean + (1 - MEMORY) * losses[-1]
        smoothed.append(mean / (1 - MEMORY ** (step + 1)))
        least = min(smoothed)
        if smoothed[-1] - least > TOO_MUCH * max(abs(least), smoothed[0] - least):
            break
    best = float(etas[int(np.argmin(smoothed))])
    return EtaRange(etas[: len(losses)], np.array(losses), np.array(smoothed), max(low, best / 10))


def _mini_batches(n: int, batch_size: int, seed: int) -> Iterator[Array]:
    """Numbers of the samples of one after another, epoch after epoch, without end."""
    epoch = 0
    while True:
        order = generator(RANGE_TEST, seed, epoch).permutation(n)
        yield from (order[i : i + batch_size] for i in range(0, n, batch_size))
        epoch += 1
