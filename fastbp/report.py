"""What the command prints about a training and about predictions: lines to read, and tables as CSV."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastbp.callbacks import Checkpoint, Fit, History, Watcher
from fastbp.data import Dataset
from fastbp.names import listed
from fastbp.training.trainer import Trainer
from fastbp.workspace import Array

Say = Callable[[str], None]


class Printer:
    """Prints each line at once, even into a pipe, and above the progress bar if there is one.

    If a line cannot be printed, `error` keeps why and nothing more is printed: a closed pipe does not end a training.
    """

    def __init__(self, silent: bool):
        self.silent = silent
        self.error: OSError | None = None

    def __call__(self, line: str) -> None:
        if self.silent or self.error is not None or sys.stdout is None:
            return
        try:
            _print(line)
        except OSError as error:
            self.error = error

    def check(self) -> None:
        """Raise the error that printing raised, if there was one."""
        if self.error is not None:
            raise self.error


def _print(line: str) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
    else:
        print(line, flush=True)


class Epochs(Watcher):
    """A callback that prints a line after each epoch and keeps the history, even if the fit is interrupted.

    name: name of the validation samples; checkpoint: the Checkpoint that the fit may resume from, also printed.
    """

    def __init__(self, tell: Say, name: str, checkpoint: Checkpoint | None = None):
        self.tell, self.name, self.checkpoint, self.history = tell, name, checkpoint, History()

    def begin(self, fit: Fit) -> None:
        self.history = fit.history
        if self.checkpoint is None or not self.checkpoint.resume:
            return
        if self.checkpoint.resumed is None:
            self.tell(f"nothing to resume in {self.checkpoint.folder}: the training begins with epoch 1")
        else:
            self.tell(f"resumed after epoch {fit.epoch} of {fit.epochs}, step {fit.step:,}, from "
                      f"{self.checkpoint.resumed}")

    def __call__(self, fit: Fit) -> None:
        self.history = fit.history
        self.tell(epoch_line(fit.history, self.name))


def epoch_line(history: History, name: str) -> str:
    """Return the line about the last epoch."""
    line = f"epoch {len(history.loss):>2}   train loss {number(history.loss[-1])}"
    if history.validation_loss:
        accuracies = history.validation_accuracy
        line += "   " + scores(name, history.validation_loss[-1], accuracies[-1] if accuracies else None)
    return line + "".join(f"   {metric} {values[-1]:.4g}" for metric, values in history.metrics.items())


def scores(name: str, loss: float, accuracy: float | None) -> str:
    """Return loss and, for classes, accuracy as text."""
    return f"{name} loss {number(loss)}" + ("" if accuracy is None else f"   {name} accuracy {accuracy:.2%}")


def number(value: float) -> str:
    """Return a number with four decimals, or with six digits if it is very large or small.

    Examples
    --------
    >>> number(0.25), number(2.5e33), number(0.00002)
    ('0.2500', '2.5e+33', '2e-05')
    """
    return f"{value:.6g}" if abs(value) >= 1e4 or 0 < abs(value) < 1e-4 else f"{value:.4f}"


def ending(history: History, result: dict[str, Any]) -> list[str]:
    """Return the lines about the final network: its scores, and the time that the training took."""
    lines = [f"stopped: {history.stopped}"] if history.stopped else []
    for name in ("train", "test"):
        loss, accuracy = result[f"final_{name}_loss"], result[f"final_{name}_accuracy"]
        # The last epoch's line shows these scores already, unless other samples validated or the network was changed.
        if loss is not None and (name == "train" or result["test_loss"][-1:] != [loss] or result["validation_loss"]):
            lines.append(f"at the end: {scores(name, loss, accuracy)}")
    threads, speed = result["threads"], result["samples_per_second"]
    lines.append(f"trained in {result['train_seconds']:.2f} s ({speed or 0:,.0f} samples/s, "
                 f"{threads} thread{'s' if threads > 1 else ''}); "
                 f"loading took {result['load_seconds']:.2f} s, compiling {result['compile_seconds']:.2f} s")
    return lines


def beginning(source: str, dataset: Dataset, trainer: Trainer) -> list[str]:
    """Return the lines about data and network, and what was assumed about a table without a header line."""
    network, lines = trainer.network, []
    if not dataset.has_header:
        last = len(dataset.features or ()) + 1
        lines.append(f"{source}: the first line holds numbers, so it is a sample; the columns are called column1 to "
                     f"column{last}, the target is {dataset.target}")
    named = "" if network.classes is None else f", classes {listed(network.classes)}"
    samples = "sample" if dataset.x_test is not None and len(dataset.x_test) == 1 else "samples"
    lines.append(f"{source}: {_count(dataset.x_train)} training and {_count(dataset.x_test)} test {samples}; "
                 f"{'-'.join(map(str, network.layer_sizes))}, {network.n_parameters:,} parameters, "
                 f"{trainer.loss}{named}")
    return lines


def _count(x: Array | None) -> str:
    return "no" if x is None else f"{len(x):,}"


# Delimiter of a table, by the suffix of its file's name.
DELIMITERS = {"": ",", ".csv": ",", ".txt": ",", ".tsv": "\t"}


def delimiter(path: str) -> str:
    """Return the delimiter of a table to be written; raise ValueError if the suffix is that of another kind of file."""
    suffix = Path(path).suffix.lower()
    if suffix not in DELIMITERS:
        raise ValueError(f"--out {path}: predictions are written as a table, not as {suffix}; name a .csv file, or a "
                         ".tsv file for cells separated by tabs")
    return DELIMITERS[suffix]


def table(columns: Sequence[str], predictions: Array, between: str) -> str:
    """Return the predictions as CSV, one line per sample, numbered from 0."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=between, lineterminator="\n")
    writer.writerow(["sample", *columns])
    for i, row in enumerate(predictions.reshape(len(predictions), -1).tolist()):
        writer.writerow([i, *row])
    return text.getvalue()
