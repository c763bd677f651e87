"""The learning-rate range test: the loss while eta grows from step to step, and the suggested eta."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastbp.checks import positive, whole_number
from fastbp.diagnosis import diagnose
from fastbp.figures import Levels
from fastbp.inputs import Data, as_data, as_targets
from fastbp.names import Names
from fastbp.plotting import drawn
from fastbp.randomness import RANGE_TEST, generator
from fastbp.training.guard import DivergenceError
from fastbp.training.notes import ASK, likely_cause
from fastbp.training.passes import AT_FIRST
from fastbp.training.trainer import Trainer
from fastbp.workspace import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_STEPS = 1_000_000
MEMORY = 0.95  # decay of the running mean that smooths the losses
SETTLING = 20  # steps after which this mean averages many losses; before, it is as noisy as they are
TOO_MUCH = 3.0  # the test ends if the loss has risen by this multiple of the lowest smoothed loss, or of the fall to it
# An eta has helped if the loss gets closer to that of a perfect prediction, by at least this share of the distance,
# and is closer by this share than the loss of the best constant prediction.
LEAST_FALL, LEAST_KNOWN = 0.002, 0.03


@dataclass(frozen=True, repr=False)
class EtaRange:
    """The result of `find_eta`.

    Attributes
    ----------
    etas, losses, smoothed : ndarray (steps,)
        Learning rate of each step, loss of its mini-batch before the step, and running mean of these losses.
    suggestion : float
        A tenth of the largest eta at which the smoothed loss is lowest, within its noise; or a tenth of that, and so
        on, until the network learns with it. NaN if no eta helped.
    note : str
        If no eta helped: what was observed, and the likely cause according to `diagnose`; else empty.

    Examples
    --------
    >>> etas = np.array([0.001, 0.01, 0.1])
    >>> EtaRange(etas, losses=np.array([0.7, 0.6, 0.9]), smoothed=np.array([0.7, 0.65, 0.7]), suggestion=0.001)
    EtaRange: suggestion 0.001, of 3 etas from 0.001 to 0.1
    """

    etas: Array
    losses: Array
    smoothed: Array
    suggestion: float
    note: str = ""

    def __repr__(self) -> str:
        said = f"; {self.note}" if self.note else ""
        return (f"EtaRange: suggestion {self.suggestion:.3g}, of {len(self.etas)} etas from {self.etas[0]:.3g} to "
                f"{self.etas[-1]:.3g}{said}")

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Plot the losses over eta to a file.

        Parameters
        ----------
        path : str or path
            Name of the file: .png, .svg or .pdf.

        Raises
        ------
        ImportError
            matplotlib is not installed: pip install "fastbp[plot]".
        FileNotFoundError, IsADirectoryError
            The file `path` cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> etas = np.geomspace(0.001, 1, 50)
        >>> found = EtaRange(etas, losses=1 / (1 + etas), smoothed=1 / (1 + etas), suggestion=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found.plot(os.path.join(folder, "etas.svg"))
        """
        drawn(self._draw, path)

    def _draw(self, figure: Figure) -> None:
        figure.set_size_inches(7, 4)
        axes = figure.subplots()
        axes.semilogx(self.etas, self.losses, color="0.8", label="of each step")
        axes.semilogx(self.etas, self.smoothed, color="C0", label="smoothed")
        if np.isfinite(self.suggestion):
            axes.axvline(self.suggestion, color="C1", linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        title = "Learning-rate range test" + ("" if np.isfinite(self.suggestion) else ": no eta helped")
        least, first = np.min(self.smoothed), np.max(self.smoothed[: np.argmin(self.smoothed) + 1])
        room = 0.3 * max(abs(first), abs(least)) or 1.0
        limits = (0.0 if least >= 0 else least - room), first + room
        axes.set(xlabel="learning rate eta", ylabel="loss", ylim=limits, title=title)
        axes.legend()


def find_eta(trainer: Trainer, X: npt.ArrayLike, y: npt.ArrayLike, low: float = 1e-5, high: float = 10.0,
             steps: int = 200) -> EtaRange:
    """Train a copy of the network for some steps with growing eta, and suggest an eta; the trainer is not changed.

    The suggestion is tried first: another copy makes as many steps with it; then the loss of their samples must be
    lower than before, and lower than that of the best constant prediction. If it is not, a tenth of it is tried.

    Parameters
    ----------
    trainer : Trainer
        With the settings for which eta is wanted; its schedule is not used.
    X, y : array_like
        See `Trainer.fit`.
    low, high : float
        0 < low < high: the first and the last eta. The test ends earlier if the loss has risen far above its minimum or
        is no longer finite. No eta below low is suggested.
    steps : int
        10 to a million; the ratio of eta from step to step is constant.

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
    given, original = (X, y), trainer
    low, high, steps = positive("low", low), positive("high", high), whole_number("steps", steps, 10, MOST_STEPS)
    if low >= high:
        raise ValueError(f"low must be below high, got {low!r} and {high!r}")
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must be a Trainer, got {trainer!r}")
    data = as_data(X, y, None, trainer.network, trainer.loss, Names(trainer.network, learning=True), sparse=True)
    x, targets, trainer = data.x.array, data.t.array, copy.deepcopy(trainer)
    trainer.network.classes = None  # from here on the targets are numbers
    etas, losses, smoothed = _sweep(trainer, data, np.geomspace(low, high, steps))
    trial = _Trial(trainer, x, targets, steps)
    eta, note = max(low, _lowest(etas, losses, smoothed) / 10), ""
    while eta >= low:
        failed = trial.failure(eta)
        if not failed:
            return EtaRange(etas, losses, smoothed, eta)
        note, eta = note or failed, eta / 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # each was already given for these data
        notes = diagnose(original, *given).notes
    causes = [cause for cause in notes if not cause.startswith("eta ")]  # eta has been varied here
    return EtaRange(etas, losses, smoothed, np.nan, note + (f"; {causes[0]}" if causes else ASK))


def _sweep(trainer: Trainer, data: Data, etas: Array) -> tuple[Array, Array, Array]:
    """Return the etas of the steps made, the loss before each, and its running mean."""
    x, targets = data.x.array, data.t.array
    trial, losses, smoothed, mean = copy.deepcopy(trainer), [], [], 0.0
    settled = min(SETTLING, len(etas) // 2)
    for step, (eta, chosen) in enumerate(zip(etas, _mini_batches(len(x), trial.batch_size, trial.seed), strict=False)):
        trial.optimizer = replace(trial.optimizer, eta=float(eta))
        try:
            losses.append(trial.partial_fit(x[chosen], targets[chosen]))
        except DivergenceError:
            if step == 0 and math.isfinite(trainer.evaluate(x[chosen], targets[chosen])[0]):
                raise
            if step == 0:  # the message gives indices of samples in X
                raise DivergenceError(f"{AT_FIRST}; {likely_cause(trainer, data, chosen, chosen, True)}") from None
            break
        mean = MEMORY * mean + (1 - MEMORY) * losses[-1]
        smoothed.append(mean / (1 - MEMORY ** (step + 1)))
        if step > settled:
            least = min(smoothed[settled:])
            if smoothed[-1] - least > TOO_MUCH * max(abs(least), smoothed[settled] - least):
                break
    return etas[: len(losses)], np.array(losses), np.array(smoothed)


def _lowest(etas: Array, losses: Array, smoothed: Array) -> float:
    """Return the largest eta at which the smoothed loss is its minimum, to within two standard deviations of its noise,
    before it rises by four.

    If the loss does not fall, as for a trained network, the position of the minimum alone is random.
    """
    settled = min(SETTLING, len(losses) // 2)
    at = settled + int(np.argmin(smoothed[settled:]))
    near = np.diff(losses[max(0, at - 2 * SETTLING) : at + 1])
    noise = np.median(np.abs(near)) / 0.954 if len(near) else 0.0  # of one loss, from the median of normal differences
    above = smoothed[at:] - smoothed[at]
    unit = noise * np.sqrt((1 - MEMORY) / (1 + MEMORY))
    end = int(np.argmax(above > 4 * unit)) or len(above)
    return float(etas[at + np.flatnonzero(above[:end] <= 2 * unit)[-1]])


class _Trial:
    """A trial of one eta: steps from the state of a trainer, and the loss of their samples before and after."""

    def __init__(self, trainer: Trainer, x: Array, targets: Array, steps: int):
        self.trainer, self.steps = trainer, steps
        chosen = next(_mini_batches(len(x), min(len(x), steps * trainer.batch_size), trainer.seed))
        self.x, self.targets = x[chosen], targets[chosen]
        self.before = trainer.evaluate(self.x, self.targets)[0]
        t = as_targets(self.targets, len(self.x), trainer.network, trainer.loss)
        self.levels = Levels.of(trainer.loss, t, trainer.network.layer_sizes[-1])

    def failure(self, eta: float) -> str:
        """Return what is wrong with an eta; empty if nothing."""
        trial, what = copy.deepcopy(self.trainer), f"in {self.steps} steps with eta {eta:.2g}"
        trial.optimizer = replace(trial.optimizer, eta=eta)
        batches = _mini_batches(len(self.x), trial.batch_size, trial.seed)
        try:
            for _, chosen in zip(range(self.steps), batches, strict=False):
                trial.partial_fit(self.x[chosen], self.targets[chosen])
        except DivergenceError:
            return f"no eta helped: {what} the loss is no longer finite"
        after, least, constant = trial.evaluate(self.x, self.targets)[0], self.levels.least, self.levels.constant
        if self.before - after <= LEAST_FALL * abs(self.before - least):
            return f"the loss never fell: {what} it goes from {self.before:.4g} to {after:.4g}"
        if constant is not None and after - least > (1 - LEAST_KNOWN) * (constant - least):
            return (f"no eta helped: {what} the loss falls from {self.before:.4g} to {after:.4g}, which is hardly "
                    f"better than the {constant:.4g} of a constant prediction")
        return ""


def _mini_batches(n: int, batch_size: int, seed: int) -> Iterator[Array]:
    """Yield the indices of the samples of mini-batches, epoch after epoch, without end."""
    epoch = 0
    while True:
        order = generator(RANGE_TEST, seed, epoch).permutation(n)
        yield from (order[i : i + batch_size] for i in range(0, n, batch_size))
        epoch += 1
