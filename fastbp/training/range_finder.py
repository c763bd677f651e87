"""The learning-rate range test: the loss as eta grows from step to step, and the eta that it suggests."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastbp.checks import positive, whole_number
from fastbp.diagnosis import diagnose
from fastbp.figures import Levels
from fastbp.files import check_folder
from fastbp.inputs import Data, as_data, as_targets
from fastbp.names import Names
from fastbp.randomness import RANGE_TEST, generator
from fastbp.training.guard import DivergenceError
from fastbp.training.notes import ASK, likely_cause
from fastbp.training.passes import AT_FIRST
from fastbp.training.trainer import Trainer
from fastbp.workspace import Array

MOST_STEPS = 1_000_000
MEMORY = 0.95  # of the running mean that smooths the losses
SETTLING = 20  # steps after which that mean is one of many losses; before, it is as noisy as they are
TOO_MUCH = 3.0  # times the least smoothed loss, or the fall to it: where the loss has risen by so much the test ends
# An eta has helped if with it the loss comes nearer to that of a perfect prediction, by such a share of its distance,
# and is so much nearer than that of the best constant prediction.
LEAST_FALL, LEAST_KNOWN = 0.002, 0.03


@dataclass(frozen=True, repr=False)
class EtaRange:
    """What `find_eta` saw.

    Attributes
    ----------
    etas, losses, smoothed : ndarray (steps,)
        Each step's learning rate, the loss of its mini-batch before it, and the running mean of those.
    suggestion : float
        A tenth of the largest eta with which the smoothed loss is least, as far as its noise lets that be seen; or a
        tenth of that, and so on, until the network learns with it. NaN if no eta helped.
    note : str
        What was seen if no eta helped, and the likely cause as `diagnose` sees it; else empty.

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
        """Draw the losses over eta into a picture.

        Parameters
        ----------
        path : str or path
            Of the picture: .png, .svg or .pdf.

        Raises
        ------
        ImportError
            matplotlib is not installed: pip install "fastbp[plot]".
        FileNotFoundError, IsADirectoryError
            Nothing can be written to `path`.

        Examples
        --------
        >>> import os, tempfile
        >>> etas = np.geomspace(0.001, 1, 50)
        >>> found = EtaRange(etas, losses=1 / (1 + etas), smoothed=1 / (1 + etas), suggestion=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found.plot(os.path.join(folder, "etas.svg"))
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError('plot needs matplotlib: pip install "fastbp[plot]"') from None
        target = check_folder(path)
        figure = Figure(figsize=(7, 4), layout="constrained")
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
        figure.savefig(target)


def find_eta(trainer: Trainer, X: npt.ArrayLike, y: npt.ArrayLike, low: float = 1e-5, high: float = 10.0,
             steps: int = 200) -> EtaRange:
    """Train a copy of the trainer's network for some steps, each with a larger eta; the trainer stays as it is.

    What this suggests is tried before it is said: another copy makes as many steps with it, after which the loss of
    their samples must be lower than before, and lower than that of the best constant prediction. If it is not, a tenth
    is tried.

    Parameters
    ----------
    trainer : Trainer
        With the settings that eta is for; its schedule is left out.
    X, y : array_like
        As for `Trainer.fit`.
    low, high : float
        0 < low < high: the first eta and the last, unless the loss has risen far above its least or is no longer finite
        before. None below low is suggested.
    steps : int
        10 to a million, at equal ratios of eta.

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
    data = as_data(X, y, None, trainer.network, trainer.loss, Names(trainer.network, learning=True))
    x, targets, trainer = data.x.array, data.t.array, copy.deepcopy(trainer)
    trainer.network.classes = None  # the targets are numbers from here on
    etas, losses, smoothed = _sweep(trainer, data, np.geomspace(low, high, steps))
    trial = _Trial(trainer, x, targets, steps)
    eta, note = max(low, _lowest(etas, losses, smoothed) / 10), ""
    while eta >= low:
        failed = trial.failure(eta)
        if not failed:
            return EtaRange(etas, losses, smoothed, eta)
        note, eta = note or failed, eta / 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # each was given when the data were looked at first
        notes = diagnose(original, *given).notes
    causes = [cause for cause in notes if not cause.startswith("eta ")]  # all are tried here
    return EtaRange(etas, losses, smoothed, np.nan, note + (f"; {causes[0]}" if causes else ASK))


def _sweep(trainer: Trainer, data: Data, etas: Array) -> tuple[Array, Array, Array]:
    """The etas of the steps made, the loss before each, and its running mean."""
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
            if step == 0:  # said of the samples by their numbers in X
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
    """The largest eta with which the smoothed loss is least, to within two standard deviations of its noise, before it
    rises by four.

    Where the loss does not fall, as of a network that is trained, the place of the least alone is a matter of chance.
    """
    settled = min(SETTLING, len(losses) // 2)
    at = settled + int(np.argmin(smoothed[settled:]))
    near = np.diff(losses[max(0, at - 2 * SETTLING) : at + 1])
    noise = np.median(np.abs(near)) / 0.954 if len(near) else 0.0  # of one loss: the median of normal differences
    above = smoothed[at:] - smoothed[at]
    unit = noise * np.sqrt((1 - MEMORY) / (1 + MEMORY))
    end = int(np.argmax(above > 4 * unit)) or len(above)
    return float(etas[at + np.flatnonzero(above[:end] <= 2 * unit)[-1]])


class _Trial:
    """As many steps from where a trainer is, all with one eta, and the loss of their samples before and after."""

    def __init__(self, trainer: Trainer, x: Array, targets: Array, steps: int):
        self.trainer, self.steps = trainer, steps
        chosen = next(_mini_batches(len(x), min(len(x), steps * trainer.batch_size), trainer.seed))
        self.x, self.targets = x[chosen], targets[chosen]
        self.before = trainer.evaluate(self.x, self.targets)[0]
        t = as_targets(self.targets, len(self.x), trainer.network, trainer.loss)
        self.levels = Levels.of(trainer.loss, t, trainer.network.layer_sizes[-1])

    def failure(self, eta: float) -> str:
        """What is wrong with an eta, empty if nothing is."""
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
    """Numbers of the samples of one after another, epoch after epoch, without end."""
    epoch = 0
    while True:
        order = generator(RANGE_TEST, seed, epoch).permutation(n)
        yield from (order[i : i + batch_size] for i in range(0, n, batch_size))
        epoch += 1
